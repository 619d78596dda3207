//! Followers: every durable record once and in order, what they wait for, and how they end.
//!
//! Method: a store in memory behind a script whose gates hold syncs; readers of a directory beside
//! a writer.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "follow/directory.rs"]
mod directory;
#[path = "common/faulty.rs"]
mod faulty;
#[cfg(feature = "stream")]
#[path = "follow/stream.rs"]
mod stream;

use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use cohort_wal::{Follow, Lsn, MemStore, Record, Result, Wal, WalError, WalOptions, WalStore};

use common::{Dice, Id, deadline, identify, join_all, names, payload, smallest};
use faulty::{EIO, ENOSPC, FaultyStore, Gate, Op, Script};

type FaultyWal = Wal<FaultyStore<MemStore>>;

fn open() -> (Arc<FaultyWal>, Script) {
    let (store, script) = FaultyStore::over(MemStore::new());
    (Arc::new(smallest().open_store(store).unwrap()), script)
}

fn data(record: Option<Result<Record>>) -> Vec<u8> {
    record.unwrap().unwrap().into_data()
}

/// What there is without waiting.
fn ready<S: WalStore>(follower: &mut Follow<S>) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(record) = follower.next_timeout(Duration::ZERO).unwrap() {
        all.push(record.into_data());
    }
    all
}

#[test]
fn what_is_durable_is_yielded_and_nothing_else() {
    deadline(|| {
        let (wal, script) = open();
        wal.append_and_sync(b"one").unwrap();
        wal.append(b"two").unwrap();
        wal.flush().unwrap();
        let mut follower = wal.follow(Lsn::new(0)).unwrap();
        assert_eq!(ready(&mut follower), [b"one"]);
        let gate = Arc::new(Gate::default());
        let at_gate = Arc::clone(&gate);
        script.hook(move |op, _| {
            if op == Op::Sync {
                at_gate.pass();
            }
        });
        let other = Arc::clone(&wal);
        let syncer = thread::spawn(move || other.sync());
        gate.wait_for_arrival();
        assert_eq!(ready(&mut follower), [[0_u8; 0]; 0]);
        gate.open();
        assert_eq!(data(follower.next()), b"two");
        syncer.join().unwrap().unwrap();
        assert_eq!(wal.stats().syncs, 2, "a follower asks for no sync");
        assert_eq!(follower.next_lsn(), wal.end_lsn());
    });
}

