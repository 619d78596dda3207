//! What was done to a log, and what was promised: the model that every recovery is held against.

use crate::oracle::{Crash, Oracle, Violation};

/// How far a unit was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// It is not in the log, and never will be.
    Gone,
    /// Its call has not returned, or failed: it may be in the log or not.
    Attempted,
    /// Its place is known.
    Buffered,
    /// It survives the death of the process.
    Flushed,
    /// It survives power loss.
    Durable,
}

/// The records of one append: a single one or a batch.
#[derive(Debug, Clone)]
pub struct Unit {
    /// Who appended it: what one owner appends is in the log in this order.
    pub owner: u64,
    /// The key of its first record; the others follow.
    pub first: u64,
    /// How many records it has.
    pub count: usize,
    /// Where they are, once that is known.
    pub lsns: Vec<u64>,
    /// What was promised of it.
    pub promise: Promise,
}

impl Unit {
    /// How many of its records are below `head`.
    fn below(&self, head: u64) -> usize {
        self.lsns.iter().filter(|lsn| **lsn < head).count()
    }
}

/// What a log holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// LSN and key of every record, in the order they were read.
    pub records: Vec<(u64, u64)>,
    /// The oldest place it keeps.
    pub head: u64,
    /// Where the log ends.
    pub end: u64,
    /// What the log says is durable.
    pub durable: u64,
    /// The snapshot that counts.
    pub snapshot: Option<u64>,
}

/// All units that were ever attempted, and what was promised of them. Keys are numbers from 0 in
/// the order of the attempts.
#[derive(Debug, Clone, Default)]
pub struct History {
    units: Vec<Unit>,
    /// The unit of each key.
    keys: Vec<usize>,
    /// The furthest that anything was known to be durable.
    durable: u64,
    /// The furthest that the log was known to be truncated.
    head: u64,
    /// The furthest that it may be.
    truncating: u64,
    /// Heads that were asked for without a snapshot and may have come about.
    asked: Vec<u64>,
    /// Where it may have been cut.
    cutting: Option<u64>,
    /// The snapshot that was known to count.
    snapshot: Option<u64>,
    /// Those that may count by now.
    making: Vec<u64>,
    /// Refused units that may be there all the same.
    late: Vec<usize>,
}

impl History {
    /// Nothing has happened yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The units in the order of their attempts.
    #[must_use]
    pub fn units(&self) -> &[Unit] {
        &self.units
    }

    /// `owner` is about to append a unit of so many records; returns its index. Its first key is
    /// in it.
    pub fn attempt(&mut self, owner: u64, count: usize) -> usize {
        let (index, first) = (self.units.len(), self.keys.len() as u64);
        self.keys.extend(std::iter::repeat_n(index, count));
        let (lsns, promise) = (Vec::new(), Promise::Attempted);
        self.units.push(Unit { owner, first, count, lsns, promise });
        index
    }

    /// The append returned these places.
    pub fn appended(&mut self, unit: usize, lsns: Vec<u64>) {
        self.units[unit].lsns = lsns;
        self.promise(unit, Promise::Buffered);
    }

    /// The append was refused: its records must never appear.
    pub fn refused(&mut self, unit: usize) {
        self.units[unit].promise = Promise::Gone;
    }

    /// The append was refused, and all of it may be written: it may appear until the log has
    /// written something else.
    pub fn refused_late(&mut self, unit: usize) {
        self.late.push(unit);
    }

    /// A unit was acknowledged; a promise is never taken back.
    pub fn promise(&mut self, unit: usize, promise: Promise) {
        let unit = &mut self.units[unit];
        if unit.promise != Promise::Gone {
            unit.promise = unit.promise.max(promise);
        }
    }

    /// The units whose place is known: those that a flush or sync that begins now covers.
    #[must_use]
    pub fn covered(&self) -> Vec<usize> {
        let known = |unit: &Unit| unit.promise >= Promise::Buffered;
        (0..self.units.len()).filter(|index| known(&self.units[*index])).collect()
    }

    /// Every unit whose place is known gets this promise: a flush or sync of a single thread
    /// returned.
    pub fn promise_all(&mut self, promise: Promise) {
        for unit in std::mem::take(&mut self.late) {
            self.refused(unit);
        }
        for unit in self.units.iter_mut().filter(|unit| unit.promise >= Promise::Buffered) {
            unit.promise = unit.promise.max(promise);
        }
    }

    /// The log is about to forget what is below `lsn`.
    pub fn truncating(&mut self, lsn: u64) {
        self.truncating = self.truncating.max(lsn);
        if lsn > self.head {
            self.asked.push(lsn);
        }
    }

