//! When a leader waits for company, and how long.
//!
//! Without it a closed loop of N committers splits into two halves that take turns: the first one
//! back starts the next sync alone. A new leader therefore waits until as many committers are
//! back as the last cohort released, besides those already queued; at most for a small fraction
//! of the measured sync time; and only while that pays, by a saturating credit that probes again
//! now and then.

use std::time::Duration;

use crate::options::Gather;

const CREDIT: i8 = 4;
/// With the credit used up, one cohort in this many gathers all the same.
const PROBE_EVERY: u32 = 32;
/// What a wake-up takes at most where it matters.
const WAKE: Duration = Duration::from_micros(10);

/// The state of the rule; lives under the list lock.
#[derive(Debug)]
pub(super) struct Policy {
    gather: Gather,
    /// Smoothed time of a write and sync.
    sync: Duration,
    credit: i8,
    cohorts: u32,
}

impl Policy {
    pub(super) fn new(gather: Gather) -> Self {
        Self { gather, sync: Duration::ZERO, credit: 0, cohorts: 0 }
    }

    /// Whether the rule is on at all.
    pub(super) fn is_on(&self) -> bool {
        self.gather != Gather::Off
    }

    /// A cohort was synced in `took`.
    pub(super) fn synced(&mut self, took: Duration) {
        self.cohorts = self.cohorts.wrapping_add(1);
        self.sync = if self.sync.is_zero() { took } else { (self.sync * 7 + took) / 8 };
    }

    /// How long a leader that expects company may wait; `None`: not at all.
    pub(super) fn window(&self) -> Option<Duration> {
        match self.gather {
            Gather::Off => None,
            Gather::Window(window) => (!window.is_zero()).then_some(window),
            Gather::Adaptive => {
                let on = self.credit >= 0 || self.cohorts.is_multiple_of(PROBE_EVERY);
                let window = (self.sync / 4).max(WAKE * 2).min(self.sync / 2);
                (on && !window.is_zero()).then_some(window)
            }
        }
    }

    /// A wait ended, with the expected company or without it.
    pub(super) fn gathered(&mut self, complete: bool) {
        let step = if complete { 1 } else { -1 };
        self.credit = (self.credit + step).clamp(-CREDIT, CREDIT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_never_pays_turns_itself_off_and_probes() {
        let mut policy = Policy::new(Gather::Adaptive);
        assert_eq!(policy.window(), None, "nothing is measured yet");
        policy.synced(Duration::from_millis(1));
        assert_eq!(policy.window(), Some(Duration::from_micros(250)));
        policy.gathered(false);
        let probes = (0..64).filter(|_| {
            policy.synced(Duration::from_millis(1));
            policy.window().is_some()
        });
        assert_eq!(probes.count(), 2);
        policy.gathered(true);
        assert!(policy.window().is_some());
    }

    #[test]
    fn the_window_is_at_most_half_a_sync() {
        let mut policy = Policy::new(Gather::Adaptive);
        policy.synced(Duration::from_micros(30));
        assert_eq!(policy.window(), Some(Duration::from_micros(15)));
    }
}
