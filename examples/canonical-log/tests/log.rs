//! What counts, what is an orphan, and what a cut refuses.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use canonical_log::{CanonicalLog, Error};
use cohort_wal::sim::{Profile, SimCall, SimFault, SimFaultKind, SimStore};
use cohort_wal::{Lsn, MemStore, WalError, WalStore};

use common::{open, options, view};

fn append<S: WalStore>(log: &CanonicalLog<S>, entries: &[&str]) {
    for entry in entries {
        log.append(entry.as_bytes()).unwrap();
    }
}

fn texts<S: WalStore>(log: &CanonicalLog<S>) -> Vec<String> {
    view(log).into_iter().map(|(_, entry)| String::from_utf8(entry).unwrap()).collect()
}

#[test]
fn without_a_checkpoint_everything_is_an_orphan() {
    let store = MemStore::new();
    let log = open(store.clone()).unwrap();
    append(&log, &["a", "b", "c"]);
    log.wal().sync().unwrap();
    assert!(texts(&log).is_empty() && log.committed().is_none());
    drop(log);
    let log = open(store.clone()).unwrap();
    assert_eq!((log.orphans(), log.wal().is_empty()), (3, true));
    append(&log, &["d"]);
    log.checkpoint().unwrap();
    drop(log);
    let log = open(store).unwrap();
    assert_eq!((log.orphans(), texts(&log)), (0, vec!["d".to_owned()]));
}

#[test]
fn what_is_behind_the_last_checkpoint_is_cut_on_opening_and_only_that() {
    let store = MemStore::new();
    for round in 0..20_u64 {
        let log = open(store.clone()).unwrap();
        assert_eq!(log.orphans(), round.saturating_sub(1).min(4));
        assert_eq!(texts(&log).len() as u64, 2 * round);
        append(&log, &["x", "y"]);
        let checkpoint = log.checkpoint().unwrap();
        assert_eq!(checkpoint.entries, 2 * (round + 1));
        for _ in 0..round.min(4) {
            append(&log, &["orphan"]);
        }
        log.wal().close().unwrap();
    }
}

#[test]
fn a_cut_beyond_the_end_or_at_no_checkpoint_is_an_error_and_changes_nothing() {
    let disk = SimStore::new(Profile::Ext4, 1);
    let log = open(disk.clone()).unwrap();
    append(&log, &["a", "b"]);
    let first = log.checkpoint().unwrap();
    append(&log, &["c"]);
    let last = log.checkpoint().unwrap();
    // Waits in memory, and must go on waiting.
    append(&log, &["pending"]);
    let end = log.wal().end_lsn();
    let (before, writes) = (disk.fingerprint(), disk.calls(SimCall::Write));
    for lsn in [end, Lsn::new(end.get() + 8), Lsn::new(end.get() + (1 << 20)), Lsn::new(!0)] {
        assert!(matches!(log.cut_to(lsn), Err(Error::BeyondEnd { lsn: at, .. }) if at == lsn));
        let refused = log.forget_before(lsn);
        assert!(matches!(refused, Err(Error::BeyondEnd { .. })));
    }
    assert_eq!((disk.fingerprint(), disk.calls(SimCall::Write)), (before, writes));
    let entry = log.wal().head_lsn();
    assert!(matches!(log.cut_to(entry), Err(Error::NotACheckpoint(lsn)) if lsn == entry));
    let inside = log.cut_to(Lsn::new(first.lsn.get() + 8));
    assert!(matches!(inside, Err(Error::Wal(WalError::NotARecord { .. }))));
    assert_eq!((log.wal().end_lsn(), log.committed()), (end, Some(last)));
    assert_eq!(texts(&log), ["a", "b", "c"]);
    log.checkpoint().unwrap();
    assert_eq!(texts(&log), ["a", "b", "c", "pending"]);

    log.forget_before(first.lsn).unwrap();
    log.cut_to(first.lsn).unwrap();
    assert_eq!((texts(&log).len(), log.committed()), (0, Some(first)));
    append(&log, &["d"]);
    assert_eq!(log.checkpoint().unwrap().entries, 3);
    drop(log);
    let log = open(disk.kill()).unwrap();
    assert_eq!(view(&log), [(2, b"d".to_vec())]);
}

