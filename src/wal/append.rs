//! Appending: records and batches, with and without waiting.

use super::Wal;
use crate::codec::{Unit, with_unit};
use crate::error::{Result, WalError};
use crate::lsn::{Lsn, Place};
use crate::store::WalStore;

/// The LSNs of a batch and its end, which an empty batch has none of.
pub(super) type Batch = (Vec<Lsn>, Option<Place>);

impl<S: WalStore> Wal<S> {
    /// Appends one record and returns its LSN. The payload may be empty.
    ///
    /// # Durability
    /// Buffered: the record has its place in the order, and is lost with the process.
    ///
    /// # Concurrency
    /// Lock-free while the ring has room: no mutex, no allocation, no system call; with encryption
    /// a shared lock that nobody takes for writing meanwhile. With a full ring it writes to the
    /// operating system, and at the bound on unsynced bytes it waits for a sync. A record larger
    /// than the ring's limit briefly holds up other appenders.
    ///
    /// # Errors
    /// [`WalError::RecordTooLarge`]; [`WalError::StorageFull`] with a full ring on a full disk,
    /// after which the record is not in the log, unless the process dies before the log has written
    /// again (a large one only); [`WalError::Poisoned`]; [`WalError::Closed`];
    /// [`WalError::OutOfMemory`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let first = wal.append(b"first")?;
    /// let second = wal.append(b"second")?;
    /// assert!(first < second);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn append(&self, record: &[u8]) -> Result<Lsn> {
        self.append_vectored(&[record])
    }

    /// Appends one record made of several parts, as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_vectored(&[b"key", b"=", b"value"])?;
    /// assert_eq!(wal.iter()?.next().unwrap()?.data(), b"key=value");
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_vectored(&self, parts: &[&[u8]]) -> Result<Lsn> {
        self.append_unit(|unit| unit.push(parts, false, self.form))
            .map(|(start, _)| Lsn::new(start.lsn))
    }

    /// Appends one record and waits until it is durable.
    ///
    /// # Durability
    /// Durable: the record, and everything before it, survives power loss.
    ///
    /// # Concurrency
    /// Blocks for a sync; commits that wait at the same time share one.
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`sync`](Self::sync). After an error of the sync the record
    /// may or may not survive.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsn = wal.append_and_sync(b"commit")?;
    /// assert!(wal.durable_lsn() > lsn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_and_sync(&self, record: &[u8]) -> Result<Lsn> {
        let (start, end) = self.append_unit(|unit| unit.push(&[record], false, self.form))?;
        self.engine.commit(end)?;
        Ok(Lsn::new(start.lsn))
    }

    /// Appends records as one batch: consecutive, and after a crash all there or none. Returns
    /// their LSNs; an empty batch appends nothing.
    ///
    /// # Durability
    /// Buffered, as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`WalError::BatchTooLarge`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsns = wal.append_batch(&["debit", "credit"])?;
    /// assert_eq!(lsns.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_batch<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<Vec<Lsn>> {
        self.batch_of_payloads(records).map(|(lsns, _)| lsns)
    }

    /// Appends records as one batch and waits until it is durable.
    ///
    /// # Durability
    /// Durable, as [`append_and_sync`](Self::append_and_sync). An empty batch makes everything
    /// before it durable.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch) and [`sync`](Self::sync).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_batch_and_sync(&["debit", "credit"])?;
    /// assert_eq!(wal.durable_lsn(), wal.end_lsn());
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_batch_and_sync<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<Vec<Lsn>> {
        self.commit_batch(self.batch_of_payloads(records)?)
    }

    /// Encodes a unit and appends it; returns its range.
    #[inline]
    pub(super) fn append_unit(
        &self,
        encode: impl FnOnce(&mut Unit) -> Result<()>,
    ) -> Result<(Place, Place)> {
        with_unit(|unit, hint| {
            encode(unit)?;
            let start = self.engine.append(unit, hint)?;
            Ok((start, start.at(start.lsn + unit.len())))
        })
    }

    /// Appends a batch of payloads.
    fn batch_of_payloads<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<Batch> {
        let max = self.max_batch_bytes;
        let sizes =
            records.iter().map(|record| self.form.frame_bytes(record.as_ref().len() as u64));
        let len = sizes.fold(0, u64::saturating_add);
        if len > max {
            return Err(WalError::BatchTooLarge { len, max });
        }
        self.batch(records, |unit, record, more| unit.push(&[record.as_ref()], more, self.form))
    }

    /// Appends a batch of what `push` pushes.
    pub(super) fn batch<R>(
        &self,
        records: &[R],
        push: impl Fn(&mut Unit, &R, bool) -> Result<()>,
    ) -> Result<Batch> {
        if records.is_empty() {
            self.engine.enter()?;
            return Ok((Vec::new(), None));
        }
        let mut lsns = Vec::new();
        lsns.try_reserve_exact(records.len()).map_err(|_| WalError::OutOfMemory)?;
        with_unit(|unit, hint| {
            for (index, record) in records.iter().enumerate() {
                push(unit, record, index + 1 < records.len())?;
                if unit.len() > self.max_batch_bytes {
                    return Err(WalError::BatchTooLarge {
                        len: unit.len(),
                        max: self.max_batch_bytes,
                    });
                }
            }
            let start = self.engine.append(unit, hint)?;
            lsns.extend(unit.offsets().map(|offset| Lsn::new(start.lsn + offset)));
            Ok((lsns, Some(start.at(start.lsn + unit.len()))))
        })
    }

    /// Waits until a batch is durable, and everything before it.
    pub(super) fn commit_batch(&self, (lsns, end): Batch) -> Result<Vec<Lsn>> {
        match end {
            Some(end) => self.engine.commit(end)?,
            None => self.engine.sync()?,
        }
        Ok(lsns)
    }
}
