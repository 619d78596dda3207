//! Which histories there are.

use std::io::ErrorKind;
use std::time::Duration;

use cohort_wal::sim::{Profile, SimCall, SimFaultKind};
use cohort_wal::{Gather, Preallocate};
use proptest::collection::vec;
use proptest::prelude::{BoxedStrategy, Just, Strategy, any, prop_oneof};
use simulation::oracle::Crash;

use crate::fault::Fault;
use crate::history::{End, History, Life, Trouble};
use crate::schedule::Order;
use crate::work::Op;

/// Payloads that the ring takes, the shortest first.
fn ring_bytes() -> BoxedStrategy<usize> {
    prop_oneof![4 => 8_usize..64, 2 => 64_usize..1500].boxed()
}

/// Payloads, some of which go around the ring and some of which fill a segment.
fn any_bytes() -> BoxedStrategy<usize> {
    prop_oneof![12 => ring_bytes(), 1 => 2_100_usize..9_000, 1 => 16_000_usize..24_000].boxed()
}

fn batch() -> BoxedStrategy<Vec<usize>> {
    prop_oneof![4 => vec(8_usize..200, 2..5), 1 => vec(any_bytes(), 2..6)].boxed()
}

/// Operations of committers, and what goes on beside them.
fn commits() -> BoxedStrategy<Op> {
    prop_oneof![
        60 => any_bytes().prop_map(Op::Append),
        16 => batch().prop_map(Op::Batch),
        24 => any_bytes().prop_map(Op::Commit),
        6 => batch().prop_map(Op::CommitBatch),
        10 => Just(Op::Flush),
        10 => Just(Op::Sync),
        8 => (0_usize..4).prop_map(Op::Wait),
        8 => (0_usize..4).prop_map(Op::Await),
        8 => (0_usize..4).prop_map(Op::Notify),
        4 => (0_usize..4).prop_map(Op::Forgo),
        4 => Just(Op::Follow),
        6 => Just(Op::Rotate),
        6 => (0_usize..6).prop_map(Op::Truncate),
        4 => Just(Op::Read),
        4 => Just(Op::Heal),
    ]
    .boxed()
}

/// Operations that fill the ring.
fn flood() -> BoxedStrategy<Op> {
    prop_oneof![
        60 => (600_usize..1900).prop_map(Op::Append),
        10 => vec(200_usize..900, 2..3).prop_map(Op::Batch),
        1 => any_bytes().prop_map(Op::Commit),
        1 => Just(Op::Flush),
        1 => (0_usize..4).prop_map(Op::Wait),
        1 => Just(Op::Rotate),
        1 => (0_usize..6).prop_map(Op::Truncate),
        1 => Just(Op::Heal),
    ]
    .boxed()
}

/// What the threads of one life do; now and then one of them closes the log.
fn threads() -> BoxedStrategy<Vec<Vec<Op>>> {
    let threads = prop_oneof![
        4 => vec(vec(commits(), 1..50), 2..7),
        1 => vec(vec(commits(), 1..100), 2..7),
        2 => vec(vec(flood(), 1..80), 2..7),
    ];
    let close = prop_oneof![4 => Just(None), 1 => any::<(u8, u8)>().prop_map(Some)];
    (threads, close)
        .prop_map(|(mut threads, close)| {
            if let Some((thread, place)) = close {
                let thread = usize::from(thread) % threads.len();
                let place = usize::from(place) % (threads[thread].len() + 1);
                threads[thread].insert(place, Op::Close);
            }
            threads
        })
        .boxed()
}

