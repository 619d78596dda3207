//! Eras: leadership without a cohort, and cutting off what is durable.
//!
//! A cut moves `durable` back, and so everything that rests on it: `written`, the tail, the epoch.
//! That happens in one go under the list lock, by who holds leadership, the write stage and the
//! pause. Places in the log carry the era they were taken in; a wait for one beyond a cut fails.
//!
//! * I1. The era is odd while a cut changes where things are, and rises with each cut. A place
//!   whose era was the same, and even, before and after reading where it is was there in that era.
//! * I2. Who waits in the list has a target that no cut lies below: a cut takes the others out.

use super::notices::tell;
use super::waiter::Verdict;
use super::{Cohort, Entry, Tracker, Waiting, cut_off, resign};
use crate::error::Result;
use crate::lsn::Place;
use crate::sync::Ordering;

/// How many cuts are remembered one by one.
const REMEMBERED: usize = 64;

/// Where the log was cut. What an older era may still ask of a later cut is whether it lies
/// below, so each cut hides the earlier ones that it lies below.
#[derive(Debug, Default)]
pub(super) struct Cuts(Vec<Cut>);

#[derive(Debug, Clone, Copy)]
struct Cut {
    /// The era that it began.
    era: u64,
    lsn: u64,
}

impl Cuts {
    fn push(&mut self, era: u64, lsn: u64) {
        self.0.retain(|cut| cut.lsn < lsn);
        if self.0.len() == REMEMBERED {
            // The two oldest become one, the lower: whoever began so many cuts ago may be told
            // that it is cut off when it is not.
            if let Some(era) = self.0.get(1).map(|cut| cut.era) {
                self.0[0].era = era;
                self.0.remove(1);
            }
        }
        self.0.push(Cut { era, lsn });
    }

    /// The lowest cut since an era began.
    fn lowest_since(&self, era: u64) -> Option<u64> {
        self.0.iter().find(|cut| cut.era > era).map(|cut| cut.lsn)
    }

    /// The lowest cut since the era of `place` that lies below it.
    pub(super) fn below(&self, place: Place) -> Option<u64> {
        self.lowest_since(place.era).filter(|cut| *cut < place.lsn)
    }
}

impl Tracker {
    /// The era; odd while a cut changes where things are.
    #[inline]
    pub(crate) fn era(&self) -> u64 {
        // ORDERING: Acquire; pairs with `Turn::cut`, so that whoever sees an era sees where things
        // are in it. Where that was read before, its own Acquire keeps it before.
        self.era.load(Ordering::Acquire)
    }

    /// The lowest cut since an era began that is over.
    pub(crate) fn lowest_cut_since(&self, era: u64) -> Option<u64> {
        self.state.lock().cuts.lowest_since(era)
    }

    /// Fails when the log was cut below `place`.
    pub(crate) fn check_place(&self, place: Place, work: &impl Cohort) -> Result<()> {
        if self.era() == place.era {
            return Ok(());
        }
        let cut = self.state.lock().cuts.below(place);
        cut.map_or(Ok(()), |cut| Err(cut_off(cut, work.head())))
    }

    /// Waits for leadership. Nobody else syncs, and `durable` stands still, until it is dropped.
    pub(crate) fn turn<'a, C: Cohort>(&'a self, work: &'a C) -> Result<Turn<'a, C>> {
        let state = self.state.lock();
        if let Some(cause) = &state.poison {
            return Err(cause.clone());
        }
        // No sync satisfies it.
        if let Some((waiter, awake)) = self.join(state, u64::MAX, Waiting::Turn)
            && let Verdict::Failed(error) = waiter.wait(awake)
        {
            return Err(error);
        }
        Ok(Turn { tracker: self, work })
    }
}

/// Leadership without a cohort.
pub(crate) struct Turn<'a, C: Cohort> {
    tracker: &'a Tracker,
    work: &'a C,
}

impl<C: Cohort> Turn<'_, C> {
    /// Cuts the log off at `at`, at or below `durable`: everything else that has to change
    /// does so in `change`. Who waits for what is beyond fails.
    pub(crate) fn cut(&self, at: u64, change: impl FnOnce()) {
        let tracker = self.tracker;
        let mut state = tracker.state.lock();
        let era = tracker.era() + 2;
        // ORDERING: Relaxed; pairs with `era`. The tail is reopened behind it, with Release, and
        // whoever sees that would otherwise take where the log goes on for a place of before.
        tracker.era.store(era - 1, Ordering::Relaxed);
        // ORDERING: Release; pairs with `durable`. Without it a commit behind the cut takes what
        // was durable before for its own.
        tracker.durable.store(at, Ordering::Release);
        change();
        state.cuts.push(era, at);
        // ORDERING: Release; pairs with `era`. Without it a place in the new era may be read where
        // the log was before.
        tracker.era.store(era, Ordering::Release);
        let head = self.work.head();
        let beyond = |entry: &mut Entry| entry.waiting != Waiting::Turn && entry.target > at;
        let told: Vec<_> = state.waiters.extract_if(.., beyond).collect();
        state.notices.fail(at, &cut_off(at, head));
        let look = state.notices.who_looks();
        drop(state);
        tell(look, Verdict::Look);
        for Entry { waiter, .. } in told {
            waiter.tell(Verdict::Failed(cut_off(at, head)));
        }
    }
}

impl<C: Cohort> Drop for Turn<'_, C> {
    fn drop(&mut self) {
        resign(&self.tracker.state);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn cuts(of: &[u64]) -> Cuts {
        let mut cuts = Cuts::default();
        (1..).zip(of).for_each(|(number, lsn)| cuts.push(2 * number, *lsn));
        cuts
    }

    #[test]
    fn the_lowest_cut_since_an_era_decides() {
        let cuts = cuts(&[800, 80, 400, 160]);
        let since = |era| cuts.lowest_since(era);
        assert_eq!([0, 2, 4, 6, 8].map(since), [Some(80), Some(80), Some(160), Some(160), None]);
        assert_eq!(cuts.below(Place { lsn: 88, era: 0 }), Some(80));
        assert_eq!(cuts.below(Place { lsn: 80, era: 0 }), None, "a target is an exclusive end");
        assert_eq!(cuts.below(Place { lsn: 800, era: 8 }), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_errs_towards_cut_off() {
        let lsns: Vec<u64> = (1..=1000).map(|number| number * 8).collect();
        let cuts = cuts(&lsns);
        assert_eq!(cuts.0.len(), REMEMBERED);
        assert_eq!(cuts.lowest_since(0), Some(8));
        assert_eq!(cuts.lowest_since(1998), Some(8000));
        assert_eq!(cuts.lowest_since(1990), Some(7968));
    }
}
