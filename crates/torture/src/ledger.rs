//! What workers were promised, and whether a log keeps it.
//!
//! A worker appends units with the numbers 0, 1, 2... of its own, round after round. What unit
//! `n` of an owner looks like is a function of both, so that whoever reads a log can tell every
//! record from every other, and knows which ones are missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use simulation::oracle::{Oracle, Violation};
use simulation::record::payload;

/// Threads are below this.
pub(crate) const OWNERS: u64 = 1 << 10;
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

/// How many records one unit has.
fn count(owner: Owner, number: u64) -> u64 {
    let dice = mix(owner, number);
    if dice.is_multiple_of(5) { 2 + dice / 5 % 6 } else { 1 }
}

/// The records of one unit: most are single, some are batches, a few are large.
#[must_use]
pub fn unit(owner: Owner, number: u64) -> Vec<Vec<u8>> {
    let records = 0..count(owner, number);
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

/// What all records below an LSN come to: per owner, how many units.
///
/// A checkpoint of a worker writes one as the image, so that what the image says can be held
/// against the records that it stands for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    units: BTreeMap<Owner, u64>,
    /// A unit of which more records must follow: how many there were.
    open: Option<(Owner, u64, u64)>,
    last: Option<u64>,
}

/// Bytes behind what an image says: images of one chunk, and of several.
const FILLER: [usize; 4] = [8, 8, 8, 600_000];

impl State {
    /// The next record in the log, by its LSN and key.
    ///
    /// # Errors
    /// That another one comes next.
    pub fn add(&mut self, lsn: u64, key: u64) -> Result<(), Violation> {
        let (owner, number, index) = decode(key);
        let ascends = self.last.is_none_or(|last| last < lsn);
        let expected = match self.open {
            Some(open) => open,
            None => (owner, self.units.get(&owner).copied().unwrap_or(0), 0),
        };
        if !ascends || (owner, number, index) != expected {
            let oracle = if expected.2 == 0 { Oracle::I2 } else { Oracle::I4 };
            let (of, unit, next) = expected;
            let what = format!(
                "at {lsn}: record {index} of unit {number} of {owner}, where record {next} of \
                 unit {unit} of {of} comes next"
            );
            return Err(Violation::new(oracle, what));
        }
        self.last = Some(lsn);
        self.open = Some((owner, number, index + 1)).filter(|open| open.2 < count(owner, number));
        if self.is_whole() {
            self.units.insert(owner, number + 1);
        }
        Ok(())
    }

    /// Whether no unit was begun and not ended.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.open.is_none()
    }

    /// Says it as bytes, in the image of everything below `lsn`.
    #[must_use]
    pub fn to_image(&self, lsn: u64) -> Vec<u8> {
        let units = self.units.iter();
        let words = units.flat_map(|(owner, units)| [owner.round, owner.thread, *units]);
        let words = [self.units.len() as u64].into_iter().chain(words);
        let mut image: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
        image.extend(payload(lsn, FILLER[(lsn / 8 % 4) as usize]));
        image
    }

    /// Reads the image of everything below `lsn`, if it is one.
    #[must_use]
    pub fn from_image(lsn: u64, image: &[u8]) -> Option<Self> {
        let word = |index: usize| {
            let bytes = image.get(8 * index..)?.first_chunk()?;
            Some(u64::from_le_bytes(*bytes))
        };
        let mut state = Self::default();
        let mut at = 1;
        for _ in 0..word(0)? {
            let owner = Owner { round: word(at)?, thread: word(at + 1)? };
            state.units.insert(owner, word(at + 2)?);
            at += 3;
        }
        (state.to_image(lsn) == image).then_some(state)
    }
}

/// What a log shows.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// The snapshot: all below this comes to that.
    pub snapshot: Option<(u64, State)>,
    /// LSN and key of each record, from the head, which the snapshot may be ahead of.
    pub records: Vec<(u64, u64)>,
}

/// What is owed: per owner, how many of its units were acknowledged as durable.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    owed: BTreeMap<Owner, u64>,
    /// Owners whose units were cut off.
    withdrawn: BTreeSet<Owner>,
    /// The newest checkpoint that was acknowledged.
    snapshot: u64,
    checkpoints: u64,
}

impl Ledger {
    /// An owner was told that its units below `end` are durable.
    pub fn acknowledge(&mut self, owner: Owner, end: u64) {
        let owed = self.owed.entry(owner).or_default();
        *owed = end.max(*owed);
    }

