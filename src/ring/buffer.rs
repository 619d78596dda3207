//! The bytes of the ring: the only `unsafe` code of the crate.
//!
//! Owns the memory that reservations are copied into and that the write stage hands to the
//! operating system. It must never hand out a reference to bytes that another thread may write.
//!
//! The safety argument is carried by two types that only `ring/` makes:
//!
//! * I1. A [`Claim`] owns its range: the tail's `fetch_add` hands every byte of the log to at most
//!   one claim, and admission keeps claims within one ring length of `written`.
//! * I2. A [`Readable`] range lies in `[written, published)`: its claims are gone, and no claim
//!   can be made for the same ring bytes before `written` passes them.

#![allow(unsafe_code, reason = "the byte ring is shared between threads that own disjoint ranges")]

use std::cell::UnsafeCell;

use crate::sync::AccessLog;

/// Exclusive ownership of the bytes `[start, start + len)` of the log, positions in bytes.
#[derive(Debug)]
pub(super) struct Claim {
    start: u64,
    len: u64,
}

impl Claim {
    /// INVARIANT: called once for each range that the tail handed out, after admission (I1).
    pub(super) fn new(start: u64, len: u64) -> Self {
        Self { start, len }
    }

    pub(super) fn start(&self) -> u64 {
        self.start
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }
}

/// A published range `[start, end)` of the log that stays unwritten to the operating system, and
/// so untouched, while this value lives.
#[derive(Debug)]
pub(super) struct Readable {
    start: u64,
    end: u64,
}

impl Readable {
    /// INVARIANT: made under the write-stage lock for a range within `[written, published)`, and
    /// dropped before `written` moves (I2).
    pub(super) fn new(start: u64, end: u64) -> Self {
        Self { start, end }
    }
}

/// A ring of bytes; the byte at position `p` of the log lives at `p` modulo the capacity.
#[derive(Debug)]
pub(super) struct Buffer {
    words: Box<[UnsafeCell<u64>]>,
    log: AccessLog,
}

// SAFETY: bytes are reached only through `write`, which needs the claim that owns them, and
// `read`, which needs a published range that no claim covers (I1, I2).
unsafe impl Sync for Buffer {}

const WORD: usize = size_of::<u64>();

impl Buffer {
    /// A zeroed ring of `capacity` bytes, a power of two; `None` without memory. Every page is
    /// touched here, so that appenders never fault one in.
    pub(super) fn new(capacity: usize) -> Option<Self> {
        let count = capacity / WORD;
        let mut words = Vec::new();
        words.try_reserve_exact(count).ok()?;
        words.resize_with(count, || UnsafeCell::new(0));
        Some(Self { words: words.into_boxed_slice(), log: AccessLog::new(count) })
    }

    pub(super) fn capacity(&self) -> u64 {
        self.bytes() as u64
    }

    fn bytes(&self) -> usize {
        self.words.len() * WORD
    }

    /// The ring offset of a position, and how many bytes follow before the ring wraps.
    #[expect(clippy::cast_possible_truncation, reason = "masked by the capacity, a usize")]
    fn locate(&self, position: u64) -> (usize, usize) {
        let offset = (position & (self.capacity() - 1)) as usize;
        (offset, self.bytes() - offset)
    }

    fn base(&self) -> *mut u8 {
        UnsafeCell::raw_get(self.words.as_ptr()).cast()
    }

    /// Copies `bytes` to `at`, an offset in a claim.
    ///
    /// # Panics
    /// When `bytes` reach beyond the claim, which the one caller rules out.
    #[inline]
    pub(super) fn write(&self, claim: &mut Claim, at: u64, bytes: &[u8]) {
        let fits = at <= claim.len && bytes.len() as u64 <= claim.len - at;
        assert!(fits, "a claim is filled with what it was made for");
        let (offset, room) = self.locate(claim.start + at);
        let (first, rest) = bytes.split_at(bytes.len().min(room));
        self.copy(offset, first);
        if !rest.is_empty() {
            self.copy(0, rest);
        }
    }

    #[inline]
    fn copy(&self, offset: usize, bytes: &[u8]) {
        debug_assert!(offset + bytes.len() <= self.bytes());
        self.log.write(offset / WORD..(offset + bytes.len()).div_ceil(WORD));
        // SAFETY: `offset` is inside the ring, so the pointer stays inside its allocation.
        let target = unsafe { self.base().add(offset) };
        // SAFETY: the caller splits `bytes` at the ring's end, so the range is inside the
        // allocation; it belongs to a claim that this thread holds (I1), so no other thread reads
        // or writes it, and it cannot overlap `bytes`, to which a shared reference exists.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
    }

    /// The bytes of a readable range, in two parts where the ring wraps.
    #[expect(clippy::cast_possible_truncation, reason = "bounded by the capacity, a usize")]
    pub(super) fn read<'a>(&'a self, range: &'a Readable) -> [&'a [u8]; 2] {
        debug_assert!(range.end - range.start <= self.capacity(), "within one ring (I2)");
        let len = (range.end - range.start).min(self.capacity()) as usize;
        let (offset, room) = self.locate(range.start);
        let first = len.min(room);
        [self.slice(offset, first), self.slice(0, len - first)]
    }

    fn slice(&self, offset: usize, len: usize) -> &[u8] {
        self.log.read(offset / WORD..(offset + len).div_ceil(WORD));
        // SAFETY: `offset` is inside the ring, so the pointer stays inside its allocation.
        let start = unsafe { self.base().add(offset).cast_const() };
        // SAFETY: the range is inside the allocation and initialised; it belongs to a `Readable`
        // that outlives the slice, so no thread writes it meanwhile (I2).
        unsafe { std::slice::from_raw_parts(start, len) }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_claim_across_the_ring_end_is_read_back_in_two_parts() {
        let buffer = Buffer::new(64).unwrap();
        let mut claim = Claim::new(56 + 640, 16);
        buffer.write(&mut claim, 0, &[7; 16]);
        assert_eq!((claim.start(), claim.len()), (696, 16));
        let range = Readable::new(696, 712);
        assert_eq!(buffer.read(&range), [&[7; 8][..], &[7; 8][..]]);
    }
}
