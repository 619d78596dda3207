//! The fast paths allocate nothing: appending a small record to a ring with room, and reading
//! records that are lent. Opening, replay and images take a bounded amount.
//!
//! Method: an allocator that counts the calls of each thread, so that other tests and the
//! harness do not count. `COHORT_WAL_EXHAUSTIVE=1` makes the large image 2 GiB.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::Read;

use cohort_wal::{MemStore, Wal, WalError, WalOptions};

thread_local! {
    static CALLS: Cell<u64> = const { Cell::new(0) };
    /// Bytes that this thread asked for, freed or not.
    static BYTES: Cell<usize> = const { Cell::new(0) };
    /// Bytes in use that this thread asked for, less what it freed, and the most there were.
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
    /// Blocks of at least so many bytes cannot be had on this thread.
    static SCARCE: Cell<usize> = const { Cell::new(usize::MAX) };
}

struct Counting;

/// Counts a call; whether the block can be had.
fn granted(size: usize) -> bool {
    CALLS.with(|calls| calls.set(calls.get() + 1));
    BYTES.with(|bytes| bytes.set(bytes.get() + size));
    let granted = size < SCARCE.with(Cell::get);
    if granted {
        IN_USE.with(|bytes| bytes.set(bytes.get() + size.cast_signed()));
        MOST.with(|most| most.set(most.get().max(IN_USE.with(Cell::get))));
    }
    granted
}

fn freed(size: usize) {
    IN_USE.with(|bytes| bytes.set(bytes.get() - size.cast_signed()));
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments. Counting
// touches a thread-local that needs neither allocation nor destruction.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !granted(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !granted(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !granted(size) {
            return std::ptr::null_mut();
        }
        freed(layout.size());
        // SAFETY: the block came from the system, and the caller keeps `realloc`'s contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        freed(layout.size());
        // SAFETY: the block came from the system, and the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of this thread during `work`.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = CALLS.with(Cell::get);
    work();
    CALLS.with(Cell::get) - before
}

/// The most bytes that this thread had in use during `work`, above what it had before.
fn most_in_use<T>(work: impl FnOnce() -> T) -> (T, isize) {
    let before = IN_USE.with(Cell::get);
    MOST.with(|most| most.set(before));
    let value = work();
    (value, MOST.with(Cell::get) - before)
}

#[test]
fn the_count_notices_a_single_allocation() {
    assert_eq!(allocations(|| drop(std::hint::black_box(Box::new(1)))), 1);
    assert_eq!(allocations(|| ()), 0);
    let both = most_in_use(|| {
        drop(std::hint::black_box(vec![1_u8; 1000]));
        drop(std::hint::black_box(vec![1_u8; 3000]));
    });
    assert_eq!(both.1, 3000);
}

#[test]
fn opening_and_replay_take_the_largest_record_and_2_mib() {
    const RING: usize = 1 << 20;
    const LARGEST: usize = 4 << 20;
    let dir = tempfile::tempdir().unwrap();
    let options = || WalOptions::new().ring_bytes(RING).segment_bytes(8 << 20);
    let wal = options().open(dir.path()).unwrap();
    for _ in 0..12 {
        wal.append(&[3; LARGEST]).unwrap();
        wal.append(&[4; 100]).unwrap();
    }
    wal.close().unwrap();
    let allowed = (LARGEST + (2 << 20)).cast_signed();
    let (wal, most) = most_in_use(|| options().open(dir.path()).unwrap());
    assert!(most < allowed + RING.cast_signed(), "{most} bytes to open");
    let replay = || {
        let mut records = wal.iter().unwrap();
        std::iter::from_fn(|| Some(records.read_next()?.unwrap().len())).max()
    };
    let (largest, most) = most_in_use(replay);
    assert_eq!(largest, Some(LARGEST));
    assert!(most >= LARGEST.cast_signed() && most < allowed, "{most} bytes to replay");
}

#[test]
fn an_open_that_has_no_memory_for_the_ring_touches_nothing() {
    let store = MemStore::new();
    let options = || WalOptions::new().ring_bytes(1 << 20);
    let wal = options().open_store(store.clone()).unwrap();
    wal.append_and_sync(b"kept").unwrap();
    let crashed = MemStore::from_snapshot(store.snapshot());
    let before = crashed.snapshot();
    SCARCE.with(|scarce| scarce.set(1 << 20));
    let refused = options().open_store(crashed.clone());
    SCARCE.with(|scarce| scarce.set(usize::MAX));
    assert!(matches!(refused, Err(WalError::OutOfMemory)), "{refused:?}");
    assert!(crashed.snapshot() == before, "the log is as it was");
    assert_eq!(options().open_store(crashed).unwrap().iter().unwrap().count(), 1);
}

