//! Units: one or more encoded frames that one reservation takes.
//!
//! A thread encodes into a buffer of its own, before it reserves anything: everything that can
//! fail, allocate or run user code happens here. What is left for the reservation is to seal the
//! headers, which binds each frame to its LSN, and to copy.

#[cfg(any(test, feature = "postcard"))]
mod body;

use std::cell::{Cell, RefCell};

use crate::checksum;
use crate::crypt::{Cipher, Place, TAG_BYTES};
use crate::error::{Result, WalError};
use crate::format::frame::{self, ENCRYPTED, HEADER_BYTES, Kind, Seed};
use crate::format::u32_at;
use crate::options::Form;
use crate::sync::{Counter, MODEL, thread_local};
#[cfg(any(test, feature = "postcard"))]
pub(crate) use body::Body;

/// A thread keeps its buffer between appends up to this capacity, in bytes.
const RETAINED_BYTES: usize = 256 << 10;
const ALIGNMENT_BYTES: usize = 8;

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
    let mut unit = Unit { bytes, records: 0, last: 0, sealed: false };
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

/// The shortest pad that there may be.
pub(crate) const LEAST_PAD: u64 = frame::HEADER + TAG_BYTES as u64;

/// Encoded frames with open headers.
#[derive(Debug)]
pub(crate) struct Unit {
    bytes: Vec<u8>,
    records: u64,
    /// Offset of the last record's frame.
    last: u64,
    /// Its bodies are to be sealed.
    sealed: bool,
}

