//! Closing: the end of appends, of debts, and of I/O.

use super::{Backing, Closing, Engine};
use crate::codec;
use crate::commit::Waiting;
use crate::error::{Result, WalError};
use crate::ring::CLOSED;

impl<B: Backing> Engine<B> {
    /// Stops appends, makes everything appended durable, runs `seal` with the end of the log, and
    /// ends all I/O. After a failure for lack of space the log stays closed to appends, and the
    /// next call tries again. On a poisoned log it ends all I/O at once and returns the cause.
    ///
    /// `seal` runs once, after the last write and sync; `release` runs last, also when poisoned.
    pub(crate) fn close(
        &self,
        seal: impl FnOnce(u64) -> Result<()>,
        release: impl FnOnce(),
    ) -> Result<()> {
        if codec::in_stage(self.identity()) {
            return Err(WalError::Reentrant);
        }
        self.backing.check()?;
        let mut closing = self.admin.lock();
        if *closing == Closing::Closed {
            return Ok(());
        }
        let result = self.drain_and_seal(seal);
        if result.as_ref().is_err_and(WalError::loses_nothing) {
            return result;
        }
        self.background.stop();
        self.stage.lock().closed = true;
        *closing = Closing::Closed;
        release();
        result
    }

    fn drain_and_seal(&self, seal: impl FnOnce(u64) -> Result<()>) -> Result<()> {
        {
            // No pause is up while its lock is held, so CLOSED freezes the log where it ends.
            let _no_pause = self.pause.lock();
            self.ring.raise(CLOSED);
        }
        self.ring.drain();
        self.tracker.check()?;
        let end = self.end();
        self.tracker.wait(end, Waiting::Internal, self)?;
        // Everything is durable, so no leader has work left; the stage may be idle or about to
        // find that out.
        let _stage = self.stage.lock();
        self.tracker.check()?;
        self.in_stage("close", || seal(end))
    }
}
