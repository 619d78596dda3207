//! What threads do to a log, and what they then hold it to.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use cohort_wal::sim::SimCall;
use cohort_wal::{Lsn, Wal, WalError};
use simulation::history::Promise;
use simulation::oracle::{Oracle, Violation};
use simulation::record::{identify, payload};

use crate::disk::Disk;
use crate::ledger::{Before, Ledger, Seen};
use crate::machine::Machine;
use crate::notify::{Outstanding, block_on, poll_and_drop};

/// An operation on a log.
#[derive(Clone, PartialEq, Eq)]
pub enum Op {
    /// Append a record of so many bytes.
    Append(usize),
    /// Append a batch of records.
    Batch(Vec<usize>),
    /// Append a record and wait until it is durable.
    Commit(usize),
    /// Append a batch and wait until it is durable.
    CommitBatch(Vec<usize>),
    /// Flush.
    Flush,
    /// Sync.
    Sync,
    /// Wait until an own record is durable: the last but so many.
    Wait(usize),
    /// The same by a future.
    Await(usize),
    /// Have a callback acknowledge an own record: the last but so many.
    Notify(usize),
    /// Drop a future that was polled for an own record: the last but so many.
    Forgo(usize),
    /// Follow from the head on as far as the log is durable.
    Follow,
    /// Rotate.
    Rotate,
    /// Forget what is before an own record: the last but so many.
    Truncate(usize),
    /// Read everything.
    Read,
    /// Close.
    Close,
    /// The disk is well again.
    Heal,
}

/// On one line each, so that a history can be read.
impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Append(len) => write!(f, "Append({len})"),
            Self::Batch(lens) => write!(f, "Batch(vec!{lens:?})"),
            Self::Commit(len) => write!(f, "Commit({len})"),
            Self::CommitBatch(lens) => write!(f, "CommitBatch(vec!{lens:?})"),
            Self::Flush => f.write_str("Flush"),
            Self::Sync => f.write_str("Sync"),
            Self::Wait(back) => write!(f, "Wait({back})"),
            Self::Await(back) => write!(f, "Await({back})"),
            Self::Notify(back) => write!(f, "Notify({back})"),
            Self::Forgo(back) => write!(f, "Forgo({back})"),
            Self::Follow => f.write_str("Follow"),
            Self::Rotate => f.write_str("Rotate"),
            Self::Truncate(back) => write!(f, "Truncate({back})"),
            Self::Read => f.write_str("Read"),
            Self::Close => f.write_str("Close"),
            Self::Heal => f.write_str("Heal"),
        }
    }
}

/// A thread at work.
#[derive(Debug)]
pub struct Worker<D: Disk> {
    wal: Arc<Wal<Machine<D>>>,
    machine: Machine<D>,
    ledger: Arc<Ledger>,
    owner: u64,
    /// The own units whose place is known, with their last record's place.
    own: Vec<(usize, u64)>,
    /// Callbacks that were not called yet.
    callbacks: Arc<Outstanding>,
}

impl<D: Disk> Worker<D> {
    /// A thread that appends as `owner`.
    #[must_use]
    pub fn new(
        wal: Arc<Wal<Machine<D>>>,
        machine: Machine<D>,
        ledger: Arc<Ledger>,
        owner: u64,
    ) -> Self {
        Self { wal, machine, ledger, owner, own: Vec::new(), callbacks: Arc::default() }
    }

    /// Does one thing after the other, until the computer dies or a promise is broken.
    pub fn work(&mut self, ops: &[Op]) {
        for op in ops {
            let Some(before) = self.ledger.begin() else { break };
            self.act(op, &before);
        }
        // Each is called, whatever happens.
        self.callbacks.wait();
    }

    fn act(&mut self, op: &Op, before: &Before) {
        match op {
            Op::Append(len) => self.append(&[*len], false, false, before),
            Op::Batch(lens) => self.append(lens, true, false, before),
            Op::Commit(len) => self.append(&[*len], false, true, before),
            Op::CommitBatch(lens) => self.append(lens, true, true, before),
            Op::Flush => self.promised("flush", Wal::flush, Promise::Flushed, before),
            Op::Sync => self.promised("sync", Wal::sync, Promise::Durable, before),
            Op::Rotate => self.promised("rotate", Wal::rotate, Promise::Flushed, before),
            Op::Wait(back) => self.wait(*back, Wal::wait_durable, before),
            Op::Await(back) => self.wait(*back, |wal, lsn| block_on(wal.durable(lsn)), before),
            Op::Notify(back) => self.notify(*back),
            Op::Forgo(back) => self.forgo(*back),
            Op::Follow => self.follow(before),
            Op::Truncate(back) => self.truncate(*back, before),
            Op::Read => self.read(before),
            Op::Close => self.close(before),
            Op::Heal => self.machine.heal(),
        }
    }

