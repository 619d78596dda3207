//! Records as values of any type with `serde`, in the encoding of `postcard`.
//!
//! Payloads are hostile input here too: a checksum says that they are what was appended, not that
//! it was this type. Lengths in them are believed only as far as there are bytes.

use serde::Deserialize;

use super::record::{Record, RecordRef};
use crate::error::{Result, WalError};
use crate::lsn::Lsn;

impl Record {
    /// The value that [`append_typed`](crate::Wal::append_typed) was given. Feature `postcard`.
    ///
    /// What the type borrows, `&str` and `&[u8]`, is the record's own memory.
    ///
    /// The payload does not say which type it is of: another type than the appended one is an
    /// error where the bytes do not fit it, and a value without meaning where they do. See
    /// [types that change](crate::Wal#types-that-change).
    ///
    /// Whatever the payload, decoding does not panic, unless `T` does, and takes no more memory
    /// than `T` needs for that many bytes, and 1 MiB. Two kinds of types go as far as the payload
    /// says: one that contains itself is decoded recursively, and of a sequence whose elements take
    /// no bytes, such as `Vec<()>`, any number may be claimed.
    ///
    /// # Errors
    /// [`WalError::Decode`] when the payload is no encoding of a `T`, or more than one.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalError, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_typed(&("balance", 70_u64))?;
    /// let record = wal.iter()?.next().unwrap()?;
    /// assert_eq!(record.decode::<(&str, u64)>()?, ("balance", 70));
    /// let wrong = record.decode::<(&str, u64, bool)>();
    /// assert!(matches!(wrong, Err(WalError::Decode { lsn, .. }) if lsn == record.lsn()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T> {
        decode(self.lsn(), self.data())
    }
}

impl<'a> RecordRef<'a> {
    /// The value that [`append_typed`](crate::Wal::append_typed) was given, as
    /// [`Record::decode`]. What the type borrows is the payload that the iterator lends, so that
    /// replay copies nothing and allocates nothing. Feature `postcard`.
    ///
    /// # Errors
    /// As [`Record::decode`].
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{MemStore, WalOptions};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize)]
    /// enum Change<'a> {
    ///     Put { key: u64, value: &'a str },
    ///     Delete { key: u64 },
    /// }
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_typed(&Change::Put { key: 7, value: "seven" })?;
    /// let mut records = wal.iter()?;
    /// while let Some(record) = records.read_next() {
    ///     let record = record?;
    ///     match record.decode()? {
    ///         Change::Put { key, value } => {
    ///             assert_eq!((key, value), (7, "seven"));
    ///             assert!(record.data().as_ptr_range().contains(&value.as_ptr()));
    ///         }
    ///         Change::Delete { .. } => unreachable!(),
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn decode<T: Deserialize<'a>>(&self) -> Result<T> {
        decode(self.lsn(), self.data())
    }
}

fn decode<'a, T: Deserialize<'a>>(lsn: Lsn, payload: &'a [u8]) -> Result<T> {
    let decoded = postcard::take_from_bytes(payload);
    let (value, rest) = decoded.map_err(|error| WalError::Decode { lsn, why: mismatch(&error) })?;
    if rest.is_empty() {
        return Ok(value);
    }
    Err(WalError::Decode { lsn, why: "bytes are left over" })
}

/// What an error of the deserializer means. What a `Deserialize` implementation says itself is not
/// told: it may quote the payload.
fn mismatch(error: &postcard::Error) -> &'static str {
    use postcard::Error as E;
    match error {
        E::DeserializeUnexpectedEnd => "it ends too early",
        E::DeserializeBadVarint => "an integer is out of range",
        E::DeserializeBadBool => "a bool is neither 0 nor 1",
        E::DeserializeBadChar => "a char is none",
        E::DeserializeBadUtf8 => "a string is not UTF-8",
        E::DeserializeBadOption => "an Option is neither absent nor there",
        E::DeserializeBadEnum => "there is no such variant",
        E::SerdeDeCustom => "a variant that is unknown, or a Deserialize implementation refused it",
        E::WontImplement | E::NotYetImplemented => {
            "the type needs names in the encoding, as with serde(untagged)"
        }
        _ => "it is not well encoded",
    }
}
