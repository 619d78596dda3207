//! Small logs of a few segments, each a function of its seed.

use std::collections::BTreeSet;

use cohort_wal::sim::{Profile, SimStore};
use cohort_wal::{Lsn, Preallocate, Wal, WalError, WalOptions};

use super::layout::{Files, Layout};
use crate::dice::Dice;
use crate::record::payload;

/// What is done to a log before it is damaged.
#[derive(Debug, Clone)]
enum Step {
    /// Appends a unit of records of these sizes.
    Append(Vec<usize>),
    Flush,
    Sync,
    Rotate,
}

/// All that is done to a log, session by session; between them the process dies.
#[derive(Debug, Clone)]
pub(super) struct Script {
    seed: u64,
    profile: Profile,
    sessions: Vec<Vec<Step>>,
    closes: bool,
    zeroed: bool,
    /// Bounds so close that a frame far behind a lost one proves damage.
    tight: bool,
}

/// What calls have returned.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// LSN and key of each record.
    pub(super) records: Vec<(u64, u64)>,
    bounds: BTreeSet<u64>,
    end: u64,
}

/// A log to damage.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) script: Script,
    pub(super) layout: Layout,
    pub(super) known: Known,
    /// What the files once were, oldest first.
    pub(super) older: Vec<Files>,
    /// Writes and syncs of the last session.
    pub(super) writes: u64,
}

const TIGHT_BYTES: u32 = 1024;

impl Script {
    pub(super) fn random(seed: u64) -> Self {
        let mut dice = Dice::new(&[seed, 0xDA3A6E]);
        let segments = 2 + dice.below(3);
        let first = dice.below(segments);
        let mut sessions = Vec::new();
        // Each session begins a segment; the others are begun by rotating.
        for segments in [first, segments - first].into_iter().filter(|count| *count > 0) {
            let mut steps = Vec::new();
            for segment in 0..segments {
                if segment > 0 {
                    steps.push(Step::Rotate);
                }
                for _ in 0..1 + dice.below(4) {
                    cohort(&mut dice, &mut steps);
                    steps.push(Step::Sync);
                }
            }
            // What no sync covers is carried by the next session, or torn at the end.
            if dice.one_in(3) {
                cohort(&mut dice, &mut steps);
                steps.push(Step::Flush);
            }
            sessions.push(steps);
        }
        Self {
            seed,
            profile: dice.pick(&Profile::ALL),
            sessions,
            closes: dice.one_in(3),
            zeroed: dice.one_in(3),
            tight: dice.one_in(2),
        }
    }

    pub(super) fn options(&self) -> WalOptions {
        let ahead = if self.zeroed { Preallocate::Zeroed } else { Preallocate::Off };
        let options = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
        let options = options.preallocate(ahead);
        if !self.tight {
            return options;
        }
        let unit = u64::from(TIGHT_BYTES);
        options.max_record_bytes(TIGHT_BYTES - 16).max_batch_bytes(unit).max_unsynced_bytes(unit)
    }

    /// Bytes that may be unsynced, and one unit.
    fn reach(&self) -> u64 {
        if self.tight { 2 * u64::from(TIGHT_BYTES) } else { (32 << 10) + (256 << 20) }
    }

    /// Plays it on a new disk; `begin` sees the disk when the last session has opened the log,
    /// and `after` after every step.
    pub(super) fn play(
        &self,
        begin: impl FnOnce(&SimStore),
        mut after: impl FnMut(&SimStore),
    ) -> Result<(SimStore, Known), WalError> {
        let mut disk = SimStore::new(self.profile, self.seed);
        let mut known = Known::default();
        let (mut keys, mut begin) = (0, Some(begin));
        known.bounds.insert(0);
        for (index, steps) in self.sessions.iter().enumerate() {
            let wal = self.options().open_store(disk.clone())?;
            let last = index + 1 == self.sessions.len();
            if let Some(begin) = begin.take_if(|_| last) {
                begin(&disk);
            }
            for step in steps {
                known.step(&wal, step, &mut keys)?;
                after(&disk);
            }
            if last && self.closes {
                wal.close()?;
            }
            // The old handle is dropped after the copy was taken, and closes what nobody sees.
            let next = if last { disk.clone() } else { disk.kill() };
            known.end = wal.end_lsn().get();
            if last {
                return Ok((disk.kill(), known));
            }
            drop(wal);
            disk = next;
        }
        Ok((disk, known))
    }

    pub(super) fn build(self) -> Option<Log> {
        let mut older: Vec<Files> = Vec::new();
        let calls = std::cell::Cell::new(0);
        let count = |disk: &SimStore| {
            use cohort_wal::sim::SimCall;
            disk.calls(SimCall::Write) + disk.calls(SimCall::Sync)
        };
        let mut made = 0;
        let played = self.play(
            |disk| calls.set(count(disk)),
            |disk| {
                older.push(disk.snapshot().into_files());
                made = count(disk);
            },
        );
        let (disk, known) = played.ok()?;
        let files = disk.snapshot().into_files();
        let layout = Layout::new(files, known.bounds.clone(), known.end, self.reach())?;
        let writes = made.saturating_sub(calls.get()) + 2 * u64::from(self.closes);
        Some(Log { script: self, layout, known, older, writes })
    }
}

/// One to four units; now and then more than a tight bound lets be unsynced.
fn cohort(dice: &mut Dice, steps: &mut Vec<Step>) {
    let most = dice.pick(&[4, 4, 4, 16]);
    for _ in 0..1 + dice.below(most) {
        let records = if dice.one_in(4) { 2 + dice.below(2) } else { 1 };
        let max = if records == 1 { 500 } else { 200 };
        let lens = (0..records).map(|_| 8 + dice.below(max)).collect();
        steps.push(Step::Append(lens));
    }
}

impl Known {
    fn step(&mut self, wal: &Wal<SimStore>, step: &Step, keys: &mut u64) -> Result<(), WalError> {
        match step {
            Step::Append(lens) => {
                let records: Vec<_> =
                    (*keys..).zip(lens).map(|(k, len)| payload(k, *len)).collect();
                let lsns = wal.append_batch(&records)?.into_iter().map(Lsn::get);
                self.records.extend(lsns.zip(*keys..));
                *keys += lens.len() as u64;
                self.bounds.insert(wal.end_lsn().get());
                Ok(())
            }
            Step::Flush => wal.flush(),
            Step::Sync => wal.sync(),
            Step::Rotate => wal.rotate(),
        }
    }

    /// How many records lie below an LSN.
    pub(super) fn below(&self, lsn: u64) -> usize {
        self.records.partition_point(|(start, _)| *start < lsn)
    }
}
