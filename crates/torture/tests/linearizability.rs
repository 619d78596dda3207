//! A judge from outside: what real threads saw of a log could have happened one call at a time.
//!
//! Short histories go to stateright's tester, which tries every order of calls that overlap
//! (Wing and Gong, "Testing and verifying concurrent objects", 1993). Long ones go to a check of
//! our own that is linear in their length: a log names the order of its appends, by their LSNs, so
//! there is nothing to search.
//!
//! `COHORT_WAL_SHORT` and `COHORT_WAL_LONG` say how many histories of each kind are judged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use cohort_wal::{Gather, Lsn, MemStore, Wal, WalOptions};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// Encoded bytes of every record here.
const FRAME: u64 = 24;

fn open() -> Arc<Wal<MemStore>> {
    let options = WalOptions::new().ring_bytes(64 << 10).segment_bytes(16 << 10);
    Arc::new(options.gather(Gather::Off).open_store(MemStore::new()).unwrap())
}

fn count(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |count| count.parse().unwrap())
}

fn dice(seed: u64) -> u64 {
    let mut word = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word ^ (word >> 27)
}

/// A log, one call at a time.
#[derive(Clone, Debug, Default)]
struct Sequential {
    records: Vec<u64>,
    /// How many records somebody has seen to be durable.
    durable: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Call {
    Append(u64),
    Commit(u64),
    Sync,
    Read,
    Durable,
    End,
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    At(u64),
    Done,
    Records(Vec<u64>),
    Position(u64),
}

impl SequentialSpec for Sequential {
    type Op = Call;
    type Ret = Answer;

    fn invoke(&mut self, call: &Call) -> Answer {
        let count = |records: &[u64]| records.len() as u64;
        match call {
            Call::Append(value) => {
                self.records.push(*value);
                Answer::At((count(&self.records) - 1) * FRAME)
            }
            // The place is taken at once; what becomes durable does so at some time before the
            // call returns, which is no moment in the order of places. The linear check sees it.
            Call::Commit(value) => self.invoke(&Call::Append(*value)),
            Call::Sync => Answer::Done,
            Call::Read => Answer::Records(self.records.clone()),
            Call::Durable => Answer::Position(self.durable * FRAME),
            Call::End => Answer::Position(count(&self.records) * FRAME),
        }
    }

    /// What is durable never falls, and is never more than there is.
    fn is_valid_step(&mut self, call: &Call, answer: &Answer) -> bool {
        match (call, answer) {
            (Call::Durable, Answer::Position(durable)) => {
                let known = self.durable * FRAME;
                let valid = (known..=self.records.len() as u64 * FRAME).contains(durable);
                self.durable = durable / FRAME;
                valid
            }
            _ => self.invoke(call) == *answer,
        }
    }
}

type Judge = Mutex<LinearizabilityTester<u64, Sequential>>;

fn perform(wal: &Wal<MemStore>, call: &Call) -> Answer {
    match call {
        Call::Append(value) => Answer::At(wal.append(&value.to_le_bytes()).unwrap().get()),
        Call::Commit(value) => Answer::At(wal.append_and_sync(&value.to_le_bytes()).unwrap().get()),
        Call::Sync => {
            wal.sync().unwrap();
            Answer::Done
        }
        Call::Read => {
            let value =
                |record: cohort_wal::Record| record.data().try_into().map(u64::from_le_bytes);
            let records = wal.iter().unwrap().map(|record| value(record.unwrap()).unwrap());
            Answer::Records(records.collect())
        }
        Call::Durable => Answer::Position(wal.durable_lsn().get()),
        Call::End => Answer::Position(wal.end_lsn().get()),
    }
}

fn call(seed: u64, thread: u64, number: u64) -> Call {
    let dice = dice(seed << 16 | thread << 8 | number);
    let value = thread << 8 | number;
    match dice % 8 {
        0..=2 => Call::Append(value),
        3 | 4 => Call::Commit(value),
        5 => [Call::Sync, Call::Durable][(dice >> 8 & 1) as usize].clone(),
        6 => Call::Read,
        _ => Call::End,
    }
}

fn short(seed: u64) -> Judge {
    let wal = open();
    let judge = Arc::new(Judge::new(LinearizabilityTester::new(Sequential::default())));
    let start = Arc::new(Barrier::new(3));
    let threads = (0..3).map(|thread| {
        let (wal, judge, start) = (Arc::clone(&wal), Arc::clone(&judge), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            for number in 0..4 {
                let call = call(seed, thread, number);
                judge.lock().unwrap().on_invoke(thread, call.clone()).unwrap();
                let answer = perform(&wal, &call);
                judge.lock().unwrap().on_return(thread, answer).unwrap();
            }
        })
    });
    threads.collect::<Vec<_>>().into_iter().for_each(|thread| thread.join().unwrap());
    Arc::into_inner(judge).unwrap()
}

