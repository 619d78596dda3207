//! Going on behind bytes that are no valid frame, for those who may.
//!
//! Every aligned position is tried. A header whose checksum matches is believed about its length
//! even where its body is damaged, because it is bound to its place: what lies inside that body is
//! payload, and is never taken for frames. So no byte is checked as part of two bodies, and the
//! work stays linear whatever the bytes are.

use super::{Scanner, to_u64};
use crate::error::Result;
use crate::format::frame::{self, HEADER_BYTES, Header};
use crate::lsn::ALIGNMENT;
use crate::store::StoreFile;

/// What was passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Skipped {
    /// Where the next valid frame stands; the scanner's end when there is none.
    pub(crate) to: u64,
    /// End of the last word that is not zero; where the skip began when there is none.
    pub(crate) dirt_end: u64,
}

impl<F: StoreFile> Scanner<F> {
    /// Moves from the invalid position it stands at to the next valid frame, or to the end.
    pub(crate) fn skip_invalid(&mut self) -> Result<Skipped> {
        let mut at = self.next;
        let mut dirt_end = at;
        let mut known_invalid = true;
        while at < self.end {
            let offset = self.offset_of(at);
            if !self.load(offset, HEADER_BYTES)? {
                let room = usize::try_from(self.limit().saturating_sub(offset)).unwrap_or(0);
                let rest = if self.load(offset, room)? { self.loaded(offset, room) } else { &[] };
                if let Some(last) = rest.iter().rposition(|byte| *byte != 0) {
                    dirt_end = at.saturating_add(to_u64(last)).saturating_add(1);
                }
                break;
            }
            let step = match self.header_at(at, offset) {
                None => {
                    let word = self.loaded(offset, 8);
                    if word.iter().any(|byte| *byte != 0) {
                        dirt_end = at.saturating_add(ALIGNMENT);
                    }
                    ALIGNMENT
                }
                Some(_) if !known_invalid && self.check(at, offset)?.is_ok() => {
                    self.next = at;
                    return Ok(Skipped { to: at, dirt_end });
                }
                Some(header) => {
                    dirt_end = at.saturating_add(header.frame_bytes());
                    header.frame_bytes()
                }
            };
            known_invalid = false;
            at = at.saturating_add(step);
        }
        self.next = self.end;
        Ok(Skipped { to: self.end, dirt_end: dirt_end.next_multiple_of(ALIGNMENT) })
    }

    /// The header at a position that is loaded, if it can be believed about its length.
    fn header_at(&self, lsn: u64, offset: u64) -> Option<Header> {
        let bytes = self.loaded(offset, HEADER_BYTES);
        // PERF: most positions are told by this one byte; it is no kind in seven of eight cases.
        bytes.get(12).filter(|kind| matches!(**kind & 0x0F, 1 | 2))?;
        let header = frame::decode_header(self.seed, lsn, bytes)?;
        let room = self.end.saturating_sub(lsn);
        frame::length_fits(&header, room, self.max_record).then_some(header)
    }
}
