//! Histories: a few lives of a log on one disk, each judged by the recovery after it.

use std::fmt;
use std::sync::Arc;

use cohort_wal::sim::Profile;
use cohort_wal::{Gather, Preallocate, Wal, WalError, WalOptions, WalStore};
use shuttle::thread;
use simulation::history::{History as Promises, Promise};
use simulation::oracle::{self, Crash, Oracle, Violation};
use simulation::record::payload;

use crate::disk::Disk;
use crate::fault::Fault;
use crate::ledger::{Ledger, Seen, agree};
use crate::machine::Machine;
use crate::schedule::Order;
use crate::work::{Op, Worker};

/// How a life ends whose computer does not die at a store call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The log is closed.
    Close,
    /// The log is dropped.
    Drop,
    /// The computer dies with the log open and no call under way.
    Fall,
}

/// A fault and whether it can lose nothing: only make calls fail until there is space again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trouble {
    /// The fault.
    pub fault: Fault,
    /// Nothing is lost.
    pub harmless: bool,
}

/// One life of a log.
#[derive(Clone)]
pub struct Life {
    /// What each thread does.
    pub threads: Vec<Vec<Op>>,
    /// What is wrong with the disk.
    pub troubles: Vec<Trouble>,
    /// The store call that the computer dies at, if it gets so far.
    pub death: Option<u64>,
    /// How it ends otherwise.
    pub end: End,
    /// What follows.
    pub crash: Crash,
}

/// A thread on a line, so that a history can be read.
impl fmt::Debug for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { threads, troubles, death, end, crash } = self;
        writeln!(f, "Life {{ threads: vec![")?;
        threads.iter().try_for_each(|ops| writeln!(f, "    vec!{ops:?},"))?;
        writeln!(f, "], troubles: vec!{troubles:?},")?;
        write!(f, "death: {death:?}, end: End::{end:?}, crash: Crash::{crash:?} }}")
    }
}

/// A few lives of a log.
#[derive(Debug, Clone)]
pub struct History {
    /// Which schedule.
    pub order: Order,
    /// The kind of disk.
    pub profile: Profile,
    /// Of the disk.
    pub seed: u64,
    /// Size of the ring, in bytes.
    pub ring_bytes: usize,
    /// Size of a segment, in bytes.
    pub segment_bytes: u64,
    /// Bound on unsynced bytes.
    pub max_unsynced_bytes: u64,
    /// Whether leaders wait for company.
    pub gather: Gather,
    /// Whether segments are zero-filled.
    pub preallocate: Preallocate,
    /// One after the other.
    pub lives: Vec<Life>,
}

/// What a disk holds after a life, and what must be in it.
struct Remains<D> {
    disk: D,
    promises: Promises,
    crash: Crash,
    seen: Seen,
}

impl History {
    fn options(&self) -> WalOptions {
        WalOptions::new()
            .ring_bytes(self.ring_bytes)
            .segment_bytes(self.segment_bytes)
            .max_unsynced_bytes(self.max_unsynced_bytes)
            .gather(self.gather)
            .preallocate(self.preallocate)
    }

