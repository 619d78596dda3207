//! One run: a workload, one fault, and what is looked at afterwards.
//!
//! Faults wait only while the log's own calls are made. What the rig reads for itself is neither
//! struck nor counted.

mod crash;
mod judge;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;

use cohort_wal::sim::{SimCall, SimFault, SimStore};
use cohort_wal::{Lsn, Wal, WalError};

use super::{Act, Address, Fault, Tally};
use crate::dice::Dice;
use crate::history::{History, Promise, Unit};
use crate::oracle::{Crash, Oracle, Violation, image, snapshot};
use crate::record::{identify, payload};
use crate::workload::Cutting;

pub(super) type Log = Wal<SimStore>;

/// What a run without a fault says about all others.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) tally: Tally,
    made: Calls,
}

impl Outcome {
    /// How many store calls a fault could have struck.
    pub(super) fn calls(&self, fault: Fault) -> u64 {
        u64::try_from(concerned(fault, &self.made)).unwrap_or(0)
    }
}

/// Store calls, by kind; fewer than none while those of the rig are taken off.
type Calls = [i128; SimCall::ALL.len()];

/// Moments this many calls before the fault are worth recording.
const NEAR: u64 = 80;

struct Run<'a> {
    at: &'a Address,
    disk: SimStore,
    wal: Option<Log>,
    history: History,
    dice: Dice,
    tally: Tally,
    /// Calls on disks before this one, less those of the rig.
    earlier: Calls,
    /// Entries of the disk's list of struck calls that were looked at.
    seen: usize,
    /// The fault has struck, or there is no more space.
    struck: bool,
    /// The fault is gone for good.
    over: bool,
    /// A sync failed since the log was opened: what is flushed may be gone.
    sync_failed: bool,
    /// Operations after the first strike.
    since: usize,
}

/// What an operation returned.
#[derive(Debug)]
enum Got {
    Places(Vec<u64>),
    Records(Vec<(u64, u64)>),
    Nothing,
}

/// How an operation ended.
enum Ended {
    Well(Got),
    /// Nothing is lost; call again.
    Refused,
    Poisoned,
    /// A read that failed.
    Unread,
}

fn calls(disk: &SimStore) -> Calls {
    SimCall::ALL.map(|call| disk.calls(call).into())
}

/// How many of the calls a fault could have struck.
fn concerned(fault: Fault, calls: &Calls) -> i128 {
    let calls = calls.iter().zip(SimCall::ALL);
    calls.filter(|(_, call)| fault.concerns(*call)).map(|(count, _)| count).sum()
}

fn wrong(oracle: Oracle, what: String) -> Violation {
    Violation::new(oracle, what)
}

/// Runs the workload at an address to its end.
pub(super) fn run(at: &Address) -> Result<Outcome, Violation> {
    let disk = SimStore::new(at.profile, at.seed);
    let mut run = Run {
        at,
        disk,
        wal: None,
        history: History::new(),
        dice: Dice::new(&[at.seed, at.after]),
        tally: Tally::default(),
        earlier: Calls::default(),
        seen: 0,
        struck: false,
        over: false,
        sync_failed: false,
        since: 0,
    };
    run.arm();
    run.workload()?;
    let made = run.made();
    run.end()?;
    run.tally.runs = 1;
    run.tally.struck = u64::from(run.struck);
    Ok(Outcome { tally: run.tally, made })
}

