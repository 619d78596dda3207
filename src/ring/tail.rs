//! The tail word: `reserved` in the high bits, three flags in the low ones.
//!
//! Changed by read-modify-writes only, so that every load that acquires it also acquires every
//! earlier reservation. While any flag is up the log ends at `frozen_end`: what was reserved past
//! it is void and covers no bytes. Who raises the first flag learns where the log
//! is frozen and publishes it; until then readers make no progress.

use crate::sync::{AtomicU64, CachePadded, Ordering, Probe};

/// The log takes no more appends.
pub(crate) const CLOSED: u64 = 1;
/// A write or sync failed for good.
pub(crate) const POISONED: u64 = 2;
/// A large unit is being written around the ring.
pub(crate) const PAUSED: u64 = 4;
const FLAGS: u64 = CLOSED | POISONED | PAUSED;

/// `frozen_end` while no flag is up, or before the first one has published it.
const UNPUBLISHED: u64 = u64::MAX;

/// A value of the tail word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Word(u64);

impl Word {
    pub(crate) fn lsn(self) -> u64 {
        self.0 & !FLAGS
    }

    pub(crate) fn flags(self) -> u64 {
        self.0 & FLAGS
    }
}

#[derive(Debug)]
pub(super) struct Tail {
    word: CachePadded<AtomicU64>,
    frozen_end: CachePadded<AtomicU64>,
    /// Touched beside every modification, and beside the loads that decide where the log ends.
    probe: Probe,
}

impl Tail {
    pub(super) fn new(lsn: u64) -> Self {
        Self {
            word: CachePadded::new(AtomicU64::new(lsn)),
            frozen_end: CachePadded::new(AtomicU64::new(UNPUBLISHED)),
            probe: Probe::new(),
        }
    }

    #[inline]
    pub(super) fn load(&self) -> Word {
        // ORDERING: Acquire; pairs with every read-modify-write of the word. Admission that sees
        // a reopened tail must see the `written` stored before it, and the frontier must see the
        // claims of every reservation the value covers; without it the ring is overwritten or
        // unpublished bytes are written out.
        Word(self.word.load(Ordering::Acquire))
    }

    /// Reserves `bytes` at the end of the log; void when the returned word has a flag.
    #[inline]
    pub(super) fn reserve(&self, bytes: u64) -> Word {
        self.probe.touch();
        // ORDERING: AcqRel; Release makes the slot claim visible to a frontier that sees the new
        // tail, Acquire makes the `written` that admitted earlier reservations visible to this
        // one. Without either half a frontier skips this claim, or the ring is overwritten.
        Word(self.word.fetch_add(bytes, Ordering::AcqRel))
    }

    /// Makes every later reservation see what this thread has stored, and this thread see every
    /// earlier one.
    pub(super) fn meet(&self) {
        self.probe.touch();
        // ORDERING: AcqRel; pairs with every read-modify-write of the word. A load would leave it
        // open which came first, and a helper dozes on an append that does not wake it.
        self.word.fetch_add(0, Ordering::AcqRel);
    }

    /// Raises CLOSED or POISONED, and freezes the log if it is the first flag.
    pub(super) fn raise(&self, flag: u64) {
        self.probe.touch();
        // ORDERING: AcqRel; Release keeps the word's release sequence, Acquire orders the
        // publication of `frozen_end` after the reservations below it.
        let before = Word(self.word.fetch_or(flag, Ordering::AcqRel));
        if before.flags() == 0 {
            self.publish_frozen_end(before.lsn());
        }
    }

    /// Raises PAUSED on an unflagged tail and returns where the log is frozen; the flags that
    /// prevent it otherwise.
    pub(super) fn pause(&self) -> Result<u64, u64> {
        let mut seen = self.load();
        self.probe.touch();
        loop {
            if seen.flags() != 0 {
                return Err(seen.flags());
            }
            // ORDERING: AcqRel on success as in `raise`; Acquire on failure as in `load`.
            match self.word.compare_exchange_weak(
                seen.0,
                seen.0 | PAUSED,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => {
                    self.publish_frozen_end(seen.lsn());
                    return Ok(seen.lsn());
                }
                Err(now) => seen = Word(now),
            }
        }
    }

    /// Ends a pause: the log goes on at `at`. CLOSED and POISONED stay up, frozen at `at`.
    pub(super) fn reopen(&self, at: u64) {
        let mut seen = self.load();
        self.probe.touch();
        loop {
            let kept = seen.flags() & !PAUSED;
            let frozen = if kept == 0 { UNPUBLISHED } else { at };
            self.publish_frozen_end(frozen);
            // ORDERING: AcqRel; Release publishes `written` and `frozen_end`, stored before it,
            // to whoever reserves or reads next. Acquire on failure as in `load`.
            match self.word.compare_exchange_weak(
                seen.0,
                at | kept,
                Ordering::AcqRel,
                Ordering::Acquire,
            ) {
                Ok(_) => return,
                Err(now) => seen = Word(now),
            }
        }
    }

    /// Where the log ends; `None` while a flag is up whose end is not published yet.
    pub(super) fn end(&self) -> Option<u64> {
        self.probe.touch();
        let word = self.load();
        if word.flags() == 0 {
            return Some(word.lsn());
        }
        // ORDERING: Acquire; pairs with `publish_frozen_end`.
        let frozen = self.frozen_end.load(Ordering::Acquire);
        // The word says that a flag is up; where the log is frozen may be of a later pause
        // already, and is a true end all the same.
        (frozen != UNPUBLISHED).then_some(frozen)
    }

    fn publish_frozen_end(&self, end: u64) {
        // ORDERING: Release; pairs with the load in `end`, so that a reader of the frozen end
        // sees the reservations below it.
        self.frozen_end.store(end, Ordering::Release);
    }
}

/// The tail by itself, for the models in `loom-tests/`.
#[cfg(all(loom, feature = "loom"))]
#[derive(Debug)]
pub struct TailModel(Tail);

#[cfg(all(loom, feature = "loom"))]
#[allow(missing_docs, clippy::must_use_candidate, reason = "not part of the library")]
impl TailModel {
    pub fn new(lsn: u64) -> Self {
        Self(Tail::new(lsn))
    }

    pub fn reserve(&self, bytes: u64) {
        self.0.reserve(bytes);
    }

    /// Pauses an unflagged tail.
    pub fn pause(&self) -> Option<u64> {
        self.0.pause().ok()
    }

    pub fn reopen(&self, at: u64) {
        self.0.reopen(at);
    }

    pub fn end(&self) -> Option<u64> {
        self.0.end()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn void_reservations_cover_no_bytes() {
        let tail = Tail::new(64);
        assert_eq!(tail.reserve(16).lsn(), 64);
        tail.raise(CLOSED);
        assert_eq!(tail.reserve(16).flags(), CLOSED);
        assert_eq!(tail.end(), Some(80));
    }

    #[test]
    fn reopening_clears_the_pause_alone() {
        let tail = Tail::new(64);
        assert_eq!(tail.pause(), Ok(64));
        assert_eq!(tail.pause(), Err(PAUSED));
        assert_eq!(tail.reserve(24).flags(), PAUSED);
        tail.raise(POISONED);
        tail.reopen(128);
        assert_eq!((tail.load().lsn(), tail.load().flags()), (128, POISONED));
        assert_eq!(tail.end(), Some(128));

        let tail = Tail::new(0);
        assert_eq!(tail.pause(), Ok(0));
        tail.reopen(32);
        assert_eq!((tail.load().lsn(), tail.load().flags()), (32, 0));
        assert_eq!(tail.end(), Some(32));
    }
}
