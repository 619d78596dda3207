//! What the engine promises while nothing fails: order, refusals, rollbacks, followers, rescue.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use cohort_wal::{Lsn, MemStore, WalError, WalStore};
use ledger_engine::Error;
use ledger_engine::auditor::Auditor;
use ledger_engine::engine::{Engine, Receipt};
use ledger_engine::rescue::rescue;
use ledger_engine::transaction::{Leg, Transaction};
use ledger_engine::workload::{self, ACCOUNTS, closing};

use common::{open, options};

fn post<S: WalStore>(engine: &Engine<S>, writer: u16, number: u64) -> Receipt {
    engine.post(&workload::transaction(writer, number).unwrap()).unwrap()
}

fn post_all<S: WalStore>(engine: &Engine<S>, writer: u16, numbers: Range<u64>) {
    for number in numbers {
        post(engine, writer, number);
    }
}

fn legs(legs: &[(u16, i64)]) -> Vec<Leg> {
    legs.iter().map(|(account, amount)| Leg { account: *account, amount: *amount }).collect()
}

#[test]
fn a_transaction_that_was_rolled_back_is_never_said_to_be_durable() {
    let engine = open(MemStore::new()).unwrap();
    post(&engine, 0, 0);
    let transaction = workload::transaction(1, 0).unwrap();
    let undone = engine.begin(&transaction).unwrap();
    engine.roll_back_from(undone.receipt().first).unwrap();
    // The same legs at the same place, and durable. An LSN alone would not tell the two apart.
    let kept = engine.begin(&transaction).unwrap();
    assert_eq!(kept.receipt(), undone.receipt());
    kept.wait().unwrap();
    assert!(matches!(undone.wait(), Err(Error::Wal(WalError::Truncated { .. }))));
    assert_eq!(workload::check(&engine.book().unwrap()).unwrap()[..2], [1, 1]);
}

#[test]
fn what_is_refused_changes_nothing() {
    let engine = open(MemStore::new()).unwrap();
    post(&engine, 0, 0);
    let (book, end) = (engine.book().unwrap(), engine.wal().end_lsn());
    assert!(matches!(Transaction::new(1, vec![]), Err(Error::Legs(0))));
    assert!(matches!(Transaction::new(1, legs(&[(1, 0); 21])), Err(Error::Legs(21))));
    assert!(matches!(Transaction::new(1, legs(&[(1, 5), (2, -4)])), Err(Error::Unbalanced(1))));
    let refuse = |legs: Vec<Leg>| engine.begin(&Transaction::new(1, legs).unwrap()).unwrap_err();
    assert!(matches!(refuse(legs(&[(0, 9), (30, -9)])), Error::Overdrawn(30)));
    assert!(matches!(
        refuse(legs(&[(30, i64::MAX), (30, 1), (0, -i64::MAX), (0, -1)])),
        Error::Overdrawn(30)
    ));
    assert!(matches!(refuse(legs(&[(0, -9), (ACCOUNTS, 9)])), Error::NoAccount(ACCOUNTS)));
    assert_eq!((engine.book().unwrap(), engine.wal().end_lsn()), (book, end));
    // In between an account may be overdrawn: what counts is the whole.
    engine.post(&Transaction::new(1, legs(&[(30, -9), (0, 0), (30, 9)])).unwrap()).unwrap();
}

#[test]
fn a_rollback_to_where_no_transaction_ends_is_refused_and_changes_nothing() {
    let engine = open(MemStore::new()).unwrap();
    let below = post(&engine, 0, 0);
    engine.checkpoint().unwrap();
    let transaction = (0..).map(|number| workload::transaction(1, number).unwrap());
    let transaction = transaction.into_iter().find(|t| t.legs().len() > 2).unwrap();
    post(&engine, 2, 0);
    let above = engine.post(&transaction).unwrap();
    let (book, end) = (engine.book().unwrap(), engine.wal().end_lsn());
    let error = |result: Result<(), Error>| match result {
        Err(Error::Wal(error)) => error,
        other => panic!("{other:?}"),
    };
    let inside = error(engine.roll_back_from(above.last));
    assert!(matches!(inside, WalError::InsideBatch { .. }), "{inside}");
    let inside = error(engine.roll_back_after(above.first));
    assert!(matches!(inside, WalError::InsideBatch { .. }), "{inside}");
    let gone = error(engine.roll_back_from(below.first));
    assert!(matches!(gone, WalError::Truncated { .. } | WalError::BelowSnapshot { .. }), "{gone}");
    let beyond = error(engine.roll_back_after(end));
    assert!(matches!(beyond, WalError::NotARecord { .. }), "{beyond}");
    assert_eq!((engine.book().unwrap(), engine.wal().end_lsn()), (book.clone(), end));
    assert_eq!(engine.audit().unwrap(), book);
    engine.roll_back_from(end).unwrap();
    assert_eq!(engine.book().unwrap(), book);
    engine.roll_back_from(engine.wal().head_lsn()).unwrap();
    assert_eq!(workload::check(&engine.book().unwrap()).unwrap()[..3], [1, 0, 0]);
}

