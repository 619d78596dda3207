//! [`Tolerant`]: a file that is read around the places which cannot be read.
//!
//! A disk with bad sectors fails reads of whole blocks for the sake of one page. Salvage wants the
//! rest of the block, so a read that fails is repeated page by page; a page that cannot be read
//! shows as zeros, which are never a frame, and is remembered, so that what is missing there is
//! told as the error it is and never as damage.
//!
//! Running out of memory stays an error. A file that is not tolerant passes every error on.

use std::io;
use std::ops::Range;

use crate::scan::to_u64;
use crate::store::StoreFile;
use crate::sync::Mutex;

/// What is lost where a read fails.
const PAGE: u64 = 4096;

/// A file that is only read.
#[derive(Debug)]
pub(crate) struct Tolerant<F> {
    file: F,
    tolerant: bool,
    failed: Mutex<Failed>,
}

/// Where reads failed, ascending, and the first error of each place.
type Failed = Vec<(Range<u64>, io::Error)>;

impl<F: StoreFile> Tolerant<F> {
    pub(crate) fn new(file: F, tolerant: bool) -> Self {
        Self { file, tolerant, failed: Mutex::new(Vec::new()) }
    }

    /// The error that kept bytes of this range of the file from being read. What failed below
    /// its end is forgotten: ranges are asked for in ascending order.
    pub(crate) fn take_error(&self, range: &Range<u64>) -> Option<io::Error> {
        let mut failed = self.failed.lock();
        let concerned = failed.partition_point(|(pages, _)| pages.start < range.end);
        let error = failed.drain(..concerned).find(|(pages, _)| pages.end > range.start);
        error.map(|(_, error)| error)
    }

    fn page_by_page(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let mut done = 0_usize;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = offset.saturating_add(to_u64(done));
            let page_end = at.saturating_add(1).next_multiple_of(PAGE);
            let room = usize::try_from(page_end.saturating_sub(at)).unwrap_or(usize::MAX);
            let room = room.min(rest.len());
            let Some(piece) = rest.get_mut(..room) else { break };
            let read = match self.file.read_at(at, piece) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => return Err(error),
                Err(error) => {
                    piece.fill(0);
                    self.remember(at..page_end, error);
                    room
                }
            };
            done = done.saturating_add(read);
        }
        Ok(done)
    }

    fn remember(&self, pages: Range<u64>, error: io::Error) {
        let mut failed = self.failed.lock();
        match failed.last_mut() {
            Some((last, _)) if last.end >= pages.start => last.end = last.end.max(pages.end),
            _ => failed.push((pages, error)),
        }
    }
}

impl<F: StoreFile> StoreFile for Tolerant<F> {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        match self.file.read_at(offset, bytes) {
            Err(error) if self.tolerant && error.kind() != io::ErrorKind::OutOfMemory => {
                self.page_by_page(offset, bytes)
            }
            read => read,
        }
    }

    fn sync(&self) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
