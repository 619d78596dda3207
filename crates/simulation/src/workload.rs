//! Short workloads of one thread: every letter is an operation.

use std::fmt;
use std::str::FromStr;
use std::sync::mpsc;
use std::time::Duration;

use cohort_wal::sim::{Profile, SimStore};
use cohort_wal::{Lsn, Wal, WalError, WalStore};

use crate::history::{History, Promise, Unit};
use crate::oracle::{Crash, Oracle, Violation, image, recover_sim};
use crate::record::payload;
use crate::sealed::is_sealed;

pub use crate::sealed::{options, seal};

/// An operation on a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Op {
    /// `s`: append 24 bytes.
    Small,
    /// `m`: append 700 bytes, more than a sector.
    Medium,
    /// `l`: append 5000 bytes, past the ring; two of them fill a segment.
    Large,
    /// `b`: append a batch of three records.
    Batch,
    /// `f`: flush.
    Flush,
    /// `y`: sync.
    Sync,
    /// `a`: append 24 bytes, have a callback say when they are durable, and follow up to them.
    Await,
    /// `r`: rotate.
    Rotate,
    /// `t`: truncate before the last record.
    Truncate,
    /// `e`: truncate at the end: empty the log.
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

impl Op {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::Small,
        Self::Medium,
        Self::Large,
        Self::Batch,
        Self::Flush,
        Self::Sync,
        Self::Await,
        Self::Rotate,
        Self::Truncate,
        Self::Empty,
        Self::Checkpoint,
        Self::Undo,
        Self::Cut,
        Self::Close,
        Self::Kill,
        Self::Power,
    ];

    /// Its letter.
    #[must_use]
    pub fn letter(self) -> char {
        match self {
            Self::Small => 's',
            Self::Medium => 'm',
            Self::Large => 'l',
            Self::Batch => 'b',
            Self::Flush => 'f',
            Self::Sync => 'y',
            Self::Await => 'a',
            Self::Rotate => 'r',
            Self::Truncate => 't',
            Self::Empty => 'e',
            Self::Checkpoint => 'n',
            Self::Undo => 'u',
            Self::Cut => 'x',
            Self::Close => 'c',
            Self::Kill => 'k',
            Self::Power => 'p',
        }
    }

    /// The payload bytes of each record it appends.
    fn records(self) -> &'static [usize] {
        match self {
            Self::Small => &[24],
            Self::Medium => &[700],
            Self::Large => &[5000],
            Self::Batch => &[24, 400, 40],
            _ => &[],
        }
    }
}

/// Operations in a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Workload(pub Vec<Op>);

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|op| write!(f, "{}", op.letter()))
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(letters: &str) -> Result<Self, String> {
        let op = |letter| Op::ALL.into_iter().find(|op| op.letter() == letter);
        let ops = letters.chars().map(|c| op(c).ok_or_else(|| format!("no operation `{c}`")));
        ops.collect::<Result<_, _>>().map(Self)
    }
}

impl Workload {
    /// All workloads of up to `longest` of some operations, the shortest first: the one of none is
    /// the creation of the log.
    #[must_use]
    pub fn all(longest: usize, of: &[Op]) -> Vec<Self> {
        let mut last = vec![Self(Vec::new())];
        let mut all = last.clone();
        for _ in 0..longest {
            let longer = last.iter().flat_map(|workload| {
                of.iter().map(|op| Self(workload.0.iter().chain([op]).copied().collect()))
            });
            last = longer.collect();
            all.extend_from_slice(&last);
        }
        all
    }
}

/// A log at work on a simulated disk, and its history.
#[derive(Debug)]
pub struct Run {
    /// The disk as it is.
    pub disk: SimStore,
    /// What was done and promised.
    pub history: History,
    wal: Option<Wal<SimStore>>,
}

/// A cut of a log whose history is known.
#[derive(Debug, Clone, Copy)]
pub enum Cutting {
    /// The record there and all behind it go.
    From(u64),
    /// The record there is the last to stay.
    After(u64),
}