    /// The log has forgotten what is below `lsn`, and never shows it again.
    pub fn truncated(&mut self, lsn: u64) {
        self.head = self.head.max(lsn);
        self.truncating = self.truncating.max(lsn);
        self.asked.retain(|asked| *asked > lsn);
        self.saw_durable(lsn);
    }

    /// A snapshot of all below `lsn` is being made, which is a truncation too.
    pub fn making_snapshot(&mut self, lsn: u64) {
        self.making.push(lsn);
        self.truncating = self.truncating.max(lsn);
    }

    /// It was made.
    pub fn made_snapshot(&mut self, lsn: u64) {
        self.making.clear();
        self.snapshot = Some(lsn);
        self.truncated(lsn);
    }

    /// The log says which snapshot counts after one could not be made.
    pub fn resolve_snapshot(&mut self, now: Option<u64>) {
        match std::mem::take(&mut self.making).pop() {
            Some(lsn) if now == Some(lsn) => self.made_snapshot(lsn),
            _ => {}
        }
    }

    /// Fails unless the snapshot that counts is the one that has to.
    fn check_snapshot(&self, found: &Found) -> Result<(), Violation> {
        let made = found.snapshot.filter(|lsn| self.making.contains(lsn));
        let stays = found.snapshot == self.snapshot.filter(|lsn| *lsn >= found.head);
        // Head and snapshot move together, unless the head may have moved before.
        let (head, asked) = (&found.head, self.asked.contains(&found.head));
        let moved = *head > self.head && self.making.contains(head) && !asked;
        if made.is_some_and(|lsn| found.head >= lsn) || stays && !moved {
            return Ok(());
        }
        let what = format!(
            "snapshot {:?} with the head at {}, not {:?} or {:?}",
            found.snapshot, found.head, self.snapshot, self.making
        );
        Err(Violation::new(Oracle::I8, what))
    }

    /// The log is about to be cut at `lsn`, or somewhere before the next unit.
    pub fn cutting(&mut self, lsn: u64) {
        self.cutting = Some(lsn);
    }

    /// It was not cut.
    pub fn not_cut(&mut self) {
        self.cutting = None;
    }

    /// The log was cut there: what was behind never shows again, and the rest is durable.
    pub fn cut(&mut self, lsn: u64) {
        self.cutting = None;
        for unit in &mut self.units {
            // Of a batch that goes beyond, the beginning is below the head.
            match unit.lsns.last() {
                Some(last) if *last >= lsn => {
                    unit.promise = Promise::Gone;
                    unit.lsns.clear();
                }
                Some(_) if unit.promise >= Promise::Buffered => unit.promise = Promise::Durable,
                _ => {}
            }
        }
        self.durable = lsn;
    }

    /// The units that are in the log, as far as anyone knows, with their places.
    #[must_use]
    pub fn known(&self) -> impl DoubleEndedIterator<Item = &Unit> {
        self.units.iter().filter(|unit| unit.promise >= Promise::Buffered)
    }

    /// Everything below `lsn` was seen to be durable.
    pub fn saw_durable(&mut self, lsn: u64) {
        self.durable = self.durable.max(lsn);
    }

