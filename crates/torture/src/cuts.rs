//! Deaths of a committing process: by SIGKILL, or because the power goes.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use simulation::dice::Dice;

use crate::device::{Device, Kind};
use crate::ledger::Ledger;
use crate::worker::{Worker, check};

/// Rounds that share one log; then a new one is begun, or reading it again takes ever longer.
const LIVES: u64 = 10;

/// What a run met.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Tally {
    /// Deaths.
    pub rounds: u64,
    /// Acknowledgements that were given, one for one unit or several.
    pub acknowledged: u64,
    /// Checkpoints that were acknowledged, of all but the newest records.
    pub checkpoints: u64,
    /// Cuts that were acknowledged, of records that were durable.
    pub cuts: u64,
    /// Records that were read again, every one of them checked.
    pub records: u64,
    /// Second cuts, right after a log was opened again.
    pub second_cuts: u64,
    /// Rounds in which a sync that returned while the power went had not made everything durable.
    /// Nobody hears of such a sync when a computer dies, so nothing is owed for it.
    pub lied_while_cut: u64,
}

impl Tally {
    /// A log has had all its lives.
    fn end(&mut self, ledger: &Ledger) {
        self.checkpoints += ledger.checkpoints();
        self.cuts += ledger.cuts();
    }
}

/// A broken promise, or what kept a rig from working.
#[derive(Debug)]
pub enum Failure {
    /// The log is wrong.
    Log(simulation::oracle::Violation),
    /// The rig is.
    Rig(io::Error),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Rig(error)
    }
}

impl From<simulation::oracle::Violation> for Failure {
    fn from(violation: simulation::oracle::Violation) -> Self {
        Self::Log(violation)
    }
}

/// Lets a worker commit for a while; returns it alive.
fn at_work(
    dir: &Path,
    threads: u64,
    round: u64,
    reports: u64,
    ledger: &mut Ledger,
    tally: &mut Tally,
) -> io::Result<Worker> {
    let mut worker = Worker::start(dir, threads, round)?;
    let (heard, rest) = worker.hear(ledger, |heard| heard >= reports)?;
    tally.acknowledged += heard;
    if let Some(wrong) = rest.iter().find(|said| *said != "ready") {
        return Err(io::Error::other(format!("round {round}: the worker said `{wrong}`")));
    }
    Ok(worker)
}

/// Hears what a worker had said before it died.
fn last_words(worker: &mut Worker, ledger: &mut Ledger, tally: &mut Tally) -> io::Result<()> {
    let (heard, rest) = worker.hear(ledger, |_| false)?;
    tally.acknowledged += heard;
    worker.wait();
    match rest.iter().find(|said| said.starts_with("broken")) {
        Some(said) => Err(io::Error::other(said.clone())),
        None => Ok(()),
    }
}

/// Kills a committing process again and again.
///
/// # Errors
/// The first broken promise.
pub fn kills(
    rounds: u64,
    threads: u64,
    seed: u64,
    progress: impl Fn(&Tally),
) -> Result<Tally, Failure> {
    let (mut tally, mut dice) = (Tally::default(), Dice::new(&[seed]));
    while tally.rounds < rounds {
        let folder = tempfile::tempdir()?;
        let mut ledger = Ledger::default();
        for _ in 0..LIVES.min(rounds - tally.rounds) {
            let reports = dice.number() % 300;
            let round = tally.rounds;
            let mut worker =
                at_work(folder.path(), threads, round, reports, &mut ledger, &mut tally)?;
            worker.kill();
            last_words(&mut worker, &mut ledger, &mut tally)?;
            tally.rounds += 1;
            // Of three times, we recover twice; the third time the next worker does.
            if tally.rounds % 3 != 0 {
                tally.records += check(folder.path(), &mut ledger)?.0 as u64;
            }
            progress(&tally);
        }
        tally.records += check(folder.path(), &mut ledger)?.0 as u64;
        tally.end(&ledger);
    }
    Ok(tally)
}

/// Cuts the power of a committing process again and again.
///
/// # Errors
/// The first broken promise.
pub fn power_cuts(
    kind: Kind,
    rounds: u64,
    threads: u64,
    seed: u64,
    progress: impl Fn(&Tally),
) -> Result<Tally, Failure> {
    let (mut tally, mut dice) = (Tally::default(), Dice::new(&[seed]));
    let mut device = Device::new(kind)?;
    let log = device.path().join("log");
    while tally.rounds < rounds {
        device.format()?;
        let mut ledger = Ledger::default();
        for _ in 0..LIVES.min(rounds - tally.rounds) {
            device.mount()?;
            let reports = dice.number() % 200;
            let round = tally.rounds;
            let mut worker = at_work(&log, threads, round, reports, &mut ledger, &mut tally)?;
            let begin = SystemTime::now();
            let wait = Duration::from_micros(dice.number() % 3000);
            while begin.elapsed().is_ok_and(|waited| waited < wait) {
                std::hint::spin_loop();
            }
            // What was said by now is owed. What is said from now on comes from syncs that ended
            // while the file system was being cut off, and it lets some of those succeed.
            tally.acknowledged += worker.hear_what_is_said(&mut ledger)?;
            device.cut()?;
            let mut last = ledger.clone();
            last_words(&mut worker, &mut last, &mut tally)?;
            drop(worker);
            device.unmount()?;
            tally.rounds += 1;
            if tally.rounds % 3 != 0 {
                let second = dice.number() % 2 == 0;
                again(&mut device, &log, &mut ledger, &mut tally, second)?;
                tally.lied_while_cut += u64::from(last.owes_more_than(&ledger));
            }
            progress(&tally);
        }
        again(&mut device, &log, &mut ledger, &mut tally, false)?;
        tally.end(&ledger);
    }
    Ok(tally)
}

/// Opens the log after a cut, and perhaps cuts again before anything was synced by anybody else.
fn again(
    device: &mut Device,
    log: &Path,
    ledger: &mut Ledger,
    tally: &mut Tally,
    second: bool,
) -> Result<(), Failure> {
    device.mount()?;
    // The directory is not there if the power went before anything was acknowledged.
    let (records, wal) = check(log, ledger)?;
    tally.records += records as u64;
    if second {
        device.cut()?;
        tally.second_cuts += 1;
    }
    // Closing fails after a cut; what was shown is durable all the same.
    let closed = wal.close();
    drop(wal);
    if second {
        device.unmount()?;
        device.mount()?;
        tally.records += check(log, ledger)?.0 as u64;
    } else {
        closed.map_err(|error| io::Error::other(error.to_string()))?;
    }
    device.unmount()?;
    Ok(())
}
