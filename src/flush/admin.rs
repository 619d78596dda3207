//! Whose turn it is to change where the log begins or ends, or to close it.

use super::{Backing, Engine};
use crate::codec;
use crate::error::{Result, WalError};
use crate::sync::MutexGuard;

/// The turn of who changes where the log begins or ends, or closes it.
pub(super) struct Admin<'a> {
    /// True when nothing is left to close.
    pub(super) closed: MutexGuard<'a, bool>,
    /// The store is called meanwhile, and may call back.
    _mark: codec::StageMark,
}

impl<B: Backing> Engine<B> {
    /// What [`Admin`] marks a thread with. The identity is the engine's address, and the engine is
    /// longer than a byte, so that no other log has this one.
    fn admin_identity(&self) -> usize {
        self.identity() + 1
    }

    /// Waits for its turn to change where the log begins or ends. Refuses calls that come from
    /// inside another one, and on a closed log.
    pub(super) fn admin(&self) -> Result<Admin<'_>> {
        if self.is_admin() {
            return Err(WalError::Reentrant);
        }
        let closed = self.admin.lock();
        Ok(Admin { closed, _mark: codec::StageMark::new(self.admin_identity()) })
    }

    /// Whether this thread is inside a call that has taken [`admin`](Self::admin).
    pub(super) fn is_admin(&self) -> bool {
        codec::in_stage(self.admin_identity())
    }

    /// The same on a log that is open.
    pub(super) fn open_admin(&self) -> Result<Admin<'_>> {
        let admin = self.admin()?;
        if *admin.closed { Err(WalError::Closed) } else { Ok(admin) }
    }

    /// Refuses calls from a forked process.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.backing.check()
    }
}
