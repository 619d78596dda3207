//! The notifier: the thread that makes the calls of notices, and leads where only they demand that.
//!
//! It shares the list lock with the tracker, which it may outlive: what is ready when a log ends is
//! called whatever becomes of the log. It has the engine only while it leads.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::notices::{Settled, Thread};
use super::state::State;
use super::waiter::{Verdict, Waiter};
use super::{Cohort, Tracker, Waiting, call, resign};
use crate::error::{WalError, discard};
use crate::stats::Stats;
use crate::sync::{Arc, Mutex};

/// What the notifier does next.
enum Errand {
    Call(Vec<Settled>),
    /// It has leadership.
    Lead,
    Park(Arc<Waiter>),
    End,
}

/// What the thread has.
#[derive(Debug, Clone)]
pub(crate) struct Notifier {
    state: Arc<Mutex<State>>,
    stats: Arc<Stats>,
}

impl Notifier {
    /// Works until the log ends. To lead, it calls `lead`, which is to call
    /// [`Tracker::lead_for_notices`], or to return false where there is no log to lead any more.
    pub(crate) fn work(&self, lead: impl Fn() -> bool) {
        loop {
            let leads = match self.errand() {
                Errand::End => return,
                Errand::Lead => true,
                Errand::Park(waiter) => matches!(waiter.wait(Duration::ZERO), Verdict::Lead),
                Errand::Call(ready) => {
                    self.call(ready);
                    false
                }
            };
            if leads && !lead() {
                resign(&self.state);
            }
        }
    }

    fn errand(&self) -> Errand {
        let mut state = self.state.lock();
        if !state.notices.ready.is_empty() {
            return Errand::Call(std::mem::take(&mut state.notices.ready));
        }
        if state.notices.ended {
            state.notices.thread = Thread::Ended;
            return Errand::End;
        }
        if !state.leading && state.notices.demands() > 0 {
            state.lead_for_notices();
            return Errand::Lead;
        }
        let waiter = Arc::new(Waiter::new());
        state.notices.thread = Thread::Parked(Arc::clone(&waiter));
        Errand::Park(waiter)
    }

    /// Calls what is ready, in order. No lock is held.
    fn call(&self, ready: Vec<Settled>) {
        let mut calls = Vec::new();
        for Settled { notices, verdict } in ready {
            let each = notices.into_iter();
            calls.extend(each.map(|(ticket, notice)| (ticket, notice, verdict.clone())));
            // What an error carries is the store's, and so is the code that drops it.
            discard(verdict);
        }
        calls.sort_unstable_by_key(|(ticket, ..)| *ticket);
        for (_, notice, verdict) in calls {
            notice.count(&verdict, &self.stats);
            call(notice.call, verdict);
        }
    }

    /// Without a thread: fails every notice there is. The next one asks for a thread again.
    pub(crate) fn forgo(&self, error: &WalError) {
        let mut state = self.state.lock();
        state.notices.fail(0, error);
        let ready = std::mem::take(&mut state.notices.ready);
        let ended = state.notices.ended;
        state.notices.thread = if ended { Thread::Ended } else { Thread::Absent };
        drop(state);
        self.call(ready);
    }
}

impl Tracker {
    pub(crate) fn notifier(&self) -> Notifier {
        Notifier { state: Arc::clone(&self.state), stats: Arc::clone(&self.stats) }
    }

    /// What the notifier does with leadership; what it was handed over for may be gone.
    pub(crate) fn lead_for_notices(&self, work: &impl Cohort) {
        let demanded = self.state.lock().notices.demanded();
        let Some(target) = demanded else { return resign(&self.state) };
        // What fails is told to whom it concerns; a panic has poisoned the log.
        let led = catch_unwind(AssertUnwindSafe(|| self.lead(target, Waiting::Internal, work)));
        match led {
            Ok(result) => result.unwrap_or_else(discard),
            Err(payload) => discard(payload),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::commit::{Demand, Outcome, Registered};
    use crate::lsn::Place;
    use crate::observe;
    use crate::options::Gather;

    struct Nobody;

    impl Cohort for Nobody {
        fn run(&self, _target: u64) -> Outcome {
            unreachable!("nobody leads")
        }

        fn poison(&self, _cause: WalError) {}

        fn ended(&self, _observed: observe::Cohort, _commits: usize) {}

        fn head(&self) -> u64 {
            0
        }
    }

    #[test]
    fn without_a_thread_calls_fail_and_the_next_asks_for_one_again() {
        let tracker = Tracker::new(0, Gather::Off, Arc::new(Stats::new()));
        let (tell, told) = mpsc::channel();
        let register = || {
            let tell = tell.clone();
            let call = Box::new(move |verdict| tell.send(verdict).unwrap());
            tracker.register(Ok(Place { lsn: 8, era: 0 }), Demand::Sync, call, &Nobody)
        };
        for _ in 0..2 {
            assert!(matches!(register(), Registered::Start(_)));
            assert!(matches!(register(), Registered::Waits(_)));
            tracker.notifier().forgo(&WalError::Closed);
            let failed = told.try_iter().filter(|verdict| matches!(verdict, Err(WalError::Closed)));
            assert_eq!(failed.count(), 2);
        }
        assert!(matches!(register(), Registered::Start(_)));
        tracker.end_notices();
        tracker.notifier().forgo(&WalError::Closed);
        assert!(told.try_recv().unwrap().is_err());
        assert!(matches!(register(), Registered::Ended(..)));
    }
}
