//! Units: one or more encoded frames that one reservation takes.
//!
//! A thread encodes into a buffer of its own, before it reserves anything: everything that can
//! fail, allocate or run user code happens here. What is left for the reservation is to seal the
//! headers, which binds each frame to its LSN, and to copy.

use std::cell::{Cell, RefCell};

use crate::checksum;
use crate::error::{Result, WalError};
use crate::format::frame::{self, HEADER_BYTES, Kind, Seed};
use crate::sync::{Counter, MODEL, thread_local};

/// A thread keeps its buffer between appends up to this capacity, in bytes.
const RETAINED_BYTES: usize = 256 << 10;

/// What a thread brings to every append.
struct Local {
    buffer: Cell<Vec<u8>>,
    /// The slot this thread used last.
    hint: Cell<usize>,
    /// Identities of the logs in whose stages this thread is, innermost last.
    stages: RefCell<Vec<usize>>,
}

thread_local! {
    static LOCAL: Local = Local {
        buffer: Cell::new(Vec::new()),
        hint: Cell::new(first_hint()),
        stages: RefCell::new(Vec::new()),
    };
}

/// Runs `f` on this thread's state; `None` where the thread is ending and has none any more, as
/// in the destructor of another thread-local. Everything works without it, only slower.
#[inline]
fn local<T>(f: impl FnOnce(&Local) -> T) -> Option<T> {
    LOCAL.try_with(f).ok()
}

/// Spreads threads over slots.
fn first_hint() -> usize {
    static THREADS: Counter = Counter::new();
    if MODEL { 0 } else { usize::try_from(THREADS.add(1)).unwrap_or(0) }
}

/// Runs `f` with this thread's slot hint and frame buffer. The buffer is taken out of
/// thread-local storage, so that re-entry gets a fresh one, and put back if small.
#[inline]
pub(crate) fn with_unit<T>(f: impl FnOnce(&mut Unit, &Cell<usize>) -> T) -> T {
    let taken = local(|local| (local.buffer.take(), local.hint.get()));
    let (bytes, hint) = taken.unwrap_or_default();
    let hint = Cell::new(hint);
    let mut unit = Unit { bytes, records: 0, last: 0 };
    unit.bytes.clear();
    let result = f(&mut unit, &hint);
    if unit.bytes.capacity() <= RETAINED_BYTES {
        local(|local| {
            local.hint.set(hint.get());
            local.buffer.set(unit.bytes);
        });
    }
    result
}

/// Whether this thread is inside a stage of the log with this identity.
#[inline]
pub(crate) fn in_stage(log: usize) -> bool {
    local(|local| local.stages.borrow().contains(&log)).unwrap_or(false)
}

/// Marks this thread as inside a stage while it lives.
pub(crate) struct StageMark;

impl StageMark {
    pub(crate) fn new(log: usize) -> Self {
        local(|local| local.stages.borrow_mut().push(log));
        Self
    }
}

impl Drop for StageMark {
    fn drop(&mut self) {
        local(|local| local.stages.borrow_mut().pop());
    }
}

/// Encoded frames with open headers.
#[derive(Debug)]
pub(crate) struct Unit {
    bytes: Vec<u8>,
    records: u64,
    /// Offset of the last record's frame.
    last: u64,
}

impl Unit {
    /// Bytes of the whole unit, a multiple of 8.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    /// Offset of the last record's frame in the unit.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Encodes one record from parts at the end of the unit. `more`: others follow in its batch.
    pub(crate) fn push(&mut self, parts: &[&[u8]], more: bool, max_record: u32) -> Result<()> {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let max = u64::from(max_record);
        let body_len = u32::try_from(len).ok().filter(|&len| len <= max_record);
        let body_len = body_len.ok_or(WalError::RecordTooLarge { len, max })?;
        let bytes = usize::try_from(frame::frame_bytes(len)).map_err(|_| WalError::OutOfMemory)?;
        self.bytes.try_reserve(bytes).map_err(|_| WalError::OutOfMemory)?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.bytes.resize(start + bytes, 0);
        let body_crc = checksum::of(&self.bytes[start + HEADER_BYTES..]);
        let flags = if more { frame::MORE } else { 0 };
        let header = frame::open_header(Kind::Record, flags, body_len, body_crc);
        self.bytes[start..start + HEADER_BYTES].copy_from_slice(&header);
        self.records += 1;
        self.last = start as u64;
        Ok(())
    }