#[test]
fn appending_to_a_ring_with_room_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    wal.append(&[0; 500]).unwrap();
    let during = allocations(|| {
        for len in 0..10_000 {
            wal.append(&[1; 500][..len % 500]).unwrap();
            wal.append_vectored(&[b"key", b"value"]).unwrap();
        }
    });
    assert_eq!((during, wal.stats().flushes), (0, 0));
    assert_eq!(wal.iter().unwrap().count(), 20_001);
}

#[cfg(feature = "postcard")]
mod typed {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize, Debug, PartialEq, Clone, Copy)]
    enum Change<'a> {
        Put { key: u64, value: &'a [u8] },
        Rename(&'a str, Option<&'a str>),
    }

    const CHANGES: [Change<'_>; 2] =
        [Change::Put { key: u64::MAX, value: &[7; 400] }, Change::Rename("old", Some("new"))];

    #[test]
    fn a_typed_append_allocates_nothing_and_neither_does_lending_what_it_borrows() {
        let dir = tempfile::tempdir().unwrap();
        let wal = Wal::open(dir.path()).unwrap();
        let append = |change: &Change<'_>| assert!(wal.append_typed(change).is_ok());
        CHANGES.iter().for_each(append);
        let during = allocations(|| {
            for _ in 0..5_000 {
                CHANGES.iter().for_each(append);
            }
        });
        assert_eq!((during, wal.stats().flushes), (0, 0));
        let mut records = wal.iter().unwrap();
        for change in CHANGES {
            let record = records.read_next().unwrap().unwrap();
            let decode = || assert_eq!(record.decode::<Change<'_>>().unwrap(), change);
            assert_eq!(allocations(decode), 0);
        }
    }

    #[test]
    fn a_value_that_memory_is_short_for_is_not_appended() {
        let wal = WalOptions::new().open_store(MemStore::new()).unwrap();
        // More than a thread keeps, so that it must grow each time.
        let value = vec![1_u8; 1 << 20];
        for scarce in [1 << 10, 1 << 20] {
            SCARCE.with(|limit| limit.set(scarce));
            let refused = wal.append_typed(&value);
            SCARCE.with(|limit| limit.set(usize::MAX));
            assert!(matches!(refused, Err(WalError::OutOfMemory)), "{refused:?}");
        }
        assert!(wal.is_empty());
        wal.append_typed(&value).unwrap();
        let record = wal.iter().unwrap().next().unwrap().unwrap();
        assert_eq!(record.decode::<Vec<u8>>().unwrap(), value);
    }

    #[test]
    fn a_value_above_the_limit_takes_the_memory_of_the_limit() {
        let options = WalOptions::new().max_record_bytes(10_000);
        let wal = options.open_store(MemStore::new()).unwrap();
        let value = vec![1_u16; 5_000_000];
        let (refused, most) = most_in_use(|| wal.append_typed(&value));
        assert!(matches!(refused, Err(WalError::RecordTooLarge { len: 5_000_004, .. })));
        // A buffer that grew, beside the one before.
        assert!(most < 32_000, "{most} bytes");
    }

    #[test]
    fn what_a_payload_claims_is_not_what_decoding_allocates() {
        let wal = WalOptions::new().open_store(MemStore::new()).unwrap();
        // A length of 2^63, and some bytes.
        let claim = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0, 0];
        wal.append(&claim).unwrap();
        let record = wal.iter().unwrap().next().unwrap().unwrap();
        let most = [
            most_in_use(|| record.decode::<Vec<u8>>().unwrap_err()).1,
            most_in_use(|| record.decode::<String>().unwrap_err()).1,
            most_in_use(|| record.decode::<Vec<[u64; 32]>>().unwrap_err()).1,
            most_in_use(|| record.decode::<std::collections::HashMap<u64, [u64; 32]>>().is_err()).1,
        ];
        assert!(most.iter().all(|most| *most < 3 << 20), "{most:?} bytes");
    }
}