    fn durable(&self) -> u64 {
        self.wal.durable_lsn().get()
    }

    fn append(&mut self, lens: &[usize], batch: bool, sync: bool, before: &Before) {
        let (unit, records) = {
            let mut book = self.ledger.book();
            let unit = book.history.attempt(self.owner, lens.len());
            let keys = book.history.units()[unit].first..;
            (unit, keys.zip(lens).map(|(key, len)| payload(key, *len)).collect::<Vec<_>>())
        };
        let result = match (batch, sync) {
            (false, false) => self.wal.append(&records[0]).map(|lsn| vec![lsn]),
            (false, true) => self.wal.append_and_sync(&records[0]).map(|lsn| vec![lsn]),
            (true, false) => self.wal.append_batch(&records),
            (true, true) => self.wal.append_batch_and_sync(&records),
        };
        match &result {
            Ok(lsns) => {
                let lsns: Vec<_> = lsns.iter().copied().map(Lsn::get).collect();
                self.own.push((unit, lsns.last().copied().unwrap_or(0)));
                self.ledger.book().history.appended(unit, lsns);
                if sync {
                    // And everything before it.
                    self.ledger.promise(&before.covered, Promise::Durable);
                    self.ledger.promise(&[unit], Promise::Durable);
                }
            }
            Err(WalError::StorageFull { .. } | WalError::Closed) if !sync => {
                self.ledger.book().history.refused(unit);
            }
            Err(_) => {}
        }
        let durable = self.durable();
        self.ledger.end("append", before, &result, durable);
        if sync && let (Ok(lsns), Some(last)) = (&result, self.own.last()) {
            self.expect(durable > last.1, || format!("{lsns:?} acknowledged, durable {durable}"));
        }
    }

    /// A call that promises something about everything appended before it.
    fn promised(
        &self,
        what: &str,
        call: impl Fn(&Wal<Machine<D>>) -> cohort_wal::Result<()>,
        promise: Promise,
        before: &Before,
    ) {
        let result = call(&self.wal);
        if result.is_ok() {
            self.ledger.promise(&before.covered, promise);
        }
        self.ledger.end(what, before, &result, self.durable());
    }

    /// An own unit, and the place of its last record.
    fn own(&self, back: usize) -> Option<(usize, u64)> {
        let index = self.own.len().checked_sub(1 + back % self.own.len().max(1))?;
        self.own.get(index).copied()
    }

    fn truncate(&self, back: usize, before: &Before) {
        let Some((_, lsn)) = self.own(back) else { return };
        self.ledger.book().history.truncating(lsn);
        let result = self.wal.truncate_before(Lsn::new(lsn));
        if let Ok(head) = &result {
            self.ledger.book().history.truncated(head.get());
            self.expect(head.get() >= lsn, || format!("the head is {head}, not {lsn}"));
        }
        match &result {
            // What is left takes space, and the log is as it should be otherwise.
            Err(WalError::Io { .. }) if self.wal.head_lsn().get() >= lsn => {}
            // Nothing is changed.
            Err(error @ WalError::Io { .. }) => self.unreadable(error),
            _ => self.ledger.end("truncate", before, &result, self.durable()),
        }
    }

    fn wait(
        &self,
        back: usize,
        call: impl Fn(&Wal<Machine<D>>, Lsn) -> cohort_wal::Result<()>,
        before: &Before,
    ) {
        let Some((unit, lsn)) = self.own(back) else { return };
        let result = call(&self.wal, Lsn::new(lsn));
        let durable = self.durable();
        if result.is_ok() {
            self.ledger.promise(&[unit], Promise::Durable);
            self.expect(durable > lsn, || format!("{lsn} acknowledged, durable {durable}"));
        }
        // What is durable already is reported so on a poisoned log too; `durable` does not move.
        let before = Before { poisoned: false, ..before.clone() };
        self.ledger.end("wait", &before, &result, durable);
    }

    fn notify(&self, back: usize) {
        let Some((unit, lsn)) = self.own(back) else { return };
        let (ledger, callbacks) = (Arc::clone(&self.ledger), Arc::clone(&self.callbacks));
        callbacks.rise();
        self.wal.on_durable(Lsn::new(lsn), move |result| {
            if result.is_ok() {
                ledger.promise(&[unit], Promise::Durable);
            }
            callbacks.fall();
        });
    }

    fn forgo(&self, back: usize) {
        if let Some((_, lsn)) = self.own(back) {
            poll_and_drop(self.wal.durable(Lsn::new(lsn)));
        }
    }

