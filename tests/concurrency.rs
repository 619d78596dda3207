//! Many threads on one log: nothing lost, nothing twice, nothing out of order, and syncs shared.
//!
//! Method: real files, records whose bytes say whose they are and their how manieth, and exact
//! comparison of what was returned by the appends with what is read after a reopen. Where a count
//! of syncs is asserted, a store in memory holds the first sync at a gate until everybody's
//! record is in, so that the count does not depend on timing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

use cohort_wal::{Lsn, MemStore, Wal, WalError, WalOptions, WalStore};

use common::{Dice, Id, deadline, deadline_of, join_all, payload, read_ids};
use faulty::{FaultyStore, Gate, Op};

/// Appends `records` records of `owner` in every way there is, committing every `commit`-th, and
/// returns where they are.
fn append_mixed<S: WalStore>(
    wal: &Wal<S>,
    owner: u64,
    first: u64,
    records: u64,
    commit: u64,
) -> Vec<(Lsn, Id)> {
    let mut dice = Dice::new(owner * 1_000_003 + first);
    let mut placed = Vec::new();
    let mut number = first;
    while number < first + records {
        let batch = match dice.below(16) {
            0 => dice.below(5).min(first + records - number),
            _ => 1,
        };
        let ids: Vec<_> = (number..number + batch).map(|number| Id { owner, number }).collect();
        let data: Vec<_> = ids.iter().map(|id| payload(*id, dice.len())).collect();
        let commits = (number..number + batch).any(|number| number % commit == commit - 1);
        let lsns = match (&data[..], commits, number % 3) {
            ([one], true, _) => vec![wal.append_and_sync(one).unwrap()],
            ([one], false, 0) => vec![wal.append_vectored(&[&one[..10], &one[10..]]).unwrap()],
            ([one], false, _) => vec![wal.append(one).unwrap()],
            (many, true, _) => wal.append_batch_and_sync(many).unwrap(),
            (many, false, _) => wal.append_batch(many).unwrap(),
        };
        assert_eq!(lsns.len(), ids.len());
        if let Some(last) = lsns.last().filter(|_| commits) {
            assert!(wal.durable_lsn() > *last);
        }
        placed.extend(lsns.into_iter().zip(ids));
        number += batch;
    }
    placed
}

/// Appends from `threads` threads; returns every record by its LSN.
fn append_from_threads<S: WalStore>(
    wal: &Arc<Wal<S>>,
    threads: u64,
    records: u64,
    commit: u64,
) -> BTreeMap<Lsn, Id> {
    let start = Arc::new(Barrier::new(usize::try_from(threads).unwrap()));
    let threads = (0..threads).map(|owner| {
        let (wal, start) = (Arc::clone(wal), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            append_mixed(&wal, owner, 0, records, commit)
        })
    });
    let placed = join_all(threads.collect());
    let total: usize = placed.iter().map(Vec::len).sum();
    for one in &placed {
        assert!(one.is_sorted_by(|a, b| a.0 < b.0), "a thread's records keep their order");
    }
    let by_lsn: BTreeMap<_, _> = placed.into_iter().flatten().collect();
    assert_eq!(by_lsn.len(), total, "LSNs are unique");
    by_lsn
}

fn assert_reopens_with(options: WalOptions, dir: &Path, expected: &BTreeMap<Lsn, Id>) {
    let wal = options.open(dir).unwrap();
    assert!(read_ids(&wal).into_iter().eq(expected.iter().map(|(lsn, id)| (*lsn, *id))));
    assert_eq!(wal.last_lsn(), expected.keys().next_back().copied());
}

#[test]
fn every_record_of_eight_threads_is_read_once_in_order_at_its_lsn() {
    deadline_of(120, || {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions::new().segment_bytes(4 << 20);
        let wal = Arc::new(options.clone().open(dir.path()).unwrap());
        let expected = append_from_threads(&wal, 8, 20_000, 1_000);
        assert!(read_ids(&wal).into_iter().eq(expected.clone()), "before the reopen");
        let stats = wal.stats();
        assert_eq!(stats.appends, 160_000);
        assert_eq!(stats.bytes, wal.live_bytes());
        wal.close().unwrap();
        drop(wal);
        assert_reopens_with(options, dir.path(), &expected);
    });
}

#[test]
fn sixty_four_threads_on_the_smallest_ring_lose_nothing() {
    deadline_of(120, || {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions::new().ring_bytes(64 << 10);
        let wal = Arc::new(options.clone().open(dir.path()).unwrap());
        let expected = append_from_threads(&wal, 64, 400, 40);
        wal.close().unwrap();
        drop(wal);
        assert_reopens_with(options, dir.path(), &expected);
    });
}