#[test]
fn history_begins_where_a_transaction_does() {
    let engine = open(MemStore::new()).unwrap();
    let receipts: Vec<_> = (0..50).map(|number| post(&engine, 3, number)).collect();
    for (number, receipt) in receipts.iter().enumerate() {
        let history: Vec<_> = engine.history(receipt.first).unwrap().map(Result::unwrap).collect();
        assert_eq!(history.len(), 50 - number);
        assert_eq!((history[0].first, history[0].last), (receipt.first, receipt.last));
    }
    let inside = receipts.iter().find(|receipt| receipt.last != receipt.first).unwrap().last;
    let first = engine.history(inside).unwrap().next().unwrap();
    assert!(matches!(first, Err(Error::Record { lsn, .. }) if lsn == inside));
}

#[test]
fn half_a_transaction_in_the_log_is_refused() {
    let transactions = (0..10).map(|number| workload::transaction(1, number).unwrap());
    let transaction = transactions.into_iter().find(|t| t.legs().len() > 3).unwrap();
    let records = transaction.records();
    for missing in 0..records.len() {
        let store = MemStore::new();
        let wal = options().open_store(store.clone()).unwrap();
        let mut half = records.clone();
        half.remove(missing);
        wal.append_batch_and_sync(&half).unwrap();
        wal.close().unwrap();
        let refused = open(store).unwrap_err();
        assert!(matches!(refused, Error::Half { .. } | Error::Record { .. }), "{refused}");
    }
    let store = MemStore::new();
    options().open_store(store.clone()).unwrap().append_and_sync(b"of somebody else").unwrap();
    assert!(matches!(open(store), Err(Error::Record { .. })));
}

/// Rolls back to a place that others may have compacted or cut by now.
fn undo_if_it_is_there<S: WalStore>(engine: &Engine<S>, first: Lsn) {
    match engine.roll_back_from(first) {
        Err(Error::Wal(WalError::Truncated { .. } | WalError::BelowSnapshot { .. })) => {}
        Err(Error::Wal(WalError::NotARecord { .. } | WalError::InsideBatch { .. })) => {}
        undone => undone.unwrap(),
    }
}

#[test]
fn auditors_and_readers_beside_writers_checkpoints_and_rollbacks_see_whole_transactions() {
    let store = MemStore::new();
    let engine = Arc::new(open(store.clone()).unwrap());
    let stop = AtomicBool::new(false);
    let audited = thread::scope(|scope| {
        let auditors = [(); 2].map(|()| {
            let engine = Arc::clone(&engine);
            scope.spawn(move || {
                let mut auditor = Auditor::new(engine).unwrap();
                while let Some(posted) = auditor.advance().unwrap() {
                    assert_eq!(auditor.book().total(), 0);
                    if posted.transaction == closing().unwrap() {
                        break;
                    }
                }
                auditor.book().clone()
            })
        });
        let reader = scope.spawn(|| {
            while !stop.load(SeqCst) {
                match engine.audit() {
                    Ok(book) => assert_eq!(book.total(), 0),
                    Err(Error::Wal(WalError::Truncated { .. })) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        });
        let writers = [0, 1, 2].map(|writer| {
            let engine = &engine;
            scope.spawn(move || {
                for number in 0..300 {
                    let begun = engine.begin(&workload::transaction(writer, number).unwrap());
                    let pending = match begun {
                        // What brought the amount was rolled back.
                        Err(Error::Overdrawn(_)) => continue,
                        begun => begun.unwrap(),
                    };
                    let first = pending.receipt().first;
                    match pending.wait() {
                        Err(Error::Wal(WalError::Truncated { .. })) => continue,
                        waited => waited.unwrap(),
                    };
                    match number % 30 {
                        10 => engine.checkpoint().unwrap(),
                        20 => undo_if_it_is_there(engine, first),
                        _ => {}
                    }
                }
            })
        });
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        stop.store(true, SeqCst);
        reader.join().unwrap();
        engine.post(&closing().unwrap()).unwrap();
        auditors.map(|auditor| auditor.join().unwrap())
    });
    let book = engine.book().unwrap();
    assert_eq!(book.total(), 0);
    assert_eq!(engine.audit().unwrap(), book);
    assert_eq!(audited, [book.clone(), book.clone()]);
    engine.wal().close().unwrap();
    assert_eq!(open(store).unwrap().book().unwrap(), book);
}

fn flip(dir: &Path, record: &[u8]) -> bool {
    std::fs::read_dir(dir).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let at = bytes.windows(record.len()).position(|window| window == record);
        at.is_some_and(|at| {
            bytes[at] ^= 0x80;
            std::fs::write(&path, bytes).unwrap();
            true
        })
    })
}

