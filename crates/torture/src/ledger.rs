//! What workers were promised, and whether a log keeps it.
//!
//! A worker appends units with the numbers 0, 1, 2... of its own, round after round. What unit
//! `n` of an owner looks like is a function of both, so that whoever reads a log can tell every
//! record from every other, and knows which ones are missing.

use std::collections::BTreeMap;
use std::fmt;

use simulation::oracle::{Oracle, Violation};
use simulation::record::payload;

/// Owners are below this.
const OWNERS: u64 = 1 << 10;
/// Units of an owner in one round are below this.
const UNITS: u64 = 1 << 24;
/// Records of a unit are below this.
const RECORDS: u64 = 1 << 4;

/// Who appends: a thread in one life of a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Owner {
    /// Which life.
    pub round: u64,
    /// Which thread.
    pub thread: u64,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "thread {} of round {}", self.thread, self.round)
    }
}

/// A mix of a few numbers.
fn mix(owner: Owner, unit: u64) -> u64 {
    let mut word = (owner.round << 40) ^ (owner.thread << 32) ^ unit;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The records of one unit: most are single, some are batches, a few are large.
#[must_use]
pub fn unit(owner: Owner, number: u64) -> Vec<Vec<u8>> {
    let dice = mix(owner, number);
    let count = if dice.is_multiple_of(5) { 2 + dice / 5 % 6 } else { 1 };
    let records = 0..count;
    let record = |index: u64| {
        let dice = mix(owner, number.wrapping_mul(31) + index);
        let len = match dice % 200 {
            0 => 90_000,
            1..=8 => 1_500 + dice / 200 % 6_000,
            9..=40 => 100 + dice / 200 % 900,
            _ => 8 + dice / 200 % 120,
        };
        let key = ((owner.round * OWNERS + owner.thread) * UNITS + number) * RECORDS + index;
        payload(key, usize::try_from(len).unwrap_or(8))
    };
    records.map(record).collect()
}

/// Who appended the record with a key, in which unit, as which of its records.
fn decode(key: u64) -> (Owner, u64, u64) {
    let (index, key) = (key % RECORDS, key / RECORDS);
    let (unit, key) = (key % UNITS, key / UNITS);
    (Owner { round: key / OWNERS, thread: key % OWNERS }, unit, index)
}

/// What is owed: per owner, how many of its units were acknowledged as durable.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    owed: BTreeMap<Owner, u64>,
}

impl Ledger {
    /// An owner was told that its units below `end` are durable.
    pub fn acknowledge(&mut self, owner: Owner, end: u64) {
        let owed = self.owed.entry(owner).or_default();
        *owed = end.max(*owed);
    }

    /// Whether an owner is owed more here than there.
    #[must_use]
    pub fn owes_more_than(&self, other: &Self) -> bool {
        self.owed.iter().any(|(owner, owed)| other.owed.get(owner).is_none_or(|has| has < owed))
    }

    /// Holds what a log holds, LSN and key of each record in order, against what is owed. All that
    /// is there is owed from now on.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check(&mut self, found: &[(u64, u64)]) -> Result<(), Violation> {
        let mut next: BTreeMap<Owner, u64> = BTreeMap::new();
        let mut records = found.iter().copied().peekable();
        let mut last = None;
        while let Some((lsn, key)) = records.next() {
            let (owner, number, index) = decode(key);
            let expected = next.entry(owner).or_default();
            if last.is_some_and(|last| lsn <= last) || number != *expected || index != 0 {
                let what = format!(
                    "at {lsn}: record {index} of unit {number} of {owner}, where unit {expected} \
                     comes next"
                );
                return Err(Violation::new(Oracle::I2, what));
            }
            last = Some(lsn);
            for rest in 1..unit(owner, number).len() as u64 {
                match records.next() {
                    Some((lsn, key)) if decode(key) == (owner, number, rest) => last = Some(lsn),
                    other => {
                        let what = format!("unit {number} of {owner} ends at {other:?}");
                        return Err(Violation::new(Oracle::I4, what));
                    }
                }
            }
            *expected += 1;
        }
        for (owner, owed) in &self.owed {
            let there = next.get(owner).copied().unwrap_or(0);
            if there < *owed {
                let what = format!("{there} of {owed} acknowledged units of {owner}");
                return Err(Violation::new(Oracle::I1, what));
            }
        }
        // Whoever opened the log was shown this as durable; an owner without a unit never gets one.
        self.owed = next;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use simulation::record::identify;

    const OWNER: Owner = Owner { round: 3, thread: 5 };

    fn log(units: u64) -> Vec<(u64, u64)> {
        let records = (0..units).flat_map(|number| unit(OWNER, number));
        let keys = records.map(|record| identify(&record).unwrap());
        (0..).map(|lsn| lsn * 8).zip(keys).collect()
    }

    fn broken(found: &[(u64, u64)], owed: u64) -> Option<Oracle> {
        let mut ledger = Ledger::default();
        ledger.acknowledge(OWNER, owed);
        ledger.check(found).err().map(|violation| violation.oracle)
    }

    #[test]
    fn every_way_to_break_a_promise_is_noticed() {
        let whole = log(40);
        assert!((0..40).any(|number| unit(OWNER, number).len() > 1), "there are batches");
        assert_eq!(broken(&whole, 40), None);
        assert_eq!(broken(&whole, 39), None);
        assert_eq!(broken(&whole, 41), Some(Oracle::I1));
        for index in 0..whole.len() - 1 {
            let mut without = whole.clone();
            without.remove(index);
            assert!(broken(&without, 0).is_some(), "record {index} is missing");
            let mut swapped = whole.clone();
            swapped.swap(index, index + 1);
            assert!(broken(&swapped, 0).is_some(), "record {index} comes late");
            let mut twice = whole.clone();
            twice.insert(index, whole[index]);
            assert!(broken(&twice, 0).is_some(), "record {index} is there twice");
        }
        let batch = (0..40).find(|number| unit(OWNER, *number).len() > 1).unwrap();
        let half = log(batch).len() + 1;
        assert_eq!(broken(&whole[..half], 0), Some(Oracle::I4));
    }

    #[test]
    fn what_was_shown_is_owed() {
        let mut ledger = Ledger::default();
        ledger.check(&log(10)).unwrap();
        assert!(ledger.check(&log(9)).is_err());
    }
}