#[test]
fn rotation_under_load_loses_nothing() {
    deadline_of(120, || {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
        let wal = Arc::new(options.clone().open(dir.path()).unwrap());
        let expected = append_from_threads(&wal, 8, 1_000, 100);
        let rotations = wal.stats().rotations;
        assert!(rotations >= wal.live_bytes() / (16 << 10), "{rotations} rotations");
        wal.close().unwrap();
        drop(wal);
        assert_reopens_with(options, dir.path(), &expected);
    });
}

#[test]
fn an_iterator_beside_writers_sees_everything_before_it_and_no_gap() {
    deadline_of(120, || {
        const WRITERS: u64 = 4;
        const RECORDS: u64 = 2_000;
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions::new().segment_bytes(64 << 10).ring_bytes(64 << 10);
        let wal = Arc::new(options.open(dir.path()).unwrap());
        let appended: Arc<Vec<_>> = Arc::new((0..WRITERS).map(|_| AtomicU64::new(0)).collect());
        let writers = (0..WRITERS).map(|owner| {
            let (wal, appended) = (Arc::clone(&wal), Arc::clone(&appended));
            thread::spawn(move || {
                let counter = &appended[usize::try_from(owner).unwrap()];
                for step in 0..RECORDS / 10 {
                    append_mixed(&wal, owner, step * 10, 10, 500);
                    counter.store(step * 10 + 10, Ordering::Release);
                }
            })
        });
        let writers: Vec<_> = writers.collect();
        loop {
            let finished = writers.iter().all(thread::JoinHandle::is_finished);
            let before: Vec<_> = appended.iter().map(|n| n.load(Ordering::Acquire)).collect();
            let mut seen = vec![0; before.len()];
            for (_, id) in read_ids(&wal) {
                let next = &mut seen[usize::try_from(id.owner).unwrap()];
                assert_eq!(id.number, *next, "a record of writer {} is missing", id.owner);
                *next += 1;
            }
            assert!(seen.iter().zip(&before).all(|(seen, before)| seen >= before));
            if finished {
                assert!(seen.iter().all(|seen| *seen == RECORDS));
                break;
            }
        }
        join_all(writers);
    });
}

#[test]
fn many_threads_that_wait_for_one_record_share_one_sync() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = Arc::new(Wal::open(dir.path()).unwrap());
        for round in 1..=20 {
            let lsn = wal.append(b"awaited").unwrap();
            let start = Arc::new(Barrier::new(16));
            let waiters = (0..16).map(|_| {
                let (wal, start) = (Arc::clone(&wal), Arc::clone(&start));
                thread::spawn(move || {
                    start.wait();
                    wal.wait_durable(lsn).unwrap();
                    assert!(wal.durable_lsn() > lsn);
                })
            });
            join_all(waiters.collect());
            assert_eq!(wal.stats().syncs, round);
        }
    });
}

/// Everybody's record is in before the first sync ends, so whoever leads next covers them all.
#[test]
fn commits_that_arrive_during_a_sync_share_the_next_one() {
    deadline(|| {
        const COMMITTERS: usize = 31;
        let (store, script) = FaultyStore::over(MemStore::new());
        let wal = Arc::new(WalOptions::new().open_store(store).unwrap());
        let gate = Arc::new(Gate::default());
        let synced = Arc::new(AtomicUsize::new(0));
        let (at_gate, counter) = (Arc::clone(&gate), Arc::clone(&synced));
        script.hook(move |op, _| {
            if op == Op::Sync {
                counter.fetch_add(1, Ordering::Relaxed);
                at_gate.pass();
            }
        });
        let first = Arc::clone(&wal);
        let first = thread::spawn(move || first.append_and_sync(b"first").unwrap());
        gate.wait_for_arrival();
        let appended = Arc::new(Barrier::new(COMMITTERS + 1));
        let others = (0..COMMITTERS).map(|_| {
            let (wal, appended) = (Arc::clone(&wal), Arc::clone(&appended));
            thread::spawn(move || {
                let lsn = wal.append(b"other").unwrap();
                appended.wait();
                wal.sync().unwrap();
                assert!(wal.durable_lsn() > lsn);
            })
        });
        let others: Vec<_> = others.collect();
        appended.wait();
        assert_eq!(wal.durable_lsn(), wal.head_lsn(), "nothing is durable before its sync ends");
        gate.open();
        first.join().unwrap();
        join_all(others);
        assert_eq!(synced.load(Ordering::Relaxed), 2, "one sync for the first, one for the rest");
        assert_eq!(wal.stats().syncs, 2);
    });
}

