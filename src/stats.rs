//! [`WalStats`]: counters and histograms of one open log.
//!
//! Statistics are relaxed counters; they take no part in any protocol.

use std::fmt;
use std::time::Duration;

use crate::sync::Counter;

/// Number of buckets of a [`Histogram`].
const BUCKETS: usize = 40;

/// A histogram with buckets that double: bucket 0 counts the value 0, bucket `i` the values in
/// `[2^(i-1), 2^i)`.
#[derive(Clone, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
}

impl Histogram {
    /// How many values were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The buckets that are not empty, as (exclusive upper bound of the values, count).
    pub fn buckets(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        let bounds = (0..).map(|index: u32| 1_u64 << index);
        bounds.zip(self.counts).filter(|&(_, count)| count > 0)
    }

    /// An upper bound of the value at `fraction` (0.0 to 1.0) of the distribution; 0 when empty.
    #[must_use]
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        clippy::cast_possible_truncation,
        reason = "a rank in a statistic"
    )]
    pub fn quantile(&self, fraction: f64) -> u64 {
        let rank = (self.count() as f64 * fraction.clamp(0.0, 1.0)).ceil() as u64;
        let mut seen = 0;
        for (bound, count) in self.buckets() {
            seen += count;
            if seen >= rank {
                return bound - 1;
            }
        }
        0
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.buckets()).finish()
    }
}

#[derive(Debug)]
struct Recorder([Counter; BUCKETS]);

impl Recorder {
    fn new() -> Self {
        Self(std::array::from_fn(|_| Counter::default()))
    }

    fn record(&self, value: u64) {
        let bucket = (u64::BITS - value.leading_zeros()) as usize;
        self.0[bucket.min(BUCKETS - 1)].add(1);
    }

    fn snapshot(&self) -> Histogram {
        Histogram { counts: std::array::from_fn(|index| self.0[index].get()) }
    }
}

/// What one open log has done since it was opened. A snapshot; the fields are read one by one,
/// so they can be a few operations apart.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WalStats {
    /// Records appended.
    pub appends: u64,
    /// Encoded bytes appended, frame headers and padding included.
    pub bytes: u64,
    /// Writes of appended bytes to the operating system.
    pub flushes: u64,
    /// Calls of the store's `sync` on segments: what commits pay for durability.
    pub syncs: u64,
    /// Commits that waited for a sync, or led one, and succeeded.
    pub commits: u64,
    /// Segments begun.
    pub rotations: u64,
    /// Times an append found the ring full.
    pub ring_waits: u64,
    /// Times a leader waited for company.
    pub gathers: u64,
    /// Commits made durable by one sync.
    pub cohort_sizes: Histogram,
    /// Microseconds that one write and sync of a cohort took.
    pub sync_us: Histogram,
    /// Microseconds that one commit waited.
    pub commit_us: Histogram,
}

/// The live counters behind [`WalStats`].
#[derive(Debug)]
pub(crate) struct Stats {
    pub(crate) appends: Counter,
    pub(crate) bytes: Counter,
    pub(crate) flushes: Counter,
    pub(crate) commits: Counter,
    pub(crate) rotations: Counter,
    pub(crate) ring_waits: Counter,
    pub(crate) gathers: Counter,
    /// LSN of the last record of a large unit, plus one; 0: none.
    pub(crate) last_large: Counter,
    /// LSN of the last record that recovery or a cut has left, plus one; 0: none.
    pub(crate) last_kept: Counter,
    cohort_sizes: Recorder,
    sync_us: Recorder,
    commit_us: Recorder,
}

impl Stats {
    pub(crate) fn new() -> Self {
        Self {
            appends: Counter::default(),
            bytes: Counter::default(),
            flushes: Counter::default(),
            commits: Counter::default(),
            rotations: Counter::default(),
            ring_waits: Counter::default(),
            gathers: Counter::default(),
            last_large: Counter::default(),
            last_kept: Counter::default(),
            cohort_sizes: Recorder::new(),
            sync_us: Recorder::new(),
            commit_us: Recorder::new(),
        }
    }

    pub(crate) fn cohort(&self, commits: u64, took: Duration) {
        if commits > 0 {
            self.commits.add(commits);
            self.cohort_sizes.record(commits);
        }
        self.sync_us.record(micros(took));
    }

    pub(crate) fn committed(&self, waited: Duration) {
        self.commit_us.record(micros(waited));
    }

    /// A snapshot; `appends` and `bytes` are what went through the ring,
    /// `syncs` what the store was asked for.
    pub(crate) fn snapshot(&self, appends: u64, bytes: u64, syncs: u64) -> WalStats {
        WalStats {
            appends: appends + self.appends.get(),
            bytes: bytes + self.bytes.get(),
            flushes: self.flushes.get(),
            syncs,
            commits: self.commits.get(),
            rotations: self.rotations.get(),
            ring_waits: self.ring_waits.get(),
            gathers: self.gathers.get(),
            cohort_sizes: self.cohort_sizes.snapshot(),
            sync_us: self.sync_us.snapshot(),
            commit_us: self.commit_us.snapshot(),
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_bounds_its_quantiles_from_above() {
        let recorder = Recorder::new();
        for value in [0, 1, 3, 3, 100] {
            recorder.record(value);
        }
        let histogram = recorder.snapshot();
        assert_eq!(histogram.count(), 5);
        assert_eq!(histogram.buckets().collect::<Vec<_>>(), [(1, 1), (2, 1), (4, 2), (128, 1)]);
        assert_eq!((histogram.quantile(0.5), histogram.quantile(1.0)), (3, 127));
    }
}