    /// A cut of everything that an owner has appended returned.
    pub fn withdraw(&mut self, owner: Owner) {
        self.owed.remove(&owner);
        self.withdrawn.insert(owner);
    }

    /// A checkpoint returned.
    pub fn checkpointed(&mut self, lsn: u64) {
        self.snapshot = lsn.max(self.snapshot);
        self.checkpoints += 1;
    }

    /// How many checkpoints were acknowledged.
    #[must_use]
    pub fn checkpoints(&self) -> u64 {
        self.checkpoints
    }

    /// How many cuts were acknowledged.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.withdrawn.len() as u64
    }

    /// Whether an owner is owed more here than there.
    #[must_use]
    pub fn owes_more_than(&self, other: &Self) -> bool {
        self.owed.iter().any(|(owner, owed)| other.owed.get(owner).is_none_or(|has| has < owed))
    }

    /// Holds what a log shows against what is owed. All that is there is owed from now on.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn check(&mut self, shown: Shown) -> Result<(), Violation> {
        let (snapshot, mut state) = shown.snapshot.unwrap_or_default();
        if snapshot < self.snapshot {
            let what = format!("snapshot {snapshot}, and {} was acknowledged", self.snapshot);
            return Err(Violation::new(Oracle::I1, what));
        }
        for (lsn, key) in shown.records.into_iter().filter(|(lsn, _)| *lsn >= snapshot) {
            state.add(lsn, key)?;
        }
        if let Some((owner, number, _)) = state.open {
            let what = format!("the log ends within unit {number} of {owner}");
            return Err(Violation::new(Oracle::I4, what));
        }
        if let Some(owner) = self.withdrawn.iter().find(|owner| state.units.contains_key(owner)) {
            let what = format!("units of {owner}, which were cut off");
            return Err(Violation::new(Oracle::I3, what));
        }
        for (owner, owed) in &self.owed {
            let there = state.units.get(owner).copied().unwrap_or(0);
            if there < *owed {
                let what = format!("{there} of {owed} acknowledged units of {owner}");
                return Err(Violation::new(Oracle::I1, what));
            }
        }
        // Whoever opened the log was shown this as durable; an owner without a unit never gets one.
        self.owed = state.units;
        self.snapshot = snapshot;
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

    fn shown(records: &[(u64, u64)]) -> Shown {
        Shown { snapshot: None, records: records.to_vec() }
    }

    fn broken(found: &[(u64, u64)], owed: u64) -> Option<Oracle> {
        let mut ledger = Ledger::default();
        ledger.acknowledge(OWNER, owed);
        ledger.check(shown(found)).err().map(|violation| violation.oracle)
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
        ledger.check(shown(&log(10))).unwrap();
        assert!(ledger.check(shown(&log(9))).is_err());
    }

    #[test]
    fn what_was_cut_off_stays_away() {
        let mut ledger = Ledger::default();
        ledger.check(shown(&log(10))).unwrap();
        ledger.withdraw(OWNER);
        assert_eq!(ledger.check(shown(&log(1))).unwrap_err().oracle, Oracle::I3);
        ledger.check(shown(&[])).unwrap();
    }

    #[test]
    fn an_image_stands_for_the_records_before_it_and_no_others() {
        let whole = log(20);
        let mut state = State::default();
        let mut marks = Vec::new();
        for (lsn, key) in &whole {
            if state.is_whole() {
                marks.push((*lsn, State::from_image(*lsn, &state.to_image(*lsn)).unwrap()));
            }
            state.add(*lsn, *key).unwrap();
        }
        assert_eq!(marks.len(), 20);
        for (unit, (mark, image)) in marks.iter().enumerate() {
            let mut ledger = Ledger::default();
            ledger.acknowledge(OWNER, 20);
            ledger.checkpointed(*mark);
            let good = Shown { snapshot: Some((*mark, image.clone())), records: whole.clone() };
            ledger.clone().check(good.clone()).unwrap();
            ledger.checkpointed(*mark + 8);
            assert_eq!(ledger.check(good.clone()).unwrap_err().oracle, Oracle::I1);
            // The image of another place.
            let (_, other) = marks[(unit + 1) % marks.len()].clone();
            let bad = Shown { snapshot: Some((*mark, other)), ..good };
            Ledger::default().check(bad).unwrap_err();
        }
        let mut image = state.to_image(0);
        image[20] ^= 1;
        assert!(State::from_image(0, &image).is_none_or(|other| other != state));
        assert_eq!(State::from_image(8, &state.to_image(0)), None);
    }
}
