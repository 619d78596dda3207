//! Crashes between two block writes, and a disk that fails for a moment: on a real file system,
//! over a disk of ours.

use std::io;
use std::path::Path;

use cohort_wal::Wal;
use simulation::dice::Dice;
use simulation::oracle::{Oracle, Violation};

use crate::cuts::Failure;
use crate::device::{Device, Kind, folder};
use crate::disk::{Disk, State, Trouble};
use crate::ledger::{Ledger, Owner, unit};
use crate::worker::{Worker, check, options, shown};

/// Moments of one workload that are kept.
const MOMENTS: u64 = 20;
/// Images of one moment.
const IMAGES: u64 = 25;

/// What a run met.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub struct Tally {
    /// Moments at which a workload was stopped.
    pub moments: u64,
    /// Images that were mounted and recovered.
    pub images: u64,
    /// Writes that no flush had followed, in all moments.
    pub pending: u64,
    /// Records that were read again.
    pub records: u64,
    /// Acknowledgements.
    pub acknowledged: u64,
    /// Disks that failed under a log.
    pub failures: u64,
    /// Reopened on the same mount afterwards; the others needed a new mount.
    pub reopened: u64,
}

/// Tries to put a disk of ours under a file system; otherwise says what is missing here.
#[must_use]
pub fn missing(kind: Kind) -> Option<String> {
    let tried = || {
        let folder = tempfile::tempdir()?;
        let disk = Disk::new(kind.image_bytes());
        let served = disk.serve(folder.path())?;
        Device::on(kind, served.file())?.format()
    };
    tried().err().map(|error| format!("no disk of ours here: {error}"))
}

/// Mounts what a power loss left and holds its log against what is owed.
fn recover(
    kind: Kind,
    state: &State,
    number: u64,
    seed: u64,
    ledger: &Ledger,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let folder = folder()?;
    let image = folder.path().join("image");
    state.loss(number, seed).write_to(&image, kind.image_bytes())?;
    let mut device = Device::on(kind, &image)?;
    device.mount()?;
    let (records, wal) = check(&device.path().join("log"), &mut ledger.clone())
        .map_err(|violation| named(&violation, number, seed))?;
    wal.close().map_err(|error| io::Error::other(error.to_string()))?;
    drop(wal);
    device.unmount()?;
    tally.images += 1;
    tally.records += records as u64;
    Ok(())
}

fn named(violation: &Violation, number: u64, seed: u64) -> Violation {
    let what = format!("image {number} of seed {seed}: {}", violation.what);
    Violation::new(violation.oracle, what)
}

/// Lets workers commit on a disk of ours, and recovers from what the disk could have held at many
/// moments.
///
/// # Errors
/// The first broken promise.
pub fn images(
    kind: Kind,
    count: u64,
    threads: u64,
    seed: u64,
    progress: impl Fn(&Tally),
) -> Result<Tally, Failure> {
    let (mut tally, mut dice) = (Tally::default(), Dice::new(&[seed]));
    let mut round = 0;
    while tally.images < count {
        let folder = tempfile::tempdir()?;
        let disk = Disk::new(kind.image_bytes());
        let served = disk.serve(folder.path())?;
        let mut device = Device::on(kind, served.file())?;
        device.format()?;
        device.mount()?;
        let mut ledger = Ledger::default();
        let mut moments = Vec::new();
        let mut worker = Worker::start(&device.path().join("log"), threads, round)?;
        for _ in 0..MOMENTS {
            let reports = dice.number() % 60;
            tally.acknowledged += worker.hear(&mut ledger, |heard| heard >= reports)?.0;
            // What was heard by now was acknowledged before the moment that is kept.
            let owed = ledger.clone();
            disk.keep_after(dice.number() % 24);
            let mut kept = None;
            tally.acknowledged += worker
                .hear(&mut ledger, |_| {
                    kept = disk.kept();
                    kept.is_some()
                })?
                .0;
            let Some(kept) = kept else {
                return Err(io::Error::other("the worker ended by itself").into());
            };
            moments.push((kept, owed));
        }
        worker.kill();
        worker.wait();
        device.unmount()?;
        drop(device);
        drop(served);
        round += 1;
        for (moment, ledger) in moments {
            tally.moments += 1;
            tally.pending += moment.pending() as u64;
            for number in 0..IMAGES {
                if tally.images < count {
                    recover(kind, &moment, number, seed ^ round, &ledger, &mut tally)?;
                    progress(&tally);
                }
            }
        }
    }
    Ok(tally)
}

