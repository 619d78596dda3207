//! What a truncation, a cut or a checkpoint leaves undone when there is no space, or when a file
//! cannot be removed, is finished by the next one and endangers nothing meanwhile. And what a store
//! that calls back from inside one is told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use std::cell::Cell;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};

use cohort_wal::{Lsn, MemStore, Wal, WalError};

use common::{deadline, deadline_of, names, read_all, smallest as options};
use faulty::{EIO, ENOSPC, Fault, FaultyStore, Op, Script};

/// No space, and some of the bytes are there all the same.
const LATE_FULL: Fault = Fault::Late(ErrorKind::StorageFull);

/// A log of durable records, and what makes it fail.
struct Filled {
    memory: MemStore,
    script: Script,
    wal: Wal<FaultyStore<MemStore>>,
    lsns: Vec<Lsn>,
}

impl Filled {
    fn with(records: u8) -> Self {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let wal = options().open_store(store).unwrap();
        let append = |number: u8| wal.append(&[number; 1000]).unwrap();
        let lsns = (0..records).map(append).collect();
        wal.sync().unwrap();
        Self { memory, script, wal, lsns }
    }
}

#[test]
fn the_retry_of_a_half_checkpoint_gives_the_space_back() {
    deadline(|| {
        let Filled { memory, script, wal, lsns } = Filled::with(60);
        wal.checkpoint(lsns[2], |out| out.write_all(b"old")).unwrap();
        let before = names(&memory, ".wal").len();
        script.fail_once(Op::Write, 5, ENOSPC);
        let made = wal.checkpoint(lsns[50], |out| out.write_all(b"image"));
        assert!(matches!(made, Err(WalError::StorageFull { .. })), "{made:?}");
        script.heal();
        wal.checkpoint(lsns[50], |out| out.write_all(b"image")).unwrap();
        let (segments, snaps) = (names(&memory, ".wal").len(), names(&memory, ".snap"));
        assert!(segments < before && snaps.len() == 1, "{before} {segments} {snaps:?}");
    });
}

#[test]
fn the_retry_of_a_half_truncation_removes_the_snapshot() {
    deadline(|| {
        let Filled { memory, script, wal, lsns } = Filled::with(60);
        wal.checkpoint(lsns[2], |out| out.write_all(b"old")).unwrap();
        script.fail_once(Op::Write, 1, ENOSPC);
        let made = wal.truncate_before(lsns[50]);
        assert!(matches!(made, Err(WalError::StorageFull { .. })), "{made:?}");
        script.heal();
        wal.truncate_before(lsns[50]).unwrap();
        wal.truncate_before(lsns[55]).unwrap();
        assert_eq!(names(&memory, ".snap").len(), 0, "{:?}", names(&memory, ".snap"));
    });
}

#[test]
fn a_snapshot_that_could_not_be_removed_goes_with_the_next_truncation() {
    deadline(|| {
        let Filled { memory, script, wal, lsns } = Filled::with(12);
        wal.checkpoint(lsns[2], |out| out.write_all(b"old")).unwrap();
        script.fail_always(Op::Remove, EIO);
        let made = wal.checkpoint(lsns[4], |out| out.write_all(b"image"));
        assert!(matches!(made, Err(WalError::Io { operation: "remove", .. })), "{made:?}");
        script.heal();
        wal.checkpoint(lsns[5], |out| out.write_all(b"image")).unwrap();
        wal.truncate_before(lsns[9]).unwrap();
        assert_eq!(names(&memory, ".snap").len(), 0, "{:?}", names(&memory, ".snap"));
    });
}

#[test]
fn a_checkpoint_that_found_no_space_leaves_no_image() {
    deadline(|| {
        let Filled { memory, script, wal, lsns } = Filled::with(12);
        for lsn in &lsns[2..8] {
            script.fail_once(Op::Write, 4, ENOSPC);
            let made = wal.checkpoint(*lsn, |out| out.write_all(b"image"));
            assert!(matches!(made, Err(WalError::StorageFull { .. })), "{made:?}");
            script.heal();
        }
        wal.checkpoint(lsns[9], |out| out.write_all(b"image")).unwrap();
        assert_eq!(names(&memory, ".snap").len(), 1, "{:?}", names(&memory, ".snap"));
    });
}

