//! Promises: flushing, syncing, waiting, rotating.

use super::Wal;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::store::WalStore;

impl<S: WalStore> Wal<S> {
    /// Hands everything appended before the call to the operating system.
    ///
    /// # Durability
    /// Flushed: survives the death of the process, not power loss.
    ///
    /// # Concurrency
    /// Blocks for a write, and at the bound on unsynced bytes for a sync.
    ///
    /// # Errors
    /// [`WalError::StorageFull`]: nothing is lost, call again; [`WalError::Truncated`]: some of it
    /// was cut off meanwhile; [`WalError::Poisoned`]; [`WalError::Closed`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"kept by the operating system")?;
    /// wal.flush()?;
    /// assert_eq!(wal.stats().flushes, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`WalError::Closed`]: crate::WalError::Closed
    /// [`WalError::Poisoned`]: crate::WalError::Poisoned
    /// [`WalError::StorageFull`]: crate::WalError::StorageFull
    /// [`WalError::Truncated`]: crate::WalError::Truncated
    pub fn flush(&self) -> Result<()> {
        self.engine.flush()
    }

    /// Makes everything appended before the call durable; no system call when it already is.
    ///
    /// # Durability
    /// Durable: survives power loss.
    ///
    /// # Concurrency
    /// Blocks for a sync, shared with every commit that waits at the same time.
    ///
    /// # Errors
    /// [`WalError::StorageFull`]: nothing is lost, call again; [`WalError::Truncated`]: some of it
    /// was cut off meanwhile; [`WalError::Poisoned`] after a failed write or sync, for good;
    /// [`WalError::Closed`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"a")?;
    /// wal.append(b"b")?;
    /// wal.sync()?;
    /// wal.sync()?;
    /// assert_eq!(wal.stats().syncs, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`WalError::Closed`]: crate::WalError::Closed
    /// [`WalError::Poisoned`]: crate::WalError::Poisoned
    /// [`WalError::StorageFull`]: crate::WalError::StorageFull
    /// [`WalError::Truncated`]: crate::WalError::Truncated
    pub fn sync(&self) -> Result<()> {
        self.engine.sync()
    }

    /// Waits until the record at `lsn` is durable; leads or joins a cohort.
    ///
    /// It is the record that stands at `lsn` when this is called. Where others may cut the log off
    /// meanwhile and go on there, take a [`durable`](Self::durable) before they can: it stays with
    /// its record.
    ///
    /// # Durability
    /// Durable: the record, its batch, and everything before it.
    ///
    /// # Errors
    /// [`WalError::NotARecord`] at or past the end of the log; otherwise as
    /// [`sync`](Self::sync), except that a record that is durable already is reported so even on
    /// a poisoned log.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalError, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsn = wal.append(b"commit")?;
    /// wal.wait_durable(lsn)?;
    /// assert!(matches!(wal.wait_durable(wal.end_lsn()), Err(WalError::NotARecord { .. })));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// [`WalError::NotARecord`]: crate::WalError::NotARecord
    pub fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        self.engine.commit(self.end_of(lsn)?)
    }

    /// Ends the current segment after everything appended so far, unless it is empty.
    ///
    /// # Durability
    /// Flushed. The new segment's name is durable.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"in the first segment")?;
    /// wal.rotate()?;
    /// wal.rotate()?;
    /// assert_eq!(wal.stats().rotations, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rotate(&self) -> Result<()> {
        self.engine.rotate()
    }
}