#[test]
fn thirty_reopens_each_find_all_that_went_before() {
    deadline_of(60, || {
        let dir = tempfile::tempdir().unwrap();
        let options = WalOptions::new().segment_bytes(32 << 10).ring_bytes(64 << 10);
        let mut expected = Vec::new();
        for round in 0..30 {
            let wal = options.clone().open(dir.path()).unwrap();
            assert_eq!(wal.recovery().clean, round > 0);
            assert!(read_ids(&wal) == expected, "round {round}");
            expected.extend(append_mixed(&wal, round, 0, 60, 25));
            if round % 2 == 0 {
                wal.close().unwrap();
            }
        }
        let wal = options.open(dir.path()).unwrap();
        assert!(read_ids(&wal) == expected);
        assert_eq!(wal.recovery().epoch, 31);
    });
}

#[cfg(target_os = "linux")]
/// Open files below a directory, of this process.
fn descriptors_below(dir: &Path) -> usize {
    let links = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    links.filter(|target| target.starts_with(dir)).count()
}

#[test]
#[cfg(target_os = "linux")]
fn rotations_without_a_sync_keep_a_bounded_number_of_files_open() {
    deadline_of(60, || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let wal = WalOptions::new().ring_bytes(64 << 10).open(&path).unwrap();
        let mut most = 0;
        for number in 0..200_u64 {
            wal.append(&number.to_le_bytes()).unwrap();
            wal.rotate().unwrap();
            most = most.max(descriptors_below(&path));
        }
        assert!(wal.stats().syncs > 0 && most <= 70, "{most} descriptors at once");
        assert_eq!(wal.iter().unwrap().count(), 200);
    });
}

#[test]
#[cfg(target_os = "linux")]
fn open_descriptors_stay_bounded_over_two_hundred_segments() {
    deadline_of(60, || {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let options = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
        let wal = options.open(&path).unwrap();
        let mut most = 0;
        while wal.stats().rotations < 200 {
            wal.append(&[7; 1_000]).unwrap();
            most = most.max(descriptors_below(&path));
        }
        let records = wal.iter().unwrap();
        assert_eq!(records.count(), usize::try_from(wal.stats().appends).unwrap());
        // The directory, CONTROL, the active segment, and twice the five segments that 32 KiB of
        // unsynced bytes are spread over: those of the last sync close when the next one begins.
        assert!(most <= 13, "{most} descriptors at once");
    });
}

#[test]
fn close_beside_appenders_keeps_exactly_what_it_accepted() {
    deadline_of(60, || {
        for round in 0..40 {
            let dir = tempfile::tempdir().unwrap();
            let options = WalOptions::new().segment_bytes(64 << 10).ring_bytes(64 << 10);
            let wal = Arc::new(options.clone().open(dir.path()).unwrap());
            let started = Arc::new(AtomicUsize::new(0));
            let appenders = (0..6).map(|owner| {
                let (wal, started) = (Arc::clone(&wal), Arc::clone(&started));
                thread::spawn(move || {
                    let mut accepted = Vec::new();
                    for number in 0.. {
                        let id = Id { owner, number };
                        let data = payload(id, if owner == 0 { 5_000 } else { 100 });
                        let result = match owner {
                            1 | 2 => wal.append_and_sync(&data),
                            _ => wal.append(&data),
                        };
                        match result {
                            Ok(lsn) => accepted.push((lsn, id)),
                            Err(WalError::Closed) => break,
                            Err(other) => panic!("{other}"),
                        }
                        started.fetch_add(1, Ordering::Relaxed);
                    }
                    accepted
                })
            });
            let appenders: Vec<_> = appenders.collect();
            while started.load(Ordering::Relaxed) < 20 * round {
                thread::yield_now();
            }
            wal.close().unwrap();
            let mut accepted: Vec<_> = join_all(appenders).into_iter().flatten().collect();
            accepted.sort_unstable();
            let wal = options.open(dir.path()).unwrap();
            assert!(wal.recovery().clean);
            assert!(read_ids(&wal) == accepted, "round {round}");
        }
    });
}

#[test]
fn handles_that_take_turns_lose_nothing() {
    deadline_of(60, || {
        let dir = tempfile::tempdir().unwrap();
        let path: Arc<Path> = Arc::from(dir.path().join("log"));
        let threads = (0..4).map(|owner| {
            let path = Arc::clone(&path);
            thread::spawn(move || {
                for number in 0..15 {
                    let wal = loop {
                        match Wal::open(&path) {
                            Ok(wal) => break wal,
                            Err(WalError::Locked { .. }) => thread::yield_now(),
                            Err(other) => panic!("{other}"),
                        }
                    };
                    wal.append(&payload(Id { owner, number }, 100)).unwrap();
                    if number % 2 == 0 {
                        wal.close().unwrap();
                    }
                }
            })
        });
        join_all(threads.collect());
        let wal = Wal::open(&path).unwrap();
        let mut ids: Vec<_> = read_ids(&wal).into_iter().map(|(_, id)| id).collect();
        ids.sort_unstable();
        let expected = (0..4).flat_map(|owner| (0..15).map(move |number| Id { owner, number }));
        assert!(ids.into_iter().eq(expected));
    });
}
