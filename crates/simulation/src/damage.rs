//! Logs that are damaged in several places at once.
//!
//! A case is a function of a seed and a number: a small log, perhaps one that was truncated, cut
//! and checkpointed (`script`), and one to six blows to its files (`blow`), or a device that lies
//! while the log is written. Opening must refuse, or reading must, or all records must be there;
//! what damage may take without an error is exactly what lies at or above the newest witness that
//! survives it, and what was cut never comes back (`layout`). The snapshot that counts reads as it
//! was written, or is an error (`judge`).

mod blow;
mod judge;
mod known;
mod layout;
mod script;

use std::fmt;
use std::str::FromStr;

use cohort_wal::WalStore;
use cohort_wal::sim::{SimCall, SimFault, SimFaultKind};

use crate::dice::Dice;
use crate::oracle::{Oracle, Violation};
use blow::{Blow, Past};
use judge::{Became, judge};
use layout::{Files, Image, Opened};
use script::{Log, Script};

/// So many cases in a row damage the same log.
pub const CASES_OF_A_LOG: u64 = 128;

/// Names one case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    /// Where everything random begins.
    pub seed: u64,
    /// Which case.
    pub number: u64,
    /// Which of its blows strike, bit by bit.
    pub blows: u8,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.seed, self.number)?;
        if self.blows == u8::MAX { Ok(()) } else { write!(f, "/{}", self.blows) }
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not SEED/NUMBER[/BLOWS]");
        let mut parts = text.split('/');
        let mut part = || parts.next().and_then(|part| part.parse().ok());
        let (seed, number) = part().zip(part()).ok_or_else(form)?;
        let blows = part().map_or(u8::MAX, |blows| blows as u8);
        Ok(Self { seed, number, blows })
    }
}

/// Damage that was not met as it must be.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The case.
    pub address: Address,
    /// What is wrong.
    pub violation: Violation,
    /// What was done to which file.
    pub damage: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, violation, damage } = self;
        let damage = damage.join("; ");
        let command = "cargo run --release -p simulation -- damage --replay";
        write!(f, "{violation}\n{damage}\nreplay: {command} {address}")
    }
}

/// What became of the cases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Cases.
    pub cases: u64,
    /// Of these, with a device that lied; the others were struck afterwards.
    pub lied: u64,
    /// Opening refused.
    pub refused_at_open: u64,
    /// Reading refused.
    pub refused_on_reading: u64,
    /// All records were there.
    pub unharmed: u64,
    /// The log ended where it may.
    pub last_cohorts: u64,
    /// All records were there, and reading the snapshot refused.
    pub image_refused: u64,
    /// Neither slot of CONTROL says any more where the log began, and an older one counts.
    pub older_head: u64,
    /// Records are missing or wrong, and nobody was told: none, or there is a failure.
    pub silent: u64,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.lied += other.lied;
        self.refused_at_open += other.refused_at_open;
        self.refused_on_reading += other.refused_on_reading;
        self.unharmed += other.unharmed;
        self.last_cohorts += other.last_cohorts;
        self.image_refused += other.image_refused;
        self.older_head += other.older_head;
        self.silent += other.silent;
    }

    fn count(&mut self, became: Became, undamaged: Opened, lied: bool) {
        self.cases += 1;
        self.lied += u64::from(lied);
        match became {
            Became::RefusedAtOpen => self.refused_at_open += 1,
            Became::RefusedOnReading => self.refused_on_reading += 1,
            Became::Opened(opened) if opened == undamaged => self.unharmed += 1,
            Became::Opened(opened) if opened.head != undamaged.head => self.older_head += 1,
            Became::Opened(Opened { image: Image::Damaged(_), .. }) => self.image_refused += 1,
            Became::Opened(_) => self.last_cohorts += 1,
        }
    }
}

/// The log of a case.
fn log(seed: u64, number: u64) -> Result<Log, Violation> {
    let script = Script::random(Dice::new(&[seed, number / CASES_OF_A_LOG]).number());
    let what = || Violation::new(Oracle::I6, format!("no log can be made of {script:?}"));
    script.clone().build().ok_or_else(what)
}

/// A case, and its files as damage has left them.
struct Case {
    files: Files,
    damage: Vec<String>,
    lied: bool,
    twice: bool,
}

