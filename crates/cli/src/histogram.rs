//! [`Histogram`]: how values are distributed: quantiles, powers of two, bars.
//!
//! [`hdrhistogram`] counts, to three digits and in constant memory: a quantile is at most a
//! thousandth too low, below 2048 it is exact. No cell of it reaches over a power of two, so the
//! buckets are exact too. Least and greatest value it would round, and a sum it has not: those are
//! kept beside it.

use std::fmt::Write as _;

use serde::Serialize;

use crate::output::grouped;

const DIGITS: u8 = 3;
/// Rows without a value are left out where there are more than so many in a row.
const MAX_EMPTY_ROWS: usize = 3;
const BAR_COLUMNS: u64 = 36;

/// Values and how often each came, to three digits.
#[derive(Debug)]
pub(crate) struct Histogram {
    cells: hdrhistogram::Histogram<u64>,
    sum: u128,
    /// Least and greatest value, if there is one.
    range: Option<(u64, u64)>,
}

/// Values from `start` to below `end`: zero alone, or from one power of two to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Bucket {
    start: u64,
    /// Exclusive.
    end: u64,
    count: u64,
}

/// What a histogram comes to. Field names are the JSON interface.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    count: u64,
    sum: u128,
    /// Null without values, like the others.
    min: Option<u64>,
    median: Option<u64>,
    p99: Option<u64>,
    max: Option<u64>,
    /// From the first one with a value to the last one.
    buckets: Vec<Bucket>,
}

/// What values are, and how the bounds of a bucket are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// As they are.
    Count,
    /// In KiB and so on.
    Bytes,
}

impl Default for Histogram {
    #[expect(clippy::expect_used, reason = "three digits fit into any range")]
    fn default() -> Self {
        let cells = hdrhistogram::Histogram::new_with_max(u64::MAX, DIGITS);
        Self { cells: cells.expect("all values, to three digits"), sum: 0, range: None }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, value: u64) {
        self.record_times(value, 1);
    }

    /// Records a value that came so many times.
    pub(crate) fn record_times(&mut self, value: u64, times: u64) {
        if times == 0 {
            return;
        }
        self.cells.saturating_record_n(value, times);
        self.sum += u128::from(value) * u128::from(times);
        let (min, max) = self.range.unwrap_or((value, value));
        self.range = Some((min.min(value), max.max(value)));
    }

    pub(crate) fn count(&self) -> u64 {
        self.cells.len()
    }

    /// The least value that so many of all are not above, to three digits.
    pub(crate) fn quantile(&self, quantile: f64) -> Option<u64> {
        let (min, _) = self.range?;
        let value = self.cells.value_at_quantile(quantile);
        Some(self.cells.lowest_equivalent(value).max(min))
    }

    pub(crate) fn max(&self) -> Option<u64> {
        self.range.map(|(_, max)| max)
    }

    pub(crate) fn summary(&self) -> Summary {
        Summary {
            count: self.count(),
            sum: self.sum,
            min: self.range.map(|(min, _)| min),
            median: self.quantile(0.5),
            p99: self.quantile(0.99),
            max: self.max(),
            buckets: self.buckets(),
        }
    }

    /// Counts by powers of two.
    fn buckets(&self) -> Vec<Bucket> {
        let Some((min, max)) = self.range else { return Vec::new() };
        let bucket = |power: u32| {
            let (start, end) = bounds(power);
            Bucket { start, end, count: self.cells.count_between(start, end - 1) }
        };
        (power_of(min)..=power_of(max)).map(bucket).collect()
    }
}

impl Summary {
    /// Median, p99 and the greatest value in words.
    pub(crate) fn words(&self) -> String {
        match (self.median, self.p99, self.max) {
            (Some(median), Some(p99), Some(max)) => {
                let [median, p99, max] = [median, p99, max].map(grouped);
                format!("median {median}, p99 {p99}, max {max}")
            }
            _ => "none".to_owned(),
        }
    }

    /// A heading and a row for each power of two, at most 80 columns wide.
    pub(crate) fn bars(&self, title: &str, unit: Unit, counted: &str) -> String {
        let mut text = format!("{title}: {}\n", self.words());
        if self.buckets.is_empty() {
            return text;
        }
        writeln!(text, "  {:>11}  {:>11}  {counted:>13}", "from", "to below").ok();
        let most = self.buckets.iter().map(|bucket| bucket.count).max().unwrap_or(1);
        for run in self.buckets.chunk_by(|a, b| (a.count == 0) == (b.count == 0)) {
            let empty = run.iter().all(|bucket| bucket.count == 0);
            if empty && run.len() > MAX_EMPTY_ROWS {
                writeln!(text, "  {:>11}", "...").ok();
                continue;
            }
            for Bucket { start, end, count } in run {
                let columns = u128::from(*count) * u128::from(BAR_COLUMNS);
                let columns = usize::try_from(columns.div_ceil(u128::from(most))).unwrap_or(0);
                let (from, below) = (unit.bound(*start), unit.bound(*end));
                let row = format!("  {from:>11}  {below:>11}  {:>13}  ", grouped(*count));
                writeln!(text, "{}", (row + &"#".repeat(columns)).trim_end()).ok();
            }
        }
        text
    }
}

