//! Checkpoints: what is replayed, what is forgotten, what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says how much it has tried")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use cohort_wal::sim::{Profile, SimStore};
use cohort_wal::{Lsn, WalError};
use vector_log::{Batch, Change, Collections, Error, VectorLog};

use common::{open, replayed};

fn log() -> (SimStore, std::sync::Arc<VectorLog<SimStore>>) {
    let disk = SimStore::new(Profile::Ext4, 1);
    let (log, _) = open(&disk, None).unwrap();
    (disk, log)
}

#[test]
fn changes_between_what_is_captured_and_its_record_are_replayed() {
    let (disk, log) = log();
    log.create(1, 2, "one").unwrap();
    let captured = log.upsert(1, 10, &[1.0, 2.0], b"in the files").unwrap();
    let first = log.upsert(1, 11, &[3.0, 4.0], b"not yet").unwrap();
    log.checkpoint(captured, 1).unwrap();
    let last = log.delete(1, 10).unwrap();
    assert_eq!(log.wal().head_lsn(), first);
    for log in [log, open(&disk.power_loss(), Some(1)).unwrap().0] {
        let mut seen = Vec::new();
        let count = log.replay(|lsn, change| {
            if matches!(change, Change::Upsert { .. } | Change::Delete { .. }) {
                seen.push(lsn);
            }
        });
        assert_eq!(seen, [first, last]);
        // The checkpoint, and the collection that it says again.
        assert_eq!(count.unwrap(), 4);
    }
}

#[test]
fn collections_outlive_the_records_that_made_them() {
    let (disk, log) = log();
    log.create(1, 2, "one").unwrap();
    log.create(2, 3, "two").unwrap();
    log.drop_collection(2).unwrap();
    for manifest in 1..4 {
        log.checkpoint(log.wal().last_lsn().unwrap(), manifest).unwrap();
    }
    let (log, _) = open(&disk.power_loss(), None).unwrap();
    log.upsert(1, 1, &[0.0; 2], b"").unwrap();
    let refused = log.upsert(1, 1, &[0.0; 3], b"");
    assert!(matches!(refused, Err(Error::WrongDims { collection: 1, dims: 2 })));
    assert!(matches!(log.delete(2, 1), Err(Error::NoCollection { collection: 2 })));
    assert!(matches!(log.create(1, 2, "uno"), Err(Error::CollectionExists { collection: 1 })));
    log.create(1, 2, "one").unwrap();
    let mut batch = Batch::new(1);
    batch.push(1, &[0.0; 2], b"");
    batch.push(2, &[0.0; 1], b"");
    assert!(matches!(log.upsert_many(&batch), Err(Error::WrongDims { .. })));
}

#[test]
fn checkpoints_never_go_back() {
    let (_, log) = log();
    log.create(1, 1, "one").unwrap();
    let first = log.upsert(1, 1, &[0.0], b"").unwrap();
    let second = log.upsert(1, 2, &[0.0], b"").unwrap();
    let third = log.upsert(1, 3, &[0.0], b"").unwrap();
    log.checkpoint(second, 7).unwrap();
    let end = log.wal().end_lsn();
    let older = log.checkpoint(third, 6);
    assert!(matches!(older, Err(Error::OldManifest { given: 6, newest: 7 })), "{older:?}");
    let older = log.checkpoint(first, 8);
    assert!(matches!(older, Err(Error::OldCheckpoint { .. })), "{older:?}");
    let none = log.checkpoint(Lsn::new(end.get() + 8), 8);
    assert!(matches!(none, Err(Error::Wal(WalError::NotARecord { .. }))), "{none:?}");
    assert_eq!((log.wal().end_lsn(), log.wal().head_lsn()), (end, third), "nothing happened");
    // The same again: who does not know whether it worked may ask for it.
    log.checkpoint(second, 7).unwrap();
    assert_eq!(log.wal().head_lsn(), third);
}

#[test]
fn checkpoints_beside_threads_forget_nothing_that_is_not_captured() {
    const THREADS: u32 = 3;
    const CHECKPOINTS: u64 = 150;
    let (disk, log) = log();
    (0..THREADS).for_each(|collection| log.create(collection, 1, "points").unwrap());
    let mut files = Collections::default();
    let ended = AtomicBool::new(false);
    let written: Vec<u64> = thread::scope(|scope| {
        let (log, ended) = (&log, &ended);
        let upsert = move |collection| {
            let mut next = 0;
            while !ended.load(SeqCst) {
                log.upsert(collection, next, &[0.5], b"").unwrap();
                next += 1;
            }
            next
        };
        let writers = (0..THREADS).map(|collection| scope.spawn(move || upsert(collection)));
        let writers: Vec<_> = writers.collect();
        for manifest in 1..=CHECKPOINTS {
            let captured = log.wal().last_lsn().unwrap();
            log.wal().wait_durable(captured).unwrap();
            log.replay(|lsn, change| {
                if lsn <= captured {
                    files.apply(change);
                }
            })
            .unwrap();
            log.checkpoint(captured, manifest).unwrap();
        }
        ended.store(true, SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).collect()
    });
    println!("{CHECKPOINTS} checkpoints beside {written:?} upserts");
    let (after, _) = open(&disk.power_loss(), Some(CHECKPOINTS)).unwrap();
    let found = replayed(&after, &files);
    for (collection, written) in (0..).zip(written) {
        let points = &found.get(collection).unwrap().points;
        assert!(points.keys().copied().eq(0..written), "{} of {written}", points.len());
    }
}

#[test]
fn no_change_stands_behind_the_drop_of_its_collection() {
    const ROUNDS: u64 = 300;
    let (_, log) = log();
    log.create(1, 1, "one").unwrap();
    let ended = AtomicBool::new(false);
    let upserts: u64 = thread::scope(|scope| {
        let upsert = || {
            let mut done = 0;
            while !ended.load(SeqCst) {
                match log.upsert(1, done, &[0.5], b"") {
                    Ok(_) => done += 1,
                    Err(Error::NoCollection { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            done
        };
        let writers: Vec<_> = (0..2).map(|_| scope.spawn(upsert)).collect();
        for _ in 0..ROUNDS {
            log.drop_collection(1).unwrap();
            log.create(1, 1, "one").unwrap();
        }
        ended.store(true, SeqCst);
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    let (mut there, mut seen) = (false, 0);
    log.replay(|lsn, change| match change {
        Change::Create { .. } => there = true,
        Change::Drop { .. } => there = false,
        _ => {
            assert!(there, "acknowledged at LSN {lsn}, and means nothing");
            seen += 1;
        }
    })
    .unwrap();
    assert_eq!(seen, upserts);
    println!("{seen} upserts beside {ROUNDS} drops");
}
