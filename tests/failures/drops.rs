//! What is dropped while the log works is the store's code as well.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use cohort_wal::{MemStore, Result, Wal, WalError, WalOptions};

use super::ledger::options;
use crate::common::{deadline, deadline_of, read_all};
use crate::faulty::{EIO, ENOSPC, Fault, FaultyStore, Gate, Op, Script};

type Log = Wal<FaultyStore<MemStore>>;

fn log() -> (MemStore, Script, Arc<Log>) {
    let memory = MemStore::new();
    let (store, script) = FaultyStore::over(memory.clone());
    (memory, script, Arc::new(options().open_store(store).unwrap()))
}

#[test]
fn a_panic_that_panics_again_when_it_is_dropped_poisons_like_any_other() {
    deadline(|| {
        for op in [Op::Write, Op::Sync, Op::Create, Op::Publish] {
            for len in [100, 20_000, 200_000] {
                let (memory, script, wal) = log();
                wal.append_and_sync(b"before").unwrap();
                script.fail_once(op, 0, Fault::Bomb);
                let work = || -> Result<()> {
                    wal.append(&vec![7; len])?;
                    wal.rotate()?;
                    wal.append_and_sync(b"after").map(drop)
                };
                let ended = catch_unwind(AssertUnwindSafe(work)).expect("no panic gets out");
                assert!(ended.is_err_and(|error| error.is_poisoned()), "{op:?} {len}");
                let durable = wal.durable_lsn();
                let late = wal.append_and_sync(b"late");
                assert!(late.is_err_and(|error| error.is_poisoned()), "{op:?} {len}");
                assert_eq!(wal.durable_lsn(), durable);
                drop(wal);
                let kept = read_all(&options().open_store(memory).unwrap());
                assert_eq!(kept[0], b"before", "{op:?} {len}");
                assert!(!kept.contains(&b"late".to_vec()));
            }
        }
    });
}

#[test]
fn a_file_that_calls_back_while_it_is_dropped_is_refused_and_hangs_nobody() {
    deadline(|| {
        let (memory, script, wal) = log();
        let known: Arc<OnceLock<Weak<Log>>> = Arc::default();
        known.set(Arc::downgrade(&wal)).unwrap();
        let seen: Arc<Mutex<Vec<Option<WalError>>>> = Arc::default();
        let into = Arc::clone(&seen);
        script.hook(move |op, _| {
            let wal = known.get().and_then(Weak::upgrade);
            if let (Op::Drop, Some(wal)) = (op, wal) {
                let calls = [wal.append(b"x").err(), wal.flush().err(), wal.sync().err()];
                into.lock().unwrap().extend(calls);
            }
        });
        for _ in 0..4 {
            wal.append(b"one").unwrap();
            wal.rotate().unwrap();
            wal.append_and_sync(b"two").unwrap();
            // The segment that was left is durable now, and its file is closed.
            wal.append_and_sync(b"three").unwrap();
        }
        wal.close().unwrap();
        let seen = seen.lock().unwrap();
        assert!(!seen.is_empty(), "files of segments that were left are closed");
        let refused = |error: &Option<WalError>| matches!(error, Some(WalError::Reentrant));
        assert!(seen.iter().all(refused), "{seen:?}");
        assert_eq!(read_all(&options().open_store(memory).unwrap()).len(), 12);
    });
}

/// A segment that was left and is durable is closed by the next leader, even by one that has
/// nothing to sync.
#[test]
fn a_file_that_is_dropped_without_a_sync_may_call_back_and_panic() {
    for panics in [false, true] {
        deadline(move || {
            let (memory, script, wal) = log();
            wal.append(b"one").unwrap();
            wal.rotate().unwrap();
            wal.append_and_sync(b"two").unwrap();
            let known = Arc::downgrade(&wal);
            let seen: Arc<Mutex<Vec<Option<WalError>>>> = Arc::default();
            let into = Arc::clone(&seen);
            script.hook(move |op, _| {
                let (Op::Drop, Some(wal)) = (op, known.upgrade()) else { return };
                let calls = [wal.append(b"x").err(), wal.flush().err(), wal.sync().err()];
                into.lock().unwrap().extend(calls);
                if panics {
                    resume_unwind(Box::new("injected"));
                }
            });
            script.fail_once(Op::Write, 0, ENOSPC);
            let work = || wal.append_and_sync(b"three");
            let failed = catch_unwind(AssertUnwindSafe(work)).expect("no panic gets out");
            assert!(matches!(failed, Err(WalError::StorageFull { .. })), "{failed:?}");
            let seen = std::mem::take(&mut *seen.lock().unwrap());
            assert_eq!(seen.len(), 3, "one file was closed");
            let refused = |error: &Option<WalError>| matches!(error, Some(WalError::Reentrant));
            assert!(seen.iter().all(refused), "{seen:?}");
            wal.sync().unwrap();
            drop(wal);
            assert_eq!(read_all(&options().open_store(memory).unwrap()).len(), 3);
        });
    }
}

