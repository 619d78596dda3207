//! What is logged.
//!
//! | bytes | field |
//! |---|---|
//! | 7 | `CANON01`, so that no other program's log is taken for one of these |
//! | 1 | kind: `e` an entry, `c` a checkpoint |
//! | rest | the entry; of a checkpoint the count of all entries before it, 8 bytes little-endian |
//!
//! The count is of all entries there ever were, also of those that were forgotten since: it says
//! which index the entry behind it has.

use cohort_wal::Lsn;

use crate::{Error, Result};

const MAGIC: &[u8; 7] = b"CANON01";
const ENTRY: u8 = b'e';
const CHECKPOINT: u8 = b'c';

/// A record, decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind<'a> {
    /// An entry, which counts when a checkpoint comes behind it.
    Entry(&'a [u8]),
    /// Commits everything before it: so many entries.
    Checkpoint(u64),
}

impl<'a> Kind<'a> {
    /// The first bytes of the record of an entry.
    pub(crate) const ENTRY_PREFIX: [&'static [u8]; 2] = [MAGIC, &[ENTRY]];
    /// The first bytes of a checkpoint record.
    pub(crate) const CHECKPOINT_PREFIX: [&'static [u8]; 2] = [MAGIC, &[CHECKPOINT]];

    /// What the record at `lsn` says.
    ///
    /// # Errors
    /// [`Error::Foreign`].
    pub fn decode(lsn: Lsn, record: &'a [u8]) -> Result<Self> {
        let foreign = Error::Foreign(lsn);
        match record.strip_prefix(MAGIC).and_then(<[u8]>::split_first) {
            Some((&ENTRY, entry)) => Ok(Self::Entry(entry)),
            Some((&CHECKPOINT, count)) => {
                let count = count.try_into().map_err(|_| foreign)?;
                Ok(Self::Checkpoint(u64::from_le_bytes(count)))
            }
            _ => Err(foreign),
        }
    }
}
