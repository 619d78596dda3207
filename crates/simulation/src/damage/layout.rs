//! A log whose every frame is known, and what must become of it when bytes of it change.
//!
//! Shares no code with the engine. Where each frame lies is read from the undamaged files, and a
//! frame, a header or a slot survives damage if its bytes are still the same at the same place.
//! From that alone follow the newest surviving witness and the first position that is lost, and so
//! the one right outcome; `tests/damage/layout.rs` of the engine does the same for a single blow.

use std::collections::{BTreeMap, BTreeSet};

/// Published files and their bytes.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) const CONTROL: &str = "CONTROL";
pub(super) const HEADER_AREA: usize = 8192;
const BLOCK: usize = 512;

/// The little-endian number of `len` bytes at an offset.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The copies of a block that have the magic and the right checksum.
fn blocks<'a>(file: &'a [u8], magic: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let block = move |at: usize| {
        let block = file.get(at..at + BLOCK).filter(|block| block.starts_with(magic))?;
        let crc = u64::from(crc32c::crc32c(&block[..508]));
        (crc == number(block, 508, 4)).then_some(block)
    };
    let found = [block(0), block(4096)];
    found.into_iter().flatten()
}

/// Where a frame lies.
#[derive(Debug, Clone)]
struct Frame {
    /// Which of the segments.
    segment: usize,
    offset: usize,
    bytes: usize,
    lsn: u64,
    /// All below was durable when the frame was made.
    watermark: u64,
}

/// What must become of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// Nothing that counts was hit.
    Whole,
    /// Everything from here on is gone, and nothing that survived says that it was durable.
    EndsAt(u64),
    /// What was hit lies below a witness that survived, or too far before a frame that did.
    Refused,
    /// Both copies of a block are gone: refused, unless nothing that counts was hit.
    RefusedOrWhole,
}

/// An undamaged log.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) files: Files,
    /// Names of the segments, ascending.
    segments: Vec<String>,
    /// Ascending.
    frames: Vec<Frame>,
    /// Where units end, and where the log begins.
    bounds: BTreeSet<u64>,
    /// How far a valid frame may end behind a lost one in a torn tail.
    reach: u64,
    pub(super) end: u64,
}

impl Layout {
    /// The log in `files`, which ends at `end`. `None` when frames do not fill it.
    pub(super) fn new(files: Files, bounds: BTreeSet<u64>, end: u64, reach: u64) -> Option<Self> {
        let segments: Vec<_> = files.keys().filter(|name| *name != CONTROL).cloned().collect();
        let mut frames = Vec::new();
        for (segment, name) in segments.iter().enumerate() {
            let file = &files[name];
            let base = number(file, 72, 8);
            let next = segments.get(segment + 1).map(|next| number(&files[next], 72, 8));
            let cut = next.unwrap_or(end);
            let mut lsn = base;
            while lsn < cut {
                let offset = HEADER_AREA + (lsn - base) as usize;
                let bytes = 16 + (number(file, offset + 4, 4) as usize).next_multiple_of(8);
                // All ones say nothing.
                let lag = Some(number(file, offset + 13, 3)).filter(|lag| *lag != 0x00FF_FFFF);
                let watermark = lag.map_or(0, |lag| lsn - 8 * lag);
                frames.push(Frame { segment, offset, bytes, lsn, watermark });
                lsn += bytes as u64;
            }
            if lsn != cut {
                return None;
            }
        }
        let starts: BTreeSet<_> = frames.iter().map(|frame| frame.lsn).collect();
        let placed = bounds.iter().all(|lsn| *lsn == end || starts.contains(lsn));
        (placed && bounds.contains(&end)).then_some(Self {
            files,
            segments,
            frames,
            bounds,
            reach,
            end,
        })
    }

    /// The names of files that are not as they were.
    pub(super) fn touched<'a>(&'a self, files: &'a Files) -> impl Iterator<Item = &'a str> {
        let names = self.files.keys();
        names.filter(|name| self.files.get(*name) != files.get(*name)).map(String::as_str)
    }

    /// What must become of the log when its files are `files`.
    pub(super) fn right(&self, files: &Files) -> Right {
        self.survivors(files).unwrap_or(Right::RefusedOrWhole)
    }

    fn survivors(&self, files: &Files) -> Option<Right> {
        if !files.keys().eq(self.files.keys()) {
            return None;
        }
        let slots = blocks(&files[CONTROL], b"COHRTCTL");
        let newest = slots.max_by_key(|slot| number(slot, 16, 8))?;
        let mut witness = number(newest, 64, 8);
        // A slot as it once was may name a segment that has been replaced since.
        let known = format!("{:020}.wal", number(newest, 40, 8));
        let mut contradiction = number(newest, 40, 8) != 0 && !files.contains_key(&known);
        let mut touched = Vec::with_capacity(self.segments.len());
        for name in &self.segments {
            let (undamaged, file) = (&self.files[name], &files[name]);
            touched.push(undamaged != file);
            let mut copies = blocks(file, b"COHRTWAL").peekable();
            let first = *copies.peek()?;
            if file.len() < HEADER_AREA {
                return None;
            }
            // A header of another segment, in place of one copy.
            contradiction |= copies.any(|copy| *copy != undamaged[..BLOCK]);
            witness = witness.max(number(first, 96, 8));
        }
        let (mut lost, mut evidence) = (None, 0);
        for frame in &self.frames {
            let place = frame.offset..frame.offset + frame.bytes;
            let name = &self.segments[frame.segment];
            let survives = !touched[frame.segment]
                || files[name].get(place.clone()) == self.files[name].get(place);
            if survives {
                witness = witness.max(frame.watermark);
                evidence = frame.lsn + frame.bytes as u64;
            } else {
                lost = lost.or(Some(frame.lsn));
            }
        }
        Some(match lost {
            _ if contradiction => Right::Refused,
            None => Right::Whole,
            Some(lost) if lost < witness || evidence > lost + self.reach => Right::Refused,
            Some(lost) => Right::EndsAt(*self.bounds.range(..=lost).next_back()?),
        })
    }
}
