//! Reading a graph back: the image of the last compaction, and what was appended since.
//!
//! Every record is read as an envelope first. One of an unknown kind is counted and named, and
//! reading goes on behind it; who opens the graph is told, and decides what to do.

use std::io::Read;
use std::path::Path;

use cohort_wal::{Lsn, RecordRef, Snapshot, WalError, WalIter, WalOptions, WalStore};

use crate::error::{GraphError, Result};
use crate::knowledge::Knowledge;
use crate::record::{Change, Envelope};

/// A record that was skipped: a newer program has written it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unknown {
    /// Where it is, or the image that it is in.
    pub lsn: Lsn,
    /// Its kind.
    pub kind: u16,
}

/// What was found when a graph was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[must_use = "it says what was skipped"]
pub struct Replay {
    /// Where the image was made, if there is one.
    pub image: Option<Lsn>,
    /// Records read behind the image.
    pub records: u64,
    /// Records that were skipped, in the order of the log.
    pub unknown: Vec<Unknown>,
    /// Records that do not fit the graph, such as an observation of an entity that is not there.
    /// They changed nothing. Programs that know different kinds leave some behind when they write
    /// in turns; otherwise there is none.
    pub misfits: Vec<Lsn>,
}

impl Replay {
    /// Reads an image and the records behind it.
    pub(crate) fn run<S: WalStore>(
        image: Option<Snapshot<S>>,
        mut records: WalIter<S>,
    ) -> Result<(Knowledge, Self)> {
        let mut known = Knowledge::default();
        let mut replay = Self::default();
        if let Some(image) = image {
            replay.read_image(&mut known, image)?;
        }
        while let Some(record) = records.read_next() {
            let record: RecordRef<'_> = record?;
            replay.records += 1;
            replay.apply(&mut known, record.lsn(), record.decode()?)?;
        }
        Ok((known, replay))
    }

    /// An image is envelopes one after the other, so that whoever reads a log reads an image.
    fn read_image<S: WalStore>(
        &mut self,
        known: &mut Knowledge,
        mut image: Snapshot<S>,
    ) -> Result<()> {
        let lsn = image.lsn();
        self.image = Some(lsn);
        let mut bytes = Vec::new();
        image.read_to_end(&mut bytes).map_err(|source| GraphError::Image { lsn, source })?;
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (envelope, behind) = postcard::take_from_bytes(rest)
                .map_err(|error| GraphError::Image { lsn, source: std::io::Error::other(error) })?;
            self.apply(known, lsn, envelope)?;
            rest = behind;
        }
        Ok(())
    }

    fn apply(&mut self, known: &mut Knowledge, lsn: Lsn, envelope: Envelope<'_>) -> Result<()> {
        let kind = envelope.kind;
        let malformed = |_| GraphError::Malformed { lsn, kind };
        match Change::decode(envelope).map_err(malformed)? {
            None => self.unknown.push(Unknown { lsn, kind }),
            Some(change) if !known.apply(&change) => self.misfits.push(lsn),
            Some(_) => {}
        }
        Ok(())
    }
}

/// Reads the graph in a directory without a lock, also beside a program that changes it: a state
/// that it was in, and never half of a merge. Beside a program the last changes may be missing,
/// also durable ones: a reader shows what the log itself says to be durable.
///
/// # Errors
/// [`GraphError::Wal`], [`GraphError::Malformed`], [`GraphError::Image`].
pub fn look(dir: &Path) -> Result<(Knowledge, Replay)> {
    loop {
        let log = WalOptions::new().open_read_only(dir)?;
        let image = log.snapshots().latest()?;
        let from = image.as_ref().map_or_else(|| log.head_lsn(), Snapshot::lsn);
        match log.iter_from(from).map_err(GraphError::from).and_then(|it| Replay::run(image, it)) {
            // A compaction came between the image and what is behind it: there is a newer image.
            Err(GraphError::Wal(WalError::Truncated { .. })) => {}
            read => return read,
        }
    }
}
