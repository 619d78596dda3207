//! Group commit: who syncs, who waits, who is told.
//!
//! Moves the watermark `durable` and owns poison. It does no I/O: a leader's work comes in as a
//! [`Cohort`].
//!
//! A committer whose target is not durable takes leadership if nobody has it, and waits in the
//! list otherwise. A leader gathers, writes, syncs, and then, in this order: publishes `durable`,
//! hands leadership to one unsatisfied waiter, and wakes exactly the satisfied ones. Where syncs
//! are short, the first to come while one runs stays awake for it: the next leader, unless that
//! sync covers it, who begins without a wake-up in between.
//!
//! * I1. While the list is not empty somebody leads. A leader that ends hands over, releases
//!   leadership of an empty list, or poisons and empties the list; a panic poisons. Notices that
//!   demand a sync are as good as a list, unless the notifier is awake.
//! * I2. `durable` moves, and poison is recorded, under the list lock; after poison `durable`
//!   never moves again and nobody enters the list.
//! * I3. A waiter registers under the list lock after looking at `durable` and poison there, so no
//!   wake-up is lost. Verdicts are told with no lock held.
//!
//! After MariaDB's `group_commit_lock`: wake the satisfied and one new leader, never a herd.

mod cohort;
mod gather;
mod notices;
mod notifier;
mod state;
mod turn;
mod waiter;

use std::time::Duration;

use crate::error::{Result, WalError, discard};
use crate::lsn::{Lsn, Place};
use crate::options::Gather;
use crate::stats::Stats;
use crate::sync::{
    Arc, AtomicU64, CachePadded, Condvar, Deadline, Instant, Mutex, MutexGuard, Ordering, now,
    yield_now,
};

use notices::tell;
use state::{Entry, State};
use waiter::{Verdict, Waiter};

pub(crate) use cohort::{Cohort, Outcome, Waiting};
pub(crate) use notices::{Call, Demand, Registered, Ticket, call};

#[derive(Debug)]
pub(crate) struct Tracker {
    durable: CachePadded<AtomicU64>,
    /// Twice the number of cuts, and one more while a cut changes where things are.
    era: CachePadded<AtomicU64>,
    /// The notifier has it too.
    state: Arc<Mutex<State>>,
    arrivals: Condvar,
    stats: Arc<Stats>,
}

enum Entered {
    Durable,
    Lead,
    /// Staying awake for so long.
    Wait(Arc<Waiter>, Duration),
}

impl Tracker {
    pub(crate) fn new(durable: u64, gather: Gather, stats: Arc<Stats>) -> Self {
        Self {
            durable: CachePadded::new(AtomicU64::new(durable)),
            era: CachePadded::new(AtomicU64::new(0)),
            state: Arc::new(Mutex::new(State::new(gather))),
            arrivals: Condvar::new(),
            stats,
        }
    }

    /// Every byte below is on stable storage.
    #[inline]
    pub(crate) fn durable(&self) -> u64 {
        // ORDERING: Acquire; pairs with `finish` and `Turn::cut`, so that whoever sees an LSN
        // durable also sees what the leader did before it said so.
        self.durable.load(Ordering::Acquire)
    }

    /// The first failure, if the log is poisoned.
    pub(crate) fn check(&self) -> Result<()> {
        match &self.state.lock().poison {
            Some(cause) => Err(cause.clone()),
            None => Ok(()),
        }
    }

    /// Whether every byte below `target` is durable and no cut has taken it away.
    #[inline]
    pub(crate) fn is_durable(&self, target: Place) -> bool {
        self.durable() >= target.lsn && self.era() == target.era
    }

    /// Waits until every byte below `target` is durable; leads or joins a cohort. Fails with
    /// [`WalError::Truncated`] once the log was cut below it.
    pub(crate) fn wait(&self, target: Place, waiting: Waiting, work: &impl Cohort) -> Result<()> {
        if self.is_durable(target) {
            return Ok(());
        }
        let entered = now();
        match self.enter(target, waiting, work)? {
            Entered::Durable => return Ok(()),
            Entered::Lead => self.lead(target.lsn, waiting, work)?,
            Entered::Wait(waiter, awake) => match waiter.wait(awake) {
                Verdict::Durable | Verdict::Look => {}
                Verdict::Lead => self.lead(target.lsn, waiting, work)?,
                Verdict::Failed(error) => return Err(error),
            },
        }
        if waiting == Waiting::Commit {
            self.stats.committed(entered.elapsed());
        }
        Ok(())
    }

