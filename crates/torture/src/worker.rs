//! The process that is killed, cut off or failed: it commits from many threads and reports, on
//! standard output, what it was promised.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cohort_wal::{Lsn, Wal, WalError, WalOptions};
use simulation::oracle::{Oracle, Violation, records};
use simulation::record::identify;

use crate::ledger::{Ledger, OWNERS, Owner, Shown, State, unit};

/// Bytes of the log that a checkpoint stands for.
const BETWEEN: u64 = 32 << 10;

/// Small segments and a small ring, so that rotation and a full ring happen all the time.
pub fn options() -> WalOptions {
    WalOptions::new().segment_bytes(64 << 10).ring_bytes(64 << 10)
}

/// Commits from so many threads, `units` each, until something fails or the process ends; then
/// closes the log. One more thread makes checkpoints meanwhile.
///
/// Reports `ready` when the log is open, `withdrawn` when what was appended first was cut off
/// again, then `THREAD UNITS` whenever a thread learns that its units below `UNITS` are durable,
/// and `checkpoint LSN` for each.
///
/// # Errors
/// What opening the log ended with.
pub fn work(dir: &Path, threads: u64, round: u64, units: u64) -> cohort_wal::Result<()> {
    let wal = options().open(dir)?;
    say("ready");
    let ended = AtomicBool::new(false);
    if let Err(error) = change_its_mind(&wal, round) {
        ends("the cut", &error);
    }
    thread::scope(|scope| {
        let keeper = scope.spawn(|| match keep_short(&wal, &ended) {
            Ok(()) => {}
            Err(Stop::Log(error)) => ends("checkpoints", &error),
            Err(Stop::Broken(violation)) => say(&format!("broken: {violation}")),
        });
        let (wal, owners) = (&wal, (0..threads).map(|thread| Owner { round, thread }));
        let committers = owners.map(|owner| {
            scope.spawn(move || {
                if let Some(error) = commit(wal, owner, units) {
                    ends(&owner.thread.to_string(), &error);
                }
            })
        });
        for thread in committers.collect::<Vec<_>>() {
            if thread.join().is_err() {
                say("broken: a thread panicked");
            }
        }
        ended.store(true, Ordering::Relaxed);
        if keeper.join().is_err() {
            say("broken: a thread panicked");
        }
    });
    if let Err(error) = wal.close() {
        say(&format!("closing: {}", error.to_string().replace('\n', " ")));
    }
    Ok(())
}

/// Reports what has ended with which error.
fn ends(what: &str, error: &WalError) {
    say(&format!("{what} ended {}", error.to_string().replace('\n', " ")));
}

/// Appends, makes durable, and cuts off again.
fn change_its_mind(wal: &Wal, round: u64) -> cohort_wal::Result<()> {
    let (before, owner) = (wal.last_lsn(), withdrawn(round));
    let mut first = None;
    for number in 0..3 {
        let lsns = wal.append_batch_and_sync(&unit(owner, number))?;
        first = first.or(lsns.first().copied());
    }
    match (before, first) {
        (Some(last), _) if round.is_multiple_of(2) => wal.truncate_after(last)?,
        (_, Some(first)) => wal.truncate_from(first)?,
        _ => return Ok(()),
    }
    say("withdrawn");
    Ok(())
}

/// Who appends what is cut off again, in one life of a worker.
fn withdrawn(round: u64) -> Owner {
    Owner { round, thread: OWNERS - 1 }
}

/// Why there are no more checkpoints.
enum Stop {
    /// An error of the log, which may have its reason.
    Log(WalError),
    /// Nothing may be the reason of this.
    Broken(Violation),
}

impl From<WalError> for Stop {
    fn from(error: WalError) -> Self {
        match error.is_corruption() {
            true => Self::Broken(Violation::new(Oracle::I7, error.to_string())),
            false => Self::Log(error),
        }
    }
}

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self::Broken(violation)
    }
}

