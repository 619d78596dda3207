//! A parked committer and what it is told.
//!
//! A parker of our own: `std::thread::park` shares its token with user code, which could lose a
//! wake-up to us or we to it.

use crate::error::WalError;
use crate::sync::{Condvar, Mutex};

/// How a wait ends.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// The target is durable.
    Durable,
    /// Leadership is handed over.
    Lead,
    /// The wait failed.
    Failed(WalError),
}

#[derive(Debug)]
pub(super) struct Waiter {
    verdict: Mutex<Option<Verdict>>,
    told: Condvar,
}

impl Waiter {
    pub(super) fn new() -> Self {
        Self { verdict: Mutex::new(None), told: Condvar::new() }
    }

    /// Blocks until told.
    pub(super) fn wait(&self) -> Verdict {
        let mut verdict = self.verdict.lock();
        loop {
            if let Some(verdict) = verdict.take() {
                return verdict;
            }
            self.told.wait(&mut verdict);
        }
    }

    /// Tells the waiter, once. Hold no lock.
    pub(super) fn tell(&self, what: Verdict) {
        *self.verdict.lock() = Some(what);
        self.told.notify_one();
    }
}
