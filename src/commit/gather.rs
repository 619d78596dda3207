//! When a leader waits for company, and how long.
//!
//! Without it a closed loop of N committers splits into two halves that take turns: the first one
//! back starts the next sync alone. A new leader therefore waits until as many committers are
//! back as the last cohort released, besides those already queued; at most for a small fraction
//! of the measured sync time; and only while that pays.
//!
//! It pays if all are back and synced sooner than as many commit without waiting. With N committers
//! that need the time R to be woken and come back, and a sync that takes F, waiting commits N in
//! R + F. Not waiting commits N in two syncs and two changes of leaders, because one half comes
//! back while the other is being synced: so waiting is better where R is below F. Elsewhere it
//! depends on who needs the processors, and so both are measured: what is not done is tried for a
//! few cohorts now and then, and what commits more is done.

use std::time::Duration;

use crate::options::Gather;
use crate::sync::{YIELDS, cores};

/// So many waits in vain, of late, turn waiting off.
const MISSES: u8 = 4;
/// A trial takes so many cohorts, and any change so many until it shows what it does.
const TRIAL: u32 = 10;
const SETTLE: u32 = 2;
/// From one trial to the next it takes so many cohorts; after each that was in vain twice as many,
/// up to the second number.
const TRIAL_EVERY: (u32, u32) = (32, 1024);
/// What a wake-up takes at most where it matters.
const WAKE: Duration = Duration::from_micros(10);
/// Syncs that take longer are waited for asleep: a wake-up matters less then, and being awake
/// costs more.
const SHORT: Duration = Duration::from_micros(250);
/// Company that takes longer is waited for asleep.
const WATCH: Duration = Duration::from_millis(1);
/// Smoothing of the time of a cohort.
const SMOOTH: u32 = 16;
/// Counts of committers end here.
const MOST: u32 = 1 << 16;

/// The mean time from the end of one cohort to the end of the next, and the mean commits of one in
/// 1 / 256; smoothed once there are enough.
#[derive(Debug, Clone, Copy, Default)]
struct Pace {
    cohorts: u32,
    time: Duration,
    commits: u32,
}

impl Pace {
    /// The time for each commit, once it is known.
    fn each(&self) -> Option<Duration> {
        (self.commits > 0).then(|| self.time * 256 / self.commits)
    }

    /// One more cohort. One that took much longer than the mean, or at first than `usual`, was
    /// held up by something else.
    fn add(&mut self, time: Duration, commits: usize, usual: Duration) {
        let commits = 256 * u32::try_from(commits).map_or(MOST, |commits| commits.min(MOST));
        let mean = if self.cohorts > 0 { self.time } else { usual };
        let time = if mean.is_zero() { time } else { time.min(mean * 4) };
        let before = self.cohorts.min(SMOOTH - 1);
        self.cohorts = before + 1;
        self.time = (self.time * before + time) / self.cohorts;
        self.commits = (self.commits * before + commits) / self.cohorts;
    }
}

/// The state of the rule; lives under the list lock.
#[derive(Debug)]
pub(super) struct Policy {
    gather: Gather,
    /// Smoothed time of a write and sync.
    sync: Duration,
    /// What is usually done: whether leaders wait, unless a trial is on.
    usually: bool,
    misses: u8,
    /// Cohorts left of a trial of what is not done.
    trial: u32,
    /// Cohorts since a trial began or ended.
    cohorts: u32,
    trial_every: u32,
    /// How what is usually done fares, and how the trial.
    usual: Pace,
    tried: Pace,
}

impl Policy {
    pub(super) fn new(gather: Gather) -> Self {
        Self {
            gather,
            sync: Duration::ZERO,
            usually: true,
            misses: 0,
            trial: 0,
            cohorts: 0,
            trial_every: TRIAL_EVERY.0,
            usual: Pace::default(),
            tried: Pace::default(),
        }
    }

    /// Whether the rule is on at all.
    pub(super) fn is_on(&self) -> bool {
        self.gather != Gather::Off
    }

    /// A cohort was synced in `took`.
    pub(super) fn synced(&mut self, took: Duration) {
        self.sync = if self.sync.is_zero() { took } else { (self.sync * 7 + took) / 8 };
    }

    /// How long the leader of a new cohort may wait for company; `None`: not at all.
    pub(super) fn window(&self) -> Option<Duration> {
        match self.gather {
            Gather::Off => None,
            Gather::Window(window) => (!window.is_zero()).then_some(window),
            Gather::Adaptive => {
                let window = (self.sync / 4).max(WAKE * 2).min(self.sync / 2);
                (self.waits() && !window.is_zero()).then_some(window)
            }
        }
    }

    fn waits(&self) -> bool {
        self.usually != (self.trial > 0)
    }

    /// How long the next leader stays awake while a sync runs.
    pub(super) fn awake(&self) -> Duration {
        if may_wait_awake() && self.sync < SHORT { self.sync * 2 } else { Duration::ZERO }
    }

    /// A leader's wait ended, with the expected company or without it.
    pub(super) fn gathered(&mut self, complete: bool) {
        if complete {
            self.misses = self.misses.saturating_sub(1);
            return;
        }
        self.misses += 1;
        if self.misses >= MISSES {
            if self.usually {
                self.usual = Pace::default();
            }
            self.go_on(false, false);
        }
    }

    /// A cohort ended so long after the one before, idle time included: who waits has it too.
    pub(super) fn ended(&mut self, time: Duration, commits: usize) {
        self.cohorts = self.cohorts.saturating_add(1);
        if self.cohorts > SETTLE {
            let usual = self.usual.time;
            let pace = if self.trial > 0 { &mut self.tried } else { &mut self.usual };
            pace.add(time, commits, usual);
        }
        if self.trial > 0 {
            self.trial -= 1;
            if self.trial == 0 {
                self.end_trial();
            }
        } else if self.cohorts >= self.trial_every && self.in_doubt() {
            (self.trial, self.misses, self.cohorts, self.tried) = (TRIAL, 0, 0, Pace::default());
        }
    }

