//! What a log takes besides its ring: threads, time of a processor, open files and memory.
//!
//! Method: one test, so that nothing else in the process counts, and what Linux says in
//! `/proc/self`; memory by an allocator that adds up what is in use.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use cohort_wal::{Wal, WalOptions};

use common::deadline;

const RING: usize = 1 << 20;
const LARGEST: u32 = 4 << 20;

static IN_USE: AtomicUsize = AtomicUsize::new(0);
static MOST: AtomicUsize = AtomicUsize::new(0);

struct Adding;

fn taken(size: usize) {
    MOST.fetch_max(IN_USE.fetch_add(size, Relaxed) + size, Relaxed);
}

// SAFETY: every call goes to the system's allocator with the caller's own arguments. Adding up
// touches two atomics that need no allocation.
unsafe impl GlobalAlloc for Adding {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        taken(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the block came from the system, and the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Adding = Adding;

/// The most bytes that were in use at once during `work`, above what was in use before.
fn most_in_use<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = IN_USE.load(Relaxed);
    MOST.store(before, Relaxed);
    let value = work();
    (value, MOST.load(Relaxed) - before)
}

fn entries(dir: &str) -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path())
}

/// Open files below `dir`.
fn open_files(dir: &Path) -> usize {
    let dir = dir.canonicalize().unwrap();
    let linked = |entry: std::path::PathBuf| fs::read_link(entry).unwrap_or_default();
    entries("/proc/self/fd").filter(|entry| linked(entry.clone()).starts_with(&dir)).count()
}

/// The names of all threads, and how long those of a log have run, in nanoseconds.
fn threads() -> (Vec<String>, u64) {
    let (mut names, mut run) = (Vec::new(), 0);
    for task in entries("/proc/self/task") {
        let Ok(name) = fs::read_to_string(task.join("comm")) else { continue };
        let stat = fs::read_to_string(task.join("schedstat")).unwrap_or_default();
        if name.starts_with("cohort-wal") {
            run += stat.split(' ').next().and_then(|time| time.parse::<u64>().ok()).unwrap_or(0);
        }
        names.push(name.trim().to_owned());
    }
    (names, run)
}

fn options() -> WalOptions {
    WalOptions::new().ring_bytes(RING).segment_bytes(8 << 20).max_record_bytes(LARGEST)
}

/// Threads only where they are needed, and no time of a processor once there is nothing to do.
fn nothing_runs_for_an_idle_log(dir: &Path) {
    let before = threads().0.len();
    let wal = options().open(dir).unwrap();
    for _ in 0..1000 {
        wal.append(&[1; 100]).unwrap();
    }
    wal.append_and_sync(b"durable").unwrap();
    wal.rotate().unwrap();
    wal.truncate_before(wal.end_lsn()).unwrap();
    assert_eq!(threads().0.len(), before, "{:?}", threads());
    // More than the ring holds, so that somebody else writes.
    for _ in 0..8 * RING / 1000 {
        wal.append(&[2; 1000]).unwrap();
    }
    deadline(|| {
        while !threads().0.iter().any(|name| name.starts_with("cohort-wal")) {
            thread::yield_now();
        }
    });
    deadline(|| {
        let mut rested = threads().1;
        assert!(rested > 0, "the kernel says how long threads run");
        loop {
            thread::sleep(Duration::from_millis(150));
            let run = threads().1;
            if std::mem::replace(&mut rested, run) == run {
                break;
            }
        }
    });
    wal.close().unwrap();
}

/// As few files as if the log had one segment, and as little memory as its largest record needs.
fn many_segments_take_no_more_than_one(dir: &Path) {
    let wal = options().open(dir).unwrap();
    for _ in 0..48 {
        wal.append(&[3; LARGEST as usize]).unwrap();
        wal.append(&[4; 100]).unwrap();
    }
    // The first one syncs what wrote them, the second one finds that nothing needs them any more.
    wal.sync().unwrap();
    wal.append_and_sync(b"after").unwrap();
    assert!(wal.stats().rotations > 20, "{:?}", wal.stats());
    assert!(open_files(dir) <= 5, "{} files are open", open_files(dir));
    wal.close().unwrap();
    drop(wal);
    assert_eq!(open_files(dir), 0);

    let allowed = LARGEST as usize + (2 << 20);
    let (wal, most) = most_in_use(|| options().open(dir).unwrap());
    assert!(most < RING + allowed, "{most} bytes to open");
    assert!(open_files(dir) <= 5, "{} files are open", open_files(dir));
    let (read, most) = most_in_use(|| replay(&wal, dir));
    assert_eq!(read, 97);
    assert!(most < allowed, "{most} bytes to replay");
    wal.close().unwrap();
    drop(wal);
    assert_eq!(open_files(dir), 0);
}

fn replay(wal: &Wal, dir: &Path) -> usize {
    let (mut records, mut read) = (wal.iter().unwrap(), 0);
    while let Some(record) = records.read_next() {
        assert!(record.unwrap().len() >= 5);
        assert!(open_files(dir) <= 8, "{} files are open", open_files(dir));
        read += 1;
    }
    read
}

#[test]
fn a_log_takes_little_besides_its_ring() {
    let dir = tempfile::tempdir().unwrap();
    nothing_runs_for_an_idle_log(&dir.path().join("idle"));
    many_segments_take_no_more_than_one(&dir.path().join("long"));
}