#[test]
fn what_three_threads_see_could_have_happened_one_call_at_a_time() {
    for seed in 0..count("COHORT_WAL_SHORT", 300) {
        let judge = short(seed).into_inner().unwrap();
        assert!(judge.is_consistent(), "history {seed}: {judge:?}");
    }
}

#[test]
fn the_tester_refuses_what_could_not_have_happened() {
    let refused = |steps: &[(Call, Answer)]| {
        let mut judge = LinearizabilityTester::new(Sequential::default());
        for (call, answer) in steps {
            judge.on_invret(0, call.clone(), answer.clone()).unwrap();
        }
        !judge.is_consistent()
    };
    let append = |value, at| (Call::Append(value), Answer::At(at));
    assert!(!refused(&[append(1, 0), append(2, 24)]));
    assert!(refused(&[append(1, 24), append(2, 0)]));
    assert!(refused(&[append(1, 0), (Call::Read, Answer::Records(vec![]))]));
    let durable = |to| (Call::Durable, Answer::Position(to));
    assert!(!refused(&[append(1, 0), durable(0), durable(24)]));
    assert!(refused(&[append(1, 0), durable(24), durable(0)]));
    assert!(refused(&[append(1, 0), durable(48)]));
}

/// A call on a long history: when it began and ended, and what it says about the log.
#[derive(Debug, Clone, Copy)]
struct Event {
    began: u64,
    ended: u64,
    says: Says,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    /// A record is at this place.
    At(u64),
    /// All records below were there, and none at or above.
    EndsAt(u64),
    /// All below was durable, and nothing beyond the end.
    DurableTo(u64),
    /// The record at this place was made durable.
    Committed(u64),
    /// All that was there before was made durable.
    Synced,
}

/// Pairs of a time and a value, by time; each value becomes the largest so far.
fn running_maximum(mut pairs: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    pairs.sort_unstable();
    let mut most = 0;
    for (_, value) in &mut pairs {
        most = most.max(*value);
        *value = most;
    }
    pairs
}

/// Whether the events have an order that keeps real time: appends are ordered by their places, and
/// what looks at the log stands between two of them. Linear but for a sort.
fn judge(events: &[Event]) -> Result<(), String> {
    let mut appends: Vec<_> = events
        .iter()
        .filter_map(|event| match event.says {
            Says::At(at) | Says::Committed(at) => Some((at, *event)),
            _ => None,
        })
        .collect();
    appends.sort_by_key(|(at, _)| *at);
    // In the order of places: none ended before one that is placed before it began.
    let mut latest = 0;
    for (index, (at, event)) in appends.iter().enumerate() {
        if *at != index as u64 * FRAME {
            return Err(format!("a record at {at}, where {} is next", index as u64 * FRAME));
        }
        if event.ended < latest {
            return Err(format!(
                "the record at {at} was there before one that is placed before it"
            ));
        }
        latest = latest.max(event.began);
    }
    // What was there when a look began is in it; what began after it ended is not.
    let ended = appends.iter().map(|(_, event)| event.ended).zip(1..);
    let ends = running_maximum(ended.collect());
    let at_least = |began: u64| {
        let before = ends.partition_point(|(ended, _)| *ended < began);
        before.checked_sub(1).map_or(0, |index| ends[index].1)
    };
    let mut latest = 0;
    let begins = appends.iter().map(|(_, event)| {
        latest = latest.max(event.began);
        latest
    });
    let begins: Vec<_> = begins.collect();
    let at_most = |ended: u64| begins.partition_point(|latest| *latest <= ended) as u64;
    let mut durable: Vec<(u64, u64)> = Vec::new();
    for event in events {
        match event.says {
            Says::EndsAt(end) => {
                let (least, most) = (at_least(event.began), at_most(event.ended));
                if !(least..=most).contains(&(end / FRAME)) {
                    return Err(format!("an end at {end}, with {least} records before it began"));
                }
            }
            Says::DurableTo(to) => durable.push((event.ended, to)),
            Says::Committed(at) => durable.push((event.ended, at + FRAME)),
            Says::Synced => durable.push((event.ended, at_least(event.began) * FRAME)),
            Says::At(_) => {}
        }
    }
    // What was durable stays so: whoever looks later sees at least as much.
    let by_end = running_maximum(durable);
    for event in events {
        if let Says::DurableTo(to) = event.says {
            let before = by_end.partition_point(|(ended, _)| *ended < event.began);
            let known = before.checked_sub(1).map_or(0, |index| by_end[index].1);
            if to < known {
                return Err(format!("durable to {to}, after it was durable to {known}"));
            }
        }
    }
    Ok(())
}