/// A fault after so many calls that it could strike.
fn trouble() -> BoxedStrategy<Trouble> {
    // A store that is full names no file: `WalStore::publish` promises it.
    let grow = vec![SimCall::Write, SimCall::Create, SimCall::SetLen];
    let error = prop_oneof![
        Just(SimFaultKind::Error(ErrorKind::StorageFull)),
        Just(SimFaultKind::Errno(28)),
        Just(SimFaultKind::Short(ErrorKind::StorageFull)),
    ];
    let full = prop_oneof![
        3 => (error, proptest::sample::select(grow)),
        1 => Just((SimFaultKind::Errno(28), SimCall::Publish)),
    ];
    let full = (full, 0_u64..60, any::<bool>()).prop_map(|((kind, call), after, sticky)| Trouble {
        fault: Fault { kind, call, after, sticky },
        harmless: true,
    });
    let lost = prop_oneof![
        1 => Just((SimFaultKind::Errno(5), true)),
        1 => Just((SimFaultKind::Errno(5), false)),
        1 => Just((SimFaultKind::Short(ErrorKind::Other), false)),
        1 => Just((SimFaultKind::Late(ErrorKind::Other), false)),
        1 => Just((SimFaultKind::Panic, false)),
    ];
    let calls = vec![SimCall::Write, SimCall::Sync, SimCall::Create, SimCall::Publish];
    let lost = (lost, proptest::sample::select(calls), 0_u64..60).prop_map(
        |((kind, sticky), call, after)| Trouble {
            fault: Fault { kind, call, after, sticky },
            harmless: false,
        },
    );
    let calls = vec![SimCall::Write, SimCall::Sync, SimCall::Publish, SimCall::Read];
    let slow = (proptest::sample::select(calls), 0_u64..60).prop_map(|(call, after)| {
        let fault = Fault { kind: SimFaultKind::Slow, call, after, sticky: true };
        Trouble { fault, harmless: true }
    });
    let read = (0_u64..60).prop_map(|after| {
        let kind = SimFaultKind::Errno(5);
        let fault = Fault { kind, call: SimCall::Read, after, sticky: false };
        Trouble { fault, harmless: true }
    });
    prop_oneof![4 => full, 3 => lost, 2 => slow, 1 => read].boxed()
}

fn life() -> BoxedStrategy<Life> {
    let troubles = prop_oneof![1 => Just(Vec::new()), 1 => vec(trouble(), 1..3)];
    let death = prop_oneof![1 => Just(None), 3 => (0_u64..250).prop_map(Some)];
    let end = prop_oneof![Just(End::Close), Just(End::Drop), Just(End::Fall)];
    let crash = prop_oneof![1 => Just(Crash::Process), 2 => Just(Crash::Power)];
    (threads(), troubles, death, end, crash)
        .prop_map(|(threads, troubles, death, end, crash)| Life {
            threads,
            troubles,
            death,
            end,
            crash,
        })
        .boxed()
}

/// A whole history, with a schedule of its own.
pub fn history(order: BoxedStrategy<Order>) -> BoxedStrategy<History> {
    let gather = prop_oneof![
        Just(Gather::Adaptive),
        Just(Gather::Off),
        Just(Gather::Window(Duration::from_micros(100))),
    ];
    let preallocate =
        prop_oneof![Just(Preallocate::Auto), Just(Preallocate::Off), Just(Preallocate::Zeroed)];
    let disk = (proptest::sample::select(Profile::ALL.to_vec()), any::<u64>());
    let segment_bytes = prop_oneof![2 => Just(16_u64 << 10), 1 => Just(64_u64 << 10)];
    let max_unsynced_bytes = prop_oneof![2 => Just(32_u64 << 10), 1 => 64_u64..20_000];
    let options = (segment_bytes, max_unsynced_bytes, gather, preallocate);
    let lives = prop_oneof![3 => vec(life(), 1..2), 2 => vec(life(), 2..4)];
    (order, disk, options, lives)
        .prop_map(|(order, (profile, seed), options, lives)| {
            let (segment_bytes, max_unsynced_bytes, gather, preallocate) = options;
            History {
                order,
                profile,
                seed,
                ring_bytes: 64 << 10,
                segment_bytes,
                max_unsynced_bytes,
                gather,
                preallocate,
                lives,
            }
        })
        .boxed()
}

/// Schedules chosen at random at every step.
pub fn random_order() -> BoxedStrategy<Order> {
    any::<u64>().no_shrink().prop_map(Order::Random).boxed()
}

/// Both.
pub fn any_order() -> BoxedStrategy<Order> {
    prop_oneof![random_order(), pct_order()].boxed()
}

/// Schedules by priorities.
pub fn pct_order() -> BoxedStrategy<Order> {
    (any::<u64>().no_shrink(), 1_usize..6)
        .prop_map(|(seed, depth)| Order::Pct { seed, depth })
        .boxed()
}
