//! Opening: from options and a store to a log.

use std::io;
use std::path::Path;

use super::Wal;
use crate::error::{Result, WalError};
use crate::flush::{Engine, Limits, Storage};
use crate::options::WalOptions;
use crate::recovery;
use crate::ring::Ring;
use crate::store::{FileStore, WalStore};
use crate::sync::{Arc, cores};

impl WalOptions {
    /// Opens the log in the directory `dir`, recovering it first.
    ///
    /// Blocks for the time it takes to read the last segment. Everything that is then in the log
    /// is durable. An open that is refused leaves every byte as it was. One that an error of the
    /// store ends later, lack of space say, leaves the steps it had finished; each of them leaves
    /// the log whole.
    ///
    /// # Errors
    /// [`WalError::Locked`] while another handle has it open; [`WalError::Corruption`] when
    /// acknowledged bytes are damaged or missing; [`WalError::NotALog`],
    /// [`WalError::UnsupportedVersion`], [`WalError::NotFound`], [`WalError::AlreadyExists`],
    /// [`WalError::InvalidOption`], [`WalError::StorageFull`], [`WalError::Io`] as they say.
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{WalError, WalOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let refused = WalOptions::new().create(false).open(dir.path());
    /// assert!(matches!(refused, Err(WalError::NotFound { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Wal> {
        self.validate()?;
        let dir = dir.as_ref();
        // What must hold a record already is not created.
        let create = self.create && self.min_durable_lsn.is_none();
        let store = if create { FileStore::open(dir) } else { FileStore::existing(dir) };
        let store = store.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => WalError::NotFound { path: dir.to_path_buf() },
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                WalError::NotALog { path: dir.to_path_buf(), why: "it is not a directory" }
            }
            _ => WalError::io_or_full("open", dir, error),
        })?;
        self.open_store(store)
    }

    /// Opens the log in a store of any kind, recovering it first.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{MemStore, WalOptions};
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let store = MemStore::new();
    /// let lsn = WalOptions::new().open_store(store.clone())?.append_and_sync(b"kept")?;
    /// let wal = WalOptions::new().open_store(store)?;
    /// assert_eq!(wal.iter()?.next().unwrap()?.lsn(), lsn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_store<S: WalStore>(self, store: S) -> Result<Wal<S>> {
        self.validate()?;
        // Memory first: an open that fails for want of it has touched nothing.
        let slots = Ring::slots_for(cores(), self.ring_bytes);
        let ring = Ring::new(self.ring_bytes, slots, 0).ok_or(WalError::OutOfMemory)?;
        let recovered = recovery::open(&store, &self)?;
        let store = Arc::new(store);
        let path = store.locate("");
        let (storage, stage) = Storage::new(
            store,
            recovered.control,
            recovered.live,
            recovered.active,
            &recovered.epoch,
            recovered.end,
            &self,
        )?;
        let limits = Limits {
            max_unsynced: self.max_unsynced(),
            gather: self.gather,
            heartbeat: self.heartbeat,
            flush_interval: self.flush_interval,
            sync_interval: self.sync_interval,
        };
        let ring = ring.going_on_at(recovered.end);
        let is_plain = recovered.epoch.cipher.is_none();
        let engine = Engine::new(storage, stage, recovered.epoch, ring, limits);
        if let (true, Some(key)) = (is_plain, self.keys.active()?) {
            // What was carried had to stay plain.
            engine.begin_epoch(key)?;
        }
        let last = recovered.report.last_record;
        engine.stats().last_kept.set(last.map_or(0, |lsn| lsn.get() + 1));
        Ok(Wal {
            engine,
            report: recovered.report,
            path,
            form: self.form(),
            max_batch_bytes: self.max_batch_bytes,
            #[cfg(feature = "aead")]
            rotating: crate::sync::Mutex::new(()),
        })
    }
}
