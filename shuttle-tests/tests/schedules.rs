//! Many schedules of a few situations that engines have gone wrong in.
//!
//! Method: each test is a history with up to 16 threads, played under random schedules and under
//! schedules by priority with two changes. It ends with a recovery that is held against what was
//! acknowledged; a thread that nobody wakes is a deadlock, which fails.

#![cfg(shuttle)]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use cohort_wal::sim::{Profile, SimCall, SimFaultKind, SimStore};
use cohort_wal::{Gather, MemStore, Preallocate};
use shuttle::Runner;
use shuttle::scheduler::{RandomScheduler, UncontrolledNondeterminismCheckScheduler};
use shuttle_tests::disk::{Disk, Files};
use shuttle_tests::fault::Fault;
use shuttle_tests::history::{End, History, Life, Trouble};
use shuttle_tests::schedule::{Order, config, number, quiet};
use shuttle_tests::work::Op;
use simulation::oracle::Crash;

/// Schedules of one test that share a runner.
const ROUND: usize = 8;

/// One of them for each number, in turn.
fn pick<T: Copy>(options: &[T], number: u64) -> T {
    let turn = number % options.len() as u64;
    options[usize::try_from(turn).expect("below the length")]
}

/// Plays histories that `history` makes of a number, each under a few schedules.
fn explore(test: &str, history: impl Fn(u64) -> History) {
    let first = number("COHORT_WAL_SEED", 0);
    let rounds = number("COHORT_WAL_SCHEDULES", 2000).div_ceil(2 * ROUND as u64);
    for seed in first..first + rounds {
        let history = Arc::new(history(seed));
        for order in [Order::Random(seed), Order::Pct { seed, depth: 3 }] {
            let played = catch_unwind(AssertUnwindSafe(|| {
                let history = Arc::clone(&history);
                let play = move || {
                    history.play::<SimStore>().unwrap_or_else(|broken| panic!("{broken}"));
                };
                order.explore(ROUND, play);
            }));
            if let Err(cause) = played {
                let cause = cause.downcast_ref::<String>().map_or("a panic", String::as_str);
                panic!(
                    "{cause}\n{order:?} of {history:?}\nreplay: COHORT_WAL_SEED={seed} \
                     COHORT_WAL_SCHEDULES=1 RUSTFLAGS=\"--cfg shuttle\" \
                     CARGO_TARGET_DIR=target-shuttle cargo test -p shuttle-tests --release --test \
                     schedules -- {test}"
                );
            }
        }
    }
}

/// A life of these threads that ends with the power gone.
fn life(threads: Vec<Vec<Op>>) -> Life {
    Life { threads, troubles: Vec::new(), death: None, end: End::Fall, crash: Crash::Power }
}

fn history(seed: u64, mut life: Life) -> History {
    if seed % 4 >= 2 {
        // The process dies, and the disk keeps what was flushed.
        life.crash = Crash::Process;
    }
    let gathers = [Gather::Adaptive, Gather::Off, Gather::Window(Duration::from_micros(50))];
    History {
        order: Order::Random(seed),
        profile: pick(&Profile::ALL, seed),
        seed,
        ring_bytes: 64 << 10,
        segment_bytes: 16 << 10,
        max_unsynced_bytes: 32 << 10,
        gather: pick(&gathers, seed),
        preallocate: Preallocate::Auto,
        lives: vec![life],
    }
}

fn trouble(kind: SimFaultKind, call: SimCall, after: u64) -> Trouble {
    Trouble { fault: Fault { kind, call, after, sticky: false }, harmless: false }
}

/// Plays each of a few schedules twice and fails where the second time has other choices.
fn twice_the_same<D: Disk>() {
    quiet();
    for seed in 0..40 {
        let mut history = history(seed, life(vec![vec![Op::Commit(24), Op::Append(1_900)]; 4]));
        history.lives[0].threads.push(vec![Op::Append(4_000), Op::Flush, Op::Read, Op::Rotate]);
        history.lives[0].death = (seed % 2 == 0).then_some(60);
        let order = RandomScheduler::new_from_seed(seed, 2);
        let twice = UncontrolledNondeterminismCheckScheduler::new(order);
        Runner::new(twice, config()).run(move || history.play::<D>().expect("a promise"));
    }
}

