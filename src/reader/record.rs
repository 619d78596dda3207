//! [`Record`] and [`RecordRef`]: a payload and where it is.

use std::fmt;
use std::ops::Deref;

use crate::error::{Result, WalError};
use crate::format::frame::Header;
use crate::lsn::Lsn;
use crate::scan::Body;

/// A record that owns its payload. Two are equal that have the same LSN and payload.
#[derive(Clone)]
pub struct Record {
    lsn: Lsn,
    data: Vec<u8>,
    more: bool,
}

impl PartialEq for Record {
    fn eq(&self, other: &Self) -> bool {
        (self.lsn, &self.data) == (other.lsn, &other.data)
    }
}

impl Eq for Record {}

impl Record {
    /// Where the record starts.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The payload.
    #[must_use]
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// The payload, without copying it.
    #[must_use]
    pub fn into_data(self) -> Vec<u8> {
        self.data
    }

    /// The payload as [`Bytes`](bytes::Bytes): the record's own memory, not a copy. Feature
    /// `bytes`.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"key=value")?;
    /// let payload = wal.iter()?.next().unwrap()?.into_bytes();
    /// let (key, value) = (payload.slice(..3), payload.slice(4..));
    /// assert_eq!((&key[..], &value[..]), (&b"key"[..], &b"value"[..]));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "bytes")]
    #[must_use]
    pub fn into_bytes(self) -> bytes::Bytes {
        self.data.into()
    }

    /// True when the next record belongs to the same batch. Who applies records one by one, as
    /// from a [`Follow`](crate::Follow), shows a batch to others when its last one is applied.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_batch(&["debit", "credit"])?;
    /// wal.append(b"alone")?;
    /// let more: Vec<bool> = wal.iter()?.map(|r| r.unwrap().more()).collect();
    /// assert_eq!(more, [true, false, false]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn more(&self) -> bool {
        self.more
    }

    /// Length of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.data.len()
    }

    /// True when the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.data.is_empty()
    }
}

impl Deref for Record {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.data
    }
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "Record", self.lsn, self.data.len())
    }
}

/// A record whose payload is lent by the iterator that read it. Two are equal that have the same
/// LSN and payload.
#[derive(Clone, Copy)]
pub struct RecordRef<'a> {
    lsn: Lsn,
    body: Body<'a>,
    more: bool,
}

impl PartialEq for RecordRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.lsn, self.data()) == (other.lsn, other.data())
    }
}

impl Eq for RecordRef<'_> {}

impl<'a> RecordRef<'a> {
    pub(super) fn new(lsn: u64, header: &Header, body: Body<'a>) -> Self {
        Self { lsn: Lsn::new(lsn), body, more: header.more() }
    }

    /// True when the next record belongs to the same batch, as [`Record::more`].
    #[must_use]
    pub fn more(&self) -> bool {
        self.more
    }

    /// Where the record starts.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The payload.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.body.data()
    }

    /// Length of the payload in bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.len()
    }

    /// True when the payload is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.body.is_empty()
    }

    /// The payload as [`Bytes`](bytes::Bytes) that outlives the iterator: a share of the block it
    /// was read into, not a copy. Feature `bytes`.
    ///
    /// However small, it keeps that block in memory: 256 KiB, or the whole of a larger record. The
    /// iterator reads on into another one. What is kept for long is better copied.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"one")?;
    /// wal.append(b"two")?;
    /// let mut payloads = Vec::new();
    /// let mut records = wal.iter()?;
    /// while let Some(record) = records.read_next() {
    ///     payloads.push(record?.to_bytes());
    /// }
    /// drop(records);
    /// assert_eq!(payloads, [&b"one"[..], b"two"]);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "bytes")]
    #[must_use]
    pub fn to_bytes(&self) -> bytes::Bytes {
        self.body.to_bytes()
    }

    /// A copy that owns its payload, or an error without memory for one.
    pub(super) fn try_to_record(&self) -> Result<Record> {
        let mut data = Vec::new();
        data.try_reserve_exact(self.body.len()).map_err(|_| WalError::OutOfMemory)?;
        data.extend_from_slice(&self.body);
        Ok(Record { lsn: self.lsn, data, more: self.more })
    }

    /// A copy that owns its payload.
    #[must_use]
    pub fn to_record(&self) -> Record {
        Record { lsn: self.lsn, data: self.body.to_vec(), more: self.more }
    }
}

impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "RecordRef", self.lsn, self.body.len())
    }
}

/// Payload bytes stay out of logs.
fn describe(f: &mut fmt::Formatter<'_>, name: &str, lsn: Lsn, len: usize) -> fmt::Result {
    f.debug_struct(name).field("lsn", &lsn).field("len", &len).finish()
}
