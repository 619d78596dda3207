//! Stores that fail, fill up, panic or call back: nobody hangs, nothing acknowledged is lost, and
//! what can be retried goes on.
//!
//! Method: a store in memory behind a script that makes chosen calls fail ([`faulty`]). The store
//! underneath keeps every byte it was handed, so a reopen on it shows what a crash of the process
//! would have left. Gates inside the store fix the order of events; every test has a deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;
#[path = "faults/sweep.rs"]
mod sweep;

use std::io::ErrorKind;
use std::sync::{Arc, Barrier, Mutex, OnceLock, Weak};
use std::thread;

use cohort_wal::{Lsn, MemStore, Wal, WalError, WalOptions, WalStore};

use common::{deadline, join_all, read_all};
use faulty::{EIO, ENOSPC, Fault, FaultyStore, Gate, Op, Script};

type FaultyWal = Wal<FaultyStore<MemStore>>;

fn small() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

/// A log over a store in memory, which is returned as well.
fn open() -> (Arc<FaultyWal>, Script, MemStore) {
    let memory = MemStore::new();
    let (store, script) = FaultyStore::over(memory.clone());
    (Arc::new(small().open_store(store).unwrap()), script, memory)
}

fn assert_poisoned<T: std::fmt::Debug>(result: Result<T, WalError>, operation: &str) {
    match result {
        Err(WalError::Poisoned { cause }) => {
            assert!(matches!(&*cause, WalError::Io { operation: o, .. } if *o == operation));
        }
        other => panic!("{other:?}"),
    }
}

/// Every way to make something durable or to append fails alike, for good, with the first cause.
fn assert_poisoned_for_good(wal: &FaultyWal, operation: &str) {
    for _ in 0..2 {
        assert_poisoned(wal.append(b"late"), operation);
        assert_poisoned(wal.append(&[0; 100_000]), operation);
        assert_poisoned(wal.append_vectored(&[b"la", b"te"]), operation);
        assert_poisoned(wal.append_and_sync(b"late"), operation);
        assert_poisoned(wal.append_batch(&["late", "later"]), operation);
        assert_poisoned(wal.append_batch::<&str>(&[]), operation);
        assert_poisoned(wal.append_batch_and_sync(&["late"]), operation);
        assert_poisoned(wal.flush(), operation);
        assert_poisoned(wal.sync(), operation);
        assert_poisoned(wal.rotate(), operation);
    }
}

/// A sync is held at a gate until eight records are in; then it ends as `fault` says.
fn eight_waiters_see_a_sync_end_with(fault: Fault) {
    deadline(move || {
        let (wal, script, memory) = open();
        let kept = wal.append_and_sync(b"kept").unwrap();
        let durable = wal.durable_lsn();
        let gate = Arc::new(Gate::default());
        let at_gate = Arc::clone(&gate);
        script.hook(move |op, _| {
            if op == Op::Sync {
                at_gate.pass();
            }
        });
        script.fail_once(Op::Sync, 0, fault);
        let leader = Arc::clone(&wal);
        let leader = thread::spawn(move || leader.append_and_sync(b"doubtful"));
        gate.wait_for_arrival();
        let appended = Arc::new(Barrier::new(9));
        let waiters = (0..8).map(|number| {
            let (wal, appended) = (Arc::clone(&wal), Arc::clone(&appended));
            thread::spawn(move || {
                let lsn = wal.append(b"hopeless").unwrap();
                appended.wait();
                if number % 2 == 0 { wal.wait_durable(lsn) } else { wal.sync() }
            })
        });
        let waiters: Vec<_> = waiters.collect();
        appended.wait();
        gate.open();
        assert_poisoned(leader.join().unwrap(), "sync");
        for result in join_all(waiters) {
            assert_poisoned(result, "sync");
        }
        assert_eq!(wal.durable_lsn(), durable);
        let calls = script.calls(Op::Sync);
        assert_poisoned_for_good(&wal, "sync");
        assert_eq!(script.calls(Op::Sync), calls, "nothing is retried");
        assert_eq!(wal.durable_lsn(), durable);
        wal.wait_durable(kept).unwrap();
        assert_eq!(read_all(&wal), [b"kept"], "what is durable stays readable");
        assert!(matches!(small().open_store(memory.clone()), Err(WalError::Locked { .. })));
        assert_poisoned(wal.close(), "sync");
        let reopened = small().open_store(memory).unwrap();
        assert_eq!(read_all(&reopened)[0], b"kept");
        wal.close().unwrap();
        assert!(matches!(wal.append(b"late"), Err(WalError::Closed | WalError::Poisoned { .. })));
    });
}

#[test]
fn a_failed_sync_fails_every_waiter_and_every_later_call() {
    eight_waiters_see_a_sync_end_with(EIO);
}

#[test]
fn a_sync_that_runs_out_of_space_is_final() {
    eight_waiters_see_a_sync_end_with(ENOSPC);
}

