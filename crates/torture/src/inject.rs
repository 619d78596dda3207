//! System calls that fail: strace makes the k-th call of a kind end with an error, once or from
//! then on, in a process that commits.

use std::io;
use std::path::Path;
use std::process::Command;

use simulation::oracle::{Oracle, Violation};

use crate::cuts::Failure;
use crate::ledger::Ledger;
use crate::worker::{Worker, check};

/// Units of each thread of the process.
pub(crate) const UNITS: u64 = 12;
/// A process that is not done by then hangs.
pub(crate) const SECONDS: &str = "20";

/// What can go wrong: a system call and an error.
const FAULTS: [(&str, &str); 14] = [
    ("fdatasync", "EIO"),
    ("fdatasync", "ENOSPC"),
    ("fdatasync", "EDQUOT"),
    ("fsync", "EIO"),
    ("pwrite64", "EIO"),
    ("pwrite64", "ENOSPC"),
    ("pwrite64", "EFBIG"),
    ("pwrite64", "EINTR"),
    ("pread64", "EIO"),
    ("pread64", "EINTR"),
    ("renameat2", "EIO"),
    ("renameat2", "ENOSPC"),
    ("openat", "EMFILE"),
    ("openat", "EROFS"),
];

/// What a run met.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Tally {
    /// Processes that were run.
    pub runs: u64,
    /// Those in which a call was made to fail.
    pub injected: u64,
    /// Those that were told that the log is poisoned.
    pub poisoned: u64,
    /// Those that were refused at opening.
    pub refused: u64,
    /// Those that stopped at an error that loses nothing: no space, no descriptor.
    pub stopped: u64,
    /// Those that came to the end as if nothing had happened.
    pub unharmed: u64,
    /// Acknowledgements.
    pub acknowledged: u64,
    /// Records that were read again.
    pub records: u64,
}

/// What keeps this machine from it.
#[must_use]
pub fn missing() -> Option<String> {
    let works = Command::new("strace").args(["-qq", "-o", "/dev/null", "true"]).status();
    (!works.is_ok_and(|status| status.success())).then(|| "strace does not work here".to_owned())
}

/// Makes every call of every kind fail, up to `most` of each.
///
/// # Errors
/// The first broken promise.
pub fn errors(most: u64, threads: u64, progress: impl Fn(&Tally)) -> Result<Tally, Failure> {
    let mut tally = Tally::default();
    let before = Before::new(threads)?;
    for (call, error) in FAULTS {
        for sticky in [false, true] {
            // A read or write that a signal always interrupts goes on for ever, as it must.
            if sticky && error == "EINTR" {
                continue;
            }
            for k in 1..=most {
                let fault = Fault { call, error, k, sticky };
                let hit = one(fault, &before, threads, &mut tally)?;
                progress(&tally);
                if !hit {
                    break;
                }
            }
        }
    }
    Ok(tally)
}

/// The log of a process that was killed, which every run begins with.
struct Before {
    folder: tempfile::TempDir,
    ledger: Ledger,
}

impl Before {
    fn new(threads: u64) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut ledger = Ledger::default();
        let mut worker = Worker::start(folder.path(), threads, 0)?;
        worker.hear(&mut ledger, |heard| heard >= 40)?;
        worker.kill();
        worker.hear(&mut ledger, |_| false)?;
        worker.wait();
        Ok(Self { folder, ledger })
    }

    fn copy_to(&self, log: &Path) -> io::Result<()> {
        std::fs::create_dir(log)?;
        for entry in std::fs::read_dir(self.folder.path())? {
            let entry = entry?;
            std::fs::copy(entry.path(), log.join(entry.file_name()))?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
struct Fault {
    call: &'static str,
    error: &'static str,
    k: u64,
    sticky: bool,
}

/// One process with one fault; whether it was met.
fn one(fault: Fault, before: &Before, threads: u64, tally: &mut Tally) -> Result<bool, Failure> {
    let Fault { call, error, k, sticky } = fault;
    let folder = tempfile::tempdir()?;
    let (log, trace) = (folder.path().join("log"), folder.path().join("trace"));
    before.copy_to(&log)?;
    let plus = if sticky { "+" } else { "" };
    let mut command = Command::new("timeout");
    command.args(["--kill-after=1", SECONDS, "strace", "-f", "-qq", "-o"]).arg(&trace);
    command.args(["-e", &format!("trace={call}"), "-e"]);
    command.arg(format!("inject={call}:error={error}:when={k}{plus}"));
    if matches!(call, "openat" | "pread64") {
        // Only files of the log: the loader opens and reads others.
        let segments = (1..20).map(|seq| log.join(format!("{seq:020}.wal")));
        for path in segments.chain([log.clone(), log.join("CONTROL")]) {
            command.arg("-P").arg(path);
        }
    }
    command.arg(std::env::current_exe()?).arg("worker").arg(&log);
    command.args(["--threads", &threads.to_string(), "--round", "1"]);
    command.args(["--units", &UNITS.to_string()]);
    let name = format!("{call} fails with {error}, call {k}{plus}");
    let mut ledger = before.ledger.clone();
    outcome(command, &name, &mut ledger, tally)?;
    let hit = std::fs::read_to_string(&trace)?.contains("(INJECTED)");
    tally.injected += u64::from(hit);
    kept(&name, &log, &mut ledger, tally)?;
    Ok(hit)
}

/// Runs a worker to its end, which must come, and not by a panic.
pub(crate) fn outcome(
    command: Command,
    name: &str,
    ledger: &mut Ledger,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let mut worker = Worker::spawn(command, 1)?;
    let (heard, said) = worker.hear(ledger, |_| false)?;
    let ended = worker.wait();
    tally.runs += 1;
    tally.acknowledged += heard;
    let broken = |what: &str| Violation::new(Oracle::I10, format!("{name}: {what}"));
    if let Some(line) = said.iter().find(|line| line.starts_with("broken")) {
        return Err(broken(line).into());
    }
    if ended == Some(124) || ended == Some(137) {
        return Err(broken("the process hangs").into());
    }
    let has = |word: &str| said.iter().any(|line| line.contains(word));
    match () {
        () if has("opening:") => tally.refused += 1,
        () if has("poisoned") => tally.poisoned += 1,
        () if !has("ended") && !has("closing") => tally.unharmed += 1,
        () => tally.stopped += 1,
    }
    Ok(())
}

/// Opens the log with nothing wrong any more, and finds in it what is owed.
pub(crate) fn kept(
    name: &str,
    log: &Path,
    ledger: &mut Ledger,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let (records, wal) =
        check(log, ledger).map_err(|v| Violation::new(v.oracle, format!("{name}: {}", v.what)))?;
    tally.records += records as u64;
    wal.close().map_err(|error| io::Error::other(error.to_string()))?;
    Ok(())
}
