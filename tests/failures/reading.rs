//! A reader beside a log whose sync fails.

use std::sync::Arc;
use std::thread;

use cohort_wal::{MemStore, StoreFile, WalStore};

use super::ledger::options;
use crate::common::deadline;
use crate::faulty::{EIO, FaultyStore, Gate, Op};

/// As some file systems do it: what a sync fails to write is gone from the page cache before
/// anybody is told.
fn lose(disk: &MemStore, payload: &[u8]) {
    for name in disk.list().unwrap().iter().filter(|name| name.ends_with(".wal")) {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        file.read_at(0, &mut bytes).unwrap();
        if let Some(at) = bytes.windows(payload.len()).position(|window| window == payload) {
            file.write_at(at as u64, &vec![0; payload.len()]).unwrap();
        }
    }
}

#[test]
fn what_a_failing_sync_loses_is_no_damage_to_a_reader() {
    for named in [false, true] {
        deadline(move || {
            let memory = MemStore::new();
            let (store, script) = FaultyStore::over(memory.clone());
            let wal = Arc::new(options().open_store(store).unwrap());
            wal.append_and_sync(b"durable").unwrap();
            let doubtful = wal.append(b"doubtful").unwrap();
            let in_sync = Arc::new(Gate::default());
            let (disk, gate) = (memory.clone(), Arc::clone(&in_sync));
            script.hook(move |op, _| {
                if op == Op::Sync {
                    lose(&disk, b"doubtful");
                    gate.pass();
                }
            });
            script.fail_once(Op::Sync, 0, EIO);
            let committer = Arc::clone(&wal);
            let committer = thread::spawn(move || committer.sync());
            in_sync.wait_for_arrival();
            let reader = Arc::clone(&wal);
            let reads = script.calls(Op::Read);
            let reader = thread::spawn(move || {
                if named {
                    return reader.iter_from(doubtful).map(drop);
                }
                let mut records = reader.iter()?;
                assert_eq!(records.next().unwrap()?.data(), b"durable");
                let end = records.next().unwrap().map(drop);
                assert!(records.next().is_none());
                end
            });
            while script.calls(Op::Read) == reads {
                thread::yield_now();
            }
            in_sync.open();
            assert!(committer.join().unwrap().unwrap_err().is_poisoned());
            let read = reader.join().unwrap();
            assert!(matches!(&read, Err(lost) if lost.is_poisoned()), "{read:?}");
        });
    }
}

#[test]
fn what_is_damaged_before_it_is_durable_is_damage_once_it_is() {
    deadline(|| {
        let memory = MemStore::new();
        let wal = options().open_store(memory.clone()).unwrap();
        wal.append(b"damaged").unwrap();
        wal.flush().unwrap();
        lose(&memory, b"damaged");
        let read = wal.iter().unwrap().next().unwrap();
        assert!(matches!(&read, Err(damage) if damage.is_corruption()), "{read:?}");
        assert_eq!(wal.durable_lsn(), wal.end_lsn(), "it is durable, and it is not whole");
    });
}
