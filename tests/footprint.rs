//! What a log takes besides memory: threads, time of a processor, and open files.
//!
//! Method: one test, so that nothing else in the process counts, and what Linux says in
//! `/proc/self`.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use cohort_wal::WalOptions;

use common::deadline;

const RING: usize = 1 << 20;
/// The directory, CONTROL, and the segment that is written.
const FEW_FILES: usize = 3;
/// Besides them 32 segments that wait for a sync; and those that the last one covered, which are
/// closed by the next one: as many, and the segment that was written then.
const MOST_FILES: usize = FEW_FILES + 32 + 33;

fn entries(dir: &str) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path())
}

/// Open files below `dir`.
fn open_files(dir: &Path) -> usize {
    let dir = dir.canonicalize().unwrap();
    let linked = |entry: PathBuf| fs::read_link(entry).unwrap_or_default();
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
    WalOptions::new().ring_bytes(RING).segment_bytes(1 << 20)
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
    wait_until_all_rest();
    wal.close().unwrap();
}

/// Until no thread of a log has run for a while.
fn wait_until_all_rest() {
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
}

/// Intervals, futures and followers have threads once they are needed, which rest as well.
fn helpers_rest(dir: &Path) {
    let every = Duration::from_millis(1);
    let wal = options().sync_interval(every).flush_interval(every).open(dir).unwrap();
    let mut follower = wal.follow(wal.head_lsn()).unwrap();
    wal.append(&[1; 100]).unwrap();
    assert_eq!(follower.next().unwrap().unwrap().len(), 100);
    wal.durable(wal.append(&[2; 100]).unwrap()).wait().unwrap();
    assert!(follower.next_timeout(every * 50).unwrap().is_some());
    let waiting = thread::spawn(move || follower.count());
    wait_until_all_rest();
    assert_eq!(threads().0.iter().filter(|name| name.starts_with("cohort-wal")).count(), 3);
    wal.close().unwrap();
    assert_eq!(deadline(|| waiting.join().unwrap()), 1, "the end of the log");
    // With the handle still there.
    deadline(|| {
        while threads().0.iter().any(|name| name.starts_with("cohort-wal")) {
            thread::sleep(Duration::from_millis(1));
        }
    });
    drop(wal);
}

/// A follower holds the file of the segment that it reads, and none that is removed meanwhile.
fn a_follower_holds_one_file(dir: &Path) {
    let wal = options().open(dir).unwrap();
    for _ in 0..50 {
        wal.append(&[3; 100]).unwrap();
        wal.rotate().unwrap();
    }
    for _ in 0..2 {
        wal.append_and_sync(b"durable").unwrap();
    }
    let mut follower = wal.follow(wal.head_lsn()).unwrap();
    assert!(follower.next().unwrap().is_ok());
    assert!(open_files(dir) <= FEW_FILES + 1, "{} files are open", open_files(dir));
    wal.truncate_before(wal.end_lsn()).unwrap();
    for _ in 0..2 {
        wal.append_and_sync(b"durable").unwrap();
    }
    assert!(open_files(dir) <= FEW_FILES + 1, "{} files are open", open_files(dir));
    assert!(follower.next().unwrap().is_err());
    assert!(open_files(dir) <= FEW_FILES, "a follower that has ended holds none");
}

/// Whatever helped a log, it lets go of its files with its last handle.
fn a_dropped_log_holds_nothing(dir: &Path) {
    let every = Duration::from_micros(50);
    for round in 0..300 {
        let wal = options().sync_interval(every).flush_interval(every).open(dir).unwrap();
        let (tell, told) = mpsc::channel();
        for _ in 0..1 + round % 3 {
            let tell = tell.clone();
            let lsn = wal.append(&[4; 100]).unwrap();
            wal.on_durable(lsn, move |result| tell.send(result).unwrap());
        }
        drop(tell);
        if round % 2 == 0 {
            told.recv().unwrap().unwrap();
        }
        drop(wal);
        assert_eq!(open_files(dir), 0, "round {round}");
        assert!(told.iter().all(|result| result.is_ok()), "round {round}");
    }
}

/// Segments that wait for a sync keep their files open, up to a bound; others do not.
fn many_segments_are_a_few_open_files(dir: &Path) {
    let wal = options().open(dir).unwrap();
    for _ in 0..200 {
        wal.append(&[3; 100]).unwrap();
        wal.rotate().unwrap();
        assert!(open_files(dir) <= MOST_FILES, "{} files are open", open_files(dir));
    }
    // The first one syncs what is behind, the second one finds that nothing needs the others.
    for _ in 0..2 {
        wal.append_and_sync(b"durable").unwrap();
    }
    assert!(open_files(dir) <= FEW_FILES, "{} files are open", open_files(dir));
    let (mut records, mut read) = (wal.iter().unwrap(), 0);
    while let Some(record) = records.read_next() {
        assert!(!record.unwrap().is_empty());
        assert!(open_files(dir) <= FEW_FILES + 1, "{} files are open", open_files(dir));
        read += 1;
    }
    assert_eq!(read, 202);
    drop(records);
    wal.close().unwrap();
    drop(wal);
    assert_eq!(open_files(dir), 0);
    let wal = options().open(dir).unwrap();
    assert!(open_files(dir) <= FEW_FILES, "{} files are open", open_files(dir));
    wal.close().unwrap();
}

#[test]
fn a_log_takes_little_of_the_system() {
    let dir = tempfile::tempdir().unwrap();
    nothing_runs_for_an_idle_log(&dir.path().join("idle"));
    helpers_rest(&dir.path().join("helped"));
    many_segments_are_a_few_open_files(&dir.path().join("long"));
    a_follower_holds_one_file(&dir.path().join("followed"));
    a_dropped_log_holds_nothing(&dir.path().join("dropped"));
}
