//! Every store call of long workloads fails, in every way, once and for ever.
//!
//! A workload runs once without a fault, which says how many store calls it makes; then once for
//! each of these calls, each kind of failure, and each way to go on. What the log returns must be
//! what its documents say, and what crashes leave, from then on and at the end, is recovered and
//! judged as everywhere else.

mod fault;
mod run;

use std::fmt;
use std::str::FromStr;
use std::sync::Once;

use cohort_wal::sim::Profile;

use crate::dice::Dice;
use crate::oracle::Violation;

pub use fault::Fault;

/// An operation on a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// `s`: append 24 bytes.
    Small,
    /// `m`: append 700 bytes.
    Medium,
    /// `l`: append 5000 bytes, past the ring.
    Large,
    /// `b`: append a batch of three.
    Batch,
    /// `a`: append and sync.
    Commit,
    /// `f`: flush.
    Flush,
    /// `y`: sync.
    Sync,
    /// `w`: wait until the last record is durable, by a callback every second time.
    Wait,
    /// `r`: rotate.
    Rotate,
    /// `i`: read everything.
    Read,
    /// `t`: truncate before the last record.
    Truncate,
    /// `e`: truncate at the end.
    Empty,
    /// `n`: a snapshot of all before the last record.
    Checkpoint,
    /// `u`: cut off the last unit.
    Undo,
    /// `x`: cut off everything behind the first unit.
    Cut,
    /// `c`: close and open again.
    Close,
    /// `k`: the process dies; open again.
    Kill,
    /// `p`: the power goes; open again.
    Power,
}

/// Each operation, its letter, and how often it is drawn.
const ACTS: [(Act, char, usize); 18] = [
    (Act::Small, 's', 4),
    (Act::Medium, 'm', 3),
    (Act::Large, 'l', 2),
    (Act::Batch, 'b', 3),
    (Act::Commit, 'a', 3),
    (Act::Flush, 'f', 2),
    (Act::Sync, 'y', 3),
    (Act::Wait, 'w', 2),
    (Act::Rotate, 'r', 2),
    (Act::Read, 'i', 2),
    (Act::Truncate, 't', 2),
    (Act::Empty, 'e', 1),
    (Act::Checkpoint, 'n', 2),
    (Act::Undo, 'u', 2),
    (Act::Cut, 'x', 1),
    (Act::Close, 'c', 1),
    (Act::Kill, 'k', 1),
    (Act::Power, 'p', 1),
];

impl Act {
    /// Whether it cuts the log.
    fn cuts(self) -> bool {
        matches!(self, Self::Undo | Self::Cut)
    }

    /// The payload bytes of each record it appends.
    fn records(self) -> &'static [usize] {
        match self {
            Self::Small => &[24],
            Self::Commit => &[120],
            Self::Medium => &[700],
            Self::Large => &[5000],
            Self::Batch => &[24, 400, 40],
            _ => &[],
        }
    }
}

/// Operations in a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acts(pub Vec<Act>);

impl Acts {
    /// 10 to 40 operations, a function of the seed.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut dice = Dice::new(&[seed, 0xCA11]);
        let all: Vec<Act> = ACTS.iter().flat_map(|(act, _, n)| vec![*act; *n]).collect();
        let count = 10 + dice.below(31);
        Self((0..count).map(|_| dice.pick(&all)).collect())
    }
}

impl fmt::Display for Acts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|act| {
            let found = ACTS.iter().find(|(known, _, _)| known == act);
            found.map_or(Ok(()), |(_, letter, _)| write!(f, "{letter}"))
        })
    }
}

impl FromStr for Acts {
    type Err = String;

    fn from_str(letters: &str) -> Result<Self, String> {
        let act = |c| {
            let found = ACTS.iter().find(|(_, letter, _)| *letter == c);
            found.map(|(act, _, _)| *act).ok_or_else(|| format!("no operation `{c}`"))
        };
        letters.chars().map(act).collect::<Result<_, _>>().map(Self)
    }
}

