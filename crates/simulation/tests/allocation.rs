//! Memory runs out, and recovery needs little of it.
//!
//! An allocator that counts, and on demand lets one large allocation fail. What is large is above
//! every buffer of a fixed size (a header area, a CONTROL file): an allocation whose size a caller
//! or a log decides. Each failure happens in a process of its own, since an allocation that cannot
//! fail would abort it; that is what is looked for.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "an allocator cannot be written without it")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use cohort_wal::{Lsn, Wal, WalError, WalOptions};
use simulation::record::{identify, payload};

/// Allocations above this may be made to fail.
const LARGE_BYTES: usize = 8192;

static ARMED: AtomicBool = AtomicBool::new(false);
/// How many large allocations still succeed; one below that fails once.
static LEFT: AtomicUsize = AtomicUsize::new(usize::MAX);
/// Large allocations while armed.
static LARGE: AtomicUsize = AtomicUsize::new(0);
static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Scarce;

/// Whether an allocation of this size fails.
fn fails(size: usize) -> bool {
    if size <= LARGE_BYTES || !ARMED.load(Ordering::Relaxed) {
        return false;
    }
    LARGE.fetch_add(1, Ordering::Relaxed);
    LEFT.fetch_sub(1, Ordering::Relaxed) == 0
}

fn grow(size: usize) {
    let now = NOW.fetch_add(size, Ordering::Relaxed) + size;
    PEAK.fetch_max(now, Ordering::Relaxed);
}

// SAFETY: every call that does not fail goes to the system's allocator with the caller's own
// arguments, and a null pointer is the way to fail. Counting touches atomics alone.
unsafe impl GlobalAlloc for Scarce {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return std::ptr::null_mut();
        }
        grow(layout.size());
        // SAFETY: the caller keeps `alloc`'s contract, which is the system's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if fails(layout.size()) {
            return std::ptr::null_mut();
        }
        grow(layout.size());
        // SAFETY: the caller keeps `alloc_zeroed`'s contract, which is the system's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > layout.size() && fails(size) {
            return std::ptr::null_mut();
        }
        grow(size);
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the block came from the system, and the caller keeps `realloc`'s contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the block came from the system, and the caller keeps `dealloc`'s contract.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Scarce = Scarce;

/// Which part a process of its own plays: `SCENARIO K`.
const PART: &str = "COHORT_WAL_ALLOCATION";

/// Runs `work` with the fault armed.
fn armed<T>(work: impl FnOnce() -> T) -> T {
    ARMED.store(true, Ordering::Relaxed);
    let result = work();
    ARMED.store(false, Ordering::Relaxed);
    result
}

/// A call succeeds, or reports that memory ran out and succeeds when there is memory again.
fn call<T>(what: &str, mut work: impl FnMut() -> Result<T, WalError>) -> T {
    match armed(&mut work) {
        Ok(done) => done,
        Err(WalError::OutOfMemory) => {
            let again = work();
            again.unwrap_or_else(|error| panic!("{what} after memory ran out: {error:?}"))
        }
        Err(other) => panic!("{what} ends as {other:?}"),
    }
}

fn options() -> WalOptions {
    WalOptions::new().ring_bytes(64 << 10).segment_bytes(1 << 20).max_record_bytes(1 << 20)
}

