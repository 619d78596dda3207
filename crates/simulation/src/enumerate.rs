//! Every crash of every short workload.
//!
//! The last operation of a workload is recorded, call by call; its beginning was the last
//! operation of a shorter workload, and the workload without any is the creation of a log. From
//! each recorded moment the power goes, in every way there is up to a limit, or the process dies.
//! What is left is recovered, judged, used, crashed again and judged again; the moments of some
//! recoveries are crashed in turn, three deep.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use cohort_wal::Wal;
use cohort_wal::sim::{Profile, SimStore};

use crate::history::{History, Promise};
use crate::oracle::{Crash, Oracle, Violation, no_orphans, recover_sim};
use crate::record::payload;
use crate::workload::{Op, Run, Steps, Workload, options};

/// How many crashes follow one another, the last one of which is not crashed again.
const DEPTH: usize = 3;

/// One crash: at which moment, and what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fall {
    /// The number of the moment among those recorded.
    pub moment: usize,
    /// The number of the state; `None`: the process dies, and everything is kept.
    pub loss: Option<u64>,
}

/// Names one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// What was done.
    pub workload: Workload,
    /// On which disk.
    pub profile: Profile,
    /// With which seed.
    pub seed: u64,
    /// How many states of a moment are visited, if there are more.
    pub limit: u64,
    /// The crashes: of the last operation, of its recovery, and so on. None: the workload itself
    /// goes wrong.
    pub falls: Vec<Fall>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { workload, profile, seed, limit, falls } = self;
        write!(f, "{workload}/{}/{seed}/{limit}", profile.name())?;
        falls.iter().try_for_each(|fall| match fall.loss {
            Some(loss) => write!(f, "/{}:{loss}", fall.moment),
            None => write!(f, "/{}:kill", fall.moment),
        })
    }
}

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}` is not WORKLOAD/PROFILE/SEED/LIMIT[/MOMENT:STATE]...");
        let mut parts = text.split('/');
        let mut part = || parts.next().ok_or_else(form);
        let workload = part()?.parse()?;
        let profile = Profile::named(part()?).ok_or_else(form)?;
        let seed = part()?.parse().map_err(|_| form())?;
        let limit = part()?.parse().map_err(|_| form())?;
        let fall = |part: &str| {
            let (moment, loss) = part.split_once(':').ok_or_else(form)?;
            let moment = moment.parse().map_err(|_| form())?;
            let loss = match loss {
                "kill" => None,
                number => Some(number.parse().map_err(|_| form())?),
            };
            Ok::<_, String>(Fall { moment, loss })
        };
        let falls = parts.map(fall).collect::<Result<_, _>>()?;
        Ok(Self { workload, profile, seed, limit, falls })
    }
}

/// A broken promise, and where.
#[derive(Debug, Clone)]
pub struct Failure {
    /// The state that shows it.
    pub address: Address,
    /// What was broken.
    pub violation: Violation,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { address, violation } = self;
        write!(f, "{violation}\nreplay: {} replay {address}", crate::sealed::command())
    }
}

/// What was visited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Tally {
    /// Workloads, counted once per profile.
    pub workloads: u64,
    /// Moments that were crashed.
    pub moments: u64,
    /// Moments all of whose states were visited.
    pub exhausted: u64,
    /// Recovered and judged states, each different from all others of its workload and profile.
    pub states: u64,
    /// Of these, states that a crash in a recovery left.
    pub nested: u64,
    /// Reached again, and not judged again.
    pub repeated: u64,
}

impl Tally {
    /// Adds another.
    pub fn add(&mut self, other: &Self) {
        self.workloads += other.workloads;
        self.moments += other.moments;
        self.exhausted += other.exhausted;
        self.states += other.states;
        self.nested += other.nested;
        self.repeated += other.repeated;
    }
}

/// Visits the states of one workload on one kind of disk.
#[derive(Debug)]
pub struct Visit {
    here: Address,
    tally: Tally,
    seen: HashSet<u64>,
    /// The states to judge: all, or the one that `here` names.
    only: Option<Vec<Fall>>,
}

/// Visits all states of a workload, up to `limit` per moment.
///
/// # Errors
/// The first state that breaks a promise.
pub fn visit(
    workload: &Workload,
    profile: Profile,
    seed: u64,
    limit: u64,
) -> Result<Tally, Box<Failure>> {
    let falls = Vec::new();
    let here = Address { workload: workload.clone(), profile, seed, limit, falls };
    Visit { here, tally: Tally::default(), seen: HashSet::new(), only: None }.run()
}

/// Visits one state alone.
///
/// # Errors
/// The promise that it breaks.
pub fn replay(address: &Address) -> Result<Tally, Box<Failure>> {
    let here = Address { falls: Vec::new(), ..address.clone() };
    let only = Some(address.falls.clone());
    Visit { here, tally: Tally::default(), seen: HashSet::new(), only }.run()
}

/// Looks for a shorter workload that fails as well, on the same disk: operations are left out one
/// by one as long as that finds one. States are visited in order, the simplest first.
#[must_use]
pub fn shrink(failure: &Failure) -> Failure {
    let Address { workload, profile, seed, limit, .. } = &failure.address;
    let shorter = (0..workload.0.len()).map(|left_out| {
        let ops = workload.0.iter().enumerate().filter(|(index, _)| *index != left_out);
        Workload(ops.map(|(_, op)| *op).collect())
    });
    let found = shorter.filter_map(|workload| visit(&workload, *profile, *seed, *limit).err());
    found.map(|smaller| shrink(&smaller)).next().unwrap_or_else(|| failure.clone())
}

impl Visit {
    fn run(mut self) -> Result<Tally, Box<Failure>> {
        let result = self.workload();
        self.tally.workloads = 1;
        result
            .map(|()| self.tally)
            .map_err(|violation| Box::new(Failure { address: self.here.clone(), violation }))
    }

    fn workload(&mut self) -> Result<(), Violation> {
        let ops = self.here.workload.0.clone();
        let (mut run, created) = Run::new(self.here.profile, self.here.seed, ops.is_empty())?;
        let (crash, steps) = match ops.split_last() {
            None => (Crash::Process, vec![created]),
            Some((last, first)) => {
                for op in first {
                    run.step(*op, false)?;
                }
                (crash_before(*last), run.step(*last, true)?)
            }
        };
        let mut number = 0;
        for Steps { during, before } in steps {
            for moment in during {
                self.moment(&moment, number, crash, &before)?;
                number += 1;
            }
        }
        run.history.saw_durable(run.durable());
        self.moment(&run.disk, number, Crash::Process, &run.history)
    }

    /// Whether a fall at this depth is to be looked at.
    fn wanted(&self, fall: Fall) -> bool {
        let depth = self.here.falls.len();
        self.only.as_ref().is_none_or(|falls| falls.get(depth) == Some(&fall))
    }

    /// Crashes a moment in every way.
    fn moment(
        &mut self,
        disk: &SimStore,
        number: usize,
        crash: Crash,
        history: &History,
    ) -> Result<(), Violation> {
        let depth = self.here.falls.len();
        // A crash in a recovery is one of many: a few states of each.
        let limit = if depth == 0 { self.here.limit } else { 8 };
        let losses = disk.power_losses(limit);
        if depth == 0 {
            self.tally.moments += 1;
            self.tally.exhausted += u64::from(losses.is_exhaustive());
        }
        let visited = if depth == 0 { losses.len() } else { losses.len().min(limit) };
        for index in 0..visited {
            // Deep down a random state says more than one of the first few patterns.
            let sample = depth > 0 && !losses.is_exhaustive() && index > 2;
            let loss = if sample { u64::MAX / 2 + index } else { index };
            let fall = Fall { moment: number, loss: Some(loss) };
            if self.wanted(fall) {
                self.fall(fall, losses.state(loss), Crash::Power, history)?;
            }
        }
        let fall = Fall { moment: number, loss: None };
        if self.wanted(fall) {
            self.fall(fall, disk.kill(), crash, history)?;
        }
        Ok(())
    }

    /// Judges what one crash has left.
    fn fall(
        &mut self,
        fall: Fall,
        disk: SimStore,
        crash: Crash,
        history: &History,
    ) -> Result<(), Violation> {
        let seen = fingerprint(&disk, history, crash);
        if !self.seen.insert(seen) && self.only.is_none() {
            self.tally.repeated += 1;
            return Ok(());
        }
        self.here.falls.push(fall);
        self.tally.states += 1;
        self.tally.nested += u64::from(self.here.falls.len() > 1);
        self.judge(&disk, crash, history, seen)?;
        self.here.falls.pop();
        Ok(())
    }

    fn judge(
        &mut self,
        disk: &SimStore,
        crash: Crash,
        before: &History,
        seen: u64,
    ) -> Result<(), Violation> {
        let depth = self.here.falls.len();
        let deeper = depth < DEPTH
            && match &self.only {
                Some(falls) => falls.len() > depth,
                // One in so many, but always what keeps nothing and what keeps all.
                None => seen.is_multiple_of(if depth == 1 { 24 } else { 96 }),
            };
        if deeper {
            disk.record();
        }
        let mut history = before.clone();
        let wal = recover_sim(disk, &options(), &mut history, crash)?;
        let moments = if deeper { disk.moments() } else { Vec::new() };

        // A record of the size that was lost, if one was, so that what lay behind it fits again.
        let unit = history.attempt(0, 1);
        let len = [24, 24, 700, 5000][usize::try_from(seen >> 8 & 3).unwrap_or(0)];
        let key = history.units()[unit].first;
        let lsn = wal.append_and_sync(&payload(key, len));
        let lsn = lsn.map_err(|e| Violation::new(Oracle::I6, format!("after recovery: {e}")))?;
        history.appended(unit, vec![lsn.get()]);
        history.promise(unit, Promise::Durable);
        history.saw_durable(wal.durable_lsn().get());
        flush_one_more(&wal, &mut history, if seen >> 17 & 1 == 0 { 24 } else { 700 })?;
        let (again, crash_again) = match seen >> 16 & 1 {
            0 => (disk.kill(), Crash::Process),
            _ => (disk.power_loss(), Crash::Power),
        };
        drop(wal);
        let second = recover_sim(&again, &options(), &mut history, crash_again);
        let second = second.map_err(|violation| {
            // Nothing happened but a recovery and one commit.
            let oracle = match violation.oracle {
                Oracle::I1 | Oracle::I2 => Oracle::I5,
                other => other,
            };
            Violation::new(oracle, format!("opened again, {}", violation.what))
        })?;
        no_orphans(&again, &second)?;
        drop(second);
        for (number, moment) in moments.iter().enumerate() {
            self.moment(moment, number, crash, before)?;
        }
        Ok(())
    }
}

/// A record whose place may hold what an earlier crash left there.
fn flush_one_more(wal: &Wal<SimStore>, history: &mut History, len: usize) -> Result<(), Violation> {
    let unit = history.attempt(0, 1);
    let key = history.units()[unit].first;
    let lsn = wal.append(&payload(key, len)).and_then(|lsn| wal.flush().map(|()| lsn));
    let lsn = lsn.map_err(|e| Violation::new(Oracle::I6, format!("after a commit: {e}")))?;
    history.appended(unit, vec![lsn.get()]);
    history.promise(unit, Promise::Flushed);
    Ok(())
}

/// What has happened to a disk by the time that an operation recovers it.
fn crash_before(op: Op) -> Crash {
    if op == Op::Power { Crash::Power } else { Crash::Process }
}

/// Tells disks with different contents or different promises apart.
fn fingerprint(disk: &SimStore, history: &History, crash: Crash) -> u64 {
    let promises = history.units().iter().fold(crash as u64, |all, unit| {
        (all ^ unit.promise as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29)
    });
    disk.fingerprint() ^ promises
}
