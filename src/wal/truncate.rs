//! Forgetting what was appended.

use super::Wal;
use crate::error::{Result, WalError};
use crate::flush::Cut;
use crate::lsn::{Lsn, Place};
use crate::reader::Boundary;
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
        self.engine.truncate_before(lsn.get(), |place| self.is_record(place)).map(Lsn::new)
    }

    /// Cuts off everything behind the record at `lsn`, which is kept; the last record of a batch
    /// if it is of one. The log goes on behind it.
    ///
    /// What was cut off never returns, not after power loss either. Appends that come meanwhile
    /// wait, and go behind the cut. Whoever waits for something that is cut off gets
    /// [`WalError::Truncated`], and so does an iterator that comes to the cut. An [`Lsn`] from
    /// behind the cut names nothing any more, and later another record.
    ///
    /// # Durability
    /// Durable when it returns: everything up to the record, and the cut.
    ///
    /// # Concurrency
    /// Blocks for some syncs, and until no other truncation is under way; reads the segment that
    /// `lsn` is in. Appends wait for the last part of that, the syncs of a new segment.
    ///
    /// # Errors
    /// With nothing changed: [`WalError::NotARecord`] at or past the end or where no record starts;
    /// [`WalError::Truncated`] below the head; [`WalError::InsideBatch`];
    /// [`WalError::BelowSnapshot`]; [`WalError::StorageFull`]. [`WalError::Io`] with the operation
    /// `remove` or `open` when a segment could not be removed: the log is cut, and what is left
    /// goes with the next truncation or the next opening. Otherwise as [`sync`](Self::sync).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let agreed = wal.append(b"agreed")?;
    /// wal.append(b"of a leader that was replaced")?;
    /// wal.truncate_after(agreed)?;
    /// assert_eq!(wal.last_lsn(), Some(agreed));
    /// wal.append(b"of the new leader")?;
    /// let records: Vec<_> = wal.iter()?.map(|record| record.unwrap().into_data()).collect();
    /// assert_eq!(records, [&b"agreed"[..], b"of the new leader"]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn truncate_after(&self, lsn: Lsn) -> Result<()> {
        self.engine.cut(|end| match self.boundary(lsn, end)? {
            Boundary { record: Some((at, false)), .. } => {
                Ok(Cut { at, last_record: Some(lsn.get()) })
            }
            Boundary { record: Some(_), .. } => Err(WalError::InsideBatch { lsn }),
            _ => Err(WalError::NotARecord { lsn }),
        })
    }

    /// Cuts off the record at `lsn` and everything behind it, as
    /// [`truncate_after`](Self::truncate_after). At the end it cuts nothing, and
    /// [`head_lsn`](Self::head_lsn) empties the log.
    ///
    /// # Errors
    /// As [`truncate_after`](Self::truncate_after), except that the end is fine, and the head.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"kept")?;
    /// let undone = wal.append(b"undone")?;
    /// wal.truncate_from(undone)?;
    /// assert_eq!(wal.end_lsn(), undone);
    /// wal.truncate_from(wal.head_lsn())?;
    /// assert!(wal.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn truncate_from(&self, lsn: Lsn) -> Result<()> {
        self.engine.cut(|end| {
            if lsn == self.head_lsn() {
                return Ok(Cut { at: lsn.get(), last_record: None });
            }
            match self.boundary(lsn, end)? {
                Boundary { inside: true, .. } => Err(WalError::InsideBatch { lsn }),
                Boundary { record: None, .. } if lsn.get() < end.lsn => {
                    Err(WalError::NotARecord { lsn })
                }
                Boundary { before, .. } => Ok(Cut { at: lsn.get(), last_record: before }),
            }
        })
    }

    /// What is around `lsn` in a log that ends at `end`.
    fn boundary(&self, lsn: Lsn, end: Place) -> Result<Boundary> {
        let nothing = WalError::NotARecord { lsn };
        let head = self.head_lsn();
        if lsn < head {
            return Err(WalError::Truncated { lsn, head });
        }
        if lsn.get() > end.lsn {
            return Err(nothing);
        }
        self.engine.flush_to(end.at(end.lsn.min(lsn.get() + 1)))?;
        // A flush ends with a unit.
        let written = end.at(self.engine.ring().written());
        let all = self.cursor(None, written)?;
        all.boundary(head.get(), lsn.get())?.ok_or(nothing)
    }
}
