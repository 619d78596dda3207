//! Intervals: what nobody syncs becomes durable, failures surface, and idle logs do nothing.
//!
//! Method: a store in memory behind a script. Nothing is measured in time: a short interval is
//! waited for until it has done what it must, and a long one must have done nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cohort_wal::{MemStore, Wal, WalError, WalOptions, WalStore};

use common::{deadline, read_all, smallest};
use faulty::{EIO, ENOSPC, FaultyStore, Op, Script};

const SHORT: Duration = Duration::from_millis(1);
const LONG: Duration = Duration::from_secs(3600);

type FaultyWal = Wal<FaultyStore<MemStore>>;

fn open(options: WalOptions) -> (Arc<FaultyWal>, Script, MemStore) {
    let memory = MemStore::new();
    let (store, script) = FaultyStore::over(memory.clone());
    (Arc::new(options.open_store(store).unwrap()), script, memory)
}

fn wait_until(condition: impl Fn() -> bool) {
    while !condition() {
        thread::yield_now();
    }
}

fn is_durable<S: WalStore>(wal: &Wal<S>) -> bool {
    wal.durable_lsn() == wal.end_lsn()
}

#[test]
fn what_is_appended_becomes_durable_again_and_again() {
    deadline(|| {
        let (wal, _, _) = open(smallest().sync_interval(SHORT));
        for number in 0..20_u64 {
            wal.append(b"record").unwrap();
            wait_until(|| is_durable(&wal));
            assert!(wal.stats().syncs > number, "one for each");
        }
        assert_eq!(wal.stats().commits, 0, "they are commits of nobody's");
    });
}

#[test]
fn what_is_appended_is_handed_over_again_and_again() {
    deadline(|| {
        let (wal, _, memory) = open(smallest().flush_interval(SHORT));
        for number in 0..20_u64 {
            wal.append(b"record").unwrap();
            wait_until(|| wal.stats().flushes > number);
        }
        assert_eq!(wal.stats().syncs, 0);
        // The process dies here.
        let left = MemStore::from_snapshot(memory.snapshot());
        let reopened = WalOptions::new().open_store(left).unwrap();
        assert_eq!(reopened.iter().unwrap().count(), 20);
    });
}

#[test]
fn both_may_be_on() {
    deadline(|| {
        let (wal, _, _) = open(smallest().flush_interval(SHORT).sync_interval(SHORT * 3));
        for _ in 0..10 {
            wal.append(b"record").unwrap();
            wait_until(|| is_durable(&wal));
        }
    });
}

#[test]
fn a_long_interval_does_nothing_yet_and_holds_up_no_close() {
    deadline(|| {
        let (wal, _, _) = open(smallest().sync_interval(LONG).flush_interval(LONG));
        wal.append(b"record").unwrap();
        assert_eq!((wal.stats().syncs, wal.stats().flushes), (0, 0));
        wal.close().unwrap();
        assert_eq!(wal.stats().syncs, 1);
    });
}

#[test]
fn writers_that_never_sync_rotate_and_truncate_are_kept_durable() {
    deadline(|| {
        let (wal, _, memory) = open(smallest().sync_interval(SHORT));
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let wal = Arc::clone(&wal);
                thread::spawn(move || (0..500).for_each(|_| assert!(wal.append(&[5; 300]).is_ok())))
            })
            .collect();
        common::join_all(writers);
        let last = wal.append(&[6; 5000]).unwrap();
        wait_until(|| is_durable(&wal));
        assert_eq!(wal.iter().unwrap().count(), 2001);
        wal.truncate_before(last).unwrap();
        wal.append(b"cut off").unwrap();
        wal.truncate_after(last).unwrap();
        wal.append(b"behind the cut").unwrap();
        wait_until(|| is_durable(&wal));
        let left = MemStore::from_snapshot(memory.snapshot());
        let reopened = WalOptions::new().open_store(left).unwrap();
        assert_eq!(read_all(&reopened), [&[6; 5000][..], b"behind the cut"]);
    });
}

#[test]
fn a_failed_sync_surfaces_on_the_next_call() {
    deadline(|| {
        let (wal, script, _) = open(smallest().sync_interval(SHORT));
        script.fail_once(Op::Sync, 0, EIO);
        wal.append(b"lost").unwrap();
        // Without a call that appends or syncs.
        wait_until(|| wal.poisoned().is_some_and(|error| error.is_poisoned()));
        assert!(wal.append(b"later").is_err());
        assert!(wal.sync().is_err_and(|error| error.is_poisoned()));
        assert!(wal.close().is_err());
        assert!(wal.poisoned().is_some(), "for good");
    });
}

/// A log whose interval has met a full disk and has told an append so, and how many records it has.
fn told_of_a_full_disk() -> (Arc<FaultyWal>, Script, usize) {
    // The ring has room for more than is appended here, so that no appender has to try.
    let (wal, script, _) = open(smallest().ring_bytes(8 << 20).sync_interval(SHORT));
    let before = script.calls(Op::Write);
    script.fail_always(Op::Write, ENOSPC);
    wal.append(b"waits in the ring").unwrap();
    wait_until(|| script.calls(Op::Write) > before);
    let mut appended = 1;
    // It has failed and has yet to say so.
    let told = loop {
        match wal.append(b"as well") {
            Ok(_) => appended += 1,
            Err(error) => break error,
        }
        thread::sleep(SHORT);
    };
    assert!(matches!(told, WalError::StorageFull { .. }), "{told}");
    thread::sleep(SHORT * 5);
    let tries = script.calls(Op::Write) - before;
    assert_eq!(tries, 1, "nothing is retried behind the caller's back");
    (wal, script, appended)
}

#[test]
fn a_full_disk_surfaces_once_and_the_interval_goes_on_with_the_next_append() {
    deadline(|| {
        let (wal, script, appended) = told_of_a_full_disk();
        script.heal();
        wal.append(b"goes on").unwrap();
        wait_until(|| is_durable(&wal));
        assert_eq!(wal.iter().unwrap().count(), appended + 1);
    });
}

#[test]
fn a_sync_of_the_callers_tries_again_itself() {
    deadline(|| {
        let (wal, script, appended) = told_of_a_full_disk();
        script.heal();
        // Nobody is told of it twice.
        wal.sync().unwrap();
        assert!(is_durable(&wal));
        assert_eq!(wal.iter().unwrap().count(), appended);
    });
}

#[test]
fn dropping_the_log_ends_its_intervals() {
    deadline(|| {
        for _ in 0..50 {
            let store = MemStore::new();
            let wal = smallest().sync_interval(SHORT).open_store(store.clone()).unwrap();
            wal.append(b"kept").unwrap();
            drop(wal);
            assert_eq!(smallest().open_store(store).unwrap().iter().unwrap().count(), 1);
        }
    });
}
