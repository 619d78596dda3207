//! Notices: calls for who does not wait in a thread, once an LSN is durable or will never be.
//!
//! Futures, callbacks and followers. Each is *pending* until a sync, a failure, a cut or the end of
//! the log settles it, and *ready* from then on. One thread, the notifier, calls what is ready, in
//! LSN order and with no lock held: what it calls is code of the user's. Where notices demand a
//! sync and nobody leads, the notifier leads; a leader tells it when something is ready.
//!
//! * I1. While something is ready, or demands a sync that nobody leads, the notifier is not parked.
//! * I2. A notice is settled under the list lock by what moves `durable`, poisons, cuts or ends, so
//!   that a pending one always has a target that may yet become durable.
//! * I3. Every call is made once, or dropped by who cancels it; both with no lock held.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::state::State;
use super::waiter::{Verdict, Waiter};
use super::{Cohort, Tracker, cut_off};
use crate::error::{Result, WalError, discard};
use crate::lsn::Place;
use crate::stats::Stats;
use crate::sync::{Arc, Instant, now};

/// What is called.
pub(crate) type Call = Box<dyn FnOnce(Result<()>) + Send>;

/// Names a notice, to cancel it. Notices are called in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Ticket {
    target: u64,
    number: u64,
}

/// Whether a notice asks for a sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// It is a commit.
    Sync,
    /// Syncs of others will do.
    Nothing,
}

pub(super) struct Notice {
    pub(super) call: Call,
    /// Since when a commit has waited; `None` if it is none, or did not have to.
    since: Option<Instant>,
}

impl Notice {
    /// Counts a commit that was settled.
    pub(super) fn count(&self, verdict: &Result<()>, stats: &Stats) {
        if let Some(since) = self.since.filter(|_| verdict.is_ok()) {
            stats.committed(since.elapsed());
        }
    }
}

pub(super) enum Thread {
    /// No thread yet.
    Absent,
    /// It waits to be told.
    Parked(Arc<Waiter>),
    /// It works, or is about to start, and looks again before it parks.
    Busy,
    /// The log has ended, and so has the thread.
    Ended,
}

/// What became of a registration.
pub(crate) enum Registered {
    /// It will be called; the notifier has to be started first.
    Start(Ticket),
    /// It will be called.
    Waits(Ticket),
    /// Nobody calls any more: the caller does.
    Ended(Call, Result<()>),
}

/// Notices that were settled at once, alike.
pub(super) struct Settled {
    pub(super) notices: BTreeMap<Ticket, Notice>,
    pub(super) verdict: Result<()>,
}

/// The notices; lives under the list lock.
pub(super) struct Notices {
    /// Those that demand a sync, and those that do not.
    commits: BTreeMap<Ticket, Notice>,
    quiet: BTreeMap<Ticket, Notice>,
    pub(super) ready: Vec<Settled>,
    numbers: u64,
    pub(super) thread: Thread,
    /// The log has ended: nothing becomes pending any more.
    pub(super) ended: bool,
}

impl std::fmt::Debug for Notices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let pending = (self.commits.len(), self.quiet.len());
        f.debug_struct("Notices").field("pending", &pending).finish_non_exhaustive()
    }
}

impl Notices {
    pub(super) fn new() -> Self {
        Self {
            commits: BTreeMap::new(),
            quiet: BTreeMap::new(),
            ready: Vec::new(),
            numbers: 0,
            thread: Thread::Absent,
            ended: false,
        }
    }

    /// How many wait for a sync that they demand.
    pub(super) fn demands(&self) -> usize {
        self.commits.len()
    }

    /// Settles all up to `durable`. Returns how many of them were commits.
    pub(super) fn settle(&mut self, durable: u64) -> usize {
        let above = Ticket { target: durable.saturating_add(1), number: 0 };
        let mut settle = |pending: &mut BTreeMap<Ticket, Notice>| {
            if pending.first_key_value().is_none_or(|(first, _)| *first >= above) {
                return 0;
            }
            let rest = pending.split_off(&above);
            let notices = std::mem::replace(pending, rest);
            let count = notices.len();
            self.ready.push(Settled { notices, verdict: Ok(()) });
            count
        };
        settle(&mut self.quiet);
        settle(&mut self.commits)
    }

    /// Settles all above `beyond` with an error.
    pub(super) fn fail(&mut self, beyond: u64, error: &WalError) {
        let above = Ticket { target: beyond.saturating_add(1), number: 0 };
        for pending in [&mut self.quiet, &mut self.commits] {
            let notices = pending.split_off(&above);
            if !notices.is_empty() {
                self.ready.push(Settled { notices, verdict: Err(error.clone()) });
            }
        }
    }

    /// Takes a notice out, and what it was settled with if it was.
    fn remove(&mut self, ticket: Ticket) -> Option<(Notice, Option<Result<()>>)> {
        let pending = self.commits.remove(&ticket).or_else(|| self.quiet.remove(&ticket));
        if let Some(notice) = pending {
            return Some((notice, None));
        }
        self.ready.iter_mut().find_map(|settled| {
            let notice = settled.notices.remove(&ticket)?;
            Some((notice, Some(settled.verdict.clone())))
        })
    }

