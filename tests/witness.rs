//! What speaks for the newest records: a later cohort, a heartbeat, a close, the caller.
//!
//! Method: the newest record of a log is damaged on the disk of a process that died. Without a
//! witness that is a torn tail. Each witness turns it into what it is.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::thread::sleep;
use std::time::Duration;

use cohort_wal::{Lsn, MemSnapshot, MemStore, Wal, WalError};

use common::{deadline, read_all, smallest as options};

/// What the disk has when the last of these records is damaged.
fn damaged(mut disk: MemSnapshot, record: &[u8]) -> MemStore {
    let holds = |bytes: &[u8]| bytes.windows(record.len()).position(|window| window == record);
    let found = disk.files_mut().values_mut().find_map(|bytes| Some((holds(bytes)?, bytes)));
    let (place, bytes) = found.expect("the record is on the disk");
    bytes[place] ^= 1;
    MemStore::from_snapshot(disk)
}

fn two_commits(wal: &Wal<MemStore>) -> Lsn {
    wal.append_and_sync(b"the first record").unwrap();
    wal.append_and_sync(b"the last record").unwrap()
}

/// How far CONTROL says that the log is durable.
fn claimed(disk: &MemSnapshot) -> u64 {
    let control = &disk.files()["CONTROL"];
    let slot = |at: usize| {
        let field = |offset: usize| {
            u64::from_le_bytes(control[at + offset..at + offset + 8].try_into().unwrap())
        };
        (field(16), field(64))
    };
    slot(0).max(slot(4096)).1
}

#[test]
fn without_a_witness_the_newest_record_passes_for_torn() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let last = two_commits(&wal);
    let store = damaged(memory.snapshot(), b"the last record");
    let again = options().open_store(store).unwrap();
    assert_eq!(read_all(&again), [b"the first record"]);
    assert_eq!(again.recovery().torn_at, Some(last));
}

#[test]
fn a_later_cohort_speaks_for_the_ones_before_it() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    two_commits(&wal);
    wal.append_and_sync(b"one more").unwrap();
    let store = damaged(memory.snapshot(), b"the last record");
    assert!(options().open_store(store).unwrap_err().is_corruption());
}

#[test]
fn a_close_speaks_for_everything() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    two_commits(&wal);
    wal.close().unwrap();
    let store = damaged(memory.snapshot(), b"the last record");
    assert!(options().open_store(store).unwrap_err().is_corruption());
}

#[test]
fn the_caller_speaks_for_a_record_of_its_own() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let last = two_commits(&wal);
    let store = damaged(memory.snapshot(), b"the last record");
    let before = store.snapshot();
    let refused = options().min_durable_lsn(last).open_store(store.clone());
    assert!(refused.unwrap_err().is_corruption());
    assert_eq!(store.snapshot(), before, "a refused open changes nothing");
    let whole = MemStore::from_snapshot(memory.snapshot());
    assert_eq!(read_all(&options().min_durable_lsn(last).open_store(whole).unwrap()).len(), 2);
}

#[test]
fn a_heartbeat_speaks_for_what_came_before_a_pause() {
    deadline(|| {
        let memory = MemStore::new();
        let idle = Duration::from_millis(5);
        let wal = options().heartbeat(idle).open_store(memory.clone()).unwrap();
        two_commits(&wal);
        for round in 0..3 {
            let end = wal.end_lsn().get();
            while claimed(&memory.snapshot()) < end {
                sleep(Duration::from_millis(1));
            }
            assert_eq!(claimed(&memory.snapshot()), end, "{round}: not a byte more");
            if round == 0 {
                let store = damaged(memory.snapshot(), b"the last record");
                assert!(options().open_store(store).unwrap_err().is_corruption());
            }
            wal.append_and_sync(b"after the pause").unwrap();
        }
        // Idle, and at rest: CONTROL is not written again and again.
        let end = wal.end_lsn().get();
        while claimed(&memory.snapshot()) < end {
            sleep(Duration::from_millis(1));
        }
        let at_rest = memory.snapshot();
        sleep(Duration::from_millis(60));
        assert_eq!(memory.snapshot(), at_rest);
        wal.truncate_from(wal.head_lsn()).unwrap();
        assert_eq!(claimed(&memory.snapshot()), 0, "a cut takes the witness back");
        let next = wal.append_and_sync(b"again").unwrap();
        assert_eq!(next, Lsn::new(0));
        wal.close().unwrap();
        drop(wal);
        assert_eq!(read_all(&options().open_store(memory).unwrap()), [b"again"]);
    });
}

#[test]
fn a_heartbeat_ends_with_its_log() {
    deadline(|| {
        for closes in [true, false] {
            let memory = MemStore::new();
            let idle = Duration::from_secs(3600);
            let wal = options().heartbeat(idle).open_store(memory.clone()).unwrap();
            wal.append_and_sync(b"one").unwrap();
            if closes {
                wal.close().unwrap();
            }
            drop(wal);
            // The lock is free: nobody waits for the beat that would have come.
            let again = options().open_store(memory).unwrap();
            assert!(again.recovery().clean);
        }
    });
}

#[test]
fn senseless_heartbeats_are_refused() {
    let refused = options().heartbeat(Duration::ZERO).open_store(MemStore::new());
    assert!(matches!(refused, Err(WalError::InvalidOption { name: "heartbeat", .. })));
}
