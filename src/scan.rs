//! [`Scanner`]: walks the frames of one segment file in order.
//!
//! Owns a block of memory and nothing else; it never writes. Every frame it yields has passed both
//! checksums. The bytes are hostile: a length is believed only after the header's checksum
//! matched and the frame fits below `end` and into the file, so the block never grows beyond
//! what the file holds.
//!
//! I1. An error of the store or of the allocator is an error, never an invalid frame: the end of
//!     a log is never found by failing to read it.
//! I2. Nothing is allocated per frame. The block grows only for a record larger than a block;
//!     large pads are checked block by block.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod block;
mod skip;

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::checksum;
use crate::crypt::TAG_BYTES;
use crate::error::{Result, WalError};
use crate::format::frame::{self, HEADER, HEADER_BYTES, Header, Kind, Seed};
use crate::format::segment::FIRST_FRAME;
use crate::store::{self, StoreFile};

pub(crate) use block::{Block, Body};
pub(crate) use skip::Skipped;

/// Files are read in pieces of this many bytes.
pub(crate) const BLOCK: usize = 256 << 10;

/// What stands at the scanner's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// A valid frame; [`Scanner::body`] lends its body.
    Frame { lsn: u64, header: Header },
    /// No valid frame. The scanner stays here.
    Invalid { lsn: u64, why: &'static str },
    /// Exactly the end that was asked for.
    End,
}

/// A cursor over the frames of one segment file.
#[derive(Debug)]
pub(crate) struct Scanner<F: StoreFile> {
    file: F,
    path: PathBuf,
    seed: Seed,
    base: u64,
    max_record: u32,
    end: u64,
    file_len: u64,
    /// LSN of the next frame.
    next: u64,
    block: Block,
    /// File offset of the block's first byte, and how many of its bytes are valid.
    start: u64,
    filled: usize,
    /// Where the last frame's body and padding are in the block, and its length without padding.
    padded: Range<usize>,
    len: usize,
    /// The beginning of the last frame's body, if it is a pad that is sealed.
    pad_tag: Option<[u8; TAG_BYTES]>,
}

impl<F: StoreFile> Scanner<F> {
    /// Frames of `[from, end)` in a segment that begins at `base`. `from` is where a frame starts.
    pub(crate) fn new(
        file: F,
        path: PathBuf,
        seed: Seed,
        base: u64,
        max_record: u32,
        from: u64,
        end: u64,
    ) -> Result<Self> {
        let file_len = file.len().map_err(|e| WalError::io("read", &path, e))?;
        let mut scanner = Self {
            file,
            path,
            seed,
            base,
            max_record,
            end,
            file_len,
            next: from.max(base),
            block: Block::default(),
            start: 0,
            filled: 0,
            padded: 0..0,
            len: 0,
            pad_tag: None,
        };
        let offset = scanner.offset_of(scanner.next);
        let room = scanner.limit().saturating_sub(offset);
        scanner.block.renew(0..0, usize::try_from(room).unwrap_or(BLOCK).min(BLOCK))?;
        Ok(scanner)
    }

    /// LSN of the segment's first frame.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// LSN of the next frame.
    pub(crate) fn position(&self) -> u64 {
        self.next
    }

    /// Lets it go on up to `end`; the file may have grown.
    pub(crate) fn extend(&mut self, end: u64) -> Result<()> {
        self.file_len = self.file.len().map_err(|e| WalError::io("read", &self.path, e))?;
        self.end = end;
        let offset = self.offset_of(self.next);
        let room = self.limit().saturating_sub(offset);
        let wanted = usize::try_from(room).unwrap_or(BLOCK).min(BLOCK);
        if self.block.bytes().len() < wanted {
            let kept = if offset >= self.start { self.loaded(offset, usize::MAX).len() } else { 0 };
            let from = self.filled.saturating_sub(kept);
            self.filled = 0;
            self.block.renew(from..from.saturating_add(kept), wanted)?;
            (self.start, self.filled) = (offset, kept);
        }
        Ok(())
    }

