//! The heartbeat: after a while without a sync, CONTROL hears how far the log is durable.
//!
//! A frame witnesses what was durable when it was appended, so the newest cohorts have no witness
//! but what comes after them. Where nothing comes, the heartbeat is the witness.
//!
//! Its thread starts with the first sync, sleeps while syncs come, writes one slot of CONTROL once
//! none has come for as long as the option says, and parks. What fails for want of space is tried
//! again after the next sync; every other failure poisons.

use std::time::Duration;

use super::helper::Helper;
use super::visit::Visitor;
use super::{Backing, Engine};
use crate::sync::{Arc, spawn};

/// The helper, and how long it waits.
#[derive(Debug)]
pub(super) struct Heart {
    every: Duration,
    helper: Arc<Helper>,
}

impl Heart {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, helper: Arc::new(Helper::new()) }
    }

    pub(super) fn stop(&self) {
        self.helper.stop();
    }
}

impl<B: Backing> Engine<B> {
    /// Something was synced.
    pub(super) fn arm_heartbeat(&self) {
        let Some(heart) = &self.heart else { return };
        heart.helper.want(|| {
            let (visitor, helper) = (self.visitor(), Arc::clone(&heart.helper));
            let every = heart.every;
            spawn("cohort-wal-heartbeat", move || work(&visitor, &helper, every))
        });
    }

    /// Says in CONTROL how far the log is durable, if CONTROL does not know.
    fn beat(&self) {
        // Nothing is cut and nothing closed meanwhile.
        let Ok(_admin) = self.open_admin() else { return };
        if self.enter().is_err() || self.backing.check().is_err() {
            return;
        }
        let durable = self.durable();
        // A failure that counts has poisoned the log; the next sync brings the next beat.
        self.in_stage("heartbeat", || self.backing.witness(durable)).ok();
    }
}

fn work<B: Backing>(visitor: &Visitor<B>, helper: &Helper, every: Duration) {
    while helper.park() {
        let mut seen = None;
        loop {
            let Some(durable) = visitor.visit(Engine::durable) else { return };
            if seen.replace(durable) == Some(durable) {
                break;
            }
            if !helper.sleep(every) {
                return;
            }
        }
        if visitor.visit(Engine::beat).is_none() {
            return;
        }
    }
}
