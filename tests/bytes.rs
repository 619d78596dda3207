//! Payloads as `Bytes`: no copy, and bytes that never change while somebody holds them.
//!
//! Method: where a payload is in memory says whether it was copied; every byte of it says which
//! record it is. What reading allocates is in `tests/allocation.rs`, which is run with this feature
//! as well.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use bytes::Bytes;
use cohort_wal::{Lsn, MemStore, RecordRef, Wal, WalOptions};

use common::{Dice, ID_BYTES, Id, identify, payload};

/// What a cursor reads at once.
const BLOCK: usize = 256 << 10;

/// A closed log of these records, in a few segments.
fn log(records: impl IntoIterator<Item = Vec<u8>>) -> MemStore {
    let store = MemStore::new();
    let wal = WalOptions::new().segment_bytes(2 << 20).open_store(store.clone()).unwrap();
    for record in records {
        wal.append(&record).unwrap();
    }
    wal.close().unwrap();
    store
}

fn numbered(lens: impl IntoIterator<Item = usize>) -> Vec<Vec<u8>> {
    let ids = (0..).map(|number| Id { owner: 0, number });
    ids.zip(lens).map(|(id, len)| payload(id, len)).collect()
}

fn open(store: MemStore) -> Wal<MemStore> {
    WalOptions::new().open_store(store).unwrap()
}

/// Panics unless these are all records up to `count`, whole, in order.
fn check(payloads: &[Bytes], count: usize) {
    let numbers = payloads.iter().map(|payload| identify(payload).number);
    assert!(numbers.eq(0..u64::try_from(count).unwrap()));
}

/// Keeps what `record` lends, and makes sure that it is no copy.
fn keep(record: &RecordRef<'_>) -> Bytes {
    let kept = record.to_bytes();
    assert_eq!((kept.as_ptr(), kept.len()), (record.data().as_ptr(), record.len()));
    kept
}

#[test]
fn a_record_gives_its_own_memory_away() {
    let wal = open(log(numbered([24, 1000])));
    for record in wal.iter().unwrap() {
        let record = record.unwrap();
        let (memory, len) = (record.data().as_ptr(), record.len());
        let bytes = record.into_bytes();
        assert_eq!((bytes.as_ptr(), bytes.len()), (memory, len));
        assert!(bytes.is_unique());
    }
}

#[test]
fn payloads_that_are_kept_stay_as_they_were_read() {
    let mut dice = Dice::new(7);
    let lens: Vec<_> = (0..20_000).map(|_| dice.len()).collect();
    let total: usize = lens.iter().sum();
    assert!(total > 8 * BLOCK, "{total} bytes are a few blocks, in a few segments");
    let wal = open(log(numbered(lens)));
    assert!(wal.recovery().segments > 2);
    let mut records = wal.iter().unwrap();
    let kept: Vec<_> = std::iter::from_fn(|| Some(keep(&records.read_next()?.unwrap()))).collect();
    check(&kept, 20_000);
    drop(records);
    drop(wal);
    check(&kept, 20_000);
}

#[test]
fn a_payload_is_kept_beside_others_that_are_not() {
    let mut dice = Dice::new(8);
    let wal = open(log(numbered((0..20_000).map(|_| dice.len()))));
    let mut records = wal.iter().unwrap();
    let (mut held, mut read) = (Vec::new(), 0);
    while let Some(record) = records.read_next() {
        let record = record.unwrap();
        assert_eq!(identify(record.data()).number, read);
        // Some are let go of at once, others while later blocks are read, some never.
        match dice.below(100) {
            0 => held.push((read, keep(&record))),
            1..=5 => drop(keep(&record)),
            _ => {}
        }
        if dice.below(500) == 0 {
            held.drain(..held.len() / 2);
        }
        for (number, kept) in &held[held.len().saturating_sub(3)..] {
            assert_eq!(identify(kept).number, *number);
        }
        read += 1;
    }
    assert_eq!(read, 20_000);
    held.iter().for_each(|(number, kept)| assert_eq!(identify(kept).number, *number));
}

#[test]
fn records_around_the_end_of_a_block_and_larger_than_one_are_kept() {
    let around = (BLOCK - 40..BLOCK + 40).step_by(8);
    let large = [2 * BLOCK + 1, 24, 5 * BLOCK, 30, 31, BLOCK, ID_BYTES];
    let lens: Vec<_> = around.flat_map(|len| [len, 40]).chain(large).collect();
    let count = lens.len();
    let wal = open(log(numbered(lens)));
    let mut records = wal.iter().unwrap();
    let kept: Vec<_> = std::iter::from_fn(|| Some(keep(&records.read_next()?.unwrap()))).collect();
    drop(records);
    check(&kept, count);
}

#[test]
fn payloads_of_one_block_share_it() {
    let wal = open(log(numbered([100; 50])));
    let mut records = wal.iter().unwrap();
    let mut kept: Vec<(Lsn, Bytes)> = Vec::new();
    while let Some(record) = records.read_next() {
        let record = record.unwrap();
        kept.push((record.lsn(), keep(&record)));
    }
    drop(records);
    let first = kept[0].clone();
    for (lsn, payload) in &kept {
        let apart = u64::try_from(payload.as_ptr().addr() - first.1.as_ptr().addr()).unwrap();
        assert_eq!(apart, lsn.get() - first.0.get(), "as far apart as in the file");
    }
    drop(first);
    let last = kept.split_off(49);
    drop(kept);
    assert!(last[0].1.is_unique(), "nobody else holds the block");
}

#[test]
fn empty_payloads_hold_no_block() {
    let wal = open(log([Vec::new(), vec![1; 24]]));
    let mut records = wal.iter().unwrap();
    assert!(records.read_next().unwrap().unwrap().to_bytes().is_empty());
    assert_eq!(records.read_next().unwrap().unwrap().to_bytes(), [1; 24][..]);
}

#[test]
fn salvage_and_readers_share_their_blocks_too() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    for record in numbered([5000; 200]) {
        wal.append(&record).unwrap();
    }
    wal.close().unwrap();
    let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
    let mut records = reader.iter().unwrap();
    let kept: Vec<_> = std::iter::from_fn(|| Some(keep(&records.read_next()?.unwrap()))).collect();
    drop((records, reader));
    check(&kept, 200);
    let mut salvage = WalOptions::new().salvage(dir.path()).unwrap();
    let kept: Vec<_> = std::iter::from_fn(|| Some(keep(&salvage.read_next()?.unwrap()))).collect();
    drop(salvage);
    check(&kept, 200);
}
