//! What the list lock protects: who leads, who waits, and what is known about them.

use super::Waiting;
use super::gather::Policy;
use super::notices::Notices;
use super::turn::Cuts;
use super::waiter::Waiter;
use crate::error::WalError;
use crate::options::Gather;
use crate::sync::{Arc, Instant};

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) target: u64,
    pub(super) waiting: Waiting,
    pub(super) waiter: Arc<Waiter>,
    /// It is awake for a while.
    pub(super) awake: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) leading: bool,
    /// What the leader itself counts among the commits of its cohort.
    pub(super) own: usize,
    pub(super) waiters: Vec<Entry>,
    pub(super) notices: Notices,
    pub(super) poison: Option<WalError>,
    pub(super) policy: Policy,
    /// How many committers a new leader expects, itself included.
    pub(super) expected: usize,
    /// How many leaders still wake their cohort.
    pub(super) waking: usize,
    /// When the last cohort was released.
    pub(super) released: Option<Instant>,
    /// A sync has begun, and nobody stays awake for its end.
    pub(super) unattended: bool,
    /// A leader waits for company in `arrivals`.
    pub(super) gathering: bool,
    /// Somebody cannot wait for a gathering leader.
    pub(super) hurry: bool,
    pub(super) cuts: Cuts,
}

impl State {
    pub(super) fn new(gather: Gather) -> Self {
        Self {
            leading: false,
            own: 0,
            waiters: Vec::new(),
            notices: Notices::new(),
            poison: None,
            policy: Policy::new(gather),
            expected: 0,
            waking: 0,
            released: None,
            unattended: false,
            gathering: false,
            hurry: false,
            cuts: Cuts::default(),
        }
    }

    /// Whether the company a gathering leader expects is there.
    pub(super) fn complete(&self) -> bool {
        // Mostly the length says so already. Who asks holds the list lock, again and again.
        let most = self.waiters.len() + self.notices.demands() + self.own;
        most >= self.expected && self.commits() + self.own >= self.expected
    }

    /// Leadership is a waiter's.
    pub(super) fn lead(&mut self) {
        (self.leading, self.own) = (true, 1);
    }

    /// Leadership is the notifier's, whose commits wait as notices.
    pub(super) fn lead_for_notices(&mut self) {
        (self.leading, self.own) = (true, 0);
    }

    /// Commits that wait.
    pub(super) fn commits(&self) -> usize {
        let waiting = self.waiters.iter().filter(|w| w.waiting == Waiting::Commit).count();
        waiting + self.notices.demands()
    }

    /// Whether somebody waits who cannot wait for a gathering leader.
    pub(super) fn in_a_hurry(&self) -> bool {
        self.waiters.iter().any(|w| w.waiting != Waiting::Commit)
    }

    /// Passes leadership to the waiter that asked for nothing else, or to the one that is awake,
    /// or else to the one that came first, or else to the notifier, or releases it. `released`
    /// committers are about to come back, as far as anyone knows.
    pub(super) fn hand_over(&mut self, released: usize) -> Option<Arc<Waiter>> {
        self.expected = released + self.commits();
        if self.waiters.is_empty() {
            self.lead_for_notices();
            let next = self.notices.who_leads();
            self.leading = next.is_some();
            return next;
        }
        self.lead();
        let turn = self.waiters.iter().position(|entry| entry.waiting == Waiting::Turn);
        let awake = || self.waiters.iter().position(|entry| entry.awake);
        let next = turn.or_else(awake).unwrap_or(0);
        Some(self.waiters.remove(next).waiter)
    }
}
