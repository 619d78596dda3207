//! Small logs of a few segments, each a function of its seed.

use cohort_wal::sim::{Profile, SimCall, SimStore};
use cohort_wal::{Preallocate, WalError, WalOptions};

use super::known::Known;
use super::layout::{Files, Layout, Opened, Right};
use crate::dice::Dice;

/// What is done to a log before it is damaged. Where it is truncated is a fraction of what there
/// is then.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// Appends a unit of records of these sizes.
    Append(Vec<usize>),
    Flush,
    Sync,
    Rotate,
    /// At a record or the end.
    TruncateBefore(u16),
    Checkpoint(u16),
    /// Where a unit ends, or at the head.
    TruncateFrom(u16),
    /// Behind the last record of a unit.
    TruncateAfter(u16),
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

/// A log to damage.
#[derive(Debug, Clone)]
pub(super) struct Log {
    pub(super) script: Script,
    pub(super) layout: Layout,
    pub(super) known: Known,
    /// What opening it shows.
    pub(super) undamaged: Opened,
    /// What the files once were, oldest first.
    pub(super) older: Vec<Files>,
    /// Writes and syncs of the last session.
    pub(super) writes: u64,
}

const TIGHT_BYTES: u32 = 1024;

impl Script {
    pub(super) fn random(seed: u64) -> Self {
        let mut dice = Dice::new(&[seed, 0xDA3A6E]);
        let mut segments = 2 + dice.below(3);
        // One log of three is never truncated.
        let truncations = dice.below(3);
        let mut sessions = Vec::new();
        // Each session begins a segment; the others are begun by rotating, and by truncating.
        while segments > 0 {
            let here = if sessions.len() == 2 { segments } else { 1 + dice.below(segments) };
            segments -= here;
            let mut steps = Vec::new();
            for segment in 0..here {
                if segment > 0 {
                    steps.push(Step::Rotate);
                }
                for _ in 0..1 + dice.below(4) {
                    cohort(&mut dice, &mut steps);
                    steps.push(Step::Sync);
                }
                if truncations > 0 && dice.below(3) < truncations {
                    truncation(&mut dice, &mut steps);
                }
            }
            // What no sync covers is carried by the next session, or torn at the end.
            if dice.one_in(3) {
                cohort(&mut dice, &mut steps);
                steps.push(Step::Flush);
            }
            // Often the last thing that happens.
            if segments == 0 && truncations > 0 && dice.one_in(2) {
                truncation(&mut dice, &mut steps);
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
    /// and `after` after every opening and every step.
    pub(super) fn play(
        &self,
        begin: impl FnOnce(&SimStore),
        mut after: impl FnMut(&SimStore),
    ) -> Result<(SimStore, Known), WalError> {
        let mut disk = SimStore::new(self.profile, self.seed);
        let mut known = Known::new();
        let mut begin = Some(begin);
        for (index, steps) in self.sessions.iter().enumerate() {
            let wal = self.options().open_store(disk.clone())?;
            let last = index + 1 == self.sessions.len();
            if let Some(begin) = begin.take_if(|_| last) {
                begin(&disk);
            }
            after(&disk);
            for step in steps {
                known.step(&wal, step)?;
                after(&disk);
            }
            if last && self.closes {
                wal.close()?;
            }
            // The old handle is dropped after the copy was taken, and closes what nobody sees.
            let killed = disk.kill();
            drop(wal);
            disk = killed;
        }
        Ok((disk, known))
    }

    pub(super) fn build(self) -> Option<Log> {
        let mut older: Vec<Files> = Vec::new();
        let calls = std::cell::Cell::new(0);
        let count = |disk: &SimStore| disk.calls(SimCall::Write) + disk.calls(SimCall::Sync);
        let mut made = 0;
        let played = self.play(
            |disk| calls.set(count(disk)),
            |disk| {
                older.push(disk.snapshot().into_files());
                made = count(disk);
            },
        );
        let (disk, known) = played.ok()?;
        let layout = Layout::new(disk.snapshot().into_files(), &older, self.reach())?;
        let undamaged = known.opened();
        let ruling = layout.rule(&layout.files);
        let kept = known.records.range(known.head..).map(|(lsn, key)| (*lsn, *key));
        let bounds = known.bounds.range(known.head + 1..).copied();
        let agrees = ruling.right == Right::Opens(undamaged)
            && ruling.records.into_iter().eq(kept)
            && layout.bounds().range(known.head + 1..).copied().eq(bounds);
        let writes = made.saturating_sub(calls.get()) + 2 * u64::from(self.closes);
        agrees.then_some(Log { script: self, layout, known, undamaged, older, writes })
    }
}

/// A change of where the log begins or ends. Ends are rather high, or not much would be left.
fn truncation(dice: &mut Dice, steps: &mut Vec<Step>) {
    let (one, other) = (dice.number() as u16, dice.number() as u16);
    let (low, high) = (one.min(other), one.max(other));
    steps.push(match dice.below(6) {
        0 => Step::TruncateBefore(dice.pick(&[low, one, high])),
        1 => Step::TruncateBefore(u16::MAX),
        2 => Step::TruncateFrom(high),
        3 => Step::TruncateAfter(high),
        4 => Step::Checkpoint(dice.pick(&[low, high, u16::MAX])),
        _ => Step::Checkpoint(one),
    });
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
