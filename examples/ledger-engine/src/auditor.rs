//! [`Auditor`]: a follower that keeps a ledger of its own, and checks every transaction.

use std::fmt;
use std::sync::Arc;

use cohort_wal::{FileStore, Follow, WalError, WalStore};

use crate::book::Book;
use crate::engine::Engine;
use crate::transaction::{Posted, Transactions};
use crate::{Error, Result};

/// Follows what is durable, and builds the ledger from it.
///
/// It holds nobody up. A checkpoint may overtake it, and a rollback may undo what it has seen; in
/// both cases it begins again with the newest snapshot.
pub struct Auditor<S: WalStore = FileStore> {
    engine: Arc<Engine<S>>,
    book: Book,
    ahead: Transactions<Follow<S>>,
    restarts: u64,
}

impl<S: WalStore> fmt::Debug for Auditor<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auditor").field("restarts", &self.restarts).finish_non_exhaustive()
    }
}

impl<S: WalStore> Auditor<S> {
    /// An auditor that begins with the newest snapshot.
    ///
    /// # Errors
    /// As [`Engine::follow`].
    pub fn new(engine: Arc<Engine<S>>) -> Result<Self> {
        let (book, ahead) = engine.follow()?;
        Ok(Self { engine, book, ahead, restarts: 0 })
    }

    /// Waits for the next transaction and applies it; `None` once the log is closed.
    ///
    /// # Errors
    /// [`Error::Half`] and [`Error::Record`], which would be broken promises of the log;
    /// otherwise as [`Follow`] says.
    pub fn advance(&mut self) -> Result<Option<Posted>> {
        loop {
            match self.ahead.next() {
                Some(Err(Error::Wal(WalError::Closed))) | None => return Ok(None),
                Some(Err(Error::Wal(WalError::Truncated { .. }))) => match self.engine.follow() {
                    Err(Error::Wal(WalError::Closed)) => return Ok(None),
                    again => {
                        (self.book, self.ahead) = again?;
                        self.restarts += 1;
                    }
                },
                Some(posted) => {
                    let posted = posted?;
                    self.book.apply(&posted)?;
                    return Ok(Some(posted));
                }
            }
        }
    }

    /// The ledger up to the transaction that was returned last, or the snapshot.
    #[must_use]
    pub fn book(&self) -> &Book {
        &self.book
    }

    /// How often it began again.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }
}
