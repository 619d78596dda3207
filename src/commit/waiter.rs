//! A parked committer, or the parked notifier, and what it is told.
//!
//! A parker of our own: `std::thread::park` shares its token with user code, which could lose a
//! wake-up to us or we to it.

use std::time::Duration;

use crate::error::WalError;
use crate::sync::{Condvar, Mutex, now, yield_now};

/// How a wait ends.
#[derive(Debug, Clone)]
pub(super) enum Verdict {
    /// The target is durable.
    Durable,
    /// Leadership is handed over.
    Lead,
    /// To the notifier: there is something to do.
    Look,
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

    /// Blocks until told; for the first while it stays awake and gives way to whoever can run.
    pub(super) fn wait(&self, awake: Duration) -> Verdict {
        if !awake.is_zero() {
            let begun = now();
            while begun.elapsed() < awake {
                if let Some(verdict) = self.verdict.lock().take() {
                    return verdict;
                }
                yield_now();
            }
        }
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
