//! Appending values of any type with `serde`, in the encoding of `postcard`.
//!
//! A value is encoded into the thread's frame buffer, where a plain record is copied to. All of it
//! happens before anything is reserved, so that a `Serialize` implementation that fails, panics or
//! calls the log leaves nothing behind, and holds nobody up.

use postcard::ser_flavors::Flavor;
use serde::Serialize;

use super::Wal;
use super::append::Batch;
use crate::codec::{Body, Unit};
use crate::error::{Result, WalError};
use crate::lsn::Lsn;
use crate::options::Form;
use crate::store::WalStore;

impl<S: WalStore> Wal<S> {
    /// Appends a value as one record, in the encoding of [`postcard`](mod@postcard), and
    /// returns its LSN. [`Record::decode`](crate::Record::decode) gives the value back. Feature
    /// `postcard`.
    ///
    /// The value is encoded straight into the frame of its record, without a buffer in between. The
    /// payload is what `postcard::to_slice` makes of it and nothing else, so typed records and
    /// others share a log.
    ///
    /// # Types that change
    /// The encoding says nothing of the type: it has no names and no field numbers. Fields, and
    /// variants of an enum, are known by their order alone, and a record can be decoded only as
    /// what it was appended as.
    ///
    /// So make the records of a log variants of one enum, and add variants at its end only. A
    /// variant that is in a log keeps its place and its fields; what is to look different becomes
    /// another variant. Fields that are added, removed, moved or of another type make records that
    /// are already there errors, or worse, other values. Names may change.
    ///
    /// Attributes of `serde` that need names do not work: `flatten`, `untagged`, `tag`. Nor do
    /// those that leave fields out, such as `skip_serializing_if`.
    ///
    /// # Durability
    /// Buffered, as [`append`](Self::append).
    ///
    /// # Concurrency
    /// As [`append`](Self::append). The value's `Serialize` implementation runs before the record
    /// has a place: what it appends to the log itself comes first, and if it panics, nothing was
    /// appended.
    ///
    /// # Errors
    /// [`WalError::RecordTooLarge`] with the length that the encoding would have, of which no more
    /// than `max_record_bytes` are stored; [`WalError::Encode`] if the value's `Serialize`
    /// implementation fails, or asks for what the format lacks; otherwise as
    /// [`append`](Self::append).
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{MemStore, WalOptions};
    /// use serde::{Deserialize, Serialize};
    ///
    /// #[derive(Serialize, Deserialize, Debug, PartialEq)]
    /// enum Change {
    ///     Put { key: u64, value: String },
    ///     Delete { key: u64 },
    /// }
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_typed(&Change::Put { key: 7, value: "seven".into() })?;
    /// wal.append_typed(&Change::Delete { key: 7 })?;
    ///
    /// let changes: Vec<Change> =
    ///     wal.iter()?.map(|record| record?.decode()).collect::<cohort_wal::Result<_>>()?;
    /// assert_eq!(changes[1], Change::Delete { key: 7 });
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_typed<T: Serialize + ?Sized>(&self, record: &T) -> Result<Lsn> {
        self.append_unit(|unit| encode(unit, record, false, self.form))
            .map(|(start, _)| Lsn::new(start.lsn))
    }

    /// Appends a value as one record, as [`append_typed`](Self::append_typed), and waits until it
    /// is durable. Feature `postcard`.
    ///
    /// # Durability
    /// Durable, as [`append_and_sync`](Self::append_and_sync).
    ///
    /// # Concurrency
    /// Blocks for a sync; commits that wait at the same time share one.
    ///
    /// # Errors
    /// As [`append_typed`](Self::append_typed) and [`sync`](Self::sync). After an error of the sync
    /// the record may or may not survive.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsn = wal.append_typed_and_sync(&("balance", 70_u64))?;
    /// assert!(wal.durable_lsn() > lsn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_typed_and_sync<T: Serialize + ?Sized>(&self, record: &T) -> Result<Lsn> {
        let (start, end) = self.append_unit(|unit| encode(unit, record, false, self.form))?;
        self.engine.commit(end)?;
        Ok(Lsn::new(start.lsn))
    }

    /// Appends values as one batch: consecutive, and after a crash all there or none. Values of
    /// several types are variants of one enum. Returns their LSNs; an empty batch appends nothing.
    /// Feature `postcard`.
    ///
    /// # Durability
    /// Buffered, as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append_typed`](Self::append_typed), with nothing of the batch appended; and
    /// [`WalError::BatchTooLarge`] with the length up to the first record too many.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsns = wal.append_batch_typed(&[("debit", 7), ("credit", 7)])?;
    /// let second = wal.iter_from(lsns[1])?.next().unwrap()?;
    /// assert_eq!(second.decode::<(&str, i32)>()?, ("credit", 7));
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_batch_typed<T: Serialize>(&self, records: &[T]) -> Result<Vec<Lsn>> {
        self.batch_of_values(records).map(|(lsns, _)| lsns)
    }

    /// Appends values as one batch, as [`append_batch_typed`](Self::append_batch_typed), and waits
    /// until it is durable. Feature `postcard`.
    ///
    /// # Durability
    /// Durable, as [`append_batch_and_sync`](Self::append_batch_and_sync). An empty batch makes
    /// everything before it durable.
    ///
    /// # Errors
    /// As [`append_batch_typed`](Self::append_batch_typed) and [`sync`](Self::sync).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_batch_typed_and_sync(&[1_u64, 2, 3])?;
    /// assert_eq!(wal.durable_lsn(), wal.end_lsn());
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_batch_typed_and_sync<T: Serialize>(&self, records: &[T]) -> Result<Vec<Lsn>> {
        self.commit_batch(self.batch_of_values(records)?)
    }

    fn batch_of_values<T: Serialize>(&self, records: &[T]) -> Result<Batch> {
        self.batch(records, |unit, record, more| encode(unit, record, more, self.form))
    }
}

/// Encodes a value as the next record of a unit; `more`: others follow in its batch.
fn encode<T: Serialize + ?Sized>(
    unit: &mut Unit,
    record: &T,
    more: bool,
    form: Form,
) -> Result<()> {
    unit.push_with(more, form, |body| {
        postcard::serialize_with_flavor(record, Into(body))
            .map_err(|error| WalError::Encode { why: obstacle(&error) })
    })
}

/// Where the serializer leaves its bytes. It never fails: what does not fit is the body's affair,
/// which no `Serialize` implementation can then hide by ignoring an error.
struct Into<'a, 'b>(&'a mut Body<'b>);

impl Flavor for Into<'_, '_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.put(&[byte]);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.put(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// What an error of the serializer means. What a `Serialize` implementation says itself is not
/// told: it may quote the value.
fn obstacle(error: &postcard::Error) -> &'static str {
    use postcard::Error as E;
    match error {
        E::SerdeSerCustom => "its Serialize implementation failed",
        E::CollectStrError => "a Display implementation in it failed",
        E::SerializeSeqLengthUnknown => {
            "a sequence or map does not say its length, as with serde(flatten)"
        }
        _ => "the format cannot express it",
    }
}
