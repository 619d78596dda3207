//! [`Record`] and [`RecordRef`]: a payload and where it is.

use std::fmt;
use std::ops::Deref;

use crate::error::{Result, WalError};
use crate::lsn::Lsn;

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
    data: &'a [u8],
}

impl<'a> RecordRef<'a> {
    pub(super) fn new(lsn: u64, data: &'a [u8]) -> Self {
        Self { lsn: Lsn::new(lsn), data }
    }

    /// Where the record starts.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }

    /// The payload.
    #[must_use]
    pub fn data(&self) -> &'a [u8] {
        self.data
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

    /// A copy that owns its payload, or an error without memory for one.
    pub(super) fn try_to_record(&self) -> Result<Record> {
        let mut data = Vec::new();
        data.try_reserve_exact(self.data.len()).map_err(|_| WalError::OutOfMemory)?;
        data.extend_from_slice(self.data);
        Ok(Record { lsn: self.lsn, data })
    }

    /// A copy that owns its payload.
    #[must_use]
    pub fn to_record(&self) -> Record {
        Record { lsn: self.lsn, data: self.data.to_vec() }
    }
}

impl fmt::Debug for RecordRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        describe(f, "RecordRef", self.lsn, self.data.len())
    }
}

/// Payload bytes stay out of logs.
fn describe(f: &mut fmt::Formatter<'_>, name: &str, lsn: Lsn, len: usize) -> fmt::Result {
    f.debug_struct(name).field("lsn", &lsn).field("len", &len).finish()
}