#[test]
fn a_seed_names_one_schedule() {
    twice_the_same::<SimStore>();
    twice_the_same::<MemStore>();
    twice_the_same::<Files>();
}

#[test]
fn futures_callbacks_and_threads_share_syncs_and_nobody_is_forgotten() {
    explore("futures_callbacks_and_threads_share_syncs_and_nobody_is_forgotten", |seed| {
        let task = vec![Op::Append(24), Op::Await(0), Op::Append(24), Op::Await(0)];
        let mut threads = vec![task; 4];
        let called = [Op::Append(24), Op::Notify(0), Op::Append(24), Op::Notify(0), Op::Notify(1)];
        threads.push(called.to_vec());
        threads.push(vec![Op::Append(50), Op::Forgo(0), Op::Append(50), Op::Forgo(0)]);
        threads.push(vec![Op::Follow, Op::Commit(24), Op::Follow, Op::Append(900), Op::Follow]);
        if seed % 3 == 0 {
            threads.push(vec![Op::Rotate, Op::Commit(24), Op::Close]);
        }
        let mut life = life(threads);
        life.death = (seed % 2 == 1).then_some(40 + seed % 37);
        if seed % 5 == 0 {
            let kinds = [
                SimFaultKind::Error(std::io::ErrorKind::Other),
                SimFaultKind::Error(std::io::ErrorKind::StorageFull),
                SimFaultKind::Panic,
            ];
            let calls = [SimCall::Sync, SimCall::Write];
            life.troubles.push(trouble(pick(&kinds, seed / 5), pick(&calls, seed / 15), seed % 4));
        }
        history(seed, life)
    });
}

#[test]
fn group_commit_acknowledges_what_is_durable_and_forgets_nobody() {
    explore("group_commit_acknowledges_what_is_durable_and_forgets_nobody", |seed| {
        let mut threads = vec![vec![Op::Commit(24); 5]; 8];
        threads.push(vec![Op::Append(100), Op::Wait(0), Op::CommitBatch(vec![30, 40]), Op::Sync]);
        threads.push(vec![Op::Append(50), Op::Flush, Op::Append(50), Op::Flush, Op::Append(50)]);
        // Every second one dies in the middle.
        let death = (seed % 2 == 1).then_some(40 + seed % 37);
        history(seed, Life { death, ..life(threads) })
    });
}

#[test]
fn a_full_ring_and_rotations_lose_nothing() {
    explore("a_full_ring_and_rotations_lose_nothing", |seed| {
        let mut threads = vec![vec![Op::Append(1900); 12]; 5];
        threads.push(vec![Op::Rotate, Op::Flush, Op::Rotate, Op::Sync, Op::Rotate]);
        threads.push(vec![Op::Batch(vec![900, 900]), Op::Read, Op::Commit(9), Op::Read]);
        let mut history = history(seed, life(threads));
        history.max_unsynced_bytes = pick(&[2 << 10, 32 << 10, 8 << 10], seed);
        history.lives[0].death = (seed % 2 == 1).then_some(50 + seed % 60);
        history
    });
}

#[test]
fn the_background_writer_is_one_more_hand_and_ends_with_the_log() {
    explore("the_background_writer_is_one_more_hand_and_ends_with_the_log", |seed| {
        let mut threads = vec![vec![Op::Append(16_000); 11]; 4];
        threads.push(vec![Op::Append(9_000), Op::Commit(10_000), Op::Append(50), Op::Rotate]);
        let end = if seed % 2 == 0 { End::Drop } else { End::Close };
        let mut history = history(seed, Life { end, ..life(threads) });
        history.ring_bytes = 512 << 10;
        history.segment_bytes = 1 << 20;
        history.max_unsynced_bytes = 600 << 10;
        history
    });
}