    fn enter(&self, target: Place, waiting: Waiting, work: &impl Cohort) -> Result<Entered> {
        let state = self.state.lock();
        if let Some(cut) = state.cuts.below(target) {
            drop(state);
            return Err(cut_off(cut, work.head()));
        }
        if self.durable() >= target.lsn {
            return Ok(Entered::Durable);
        }
        if let Some(cause) = &state.poison {
            return Err(cause.clone());
        }
        Ok(match self.join(state, target.lsn, waiting) {
            None => Entered::Lead,
            Some((waiter, awake)) => Entered::Wait(waiter, awake),
        })
    }

    /// Takes leadership, or a place in the list, and for how long to stay awake there.
    fn join(
        &self,
        mut state: MutexGuard<'_, State>,
        target: u64,
        waiting: Waiting,
    ) -> Option<(Arc<Waiter>, Duration)> {
        state.hurry |= waiting != Waiting::Commit;
        if !state.leading {
            state.lead();
            return None;
        }
        let waiter = Arc::new(Waiter::new());
        let attends = waiting != Waiting::Turn && std::mem::take(&mut state.unattended);
        let awake = if attends { state.policy.awake() } else { Duration::ZERO };
        let (waits, stays) = (Arc::clone(&waiter), !awake.is_zero());
        state.waiters.push(Entry { target, waiting, waiter: waits, awake: stays });
        if state.gathering && (state.hurry || state.complete()) {
            self.arrivals.notify_one();
        }
        Some((waiter, awake))
    }

    /// Leads cohorts until `target` is durable or failed. Leadership is held on entry and passed
    /// on or released on every way out.
    fn lead(&self, target: u64, waiting: Waiting, work: &impl Cohort) -> Result<()> {
        let mut leader = Leader { work, finished: false };
        loop {
            self.gather();
            let begun = now();
            let mut outcome = work.run(target);
            let observed = std::mem::take(&mut outcome.observed);
            let (commits, result) = self.finish(target, waiting, outcome, begun);
            leader.finished = result.is_some();
            work.ended(observed, commits);
            if let Some(result) = result {
                return result;
            }
        }
    }

    /// Waits for company while that is expected and pays.
    fn gather(&self) {
        let mut state = self.state.lock();
        let window = state.policy.window().filter(|_| !state.complete() && !state.hurry);
        if let Some(window) = window {
            self.stats.gathers.add(1);
            state.gathering = true;
            let complete;
            (state, complete) = self.gather_for(state, window);
            state.gathering = false;
            state.policy.gathered(complete);
        }
        state.unattended = true;
    }

