//! Surroundings that run out: descriptors, the size of a file, space, a file system that may only
//! be read, a directory that is removed under the log.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

use simulation::oracle::{Oracle, Violation};

use crate::cuts::Failure;
use crate::device::{Device, Kind, run};
use crate::inject::{SECONDS, Tally, UNITS, kept, outcome};
use crate::ledger::Ledger;
use crate::worker::Worker;

/// Limits of open descriptors; the first ones do not even let a log be opened.
const DESCRIPTORS: std::ops::Range<u64> = 3..40;
/// Limits of the size of a file, in steps of 512 bytes up to more than a segment has.
const FILE_SIZES: std::ops::Range<u64> = 0..140;
/// Sizes of a file system, in KiB.
const SPACES: [u64; 24] = [
    4, 8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 72, 80, 96, 112, 128, 144, 160, 192, 224, 256,
    320, 384,
];
/// Reports after which a directory is removed.
const REMOVALS: [u64; 6] = [0, 1, 10, 50, 200, 500];

/// What keeps this machine from it.
#[must_use]
pub fn missing() -> Option<String> {
    let tried = || {
        run(&["prlimit", "--version"])?;
        run(&["env", "--ignore-signal=XFSZ", "true"])?;
        let folder = tempfile::tempdir()?;
        Space::new(folder.path(), 64).map(drop)
    };
    let failed = tried().err().map(|error| format!("no limits here: {error}"));
    failed.or_else(|| Kind::Ext4.missing())
}

/// Runs into every limit.
///
/// # Errors
/// The first broken promise.
pub fn limits(threads: u64, progress: impl Fn(&Tally)) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    for most in DESCRIPTORS {
        under(&["prlimit", &format!("--nofile={most}:{most}")], threads, &mut tally)?;
        progress(&tally);
    }
    for blocks in FILE_SIZES {
        let most = blocks * 512;
        let limit = format!("--fsize={most}:{most}");
        under(&["env", "--ignore-signal=XFSZ", "prlimit", &limit], threads, &mut tally)?;
        progress(&tally);
    }
    for kib in SPACES {
        no_space(kib, threads, &mut tally)?;
        progress(&tally);
    }
    read_only(threads, &mut tally)?;
    for reports in REMOVALS {
        removed(reports, threads, &mut tally)?;
        progress(&tally);
    }
    Ok(tally)
}

/// This program as a worker on a log, started through other programs.
fn worker(through: &[&str], log: &Path, threads: u64, units: u64) -> io::Result<Command> {
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", SECONDS]).args(through);
    command.arg(std::env::current_exe()?).arg("worker").arg(log);
    command.args(["--threads", &threads.to_string(), "--round", "1"]);
    command.args(["--units", &units.to_string()]);
    Ok(command)
}

/// A worker with a limit, then one without.
fn under(limit: &[&str], threads: u64, tally: &mut Tally) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut ledger = Ledger::default();
    let command = worker(limit, &log, threads, 4 * UNITS)?;
    outcome(command, &limit.join(" "), &mut ledger, tally)?;
    kept(&limit.join(" "), &log, &mut ledger, tally)
}

/// A file system in memory with so much space; unmounted when dropped.
struct Space<'a>(&'a Path);

impl<'a> Space<'a> {
    fn new(path: &'a Path, kib: u64) -> io::Result<Self> {
        let size = format!("size={kib}k");
        run(&["mount", "-t", "tmpfs", "-o", &size, "tmpfs", &path.to_string_lossy()])?;
        Ok(Self(path))
    }

    fn grow(&self) -> io::Result<()> {
        run(&["mount", "-o", "remount,size=64m", &self.0.to_string_lossy()]).map(drop)
    }
}

impl Drop for Space<'_> {
    fn drop(&mut self) {
        run(&["umount", "-l", &self.0.to_string_lossy()]).ok();
    }
}

fn no_space(kib: u64, threads: u64, tally: &mut Tally) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let space = Space::new(folder.path(), kib)?;
    let (log, name) = (folder.path().join("log"), format!("{kib} KiB of space"));
    let mut ledger = Ledger::default();
    outcome(worker(&[], &log, threads, 8 * UNITS)?, &name, &mut ledger, tally)?;
    space.grow()?;
    kept(&name, &log, &mut ledger, tally)
}

/// A log that a crash left, on a file system that may only be read: refused by name, unchanged.
fn read_only(threads: u64, tally: &mut Tally) -> Result<(), Failure> {
    let mut device = Device::new(Kind::Ext4)?;
    device.format()?;
    device.mount()?;
    let log = device.path().join("log");
    let mut ledger = Ledger::default();
    let mut killed = Worker::start(&log, threads, 0)?;
    killed.hear(&mut ledger, |heard| heard >= 40)?;
    killed.kill();
    killed.hear(&mut ledger, |_| false)?;
    drop(killed);
    let before = contents(&log)?;
    run(&["mount", "-o", "remount,ro", &device.path().to_string_lossy()])?;
    let refused = tally.refused;
    outcome(worker(&[], &log, threads, UNITS)?, "read-only", &mut ledger, tally)?;
    if tally.refused == refused || contents(&log)? != before {
        let what = "a log on a file system that may only be read was not refused";
        return Err(Violation::new(Oracle::I9, what).into());
    }
    run(&["mount", "-o", "remount,rw", &device.path().to_string_lossy()])?;
    kept("writable again", &log, &mut ledger, tally)?;
    Ok(device.unmount()?)
}

fn contents(folder: &Path) -> io::Result<Vec<(std::ffi::OsString, Vec<u8>)>> {
    let entries = fs::read_dir(folder)?.map(|entry| {
        let entry = entry?;
        Ok((entry.file_name(), fs::read(entry.path())?))
    });
    let mut files = entries.collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// A worker whose directory is removed ends by an error. Nothing is owed: the files are gone.
fn removed(reports: u64, threads: u64, tally: &mut Tally) -> Result<(), Failure> {
    let folder = tempfile::tempdir()?;
    let log = folder.path().join("log");
    let mut ledger = Ledger::default();
    let mut worker = Worker::spawn(worker(&[], &log, threads, u64::MAX)?, 1)?;
    let (heard, _) = worker.hear(&mut ledger, |heard| heard >= reports)?;
    while let Err(error) = fs::remove_dir_all(&log) {
        // The worker may not have made it yet, or put a file into it meanwhile.
        let again = [io::ErrorKind::NotFound, io::ErrorKind::DirectoryNotEmpty];
        if !again.contains(&error.kind()) {
            return Err(error.into());
        }
    }
    let (more, said) = worker.hear(&mut ledger, |_| false)?;
    tally.runs += 1;
    tally.acknowledged += heard + more;
    let ended = worker.wait();
    let failed = said.iter().any(|line| line.contains("ended") || line.contains("opening:"));
    if ended == Some(124) || ended == Some(137) || !failed {
        let what = format!("a log without its directory goes on: {ended:?} {said:?}");
        return Err(Violation::new(Oracle::I10, what).into());
    }
    tally.poisoned += 1;
    Ok(())
}
