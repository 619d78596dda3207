//! [`Axis`]: where a value lies, and which values are worth a tick.

/// Maps values to pixels, linearly or by their logarithms.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    low: f64,
    high: f64,
    log: bool,
    from: f64,
    to: f64,
}

impl Axis {
    /// From zero to a little above the largest value.
    pub(super) fn linear(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Self {
        let highest = finite(values).fold(0.0, f64::max);
        let high = if highest > 0.0 { highest * 1.05 } else { 1.0 };
        Self { low: 0.0, high, log: false, from, to }
    }

    /// From a little below the least value above zero to a little above the largest.
    pub(super) fn log(values: impl IntoIterator<Item = f64>, from: f64, to: f64) -> Self {
        let positive = finite(values).filter(|&value| value > 0.0);
        let (low, high) = positive
            .fold((f64::INFINITY, 0.0_f64), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if low <= high { (low / 1.15, high * 1.15) } else { (1.0, 10.0) };
        // Narrower than that it might have no round value in it.
        let (low, high) = if high / low < 4.0 { (low / 2.0, high * 2.0) } else { (low, high) };
        Self { low, high, log: true, from, to }
    }

    pub(super) fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.log { value.max(self.low).ln() } else { value };
        let share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low));
        self.from + share * (self.to - self.from)
    }

    /// Round values within the axis, in rising order.
    pub(super) fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let step = round_step(self.high / 6.0);
            let ticks = (0..=12).map(|index| f64::from(index) * step);
            return ticks.filter(|&tick| tick <= self.high).collect();
        }
        let decades = (self.high / self.low).log10();
        let steps: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let mut ticks = Vec::new();
        let mut decade = 10_f64.powf(self.low.log10().floor());
        while decade <= self.high {
            let within = steps.iter().map(|step| step * decade);
            ticks.extend(within.filter(|&tick| (self.low..=self.high).contains(&tick)));
            decade *= 10.0;
        }
        ticks
    }
}

fn finite(values: impl IntoIterator<Item = f64>) -> impl Iterator<Item = f64> {
    values.into_iter().filter(|value| value.is_finite())
}

/// 1, 2 or 5 times a power of ten, at least `step`.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let factor = [1.0, 2.0, 5.0].into_iter().find(|factor| factor * power >= step);
    factor.unwrap_or(10.0) * power
}

/// A value in few characters, with k, M or G for thousands.
pub(super) fn short(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e9 => (value / 1e9, "G"),
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e4 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let text = format!("{value:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    format!("{text}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_map_to_ends_and_order_is_kept() {
        let linear = Axis::linear([1.0, 100.0], 300.0, 0.0);
        assert!((linear.at(0.0) - 300.0).abs() < 1e-9 && linear.at(100.0) > 0.0);
        assert!(linear.at(2.0) < linear.at(1.0));
        let log = Axis::log([1.0, 1000.0, 0.0], 0.0, 300.0);
        let steps = [log.at(1.0), log.at(10.0), log.at(100.0), log.at(1000.0)];
        assert!(steps[0] > 0.0 && steps[3] < 300.0);
        assert!((steps[1] - steps[0] - (steps[3] - steps[2])).abs() < 1e-9);
        assert!(log.at(0.0).is_finite());
    }

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(Axis::linear([100.0], 0.0, 1.0).ticks(), [0.0, 20.0, 40.0, 60.0, 80.0, 100.0]);
        assert_eq!(Axis::log([1.0, 64.0], 0.0, 1.0).ticks(), [1.0, 2.0, 5.0, 10.0, 20.0, 50.0]);
        for values in [vec![], vec![0.0], vec![3.0], vec![1e-9, 1e12], vec![f64::NAN]] {
            for axis in
                [Axis::linear(values.clone(), 0.0, 1.0), Axis::log(values.clone(), 0.0, 1.0)]
            {
                let ticks = axis.ticks();
                assert!(!ticks.is_empty() && ticks.len() <= 24, "{values:?}: {ticks:?}");
                assert!(ticks.iter().all(|&tick| axis.at(tick).is_finite()));
            }
        }
    }

    #[test]
    fn values_are_short() {
        for (value, text) in
            [(0.0, "0"), (1.5, "1.5"), (9000.0, "9000"), (25_000.0, "25k"), (1.25e6, "1.25M")]
        {
            assert_eq!(short(value), text);
        }
    }
}
