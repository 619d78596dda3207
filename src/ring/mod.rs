//! The ring: reserving byte ranges, filling them, and knowing which are complete.
//!
//! Moves two of the five watermarks, `reserved` and `published`, and holds `written`, below which
//! ring bytes may be reused. It never does I/O, never takes a lock, and never waits while a
//! reservation is open.
//!
//! An append is: *claim* an in-flight slot; *admit*, that is check that the ring has room for
//! this and every other claim; *reserve* by one `fetch_add` on the tail; *fill*; *publish* by
//! freeing the slot.
//!
//! * I1. With S slots, units of at most M bytes and a ring of R bytes, a claim is admitted only if
//!   `tail + S*M <= written + R`. Between the latest admission among the reservations before mine
//!   and my own reservation each slot adds at most one unit, so mine ends at most at
//!   `written + R`: a reservation never waits and never overwrites bytes that are not written.
//! * I2. `published` is computed by one thread at a time: the tail first, then the slots. A
//!   reservation below that tail has a claim that the scan sees, or is complete.
//! * I3. Flagged reservations cover no bytes; see `tail`.

mod buffer;
mod slots;
mod tail;

use std::cell::Cell;

use crate::lsn::LSN_LIMIT;
use crate::sync::{AtomicU64, CachePadded, Ordering};

use buffer::{Buffer, Claim, Readable};
use slots::Slots;
use tail::Tail;

pub(crate) use slots::Appended;
#[cfg(all(loom, feature = "loom"))]
pub use tail::TailModel;
pub(crate) use tail::{CLOSED, PAUSED, POISONED};

/// The smallest unit that the ring must be able to take.
const MIN_UNIT: usize = 1 << 10;

/// Why a reservation was not made. Nothing was reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// All slots are taken for the moment.
    Busy,
    /// The ring has no room before `written` moves.
    Full,
    /// These flags are up.
    Flagged(u64),
    /// The LSN space is used up.
    Exhausted,
}

#[derive(Debug)]
pub(crate) struct Ring {
    tail: Tail,
    slots: Slots,
    /// Moved by the write stage alone, under its lock.
    written: CachePadded<AtomicU64>,
    buffer: Buffer,
    /// S*M: what all slots together may add.
    margin: u64,
    max_unit: u64,
}

impl Ring {
    /// How many slots a ring of `bytes` gets on a machine with `cores` cores: enough for every
    /// running thread, few enough that the largest unit is at least 1 KiB.
    pub(crate) fn slots_for(cores: usize, bytes: usize) -> usize {
        (cores * 4).next_power_of_two().clamp(16, 256).min((bytes / (2 * MIN_UNIT)).max(1))
    }

    /// A ring of `bytes`, a power of two, with `slots` slots, for a log that goes on at `lsn`;
    /// `None` without memory.
    pub(crate) fn new(bytes: usize, slots: usize, lsn: u64) -> Option<Self> {
        let buffer = Buffer::new(bytes)?;
        let margin = buffer.capacity() / 2;
        let slots = Slots::new(slots);
        let max_unit = (margin / slots.count() as u64) & !7;
        Some(Self {
            tail: Tail::new(lsn),
            slots,
            written: CachePadded::new(AtomicU64::new(lsn)),
            buffer,
            margin,
            max_unit,
        })
    }

    /// The same ring, unused as yet, for a log that goes on at `lsn`.
    pub(crate) fn going_on_at(self, lsn: u64) -> Self {
        Self { tail: Tail::new(lsn), written: CachePadded::new(AtomicU64::new(lsn)), ..self }
    }

    /// The largest unit the ring takes, in encoded bytes.
    #[inline]
    pub(crate) fn max_unit(&self) -> u64 {
        self.max_unit
    }

