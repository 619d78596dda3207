//! What is dropped while the log works is the store's code as well.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use cohort_wal::{MemStore, Result, Wal, WalError};

use super::ledger::options;
use crate::common::{deadline, read_all};
use crate::faulty::{Fault, FaultyStore, Op, Script};

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
