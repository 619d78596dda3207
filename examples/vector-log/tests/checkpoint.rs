//! Checkpoints: what is replayed, what is forgotten, what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says how much it has tried")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use cohort_wal::sim::{Profile, SimStore};
use cohort_wal::{Lsn, WalError};
use vector_log::{Batch, Change, Error, VectorLog};

use common::open;

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
    const THREADS: u32 = 2;
    const CHECKPOINTS: u64 = 200;
    let (disk, log) = log();
    (0..THREADS).for_each(|collection| log.create(collection, 1, "points").unwrap());
    let (mut forgotten, ended) = (Vec::new(), AtomicBool::new(false));
    let mut written: Vec<Lsn> = thread::scope(|scope| {
        let (log, ended) = (&log, &ended);
        let upsert = move |collection| {
            let mut written = Vec::new();
            while !ended.load(SeqCst) {
                written.push(log.upsert(collection, 7, &[0.5], b"").unwrap());
            }
            written
        };
        let writers = (0..THREADS).map(|collection| scope.spawn(move || upsert(collection)));
        let writers: Vec<_> = writers.collect();
        for manifest in 1..=CHECKPOINTS {
            let captured = log.wal().last_lsn().unwrap();
            log.checkpoint(captured, manifest).unwrap();
            forgotten.push((captured, log.wal().head_lsn()));
        }
        ended.store(true, SeqCst);
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    println!("{CHECKPOINTS} checkpoints beside {} upserts", written.len());
    written.sort();
    for (captured, head) in &forgotten {
        let lost = written.iter().find(|lsn| (*captured..*head).contains(lsn) && *lsn > captured);
        assert_eq!(lost, None, "captured up to {captured}, forgotten up to {head}");
    }
    let (captured, _) = forgotten[forgotten.len() - 1];
    written.retain(|lsn| *lsn > captured);
    let (after, _) = open(&disk.power_loss(), Some(CHECKPOINTS)).unwrap();
    let mut found = Vec::new();
    let replay = after.replay(|lsn, change| {
        if matches!(change, Change::Upsert { .. }) {
            found.push(lsn);
        }
    });
    replay.unwrap();
    assert_eq!(found, written);
}

#[test]
fn no_change_stands_behind_the_drop_of_its_collection() {
    const WRITERS: usize = 2;
    const UPSERTS: usize = 150;
    const DIMS: u32 = 256;
    let (_, log) = log();
    log.create(1, DIMS, "one").unwrap();
    let mut drops = 0;
    thread::scope(|scope| {
        let upsert = || {
            let mut done = 0;
            while done < UPSERTS {
                match log.upsert(1, 7, &[0.5; DIMS as usize], b"") {
                    Ok(_) => done += 1,
                    Err(Error::NoCollection { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(upsert)).collect();
        while !writers.iter().all(thread::ScopedJoinHandle::is_finished) {
            log.drop_collection(1).unwrap();
            log.create(1, DIMS, "one").unwrap();
            drops += 1;
        }
    });
    let (mut there, mut seen) = (false, 0);
    let replay = log.replay(|lsn, change| match change {
        Change::Create { .. } => there = true,
        Change::Drop { .. } => there = false,
        _ => {
            assert!(there, "acknowledged at LSN {lsn}, and means nothing");
            seen += 1;
        }
    });
    replay.unwrap();
    assert_eq!(seen, WRITERS * UPSERTS);
    println!("{seen} upserts beside {drops} drops");
}