/// Checks that all records up to a key are there, read by lending and by owning.
fn read(wal: &Wal, last: u64) {
    let key = |data: &[u8]| identify(data).expect("a record that was appended");
    call("reading", || {
        let (mut next, mut iter) = (0, wal.iter()?);
        while let Some(record) = iter.read_next() {
            assert_eq!(key(record?.data()), next);
            next += 1;
        }
        assert_eq!(next, last + 1);
        Ok(())
    });
    call("iterating", || {
        let mut next = 0;
        for record in wal.iter()? {
            assert_eq!(key(record?.data()), next);
            next += 1;
        }
        assert_eq!(next, last + 1);
        Ok(())
    });
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Appends records of all sizes, reads them, and recovers what a dead process left; `left` large
/// allocations succeed.
fn use_a_log(left: usize) {
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    LEFT.store(left, Ordering::Relaxed);
    let wal = call("creating", || options().open(&live));
    let mut key = 0;
    for len in [40, 12_000, 300_000, 700] {
        let record = payload(key, len);
        call("appending", || wal.append(&record));
        key += 1;
    }
    let batch: Vec<_> = (key..key + 3).map(|key| payload(key, 9_000)).collect();
    call("a batch", || wal.append_batch(&batch));
    key += 3;
    let parts = payload(key, 50_000);
    call("parts", || wal.append_vectored(&[&parts[..7], &parts[7..]]));
    let many: Vec<_> = (key + 1..key + 1501).map(|key| payload(key, 8)).collect();
    call("a long batch", || wal.append_batch(&many).map(|lsns: Vec<Lsn>| lsns.len()));
    key += 1501;
    call("rotating", || wal.rotate());
    let tail = payload(key, 280_000);
    call("committing", || wal.append_and_sync(&tail));
    read(&wal, key);
    // As a process leaves it that dies now.
    copy(&live, &dead);
    call("closing", || wal.close());
    drop(wal);
    for place in [&live, &dead] {
        let wal = call("opening", || options().open(place));
        read(&wal, key);
        let more = payload(key + 1, 10_000);
        call("going on", || wal.append_and_sync(&more));
    }
}

/// Tail, record and ring of a log that recovery must read whole.
const TAIL_BYTES: usize = 24 << 20;
const RECORD_BYTES: u32 = 2 << 20;
const RING_BYTES: usize = 64 << 10;

/// Recovers a log whose process died before anything was synced, and says what that took.
fn recover_a_large_tail() {
    let dir = tempfile::tempdir().unwrap();
    let (live, dead) = (dir.path().join("live"), dir.path().join("dead"));
    let options = || {
        let options = WalOptions::new().ring_bytes(RING_BYTES).max_record_bytes(RECORD_BYTES);
        options.segment_bytes(64 << 20)
    };
    let wal = options().open(&live).unwrap();
    let largest = payload(0, RECORD_BYTES as usize);
    wal.append(&largest).unwrap();
    let mut key = 1;
    while wal.end_lsn().get() < TAIL_BYTES as u64 {
        wal.append(&payload(key, 3000)).unwrap();
        key += 1;
    }
    wal.flush().unwrap();
    copy(&live, &dead);
    drop((wal, largest));
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let wal = options().open(&dead).unwrap();
    let peak = PEAK.load(Ordering::Relaxed) - before;
    let report = wal.recovery();
    assert!(report.carried_bytes >= TAIL_BYTES as u64, "the tail was carried: {report:?}");
    let bound = RECORD_BYTES as usize + RING_BYTES + (1 << 20);
    assert!(peak > RECORD_BYTES as usize && peak <= bound, "recovery took {peak} of {bound}");
}

/// Plays a part in a process of its own; returns what it wrote, or its errors.
fn play(part: &str) -> Result<String, String> {
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new(this);
    command.args(["--exact", "play_the_part", "--nocapture", "--test-threads", "1"]);
    let output = command.env(PART, part).env("RUST_BACKTRACE", "0").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(text(&output.stderr)),
        false => Err(format!("{part}: {}{}", text(&output.stdout), text(&output.stderr))),
    }
}

/// What the processes of the other tests run; by itself it has no part.
#[test]
fn play_the_part() {
    use std::io::Write as _;
    let Ok(part) = std::env::var(PART) else { return };
    match part.split_once(' ') {
        Some(("use", left)) => {
            use_a_log(left.parse().unwrap());
            let large = LARGE.load(Ordering::Relaxed);
            std::io::stderr().write_all(format!("large={large}").as_bytes()).unwrap();
        }
        _ => recover_a_large_tail(),
    }
}

#[test]
fn running_out_of_memory_anywhere_is_an_error_and_loses_nothing() {
    let whole = play(&format!("use {}", usize::MAX)).unwrap_or_else(|error| panic!("{error}"));
    let count = whole.split("large=").nth(1).and_then(|count| count.trim().parse().ok());
    let count: usize = count.expect("the whole run says how many allocations there are");
    assert!(count > 15, "{count} large allocations");
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let left = next.fetch_add(1, Ordering::Relaxed);
                    if left >= count {
                        return;
                    }
                    let result = play(&format!("use {left}"));
                    failed.lock().unwrap().extend(result.err());
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {count}: {}", failed.len(), failed.join("\n"));
}

#[test]
fn recovery_takes_no_more_memory_than_a_record_a_ring_and_a_little() {
    play("tail").unwrap_or_else(|error| panic!("{error}"));
}
