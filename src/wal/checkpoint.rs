//! Checkpoints: an image that stands for the beginning of the log.

use std::io;

use super::Wal;
use crate::error::{Result, WalError};
use crate::format::snapshot::SnapshotHeader;
use crate::lsn::{Lsn, Place};
use crate::segments::random;
use crate::snapshot::{Counting, Snapshots, Writer};
use crate::store::WalStore;
use crate::sync::Arc;

impl<S: WalStore> Wal<S> {
    /// Makes a snapshot of everything below `lsn`, a record or [`end_lsn`](Self::end_lsn), from
    /// what `write` writes, and forgets what it stands for, as
    /// [`truncate_before`](Self::truncate_before).
    ///
    /// Meanwhile everybody goes on, `write` included, which may use the log; only other
    /// truncations have to wait, for the last part. A snapshot counts as a whole or not at all: the
    /// one before counts, and the log keeps what it needs, until the new one is durable. Its
    /// writer gets one chunk of 256 KiB of memory, however much it writes.
    ///
    /// Where a snapshot at `lsn` counts already nothing happens, and `write` may not be called.
    ///
    /// What `write` writes must be the state that all records below `lsn` make, and no other. Who
    /// takes `lsn` from [`end_lsn`](Self::end_lsn) reads it under the lock that orders appends and
    /// changes of that state, together with the state. Where applying the records from `lsn` on
    /// again, in order, makes up for it, the state may have some of them already; `write` ends with
    /// [`sync`](Self::sync) then, because an image must not show what a crash can take back.
    ///
    /// # Durability
    /// Durable when it returns: the image, and the new head. Everything below `lsn` is made
    /// durable before `write` is called.
    ///
    /// # Errors
    /// With nothing changed: [`WalError::Io`] with the operation `checkpoint` and what `write`
    /// returned; [`WalError::Truncated`] below the head, or when the log was cut below `lsn`
    /// meanwhile; [`WalError::NotARecord`]; [`WalError::Io`] when the image could not be written.
    /// With [`WalError::StorageFull`] the old snapshot counts or the new one: call again. With the
    /// snapshot in place: [`WalError::Io`] with the operation `remove` or `open` when something
    /// that it stands for could not be removed, which goes with the next truncation or opening.
    /// Otherwise as [`sync`](Self::sync).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"a = 1")?;
    /// let next = wal.append(b"b = 2")?;
    /// wal.checkpoint(next, |image| image.write_all(b"a=1"))?;
    /// assert_eq!(wal.head_lsn(), next);
    /// assert_eq!(wal.iter()?.next().unwrap()?.data(), b"b = 2");
    /// # Ok(())
    /// # }
    /// ```
    pub fn checkpoint(
        &self,
        lsn: Lsn,
        write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>,
    ) -> Result<()> {
        let Some(place) = self.engine.begin_checkpoint(lsn.get(), |at| self.is_record(at))? else {
            return Ok(());
        };
        let storage = self.engine.backing();
        let log_id = storage.control().claim().log_id;
        let key = self.engine.key();
        let mut header = SnapshotHeader::plain(log_id, lsn.get());
        if key.is_some() {
            header.salt = random(&**storage.store())?;
        }
        let (file, path) = storage.create_image(lsn.get())?;
        let check = || self.engine.check_process();
        let mut image = Writer::begin(&file, path.clone(), header, key.as_ref(), &check)?;
        if let Err(error) = write(&mut image) {
            // Its own failure comes back through the caller's code, and may be lost there.
            return Err(image.failure().unwrap_or(WalError::io("checkpoint", &path, error)));
        }
        image.finish()?;
        self.engine.adopt(place, &file)
    }

    /// The snapshots of this log as they are now.
    ///
    /// # Errors
    /// [`WalError::Closed`].
    pub fn snapshots(&self) -> Result<Snapshots<S>> {
        let engine = Arc::clone(&self.engine);
        let ask = move || {
            engine.enter_for_reading()?;
            engine.check_process()?;
            let claim = engine.backing().control().claim();
            let encrypted = engine.backing().is_entirely_encrypted();
            Ok(Counting { log_id: claim.log_id, lsn: claim.snapshot, encrypted })
        };
        // A closed log says so at once.
        ask()?;
        let storage = self.engine.backing();
        let (store, keys) = (Arc::clone(storage.store()), storage.keys().clone());
        Ok(Snapshots::new(store, keys, Arc::new(ask)))
    }

    /// Fails unless a record starts at a place.
    pub(super) fn is_record(&self, place: Place) -> Result<()> {
        self.engine.flush_to(place.at(place.lsn + 1))?;
        // A flush ends with a unit.
        let end = place.at(self.engine.ring().written());
        self.cursor(Some(place.lsn), end).map(drop)
    }
}