/// The background writer is woken by a full ring, and closes what a sync of its own has covered.
#[test]
fn a_file_that_the_background_writer_drops_may_call_back_and_panic() {
    for panics in [false, true] {
        deadline_of(30, move || {
            let memory = MemStore::new();
            let (store, script) = FaultyStore::over(memory.clone());
            let options = WalOptions::new().segment_bytes(256 << 10).max_unsynced_bytes(1 << 20);
            let wal = Arc::new(options.ring_bytes(1 << 20).open_store(store).unwrap());
            let known = Arc::downgrade(&wal);
            let seen: Arc<Mutex<Vec<Option<WalError>>>> = Arc::default();
            let into = Arc::clone(&seen);
            script.hook(move |op, _| {
                let writer = thread::current().name() == Some("cohort-wal-writer");
                let (Op::Drop, true, Some(wal)) = (op, writer, known.upgrade()) else { return };
                let calls = [wal.append(b"x").err(), wal.flush().err(), wal.sync().err()];
                into.lock().unwrap().extend(calls);
                if panics {
                    resume_unwind(Box::new("injected"));
                }
            });
            while seen.lock().unwrap().len() < 12 {
                wal.append(&[7; 1_000]).unwrap();
            }
            wal.close().unwrap();
            let seen = seen.lock().unwrap();
            let refused = |error: &Option<WalError>| matches!(error, Some(WalError::Reentrant));
            assert!(seen.iter().all(refused), "{seen:?}");
            assert!(read_all(&self::options().open_store(memory).unwrap()).len() > 1_000);
        });
    }
}

/// The second failure of a log is dropped, and with it what the store put into it.
#[test]
fn an_error_that_closes_the_log_while_it_is_dropped_hangs_nobody() {
    deadline(|| {
        let (memory, script, wal) = log();
        wal.append_and_sync(b"before").unwrap();
        let known = Arc::downgrade(&wal);
        let gates: [Arc<Gate>; 2] = Default::default();
        let [in_sync, in_write] = gates.clone();
        let closed: Arc<Mutex<Option<Result<()>>>> = Arc::default();
        let into = Arc::clone(&closed);
        script.hook(move |op, name| match (op, name, thread::current().name()) {
            (Op::Sync, _, Some("first")) => in_sync.pass(),
            (Op::Write, _, Some("second")) => in_write.pass(),
            (Op::Drop, "error", _) => {
                *into.lock().unwrap() = known.upgrade().map(|wal| wal.close())
            }
            _ => {}
        });
        let start = |name: &str, work: fn(&Log) -> Result<()>| {
            let wal = Arc::clone(&wal);
            thread::Builder::new().name(name.into()).spawn(move || work(&wal)).unwrap()
        };
        let [in_sync, in_write] = gates;
        script.fail_once(Op::Sync, 0, EIO);
        let first = start("first", |wal| wal.append_and_sync(b"one").map(drop));
        in_sync.wait_for_arrival();
        script.fail_once(Op::Write, 0, Fault::Watched);
        let second = start("second", |wal| wal.append(b"two").and_then(|_| wal.flush()));
        in_write.wait_for_arrival();
        in_sync.open();
        assert!(first.join().unwrap().is_err_and(|error| error.is_poisoned()));
        in_write.open();
        assert!(second.join().unwrap().is_err_and(|error| error.is_poisoned()));
        assert!(matches!(*closed.lock().unwrap(), Some(Err(WalError::Reentrant))));
        drop(wal);
        assert_eq!(read_all(&options().open_store(memory).unwrap())[0], b"before");
    });
}

/// A store that knows its log weakly may be the last to let go of it, in a stage.
#[test]
fn the_last_handle_dropped_inside_a_stage_closes_the_log_all_the_same() {
    deadline_of(30, || {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let wal = Arc::new(WalOptions::new().ring_bytes(1 << 20).open_store(store).unwrap());
        let known = Arc::downgrade(&wal);
        let left_to = Arc::new(Mutex::new(None));
        let offer = Arc::clone(&left_to);
        script.hook(move |op, _| {
            let writer = thread::current().name() == Some("cohort-wal-writer");
            let Some(wal) = known.upgrade().filter(|_| op == Op::Write && writer) else { return };
            *offer.lock().unwrap() = Some(false);
            // An appender that waits for this stage cannot let go of its handle.
            for _ in 0..50 {
                thread::sleep(Duration::from_millis(1));
                if *offer.lock().unwrap() == Some(true) {
                    break;
                }
            }
            let taken = offer.lock().unwrap().take() == Some(true);
            while taken && Arc::strong_count(&wal) > 1 {
                thread::yield_now();
            }
        });
        let mut appended = 0;
        loop {
            wal.append(&[7; 1_000]).unwrap();
            appended += 1;
            // Slower than the writer, so that the ring has room while that is in its stage.
            thread::sleep(Duration::from_micros(u64::from(appended % 64 == 0) * 1_000));
            if let Some(taken) = left_to.lock().unwrap().as_mut() {
                *taken = true;
                break;
            }
        }
        drop(wal);
        let again = loop {
            match options().open_store(memory.clone()) {
                Err(WalError::Locked { .. }) => thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        assert!(again.recovery().clean);
        assert_eq!(read_all(&again).len(), appended);
    });
}