/// Commits units of one owner from `number` on until that fails or there were enough; returns the
/// number of the next one, and the error.
fn commit(
    wal: &Wal,
    owner: Owner,
    number: u64,
    count: u64,
    ledger: &mut Ledger,
    tally: &mut Tally,
) -> (u64, Option<cohort_wal::WalError>) {
    for number in number..number + count {
        if let Err(error) = wal.append_batch_and_sync(&unit(owner, number)) {
            return (number, Some(error));
        }
        ledger.acknowledge(owner, number + 1);
        tally.acknowledged += 1;
    }
    (number + count, None)
}

/// A disk fails a write or a flush and is well again: nothing acknowledged is missing, nothing is
/// shown that a power cut then takes away.
///
/// # Errors
/// The first broken promise.
pub fn failing_disk(
    kind: Kind,
    rounds: u64,
    seed: u64,
    progress: impl Fn(&Tally),
) -> Result<Tally, Failure> {
    let (mut tally, mut dice) = (Tally::default(), Dice::new(&[seed]));
    for round in 0..rounds {
        let folder = tempfile::tempdir()?;
        let disk = Disk::new(kind.image_bytes());
        let served = disk.serve(folder.path())?;
        let mut device = Device::on(kind, served.file())?;
        device.format()?;
        device.mount()?;
        let log = device.path().join("log");
        let mut ledger = Ledger::default();
        let owner = Owner { round, thread: 0 };
        let wal = options().open(&log);
        let wal = wal.map_err(|error| io::Error::other(error.to_string()))?;
        let (next, error) = commit(&wal, owner, 0, 1 + dice.number() % 40, &mut ledger, &mut tally);
        if let Some(error) = error {
            return Err(io::Error::other(error.to_string()).into());
        }

        let left = Some(dice.number() % 12);
        disk.trouble(match dice.number() % 3 {
            0 => Trouble { flushes_left: left, ..Trouble::default() },
            _ => Trouble { writes_left: left, ..Trouble::default() },
        });
        let (_, error) = commit(&wal, owner, next, 400, &mut ledger, &mut tally);
        let durable = wal.durable_lsn();
        match error {
            Some(error) if error.is_poisoned() => {}
            other => {
                let what = format!("round {round}: the disk failed, and the commit: {other:?}");
                return Err(Violation::new(Oracle::I10, what).into());
            }
        }
        disk.trouble(Trouble::default());
        // The disk is well again, and the log must not take that for an answer.
        let retried = wal.sync();
        if retried.is_ok() || wal.append(b"late").is_ok() || wal.durable_lsn() != durable {
            let what = format!("round {round}: poison wore off");
            return Err(Violation::new(Oracle::I10, what).into());
        }
        drop(wal);
        if dice.number() % 2 == 0 {
            // The cache lets go of its clean pages, those that no sync will write included.
            std::fs::write("/proc/sys/vm/drop_caches", "1")?;
        }
        tally.failures += 1;
        reopened(&disk, &mut device, &log, kind, seed ^ round, &mut ledger, &mut tally)?;
        progress(&tally);
    }
    Ok(tally)
}

/// Opens the log again, and cuts the power once it has shown what it has.
fn reopened(
    disk: &Disk,
    device: &mut Device,
    log: &Path,
    kind: Kind,
    seed: u64,
    ledger: &mut Ledger,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let wal = match options().open(log) {
        Ok(wal) => {
            tally.reopened += 1;
            wal
        }
        Err(error) if error.is_corruption() => {
            return Err(Violation::new(Oracle::I7, error.to_string()).into());
        }
        // The file system gave up as well, and wants to be mounted again.
        Err(_) => {
            device.unmount()?;
            device.mount()?;
            let wal = options().open(log);
            wal.map_err(|error| Violation::new(Oracle::I7, error.to_string()))?
        }
    };
    let shown = shown(&wal)?;
    tally.records += shown.records.len() as u64;
    ledger.check(shown)?;
    let state = disk.state();
    drop(wal);
    device.unmount()?;
    tally.moments += 1;
    tally.pending += state.pending() as u64;
    (0..6).try_for_each(|number| recover(kind, &state, number, seed, ledger, tally))
}