impl Case {
    fn new(log: &Log, address: Address) -> Self {
        let mut dice = Dice::new(&[address.seed, address.number, 1]);
        let twice = dice.one_in(8);
        if dice.one_in(32) {
            let (files, damage) = lie(log, &mut dice);
            return Self { files, damage, lied: true, twice };
        }
        let mut files = log.layout.files.clone();
        let past = Past { older: &log.older, removed: &log.layout.removed };
        let blows = 1 + dice.below(6);
        let blows: Vec<_> = (0..blows).map(|_| Blow::random(&mut dice, &files, past)).collect();
        let mut damage = Vec::new();
        for (index, blow) in blows.iter().enumerate() {
            if address.blows & 1 << index != 0 {
                blow.strike(&mut files, past);
                damage.push(blow.to_string());
            }
        }
        Self { files, damage, lied: false, twice }
    }
}

/// What is left of the log when the device lies while its last session writes, forgets its cache,
/// and the process dies or the power goes.
fn lie(log: &Log, dice: &mut Dice) -> (Files, Vec<String>) {
    use SimFaultKind::{Flip, Lose, Misdirect};
    let mut lies = Vec::new();
    for _ in 0..1 + dice.below(3) {
        let (kind, call) = dice.pick(&[
            (Flip, SimCall::Write),
            (Lose, SimCall::Write),
            (Misdirect, SimCall::Write),
            (Lose, SimCall::Sync),
        ]);
        // About half of the calls are of each kind.
        lies.push(SimFault::new(kind).on(call).after(dice.number() % (log.writes / 2 + 1)));
    }
    let begin = |disk: &cohort_wal::SimStore| {
        // What opening has removed is gone for good: names are none of these lies.
        disk.sync_names().ok();
        lies.iter().for_each(|lie| disk.inject(*lie));
    };
    let mut damage: Vec<_> = lies.iter().map(|lie| format!("{lie:?}")).collect();
    let Ok((disk, _)) = log.script.play(begin, |_| {}) else {
        return (log.layout.files.clone(), damage);
    };
    disk.evict();
    let power = dice.one_in(2);
    let disk = if power { disk.power_loss() } else { disk };
    damage.push(format!("power lost: {power}"));
    (disk.snapshot().into_files(), damage)
}

/// One case.
///
/// # Errors
/// That damage is not met as it must be.
pub fn replay(address: Address) -> Result<(Tally, Vec<String>), Box<Failure>> {
    let log = log(address.seed, address.number);
    let log =
        log.map_err(|violation| Box::new(Failure { address, violation, damage: Vec::new() }))?;
    one(&log, address)
}

fn one(log: &Log, address: Address) -> Result<(Tally, Vec<String>), Box<Failure>> {
    let case = Case::new(log, address);
    match judge(log, &case.files, case.twice) {
        Ok(became) => {
            let mut tally = Tally::default();
            tally.count(became, log.undamaged, case.lied);
            Ok((tally, case.damage))
        }
        Err(violation) => Err(Box::new(Failure { address, violation, damage: case.damage })),
    }
}

/// The cases from `first` to `end`, exclusive.
///
/// # Errors
/// The first damage that is not met as it must be.
pub fn cases(seed: u64, first: u64, end: u64) -> Result<Tally, Box<Failure>> {
    let mut tally = Tally::default();
    let mut at = first;
    while at < end {
        let address = |number| Address { seed, number, blows: u8::MAX };
        let log = log(seed, at).map_err(|violation| {
            Box::new(Failure { address: address(at), violation, damage: Vec::new() })
        })?;
        let last = end.min((at / CASES_OF_A_LOG + 1) * CASES_OF_A_LOG);
        for number in at..last {
            tally.add(&one(&log, address(number))?.0);
        }
        at = last;
    }
    Ok(tally)
}

/// Leaves out blows as long as the case still fails.
#[must_use]
pub fn shrink(failure: &Failure) -> Failure {
    for blow in 0..6 {
        let fewer = failure.address.blows & !(1 << blow) & 0x3F;
        if fewer == failure.address.blows {
            continue;
        }
        match replay(Address { blows: fewer, ..failure.address }) {
            Err(smaller) if smaller.damage.len() < failure.damage.len() => return shrink(&smaller),
            _ => {}
        }
    }
    failure.clone()
}