    /// Whether a trial may show anything. Not waiting takes two syncs.
    fn in_doubt(&self) -> bool {
        !self.usually || self.usual.time > self.sync * 2
    }

    fn end_trial(&mut self) {
        let (together, alone) =
            if self.usually { (self.usual, self.tried) } else { (self.tried, self.usual) };
        let waits = match (together.each(), alone.each()) {
            (Some(together), Some(alone)) => together <= alone,
            (Some(_), None) => together.time <= (self.sync + WAKE * 2) * 2,
            (None, _) => false,
        };
        let changed = waits != self.usually;
        if changed {
            self.usual = self.tried;
        }
        self.go_on(waits, changed);
    }

    fn go_on(&mut self, waits: bool, try_soon: bool) {
        let (least, most) = TRIAL_EVERY;
        self.trial_every = if try_soon { least } else { (self.trial_every * 2).min(most) };
        (self.usually, self.misses, self.trial, self.cohorts) = (waits, 0, 0, 0);
    }
}

/// How long a leader that waits for company stays awake. Committers that are back find a processor
/// that runs, which takes them less than to wake it. There is an end to it whatever the scheduler
/// makes of a yield.
pub(super) fn watch() -> Duration {
    if may_wait_awake() { WATCH } else { Duration::ZERO }
}

/// With one core, whoever is awake keeps others from it.
fn may_wait_awake() -> bool {
    YIELDS && cores() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    /// Cohorts of 64 committers over a sync of 100 us: `halves` is what two of them take that
    /// nobody waited for, and `all` what one of all takes.
    struct Load {
        policy: Policy,
        halves: Duration,
        all: Duration,
    }

    impl Load {
        fn new(halves: u64, all: u64) -> Self {
            let mut policy = Policy::new(Gather::Adaptive);
            assert_eq!(policy.window(), None, "nothing is measured yet");
            policy.synced(micros(100));
            Self { policy, halves: micros(halves), all: micros(all) }
        }

        /// How many of `count` cohorts waited.
        fn run(&mut self, count: u32) -> u32 {
            let mut waited = 0;
            for cohort in 0..count {
                if self.policy.window().is_some() {
                    waited += 1;
                    self.policy.gathered(true);
                    self.policy.ended(self.all, 64);
                } else {
                    // They need not be halves.
                    let commits = if cohort % 2 == 0 { 4 } else { 60 };
                    self.policy.ended(self.halves / 2, commits);
                }
            }
            waited
        }
    }

    #[test]
    fn what_commits_more_is_done() {
        let mut load = Load::new(300, 350);
        load.run(200);
        assert!(load.run(10_000) < 200, "but for a few trials nobody waits");
        load.halves = micros(400);
        load.run(10_000);
        assert!(load.run(10_000) > 9_800, "waiting is worth it now");
        load.all = micros(450);
        load.run(10_000);
        assert!(load.run(10_000) < 200);
    }

    #[test]
    fn idle_time_counts_for_both() {
        // Eight committers come together every 1.5 ms after the last of them is done. Not waiting
        // commits one of them first, and the seven others in a second sync of 1 ms.
        let mut policy = Policy::new(Gather::Adaptive);
        policy.synced(micros(1000));
        let mut waits = || {
            let waits = policy.window().is_some();
            if waits {
                policy.gathered(true);
                policy.ended(micros(2500), 8);
            } else {
                policy.ended(micros(2500), 1);
                policy.ended(micros(1000), 7);
            }
            waits
        };
        let waited = (0..10_000).filter(|_| waits()).count();
        assert!(waited > 9_000, "{waited} rounds waited");
    }

    #[test]
    fn a_stall_in_a_trial_does_not_decide_it() {
        let mut pace = Pace::default();
        pace.add(micros(50_000), 8, micros(200));
        (0..7).for_each(|_| pace.add(micros(200), 8, micros(200)));
        assert!(pace.time < micros(400), "{pace:?}");
    }

    #[test]
    fn where_waiting_is_surely_better_nothing_else_is_tried() {
        assert_eq!(Load::new(1, 199).run(10_000), 10_000, "sooner than two syncs");
    }

    #[test]
    fn waits_in_vain_turn_waiting_off_and_are_tried_rarely() {
        let mut policy = Policy::new(Gather::Adaptive);
        policy.synced(micros(1000));
        let mut vain = 0;
        for _ in 0..10_000 {
            if policy.window().is_some() {
                policy.gathered(false);
                vain += 1;
            }
            policy.ended(micros(1000), 1);
        }
        assert!((4..80).contains(&vain), "{vain} waits");
    }

    #[test]
    fn the_window_is_at_most_half_a_sync() {
        let mut policy = Policy::new(Gather::Adaptive);
        policy.synced(micros(30));
        assert_eq!(policy.window(), Some(micros(15)));
        let mut policy = Policy::new(Gather::Adaptive);
        policy.synced(micros(1000));
        assert_eq!(policy.window(), Some(micros(250)));
    }

    #[test]
    fn a_window_is_as_long_as_it_says_and_off_is_off() {
        let mut fixed = Policy::new(Gather::Window(micros(70)));
        fixed.synced(micros(1000));
        assert_eq!(fixed.window(), Some(micros(70)));
        let mut off = Policy::new(Gather::Off);
        off.synced(micros(1000));
        assert_eq!((off.window(), off.is_on()), (None, false));
    }
}
