//! Medians, spreads and latencies.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::Fallible;
use crate::clock::{Duration, nanos};

const MAX_LATENCY_NS: u64 = 600_000_000_000;
const LATENCY_DIGITS: u8 = 3;

/// The middle of several rounds and how far they lie apart.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// None of no values.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<_> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = match values.len() % 2 {
            1 => values[middle],
            _ => f64::midpoint(values[middle - 1], values[middle]),
        };
        Some(Self { median, min, max })
    }
}

/// How long callers waited, in microseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
}

impl Latency {
    /// None when nothing was timed.
    pub(crate) fn of(waits: &Waits) -> Option<Self> {
        let at = |quantile: f64| waits.0.value_at_quantile(quantile) as f64 / 1e3;
        (!waits.0.is_empty()).then(|| Self {
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: waits.0.max() as f64 / 1e3,
        })
    }

    /// Each percentile's median over rounds; of the maximum, the maximum.
    pub(crate) fn over(rounds: &[Self]) -> Option<Self> {
        let median =
            |of: fn(&Self) -> f64| Spread::of(rounds.iter().map(of)).map(|spread| spread.median);
        Some(Self {
            p50_us: median(|round| round.p50_us)?,
            p90_us: median(|round| round.p90_us)?,
            p99_us: median(|round| round.p99_us)?,
            p999_us: median(|round| round.p999_us)?,
            max_us: Spread::of(rounds.iter().map(|round| round.max_us))?.max,
        })
    }
}

/// The waits of one thread, or of several together.
#[derive(Debug)]
pub(crate) struct Waits(Histogram<u64>);

impl Waits {
    pub(crate) fn new() -> Fallible<Self> {
        Ok(Self(Histogram::new_with_bounds(1, MAX_LATENCY_NS, LATENCY_DIGITS)?))
    }

    pub(crate) fn record(&mut self, wait: Duration) {
        self.0.saturating_record(nanos(wait).max(1));
    }

    pub(crate) fn merge(&mut self, other: &Self) -> Fallible<()> {
        Ok(self.0.add(&other.0)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle_and_the_spread_at_the_ends() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(spread, Spread { median: 2.0, min: 1.0, max: 3.0 });
        let even = Spread::of([4.0, 1.0, 2.0, 3.0]).unwrap();
        assert_eq!(even, Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn percentiles_are_within_the_histograms_precision() {
        let mut waits = Waits::new().unwrap();
        for micros in 1..=1000 {
            waits.record(Duration::from_micros(micros));
        }
        let latency = Latency::of(&waits).unwrap();
        for (found, wanted) in [
            (latency.p50_us, 500.0),
            (latency.p90_us, 900.0),
            (latency.p99_us, 990.0),
            (latency.p999_us, 999.0),
            (latency.max_us, 1000.0),
        ] {
            assert!((found / wanted - 1.0).abs() < 0.002, "{found} for {wanted}");
        }
        assert_eq!(Latency::of(&Waits::new().unwrap()), None);
    }

    #[test]
    fn merged_waits_are_those_of_all_threads() {
        let mut all = Waits::new().unwrap();
        for micros in [10, 1000] {
            let mut one = Waits::new().unwrap();
            one.record(Duration::from_micros(micros));
            all.merge(&one).unwrap();
        }
        assert!(Latency::of(&all).unwrap().p50_us < 11.0);
        assert!(Latency::of(&all).unwrap().max_us > 999.0);
    }

    #[test]
    fn over_rounds_percentiles_have_medians_and_the_maximum_is_kept() {
        let round = |p50_us, max_us| Latency { p50_us, max_us, ..Latency::default() };
        let over = Latency::over(&[round(1.0, 9.0), round(3.0, 5.0), round(2.0, 7.0)]).unwrap();
        assert_eq!((over.p50_us, over.max_us), (2.0, 9.0));
        assert_eq!(Latency::over(&[]), None);
    }
}