fn long(seed: u64, threads: usize, calls: u64) -> Vec<Event> {
    let wal = open();
    let clock = Arc::new(AtomicU64::new(1));
    let start = Arc::new(Barrier::new(threads));
    let threads = (0..threads as u64).map(|thread| {
        let (wal, clock, start) = (Arc::clone(&wal), Arc::clone(&clock), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            let mut events = Vec::new();
            for number in 0..calls {
                let dice = dice(seed << 32 | thread << 20 | number);
                let value = dice.to_le_bytes();
                let began = clock.fetch_add(1, Ordering::SeqCst);
                let says = match dice % 32 {
                    0..=19 => Says::At(wal.append(&value).unwrap().get()),
                    20 => {
                        wal.sync().unwrap();
                        Says::Synced
                    }
                    21..=25 => Says::Committed(wal.append_and_sync(&value).unwrap().get()),
                    26..=28 => Says::DurableTo(wal.durable_lsn().get()),
                    29 => {
                        let last = wal.iter_from(wal.durable_lsn()).unwrap().last();
                        let last: Option<Lsn> = last.map(|record| record.unwrap().lsn());
                        match last {
                            Some(last) => Says::EndsAt(last.get() + FRAME),
                            None => Says::DurableTo(wal.durable_lsn().get()),
                        }
                    }
                    _ => Says::EndsAt(wal.end_lsn().get()),
                };
                let ended = clock.fetch_add(1, Ordering::SeqCst);
                events.push(Event { began, ended, says });
            }
            events
        })
    });
    let threads: Vec<_> = threads.collect();
    threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
}

#[test]
fn what_eight_threads_see_of_a_long_history_keeps_real_time() {
    for seed in 0..count("COHORT_WAL_LONG", 5) {
        let events = long(seed, 8, 2_000);
        judge(&events).unwrap_or_else(|wrong| panic!("history {seed}: {wrong}"));
    }
}

#[test]
fn the_linear_check_refuses_what_could_not_have_happened() {
    let event = |began, ended, says| Event { began, ended, says };
    let good = vec![
        event(1, 4, Says::At(0)),
        event(2, 3, Says::Committed(24)),
        event(5, 6, Says::DurableTo(48)),
        event(7, 8, Says::EndsAt(48)),
        event(9, 10, Says::At(48)),
        event(11, 12, Says::Synced),
        event(13, 14, Says::DurableTo(72)),
    ];
    assert_eq!(judge(&good), Ok(()));
    let broken = |index: usize, says: Says| {
        let mut events = good.clone();
        events[index].says = says;
        judge(&events).is_err()
    };
    assert!(broken(0, Says::At(8)), "a place that is none");
    assert!(broken(2, Says::DurableTo(24)), "durable goes back");
    assert!(broken(3, Says::EndsAt(24)), "an end before what was there");
    assert!(broken(3, Says::EndsAt(72)), "an end beyond what had begun");
    assert!(broken(6, Says::DurableTo(48)), "a sync that missed a record");
    let late = vec![event(1, 2, Says::At(24)), event(3, 4, Says::At(0))];
    assert!(judge(&late).is_err(), "placed before what was there");
}
