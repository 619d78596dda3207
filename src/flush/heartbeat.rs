//! The heartbeat: after a while without a sync, CONTROL hears how far the log is durable.
//!
//! A frame witnesses what was durable when it was appended, so the newest cohorts have no witness
//! but what comes after them. Where nothing comes, the heartbeat is the witness.
//!
//! Its thread starts with the first sync, sleeps while syncs come, writes one slot of CONTROL once
//! none has come for as long as the option says, and parks. It holds the engine weakly. What fails
//! for want of space is tried again after the next sync; every other failure poisons.

use std::time::Duration;

use super::{Backing, Engine};
use crate::sync::{Arc, Condvar, Mutex, Weak, spawn};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No thread yet.
    Dormant,
    /// Nothing was synced since the last beat.
    Idle,
    Armed,
    Stopped,
}

/// What leaders and the heartbeat share.
#[derive(Debug)]
pub(super) struct Heart {
    every: Duration,
    state: Mutex<State>,
    wake: Condvar,
}

impl Heart {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, state: Mutex::new(State::Dormant), wake: Condvar::new() }
    }

    fn stop(&self) {
        *self.state.lock() = State::Stopped;
        self.wake.notify_one();
    }

    /// Parks until something was synced; false when nothing will be any more.
    fn park(&self) -> bool {
        let mut state = self.state.lock();
        loop {
            match *state {
                State::Stopped => return false,
                State::Armed => return true,
                State::Dormant | State::Idle => self.wake.wait(&mut state),
            }
        }
    }

    /// Sleeps for one interval; false when nothing is to be done any more.
    fn sleep(&self) -> bool {
        let mut state = self.state.lock();
        if *state != State::Stopped {
            self.wake.wait_for(&mut state, self.every);
        }
        *state != State::Stopped
    }

    /// What is synced from now on needs a beat of its own.
    fn disarm(&self) {
        let mut state = self.state.lock();
        if *state == State::Armed {
            *state = State::Idle;
        }
    }
}

impl<B: Backing> Engine<B> {
    /// Something was synced. Without a thread to be had there is no beat.
    pub(super) fn arm_heartbeat(&self) {
        let Some(heart) = &self.heart else { return };
        let mut state = heart.state.lock();
        match *state {
            State::Dormant => {
                let (engine, heart) = (self.this.clone(), Arc::clone(heart));
                if spawn("cohort-wal-heartbeat", move || work(&engine, &heart)) {
                    *state = State::Armed;
                }
            }
            State::Idle => {
                *state = State::Armed;
                heart.wake.notify_one();
            }
            State::Armed | State::Stopped => {}
        }
    }

    pub(super) fn stop_heartbeat(&self) {
        if let Some(heart) = &self.heart {
            heart.stop();
        }
    }

    /// Says in CONTROL how far the log is durable, if CONTROL does not know.
    fn beat(&self) {
        // Nothing is cut and nothing closed meanwhile.
        let Ok(_admin) = self.open_admin() else { return };
        if self.enter().is_err() || self.backing.check().is_err() {
            return;
        }
        let durable = self.durable();
        // A failure that counts has poisoned the log; the next sync arms the next beat.
        self.in_stage("heartbeat", || self.backing.witness(durable)).ok();
    }
}

fn work<B: Backing>(engine: &Weak<Engine<B>>, heart: &Heart) {
    while heart.park() {
        let mut seen = None;
        loop {
            let Some(durable) = engine.upgrade().map(|engine| engine.durable()) else { return };
            if seen == Some(durable) {
                break;
            }
            seen = Some(durable);
            if !heart.sleep() {
                return;
            }
        }
        // First this, so that no sync comes between and is forgotten.
        heart.disarm();
        let Some(engine) = engine.upgrade() else { return };
        engine.beat();
    }
}
