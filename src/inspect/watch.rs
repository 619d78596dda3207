//! [`Watch`]: the frames that a writer adds, as they come.
//!
//! It holds one file open and reads it again from where the last frame ended. Where no valid frame
//! stands yet there is none: zeros, or a write that is under way. So it never says what damage is.
//!
//! Where the segment ends, its successor in the chain says: its base is what was read up to, or
//! below that where the log was cut. Where the successor was removed before it was read, the log
//! having been truncated meanwhile, the frames go on behind it.

use std::fmt;
use std::io::ErrorKind;

use super::spans::{Content, FrameHeader, Span, Standing};
use crate::error::{Result, WalError};
use crate::format::frame::{HEADER_BYTES, Header, decode_header};
use crate::format::name::{self, Name};
use crate::format::segment::{
    FIRST_FRAME, HeaderArea, SEGMENT_HEADER_BYTES, SegmentHeader, decode_area,
};
use crate::lsn::{LSN_LIMIT, Lsn};
use crate::recovery::current_head;
use crate::scan::{Scanner, Step, read_full};
use crate::store::{FileHandle, FileStore, WalStore};
use crate::sync::Arc;

/// The frames that a writer adds, in order; see [`Inspection::watch`](super::Inspection::watch).
pub struct Watch {
    store: Arc<FileStore>,
    header: SegmentHeader,
    place: Place,
    /// Where the next frame starts.
    next: u64,
}

/// The open file, between two looks or in one.
enum Place {
    Waiting(Arc<FileHandle>),
    Reading(Scanner<Arc<FileHandle>>),
    /// Opening a segment has failed.
    Lost,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Watch");
        f.field("seq", &self.header.seq).field("next", &self.next).finish_non_exhaustive()
    }
}

impl Watch {
    pub(super) fn new(
        store: Arc<FileStore>,
        file: Arc<FileHandle>,
        header: SegmentHeader,
        next: u64,
    ) -> Self {
        Self { store, header, place: Place::Waiting(file), next }
    }

    /// The next frame, if it has been written; none otherwise: ask again later. What it returns was
    /// not witnessed as durable by any frame before it. After a cut it goes on with the frames that
    /// took the place of those that were cut off, and behind what was truncated with those that are
    /// left.
    ///
    /// # Errors
    /// [`WalError::Io`] and [`WalError::OutOfMemory`]; nothing comes after an error.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Wal, inspect::Inspection};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::open(dir.path())?;
    /// let mut watch = Inspection::open(dir.path())?.watch()?;
    /// wal.append_and_sync(b"one")?;
    /// wal.rotate()?;
    /// let two = wal.append_and_sync(b"two")?;
    /// watch.next_frame()?;
    /// let frame = watch.next_frame()?.unwrap();
    /// assert_eq!((frame.start, frame.header.unwrap().watermark), (two, Some(two)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_frame(&mut self) -> Result<Option<Span>> {
        loop {
            let file = match std::mem::replace(&mut self.place, Place::Lost) {
                Place::Lost => return Ok(None),
                Place::Waiting(file) if !self.has_header(&file)? => file,
                place => {
                    let mut scanner = match place {
                        Place::Reading(scanner) => scanner,
                        Place::Waiting(file) => self.scanner(file)?,
                        Place::Lost => return Ok(None),
                    };
                    if let Step::Frame { lsn, header } = scanner.next()? {
                        self.place = Place::Reading(scanner);
                        return Ok(Some(self.span(lsn, &header)));
                    }
                    scanner.into_file()
                }
            };
            let Some((file, header)) = self.successor()? else {
                self.place = Place::Waiting(file);
                return Ok(None);
            };
            self.next = header.base;
            self.header = header;
            self.place = Place::Waiting(file);
        }
    }

    fn span(&mut self, lsn: u64, header: &Header) -> Span {
        self.next = lsn.saturating_add(header.frame_bytes());
        Span {
            start: Lsn::new(lsn),
            end: Lsn::new(self.next),
            offset: self.offset_of(lsn),
            content: Content::of(header),
            standing: Standing::Unwitnessed,
            header: Some(FrameHeader::from(header)),
        }
    }

    fn offset_of(&self, lsn: u64) -> u64 {
        lsn.saturating_sub(self.header.base).saturating_add(FIRST_FRAME)
    }

    /// Whether a frame begins where the next one will. Who looks often reads little for it.
    fn has_header(&self, file: &FileHandle) -> Result<bool> {
        let mut bytes = [0; HEADER_BYTES];
        let path = self.store.locate(&name::segment(self.header.seq));
        read_full(file, &path, self.offset_of(self.next), &mut bytes)?;
        Ok(decode_header(self.header.seed(), self.next, &bytes).is_some())
    }

    fn scanner(&self, file: Arc<FileHandle>) -> Result<Scanner<Arc<FileHandle>>> {
        let SegmentHeader { base, max_record, seq, .. } = self.header;
        let path = self.store.locate(&name::segment(seq));
        Scanner::new(file, path, self.header.seed(), base, max_record, self.next, LSN_LIMIT)
    }

    /// The segment that goes on where this one was read to, or below, if there is one.
    fn successor(&self) -> Result<Option<(Arc<FileHandle>, SegmentHeader)>> {
        let listed = self.store.list().map_err(|e| WalError::io("list", self.store.path(), e))?;
        let seq = |name: &String| match name::classify(name) {
            Name::Segment(seq) => Some(seq),
            _ => None,
        };
        let newest = listed.iter().filter_map(seq).max().unwrap_or(0);
        let mut found = self.read_header(newest)?;
        while let Some((_, header)) = &found
            && header.prev_seq > self.header.seq
        {
            let Some(previous) = self.read_header(header.prev_seq)? else {
                // Truncated, or cut off: then there is another one to come to.
                let base = header.base;
                let is_truncated = current_head(&*self.store)? >= base;
                return Ok(found.filter(|_| is_truncated));
            };
            found = Some(previous);
        }
        // A base above means that frames below it have been written since the last look.
        Ok(found.filter(|(_, header)| header.base <= self.next))
    }

    /// A newer segment of the same log; none where its file is gone, or tells nothing.
    fn read_header(&self, seq: u64) -> Result<Option<(Arc<FileHandle>, SegmentHeader)>> {
        if seq <= self.header.seq {
            return Ok(None);
        }
        let name = name::segment(seq);
        let path = self.store.locate(&name);
        let file = match self.store.open(&name) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(WalError::io("open", &path, error)),
        };
        let mut area = vec![0; SEGMENT_HEADER_BYTES];
        read_full(&file, &path, 0, &mut area)?;
        let HeaderArea::Valid { header, .. } = decode_area(&area) else { return Ok(None) };
        let ours = header.seq == seq && header.log_id == self.header.log_id;
        Ok(ours.then(|| (Arc::new(file), header)))
    }
}