    /// The body of the last frame, padding excluded; empty for pads.
    #[inline]
    pub(crate) fn body(&self) -> Body<'_> {
        let Range { start, end } = self.padded;
        self.block.lend(start..start.saturating_add(self.len).min(end))
    }

    /// The body of the last frame with its padding; empty for pads.
    pub(crate) fn padded_body(&self) -> &[u8] {
        self.block.bytes().get(self.padded.clone()).unwrap_or_default()
    }

    /// What the last frame's body begins with, if it is a pad that is sealed.
    pub(crate) fn pad_tag(&self) -> &[u8] {
        self.pad_tag.as_ref().map_or(&[], |tag| &tag[..])
    }

    /// The file it reads.
    pub(crate) fn file(&self) -> &F {
        &self.file
    }

    /// Gives the file back.
    pub(crate) fn into_file(self) -> F {
        self.file
    }

    /// The next frame.
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Step> {
        self.padded = 0..0;
        self.len = 0;
        self.pad_tag = None;
        let lsn = self.next;
        if lsn >= self.end {
            return Ok(Step::End);
        }
        let offset = self.offset_of(lsn);
        match self.check(lsn, offset)? {
            Ok(header) => {
                self.next = lsn.saturating_add(header.frame_bytes());
                Ok(Step::Frame { lsn, header })
            }
            Err(why) => Ok(Step::Invalid { lsn, why }),
        }
    }

    /// Checks the frame at `lsn` and makes its body the current one.
    #[inline]
    fn check(&mut self, lsn: u64, offset: u64) -> Result<Result<Header, &'static str>> {
        if !self.load(offset, HEADER_BYTES)? {
            return Ok(Err("no room for a frame"));
        }
        let bytes = self.loaded(offset, HEADER_BYTES);
        let Some(header) = frame::decode_header(self.seed, lsn, bytes) else {
            return Ok(Err("no valid frame header"));
        };
        if !frame::length_fits(&header, self.end.saturating_sub(lsn), self.max_record) {
            return Ok(Err("a frame crosses the end of its segment"));
        }
        let body = offset.saturating_add(HEADER);
        let padded = header.padded_bytes();
        if body.saturating_add(padded) > self.file_len {
            return Ok(Err("the file ends inside a frame"));
        }
        let Ok(bytes) = usize::try_from(padded) else { return Err(WalError::OutOfMemory) };
        let block_len = self.block.bytes().len();
        let matches = if header.kind == Kind::Pad && bytes > block_len {
            self.filled = 0;
            let piece = &mut *self.block.renew(0..0, block_len)?;
            body_matches(&self.file, &self.path, body, &header, piece)?
        } else if self.load(body, bytes)? {
            header.body_matches(self.loaded(body, bytes))
        } else {
            return Ok(Err("the file ends inside a frame"));
        };
        if !matches {
            return Ok(Err("a frame's body does not match its checksum"));
        }
        if header.kind == Kind::Record {
            let start = usize::try_from(body.saturating_sub(self.start)).unwrap_or(usize::MAX);
            self.padded = start..start.saturating_add(bytes);
            self.len = usize::try_from(header.len).unwrap_or(usize::MAX);
        } else if header.is_sealed() && header.padded_bytes() >= to_u64(TAG_BYTES) {
            let mut tag = [0; TAG_BYTES];
            read_full(&self.file, &self.path, body, &mut tag)?;
            self.pad_tag = Some(tag);
        }
        Ok(Ok(header))
    }

    #[inline]
    fn offset_of(&self, lsn: u64) -> u64 {
        lsn.saturating_sub(self.base).saturating_add(FIRST_FRAME)
    }

    /// File offset that nothing is read beyond.
    #[inline]
    fn limit(&self) -> u64 {
        self.offset_of(self.end).min(self.file_len)
    }

    /// Bytes of the block at a file offset; shorter than asked when they are not loaded.
    #[inline]
    fn loaded(&self, offset: u64, bytes: usize) -> &[u8] {
        let from = usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let to = from.saturating_add(bytes).min(self.filled);
        self.block.bytes().get(from..to).unwrap_or_default()
    }

    /// Makes `bytes` bytes at `offset` available; false when the file or the segment ends before.
    #[inline]
    fn load(&mut self, offset: u64, bytes: usize) -> Result<bool> {
        let kept = self.loaded(offset, usize::MAX).len();
        if offset >= self.start && kept >= bytes {
            return Ok(true);
        }
        self.read(offset, bytes, kept)
    }

    /// Reads on, so that `bytes` bytes at `offset` are there, of which `kept` may be.
    #[cold]
    fn read(&mut self, offset: u64, bytes: usize, kept: usize) -> Result<bool> {
        let room = usize::try_from(self.limit().saturating_sub(offset)).unwrap_or(usize::MAX);
        if room < bytes {
            return Ok(false);
        }
        let from = self.filled.saturating_sub(kept);
        let kept = if offset >= self.start { kept } else { 0 };
        self.start = offset;
        self.filled = 0;
        let block = &mut *self.block.renew(from..from.saturating_add(kept), bytes)?;
        self.filled = kept;
        let wanted = room.min(block.len());
        let target = block.get_mut(kept..wanted).unwrap_or_default();
        let at = offset.saturating_add(to_u64(kept));
        self.filled = kept.saturating_add(read_full(&self.file, &self.path, at, target)?);
        Ok(self.filled >= bytes)
    }
}

/// Reads until `target` is full or the file ends; returns how many bytes were read.
pub(crate) fn read_full<F: StoreFile>(
    file: &F,
    path: &Path,
    offset: u64,
    target: &mut [u8],
) -> Result<usize> {
    store::read_full(file, offset, target).map_err(|e| WalError::io("read", path, e))
}

/// Checks a body in the file piece by piece, through a buffer of any size.
pub(crate) fn body_matches<F: StoreFile>(
    file: &F,
    path: &Path,
    offset: u64,
    header: &Header,
    buffer: &mut [u8],
) -> Result<bool> {
    let (mut at, mut left, mut crc) = (offset, header.padded_bytes(), 0);
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(target) = buffer.get_mut(..piece).filter(|piece| !piece.is_empty()) else {
            return Err(WalError::OutOfMemory);
        };
        if read_full(file, path, at, target)? < piece {
            return Ok(false);
        }
        crc = checksum::append(crc, target);
        at = at.saturating_add(to_u64(piece));
        left = left.saturating_sub(to_u64(piece));
    }
    Ok(crc == header.body_crc)
}

/// A length in memory as a length in a file.
pub(crate) fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