#[test]
fn a_cut_below_a_head_that_found_no_space_survives_a_crash() {
    deadline(|| {
        let Filled { memory, script, wal, lsns } = Filled::with(60);
        script.fail_once(Op::Write, 0, LATE_FULL);
        let moved = wal.truncate_before(lsns[50]);
        assert!(matches!(moved, Err(WalError::StorageFull { .. })), "{moved:?}");
        script.heal();
        assert_eq!(wal.head_lsn(), Lsn::new(0));
        let crashed = Arc::new(Mutex::new(None));
        let (into, of) = (Arc::clone(&crashed), memory.clone());
        script.hook(move |op, name| {
            if op == Op::Write && name == "CONTROL" {
                into.lock().unwrap().get_or_insert_with(|| of.snapshot());
            }
        });
        wal.truncate_after(lsns[9]).unwrap();
        let crashed = crashed.lock().unwrap().take().unwrap();
        let again = options().open_store(MemStore::from_snapshot(crashed));
        let again = again.unwrap_or_else(|error| panic!("refused: {error}"));
        assert_eq!(read_all(&again).len(), 10, "head {}", again.head_lsn());
    });
}

#[test]
fn a_checkpoint_made_again_for_want_of_space_survives_a_crash() {
    deadline(|| {
        let Filled { memory, script, wal, lsns } = Filled::with(60);
        script.fail_once(Op::Write, 4, LATE_FULL);
        let made = wal.checkpoint(lsns[50], |out| out.write_all(b"image"));
        assert!(matches!(made, Err(WalError::StorageFull { .. })), "{made:?}");
        script.heal();
        let crashed = Arc::new(Mutex::new(None));
        let (into, of) = (Arc::clone(&crashed), memory.clone());
        script.hook(move |op, _| {
            if op == Op::Publish {
                into.lock().unwrap().get_or_insert_with(|| of.snapshot());
            }
        });
        wal.checkpoint(lsns[50], |out| out.write_all(b"image")).unwrap();
        let crashed = crashed.lock().unwrap().take().unwrap();
        let again = options().open_store(MemStore::from_snapshot(crashed));
        let again = again.unwrap_or_else(|error| panic!("refused: {error}"));
        assert!(read_all(&again).len() >= 10, "head {}", again.head_lsn());
    });
}

#[test]
fn a_log_whose_head_is_inside_a_batch_can_be_emptied() {
    deadline(|| {
        for more in [false, true] {
            let memory = MemStore::new();
            let wal = options().open_store(memory.clone()).unwrap();
            wal.append(b"one").unwrap();
            let batch = wal.append_batch(&["a", "b", "c"]).unwrap();
            wal.sync().unwrap();
            wal.truncate_before(batch[1]).unwrap();
            wal.truncate_from(wal.head_lsn()).unwrap();
            if more {
                wal.append_and_sync(b"next").unwrap();
            }
            let crashed = MemStore::from_snapshot(memory.snapshot());
            let again = options().open_store(crashed).unwrap();
            assert_eq!(read_all(&again).len(), usize::from(more));
            assert_eq!(again.end_lsn(), wal.end_lsn());
        }
    });
}

thread_local! { static INSIDE: Cell<bool> = const { Cell::new(false) }; }

/// A store that calls back while it is read for a truncation.
fn reading_calls_back(
    deed: fn(&Wal<FaultyStore<MemStore>>) -> Result<(), WalError>,
    under: fn(&Wal<FaultyStore<MemStore>>, Lsn) -> Result<(), WalError>,
) {
    deadline_of(5, move || {
        let Filled { script, wal, lsns, .. } = Filled::with(12);
        let wal = Arc::new(wal);
        let log: Arc<OnceLock<Weak<Wal<FaultyStore<MemStore>>>>> = Arc::default();
        log.set(Arc::downgrade(&wal)).unwrap();
        let called = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&called);
        script.hook(move |op, _| {
            if op == Op::Read && !INSIDE.replace(true) {
                let wal = log.get().unwrap().upgrade().unwrap();
                let refused = deed(&wal);
                assert!(matches!(refused, Err(WalError::Reentrant)), "{refused:?}");
                told.store(true, Relaxed);
                INSIDE.set(false);
            }
        });
        under(&wal, lsns[5]).unwrap();
        assert!(called.load(Relaxed), "the store was not read");
    });
}

#[test]
fn a_store_that_closes_the_log_while_a_cut_reads_hangs_nobody() {
    reading_calls_back(Wal::close, |wal, lsn| wal.truncate_after(lsn));
}

#[test]
fn a_store_that_truncates_while_a_truncation_reads_hangs_nobody() {
    reading_calls_back(
        |wal| wal.truncate_before(Lsn::new(0)).map(drop),
        |wal, lsn| wal.truncate_before(lsn).map(drop),
    );
}
