//! Reading on behind the first invalid frame, for witnesses and evidence.
//!
//! Valid frames there are what the page cache wrote out of order. Their watermarks say how far
//! the log was durable, and how far they reach tells tearing from damage. Every aligned position
//! is tried; the checksum of a header binds its LSN, so copies of frames elsewhere do not count.
//!
//! The work on bodies is bounded by a budget: headers that promise bodies which do not match
//! could otherwise make it quadratic.

use std::path::PathBuf;

use crate::error::{Result, WalError};
use crate::format::frame::{self, HEADER, HEADER_BYTES, Header, Seed};
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::lsn::{ALIGNMENT, Lsn};
use crate::scan::{BLOCK, body_matches, read_full, to_u64};
use crate::store::StoreFile;

/// Granted once, on top of four times the bytes that are read.
const BUDGET_BYTES: u64 = 64 << 20;
/// Bodies longer than what is loaded are checked through a buffer of this size.
const PIECE: usize = 64 << 10;
/// `ALIGNMENT` in memory.
const STRIDE: usize = 8;

/// What lies behind the first invalid frame.
#[derive(Debug)]
pub(super) struct Behind {
    /// The highest watermark of a valid frame.
    pub(super) watermark: u64,
    /// The highest end of a valid frame.
    pub(super) evidence_end: u64,
    /// End of the last word that is not zero.
    pub(super) dirt_end: u64,
    budget: u64,
    block: Vec<u8>,
    piece: Vec<u8>,
}

/// The part of one segment file that is searched.
struct Region<'a, F> {
    file: &'a F,
    path: PathBuf,
    header: SegmentHeader,
    seed: Seed,
    /// Exclusive end, in the log.
    limit: u64,
}

impl Behind {
    pub(super) fn new() -> Self {
        let (block, piece) = (Vec::new(), Vec::new());
        Self { watermark: 0, evidence_end: 0, dirt_end: 0, budget: BUDGET_BYTES, block, piece }
    }

    /// Searches `[from, limit)` of a segment.
    pub(super) fn search<F: StoreFile>(
        &mut self,
        file: &F,
        path: PathBuf,
        header: &SegmentHeader,
        from: u64,
        limit: u64,
    ) -> Result<()> {
        let region = Region { file, path, header: *header, seed: header.seed(), limit };
        let room = limit.saturating_sub(from);
        self.budget = self.budget.saturating_add(room.saturating_mul(4));
        let wanted = usize::try_from(room).unwrap_or(BLOCK).min(BLOCK);
        reserve(&mut self.block, wanted)?;
        let mut at = from;
        while at < limit {
            let offset = at.saturating_sub(header.base).saturating_add(FIRST_FRAME);
            let room = usize::try_from(limit.saturating_sub(at)).unwrap_or(usize::MAX);
            let mut block = std::mem::take(&mut self.block);
            let target = block.get_mut(..room.min(wanted)).unwrap_or_default();
            let read = read_full(file, &region.path, offset, target)?;
            let next = self.block(&region, at, block.get(..read).unwrap_or_default());
            self.block = block;
            let next = next?;
            if read == 0 || next <= at {
                break;
            }
            at = next;
        }
        Ok(())
    }

    /// Searches one block that begins at `at`; returns where to go on.
    fn block<F: StoreFile>(
        &mut self,
        region: &Region<'_, F>,
        at: u64,
        block: &[u8],
    ) -> Result<u64> {
        if let Some(last) = block.iter().rposition(|byte| *byte != 0) {
            let end = at.saturating_add(to_u64(last).saturating_add(1));
            self.dirt_end = self.dirt_end.max(end.next_multiple_of(ALIGNMENT));
        } else {
            // Zeros are no frame, but a header may begin in the last word and go on behind it.
            return Ok(at.saturating_add(to_u64(block.len().saturating_sub(STRIDE)).max(ALIGNMENT)));
        }
        let mut index = 0_usize;
        while let Some(bytes) = block.get(index..).filter(|rest| rest.len() >= HEADER_BYTES) {
            let lsn = at.saturating_add(to_u64(index));
            index = match self.candidate(region, lsn, bytes)? {
                Some(frame_bytes) => match usize::try_from(frame_bytes) {
                    Ok(frame_bytes) => index.saturating_add(frame_bytes),
                    Err(_) => return Ok(lsn.saturating_add(frame_bytes)),
                },
                None => index.saturating_add(STRIDE),
            };
        }
        // Fewer than 16 bytes left are looked at again with what follows them, if anything does.
        Ok(at.saturating_add(to_u64(index)))
    }

    /// Checks for a valid frame at `lsn`; returns its length.
    fn candidate<F: StoreFile>(
        &mut self,
        region: &Region<'_, F>,
        lsn: u64,
        bytes: &[u8],
    ) -> Result<Option<u64>> {
        // PERF: most positions are told by this one byte; it is no kind in five of six cases.
        if bytes.get(12).is_none_or(|kind| kind & 0x0F == 0) {
            return Ok(None);
        }
        let Some(header) = frame::decode_header(region.seed, lsn, bytes) else {
            return Ok(None);
        };
        let room = region.limit.saturating_sub(lsn);
        if !frame::length_fits(&header, room, region.header.max_record) {
            return Ok(None);
        }
        let padded = header.padded_bytes();
        if padded > self.budget {
            let path = region.path.clone();
            let offset = lsn.saturating_sub(region.header.base).saturating_add(FIRST_FRAME);
            let why = "too many candidate frames behind the end";
            let (start, end) = (Lsn::new(lsn), Lsn::new(region.limit));
            return Err(WalError::Corruption { path, offset, start, end, why });
        }
        self.budget = self.budget.saturating_sub(padded);
        if !self.matches(region, lsn, &header, bytes)? {
            return Ok(None);
        }
        self.watermark = self.watermark.max(header.watermark.unwrap_or(0));
        let end = lsn.saturating_add(header.frame_bytes());
        self.evidence_end = self.evidence_end.max(end);
        self.dirt_end = self.dirt_end.max(end);
        Ok(Some(header.frame_bytes()))
    }

    fn matches<F: StoreFile>(
        &mut self,
        region: &Region<'_, F>,
        lsn: u64,
        header: &Header,
        bytes: &[u8],
    ) -> Result<bool> {
        let end = usize::try_from(header.frame_bytes()).unwrap_or(usize::MAX);
        if let Some(body) = bytes.get(HEADER_BYTES..end) {
            return Ok(header.body_matches(body));
        }
        reserve(&mut self.piece, PIECE)?;
        let offset = lsn.saturating_sub(region.header.base).saturating_add(FIRST_FRAME);
        let body = offset.saturating_add(HEADER);
        body_matches(region.file, &region.path, body, header, &mut self.piece)
    }
}

fn reserve(buffer: &mut Vec<u8>, bytes: usize) -> Result<()> {
    let more = bytes.saturating_sub(buffer.len());
    buffer.try_reserve_exact(more).map_err(|_| WalError::OutOfMemory)?;
    buffer.resize(bytes.max(buffer.len()), 0);
    Ok(())
}
