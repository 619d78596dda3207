//! [`Record`] and [`RecordRef`]: a payload and where it is.

use std::fmt;
use std::ops::Deref;

use crate::error::{Result, WalError};
use crate::lsn::Lsn;
use crate::scan::Body;

/// A record that owns its payload.
#[derive(Clone, PartialEq, Eq)]
pub struct Record {
    lsn: Lsn,
    data: Vec<u8>,
}

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

/// A record whose payload is lent by the iterator that read it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RecordRef<'a> {
    lsn: Lsn,
    body: Body<'a>,
}

impl<'a> RecordRef<'a> {
    pub(super) fn new(lsn: u64, body: Body<'a>) -> Self {
        Self { lsn: Lsn::new(lsn), body }
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
        Ok(Record { lsn: self.lsn, data })
    }

    /// A copy that owns its payload.
    #[must_use]
    pub fn to_record(&self) -> Record {
        Record { lsn: self.lsn, data: self.body.to_vec() }
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
