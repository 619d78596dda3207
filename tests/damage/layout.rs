//! A log whose every frame is known, and what must become of it when bytes of it change.
//!
//! The oracle shares no code with the crate. What was appended is known from what the calls
//! returned; where each frame lies is read from the undamaged files; and a frame, a header or a
//! slot survives damage if its bytes are still the same at the same place. From that alone follow
//! the newest surviving witness and the first position that is lost, and so the one right outcome.

use std::collections::{BTreeMap, BTreeSet};

use cohort_wal::MemSnapshot;

pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) const CONTROL: &str = "CONTROL";
pub(crate) const HEADER_AREA: usize = 8192;
pub(crate) const BLOCK: usize = 512;
/// Where both copies of a block lie, in CONTROL and in segments alike.
pub(crate) const COPIES: [usize; 2] = [0, 4096];

/// The little-endian number of `len` bytes at an offset.
pub(crate) fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(crate) fn index(position: u64) -> usize {
    usize::try_from(position).unwrap()
}

pub(crate) fn is_segment(name: &str) -> bool {
    name != CONTROL
}

pub(crate) fn snapshot_of(files: &Files) -> MemSnapshot {
    let mut snapshot = MemSnapshot::default();
    *snapshot.files_mut() = files.clone();
    snapshot
}

/// The copies of a block that have the magic and the right checksum.
fn blocks<'a>(file: &'a [u8], magic: &[u8]) -> Vec<&'a [u8]> {
    let block = |at: usize| {
        let block = file.get(at..at + BLOCK)?;
        let crc = u64::from(crc32c::crc32c(&block[..508]));
        (block.starts_with(magic) && crc == number(block, 508, 4)).then_some(block)
    };
    COPIES.into_iter().filter_map(block).collect()
}

/// Where a frame lies.
#[derive(Debug, Clone)]
pub(crate) struct Frame {
    pub(crate) file: String,
    pub(crate) offset: usize,
    pub(crate) bytes: usize,
    pub(crate) lsn: u64,
    /// All below was durable when the frame was made.
    pub(crate) watermark: u64,
}

/// What was appended, as the calls returned it.
#[derive(Debug, Clone, Default)]
pub(crate) struct History {
    pub(crate) records: Vec<(u64, Vec<u8>)>,
    /// Where units end, and where the log begins.
    pub(crate) bounds: BTreeSet<u64>,
    /// What was durable after each sync.
    pub(crate) synced: Vec<u64>,
    pub(crate) end: u64,
}

/// A log, undamaged.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) name: &'static str,
    pub(crate) files: Files,
    pub(crate) history: History,
    /// Ascending.
    pub(crate) frames: Vec<Frame>,
}

/// What must become of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Right {
    /// Nothing that counts was hit.
    Whole,
    /// Everything from here on is gone, and nothing that survived says that it was durable.
    EndsAt(u64),
    /// What was hit lies below a witness that survived.
    Refused,
    /// Files are missing, strange or without a header: refused, unless nothing that counts was
    /// hit.
    RefusedOrWhole,
}

impl Log {
    pub(crate) fn new(name: &'static str, snapshot: &MemSnapshot, history: History) -> Self {
        let files = snapshot.files().clone();
        let bases: Vec<_> = files.iter().filter(|(name, _)| is_segment(name)).collect();
        let mut frames = Vec::new();
        for (at, (name, file)) in bases.iter().enumerate() {
            let base = number(file, 72, 8);
            let cut = bases.get(at + 1).map_or(history.end, |(_, next)| number(next, 72, 8));
            let mut lsn = base;
            while lsn < cut {
                let offset = HEADER_AREA + index(lsn - base);
                let bytes = 16 + index(number(file, offset + 4, 4)).next_multiple_of(8);
                // All ones say nothing.
                let lag = Some(number(file, offset + 13, 3)).filter(|lag| *lag != 0x00FF_FFFF);
                let watermark = lag.map_or(0, |lag| lsn - 8 * lag);
                frames.push(Frame { file: (*name).clone(), offset, bytes, lsn, watermark });
                lsn += bytes as u64;
            }
            assert_eq!(lsn, cut, "frames fill a segment up to its cut");
        }
        // The frames are where the calls said that the records are.
        let starts: BTreeSet<_> = frames.iter().map(|frame| frame.lsn).collect();
        assert!(history.records.iter().all(|(lsn, _)| starts.contains(lsn)));
        assert!(history.bounds.iter().all(|lsn| *lsn == history.end || starts.contains(lsn)));
        assert!(history.bounds.contains(&history.end) && history.bounds.contains(&0));
        Self { name, files, history, frames }
    }

    /// The name of the newest segment.
    pub(crate) fn newest(&self) -> &str {
        self.files.keys().rfind(|name| is_segment(name)).unwrap()
    }

    /// How many records lie below an LSN.
    pub(crate) fn below(&self, lsn: u64) -> usize {
        self.history.records.partition_point(|(start, _)| *start < lsn)
    }

    /// The names of files that are not as they were.
    pub(crate) fn touched(&self, files: &Files) -> BTreeSet<String> {
        let names = self.files.keys().chain(files.keys());
        names.filter(|name| self.files.get(*name) != files.get(*name)).cloned().collect()
    }

    /// What must become of the log when its files are `files`.
    pub(crate) fn right(&self, files: &Files) -> Right {
        self.survivors(files).map_or(Right::RefusedOrWhole, |(right, _)| right)
    }

    /// What must become of the log, and the newest witness that survives. `None` when more than
    /// frames and single copies of blocks were hit.
    pub(crate) fn survivors(&self, files: &Files) -> Option<(Right, u64)> {
        if !files.keys().eq(self.files.keys()) {
            return None;
        }
        let slots = blocks(&files[CONTROL], b"COHRTCTL");
        let newest = slots.iter().max_by_key(|slot| number(slot, 16, 8))?;
        let mut witness = number(newest, 64, 8);
        let mut contradiction = false;
        for (name, undamaged) in self.files.iter().filter(|(name, _)| is_segment(name)) {
            let copies = blocks(&files[name], b"COHRTWAL");
            if copies.is_empty() || files[name].len() < HEADER_AREA {
                return None;
            }
            // A header of another segment, in place of one copy.
            contradiction |= copies.iter().any(|copy| *copy != &undamaged[..BLOCK]);
            witness = witness.max(number(copies[0], 96, 8));
        }
        let mut lost = None;
        for frame in &self.frames {
            let place = frame.offset..frame.offset + frame.bytes;
            if files[&frame.file].get(place.clone()) == self.files[&frame.file].get(place) {
                witness = witness.max(frame.watermark);
            } else {
                lost = lost.or(Some(frame.lsn));
            }
        }
        let right = match lost {
            _ if contradiction => Right::Refused,
            None => Right::Whole,
            Some(lost) if lost < witness => Right::Refused,
            Some(lost) => Right::EndsAt(*self.history.bounds.range(..=lost).next_back()?),
        };
        Some((right, witness))
    }
}