#[test]
fn rescue_loses_the_transaction_that_is_damaged_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(options().open(dir.path()).unwrap(), ACCOUNTS).unwrap();
    post_all(&engine, 4, 0..20);
    engine.checkpoint().unwrap();
    post_all(&engine, 4, 20..60);
    // Without its first leg it would pass for a whole one.
    engine.post(&Transaction::new(7, legs(&[(1, 0), (2, 0)])).unwrap()).unwrap();
    let posted: Vec<_> = engine.history(engine.wal().head_lsn()).unwrap().collect();
    let posted: Vec<_> = posted.into_iter().map(Result::unwrap).collect();
    let book = engine.book().unwrap();
    engine.wal().close().unwrap();
    for victim in posted.iter().step_by(3).chain(posted.last()) {
        for record in victim.transaction.records().iter().step_by(4) {
            assert!(flip(dir.path(), record));
            assert!(
                options()
                    .open(dir.path())
                    .map_or(true, |wal| { Engine::open(wal, ACCOUNTS).is_err() })
            );
            let left = rescue(dir.path(), ACCOUNTS).unwrap();
            assert!(left.whole.iter().eq(posted.iter().filter(|posted| *posted != victim)));
            assert_eq!(left.book(ACCOUNTS).unwrap().total(), 0);
            let alone = victim.first == victim.last;
            assert_eq!(left.split.is_empty(), alone);
            // What it had to skip has a file and a range, within the transaction.
            let [WalError::Corruption { path, start, end, .. }] = &left.skipped[..] else {
                panic!("{:?}", left.skipped);
            };
            assert!(path.starts_with(dir.path()) && end > start);
            assert!((victim.first..=victim.last).contains(start), "{start} {victim:?}");
            let mut damaged = *record;
            damaged[0] ^= 0x80;
            assert!(flip(dir.path(), &damaged), "the damage is undone");
        }
    }
    let left = rescue(dir.path(), ACCOUNTS).unwrap();
    assert!(left.skipped.is_empty() && left.split.is_empty());
    assert_eq!(left.book(ACCOUNTS).unwrap(), book);
}

#[test]
fn balances_are_not_made_up_where_the_snapshot_is_damaged() {
    let (dir, copy) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let engine = Engine::open(options().open(dir.path()).unwrap(), ACCOUNTS).unwrap();
    post_all(&engine, 4, 0..20);
    engine.checkpoint().unwrap();
    // All of them in the segment that an opening reads.
    post_all(&engine, 4, 20..30);
    let posted: Vec<_> = engine.history(engine.wal().head_lsn()).unwrap().collect();
    // As a crash would leave it: not closed.
    for entry in std::fs::read_dir(dir.path()).unwrap().map(Result::unwrap) {
        std::fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let victim = posted[2].as_ref().unwrap();
    assert!(flip(copy.path(), &victim.transaction.records()[0]));
    assert!(options().open(copy.path()).is_err());
    let left = rescue(copy.path(), ACCOUNTS).unwrap();
    assert_eq!((left.whole.len(), left.skipped.len()), (9, 1));
    assert_eq!(left.book(ACCOUNTS).unwrap().total(), 0, "on top of the snapshot");

    let (snapshot, bytes) = std::fs::read_dir(copy.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|extension| extension == "snap"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .unwrap();
    for at in (0..bytes.len()).step_by(7) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&snapshot, bytes).unwrap();
        let left = rescue(copy.path(), ACCOUNTS).unwrap();
        assert_eq!((left.whole.len(), left.skipped.len()), (9, 1));
        assert!(left.image.is_err() && matches!(left.book(ACCOUNTS), Err(Error::ImageLost)));
    }
}
