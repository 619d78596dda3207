//! What a log shows, in one piece of memory, so that it is cheap to collect and to compare.

use std::io::Read;

use cohort_wal::{Wal, WalError, WalStore};
use simulation::oracle::image;

use crate::layout::Image;

/// Records in the order they were read, and the error that ended the reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shown {
    /// LSN of each record, and where its bytes end.
    places: Vec<(u64, usize)>,
    bytes: Vec<u8>,
    pub(crate) error: Option<String>,
    pub(crate) head: u64,
    /// The LSN and the bytes of the snapshot that counts, or what is wrong with it.
    image: Option<Result<(u64, Vec<u8>), String>>,
}

impl Shown {
    pub(crate) fn len(&self) -> usize {
        self.places.len()
    }

    pub(crate) fn push(&mut self, lsn: u64, body: &[u8]) {
        self.bytes.extend_from_slice(body);
        self.places.push((lsn, self.bytes.len()));
    }

    /// Whether these are the first records of `whole` from the same head on.
    pub(crate) fn is_prefix_of(&self, whole: &Self) -> bool {
        let skipped = whole.below(self.head);
        let start = whole.start(skipped);
        let ends = whole.places[skipped..].iter().map(|(lsn, end)| (*lsn, end - start));
        let same = self.places.iter().copied().eq(ends.take(self.len()));
        same && whole.bytes[start..].starts_with(&self.bytes)
    }

    /// Where the bytes of a record begin.
    fn start(&self, record: usize) -> usize {
        record.checked_sub(1).map_or(0, |before| self.places[before].1)
    }

    /// How many of the records begin below an LSN.
    pub(crate) fn below(&self, lsn: u64) -> usize {
        self.places.partition_point(|(start, _)| *start < lsn)
    }

    /// The LSN of the record in the middle of those that are not below an LSN.
    pub(crate) fn middle(&self, from: u64) -> Option<u64> {
        let first = self.below(from);
        self.places.get(first + (self.len() - first) / 2).map(|(lsn, _)| *lsn)
    }

    /// Forgets what does not begin below an LSN.
    pub(crate) fn cut(&mut self, lsn: u64) {
        let kept = self.below(lsn);
        self.bytes.truncate(self.start(kept));
        self.places.truncate(kept);
    }

    /// What became of a snapshot of a sample.
    pub(crate) fn image(&self) -> Image {
        match &self.image {
            None => Image::None,
            Some(Ok((lsn, bytes))) if *bytes == image(*lsn) => Image::Whole(*lsn),
            Some(Ok((lsn, _))) => panic!("SILENT: the snapshot at {lsn} says what nobody wrote"),
            Some(Err(_)) => Image::Damaged(self.head),
        }
    }

    /// Everything that an open log shows.
    pub(crate) fn by<S: WalStore>(wal: &Wal<S>) -> Self {
        let mut shown = Self { head: wal.head_lsn().get(), ..Self::default() };
        let latest = wal.snapshots().and_then(|snapshots| snapshots.latest());
        shown.image = latest.map_err(|error| place(&error)).transpose().map(|latest| {
            let (mut latest, mut bytes) = (latest?, Vec::new());
            latest.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
            Ok((latest.lsn().get(), bytes))
        });
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