/// Names one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What is done.
    pub acts: Acts,
    /// On which disk.
    pub profile: Profile,
    /// With which seed.
    pub seed: u64,
    /// What goes wrong.
    pub fault: Fault,
    /// From then on, until the end, or once.
    pub sticky: bool,
    /// The page cache forgets what is clean, before and after opening again.
    pub evict: bool,
    /// How many calls that the fault could strike go well before it; of a disk that gets full, how
    /// many operations. `u64::MAX`: all.
    pub after: u64,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { acts, profile, seed, fault, sticky, evict, after } = self;
        let profile = profile.name();
        let often = if *sticky { "sticky" } else { "once" };
        let cache = if *evict { "evict" } else { "keep" };
        write!(f, "{acts}/{profile}/{seed}/{fault}/{often}/{cache}/{after}")
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not ACTS/PROFILE/SEED/FAULT/ONCE|STICKY/CACHE/CALLS");
        let parts: Vec<_> = text.split('/').collect();
        let [acts, profile, seed, fault, often, cache, after] = parts[..] else {
            return Err(form());
        };
        Ok(Self {
            acts: acts.parse()?,
            profile: Profile::named(profile).ok_or_else(form)?,
            seed: seed.parse().map_err(|_| form())?,
            fault: fault.parse()?,
            sticky: often == "sticky",
            evict: cache == "evict",
            after: after.parse().map_err(|_| form())?,
        })
    }
}

/// A broken promise, and where.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The run that shows it.
    pub address: Address,
    /// What was broken.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, violation } = self;
        write!(f, "{violation}\nreplay: {} calls --replay {address}", crate::sealed::command())
    }
}

/// What was done and met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Workloads.
    pub workloads: u64,
    /// Runs, each with one fault.
    pub runs: u64,
    /// Runs in which the fault struck a call.
    pub struck: u64,
    /// Calls that were struck.
    pub calls: u64,
    /// Logs that were poisoned.
    pub poisoned: u64,
    /// Operations that found the disk full, or too many files open.
    pub full: u64,
    /// Reads that failed.
    pub reads: u64,
    /// Openings that failed.
    pub opens: u64,
    /// States after a crash that were recovered and judged.
    pub states: u64,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.workloads += other.workloads;
        self.runs += other.runs;
        self.struck += other.struck;
        self.calls += other.calls;
        self.poisoned += other.poisoned;
        self.full += other.full;
        self.reads += other.reads;
        self.opens += other.opens;
        self.states += other.states;
    }
}

/// Injected panics print nothing; others still do.
fn silence_injected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>();
            if !text.is_some_and(|text| text.starts_with("a simulated panic")) {
                usual(info);
            }
        }));
    });
}

/// One run.
///
/// # Errors
/// The promise that it breaks.
pub fn replay(address: &Address) -> Result<Tally, Box<Failure>> {
    silence_injected_panics();
    run::run(address)
        .map(|outcome| outcome.tally)
        .map_err(|violation| Box::new(Failure { address: address.clone(), violation }))
}

/// Fails every `stride`-th of the calls of a workload, counted over all faults.
///
/// # Errors
/// The first run that breaks a promise.
pub fn sweep(workload: u64, seed: u64, stride: u64) -> Result<Tally, Box<Failure>> {
    silence_injected_panics();
    let seed = Dice::new(&[seed, workload]).number() >> 32;
    let profile = Profile::ALL[workload as usize % Profile::ALL.len()];
    let mut address = Address {
        acts: Acts::random(seed),
        profile,
        seed,
        fault: Fault::NONE,
        sticky: false,
        evict: false,
        after: u64::MAX,
    };
    let fail =
        |address: &Address, violation| Box::new(Failure { address: address.clone(), violation });
    let plain = run::run(&address).map_err(|violation| fail(&address, violation))?;
    let mut tally = plain.tally;
    tally.workloads = 1;
    // The first position of a workload differs from that of others.
    let mut number = workload * 31 % stride;
    for (fault, sticky) in Fault::all() {
        let places = match fault {
            Fault::Full(_) => address.acts.0.len() as u64,
            fault => plain.calls(fault),
        };
        while number < places {
            (address.fault, address.sticky, address.after) = (fault, sticky, number);
            address.evict = Dice::new(&[seed, number]).one_in(2);
            let ran = run::run(&address).map_err(|violation| fail(&address, violation))?;
            tally.add(&ran.tally);
            number += stride;
        }
        number -= places;
    }
    Ok(tally)
}

/// Looks for a shorter workload that fails as well: operations are left out one by one as long as
/// that finds one, wherever the fault must then strike.
#[must_use]
pub fn shrink(failure: &Failure) -> Failure {
    let acts = &failure.address.acts.0;
    for left_out in (0..acts.len()).rev() {
        let mut shorter = failure.address.clone();
        shorter.acts.0.remove(left_out);
        let plain = Address { after: u64::MAX, fault: Fault::NONE, ..shorter.clone() };
        let Ok(plain) = run::run(&plain) else { continue };
        let places = plain.calls(shorter.fault).max(acts.len() as u64);
        for after in (0..places).rev() {
            shorter.after = after;
            if let Err(violation) = run::run(&shorter)
                && violation.oracle == failure.violation.oracle
            {
                return shrink(&Failure { address: shorter, violation });
            }
        }
    }
    failure.clone()
}