    /// Holds what a log is found to hold against what was promised.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check(&self, found: &Found, crash: Crash) -> Result<(), Violation> {
        let Some(at) = self.cutting else { return self.check_one(found, crash) };
        let mut was_cut = self.clone();
        was_cut.cut(at);
        let Err(cut) = was_cut.check_one(found, crash) else { return Ok(()) };
        self.check_one(found, crash).map_err(|violation| {
            let what = format!("{}; and cut at {at}, {}", violation.what, cut.what);
            Violation::new(violation.oracle, what)
        })
    }

    fn check_one(&self, found: &Found, crash: Crash) -> Result<(), Violation> {
        if found.end < self.durable || found.durable < self.durable {
            let what = format!(
                "the log ends at {}, durable {}, and was durable to {}",
                found.end, found.durable, self.durable
            );
            return Err(Violation::new(Oracle::I8, what));
        }
        if found.head < self.head || found.head > self.head.max(self.truncating) {
            let what = format!(
                "the head is {}, was {}, and at most {} was asked for",
                found.head, self.head, self.truncating
            );
            return Err(Violation::new(Oracle::I8, what));
        }
        self.check_snapshot(found)?;
        let counts = self.match_records(found)?;
        let promised = match crash {
            Crash::Process => Promise::Flushed,
            Crash::Power => Promise::Durable,
        };
        let mut first_missing: Vec<(u64, u64)> = Vec::new();
        for (unit, count) in self.units.iter().zip(&counts) {
            let name = || format!("unit {} of {}, {:?}", unit.first, unit.owner, unit.promise);
            // Below the head nothing is expected.
            let forgotten = unit.below(found.head);
            let whole = unit.count - forgotten;
            if unit.promise >= promised && *count < whole {
                let what = format!("{} of {} records of {}", count, whole, name());
                return Err(Violation::new(Oracle::I1, what));
            }
            if *count != 0 && *count != whole {
                let what = format!("{} of {} records of {}", count, whole, name());
                return Err(Violation::new(Oracle::I4, what));
            }
            let here = *count > 0 || forgotten > 0;
            let below_end = unit.lsns.first().is_some_and(|lsn| *lsn < found.end);
            if unit.promise >= Promise::Buffered && below_end && !here {
                let what = format!("{} is missing below the end {}", name(), found.end);
                return Err(Violation::new(Oracle::I2, what));
            }
            let missing = first_missing.iter().find(|(owner, _)| *owner == unit.owner);
            match missing {
                Some((_, before)) if here => {
                    let what = format!("{} is there, and unit {before} before it is not", name());
                    return Err(Violation::new(Oracle::I2, what));
                }
                None if !here && unit.promise >= Promise::Buffered => {
                    first_missing.push((unit.owner, unit.first));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// How many records of each unit are there; each at its place and in order.
    fn match_records(&self, found: &Found) -> Result<Vec<usize>, Violation> {
        let mut counts = vec![0; self.units.len()];
        let mut last: Option<(u64, u64)> = None;
        let mut newest_of: Vec<(u64, u64)> = Vec::new();
        for &(lsn, key) in &found.records {
            if lsn < found.head {
                let what = format!("record {key} at {lsn} is below the head {}", found.head);
                return Err(Violation::new(Oracle::I3, what));
            }
            if last.is_some_and(|(before, _)| lsn <= before) || lsn >= found.end {
                let what = format!("record {key} at {lsn} after {last:?}, end {}", found.end);
                return Err(Violation::new(Oracle::I2, what));
            }
            let unit = usize::try_from(key).ok().and_then(|key| self.keys.get(key)).copied();
            let Some(index) = unit else {
                return Err(Violation::new(Oracle::I3, format!("record {key} was never appended")));
            };
            let unit = &self.units[index];
            if unit.promise == Promise::Gone {
                let what = format!("record {key} at {lsn} was cut or refused, and is back");
                return Err(Violation::new(Oracle::I3, what));
            }
            // Records of a unit follow each other.
            let forgotten = unit.below(found.head);
            let position = forgotten + counts[index];
            if key != unit.first + position as u64
                || position > forgotten && last.is_none_or(|(_, before)| before + 1 != key)
            {
                let what = format!("record {key} at {lsn} is out of order after {last:?}");
                return Err(Violation::new(Oracle::I2, what));
            }
            if unit.lsns.get(position).is_some_and(|place| *place != lsn) {
                let what = format!("record {key} at {lsn}, appended at {:?}", unit.lsns);
                return Err(Violation::new(Oracle::I3, what));
            }
            match newest_of.iter_mut().find(|(owner, _)| *owner == unit.owner) {
                Some((_, newest)) if *newest > key => {
                    let what = format!("record {key} of {} after {newest}", unit.owner);
                    return Err(Violation::new(Oracle::I2, what));
                }
                Some((_, newest)) => *newest = key,
                None => newest_of.push((unit.owner, key)),
            }
            counts[index] += 1;
            last = Some((lsn, key));
        }
        Ok(counts)
    }

    /// The log goes on from what was found: that is durable now, and nothing else ever returns.
    pub fn settle(&mut self, found: &Found) {
        for unit in &mut self.units {
            unit.promise = Promise::Gone;
            unit.lsns.retain(|lsn| *lsn < found.head);
        }
        for &(lsn, key) in &found.records {
            let index = usize::try_from(key).ok().and_then(|key| self.keys.get(key));
            let Some(unit) = index.and_then(|index| self.units.get_mut(*index)) else { continue };
            unit.lsns.push(lsn);
            unit.promise = Promise::Durable;
        }
        self.durable = found.end;
        self.head = found.head;
        self.truncating = found.head;
        self.cutting = None;
        self.snapshot = found.snapshot;
        self.making.clear();
        self.late.clear();
    }

    /// The same history under the assumption that readers saw these records as durable.
    ///
    /// # Errors
    /// [`Oracle::I8`] when one of them is not in the log.
    pub fn saw(&self, seen: &[(u64, u64)], found: &Found) -> Result<(), Violation> {
        let kept = seen.iter().filter(|(lsn, _)| *lsn >= found.head);
        match kept.into_iter().find(|record| found.records.binary_search(record).is_err()) {
            None => Ok(()),
            Some((lsn, key)) => {
                let what = format!("record {key} at {lsn} was read as durable, and is gone");
                Err(Violation::new(Oracle::I8, what))
            }
        }
    }
}