    /// Claims, admits and reserves `bytes`, a multiple of 8 of at most `max_unit`.
    #[inline]
    pub(crate) fn reserve(
        &self,
        bytes: u64,
        hint: &Cell<usize>,
    ) -> Result<Reservation<'_>, Refusal> {
        debug_assert!(bytes <= self.max_unit && bytes.is_multiple_of(8));
        let slot = self.slots.claim(hint).ok_or(Refusal::Busy)?;
        if let Err(refusal) = self.admit() {
            self.slots.free(slot);
            return Err(refusal);
        }
        let word = self.tail.reserve(bytes);
        if word.flags() != 0 {
            self.slots.free(slot);
            return Err(Refusal::Flagged(word.flags()));
        }
        self.slots.start(slot, word.lsn());
        Ok(Reservation { ring: self, slot, claim: Claim::new(word.lsn(), bytes) })
    }

    /// Whether a claim may reserve (I1).
    #[inline]
    pub(crate) fn admit(&self) -> Result<(), Refusal> {
        let tail = self.tail.load();
        if tail.flags() != 0 {
            return Err(Refusal::Flagged(tail.flags()));
        }
        if tail.lsn() >= LSN_LIMIT - self.margin {
            return Err(Refusal::Exhausted);
        }
        if tail.lsn() + self.margin > self.written() + self.buffer.capacity() {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn written(&self) -> u64 {
        // ORDERING: Acquire; pairs with `set_written`: an appender that may reuse ring bytes must
        // come after the write that read them.
        self.written.load(Ordering::Acquire)
    }

    /// Every byte below `lsn` is with the operating system. Under the write-stage lock.
    pub(crate) fn set_written(&self, lsn: u64) {
        // ORDERING: Release; pairs with `written`. Without it an appender overwrites ring bytes
        // that the write stage still reads.
        self.written.store(lsn, Ordering::Release);
    }

    /// Where the log ends: exclusive end of everything reserved.
    pub(crate) fn end(&self) -> Option<u64> {
        self.tail.end()
    }

    /// Every byte in `[written, published)` is complete. Under the write-stage lock (I2).
    pub(crate) fn published(&self) -> u64 {
        let written = self.written();
        let frontier = self.tail.end().and_then(|end| self.slots.frontier(end));
        frontier.map_or(written, |frontier| frontier.max(written))
    }

    /// Lends the bytes of a published range that is not written yet, in two parts where the ring
    /// wraps. Under the write-stage lock; `start` is at least `written`.
    pub(crate) fn lend<T>(&self, start: u64, end: u64, f: impl FnOnce([&[u8]; 2]) -> T) -> T {
        let range = Readable::new(start, end);
        f(self.buffer.read(&range))
    }

    /// The flags that are up.
    pub(crate) fn flags(&self) -> u64 {
        self.tail.load().flags()
    }

    /// Has every later append see what this thread has stored, and this thread every earlier one.
    pub(crate) fn meet_appends(&self) {
        self.tail.meet();
    }

    /// Raises CLOSED or POISONED.
    pub(crate) fn raise(&self, flag: u64) {
        self.tail.raise(flag);
    }

    /// Raises PAUSED and returns where the log is frozen, or the flags that forbid it.
    pub(crate) fn pause(&self) -> Result<u64, u64> {
        self.tail.pause()
    }

    /// Ends a pause; the log goes on at `at`, which `written` has reached or which was frozen.
    pub(crate) fn reopen(&self, at: u64) {
        self.tail.reopen(at);
    }

    /// Forgets what was appended at `at` and behind it. Under the write-stage lock, in a pause,
    /// with no reservation open; the caller reopens the log at `at`.
    pub(crate) fn cut(&self, at: u64) {
        self.set_written(at);
        self.slots.forget_records();
    }

    pub(crate) fn appended(&self) -> Appended {
        self.slots.appended()
    }
}

/// An open reservation: bytes of the ring that this thread alone may fill. Dropping it publishes
/// them, filled or not; the caller fills it on every path.
#[derive(Debug)]
pub(crate) struct Reservation<'a> {
    ring: &'a Ring,
    slot: usize,
    claim: Claim,
}

impl Reservation<'_> {
    #[inline]
    pub(crate) fn start(&self) -> u64 {
        self.claim.start()
    }

    pub(crate) fn len(&self) -> u64 {
        self.claim.len()
    }

    /// Copies `bytes` into the ring, at an offset in the reservation.
    #[inline]
    pub(crate) fn fill(&mut self, at: u64, bytes: &[u8]) {
        self.ring.buffer.write(&mut self.claim, at, bytes);
    }

    /// Counts `records` appended by this reservation, the last of them at `last`.
    #[inline]
    pub(crate) fn count(&self, records: u64, last: u64) {
        self.ring.slots.count_append(self.slot, records, self.claim.len(), last);
    }
}

impl Drop for Reservation<'_> {
    #[inline]
    fn drop(&mut self) {
        self.ring.slots.free(self.slot);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn slots_leave_room_for_units_of_at_least_one_kibibyte() {
        assert_eq!(Ring::slots_for(2, 64 << 10), 16);
        assert_eq!(Ring::slots_for(64, 64 << 10), 32);
        assert_eq!(Ring::slots_for(64, 16 << 20), 256);
        for cores in [1, 2, 16, 64] {
            let slots = Ring::slots_for(cores, 64 << 10);
            assert!(Ring::new(64 << 10, slots, 0).unwrap().max_unit() >= 1 << 10);
        }
    }

    #[test]
    fn a_full_ring_refuses_before_it_reserves() {
        let ring = Ring::new(256, 2, 0).unwrap();
        let hint = Cell::new(0);
        let mut reserved = 0;
        while let Ok(mut reservation) = ring.reserve(64, &hint) {
            reservation.fill(0, &[1; 64]);
            reserved += 64;
        }
        assert_eq!(ring.reserve(64, &hint).unwrap_err(), Refusal::Full);
        assert_eq!((ring.end(), ring.published()), (Some(reserved), reserved));
        ring.set_written(reserved);
        assert_eq!(ring.reserve(64, &hint).unwrap().start(), reserved);
    }

    #[test]
    fn the_lsn_space_ends_before_it_wraps() {
        let ring = Ring::new(256, 2, LSN_LIMIT - 64).unwrap();
        assert_eq!(ring.reserve(8, &Cell::new(0)).unwrap_err(), Refusal::Exhausted);
    }
}