    fn pending(&mut self, demand: Demand) -> &mut BTreeMap<Ticket, Notice> {
        match demand {
            Demand::Sync => &mut self.commits,
            Demand::Nothing => &mut self.quiet,
        }
    }

    /// The notifier, if it is parked and something is ready. Tell it to look.
    pub(super) fn who_looks(&mut self) -> Option<Arc<Waiter>> {
        if self.ready.is_empty() && !self.ended { None } else { self.unpark() }
    }

    /// The notifier, if it is parked, nothing is ready, and something demands a sync. It has to be
    /// told to lead.
    pub(super) fn who_leads(&mut self) -> Option<Arc<Waiter>> {
        if self.ready.is_empty() && self.demands() > 0 { self.unpark() } else { None }
    }

    fn unpark(&mut self) -> Option<Arc<Waiter>> {
        match std::mem::replace(&mut self.thread, Thread::Busy) {
            Thread::Parked(waiter) => Some(waiter),
            other => {
                self.thread = other;
                None
            }
        }
    }

    /// The lowest target that demands a sync.
    pub(super) fn demanded(&self) -> Option<u64> {
        self.commits.first_key_value().map(|(ticket, _)| ticket.target)
    }
}

impl Tracker {
    /// Has `call` called when every byte below `target` is durable, or will never be; or soon with
    /// what is wrong with the target.
    pub(crate) fn register(
        &self,
        target: Result<Place>,
        demand: Demand,
        call: Call,
        work: &impl Cohort,
    ) -> Registered {
        let (head, entered) = (work.head(), now());
        let mut state = self.state.lock();
        let lsn = target.as_ref().map_or(0, |place| place.lsn);
        let verdict = match target {
            Ok(place) => self.verdict(&state, place, head),
            Err(error) => Some(Err(error)),
        };
        let notices = &mut state.notices;
        if matches!(notices.thread, Thread::Ended) {
            drop(state);
            return Registered::Ended(call, verdict.unwrap_or(Err(WalError::Closed)));
        }
        notices.numbers += 1;
        let ticket = Ticket { target: lsn, number: notices.numbers };
        let commits = demand == Demand::Sync && verdict.is_none();
        let notice = Notice { call, since: commits.then_some(entered) };
        match verdict {
            Some(verdict) => {
                let notices_of_one = BTreeMap::from([(ticket, notice)]);
                notices.ready.push(Settled { notices: notices_of_one, verdict });
            }
            None => drop(notices.pending(demand).insert(ticket, notice)),
        }
        let start = matches!(notices.thread, Thread::Absent);
        if start {
            notices.thread = Thread::Busy;
        }
        let look = notices.who_looks();
        let lead = if state.leading { None } else { state.notices.who_leads() };
        if lead.is_some() {
            state.lead_for_notices();
        }
        if state.gathering && state.complete() {
            self.arrivals.notify_one();
        }
        drop(state);
        tell(look, Verdict::Look);
        tell(lead, Verdict::Lead);
        if start { Registered::Start(ticket) } else { Registered::Waits(ticket) }
    }

    /// What can be said of a target at once.
    fn verdict(&self, state: &State, target: Place, head: u64) -> Option<Result<()>> {
        if let Some(cut) = state.cuts.below(target) {
            return Some(Err(cut_off(cut, head)));
        }
        if self.durable() >= target.lsn {
            return Some(Ok(()));
        }
        state
            .poison
            .clone()
            .map(Err)
            .or_else(|| state.notices.ended.then_some(Err(WalError::Closed)))
    }

    /// Drops a notice that was not called yet.
    pub(crate) fn cancel(&self, ticket: Ticket) {
        let mut state = self.state.lock();
        let cancelled = state.notices.remove(ticket);
        drop(state);
        if let Some((notice, Some(verdict))) = &cancelled {
            notice.count(verdict, &self.stats);
        }
        discard(cancelled);
    }

    /// Settles what is pending for good, and lets the notifier end.
    pub(crate) fn end_notices(&self) {
        let mut state = self.state.lock();
        state.notices.ended = true;
        state.notices.fail(0, &WalError::Closed);
        if matches!(state.notices.thread, Thread::Absent) {
            state.notices.thread = Thread::Ended;
        }
        let look = state.notices.who_looks();
        drop(state);
        tell(look, Verdict::Look);
    }
}

/// Calls code of the user's, whose panics end here.
pub(crate) fn call(call: Call, verdict: Result<()>) {
    catch_unwind(AssertUnwindSafe(|| call(verdict))).unwrap_or_else(discard);
}

/// Tells somebody, if there is somebody. Hold no lock.
pub(super) fn tell(who: Option<Arc<Waiter>>, what: Verdict) {
    if let Some(waiter) = who {
        waiter.tell(what);
    }
}