#[test]
fn a_panic_in_sync_fails_every_waiter_and_every_later_call() {
    eight_waiters_see_a_sync_end_with(Fault::Panic);
}

#[test]
fn a_failed_or_panicking_write_poisons() {
    for fault in [EIO, Fault::Short(ErrorKind::Other), Fault::Panic] {
        deadline(move || {
            let (wal, script, memory) = open();
            wal.append_and_sync(b"kept").unwrap();
            wal.append(b"doubtful").unwrap();
            script.fail_once(Op::Write, 0, fault);
            let syncs = script.calls(Op::Sync);
            assert_poisoned(wal.flush(), "write");
            assert_poisoned_for_good(&wal, "write");
            assert_eq!(read_all(&wal), [b"kept"]);
            assert_poisoned(wal.close(), "write");
            assert_eq!(script.calls(Op::Sync), syncs, "nothing is synced after poison");
            let reopened = small().open_store(memory).unwrap();
            assert_eq!(read_all(&reopened)[0], b"kept");
        });
    }
}

#[test]
fn a_failed_large_write_poisons() {
    for fault in [EIO, Fault::Short(ErrorKind::Other), Fault::Panic] {
        deadline(move || {
            let (wal, script, memory) = open();
            wal.append_and_sync(b"kept").unwrap();
            script.fail_once(Op::Write, 0, fault);
            assert!(wal.append(&[9; 5_000]).unwrap_err().is_poisoned());
            assert_poisoned_for_good(&wal, "write");
            assert_poisoned(wal.close(), "write");
            assert_eq!(read_all(&small().open_store(memory).unwrap()), [b"kept"]);
        });
    }
}

/// The last write before a crash stops in the middle of a batch, wherever that is.
#[test]
fn a_batch_that_was_partly_written_is_not_there_at_all() {
    for len in [100, 700] {
        deadline(move || {
            let (wal, script, memory) = open();
            wal.append_and_sync(b"kept").unwrap();
            let end = wal.end_lsn();
            script.fail_once(Op::Write, 0, Fault::Short(ErrorKind::Other));
            let batch = vec![vec![1; len]; 5];
            wal.append_batch(&batch).and_then(|_| wal.flush()).unwrap_err();
            assert_eq!(read_all(&small().open_store(copy(&memory)).unwrap()), [b"kept"]);
            drop(wal);
            // The same with every other part of the batch.
            let whole = copy(&memory);
            let wal = small().open_store(whole.clone()).unwrap();
            assert_eq!(wal.end_lsn(), end);
            let names = whole.list().unwrap().into_iter();
            let active = names.filter(|name| name.ends_with("wal")).max().unwrap();
            wal.append_batch(&batch).unwrap();
            wal.flush().unwrap();
            let crashed = whole.snapshot();
            let bytes = crashed.files()[&active].clone();
            for cut in (8_192..=bytes.len()).step_by(5).chain([bytes.len()]) {
                let mut torn = crashed.clone();
                torn.files_mut().get_mut(&active).unwrap()[cut..].fill(0);
                let read = read_all(&small().open_store(MemStore::from_snapshot(torn)).unwrap());
                let lost = bytes[cut..].iter().any(|byte| *byte != 0);
                assert_eq!(read.len(), if lost { 1 } else { 6 }, "cut at {cut}");
            }
        });
    }
}

fn copy(memory: &MemStore) -> MemStore {
    MemStore::from_snapshot(memory.snapshot())
}

/// Runs out of space in calls of `op`, with records that force such a call.
fn runs_out_of_space_in(op: Op, fault: Fault) {
    deadline(move || {
        let (wal, script, memory) = open();
        wal.append_and_sync(&[0; 1_000]).unwrap();
        let mut expected = vec![vec![0; 1_000]];
        // More than a segment holds, less than the ring does, so that each append succeeds.
        for byte in 1..=20 {
            wal.append(&[byte; 1_000]).unwrap();
            expected.push(vec![byte; 1_000]);
        }
        script.fail_always(op, fault);
        for _ in 0..3 {
            let calls = script.calls(op);
            let refused = wal.sync().unwrap_err();
            assert!(refused.is_retryable(), "{refused:?}");
            assert!(matches!(refused, WalError::StorageFull { .. }));
            assert_eq!(script.calls(op), calls + 1, "one call tries once");
        }
        assert!(matches!(wal.flush(), Err(WalError::StorageFull { .. })));
        let mut appended = 0;
        let refused = loop {
            match wal.append(&[30; 1_000]) {
                Ok(_) => expected.push(vec![30; 1_000]),
                Err(error) => break error,
            }
            appended += 1;
            assert!(appended < 100, "the ring is full some day");
        };
        assert!(matches!(refused, WalError::StorageFull { .. }), "{refused:?}");
        assert!(matches!(wal.append(&[31; 9_000]), Err(WalError::StorageFull { .. })));
        assert!(matches!(wal.close(), Err(WalError::StorageFull { .. })));
        assert!(matches!(wal.append(b"late"), Err(WalError::Closed)));
        assert!(matches!(small().open_store(memory.clone()), Err(WalError::Locked { .. })));
        script.heal();
        wal.close().unwrap();
        let reopened = small().open_store(memory).unwrap();
        assert!(reopened.recovery().clean);
        assert!(read_all(&reopened) == expected, "nothing is lost");
    });
}