/// Writers that rotate, batches, records larger than the ring, and followers that begin anywhere.
#[test]
fn every_follower_sees_every_record_once_and_in_order() {
    const WRITERS: u64 = 4;
    const EACH: u64 = 1_000;
    deadline(|| {
        let wal = Arc::new(smallest().open_store(MemStore::new()).unwrap());
        let followers: Vec<_> = (0..4)
            .map(|_| {
                let follower = wal.follow(Lsn::new(0)).unwrap();
                thread::spawn(move || {
                    let mut seen = Vec::new();
                    for record in follower {
                        match record {
                            Ok(record) => seen.push((record.lsn(), identify(&record))),
                            Err(WalError::Closed) => return seen,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    panic!("it ends with the log, with an error");
                })
            })
            .collect();
        let writers = (0..WRITERS).map(|owner| {
            let wal = Arc::clone(&wal);
            thread::spawn(move || {
                let mut dice = Dice::new(owner);
                let mut number = 0;
                while number < EACH {
                    let batch: Vec<_> = (0..1 + dice.below(3))
                        .map(|index| payload(Id { owner, number: number + index }, dice.len()))
                        .collect();
                    number += u64::try_from(batch.len()).unwrap();
                    match dice.below(8) {
                        0 => drop(wal.append_batch_and_sync(&batch).unwrap()),
                        1 => {
                            let last = *wal.append_batch(&batch).unwrap().last().unwrap();
                            pollster::block_on(wal.durable(last)).unwrap();
                        }
                        _ => drop(wal.append_batch(&batch).unwrap()),
                    }
                }
            })
        });
        join_all(writers.collect());
        wal.sync().unwrap();
        let written = common::read_ids(&wal);
        let middle = wal.follow(written[written.len() / 2].0).unwrap();
        wal.close().unwrap();
        for seen in join_all(followers) {
            assert_eq!(seen, written);
        }
        let rest = middle.map_while(Result::ok).map(|record| (record.lsn(), identify(&record)));
        assert!(rest.eq(written[written.len() / 2..].iter().copied()));
    });
}

#[test]
fn a_follower_that_truncation_overtakes_is_told_and_holds_nobody_up() {
    deadline(|| {
        let store = MemStore::new();
        let wal = smallest().open_store(store.clone()).unwrap();
        for _ in 0..200 {
            wal.append(&[1; 1000]).unwrap();
        }
        wal.sync().unwrap();
        let mut slow = wal.follow(Lsn::new(0)).unwrap();
        let mut idle = wal.follow(wal.end_lsn()).unwrap();
        assert_eq!(slow.next().unwrap().unwrap().len(), 1000);
        wal.truncate_before(wal.end_lsn()).unwrap();
        assert_eq!(names(&store, ".wal").len(), 1, "space comes back at once");
        let Some(Err(WalError::Truncated { lsn, head })) = slow.next() else { panic!() };
        assert!(lsn < head && head == wal.head_lsn());
        assert!(slow.next().is_none());
        assert!(matches!(slow.next_timeout(Duration::ZERO), Err(WalError::Truncated { .. })));
        wal.append_and_sync(b"next").unwrap();
        assert_eq!(data(idle.next()), b"next");
        let mut behind = wal.follow(wal.head_lsn()).unwrap();
        assert_eq!(data(behind.next()), b"next");
        assert!(matches!(wal.follow(Lsn::new(0)), Err(WalError::Truncated { .. })));
    });
}

#[test]
fn a_stopper_ends_a_wait_from_another_thread() {
    deadline(|| {
        let (wal, _) = open();
        wal.append_and_sync(b"one").unwrap();
        let mut follower = wal.follow(Lsn::new(0)).unwrap();
        let stopper = follower.stopper();
        assert_eq!(data(follower.next()), b"one");
        let waiting = thread::spawn(move || {
            let ended = follower.next().is_none();
            (ended, follower.next_timeout(Duration::from_secs(3600)))
        });
        stopper.clone().stop();
        stopper.stop();
        let (ended, after) = waiting.join().unwrap();
        assert!(ended && after.unwrap().is_none());
        let mut stopped = wal.follow(Lsn::new(0)).unwrap();
        stopped.stopper().stop();
        assert!(stopped.next().is_none());
        wal.close().unwrap();
    });
}

#[test]
fn a_failed_sync_ends_followers_behind_what_is_durable() {
    deadline(|| {
        let (wal, script) = open();
        wal.append_and_sync(b"one").unwrap();
        let waits = wal.follow(Lsn::new(0)).unwrap();
        let waiting = thread::spawn(move || waits.collect::<Vec<_>>());
        wal.append(b"lost").unwrap();
        script.fail_once(Op::Sync, 0, EIO);
        assert!(wal.sync().is_err());
        let seen = waiting.join().unwrap();
        assert_eq!(seen.len(), 2);
        assert_eq!(seen[0].as_ref().unwrap().data(), b"one");
        assert!(seen[1].as_ref().is_err_and(WalError::is_poisoned));
        let mut late = wal.follow(Lsn::new(0)).unwrap();
        assert_eq!(data(late.next()), b"one");
        assert!(late.next().unwrap().is_err_and(|error| error.is_poisoned()));
        assert!(late.next().is_none());
    });
}

#[test]
fn a_full_disk_ends_no_follower() {
    deadline(|| {
        let (wal, script) = open();
        let mut follower = wal.follow(Lsn::new(0)).unwrap();
        assert!(ready(&mut follower).is_empty());
        wal.append(b"one").unwrap();
        script.fail_always(Op::Write, ENOSPC);
        assert!(matches!(wal.sync(), Err(WalError::StorageFull { .. })));
        assert!(ready(&mut follower).is_empty());
        script.heal();
        wal.sync().unwrap();
        assert_eq!(data(follower.next()), b"one");
    });
}

#[test]
fn dropping_the_log_ends_its_followers_behind_everything() {
    deadline(|| {
        let wal = smallest().open_store(MemStore::new()).unwrap();
        let follower = wal.follow(Lsn::new(0)).unwrap();
        let waiting = thread::spawn(move || follower.collect::<Vec<_>>());
        wal.append(b"one").unwrap();
        drop(wal);
        let seen = waiting.join().unwrap();
        assert_eq!(seen[0].as_ref().unwrap().data(), b"one");
        assert!(matches!(seen[1], Err(WalError::Closed)) && seen.len() == 2);
    });
}

#[test]
fn a_cut_ends_those_beyond_it_and_the_others_go_on_with_what_comes_instead() {
    deadline(|| {
        let (wal, _) = open();
        let lsns: Vec<_> = (0..8_u8).map(|number| wal.append(&[number]).unwrap()).collect();
        wal.sync().unwrap();
        // So many records each has read.
        let mut followers: Vec<_> = (0..=8)
            .map(|count| {
                let mut follower = wal.follow(Lsn::new(0)).unwrap();
                (0..count).for_each(|number| assert_eq!(data(follower.next()), [number]));
                follower
            })
            .collect();
        wal.truncate_after(lsns[3]).unwrap();
        wal.append_and_sync(b"new").unwrap();
        for (count, follower) in (0_u8..).zip(&mut followers) {
            if count <= 4 {
                let rest: Vec<_> = (count..4).map(|number| vec![number]).collect();
                let seen = ready(follower);
                assert_eq!(seen[..rest.len()], rest);
                assert_eq!(seen[rest.len()..], [b"new"]);
            } else {
                assert!(matches!(follower.next(), Some(Err(WalError::Truncated { .. }))));
                assert!(follower.next().is_none());
            }
        }
    });
}

#[test]
fn a_waiting_follower_learns_of_a_cut() {
    deadline(|| {
        let (wal, _) = open();
        let kept = wal.append(b"kept").unwrap();
        wal.append_and_sync(b"cut").unwrap();
        let beyond = wal.follow(Lsn::new(0)).unwrap();
        let (tell, told) = mpsc::channel();
        thread::spawn(move || beyond.for_each(|record| tell.send(record).unwrap()));
        assert!(told.recv().unwrap().is_ok() && told.recv().unwrap().is_ok());
        wal.truncate_after(kept).unwrap();
        assert!(matches!(told.recv().unwrap(), Err(WalError::Truncated { .. })));
        assert!(told.recv().is_err(), "that was its end");
    });
}

#[test]
fn places_that_nobody_can_follow_from_are_refused() {
    deadline(|| {
        let (wal, _) = open();
        wal.append_and_sync(&[0; 100]).unwrap();
        let not_a_record =
            |result: Result<Follow<_>>| matches!(result, Err(WalError::NotARecord { .. }));
        assert!(not_a_record(wal.follow(Lsn::new(8))));
        assert!(not_a_record(wal.follow(Lsn::new(3))));
        assert!(not_a_record(wal.follow(Lsn::new(wal.end_lsn().get() + 8))));
        // What is not durable yet is not looked at before it is.
        wal.append(&[0; 100]).unwrap();
        let mut inside = wal.follow(Lsn::new(wal.durable_lsn().get() + 8)).unwrap();
        wal.sync().unwrap();
        assert!(matches!(inside.next(), Some(Err(WalError::NotARecord { .. }))));
        wal.close().unwrap();
        assert!(matches!(wal.follow(Lsn::new(0)), Err(WalError::Closed)));
    });
}

#[test]
fn a_wait_may_be_as_long_as_can_be_said() {
    deadline(|| {
        let (wal, _) = open();
        let mut follower = wal.follow(Lsn::new(0)).unwrap();
        let other = Arc::clone(&wal);
        let appender = thread::spawn(move || other.append_and_sync(b"one").unwrap());
        assert_eq!(follower.next_timeout(Duration::MAX).unwrap().unwrap().data(), b"one");
        appender.join().unwrap();
        let again = wal.follow(follower.next_lsn()).unwrap();
        assert_eq!(again.next_lsn(), wal.end_lsn());
    });
}

#[test]
fn a_follower_that_is_dropped_leaves_nothing_behind() {
    deadline(|| {
        let (wal, _) = open();
        for _ in 0..100 {
            let mut follower = wal.follow(wal.end_lsn()).unwrap();
            assert!(follower.next_timeout(Duration::from_micros(10)).unwrap().is_none());
        }
        let one = wal.append_and_sync(b"one").unwrap();
        assert!(wal.durable_lsn() > one);
        wal.close().unwrap();
    });
}

#[test]
fn options_of_old_logs_do_not_matter() {
    deadline(|| {
        let store = MemStore::new();
        let wal = WalOptions::new().open_store(store.clone()).unwrap();
        wal.append_and_sync(&[7; 40_000]).unwrap();
        drop(wal);
        let wal = smallest().open_store(store).unwrap();
        wal.append_and_sync(b"small").unwrap();
        let mut follower = wal.follow(Lsn::new(0)).unwrap();
        assert_eq!(data(follower.next()), [7; 40_000]);
        assert_eq!(data(follower.next()), b"small");
    });
}

#[test]
fn every_reader_says_where_a_batch_ends() {
    let dir = tempfile::tempdir().unwrap();
    let wal = smallest().open(dir.path()).unwrap();
    wal.append_batch(&["one", "two", "three"]).unwrap();
    wal.append(b"alone").unwrap();
    wal.append_batch_and_sync(&["four"]).unwrap();
    let expected = [true, true, false, false, false];
    let more = |records: &mut dyn Iterator<Item = Result<Record>>| -> Vec<bool> {
        records.take(5).map(|record| record.unwrap().more()).collect()
    };
    assert_eq!(more(&mut wal.iter().unwrap()), expected);
    assert_eq!(more(&mut wal.follow(wal.head_lsn()).unwrap()), expected);
    let (mut records, mut lent) = (wal.iter().unwrap(), Vec::new());
    while let Some(record) = records.read_next() {
        lent.push(record.unwrap().more());
    }
    assert_eq!(lent, expected);
    wal.close().unwrap();
    assert_eq!(more(&mut smallest().salvage(dir.path()).unwrap()), expected);
    let reader = smallest().open_read_only(dir.path()).unwrap();
    assert_eq!(more(&mut reader.follow(reader.head_lsn()).unwrap()), expected);
}