    /// What a follower shows without waiting is durable.
    fn follow(&self, before: &Before) {
        let mut seen = Seen::new();
        let end = self.wal.follow(self.wal.head_lsn()).and_then(|mut follower| {
            while let Some(record) = follower.next_timeout(Duration::ZERO)? {
                let (lsn, key) = (record.lsn().get(), identify(&record));
                self.expect(key.is_some(), || format!("{lsn} is not a record"));
                seen.push((lsn, key.unwrap_or(u64::MAX)));
            }
            Ok(())
        });
        let durable = self.durable();
        if let Some((last, _)) = seen.last().copied() {
            self.expect(last < durable, || format!("{last} is shown, durable {durable}"));
        }
        match &end {
            Err(error @ WalError::Io { .. }) => self.unreadable(error),
            Err(WalError::Truncated { .. }) => {}
            // What is durable is shown on a poisoned log too.
            end => {
                let before = Before { poisoned: false, ..before.clone() };
                self.ledger.end("follow", &before, end, durable);
            }
        }
        self.ledger.saw(seen);
    }

    fn close(&self, before: &Before) {
        let result = self.wal.close();
        // A poisoned log says so to the first who closes it, and is closed for the others.
        if result.is_ok() && self.machine.is_harmless() {
            self.ledger.promise(&before.covered, Promise::Durable);
        }
        let before = Before { poisoned: false, closed: false, ..before.clone() };
        self.ledger.end("close", &before, &result, self.durable());
        // Whatever came of it, no append succeeds any more.
        self.ledger.closed();
    }

    fn read(&self, before: &Before) {
        let iter = self.wal.iter();
        // On a poisoned log a reader sees what is durable, and nothing was flushed for it.
        let flushed = self.wal.append_batch::<&[u8]>(&[]).is_ok();
        let (mut seen, mut whole) = (Seen::new(), false);
        match iter {
            Err(error @ WalError::Io { .. }) => self.unreadable(&error),
            Err(error) => self.ledger.end::<()>("iter", before, &Err(error), self.durable()),
            Ok(mut iter) => {
                whole = true;
                while let Some(record) = iter.read_next() {
                    match record {
                        Ok(record) => {
                            let (lsn, key) = (record.lsn().get(), identify(record.data()));
                            self.expect(key.is_some(), || format!("{lsn} is not a record"));
                            seen.push((lsn, key.unwrap_or(u64::MAX)));
                        }
                        Err(error @ WalError::Poisoned { .. }) => {
                            // Behind what is durable a failed sync may have lost something.
                            self.ledger.end::<()>("read", before, &Err(error), self.durable());
                            whole = false;
                            break;
                        }
                        Err(error) => {
                            self.unreadable(&error);
                            whole = false;
                            break;
                        }
                    }
                }
            }
        }
        if whole && flushed {
            self.shows(&seen, &before.covered);
            self.ledger.promise(&before.covered, Promise::Flushed);
        }
        if whole {
            self.ends_with_a_whole_unit(&seen);
        }
        self.ledger.saw(seen);
    }

    /// Reading fails when the disk does, and for no other reason.
    fn unreadable(&self, error: &WalError) {
        let injected = self.machine.injected();
        let struck = injected.iter().any(|(call, _)| *call == SimCall::Read);
        let excused = struck && matches!(error, WalError::Io { .. });
        self.expect(excused, || format!("a reader beside the writers fails: {error}"));
    }

    /// A reader sees everything appended before the call.
    fn shows(&self, seen: &Seen, covered: &[usize]) {
        let head = self.wal.head_lsn().get();
        let book = self.ledger.book();
        let places = covered.iter().flat_map(|unit| {
            let unit = &book.history.units()[*unit];
            unit.lsns.iter().copied().zip(unit.first..)
        });
        let kept = places.filter(|(lsn, _)| *lsn >= head);
        let missing: Vec<_> = kept.filter(|place| seen.binary_search(place).is_err()).collect();
        drop(book);
        self.expect(missing.is_empty(), || format!("(lsn, key) {missing:?} are not shown"));
    }

    fn ends_with_a_whole_unit(&self, seen: &Seen) {
        let book = self.ledger.book();
        let units = book.history.units();
        let last = seen.last().map(|(_, key)| *key);
        let cut = last.and_then(|key| {
            let unit = &units[units.partition_point(|unit| unit.first <= key).checked_sub(1)?];
            (key + 1 != unit.first + unit.count as u64).then_some(key)
        });
        drop(book);
        self.expect(cut.is_none(), || format!("a reader saw a batch up to {cut:?}"));
    }

    fn expect(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds && !self.ledger.is_dead() {
            self.ledger.violation(Violation::new(Oracle::I1, what()));
        }
    }
}