impl Unit {
    /// Bytes of the whole unit, a multiple of 8.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    pub(crate) fn records(&self) -> u64 {
        self.records
    }

    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Offset of the last record's frame in the unit.
    pub(crate) fn last(&self) -> u64 {
        self.last
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Encodes one record from parts at the end of the unit. `more`: others follow in its batch.
    pub(crate) fn push(&mut self, parts: &[&[u8]], more: bool, form: Form) -> Result<()> {
        let len: u64 = parts.iter().map(|part| part.len() as u64).sum();
        if u32::try_from(len).ok().is_none_or(|len| len > form.max_record) {
            return Err(WalError::RecordTooLarge { len, max: form.max_record.into() });
        }
        let start = self.begin_frame(len, form)?;
        for part in parts {
            self.bytes.extend_from_slice(part);
        }
        self.end_frame(start, more, form)
    }

    /// The same with a payload that `write` makes, of a length that nobody knows before. A unit
    /// that this failed on is not appended.
    #[cfg(any(test, feature = "postcard"))]
    pub(crate) fn push_with(
        &mut self,
        more: bool,
        form: Form,
        write: impl FnOnce(&mut Body<'_>) -> Result<()>,
    ) -> Result<()> {
        let start = self.begin_frame(0, form)?;
        let mut body = Body::new(&mut self.bytes, form.max_record);
        write(&mut body)?;
        body.finish()?;
        self.end_frame(start, more, form)
    }

    /// Makes room for the frame of a payload of `len` bytes, and a place for its header; returns
    /// where.
    #[inline]
    fn begin_frame(&mut self, len: u64, form: Form) -> Result<usize> {
        let bytes = usize::try_from(form.frame_bytes(len)).map_err(|_| WalError::OutOfMemory)?;
        self.bytes.try_reserve(bytes).map_err(|_| WalError::OutOfMemory)?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; HEADER_BYTES]);
        Ok(start)
    }

    /// Makes a frame of what stands behind its place for a header, at `start`.
    #[inline]
    fn end_frame(&mut self, start: usize, more: bool, form: Form) -> Result<()> {
        let body = start + HEADER_BYTES;
        let mut flags = if more { frame::MORE } else { 0 };
        #[cfg(feature = "lz4")]
        if form.compressed && crate::compress::shorten(&mut self.bytes, body) {
            flags |= frame::COMPRESSED;
        }
        let tag = if form.sealed { TAG_BYTES } else { 0 };
        let len = self.bytes.len() - body + tag;
        let Ok(body_len) = u32::try_from(len) else { return Err(WalError::OutOfMemory) };
        let end = body + len.next_multiple_of(ALIGNMENT_BYTES);
        self.bytes.try_reserve(end - self.bytes.len()).map_err(|_| WalError::OutOfMemory)?;
        self.bytes.resize(end, 0);
        let body_crc = if form.sealed {
            // Known once it is sealed.
            flags |= ENCRYPTED;
            self.sealed = true;
            0
        } else {
            checksum::of(&self.bytes[body..])
        };
        let header = frame::open_header(Kind::Record, flags, body_len, body_crc);
        self.bytes[start..body].copy_from_slice(&header);
        self.records += 1;
        self.last = start as u64;
        Ok(())
    }

    /// Binds every frame to its place: the unit starts at `lsn`, and all below `durable` is
    /// durable. No allocation, no failure.
    #[inline]
    pub(crate) fn seal(&mut self, seed: Seed, cipher: Option<&Cipher>, lsn: u64, durable: u64) {
        if let Some(cipher) = cipher {
            self.seal_bodies(cipher, lsn);
        }
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

    /// Seals every body at its place. Once: what is sealed is not sealed again elsewhere.
    fn seal_bodies(&mut self, cipher: &Cipher, lsn: u64) {
        let mut offset = 0;
        while let Some((header, rest)) = self
            .bytes
            .get_mut(offset..)
            .and_then(|rest| rest.split_first_chunk_mut::<HEADER_BYTES>())
        {
            let len = frame_len(header);
            let body = &mut rest[..len - HEADER_BYTES];
            let crc = seal_body(cipher, lsn + offset as u64, header, body);
            header[8..12].copy_from_slice(&crc.to_le_bytes());
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
    frame::frame_bytes(u64::from(u32_at(header, 4))) as usize
}

/// Seals a body, padding included, that stands behind its open header and has room for its tag
/// behind what it says; returns its checksum.
pub(crate) fn seal_body(
    cipher: &Cipher,
    lsn: u64,
    header: &[u8; HEADER_BYTES],
    body: &mut [u8],
) -> u32 {
    let place = Place { number: lsn, len: u32_at(header, 4), kind: header[12] };
    let len = usize::try_from(place.len).unwrap_or(usize::MAX).min(body.len());
    let (plain, tag) = body[..len].split_at_mut(len.saturating_sub(TAG_BYTES));
    let sealed = cipher.seal(place, plain);
    tag.copy_from_slice(&sealed[..tag.len()]);
    checksum::of(body)
}

/// A sealed pad frame over `[lsn, lsn + len)`: a tag where there is a cipher, zeros, and then the
/// header, handed to `put` piece by piece with their offsets. `len` is at least that of a record
/// without a payload, and at most what a length field can say. No allocation.
pub(crate) fn write_pad<E>(
    (seed, cipher): (Seed, Option<&Cipher>),
    lsn: u64,
    len: u64,
    durable: Option<u64>,
    mut put: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let body = len.saturating_sub(frame::HEADER);
    let body_len = u32::try_from(body).unwrap_or(u32::MAX);
    let flags = if cipher.is_some() { ENCRYPTED } else { 0 };
    let mut header = frame::open_header(Kind::Pad, flags, body_len, 0);
    let place = Place { number: lsn, len: body_len, kind: header[12] };
    let sealed = cipher.map(|cipher| cipher.seal(place, &mut []));
    let (mut offset, mut crc) = (frame::HEADER, 0);
    let mut put_body = |piece: &[u8]| {
        put(offset, piece)?;
        crc = checksum::append(crc, piece);
        offset += piece.len() as u64;
        Ok(())
    };
    sealed.as_ref().map_or(Ok(()), |tag| put_body(tag))?;
    let tag_bytes = sealed.as_ref().map_or(0, |tag| tag.len() as u64);
    frame::zeros(body.saturating_sub(tag_bytes)).try_for_each(put_body)?;
    header[8..12].copy_from_slice(&crc.to_le_bytes());
    frame::seal_header(&mut header, seed, lsn, durable);
    put(0, &header)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_batch_seals_each_frame_at_its_own_lsn() {
        with_unit(|unit, _| {
            unit.push(&[b"ab", b"c"], true, Form::plain(100)).unwrap();
            unit.push(&[], false, Form::plain(100)).unwrap();
            let seed = Seed(9);
            unit.seal(seed, None, 80, 64);
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
            outer.push(&[b"outer"], false, Form::plain(100)).unwrap();
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
            let refused = unit.push(&[&[0; 9], &[0; 8]], false, Form::plain(16));
            assert!(matches!(refused, Err(WalError::RecordTooLarge { len: 17, max: 16 })));
            assert_eq!(unit.len(), 0);
        });
    }

    #[test]
    fn a_pad_is_a_valid_frame_of_zeros() {
        let mut bytes = vec![1; 10_000];
        write_pad((Seed(5), None), 800, 10_000, None, |offset, piece| {
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
