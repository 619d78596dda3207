//! Another key for an encrypted log.

use super::Wal;
use crate::error::{Result, WalError};
use crate::store::WalStore;

impl<S: WalStore> Wal<S> {
    /// Begins a new epoch with the key that the log's [`KeyProvider`](crate::KeyProvider) calls
    /// active by now: what is appended from here on is encrypted with it, and so are the images of
    /// checkpoints that begin from here on. Feature `aead`.
    ///
    /// What is there stays encrypted with the key before, which must not be given up while
    /// [`key_ids`](Self::key_ids) names it. It goes with the segments and the snapshot that were
    /// written with it: append, [`checkpoint`](Self::checkpoint) behind that, and ask again. A
    /// checkpoint at the LSN of the one before makes no new image.
    ///
    /// # Durability
    /// Durable: everything appended before, and that the new epoch has begun.
    ///
    /// # Concurrency
    /// Blocks for its provider and for other rotations, for a sync, and for the syncs of a new
    /// segment, for which appends wait.
    ///
    /// # Errors
    /// [`WalError::InvalidOption`] for a log that is not encrypted, and when the provider has no
    /// active key. With [`WalError::StorageFull`] the key before goes on; otherwise as
    /// [`truncate_after`](Self::truncate_after).
    ///
    /// # Examples
    /// ```
    /// # use std::sync::{Arc, Mutex};
    /// # use cohort_wal::{Key, KeyProvider, MemStore, WalOptions};
    /// #[derive(Default)]
    /// struct Ring(Mutex<u32>);
    ///
    /// impl KeyProvider for Ring {
    ///     fn active(&self) -> u32 {
    ///         *self.0.lock().unwrap()
    ///     }
    ///     fn get(&self, id: u32) -> Option<Key> {
    ///         Some(Key::new([u8::try_from(id).ok()?; 32]))
    ///     }
    /// }
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let ring = Arc::new(Ring::default());
    /// let wal = WalOptions::new().encryption(ring.clone()).open_store(MemStore::new())?;
    /// wal.append(b"with key 0")?;
    /// *ring.0.lock().unwrap() = 1;
    /// wal.rotate_key()?;
    /// let next = wal.append(b"with key 1")?;
    /// assert_eq!(wal.key_ids()?, [0, 1]);
    /// wal.truncate_before(next)?;
    /// assert_eq!(wal.key_ids()?, [1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rotate_key(&self) -> Result<()> {
        self.engine.enter()?;
        self.engine.check_process()?;
        let _turn = self.rotating.lock();
        let why = "is not set, so there is no key to rotate";
        let key = self.engine.backing().keys().active()?;
        let key = key.ok_or(WalError::InvalidOption { name: "encryption", why })?;
        self.engine.begin_epoch(key)
    }

    /// The ids of the keys that the log is encrypted with, ascending: those of its segments and of
    /// the snapshot that counts. A key that is not among them is not needed any more. Feature
    /// `aead`.
    ///
    /// # Errors
    /// [`WalError::Closed`]; [`WalError::Corruption`] and [`WalError::Io`] where the snapshot
    /// cannot be looked at.
    pub fn key_ids(&self) -> Result<Vec<u32>> {
        // The snapshot first: a checkpoint meanwhile uses the key of the newest segment.
        let snapshot = self.snapshots()?.key_id()?;
        let live = self.engine.backing().live();
        let encrypted = live.iter().filter(|segment| segment.header.cipher != 0);
        let mut ids: Vec<_> = encrypted.map(|segment| segment.header.key_id).collect();
        ids.extend(snapshot);
        ids.sort_unstable();
        ids.dedup();
        Ok(ids)
    }
}
