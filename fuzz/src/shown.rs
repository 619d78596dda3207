//! What a log shows, in one piece of memory, so that it is cheap to collect and to compare.

use cohort_wal::{Wal, WalError, WalStore};

/// Records in the order they were read, and the error that ended the reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// LSN of each record, and where its bytes end.
    places: Vec<(u64, usize)>,
    bytes: Vec<u8>,
    pub(crate) error: Option<String>,
}

impl Shown {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn push(&mut self, lsn: u64, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.places.push((lsn, self.bytes.len()));
    }

    /// Whether these are the first records of `whole`.
    pub(crate) fn is_prefix_of(&self, whole: &Self) -> bool {
        whole.places.starts_with(&self.places) && whole.bytes.starts_with(&self.bytes)
    }

    /// How many of the records begin below an LSN.
    pub(crate) fn below(&self, lsn: u64) -> usize {
        self.places.partition_point(|(start, _)| *start < lsn)
    }

    /// Everything that an open log shows.
    pub(crate) fn by<S: WalStore>(wal: &Wal<S>) -> Self {
        let mut shown = Self::default();
        let mut records = match wal.iter() {
            Ok(records) => records,
            Err(error) => {
                shown.error = Some(place(&error));
                return shown;
            }
        };
        while let Some(record) = records.read_next() {
            match record {
                Ok(record) => shown.push(record.lsn().get(), record.data()),
                Err(error) => {
                    shown.error = Some(place(&error));
                    break;
                }
            }
        }
        shown
    }
}

/// What is wrong and where, without the end of the log, which moves.
fn place(error: &WalError) -> String {
    match error {
        WalError::Corruption { path, offset, start, why, .. } => {
            format!("{} at {offset}, LSN {start}: {why}", path.display())
        }
        other => other.to_string(),
    }
}
