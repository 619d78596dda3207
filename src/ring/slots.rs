//! In-flight slots: which reservations are still being copied.
//!
//! A slot is free, claimed by an appender that does not know its start yet, or holds the start of
//! its reservation. An appender claims one before it reserves and frees it when its bytes are in
//! the ring. The frontier is the smallest start in any slot. After ERMIA's per-thread LSN words
//! and PostgreSQL's `insertingAt`.

use std::cell::Cell;

use crate::sync::{AtomicU64, CachePadded, Counter, MODEL, Ordering};

const FREE: u64 = u64::MAX;
/// Odd, so that it is no LSN.
const CLAIMED: u64 = 1;

/// How often a scan re-reads a slot that is claimed without a start before it gives up.
const REREADS: usize = if MODEL { 1 } else { 64 };

#[derive(Debug)]
struct Slot {
    state: AtomicU64,
    /// Statistics of the appends made through this slot; written by its owner alone.
    appends: Counter,
    bytes: Counter,
    last_record: Counter,
}

#[derive(Debug)]
pub(super) struct Slots {
    slots: Box<[CachePadded<Slot>]>,
}

/// Totals over all slots.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Appended {
    pub(crate) appends: u64,
    pub(crate) bytes: u64,
    /// LSN of the last record, plus one; 0: none.
    pub(crate) last_record: u64,
}

impl Slots {
    /// INVARIANT: `count` is a power of two.
    pub(super) fn new(count: usize) -> Self {
        debug_assert!(count.is_power_of_two());
        let slot = || Slot {
            state: AtomicU64::new(FREE),
            appends: Counter::default(),
            bytes: Counter::default(),
            last_record: Counter::default(),
        };
        Self { slots: (0..count).map(|_| CachePadded::new(slot())).collect() }
    }

    pub(super) fn count(&self) -> usize {
        self.slots.len()
    }

    /// Claims a slot, beginning at the one this thread used last; `None` when all are taken.
    #[inline]
    pub(super) fn claim(&self, hint: &Cell<usize>) -> Option<usize> {
        let count = self.slots.len();
        let first = hint.get();
        for step in 0..count {
            let index = (first + step) & (count - 1);
            // ORDERING: AcqRel; Acquire takes over the previous owner's bytes, which a frontier
            // that sees this claim instead of the free slot relies on; Release lets the frontier
            // acquire them through this value. Relaxed on failure: nothing is learned.
            let claimed = self.slots[index].state.compare_exchange(
                FREE,
                CLAIMED,
                Ordering::AcqRel,
                Ordering::Relaxed,
            );
            if claimed.is_ok() {
                hint.set(index);
                return Some(index);
            }
        }
        None
    }

    /// States where the reservation of a claimed slot starts.
    #[inline]
    pub(super) fn start(&self, index: usize, lsn: u64) {
        // ORDERING: Release; a frontier that reads this value instead of the previous owner's
        // FREE must still see that owner's bytes.
        self.slots[index].state.store(lsn, Ordering::Release);
    }

    /// Counts one append, by the slot's owner.
    #[inline]
    pub(super) fn count_append(&self, index: usize, records: u64, bytes: u64, last_record: u64) {
        let slot = &self.slots[index];
        slot.appends.set(slot.appends.get() + records);
        slot.bytes.set(slot.bytes.get() + bytes);
        slot.last_record.set(last_record + 1);
    }

    #[inline]
    pub(super) fn free(&self, index: usize) {
        // ORDERING: Release; pairs with the frontier's scan. Without it the write stage reads
        // bytes of this reservation before they are copied.
        self.slots[index].state.store(FREE, Ordering::Release);
    }

    /// The smallest start in any slot, `bound` if that is smaller; `None` when some slot stays
    /// claimed without a start.
    pub(super) fn frontier(&self, bound: u64) -> Option<u64> {
        let mut frontier = bound;
        for slot in &self.slots {
            match Self::settled(slot)? {
                FREE => {}
                start => frontier = frontier.min(start),
            }
        }
        Some(frontier)
    }

    fn settled(slot: &Slot) -> Option<u64> {
        for _ in 0..REREADS {
            // ORDERING: Acquire; pairs with `free`, `start` and `claim`.
            let state = slot.state.load(Ordering::Acquire);
            if state != CLAIMED {
                return Some(state);
            }
            std::hint::spin_loop();
        }
        None
    }

    /// Forgets where the last record was; nobody owns a slot.
    pub(super) fn forget_records(&self) {
        self.slots.iter().for_each(|slot| slot.last_record.set(0));
    }

    pub(super) fn appended(&self) -> Appended {
        self.slots.iter().fold(Appended::default(), |sum, slot| Appended {
            appends: sum.appends + slot.appends.get(),
            bytes: sum.bytes + slot.bytes.get(),
            last_record: sum.last_record.max(slot.last_record.get()),
        })
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_claim_without_a_start_stops_the_frontier() {
        let slots = Slots::new(2);
        let hint = Cell::new(0);
        let index = slots.claim(&hint).unwrap();
        assert_eq!(slots.frontier(100), None);
        slots.start(index, 64);
        assert_eq!(slots.frontier(100), Some(64));
        slots.free(index);
        assert_eq!(slots.frontier(100), Some(100));
    }

    #[test]
    fn claims_go_on_to_other_slots_until_all_are_taken() {
        let slots = Slots::new(2);
        let hint = Cell::new(7);
        assert!(slots.claim(&hint).is_some() && slots.claim(&hint).is_some());
        assert!(slots.claim(&hint).is_none());
    }
}