    /// Binds every frame to its place: the unit starts at `lsn`, and all below `durable` is
    /// durable. No allocation, no failure.
    #[inline]
    pub(crate) fn seal(&mut self, seed: Seed, lsn: u64, durable: u64) {
        let mut offset = 0;
        while let Some(header) =
            self.bytes.get_mut(offset..).and_then(|rest| rest.first_chunk_mut::<HEADER_BYTES>())
        {
            // PERF: first; behind the seal this would wait for what that stores.
            let len = frame_len(header);
            frame::seal_header(header, seed, lsn + offset as u64, Some(durable));
            offset += len;
        }
    }

    /// Offsets of the frames, in order.
    pub(crate) fn offsets(&self) -> impl Iterator<Item = u64> + '_ {
        let mut offset = 0;
        std::iter::from_fn(move || {
            let header = self.bytes.get(offset..)?.first_chunk::<HEADER_BYTES>()?;
            let this = offset as u64;
            offset += frame_len(header);
            Some(this)
        })
    }
}

/// Bytes of the frame that this header of ours, in memory, begins.
#[inline]
#[expect(clippy::cast_possible_truncation, reason = "the frame is in memory")]
fn frame_len(header: &[u8; HEADER_BYTES]) -> usize {
    frame::frame_bytes(u64::from(crate::format::u32_at(header, 4))) as usize
}

/// A sealed pad frame over `[lsn, lsn + len)`: zeros and then the header, handed to `put` piece by
/// piece with their offsets. `len` is at least a header and at most what a length field can say.
/// No allocation.
pub(crate) fn write_pad<E>(
    seed: Seed,
    lsn: u64,
    len: u64,
    mut put: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let body = len.saturating_sub(frame::HEADER);
    let mut offset = frame::HEADER;
    for zeros in frame::zeros(body) {
        put(offset, zeros)?;
        offset += zeros.len() as u64;
    }
    let body_len = u32::try_from(body).unwrap_or(u32::MAX);
    let mut header = frame::open_header(Kind::Pad, 0, body_len, frame::crc_of_zeros(body));
    frame::seal_header(&mut header, seed, lsn, None);
    put(0, &header)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_batch_seals_each_frame_at_its_own_lsn() {
        with_unit(|unit, _| {
            unit.push(&[b"ab", b"c"], true, 100).unwrap();
            unit.push(&[], false, 100).unwrap();
            let seed = Seed(9);
            unit.seal(seed, 80, 64);
            assert_eq!(unit.offsets().collect::<Vec<_>>(), [0, 24]);
            assert_eq!((unit.len(), unit.records(), unit.last()), (40, 2, 24));
            let first = frame::decode_header(seed, 80, unit.bytes()).unwrap();
            assert!(first.more() && first.body_matches(&unit.bytes()[16..24]));
            assert_eq!(&unit.bytes()[16..24], b"abc\0\0\0\0\0");
            let second = frame::decode_header(seed, 104, &unit.bytes()[24..]).unwrap();
            assert!(!second.more() && second.watermark == Some(64));
        });
    }

    #[test]
    fn re_entry_gets_a_fresh_buffer() {
        with_unit(|outer, _| {
            outer.push(&[b"outer"], false, 100).unwrap();
            with_unit(|inner, _| assert_eq!(inner.len(), 0));
            assert_eq!(outer.len(), 24);
        });
    }

    #[test]
    fn a_thread_is_in_the_stages_of_every_log_it_went_through() {
        let outer = StageMark::new(1);
        let inner = StageMark::new(2);
        assert!(in_stage(1) && in_stage(2) && !in_stage(3));
        drop(inner);
        assert!(in_stage(1) && !in_stage(2));
        drop(outer);
        assert!(!in_stage(1));
    }

    #[test]
    fn an_over_large_record_is_refused_before_anything_is_encoded() {
        with_unit(|unit, _| {
            let refused = unit.push(&[&[0; 9], &[0; 8]], false, 16);
            assert!(matches!(refused, Err(WalError::RecordTooLarge { len: 17, max: 16 })));
            assert_eq!(unit.len(), 0);
        });
    }

    #[test]
    fn a_pad_is_a_valid_frame_of_zeros() {
        let mut bytes = vec![1; 10_000];
        write_pad(Seed(5), 800, 10_000, |offset, piece| {
            let start = usize::try_from(offset).unwrap();
            bytes[start..start + piece.len()].copy_from_slice(piece);
            Ok::<(), ()>(())
        })
        .unwrap();
        let header = frame::decode_header(Seed(5), 800, &bytes).unwrap();
        assert_eq!((header.kind, header.frame_bytes()), (Kind::Pad, 10_000));
        assert!(header.body_matches(&bytes[16..]));
    }
}