#[test]
fn a_commit_that_is_durable_already_allocates_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let lsn = wal.append_and_sync(b"one").unwrap();
    let during = allocations(|| {
        for _ in 0..1_000 {
            wal.wait_durable(lsn).unwrap();
            wal.sync().unwrap();
            wal.flush().unwrap();
        }
    });
    assert_eq!(during, 0);
}

#[test]
fn replaying_ten_thousand_lent_records_allocates_less_than_fifty_times() {
    let dir = tempfile::tempdir().unwrap();
    let wal = WalOptions::new().segment_bytes(1 << 20).open(dir.path()).unwrap();
    for len in 0..10_000 {
        wal.append(&[2; 500][..len % 500]).unwrap();
    }
    wal.close().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let mut read = 0;
    let during = allocations(|| {
        let mut records = wal.iter().unwrap();
        while let Some(record) = records.read_next() {
            assert_eq!(record.unwrap().len(), read % 500);
            read += 1;
        }
    });
    assert_eq!(read, 10_000);
    assert!(during < 50, "{during} allocations");
}

/// A closed log of records of 500 bytes in four segments of 1 MiB.
fn four_segments() -> Wal<MemStore> {
    let store = MemStore::new();
    let wal = WalOptions::new().segment_bytes(1 << 20).open_store(store.clone()).unwrap();
    for _ in 0..7_000 {
        wal.append(&[5; 500]).unwrap();
    }
    wal.close().unwrap();
    WalOptions::new().open_store(store).unwrap()
}

#[test]
fn replay_reads_each_segment_through_one_block() {
    let wal = four_segments();
    let (before, mut read) = (BYTES.with(Cell::get), 0);
    let mut records = wal.iter().unwrap();
    while let Some(record) = records.read_next() {
        read += record.unwrap().len();
    }
    let asked = BYTES.with(Cell::get) - before;
    assert_eq!(read, 7_000 * 500);
    assert!((3 * (256 << 10)..4 * (260 << 10)).contains(&asked), "{asked} bytes");
}

#[cfg(feature = "bytes")]
#[test]
fn a_block_is_used_again_unless_somebody_holds_a_share_of_it() {
    let wal = four_segments();
    let replay = |hold: &mut dyn FnMut(bytes::Bytes)| {
        let (before, mut records) = (BYTES.with(Cell::get), wal.iter().unwrap());
        while let Some(record) = records.read_next() {
            hold(record.unwrap().to_bytes());
        }
        BYTES.with(Cell::get) - before
    };
    let asked = replay(&mut drop);
    assert!(asked < 4 * (260 << 10), "{asked} bytes where each is let go of at once");
    let mut first = None;
    let asked = replay(&mut |payload| drop(first.get_or_insert(payload).clone()));
    assert!(asked < 5 * (260 << 10), "{asked} bytes where the first one is held");
    let mut last = bytes::Bytes::new();
    let asked = replay(&mut |payload| last.clone_from(&payload));
    assert!(asked > 12 * (256 << 10), "{asked} bytes where the last one is held");
    assert_eq!((first.unwrap(), last), (vec![5; 500].into(), vec![5; 500].into()));
}

#[test]
fn an_image_of_any_size_takes_the_memory_of_a_chunk() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let lsn = wal.append_and_sync(b"one").unwrap();
    let asked = || BYTES.with(Cell::get);
    let before = asked();
    // 64 MB, or 2 GiB.
    let parts =
        if std::env::var_os("COHORT_WAL_EXHAUSTIVE").is_some() { 2_147_484 } else { 64_000 };
    let part = [7; 1000];
    wal.checkpoint(lsn, |image| (0..parts).try_for_each(|_| image.write_all(&part))).unwrap();
    // All that was ever asked for, so that nothing can have been there at once.
    let written = asked() - before;
    assert!(written < 400 << 10, "{written} bytes of memory for an image of {parts} kB");
    let mut snapshot = wal.snapshots().unwrap().latest().unwrap().unwrap();
    let (before, mut piece, mut total) = (asked(), [0; 4096], 0);
    loop {
        match snapshot.read(&mut piece).unwrap() {
            0 => break,
            read => total += read,
        }
    }
    assert_eq!(total, parts * 1000);
    let read = asked() - before;
    assert!(read < 400 << 10, "{read} bytes of memory to read it");
}
