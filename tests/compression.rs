//! Compressed records: they come back, whatever else is in the log, and are stored smaller.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use cohort_wal::{Compression, Lsn, MemStore, Record, WalError, WalOptions};

use common::smallest;

fn lz4() -> WalOptions {
    smallest().compression(Compression::Lz4)
}

/// Payloads of many lengths: of one letter, of text, and of noise.
fn payloads() -> Vec<Vec<u8>> {
    let mut state = 1_u64;
    let mut noise = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    let lengths = [0, 1, 100, 255, 256, 257, 1000, 5000, 40_000, 300_000];
    lengths
        .into_iter()
        .flat_map(|len| {
            let text = (0..len).map(|at: usize| b"write ahead, log behind. "[at % 25]).collect();
            [vec![7; len], text, (0..len).map(|_| noise()).collect()]
        })
        .collect()
}

fn read(records: impl Iterator<Item = cohort_wal::Result<Record>>) -> Vec<(Lsn, Vec<u8>)> {
    records.map(|record| record.map(|r| (r.lsn(), r.into_data())).unwrap()).collect()
}

#[test]
fn every_payload_comes_back_through_every_reader() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let wal = lz4().open(&dir).unwrap();
    let mut appended = Vec::new();
    for payload in payloads() {
        appended.push((wal.append(&payload).unwrap(), payload));
    }
    let batch = payloads();
    let lsns = wal.append_batch(&batch).unwrap();
    appended.extend(lsns.into_iter().zip(batch));
    wal.sync().unwrap();

    assert_eq!(read(wal.iter().unwrap()), appended);
    let followed = wal.follow(wal.head_lsn()).unwrap().take(appended.len());
    assert_eq!(read(followed), appended);
    wal.close().unwrap();
    // What reads needs no option.
    let options = smallest;
    assert_eq!(read(options().open_read_only(&dir).unwrap().iter().unwrap()), appended);
    assert_eq!(read(options().salvage(&dir).unwrap()), appended);
    let wal = options().open(&dir).unwrap();
    let mut records = wal.iter().unwrap();
    for (lsn, payload) in &appended {
        let record = records.read_next().unwrap().unwrap();
        assert_eq!((record.lsn(), record.data()), (*lsn, &payload[..]));
        assert_eq!(record.to_record().into_data(), *payload);
    }
    assert!(records.read_next().is_none());
}

#[test]
fn what_gets_smaller_is_stored_smaller_and_the_rest_as_it_is() {
    let stored = |options: WalOptions, payload: &[u8]| {
        let wal = options.open_store(MemStore::new()).unwrap();
        wal.append(payload).unwrap();
        wal.live_bytes()
    };
    for payload in payloads() {
        let (plain, compressed) = (stored(smallest(), &payload), stored(lz4(), &payload));
        assert!(compressed <= plain, "{} bytes", payload.len());
        let repeats = payload.len() >= 256 && payload[0] == payload[payload.len() / 25 * 25 - 25];
        assert_eq!(compressed < plain, repeats, "{} bytes", payload.len());
    }
    assert!(stored(lz4(), &[7; 1 << 20]) < 8192);
}

#[test]
fn a_log_may_be_compressed_now_and_then() {
    let store = MemStore::new();
    let mut appended = Vec::new();
    for round in 0..6 {
        let options = if round % 2 == 0 { lz4() } else { smallest() };
        let wal = options.open_store(store.clone()).unwrap();
        for payload in payloads() {
            appended.push((wal.append_and_sync(&payload).unwrap(), payload));
        }
        assert_eq!(read(wal.iter().unwrap()), appended, "round {round}");
        let middle = appended[appended.len() / 2].0;
        assert_eq!(read(wal.iter_from(middle).unwrap()).len(), appended.len().div_ceil(2));
        for payload in payloads().into_iter().filter(|payload| payload.len() < 1000) {
            appended.push((wal.append(&payload).unwrap(), payload));
        }
        wal.flush().unwrap();
        // A crash: what no witness speaks for is carried, as it is stored.
        let crashed = MemStore::from_snapshot(store.snapshot());
        let wal = smallest().open_store(crashed).unwrap();
        assert!(wal.recovery().carried_bytes > 0);
        assert_eq!(read(wal.iter().unwrap()), appended, "round {round}");
    }
}

#[test]
fn limits_are_about_what_is_appended() {
    let wal = lz4().max_record_bytes(1000).open_store(MemStore::new()).unwrap();
    wal.append(&[7; 1000]).unwrap();
    let refused = wal.append(&[7; 1001]);
    assert!(matches!(refused, Err(WalError::RecordTooLarge { len: 1001, max: 1000 })));
    assert_eq!(wal.iter().unwrap().next().unwrap().unwrap().data(), [7; 1000]);
    // A larger limit of a later writer's does not make what an earlier one wrote unreadable.
    let store = MemStore::new();
    lz4().max_record_bytes(1000).open_store(store.clone()).unwrap().append(&[7; 999]).unwrap();
    let wal = lz4().max_record_bytes(10).open_store(store).unwrap();
    assert_eq!(wal.iter().unwrap().next().unwrap().unwrap().len(), 999);
}

#[test]
fn what_was_not_synced_outlives_a_smaller_limit() {
    let store = MemStore::new();
    let wal = lz4().open_store(store.clone()).unwrap();
    let lsn = wal.append(&[7; 10_000]).unwrap();
    wal.flush().unwrap();
    // The process dies, and the log is opened by one that appends shorter records.
    let crashed = MemStore::from_snapshot(store.snapshot());
    let wal = lz4().max_record_bytes(1000).open_store(crashed.clone()).unwrap();
    assert_eq!(read(wal.iter().unwrap()), [(lsn, vec![7; 10_000])]);
    wal.close().unwrap();
    drop(wal);
    let wal = lz4().max_record_bytes(1000).open_store(crashed).unwrap();
    assert_eq!(read(wal.iter().unwrap()), [(lsn, vec![7; 10_000])]);
}