#[test]
fn large_units_and_small_ones_do_not_overtake_each_other() {
    explore("large_units_and_small_ones_do_not_overtake_each_other", |seed| {
        let mut threads = vec![vec![Op::Append(24), Op::Append(5_000), Op::Commit(24)]; 4];
        threads.push(vec![Op::Append(20_000), Op::CommitBatch(vec![8, 3_000, 8]), Op::Rotate]);
        threads.push(vec![Op::Append(700), Op::Flush, Op::Append(700), Op::Sync, Op::Read]);
        threads.push(vec![Op::Batch(vec![24, 24]), Op::Append(2_500), Op::Wait(0)]);
        let death = (seed % 3 == 1).then_some(30 + seed % 60);
        history(seed, Life { death, ..life(threads) })
    });
}

#[test]
fn poison_reaches_everyone_who_waits() {
    explore("poison_reaches_everyone_who_waits", |seed| {
        let mut threads = vec![vec![Op::Commit(24); 4]; 10];
        threads.push(vec![Op::Append(24), Op::Flush, Op::Append(3_000), Op::Rotate, Op::Sync]);
        threads.push(vec![Op::Read, Op::Append(1_000), Op::Wait(0), Op::Read]);
        let kinds = [SimFaultKind::Errno(5), SimFaultKind::Panic];
        let calls = [SimCall::Sync, SimCall::Write, SimCall::Sync, SimCall::Publish];
        let (kind, call) = (pick(&kinds, seed), pick(&calls, seed / 2));
        let after = if call == SimCall::Publish { 0 } else { seed % 5 };
        let end = if seed % 3 == 0 { End::Close } else { End::Fall };
        let troubles = vec![trouble(kind, call, after)];
        history(seed, Life { troubles, end, ..life(threads) })
    });
}

#[test]
fn a_full_disk_loses_nothing_and_holds_nobody() {
    explore("a_full_disk_loses_nothing_and_holds_nobody", |seed| {
        let mut threads = vec![vec![Op::Append(1_500), Op::Commit(24), Op::Append(1_500)]; 6];
        threads.push(vec![Op::Append(5_000), Op::Flush, Op::Rotate, Op::Commit(3_000)]);
        threads.push(vec![Op::Flush, Op::Sync, Op::Heal, Op::Sync, Op::Commit(24)]);
        let calls = [SimCall::Write, SimCall::Create, SimCall::Write];
        let kind = SimFaultKind::Short(std::io::ErrorKind::StorageFull);
        let (call, after) = (pick(&calls, seed), seed % 7);
        let fault = Fault { kind, call, after, sticky: true };
        let troubles = vec![Trouble { fault, harmless: true }];
        let end = if seed % 2 == 0 { End::Close } else { End::Fall };
        history(seed, Life { troubles, end, ..life(threads) })
    });
}

#[test]
fn close_leaves_every_call_durable_or_refused() {
    explore("close_leaves_every_call_durable_or_refused", |seed| {
        let mut threads = vec![vec![Op::Append(24), Op::Commit(24), Op::Append(2_500)]; 3];
        threads.push(vec![Op::Append(700), Op::Flush, Op::Rotate, Op::Sync]);
        threads.push(vec![Op::Read, Op::Batch(vec![24, 24]), Op::Wait(0)]);
        threads.push(vec![Op::Commit(9), Op::Close]);
        threads.push(vec![Op::Append(9), Op::Close, Op::Append(9)]);
        history(seed, Life { end: End::Close, ..life(threads) })
    });
}

#[test]
fn sixteen_threads_do_everything_at_once() {
    explore("sixteen_threads_do_everything_at_once", |seed| {
        let all = [
            vec![Op::Commit(24), Op::Append(1_900), Op::Commit(24)],
            vec![Op::Append(24), Op::Wait(0), Op::Batch(vec![24, 700]), Op::Flush],
            vec![Op::Append(4_000), Op::Sync, Op::Rotate, Op::CommitBatch(vec![9, 9])],
            vec![Op::Append(300), Op::Read, Op::Append(300), Op::Sync],
        ];
        let threads = all.iter().cycle().take(16).cloned().collect();
        let death = (seed % 2 == 0).then_some(40 + seed * 7 % 90);
        history(seed, Life { death, ..life(threads) })
    });
}