impl Cutting {
    /// One that cuts off the last unit, or all but the first.
    #[must_use]
    pub fn of<S: WalStore>(history: &History, wal: &Wal<S>, undo: bool) -> Self {
        let head = wal.head_lsn().get();
        let place = |unit: &Unit| Some((*unit.lsns.first()?, *unit.lsns.last()?));
        let mut places = history.known().filter_map(place).filter(|(_, last)| *last >= head);
        match undo {
            true => Self::From(places.next_back().map_or(head, |(first, _)| first.max(head))),
            false => places.next().map_or(Self::From(head), |(_, last)| Self::After(last)),
        }
    }

    /// Where the log ends then, or a little before: not behind the next unit.
    #[must_use]
    pub fn at(self) -> u64 {
        match self {
            Self::From(lsn) => lsn,
            Self::After(lsn) => lsn + 8,
        }
    }

    /// Cuts.
    ///
    /// # Errors
    /// As the log.
    pub fn make<S: WalStore>(self, wal: &Wal<S>) -> Result<(), WalError> {
        match self {
            Self::From(lsn) => wal.truncate_from(Lsn::new(lsn)),
            Self::After(lsn) => wal.truncate_after(Lsn::new(lsn)),
        }
    }
}

/// What a workload went through in one operation.
#[derive(Debug)]
pub struct Steps {
    /// Disks as they were after each store call that changed something, with the history as it
    /// was when the operation began, its attempt included.
    pub during: Vec<SimStore>,
    /// The history during the operation.
    pub before: History,
}

impl Run {
    /// Opens a new log, and if asked keeps the moments that its creation went through.
    ///
    /// # Errors
    /// [`Oracle::I6`] when that fails.
    pub fn new(profile: Profile, seed: u64, record: bool) -> Result<(Self, Steps), Violation> {
        let disk = SimStore::new(profile, seed);
        if record {
            disk.record();
        }
        let mut run = Self { disk, history: History::new(), wal: None };
        run.open()?;
        let steps = Steps { during: run.moments(record), before: History::new() };
        Ok((run, steps))
    }

    fn open(&mut self) -> Result<(), Violation> {
        let wal = options().open_store(self.disk.clone());
        self.wal = Some(wal.map_err(|e| Violation::new(Oracle::I6, format!("opening: {e}")))?);
        Ok(())
    }

    #[expect(clippy::expect_used, reason = "a rig that goes wrong must stop")]
    fn wal(&self) -> &Wal<SimStore> {
        self.wal.as_ref().expect("a run is open between operations")
    }

    /// Does one operation, and if asked keeps the moments it went through.
    ///
    /// # Errors
    /// What is wrong with what the operation returned, or with what a recovery found.
    pub fn step(&mut self, op: Op, record: bool) -> Result<Vec<Steps>, Violation> {
        let mut steps = Vec::new();
        let failed = |error| Violation::new(Oracle::I6, format!("{op:?}: {error}"));
        if record {
            self.disk.record();
        }
        match op {
            Op::Small | Op::Medium | Op::Large => {
                let len = op.records()[0];
                let unit = self.history.attempt(0, 1);
                let before = self.history.clone();
                let key = self.history.units()[unit].first;
                let lsn = self.wal().append(&payload(key, len)).map_err(failed)?;
                self.history.appended(unit, vec![lsn.get()]);
                steps.push(Steps { during: self.moments(record), before });
            }
            Op::Batch => {
                let unit = self.history.attempt(0, op.records().len());
                let before = self.history.clone();
                let first = self.history.units()[unit].first;
                let records = (first..).zip(op.records()).map(|(key, len)| payload(key, *len));
                let records: Vec<_> = records.collect();
                let lsns = self.wal().append_batch(&records).map_err(failed)?;
                self.history.appended(unit, lsns.into_iter().map(Lsn::get).collect());
                steps.push(Steps { during: self.moments(record), before });
            }
            Op::Flush | Op::Sync | Op::Rotate => {
                let before = self.history.clone();
                let (result, promise) = match op {
                    Op::Flush => (self.wal().flush(), Promise::Flushed),
                    Op::Sync => (self.wal().sync(), Promise::Durable),
                    _ if is_sealed() => (self.wal().rotate_key(), Promise::Durable),
                    _ => (self.wal().rotate(), Promise::Flushed),
                };
                result.map_err(failed)?;
                self.history.promise_all(promise);
                steps.push(Steps { during: self.moments(record), before });
            }
            Op::Await => steps.push(self.append_and_await(record)?),
            Op::Truncate | Op::Empty => steps.push(self.truncate(op, record).map_err(failed)?),
            Op::Checkpoint => steps.push(self.checkpoint(record).map_err(failed)?),
            Op::Undo | Op::Cut => steps.push(self.cut(op, record).map_err(failed)?),
            Op::Close => {
                let before = self.history.clone();
                self.wal().close().map_err(failed)?;
                self.history.promise_all(Promise::Durable);
                steps.push(Steps { during: self.moments(record), before });
                self.wal = None;
                self.reopen(Crash::Power, record, &mut steps)?;
            }
            Op::Kill | Op::Power => {
                let (disk, crash) = match op {
                    Op::Kill => (self.disk.kill(), Crash::Process),
                    _ => (self.disk.power_loss(), Crash::Power),
                };
                // The old handle dies on the old disk, which nobody sees any more.
                self.wal = None;
                self.disk = disk;
                if record {
                    self.disk.record();
                }
                self.reopen(crash, record, &mut steps)?;
            }
        }
        Ok(steps)
    }

