//! The process that is killed, cut off or failed: it commits from many threads and reports, on
//! standard output, what it was promised.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;

use cohort_wal::{Wal, WalOptions};
use simulation::oracle::{Violation, read};

use crate::ledger::{Ledger, Owner, unit};

/// Small segments and a small ring, so that rotation and a full ring happen all the time.
pub fn options() -> WalOptions {
    WalOptions::new().segment_bytes(64 << 10).ring_bytes(64 << 10)
}

/// Commits from so many threads, `units` each, until something fails or the process ends; then
/// closes the log.
///
/// Reports `ready` when the log is open, then `THREAD UNITS` whenever a thread learns that its
/// units below `UNITS` are durable.
///
/// # Errors
/// What opening the log ended with.
pub fn work(dir: &Path, threads: u64, round: u64, units: u64) -> cohort_wal::Result<()> {
    let wal = Arc::new(options().open(dir)?);
    say("ready");
    let threads = (0..threads).map(|thread| {
        let wal = Arc::clone(&wal);
        thread::spawn(move || {
            if let Some(error) = commit(&wal, Owner { round, thread }, units) {
                say(&format!("{thread} ended {}", error.to_string().replace('\n', " ")));
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        if thread.join().is_err() {
            say("a thread panicked");
        }
    }
    if let Err(error) = wal.close() {
        say(&format!("closing: {}", error.to_string().replace('\n', " ")));
    }
    Ok(())
}

/// Commits so many units, or until that fails.
fn commit(wal: &Wal, owner: Owner, units: u64) -> Option<cohort_wal::WalError> {
    for number in 0..units {
        let records = unit(owner, number);
        // Now and then a unit is only appended, and made durable by a later one.
        let lazily = number % 7 == 3;
        let result = match (records.as_slice(), lazily) {
            ([record], true) => wal.append(record).map(drop),
            ([record], false) => wal.append_and_sync(record).map(drop),
            (records, true) => wal.append_batch(records).map(drop),
            (records, false) => wal.append_batch_and_sync(records).map(drop),
        };
        if let Err(error) = result {
            return Some(error);
        }
        if !lazily {
            say(&format!("{} {}", owner.thread, number + 1));
        }
        if number % 64 == 63
            && let Err(error) = wal.rotate()
        {
            return Some(error);
        }
    }
    None
}

/// Says a line to the parent, in one write.
fn say(what: &str) {
    let line = format!("{what}\n");
    // The parent may have stopped listening: then nobody is owed anything.
    std::io::stdout().lock().write_all(line.as_bytes()).ok();
}

/// A worker at work; killed when dropped.
#[derive(Debug)]
pub struct Worker {
    child: Child,
    said: BufReader<ChildStdout>,
    round: u64,
}

impl Worker {
    /// Starts this program again as a worker.
    ///
    /// # Errors
    /// What the system says.
    pub fn start(dir: &Path, threads: u64, round: u64) -> std::io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("worker").arg(dir);
        command.args(["--threads", &threads.to_string(), "--round", &round.to_string()]);
        Self::spawn(command, round)
    }

    /// Starts a command that ends up as a worker.
    ///
    /// # Errors
    /// What the system says.
    pub fn spawn(mut command: Command, round: u64) -> std::io::Result<Self> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let said = child.stdout.take().ok_or_else(|| std::io::Error::other("no output"))?;
        Ok(Self { child, said: BufReader::new(said), round })
    }

    /// Reads reports until `enough` says so, or to the end. Returns how many there were, and what
    /// was said besides.
    ///
    /// # Errors
    /// What the system says.
    pub fn hear(
        &mut self,
        ledger: &mut Ledger,
        mut enough: impl FnMut(u64) -> bool,
    ) -> std::io::Result<(u64, Vec<String>)> {
        let (mut reports, mut rest, mut line) = (0, Vec::new(), String::new());
        while !enough(reports) {
            line.clear();
            self.said.read_line(&mut line)?;
            // A line without an end is one that the worker could not finish.
            let Some(said) = line.strip_suffix('\n') else { break };
            let words = said.split_once(' ');
            let words = words.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            match words {
                Some((thread, end)) => {
                    ledger.acknowledge(Owner { round: self.round, thread }, end);
                    reports += 1;
                }
                None => rest.push(said.to_owned()),
            }
        }
        Ok((reports, rest))
    }

    /// Reads the reports that are there by now. Returns how many.
    ///
    /// # Errors
    /// What the system says.
    pub fn hear_what_is_said(&mut self, ledger: &mut Ledger) -> std::io::Result<u64> {
        let mut reports = 0;
        while !self.said.buffer().is_empty() || rustix::io::ioctl_fionread(self.said.get_ref())? > 0
        {
            let mut one = false;
            reports += self.hear(ledger, |_| std::mem::replace(&mut one, true))?.0;
        }
        Ok(reports)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        // It may be gone already.
        self.child.kill().ok();
    }

    /// Waits for its end; its exit status, if it has one.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().ok().and_then(|status| status.code())
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}

/// Opens a log and checks it against the ledger; returns how many records it holds, and the log.
///
/// # Errors
/// The first broken promise.
pub fn check(dir: &Path, ledger: &mut Ledger) -> Result<(usize, Wal), Violation> {
    let wal = options().open(dir);
    let wal = wal.map_err(|e| Violation::new(simulation::oracle::Oracle::I7, e.to_string()))?;
    let found = read(&wal)?;
    ledger.check(&found.records)?;
    Ok((found.records.len(), wal))
}
