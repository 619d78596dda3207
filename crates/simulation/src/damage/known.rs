//! What the calls of a script have returned: the records, where units end, the head, the snapshot.

use std::collections::{BTreeMap, BTreeSet};

use cohort_wal::sim::SimStore;
use cohort_wal::{Lsn, Wal, WalError};

use super::layout::{Image, Opened};
use super::script::Step;
use crate::oracle::image;
use crate::record::payload;

/// What calls have returned.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// LSN and key of each record that no cut has taken, below the head as well.
    pub(super) records: BTreeMap<u64, u64>,
    /// Where units end and begin, the first and the last of them as well.
    pub(super) bounds: BTreeSet<u64>,
    pub(super) head: u64,
    pub(super) end: u64,
    /// The snapshot that counts.
    pub(super) image: Option<u64>,
    keys: u64,
}

/// The place of a fraction of a number of things.
fn at(fraction: u16, count: usize) -> usize {
    usize::from(fraction) * count / (usize::from(u16::MAX) + 1)
}

impl Known {
    /// Of a log that begins.
    pub(super) fn new() -> Self {
        Self { bounds: BTreeSet::from([0]), ..Self::default() }
    }

    /// What opening the log shows.
    pub(super) fn opened(&self) -> Opened {
        let image = self.image.map_or(Image::None, Image::Whole);
        Opened { head: self.head, end: self.end, image }
    }

    /// Makes a step, and remembers what came of it.
    pub(super) fn step(&mut self, wal: &Wal<SimStore>, step: &Step) -> Result<(), WalError> {
        match *step {
            Step::Append(ref lens) => self.append(wal, lens)?,
            Step::Flush => wal.flush()?,
            Step::Sync => wal.sync()?,
            Step::Rotate => wal.rotate()?,
            Step::TruncateBefore(fraction) => {
                let head = self.new_head(fraction);
                self.head = wal.truncate_before(Lsn::new(head))?.get();
                self.image = self.image.filter(|image| *image >= self.head);
            }
            Step::Checkpoint(fraction) => {
                let head = self.new_head(fraction);
                wal.checkpoint(Lsn::new(head), |out| out.write_all(&image(head)))?;
                (self.head, self.image) = (head, Some(head));
            }
            Step::TruncateFrom(fraction) => {
                let cut = self.new_end(fraction);
                wal.truncate_from(Lsn::new(cut))?;
                self.cut(cut);
            }
            Step::TruncateAfter(fraction) => {
                // The last record of a unit at or above the head.
                let cut = self.new_end(fraction);
                let last = self.records.range(self.head..cut).next_back();
                if let Some((last, _)) = last {
                    wal.truncate_after(Lsn::new(*last))?;
                    self.cut(cut);
                }
            }
        }
        self.end = wal.end_lsn().get();
        Ok(())
    }

    fn append(&mut self, wal: &Wal<SimStore>, lens: &[usize]) -> Result<(), WalError> {
        let records: Vec<_> = (self.keys..).zip(lens).map(|(k, len)| payload(k, *len)).collect();
        let lsns = wal.append_batch(&records)?.into_iter().map(Lsn::get);
        self.records.extend(lsns.zip(self.keys..));
        self.keys += lens.len() as u64;
        self.bounds.insert(wal.end_lsn().get());
        Ok(())
    }

    /// A record, or the end.
    fn new_head(&self, fraction: u16) -> u64 {
        let count = self.records.range(self.head..).count();
        let record = self.records.range(self.head..).nth(at(fraction, count + 1));
        record.map_or(self.end, |(lsn, _)| *lsn)
    }

    /// Where a unit ends, or the head.
    fn new_end(&self, fraction: u16) -> u64 {
        let ends = self.bounds.range(self.head + 1..).copied();
        let ends: Vec<_> = [self.head].into_iter().chain(ends).collect();
        ends[at(fraction, ends.len())]
    }

    fn cut(&mut self, cut: u64) {
        self.records.split_off(&cut);
        self.bounds.split_off(&cut);
        self.bounds.insert(cut);
    }
}