    /// Lives all lives. Runs in an execution of shuttle.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn play<D: Disk>(&self) -> Result<(), Violation> {
        let mut remains = Remains {
            disk: D::new(self.profile, self.seed),
            promises: Promises::new(),
            crash: Crash::Process,
            seen: Seen::new(),
        };
        for (number, life) in (0..).zip(&self.lives) {
            remains = self.live(life, number, remains)?;
        }
        self.bury(remains)
    }

    fn live<D: Disk>(
        &self,
        life: &Life,
        number: u64,
        before: Remains<D>,
    ) -> Result<Remains<D>, Violation> {
        let Remains { disk, promises, crash, seen } = before;
        let ledger = Arc::new(Ledger::new(promises, life.death));
        let harmless = life.troubles.iter().all(|trouble| trouble.harmless);
        let machine = Machine::new(disk.clone(), Arc::clone(&ledger), harmless);
        let wal = match self.begin(&machine, &ledger, crash, &seen) {
            Ok(wal) => Arc::new(wal),
            Err(violation) => {
                // Nothing was promised by a recovery that did not end.
                let (promises, disk) = machine.remains().ok_or(violation)?;
                let (disk, last) = disk.fallen(life.crash);
                return Ok(Remains { disk, promises, crash: crash.max(last), seen });
            }
        };
        life.troubles.iter().for_each(|trouble| machine.inject(trouble.fault));
        let workers: Vec<_> = (0..)
            .zip(life.threads.clone())
            .map(|(thread, ops)| {
                let (wal, machine) = (Arc::clone(&wal), machine.clone());
                let owner = number * 100 + thread;
                let mut worker = Worker::new(wal, machine, Arc::clone(&ledger), owner);
                thread::spawn(move || worker.work(&ops))
            })
            .collect();
        workers.into_iter().for_each(|worker| worker.join().expect("a worker ends"));
        ledger.verdict()?;
        let fallen_at_the_end = life.conclude(&machine, &ledger, wal)?;
        let (promises, disk) = match (machine.remains(), fallen_at_the_end) {
            (Some(remains), _) | (None, Some(remains)) => remains,
            (None, None) => (ledger.book().history.clone(), disk.kill()),
        };
        let seen = std::mem::take(&mut ledger.book().seen);
        let (disk, crash) = disk.fallen(life.crash);
        // A sync that failed may have taken what was flushed.
        let crash = if machine.sync_failed() { Crash::Power } else { crash };
        Ok(Remains { disk, promises, crash, seen })
    }

    /// Opens the log and judges what it holds.
    fn begin<D: Disk>(
        &self,
        machine: &Machine<D>,
        ledger: &Ledger,
        crash: Crash,
        seen: &Seen,
    ) -> Result<Wal<Machine<D>>, Violation> {
        let wal = self.options().open_store(machine.clone());
        let wal = wal.map_err(|e| Violation::new(Oracle::I7, format!("opening: {e}")))?;
        let found = oracle::read(&wal)?;
        let mut book = ledger.book();
        book.history.check(&found, crash)?;
        agree(seen, &found.records)?;
        book.history.settle(&found);
        book.seen.clone_from(&found.records);
        Ok(wal)
    }

    /// The last recoveries: the same log twice, which takes new records, and no file left over.
    fn bury<D: Disk>(&self, remains: Remains<D>) -> Result<(), Violation> {
        let Remains { disk, mut promises, crash, seen } = remains;
        let options = self.options();
        let failed = |error: WalError| Violation::new(Oracle::I6, format!("the end: {error}"));
        let wal = Machine::sound(disk.clone()).recover(&options, &mut promises, crash)?;
        let found = oracle::read(&wal)?;
        agree(&seen, &found.records)?;
        let twin = Machine::sound(disk.kill());
        let again = twin.recover(&options, &mut promises, Crash::Process)?;
        if oracle::read(&again)?.records != found.records {
            return Err(Violation::new(Oracle::I5, "another recovery found other records"));
        }
        drop(again);
        let unit = promises.attempt(u64::MAX, 1);
        let key = promises.units()[unit].first;
        let lsn = wal.append_and_sync(&payload(key, 100)).map_err(failed)?;
        promises.appended(unit, vec![lsn.get()]);
        promises.promise(unit, Promise::Durable);
        let (disk, crash) = disk.fallen(Crash::Power);
        drop(wal);
        let machine = Machine::sound(disk.clone());
        drop(machine.recover(&options, &mut promises, crash)?);
        let wal = machine.recover(&options, &mut promises, Crash::Process)?;
        let names = disk.store().list();
        let names = names.map_err(|e| Violation::new(Oracle::I11, format!("listing: {e}")))?;
        oracle::only_live_files(&names, disk.unpublished(), &wal)?;
        wal.close().map_err(failed)
    }
}

impl Life {
    /// Ends a life whose threads are done. Returns what is left of one that falls with the log
    /// open.
    fn conclude<D: Disk>(
        &self,
        machine: &Machine<D>,
        ledger: &Ledger,
        wal: Arc<Wal<Machine<D>>>,
    ) -> Result<Option<(Promises, D)>, Violation> {
        let harmless = machine.is_harmless();
        if !ledger.is_dead() && harmless && ledger.book().is_poisoned() {
            let why = wal.sync().err().map(|error| error.to_string());
            let what = format!("poisoned, and nothing was lost: {why:?}");
            return Err(Violation::new(Oracle::I10, what));
        }
        if harmless {
            machine.heal();
        }
        if let Some(before) = ledger.begin()
            && harmless
            && !before.closed
            && self.end != End::Fall
        {
            let result = wal.sync();
            if let (Err(error), false) = (&result, ledger.is_dead()) {
                let what = format!("the disk is well and a sync fails: {error}");
                return Err(Violation::new(Oracle::I10, what));
            }
            ledger.promise(&before.covered, Promise::Durable);
            ledger.durable(wal.durable_lsn().get());
        }
        let mut remains = None;
        match self.end {
            End::Close => {
                if let Some(before) = ledger.begin()
                    && wal.close().is_ok()
                    && harmless
                {
                    ledger.promise(&before.covered, Promise::Durable);
                }
            }
            End::Drop => {}
            End::Fall => {
                let promises = ledger.book().history.clone();
                remains = Some((promises, machine.disk().kill()));
            }
        }
        drop(wal);
        ledger.verdict()?;
        Ok(remains)
    }
}