    /// Whether the company came before the window was over. At first the leader stays awake and
    /// gives way to whoever can run.
    fn gather_for<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        window: Duration,
    ) -> (MutexGuard<'a, State>, bool) {
        let (begun, watch) = (now(), gather::watch());
        let mut deadline = None;
        loop {
            if state.complete() {
                return (state, true);
            }
            if state.hurry || state.poison.is_some() {
                return (state, false);
            }
            let left = match &mut deadline {
                // The clock starts when the previous leader has woken its cohort.
                None if state.waking > 0 => window,
                None => {
                    deadline = Some(Deadline::after(window));
                    window
                }
                Some(deadline) => deadline.left(),
            };
            if left.is_zero() {
                return (state, false);
            }
            if begun.elapsed() < watch {
                drop(state);
                yield_now();
                state = self.state.lock();
            } else {
                self.arrivals.wait_for(&mut state, left);
            }
        }
    }

    /// Ends a cohort. Returns how many commits it had, and the leader's own result once it has
    /// one; until then it leads on.
    fn finish(
        &self,
        target: u64,
        waiting: Waiting,
        outcome: Outcome,
        begun: Instant,
    ) -> (usize, Option<Result<()>>) {
        let took = begun.elapsed();
        let mut state = self.state.lock();
        if state.poison.is_some() {
            // `poison` has emptied the list and nobody has entered it since (I2).
            state.leading = false;
            return (0, Some(self.own_result(target, state.poison.clone())));
        }
        if outcome.durable > self.durable() {
            // ORDERING: Release; pairs with `durable`.
            self.durable.store(outcome.durable, Ordering::Release);
            state.policy.synced(took);
        }
        let durable = self.durable();
        let mut told: Vec<Entry> = state.waiters.extract_if(.., |w| w.target <= durable).collect();
        let commits = told.iter().filter(|w| w.waiting == Waiting::Commit).count()
            + usize::from(target <= durable && waiting == Waiting::Commit)
            + state.notices.settle(durable);
        let fails = |target| outcome.failure.is_some() && target > outcome.written;
        let failed = |w: &mut Entry| w.waiting != Waiting::Turn && fails(w.target);
        told.extend(state.waiters.extract_if(.., failed));
        if let Some(failure) = &outcome.failure {
            state.notices.fail(outcome.written, failure);
        }
        let own = target <= durable || fails(target);
        state.hurry = state.in_a_hurry();
        if let Some(released) = state.released.filter(|_| commits > 0) {
            state.policy.ended(released.elapsed(), commits);
        }
        let next = if own { state.hand_over(commits) } else { None };
        let look = state.notices.who_looks();
        // Who leads on has waited enough.
        state.expected *= usize::from(own);
        let waking = state.policy.is_on() && !told.is_empty();
        state.waking += usize::from(waking);
        state.released = Some(now());
        drop(state);
        self.stats.cohort(commits as u64, took);
        tell(next, Verdict::Lead);
        tell(look, Verdict::Look);
        for Entry { target, waiter, .. } in told {
            waiter.tell(match &outcome.failure {
                Some(error) if target > durable => Verdict::Failed(error.clone()),
                _ => Verdict::Durable,
            });
        }
        if waking {
            let mut state = self.state.lock();
            state.waking -= 1;
            if state.gathering {
                self.arrivals.notify_one();
            }
        }
        (commits, own.then(|| self.own_result(target, outcome.failure)))
    }

    fn own_result(&self, target: u64, failure: Option<WalError>) -> Result<()> {
        match failure {
            Some(error) if self.durable() < target => Err(error),
            _ => Ok(()),
        }
    }

    /// Records the first failure and fails every waiter. `durable` never moves again. `raise`
    /// tells everybody else, before any waiter is told: it runs once, under the list lock.
    pub(crate) fn poison(&self, cause: WalError, raise: impl FnOnce()) {
        let mut state = self.state.lock();
        if state.poison.is_some() {
            drop(state);
            return discard(cause);
        }
        let poison = WalError::poisoned(cause);
        state.poison = Some(poison.clone());
        raise();
        let waiters = std::mem::take(&mut state.waiters);
        state.notices.fail(0, &poison);
        let look = state.notices.who_looks();
        if state.gathering {
            self.arrivals.notify_one();
        }
        drop(state);
        tell(look, Verdict::Look);
        for Entry { waiter, .. } in waiters {
            waiter.tell(Verdict::Failed(poison.clone()));
        }
    }
}

/// Hands leadership on without having led.
fn resign(state: &Mutex<State>) {
    let mut state = state.lock();
    if state.poison.is_some() {
        // `poison` has emptied the list and nobody has entered it since.
        state.leading = false;
        return;
    }
    state.hurry = state.in_a_hurry();
    let next = state.hand_over(0);
    drop(state);
    tell(next, Verdict::Lead);
}

/// The error of who asks for something behind a cut.
fn cut_off(cut: u64, head: u64) -> WalError {
    WalError::Truncated { lsn: Lsn::new(cut), head: Lsn::new(head) }
}

/// Leadership while a leader works: a panic on the way poisons the log, which wakes everybody.
struct Leader<'a, C: Cohort> {
    work: &'a C,
    finished: bool,
}

impl<C: Cohort> Drop for Leader<'_, C> {
    fn drop(&mut self) {
        if !self.finished {
            self.work.poison(WalError::other("sync", "the leader of a commit panicked"));
        }
    }
}