/// Makes a checkpoint of the oldest records whenever there are many, from the snapshot before and
/// the records behind it, as a database does.
fn keep_short(wal: &Wal, ended: &AtomicBool) -> Result<(), Stop> {
    let (mut at, mut state) = snapshot(wal)?.unwrap_or((wal.head_lsn().get(), State::default()));
    while !ended.load(Ordering::Relaxed) {
        if wal.end_lsn().get() - at < 2 * BETWEEN {
            thread::sleep(Duration::from_millis(1));
            continue;
        }
        let mut below = state.clone();
        for record in wal.iter_from(Lsn::new(at))? {
            let record = record?;
            let lsn = record.lsn();
            if below.is_whole() && lsn.get() - at >= BETWEEN {
                let image = below.to_image(lsn.get());
                wal.checkpoint(lsn, |to| to.write_all(&image))?;
                say(&format!("checkpoint {lsn}"));
                (at, state) = (lsn.get(), below);
                break;
            }
            let key = identify(record.data());
            let key = key.ok_or_else(|| Violation::new(Oracle::I3, format!("at {lsn}")))?;
            below.add(lsn.get(), key)?;
        }
    }
    Ok(())
}

/// The snapshot that counts.
fn snapshot(wal: &Wal) -> Result<Option<(u64, State)>, Stop> {
    let Some(mut latest) = wal.snapshots()?.latest()? else { return Ok(None) };
    let (lsn, mut image) = (latest.lsn(), Vec::new());
    latest.read_to_end(&mut image).map_err(|error| match error.downcast::<WalError>() {
        Ok(error) => Stop::from(error),
        Err(error) => Violation::new(Oracle::I7, format!("the snapshot: {error}")).into(),
    })?;
    let state = State::from_image(lsn.get(), &image);
    let state = state.ok_or_else(|| Violation::new(Oracle::I3, "a snapshot nobody wrote"))?;
    Ok(Some((lsn.get(), state)))
}

/// All that a log shows.
///
/// # Errors
/// The first broken promise.
pub fn shown(wal: &Wal) -> Result<Shown, Violation> {
    let snapshot = snapshot(wal).map_err(|stop| match stop {
        Stop::Broken(violation) => violation,
        Stop::Log(error) => Violation::new(Oracle::I7, format!("the snapshot: {error}")),
    })?;
    Ok(Shown { snapshot, records: records(wal)? })
}

/// Commits so many units, or until that fails.
fn commit(wal: &Wal, owner: Owner, units: u64) -> Option<cohort_wal::WalError> {
    for number in 0..units {
        let records = unit(owner, number);
        // Now and then a unit is only appended, and made durable by a later one.
        let lazily = number % 7 == 3;
        let report = format!("{} {}", owner.thread, number + 1);
        let mut said = lazily;
        let result = match (records.as_slice(), lazily) {
            // Nobody waits: a callback says so.
            ([record], false) if number % 5 == 2 => {
                said = true;
                wal.append(record).map(|lsn| say_when(wal, lsn, report.clone()))
            }
            ([record], true) => wal.append(record).map(drop),
            ([record], false) => wal.append_and_sync(record).map(drop),
            (records, true) => wal.append_batch(records).map(drop),
            (records, false) => wal.append_batch_and_sync(records).map(drop),
        };
        if let Err(error) = result {
            return Some(error);
        }
        if !said {
            say(&report);
        }
        if number % 64 == 63
            && let Err(error) = wal.rotate()
        {
            return Some(error);
        }
    }
    None
}

/// Has a callback say a line once a record is durable.
fn say_when(wal: &Wal, lsn: Lsn, report: String) {
    wal.on_durable(lsn, move |durable| {
        if durable.is_ok() {
            say(&report);
        }
    });
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
            if self.enter(said, ledger).is_some() {
                reports += 1;
            } else {
                rest.push(said.to_owned());
            }
        }
        Ok((reports, rest))
    }

    /// Enters a report into a ledger, if it is one.
    fn enter(&self, said: &str, ledger: &mut Ledger) -> Option<()> {
        let round = self.round;
        match said.split_once(' ') {
            None if said == "withdrawn" => ledger.withdraw(withdrawn(round)),
            Some(("checkpoint", lsn)) => ledger.checkpointed(lsn.parse().ok()?),
            Some((thread, end)) => {
                ledger
                    .acknowledge(Owner { round, thread: thread.parse().ok()? }, end.parse().ok()?);
            }
            None => return None,
        }
        Some(())
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
    let shown = shown(&wal)?;
    let records = shown.records.len();
    ledger.check(shown)?;
    Ok((records, wal))
}
