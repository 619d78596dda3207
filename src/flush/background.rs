//! The background writer: under a sustained load of appends it writes and syncs ahead, so that
//! appenders find room in the ring and seldom meet the bound on unsynced bytes.
//!
//! Caller threads do all the work there is without it; it is a second pair of hands. Its thread
//! starts when the ring first runs full, polls while there is a backlog, and parks when there is
//! none. It never retries: after any error it parks until an appender finds the ring full again.

use std::time::Duration;

use super::helper::Helper;
use super::stage::Wrote;
use super::visit::Visitor;
use super::{Backing, Engine, Intent};
use crate::sync::{Arc, sleep, spawn};

/// Backlogs below this, in bytes, are left to grow.
const WORTHWHILE_BYTES: u64 = 256 << 10;
/// How long a backlog may grow before it is looked at again; appends wake nobody.
const POLL: Duration = Duration::from_micros(500);
/// Parks after this many looks that found nothing to do.
const IDLE_POLLS: u32 = 40;

impl<B: Backing> Engine<B> {
    /// Wakes the background writer, starting it if need be.
    pub(super) fn want_background(&self) {
        self.background.want(|| {
            let (visitor, helper) = (self.visitor(), Arc::clone(&self.background));
            spawn("cohort-wal-writer", move || work(&visitor, &helper))
        });
    }

    /// Writes the backlog if that is worthwhile, and syncs well before the bound; `None` after an
    /// error, otherwise whether there was anything to do.
    fn write_ahead(&self) -> Option<bool> {
        self.enter().ok()?;
        self.backing.check().ok()?;
        if self.end().saturating_sub(self.ring.written()) < WORTHWHILE_BYTES {
            return Some(false);
        }
        let mut stage = self.stage.lock();
        let before = self.ring.written();
        let wrote = self.write_out(&mut stage, Intent::Flush).ok()?;
        let (durable, written) = (self.durable(), self.written());
        let due = wrote == Wrote::AtBound || written.lsn - durable >= self.max_unsynced / 4;
        let covered = due.then(|| self.backing.snapshot(&mut stage.backing, durable));
        drop(stage);
        if let Some(covered) = covered {
            let synced = self.wait_for_sync(written);
            // PERF: a flood that fills the page cache pays for every new page; one that reuses
            // the pages of what is durable does not (`cohort-wal bench --mode buffered`).
            self.in_stage("release", move || {
                if synced.is_ok() {
                    self.backing.release(&covered);
                }
                drop(covered);
                synced
            })
            .ok()?;
        }
        Some(due || written.lsn > before)
    }
}

fn work<B: Backing>(visitor: &Visitor<B>, helper: &Helper) {
    while helper.park() {
        let mut idle = 0;
        while idle < IDLE_POLLS {
            let Some(busy) = visitor.visit(Engine::write_ahead) else { return };
            match busy {
                Some(true) => idle = 0,
                Some(false) => {
                    idle += 1;
                    sleep(POLL);
                }
                None => break,
            }
        }
    }
}
