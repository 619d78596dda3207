//! File systems that really run out of space, and get it back.
//!
//! Method: a small file system of our own, a tmpfs of 2 MiB and an ext4 of 8 MiB on a loop device,
//! which a ballast file fills. Mounting takes root on Linux; without it these tests say that they
//! proved nothing.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use cohort_wal::{Lsn, Wal, WalError, WalOptions};
use tempfile::TempDir;

use common::{Id, deadline_of, directory, payload, read_ids};

fn options() -> WalOptions {
    WalOptions::new().segment_bytes(64 << 10).ring_bytes(64 << 10)
}

/// A mounted file system; unmounted when dropped, which detaches its loop device as well.
struct Mount {
    dir: TempDir,
    mounted: bool,
}

fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Mount {
    fn point(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    fn mount(mut self, arguments: &[&str]) -> Option<Self> {
        fs::create_dir(self.point()).unwrap();
        self.mounted = succeeds(Command::new("mount").args(arguments).arg(self.point()));
        self.mounted.then_some(self)
    }

    fn tmpfs() -> Option<Self> {
        let mount = Self { dir: tempfile::tempdir().unwrap(), mounted: false };
        mount.mount(&["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
    }

    fn ext4() -> Option<Self> {
        let mount = Self { dir: tempfile::tempdir().unwrap(), mounted: false };
        let image = mount.dir.path().join("image");
        File::create(&image).unwrap().set_len(8 << 20).unwrap();
        let made = succeeds(Command::new("mkfs.ext4").arg("-F").arg(&image));
        let image = image.to_str().unwrap().to_owned();
        if made { mount.mount(&["-o", "loop", &image]) } else { None }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily, or a descriptor that a failed test left open would keep it mounted.
        if self.mounted && !succeeds(Command::new("umount").arg(self.point())) {
            succeeds(Command::new("umount").arg("--lazy").arg(self.point()));
        }
    }
}

/// Runs `test` in each small file system that can be had here.
fn on_small_disks(test: fn(&Path)) {
    for (name, mount) in [("tmpfs", Mount::tmpfs()), ("ext4", Mount::ext4())] {
        match mount {
            Some(mount) => deadline_of(60, move || test(&mount.point())),
            None => {
                let line = format!("skipped: no {name} can be mounted here\n");
                // Past the harness, which shows what is printed only of tests that fail.
                io::stderr().write_all(line.as_bytes()).ok();
            }
        }
    }
}

/// Fills the file system but for so many bytes.
fn fill(disk: &Path, rest: u64) -> PathBuf {
    let path = disk.join("ballast");
    let mut ballast = File::create(&path).unwrap();
    let mut len = 0;
    for piece in [64 << 10, 4 << 10] {
        loop {
            match ballast.write(&vec![1; piece]) {
                Ok(written) => len += u64::try_from(written).unwrap(),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::StorageFull);
                    break;
                }
            }
        }
    }
    ballast.set_len(len - rest).unwrap();
    // A file system that writes late has accounted for everything now.
    assert!(succeeds(Command::new("sync").arg("-f").arg(disk)));
    path
}

/// What a test of a full disk was promised.
#[derive(Default)]
struct Ledger {
    accepted: Vec<(Lsn, Id)>,
    durable: usize,
    number: u64,
}

impl Ledger {
    fn next(&mut self) -> Id {
        self.number += 1;
        Id { owner: 1, number: self.number }
    }

    /// Appends and commits in turn until the disk is full.
    fn append_until_full(&mut self, wal: &Wal, len: usize) {
        for turn in 0..100_000 {
            let id = self.next();
            match wal.append(&payload(id, len)) {
                Ok(lsn) => self.accepted.push((lsn, id)),
                Err(error) => return assert_full(&error),
            }
            if turn % 3 == 0 {
                match wal.sync() {
                    Ok(()) => self.durable = self.accepted.len(),
                    Err(error) => return assert_full(&error),
                }
            }
        }
        panic!("the disk never ran full");
    }
}

fn assert_full(error: &WalError) {
    assert!(matches!(error, WalError::StorageFull { .. }), "{error:?}");
    assert!(error.is_retryable());
}

/// What somebody sees who opens a copy of the log as it is now.
fn copy_of(log: &Path) -> Vec<(Lsn, Id)> {
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in directory(log) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    read_ids(&options().open(copy.path()).unwrap())
}

fn runs_full_and_goes_on(disk: &Path) {
    let log = disk.join("log");
    let wal = options().open(&log).unwrap();
    let mut ledger = Ledger::default();
    // Small records fill the ring, large ones go around it; space for a segment and a bit.
    for len in [100, 1_500, 9_000] {
        let ballast = fill(disk, 150 << 10);
        ledger.append_until_full(&wal, len);
        assert!(ledger.durable > 0);
        // The disk stays full: so does the log, until its ring is, and nothing is lost.
        for _ in 0..3 {
            assert_full(&wal.append(&payload(ledger.next(), 30_000)).unwrap_err());
            if wal.durable_lsn() < wal.end_lsn() {
                assert_full(&wal.sync().unwrap_err());
            }
        }
        let seen = copy_of(&log);
        assert!(seen.starts_with(&ledger.accepted[..ledger.durable]), "what was acknowledged");
        assert!(ledger.accepted.starts_with(&seen), "and only what was accepted");
        fs::remove_file(ballast).unwrap();
        let id = ledger.next();
        ledger.accepted.push((wal.append_and_sync(&payload(id, 200)).unwrap(), id));
        assert_eq!(wal.durable_lsn(), wal.end_lsn());
        assert_eq!(read_ids(&wal), ledger.accepted);
    }
    wal.close().unwrap();
    let wal = options().open(&log).unwrap();
    assert!(wal.recovery().clean);
    assert_eq!(read_ids(&wal), ledger.accepted);
}

#[test]
fn a_log_on_a_full_disk_loses_nothing_and_goes_on_when_there_is_space() {
    on_small_disks(runs_full_and_goes_on);
}

fn closes_when_there_is_space(disk: &Path) {
    let log = disk.join("log");
    let wal = options().open(&log).unwrap();
    let mut ledger = Ledger::default();
    let ballast = fill(disk, 100 << 10);
    ledger.append_until_full(&wal, 700);
    while ledger.accepted.len() == ledger.durable {
        // The last sync had space: another one will not.
        ledger.append_until_full(&wal, 700);
    }
    assert_full(&wal.close().unwrap_err());
    assert!(matches!(options().open(&log), Err(WalError::Locked { .. })));
    fs::remove_file(ballast).unwrap();
    wal.close().unwrap();
    let wal = options().open(&log).unwrap();
    assert!(wal.recovery().clean);
    assert_eq!(read_ids(&wal), ledger.accepted);
}

#[test]
fn closing_on_a_full_disk_can_be_retried_and_keeps_everything_accepted() {
    on_small_disks(closes_when_there_is_space);
}

fn opens_when_there_is_space(disk: &Path) {
    let log = disk.join("log");
    let wal = options().open(&log).unwrap();
    let id = Id { owner: 1, number: 1 };
    wal.append_and_sync(&payload(id, 5_000)).unwrap();
    drop(wal);
    let before = directory(&log);
    let look = || options().open_read_only(&log).unwrap();
    let end = look().end_lsn();
    let ballast = fill(disk, 0);
    for _ in 0..3 {
        assert_full(&options().open(&log).unwrap_err());
        let mut after = directory(&log);
        // Its own leftovers aside: none, or files without a name yet.
        after.retain(|name, _| !name.starts_with(".cohort-"));
        assert!(after.keys().eq(before.keys()));
        for (name, bytes) in &before {
            // CONTROL may say again what it said.
            assert!(name == "CONTROL" || after[name] == *bytes, "{name} has changed");
        }
        assert!(look().is_clean() && look().end_lsn() == end);
        assert_eq!(copy_of(&log).len(), 1);
    }
    // A new log finds no place here either.
    let fresh = disk.join("fresh");
    assert!(options().open(&fresh).is_err());
    fs::remove_file(ballast).unwrap();
    let wal = options().open(&log).unwrap();
    assert!(wal.recovery().clean);
    wal.append_and_sync(&payload(Id { number: 2, ..id }, 100)).unwrap();
    assert_eq!(read_ids(&wal).len(), 2);
    drop(wal);
    options().open(&fresh).unwrap().append_and_sync(b"there is space").unwrap();
}

#[test]
fn opening_on_a_full_disk_says_so_and_changes_nothing() {
    on_small_disks(opens_when_there_is_space);
}
