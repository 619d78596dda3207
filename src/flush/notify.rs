//! Notices of an engine, and the thread that calls them.

use super::{Backing, Engine};
use crate::codec;
use crate::commit::{Call, Demand, Registered, Ticket, call as run};
use crate::error::{Result, WalError};
use crate::lsn::Place;
use crate::sync::spawn;

/// A log that gives notice, whatever it is stored in.
pub(crate) trait Notices: Send + Sync {
    /// Fails inside a stage and in a fork, where nobody may wait.
    fn check(&self) -> Result<()>;
    /// Whether every byte below `target` is durable.
    fn is_durable(&self, target: Place) -> bool;
    /// Blocks until every byte below `target` is durable; leads or joins a cohort.
    fn commit(&self, target: Place) -> Result<()>;
    /// Has `call` called when every byte below `target` is durable, or will never be, or at once
    /// with what is wrong with the target. `None` when it was called already.
    fn notify(&self, target: Result<Place>, demand: Demand, call: Call) -> Option<Ticket>;
    /// Drops a call that was not made yet.
    fn cancel(&self, ticket: Ticket);
}

impl<B: Backing> Notices for Engine<B> {
    fn check(&self) -> Result<()> {
        if codec::in_stage(self.identity()) {
            return Err(WalError::Reentrant);
        }
        self.backing.check()
    }

    fn is_durable(&self, target: Place) -> bool {
        self.tracker.is_durable(target)
    }

    fn commit(&self, target: Place) -> Result<()> {
        if self.tracker.is_durable(target) {
            return Ok(());
        }
        Notices::check(self)?;
        Self::commit(self, target)
    }

    fn notify(&self, target: Result<Place>, demand: Demand, call: Call) -> Option<Ticket> {
        // Nobody calls in a fork, and in a stage nobody may wait for it.
        if let Err(error) = Notices::check(self) {
            run(call, Err(error));
            return None;
        }
        match self.tracker.register(target, demand, call, self) {
            Registered::Waits(ticket) => Some(ticket),
            Registered::Start(ticket) => {
                self.start_notifier();
                Some(ticket)
            }
            Registered::Ended(call, verdict) => {
                run(call, verdict);
                None
            }
        }
    }

    fn cancel(&self, ticket: Ticket) {
        if self.backing.check().is_ok() {
            self.tracker.cancel(ticket);
        }
    }
}

impl<B: Backing> Engine<B> {
    fn start_notifier(&self) {
        let (notifier, visitor) = (self.tracker.notifier(), self.visitor());
        let lead = |engine: &Self| engine.tracker.lead_for_notices(engine);
        let thread = notifier.clone();
        let work = move || thread.work(|| visitor.visit(lead).is_some());
        if !spawn("cohort-wal-notifier", work) {
            notifier.forgo(&WalError::other("notify", "no thread can be started"));
        }
    }
}

/// A log that ends without being closed, as where no thread could be had for that.
impl<B: Backing> Drop for Engine<B> {
    fn drop(&mut self) {
        // In a fork somebody may hold the list lock for ever.
        if self.backing.check().is_ok() {
            self.tracker.end_notices();
        }
    }
}
