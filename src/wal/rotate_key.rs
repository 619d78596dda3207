//! Another key for an encrypted log.

use super::Wal;
use crate::error::{Result, WalError};
use crate::store::WalStore;

impl<S: WalStore> Wal<S> {
    /// Begins a new epoch with the key that the log's [`KeyProvider`](crate::KeyProvider) calls
    /// active by now: what is appended from here on is encrypted with it, and so are the images of
    /// checkpoints. Feature `aead`.
    ///
    /// What is there stays encrypted with the key before, which is needed as long as a segment or a
    /// snapshot that was written with it is there: a [`checkpoint`](Self::checkpoint) or a
    /// [`truncate_before`](Self::truncate_before) at the end leaves none.
    ///
    /// # Durability
    /// Durable: everything appended before, and that the new epoch has begun.
    ///
    /// # Concurrency
    /// Blocks for a sync and the syncs of a new segment. Appends wait for the latter.
    ///
    /// # Errors
    /// [`WalError::InvalidOption`] for a log that is not encrypted, and when the provider has no
    /// active key. With [`WalError::StorageFull`] the key before goes on; otherwise as
    /// [`truncate_after`](Self::truncate_after).
    pub fn rotate_key(&self) -> Result<()> {
        self.engine.enter()?;
        let why = "is not set, so there is no key to rotate";
        let key = self.engine.backing().keys().active()?;
        let key = key.ok_or(WalError::InvalidOption { name: "encryption", why })?;
        self.engine.begin_epoch(key)
    }
}
