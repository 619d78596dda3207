//! Closing: the end of appends, of debts, and of I/O.

use super::heartbeat::Heart;
use super::{Backing, Engine};
use crate::codec;
use crate::commit::Waiting;
use crate::error::{Result, WalError};
use crate::lsn::Place;
use crate::observe;
use crate::ring::CLOSED;
use crate::sync::spawn;

impl<B: Backing> Engine<B> {
    /// Stops appends, makes everything appended durable, seals the log, and ends all I/O. After a
    /// failure that loses nothing the log stays closed to appends, and the next call tries again.
    /// On a poisoned log it ends all I/O at once and returns the cause.
    pub(crate) fn close(&self) -> Result<()> {
        self.close_or(false)
    }

    /// Closes as best it can, and ends all I/O whatever comes of it.
    ///
    /// A store that takes hold of its log from inside a stage may let go of the last handle there,
    /// and code of its errors in the thread of a helper. Then another thread closes, which waits
    /// for that stage and that helper.
    pub(crate) fn abandon_or_close(&self) {
        let inside = codec::in_stage(self.identity()) || self.is_admin() || self.is_visited();
        if !inside {
            self.close_or(true).ok();
        } else if let Some(engine) = self.this.upgrade() {
            spawn("cohort-wal-close", move || engine.abandon_or_close());
        }
    }

    fn close_or(&self, give_up: bool) -> Result<()> {
        let ended = self.end_or(give_up);
        // Where the log is poisoned somebody may be inside of a sync that never ends.
        let refused = matches!(ended, Err(WalError::Forked | WalError::Reentrant));
        if !refused && self.tracker.check().is_ok() {
            self.visits.wait();
        }
        ended
    }

    fn end_or(&self, give_up: bool) -> Result<()> {
        if codec::in_stage(self.identity()) || self.is_visited() {
            return Err(WalError::Reentrant);
        }
        self.backing.check()?;
        let mut admin = self.admin()?;
        if *admin.closed {
            return Ok(());
        }
        let result = self.sync_and_seal();
        if !give_up && result.as_ref().is_err_and(WalError::loses_nothing) {
            return result;
        }
        self.background.stop();
        self.heart.iter().for_each(Heart::stop);
        self.intervals.stop();
        self.stage.lock().closed = true;
        self.tracker.end_notices();
        self.visits.refuse();
        *admin.closed = true;
        let ended = self.in_stage("unlock", || {
            self.backing.end();
            observe::closed(self.durable(), result.is_ok());
            Ok(())
        });
        result.and(ended)
    }

    fn sync_and_seal(&self) -> Result<()> {
        {
            // No pause is up while its lock is held, so CLOSED freezes the log where it ends.
            let _no_pause = self.pause.lock();
            self.ring.raise(CLOSED);
        }
        self.tracker.check()?;
        // Waits for open reservations: a leader writes nothing above one.
        let end = self.end();
        // A cut would have to hold what this holds.
        let everything = Place { lsn: end, era: self.tracker.era() };
        self.tracker.wait(everything, Waiting::Internal, self)?;
        // Everything is durable, so no leader has work left; the stage may be idle or about to
        // find that out.
        let _stage = self.stage.lock();
        self.tracker.check()?;
        self.in_stage("close", || self.backing.seal(end))
    }
}