impl Unit {
    fn bound(self, value: u64) -> String {
        const PREFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
        match self {
            Self::Count => grouped(value),
            Self::Bytes => {
                let tens = usize::try_from(value.max(1).ilog2() / 10).unwrap_or(0);
                format!("{} {}B", value >> (10 * tens), PREFIXES[tens])
            }
        }
    }
}

/// Bits of a value: bucket 0 holds zero alone, bucket `n` the values of `n` bits.
fn power_of(value: u64) -> u32 {
    u64::BITS - value.leading_zeros()
}

/// Where a bucket starts, and its exclusive end, saturated.
fn bounds(power: u32) -> (u64, u64) {
    let bound = |power: u32| 1_u64.checked_shl(power).unwrap_or(u64::MAX);
    (power.checked_sub(1).map_or(0, bound), bound(power))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_so_many_are_not_above() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        assert_eq!(histogram.summary().buckets, []);
        for value in 1..=1000 {
            histogram.record(value);
        }
        assert_eq!(histogram.count(), 1000);
        let quantiles = [0.001, 0.5, 0.99, 1.0].map(|quantile| histogram.quantile(quantile));
        assert_eq!(quantiles, [Some(1), Some(500), Some(990), Some(1000)]);
        histogram.record_times(1_000_000, 1000);
        assert_eq!(histogram.quantile(0.5), Some(1000));
        let summary = histogram.summary();
        assert_eq!((summary.sum, summary.max), (500_500 + 1_000_000_000, Some(1_000_000)));
        assert!((999_000..=1_000_000).contains(&summary.p99.unwrap()), "{summary:?}");
    }

    #[test]
    fn quantiles_are_exact_where_all_values_are_one_and_for_powers_of_two() {
        for value in [0, 1, 2047, 2049, 67_117_057, u64::MAX] {
            let mut histogram = Histogram::default();
            histogram.record_times(value, 3);
            let Summary { min, median, p99, max, .. } = histogram.summary();
            assert_eq!([min, median, p99, max], [Some(value); 4]);
        }
        for power in 0..64 {
            let mut histogram = Histogram::default();
            [0, 1 << power, u64::MAX].into_iter().for_each(|value| histogram.record(value));
            assert_eq!(histogram.quantile(0.5), Some(1 << power));
        }
    }

    #[test]
    fn buckets_are_powers_of_two_with_exclusive_ends_and_leave_no_value_out() {
        let mut histogram = Histogram::default();
        for value in [0, 1, 2, 3, 4, 4095, 4096, u64::MAX] {
            histogram.record(value);
        }
        let buckets = histogram.summary().buckets;
        let counts = |start, end| buckets.iter().find(|b| (b.start, b.end) == (start, end));
        assert_eq!(counts(0, 1).unwrap().count, 1);
        assert_eq!(counts(1, 2).unwrap().count, 1);
        assert_eq!(counts(2, 4).unwrap().count, 2);
        assert_eq!(counts(2048, 4096).unwrap().count, 1);
        assert_eq!(counts(4096, 8192).unwrap().count, 1);
        assert_eq!(buckets.last().unwrap().end, u64::MAX);
        assert_eq!(buckets.iter().map(|bucket| bucket.count).sum::<u64>(), 8);
        assert!(buckets.windows(2).all(|pair| pair[0].end == pair[1].start));
    }

    #[test]
    fn bars_are_narrow_and_no_value_is_without_one() {
        let mut histogram = Histogram::default();
        histogram.record_times(100, 1_000_000_000_000);
        histogram.record(u64::MAX);
        for unit in [Unit::Bytes, Unit::Count] {
            let bars = histogram.summary().bars("sizes", unit, "records");
            assert_eq!(bars.lines().count(), 5, "{bars}");
            let rows: Vec<_> = bars.lines().skip(2).collect();
            assert!(rows[0].ends_with(&format!("  {}", "#".repeat(36))), "{bars}");
            assert!(rows[1].ends_with("..."), "{bars}");
            assert!(rows[2].ends_with(" 1  #"), "{bars}");
        }
        let small = |value| {
            let mut histogram = Histogram::default();
            histogram.record(value);
            histogram.summary().bars("sizes", Unit::Bytes, "records")
        };
        assert!(small(1 << 30).contains("  1 GiB        2 GiB  "), "{}", small(1 << 30));
        assert!(small(0).contains("  0 B          1 B  "), "{}", small(0));
        assert!(small(1 << 61).lines().skip(1).all(|line| line.len() <= 80));
        assert_eq!(Histogram::default().summary().bars("sizes", Unit::Count, "x"), "sizes: none\n");
    }
}
