//! A helper: a thread that does nothing until it is wanted, and ends with the log.
//!
//! It starts when it is first wanted, and holds the engine weakly. Without a thread to be had the
//! log goes on as well.

use std::time::Duration;

use crate::sync::{Condvar, Deadline, Mutex};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Demand {
    /// No thread yet.
    Dormant,
    Idle,
    Wanted,
    Stopped,
}

/// What a helper shares with those who want it.
#[derive(Debug)]
pub(super) struct Helper {
    demand: Mutex<Demand>,
    wake: Condvar,
}

impl Helper {
    pub(super) fn new() -> Self {
        Self { demand: Mutex::new(Demand::Dormant), wake: Condvar::new() }
    }

    /// Wakes the helper; the first time `start` starts its thread. False when there is none to be
    /// had.
    pub(super) fn want(&self, start: impl FnOnce() -> bool) -> bool {
        let mut demand = self.demand.lock();
        match *demand {
            Demand::Dormant => {
                if !start() {
                    return false;
                }
                *demand = Demand::Wanted;
            }
            Demand::Idle => {
                *demand = Demand::Wanted;
                self.wake.notify_one();
            }
            Demand::Wanted | Demand::Stopped => {}
        }
        true
    }

    /// Ends the thread, now or as soon as it looks.
    pub(super) fn stop(&self) {
        *self.demand.lock() = Demand::Stopped;
        self.wake.notify_one();
    }

    /// Parks until the helper is wanted; false when it will not be any more. Whoever wants it from
    /// now on wants it again.
    pub(super) fn park(&self) -> bool {
        let mut demand = self.demand.lock();
        loop {
            match *demand {
                Demand::Stopped => return false,
                Demand::Wanted => {
                    *demand = Demand::Idle;
                    return true;
                }
                Demand::Dormant | Demand::Idle => self.wake.wait(&mut demand),
            }
        }
    }

    /// Sleeps for so long, wanted or not; false when the helper will not be any more.
    pub(super) fn sleep(&self, wait: Duration) -> bool {
        let mut demand = self.demand.lock();
        let mut deadline = Deadline::after(wait);
        loop {
            let left = deadline.left();
            if *demand == Demand::Stopped || left.is_zero() {
                return *demand != Demand::Stopped;
            }
            self.wake.wait_for(&mut demand, left);
        }
    }
}