#[test]
fn nothing_is_forgotten_before_a_checkpoint_that_a_crash_could_take() {
    let disk = SimStore::new(Profile::Ext4, 1);
    let log = open(disk.clone()).unwrap();
    append(&log, &["a"]);
    let first = log.checkpoint().unwrap();
    append(&log, &["b"]);
    let full = SimFault::new(SimFaultKind::Error(ErrorKind::StorageFull));
    disk.inject(full.on(SimCall::Write).sticky());
    assert!(matches!(log.checkpoint(), Err(Error::Wal(WalError::StorageFull { .. }))));
    disk.heal();
    // The record has its place, and nobody was told that it is durable.
    let lsn = log.wal().last_lsn().unwrap();
    assert!(matches!(log.forget_before(lsn), Err(Error::NotCommitted(at)) if at == lsn));
    assert_eq!((log.committed(), texts(&log)), (Some(first), vec!["a".to_owned()]));
    assert_eq!(log.checkpoint().unwrap().entries, 2);
    log.forget_before(lsn).unwrap();
    assert_eq!(texts(&log).len(), 0);
}

#[test]
fn a_checkpoint_that_says_another_count_is_refused() {
    let store = MemStore::new();
    let log = open(store.clone()).unwrap();
    append(&log, &["a"]);
    log.checkpoint().unwrap();
    drop(log);
    let wal = options().open_store(store.clone()).unwrap();
    wal.append_vectored(&[b"CANON01c", &9_u64.to_le_bytes()]).unwrap();
    wal.close().unwrap();
    assert!(matches!(open(store), Err(Error::Miscounted { says: 9, found: 1, .. })));
}

/// Says that it is over also when the thread that should say so panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn readers_beside_writers_see_what_is_committed_and_all_of_it() {
    const WRITERS: u64 = 3;
    const COMMITS: u64 = 150;
    let store = MemStore::new();
    let log = open(store.clone()).unwrap();
    let over = AtomicBool::new(false);
    let check = |view: Vec<(u64, Vec<u8>)>| {
        let mut next = BTreeMap::new();
        for (wanted, (number, entry)) in (0..).zip(&view) {
            assert_eq!(*number, wanted);
            let text = std::str::from_utf8(entry).unwrap();
            let (writer, number) = text.split_once(' ').unwrap();
            let before = next.insert(writer.to_owned(), number.parse::<u64>().unwrap() + 1);
            assert_eq!(before.unwrap_or(0).to_string(), number);
        }
        view.len() as u64
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                let least = log.committed().map_or(0, |newest| newest.entries);
                assert!(check(view(&log)) >= least);
            }
        });
        let _over = Over(&over);
        let writers = (0..WRITERS).map(|writer| {
            let log = &log;
            scope.spawn(move || {
                for number in 0..2 * COMMITS {
                    log.append(format!("{writer} {number}").as_bytes()).unwrap();
                    if number % 2 == 1 {
                        let checkpoint = log.checkpoint().unwrap();
                        assert!(log.committed().unwrap().entries >= checkpoint.entries);
                    }
                }
            })
        });
        writers.collect::<Vec<_>>().into_iter().for_each(|writer| writer.join().unwrap());
    });
    assert_eq!(check(view(&log)), WRITERS * COMMITS * 2);
    drop(log);
    assert_eq!(check(view(&open(store).unwrap())), WRITERS * COMMITS * 2);
}

#[test]
fn cuts_beside_commits_leave_a_log_that_says_what_it_holds() {
    let store = MemStore::new();
    let log = open(store.clone()).unwrap();
    let base = log.checkpoint().unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !over.load(SeqCst) {
                    log.append(b"entry").unwrap();
                    match log.checkpoint() {
                        Err(Error::Wal(WalError::Truncated { .. })) => {}
                        committed => drop(committed.unwrap().entries.to_string()),
                    }
                }
            });
        }
        scope.spawn(|| {
            while !over.load(SeqCst) {
                for entry in log.entries().unwrap() {
                    match entry {
                        Err(Error::Wal(WalError::Truncated { .. })) => break,
                        entry => assert_eq!(entry.unwrap().1, b"entry"),
                    }
                }
            }
        });
        let _over = Over(&over);
        for _ in 0..2000 {
            log.cut_to(base.lsn).unwrap();
        }
    });
    let committed = log.committed().unwrap();
    assert_eq!(view(&log).len() as u64, committed.entries);
    log.wal().close().unwrap();
    let again = open(store).unwrap();
    assert_eq!(again.committed(), Some(committed));
    assert_eq!(view(&again).len() as u64, committed.entries);
}
