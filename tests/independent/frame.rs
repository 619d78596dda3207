//! Frames, and what lies between them.

use super::chain::Segment;
use super::lz4::decompress;
use super::seal::Sealer;
use super::{crc, index, number};

pub(crate) const MORE: u8 = 0x10;
pub(crate) const COMPRESSED: u8 = 0x20;
pub(crate) const ENCRYPTED: u8 = 0x40;

/// A valid frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Frame<'a> {
    pub(crate) lsn: u64,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// As it is stored.
    pub(crate) lag: u64,
    pub(crate) body: &'a [u8],
    /// Header and padding included.
    pub(crate) bytes: u64,
}

/// What a frame holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Content {
    Record(Vec<u8>),
    Pad,
    /// It was not sealed at this place.
    Tampered,
    /// It does not decompress.
    Malformed,
}

impl<'a> Frame<'a> {
    /// The frame at a position, if a valid one is there.
    pub(crate) fn at(segment: &Segment<'a>, lsn: u64) -> Option<Self> {
        let rest = segment.from(lsn);
        let header = rest.get(..16)?;
        let (kind, flags) = (header[12] & 0x0f, header[12] & 0xf0);
        let known = (kind == 1 || kind == 2) && flags & !(MORE | COMPRESSED | ENCRYPTED) == 0;
        let epoch = segment.epoch().to_le_bytes();
        let own = [segment.salt(), &epoch, &lsn.to_le_bytes(), &header[4..16]];
        let len = number(header, 4, 4);
        let bytes = 16 + len.next_multiple_of(8);
        let fits = bytes <= segment.limit().checked_sub(lsn)?
            && (kind == 2 || len <= segment.max_record() + 64);
        if !(known && crc(&own) == number(header, 0, 4) && fits) {
            return None;
        }
        let padded = rest.get(16..index(bytes))?;
        let whole = crc(&[padded]) == number(header, 8, 4);
        let (lag, body) = (number(header, 13, 3), &padded[..index(len)]);
        whole.then_some(Self { lsn, kind, flags, lag, body, bytes })
    }

    pub(crate) fn end(&self) -> u64 {
        self.lsn + self.bytes
    }

    pub(crate) fn more(&self) -> bool {
        self.flags & MORE != 0
    }

    /// All below was durable when it was appended.
    pub(crate) fn watermark(&self) -> Option<u64> {
        (self.lag != 0xff_ffff).then(|| self.lsn.saturating_sub(8 * self.lag))
    }

    pub(crate) fn content(&self, sealer: Option<&Sealer>, max_record: u64) -> Content {
        if (self.flags & ENCRYPTED != 0) != sealer.is_some() {
            return Content::Tampered;
        }
        let mut body = self.body.to_vec();
        if let Some(sealer) = sealer {
            let Some(opened) = sealer.open_frame(self) else { return Content::Tampered };
            body = opened;
        }
        if self.kind == 2 {
            return Content::Pad;
        }
        if self.flags & COMPRESSED != 0 {
            let Some((raw_len, block)) = body.split_first_chunk::<4>() else {
                return Content::Malformed;
            };
            let raw_len = number(raw_len, 0, 4);
            if raw_len > max_record || raw_len > 255 * block.len() as u64 {
                return Content::Malformed;
            }
            let Some(raw) = decompress(block, index(raw_len)) else { return Content::Malformed };
            body = raw;
        }
        Content::Record(body)
    }
}

/// What comes next in a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found<'a> {
    /// A valid frame, and which of the segments it is in.
    Frame(Frame<'a>, usize),
    /// No valid frame from the first position up to the second.
    Hole(u64, u64),
}

/// All that is in the live segments at or above the head, past damage.
pub(crate) fn walk<'a>(live: &[Segment<'a>], head: u64) -> Vec<Found<'a>> {
    let mut found = Vec::new();
    let first = live.iter().rposition(|segment| segment.base() <= head).unwrap_or(0);
    for (nth, segment) in live.iter().enumerate().skip(first) {
        let mut at = segment.base().max(head);
        let end = segment.cut.unwrap_or_else(|| dirt_end(segment));
        while at < end {
            if let Some(frame) = Frame::at(segment, at) {
                at = frame.end();
                found.push(Found::Frame(frame, nth));
                continue;
            }
            let mut places = (at..segment.limit().min(end)).step_by(8);
            let next = places.find(|place| Frame::at(segment, *place).is_some()).unwrap_or(end);
            found.push(Found::Hole(at, next));
            at = next;
        }
    }
    found
}

/// Where the last segment ends but for zeros.
fn dirt_end(segment: &Segment<'_>) -> u64 {
    let frames = segment.from(segment.base());
    let used = frames.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    // The zeros of a frame are part of it.
    segment.base() + used.next_multiple_of(8) as u64
}