    fn append_and_await(&mut self, record: bool) -> Result<Steps, Violation> {
        let failed = |error| Violation::new(Oracle::I6, format!("awaiting: {error}"));
        let unit = self.history.attempt(0, 1);
        let before = self.history.clone();
        let key = self.history.units()[unit].first;
        let lsn = self.wal().append(&payload(key, 24)).map_err(failed)?;
        let (tell, told) = mpsc::channel();
        self.wal().on_durable(lsn, move |result| tell.send(result).unwrap_or_default());
        let told = told.recv().unwrap_or(Err(WalError::Closed));
        told.map_err(failed)?;
        self.history.appended(unit, vec![lsn.get()]);
        self.history.promise_all(Promise::Durable);
        let mut follower = self.wal().follow(self.wal().head_lsn()).map_err(failed)?;
        let mut last = None;
        while let Some(record) = follower.next_timeout(Duration::ZERO).map_err(failed)? {
            last = Some(record.lsn());
        }
        if last != Some(lsn) {
            let what = format!("{lsn} is durable, and a follower ends at {last:?}");
            return Err(Violation::new(Oracle::I1, what));
        }
        Ok(Steps { during: self.moments(record), before })
    }

    fn truncate(&mut self, op: Op, record: bool) -> Result<Steps, WalError> {
        let last = self.wal().last_lsn().filter(|_| op == Op::Truncate);
        let lsn = last.unwrap_or_else(|| self.wal().end_lsn());
        self.history.truncating(lsn.get());
        let before = self.history.clone();
        let head = self.wal().truncate_before(lsn)?;
        self.history.truncated(head.get());
        Ok(Steps { during: self.moments(record), before })
    }

    fn checkpoint(&mut self, record: bool) -> Result<Steps, WalError> {
        let lsn = self.wal().last_lsn().unwrap_or_else(|| self.wal().end_lsn());
        self.history.making_snapshot(lsn.get());
        let before = self.history.clone();
        self.wal().checkpoint(lsn, |out| out.write_all(&image(lsn.get())))?;
        self.history.made_snapshot(lsn.get());
        Ok(Steps { during: self.moments(record), before })
    }

    fn cut(&mut self, op: Op, record: bool) -> Result<Steps, WalError> {
        let cut = Cutting::of(&self.history, self.wal(), op == Op::Undo);
        self.history.cutting(cut.at());
        let before = self.history.clone();
        cut.make(self.wal())?;
        self.history.cut(cut.at());
        Ok(Steps { during: self.moments(record), before })
    }

    fn reopen(
        &mut self,
        crash: Crash,
        record: bool,
        steps: &mut Vec<Steps>,
    ) -> Result<(), Violation> {
        let before = self.history.clone();
        self.wal = Some(recover_sim(&self.disk, &options(), &mut self.history, crash)?);
        steps.push(Steps { during: self.moments(record), before });
        Ok(())
    }

    fn moments(&self, record: bool) -> Vec<SimStore> {
        if record { self.disk.moments() } else { Vec::new() }
    }

    /// What the log says is durable now.
    #[must_use]
    pub fn durable(&self) -> u64 {
        self.wal().durable_lsn().get()
    }
}