#[test]
fn running_out_of_space_loses_nothing_and_ends_when_there_is_space() {
    runs_out_of_space_in(Op::Write, ENOSPC);
    runs_out_of_space_in(Op::Write, Fault::Short(ErrorKind::StorageFull));
    runs_out_of_space_in(Op::Write, Fault::Fail(ErrorKind::QuotaExceeded));
    runs_out_of_space_in(Op::Create, ENOSPC);
    runs_out_of_space_in(Op::Publish, ENOSPC);
}

#[test]
fn the_log_goes_on_after_a_full_disk_without_being_closed() {
    deadline(|| {
        let (wal, script, memory) = open();
        wal.append(b"first").unwrap();
        script.fail_always(Op::Write, Fault::Short(ErrorKind::StorageFull));
        assert!(matches!(wal.sync(), Err(WalError::StorageFull { .. })));
        assert!(matches!(wal.append(&[5; 5_000]), Err(WalError::StorageFull { .. })));
        script.heal();
        let lsn = wal.append_and_sync(b"second").unwrap();
        wal.append(&[6; 5_000]).unwrap();
        wal.sync().unwrap();
        let expected = [b"first".to_vec(), b"second".to_vec(), vec![6; 5_000]];
        assert!(read_all(&wal) == expected);
        drop(wal);
        let reopened = small().open_store(memory).unwrap();
        assert!(read_all(&reopened) == expected);
        assert_eq!(reopened.iter_from(lsn).unwrap().count(), 2);
    });
}

#[test]
fn every_waiter_learns_of_a_full_disk_once_and_the_written_ones_succeed() {
    deadline(|| {
        let (wal, script, _) = open();
        let early = wal.append(b"early").unwrap();
        wal.flush().unwrap();
        script.fail_always(Op::Write, ENOSPC);
        let start = Arc::new(Barrier::new(8));
        let waiters = (0..8).map(|number| {
            let (wal, start) = (Arc::clone(&wal), Arc::clone(&start));
            thread::spawn(move || {
                let lsn = if number == 0 { early } else { wal.append(b"late").unwrap() };
                start.wait();
                (number, wal.wait_durable(lsn))
            })
        });
        for (number, result) in join_all(waiters.collect()) {
            match number {
                0 => result.unwrap(),
                _ => assert!(matches!(result, Err(WalError::StorageFull { .. })), "{result:?}"),
            }
        }
        script.heal();
        wal.sync().unwrap();
        assert_eq!(wal.iter().unwrap().count(), 8);
    });
}

#[test]
fn a_store_that_calls_back_is_refused_and_harms_nobody() {
    deadline(|| {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let slot: Arc<OnceLock<Weak<FaultyWal>>> = Arc::default();
        let seen: Arc<Mutex<Vec<(Op, WalError)>>> = Arc::default();
        let (from, into) = (Arc::clone(&slot), Arc::clone(&seen));
        script.hook(move |op, _| {
            let Some(wal) = from.get().and_then(Weak::upgrade) else { return };
            if !matches!(op, Op::Write | Op::Sync | Op::Create | Op::Publish) {
                return;
            }
            let errors = [
                wal.append(b"x").err(),
                wal.append(&[0; 5_000]).err(),
                wal.append_and_sync(b"x").err(),
                wal.append_batch(&["x"]).err(),
                wal.append_batch::<&str>(&[]).err(),
                wal.flush().err(),
                wal.sync().err(),
                wal.rotate().err(),
                wal.wait_durable(Lsn::new(0)).err(),
                wal.iter().err(),
                wal.close().err(),
            ];
            let errors = errors.map(|error| (op, error.expect("a call from a stage")));
            into.lock().unwrap().extend(errors);
            // Values are there for everybody.
            assert!(wal.durable_lsn() <= wal.end_lsn() && wal.stats().appends > 0);
        });
        let wal = Arc::new(small().open_store(store).unwrap());
        slot.set(Arc::downgrade(&wal)).unwrap();
        wal.append_and_sync(b"one").unwrap();
        wal.append(&[2; 5_000]).unwrap();
        wal.rotate().unwrap();
        wal.append_and_sync(b"three").unwrap();
        wal.close().unwrap();
        let seen = seen.lock().unwrap();
        for op in [Op::Write, Op::Sync, Op::Create, Op::Publish] {
            assert!(seen.iter().any(|(seen, _)| *seen == op), "{op:?} was called");
        }
        for (op, error) in &*seen {
            assert!(matches!(error, WalError::Reentrant), "{op:?}: {error:?}");
        }
        let reopened = small().open_store(memory).unwrap();
        assert!(read_all(&reopened) == [b"one".to_vec(), vec![2; 5_000], b"three".to_vec()]);
    });
}
