//! When a leader waits for company, and how long.
//!
//! Without it a closed loop of N committers splits into two halves that take turns: the first one
//! back starts the next sync alone. A new leader therefore waits until as many committers are
//! back as the last cohort released, besides those already queued; at most for a small fraction
//! of the measured sync time; and only while that pays, by a saturating credit that probes again
//! now and then.
//!
//! It pays if all are back sooner than a sync takes. With N committers that need the time R to be
//! woken and come back, and a sync that takes F, waiting for all commits N in R + F; not waiting
//! commits N in two syncs, or in R if that is longer, because one half comes back while the other
//! is being synced. So waiting is better if R is less than F, or a little more: without waiting
//! each sync is preceded by a change of leaders.

use std::time::Duration;

use crate::options::Gather;
use crate::sync::cores;

const CREDIT: i8 = 4;
/// With the credit used up, one cohort in this many gathers all the same; with each time that it
/// was in vain, twice as many, up to the second number.
const PROBE_EVERY: (u32, u32) = (32, 1024);
/// What a wake-up takes at most where it matters.
const WAKE: Duration = Duration::from_micros(10);
/// Syncs that take longer are waited for asleep: a wake-up matters less then, and being awake
/// costs more.
const SHORT: Duration = Duration::from_micros(250);

/// The state of the rule; lives under the list lock.
#[derive(Debug)]
pub(super) struct Policy {
    gather: Gather,
    /// Smoothed time of a write and sync.
    sync: Duration,
    credit: i8,
    /// Cohorts since the last probe, and how many there are to be.
    cohorts: u32,
    probe_every: u32,
}

impl Policy {
    pub(super) fn new(gather: Gather) -> Self {
        let (sync, probe_every) = (Duration::ZERO, PROBE_EVERY.0);
        Self { gather, sync, credit: 0, cohorts: 0, probe_every }
    }

    /// Whether the rule is on at all.
    pub(super) fn is_on(&self) -> bool {
        self.gather != Gather::Off
    }

    /// A cohort was synced in `took`.
    pub(super) fn synced(&mut self, took: Duration) {
        self.cohorts = self.cohorts.saturating_add(1);
        self.sync = if self.sync.is_zero() { took } else { (self.sync * 7 + took) / 8 };
    }

    /// How long a leader that expects company may wait; `None`: not at all.
    pub(super) fn window(&self) -> Option<Duration> {
        match self.gather {
            Gather::Off => None,
            Gather::Window(window) => (!window.is_zero()).then_some(window),
            Gather::Adaptive => {
                let on = self.credit >= 0 || self.cohorts >= self.probe_every;
                let window = (self.sync / 4).max(WAKE * 2).min(self.sync / 2);
                (on && !window.is_zero()).then_some(window)
            }
        }
    }

    /// How long the next leader stays awake while a sync runs.
    pub(super) fn awake(&self) -> Duration {
        if self.sync < SHORT && cores() > 1 { self.sync * 2 } else { Duration::ZERO }
    }

    /// A wait ended, with the expected company or without it. So long would it take until all who
    /// share a sync are back.
    pub(super) fn gathered(&mut self, complete: bool, back: Duration) {
        let pays = complete && back <= self.sync + WAKE * 4;
        let step = if pays { 1 } else { -1 };
        self.credit = (self.credit + step).clamp(-CREDIT, CREDIT);
        self.cohorts = 0;
        let (least, most) = PROBE_EVERY;
        self.probe_every = if pays { least } else { (self.probe_every * 2).min(most) };
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
        for every in [64, 128, 256, 512, 1024, 1024] {
            policy.gathered(false, Duration::ZERO);
            for _ in 1..every {
                policy.synced(Duration::from_millis(1));
                assert_eq!(policy.window(), None, "of {every}");
            }
            policy.synced(Duration::from_millis(1));
            assert!(policy.window().is_some(), "of {every}");
        }
        for _ in 0..CREDIT {
            policy.gathered(true, Duration::from_millis(1));
        }
        assert!(policy.window().is_some());
    }

    #[test]
    fn company_that_comes_later_than_a_sync_would_end_is_not_worth_it() {
        let mut policy = Policy::new(Gather::Adaptive);
        policy.synced(Duration::from_micros(100));
        policy.gathered(true, Duration::from_micros(130));
        policy.gathered(true, Duration::from_micros(180));
        assert!(policy.window().is_some(), "as often as not");
        policy.gathered(true, Duration::from_micros(180));
        assert_eq!(policy.window(), None);
    }

    #[test]
    fn the_window_is_at_most_half_a_sync() {
        let mut policy = Policy::new(Gather::Adaptive);
        policy.synced(Duration::from_micros(30));
        assert_eq!(policy.window(), Some(Duration::from_micros(15)));
    }
}
