//! Forgetting what was appended.

use super::Wal;
use crate::error::Result;
use crate::lsn::Lsn;
use crate::store::WalStore;

impl<S: WalStore> Wal<S> {
    /// Forgets everything before the record at `lsn`, or everything at [`end_lsn`](Self::end_lsn);
    /// returns the new head. At or below the head it changes nothing and returns that.
    ///
    /// Appends, commits and readers go on meanwhile, and an iterator that was made before still
    /// shows all it was made for. Blocks until everything below `lsn` is durable, and until the
    /// new head is; a crash before that keeps the old one. Segments that lie below the head
    /// altogether are removed before it returns, and their space comes back once the last iterator
    /// over them is gone.
    ///
    /// # Errors
    /// [`WalError::NotARecord`](crate::WalError::NotARecord) beyond the end or where no record
    /// starts, and nothing is changed. [`WalError::Io`](crate::WalError::Io) with the operation
    /// `remove` or `open` when a segment could not be removed: the head has moved, and what is left
    /// goes with the next truncation or the next opening. Otherwise as [`sync`](Self::sync).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalError, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let old = wal.append(b"in the checkpoint")?;
    /// let new = wal.append(b"after it")?;
    /// assert_eq!(wal.truncate_before(new)?, new);
    /// assert_eq!(wal.iter()?.next().unwrap()?.data(), b"after it");
    /// assert!(matches!(wal.iter_from(old), Err(WalError::Truncated { .. })));
    /// wal.truncate_before(wal.end_lsn())?;
    /// assert!(wal.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn truncate_before(&self, lsn: Lsn) -> Result<Lsn> {
        let is_record = || self.iter_from(lsn).map(drop);
        self.engine.truncate_before(lsn.get(), is_record).map(Lsn::new)
    }
}
