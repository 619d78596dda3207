//! The protocol of `src/ring/`: in-flight slots. The frontier is the smallest start in any.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;

use crate::ring::{Protocol, Ring};

const FREE: usize = usize::MAX;
const CLAIMED: usize = usize::MAX - 1;
/// How often a scan re-reads a slot that is claimed without a start before it gives up.
const REREADS: usize = 64;

pub(crate) struct Slots<'a> {
    tail: CachePadded<AtomicUsize>,
    written: CachePadded<AtomicUsize>,
    slots: Box<[CachePadded<AtomicUsize>]>,
    /// Every thread has a slot of its own, its hint, and claims it by a store.
    owned: bool,
    ring: &'a Ring,
}

impl<'a> Slots<'a> {
    /// INVARIANT: `slots` is a power of two; records are at most `ring / (2 * slots)` long.
    pub(crate) fn new(ring: &'a Ring, slots: usize) -> Self {
        assert!(slots.is_power_of_two(), "hints are masked");
        Self {
            tail: CachePadded::default(),
            written: CachePadded::default(),
            slots: (0..slots).map(|_| CachePadded::new(AtomicUsize::new(FREE))).collect(),
            owned: false,
            ring,
        }
    }

    /// The same for threads whose hints differ: what does the exchange of a claim cost?
    pub(crate) fn owned(ring: &'a Ring, slots: usize) -> Self {
        Self { owned: true, ..Self::new(ring, slots) }
    }

    #[inline]
    fn claim(&self, hint: &Cell<usize>) -> Option<&AtomicUsize> {
        let first = hint.get();
        if self.owned {
            let slot = &*self.slots[first & (self.slots.len() - 1)];
            // ORDERING: Release; as below. The FREE before it was stored by this thread.
            slot.store(CLAIMED, Ordering::Release);
            return Some(slot);
        }
        for step in 0..self.slots.len() {
            let index = (first + step) & (self.slots.len() - 1);
            let slot = &*self.slots[index];
            // ORDERING: AcqRel; a frontier that sees this claim and not the FREE before it must
            // see that owner's words. Relaxed on failure: nothing is learned.
            let claimed = slot.compare_exchange(FREE, CLAIMED, Ordering::AcqRel, Ordering::Relaxed);
            if claimed.is_ok() {
                hint.set(index);
                return Some(slot);
            }
        }
        None
    }

    /// Whether a claim may reserve: each slot adds at most its share of half the ring.
    #[inline]
    fn admitted(&self) -> bool {
        // ORDERING: Acquire; pairs with the `fetch_add`s, so that a claim that was made after
        // another one reserved counts it.
        let tail = self.tail.load(Ordering::Acquire);
        // ORDERING: Acquire; pairs with `set_written`: words are overwritten after they are read.
        let written = self.written.load(Ordering::Acquire);
        tail + self.ring.len() / 2 <= written + self.ring.len()
    }
}

impl Protocol for Slots<'_> {
    #[inline]
    fn append(&self, hint: &Cell<usize>, record: &[usize], open: impl FnOnce()) {
        debug_assert!(record.len() <= self.ring.len() / 2 / self.slots.len());
        let slot = loop {
            if let Some(slot) = self.claim(hint) {
                if self.admitted() {
                    break slot;
                }
                // ORDERING: Release; a later owner's claim acquires the words of earlier ones.
                slot.store(FREE, Ordering::Release);
            }
            thread::yield_now();
        };
        // ORDERING: AcqRel; Release shows the claim to a frontier that sees the new tail, Acquire
        // hands on the `written` that admitted earlier reservations.
        let start = self.tail.fetch_add(record.len(), Ordering::AcqRel);
        // ORDERING: Release; as for the claim.
        slot.store(start, Ordering::Release);
        open();
        self.ring.copy(start, record);
        // ORDERING: Release; pairs with the scan, which reads the words next.
        slot.store(FREE, Ordering::Release);
    }

    fn frontier(&self) -> Option<usize> {
        // ORDERING: Acquire; the tail before the slots: every reservation below it has a claim
        // that the scan sees, or is complete.
        let mut frontier = self.tail.load(Ordering::Acquire);
        for slot in &self.slots {
            // ORDERING: Acquire; pairs with every store of a slot.
            let mut reads = (0..REREADS).map(|_| slot.load(Ordering::Acquire));
            // FREE is above every position.
            frontier = frontier.min(reads.find(|state| *state != CLAIMED)?);
        }
        Some(frontier)
    }

    fn set_written(&self, written: usize) {
        // ORDERING: Release; pairs with `admitted`, the words below were read before.
        self.written.store(written, Ordering::Release);
    }

    fn ring(&self) -> &Ring {
        self.ring
    }

    fn memory(&self) -> usize {
        size_of_val(&*self.slots)
    }
}