impl Run<'_> {
    /// Calls so far.
    fn made(&self) -> Calls {
        let now = calls(&self.disk);
        std::array::from_fn(|call| self.earlier[call] + now[call])
    }

    /// Calls so far that the fault could have struck.
    fn position(&self) -> i128 {
        concerned(self.at.fault, &self.made())
    }

    /// Lets the fault wait for its call, if it has not struck for the last time.
    fn arm(&mut self) {
        let done = self.over || self.struck && !self.at.sticky;
        let Some(kind) = self.at.fault.kind().filter(|_| !done) else { return };
        let after = i128::from(self.at.after) - self.position();
        let after = if self.struck { 0 } else { u64::try_from(after).unwrap_or(0) };
        let fault = SimFault::new(kind).after(after);
        let fault = self.at.fault.only().map_or(fault, |call| fault.on(call));
        self.disk.inject(if self.at.sticky { fault.sticky() } else { fault });
    }

    /// Does what is the rig's business alone.
    fn aside<T>(&mut self, work: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.made();
        self.disk.heal();
        let result = work(self);
        let after = self.made();
        for (call, earlier) in self.earlier.iter_mut().enumerate() {
            *earlier -= after[call] - before[call];
        }
        self.arm();
        result
    }

    /// The calls that were struck since this was asked last.
    fn struck_now(&mut self) -> Vec<SimCall> {
        let injected = self.disk.injected();
        let new: Vec<_> = injected[self.seen..].iter().map(|(call, _)| *call).collect();
        self.seen = injected.len();
        self.tally.calls += new.len() as u64;
        self.struck |= !new.is_empty();
        self.sync_failed |= new.contains(&SimCall::Sync) && !self.at.fault.is_harmless();
        new
    }

    /// The fault strikes no more.
    fn heal(&mut self) {
        self.over = true;
        self.disk.heal();
        self.disk.set_capacity(None);
    }

    /// What survives a kill now: a sync that failed may have taken what was flushed.
    fn crash(&self) -> Crash {
        if self.sync_failed { Crash::Power } else { Crash::Process }
    }

    #[expect(clippy::expect_used, reason = "a rig that goes wrong must stop")]
    fn wal(&self) -> &Log {
        self.wal.as_ref().expect("the log is open between operations")
    }

    fn workload(&mut self) -> Result<(), Violation> {
        self.open(Crash::Power)?;
        for (index, act) in self.at.acts.0.iter().enumerate() {
            if let Fault::Full(room) = self.at.fault
                && index as u64 == self.at.after
            {
                self.struck = true;
                self.disk.set_capacity(Some(self.disk.bytes() + room));
            }
            if self.over {
                break;
            }
            self.act(*act)?;
            self.since += usize::from(self.struck);
        }
        if !self.over {
            // The last calls that can fail are those of closing.
            self.act(Act::Close)?;
        }
        Ok(())
    }

    /// Whether moments are worth recording: the fault is about to strike, or just has.
    fn near(&self) -> bool {
        let left = i128::from(self.at.after) - self.position();
        match self.struck {
            true => self.since < 2,
            false => left < i128::from(NEAR) && self.at.fault != Fault::Less,
        }
    }

    fn act(&mut self, act: Act) -> Result<(), Violation> {
        match act {
            Act::Kill | Act::Power => {
                let crash = if act == Act::Power { Crash::Power } else { self.crash() };
                self.fall(act == Act::Power);
                return self.open(crash);
            }
            _ => {}
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            match self.attempt(act)? {
                Ended::Well(got) => {
                    self.check_read(got)?;
                    break;
                }
                Ended::Poisoned => {
                    self.poison_is_final(act)?;
                    return self.begin_again();
                }
                _ if self.at.sticky && act != Act::Close => break,
                // A log that cannot be closed is not opened again before there is space.
                Ended::Refused if self.at.sticky => self.heal(),
                _ if attempts > 1 => {
                    let what = format!("{act:?} fails twice, of a fault that struck once");
                    return Err(wrong(Oracle::I6, what));
                }
                _ => {}
            }
        }
        if act == Act::Close {
            self.wal = None;
            return self.open(Crash::Power);
        }
        Ok(())
    }

    /// The process dies or the power goes; what the old handle does to the old disk nobody sees.
    fn fall(&mut self, power: bool) {
        self.earlier = self.made();
        self.disk.heal();
        let next = if power { self.disk.power_loss() } else { self.disk.kill() };
        self.wal = None;
        self.disk = next;
        self.seen = 0;
        self.arm();
    }

    /// Makes a call once, notes what it promised, and holds its result against the fault.
    fn attempt(&mut self, act: Act) -> Result<Ended, Violation> {
        let records = act.records();
        let unit = (!records.is_empty()).then(|| self.history.attempt(0, records.len()));
        let known = |unit: &&Unit| unit.promise >= Promise::Buffered;
        let last = self.history.units().iter().rfind(known).map(|unit| unit.lsns[0]);
        let head = self.new_head(act, last);
        match act {
            Act::Checkpoint => self.history.making_snapshot(head),
            _ => self.history.truncating(head),
        }
        let cut = Cutting::of(&self.history, self.wal(), act == Act::Undo);
        if act.cuts() {
            self.history.cutting(cut.at());
        }
        let before = self.near().then(|| {
            self.disk.record();
            self.history.clone()
        });
        let first = unit.map_or(0, |unit| self.history.units()[unit].first);
        let durable = self.wal().durable_lsn();
        let call = || match act {
            Act::Undo | Act::Cut => cut.make(self.wal()).map(|()| Got::Nothing),
            _ => self.call(act, first, last, head),
        };
        let result = catch_unwind(AssertUnwindSafe(call));
        let struck = self.struck_now();
        let now = self.wal().durable_lsn();
        if now < durable && !(act.cuts() && now.get() >= cut.at()) {
            return Err(wrong(Oracle::I8, format!("durable went from {durable} to {now}")));
        }
        let ended = self.judge(act, result, &struck)?;
        let late = self.at.fault == Fault::LateFull;
        match (&ended, unit) {
            (Ended::Well(Got::Places(lsns)), Some(unit)) => {
                self.history.appended(unit, lsns.clone());
            }
            // A commit that finds no space may have appended already.
            (Ended::Refused, Some(_)) if act == Act::Commit => {}
            (Ended::Refused, Some(unit)) if late => self.history.refused_late(unit),
            (Ended::Refused, Some(unit)) => self.history.refused(unit),
            _ => {}
        }
        self.history.saw_durable(now.get());
        if act.cuts() {
            match &ended {
                Ended::Well(_) => self.history.cut(cut.at()),
                Ended::Refused | Ended::Unread => self.history.not_cut(),
                // It is cut on the disk, or it is not.
                Ended::Poisoned => {}
            }
        }
        if act == Act::Checkpoint && matches!(ended, Ended::Refused | Ended::Unread) && !late {
            let now = self.aside(|run| snapshot(run.wal()))?;
            self.history.resolve_snapshot(now);
        }
        if matches!(ended, Ended::Well(_)) {
            self.history.truncated(head);
            if act == Act::Checkpoint {
                self.history.made_snapshot(head);
            }
            self.promise(act, last)?;
        }
        if let Some(before) = before {
            let moments = self.disk.moments();
            self.moments(&moments, &before, self.crash())?;
        }
        Ok(ended)
    }

    /// Where the head is to be after a call.
    fn new_head(&self, act: Act, last: Option<u64>) -> u64 {
        let (head, end) = (self.wal().head_lsn().get(), self.wal().end_lsn().get());
        match act {
            Act::Truncate | Act::Checkpoint => last.unwrap_or(end).max(head),
            Act::Empty => end,
            _ => head,
        }
    }

    fn call(&self, act: Act, first: u64, last: Option<u64>, head: u64) -> Result<Got, WalError> {
        let wal = self.wal();
        let records = (first..).zip(act.records()).map(|(key, len)| payload(key, *len));
        let records: Vec<_> = records.collect();
        let one = |lsn: Lsn| Got::Places(vec![lsn.get()]);
        match act {
            Act::Small | Act::Medium | Act::Large => wal.append(&records[0]).map(one),
            Act::Commit => wal.append_and_sync(&records[0]).map(one),
            Act::Batch => wal
                .append_batch(&records)
                .map(|lsns| Got::Places(lsns.into_iter().map(Lsn::get).collect())),
            Act::Flush => wal.flush().map(|()| Got::Nothing),
            Act::Sync => wal.sync().map(|()| Got::Nothing),
            Act::Wait => {
                let even = self.history.units().len().is_multiple_of(2);
                let wait = if even { await_durable } else { Wal::wait_durable };
                last.map_or(Ok(()), |lsn| wait(wal, Lsn::new(lsn))).map(|()| Got::Nothing)
            }
            Act::Rotate => wal.rotate().map(|()| Got::Nothing),
            Act::Read => records_of(wal).map(Got::Records),
            Act::Truncate | Act::Empty => wal.truncate_before(Lsn::new(head)).map(|_| Got::Nothing),
            Act::Checkpoint => {
                let made = wal.checkpoint(Lsn::new(head), |out| out.write_all(&image(head)));
                made.map(|()| Got::Nothing)
            }
            Act::Close => wal.close().map(|()| Got::Nothing),
            Act::Undo | Act::Cut | Act::Kill | Act::Power => Ok(Got::Nothing),
        }
    }
}

/// What a callback is told of the record at `lsn`.
fn await_durable(wal: &Log, lsn: Lsn) -> Result<(), WalError> {
    let (tell, told) = mpsc::channel();
    wal.on_durable(lsn, move |result| tell.send(result).unwrap_or_default());
    told.recv().unwrap_or(Err(WalError::Closed))
}

/// LSN and key of all that a log shows.
fn records_of(wal: &Log) -> Result<Vec<(u64, u64)>, WalError> {
    let mut records = Vec::new();
    let mut iter = wal.iter()?;
    while let Some(record) = iter.read_next() {
        let record = record?;
        records.push((record.lsn().get(), identify(record.data()).unwrap_or(u64::MAX)));
    }
    Ok(records)
}
