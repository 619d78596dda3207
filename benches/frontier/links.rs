//! A link buffer, after `Link_buf` of the redo log of MySQL 8.0: who has finished `[start, end)`
//! stores `end` in an array at `start`, and the frontier follows these links from where it was.
//!
//! The array covers a window of positions behind the frontier. An appender has reserved before it
//! can know whether the window, or the ring, reaches as far as its place, so that is where it
//! waits: with its reservation open. Who finds the window full follows links himself.
//!
//! Links are never taken out. A link that is left from an earlier lap ends at or below the position
//! that it is found at, because records do not overlap and the frontier has passed it; one of a
//! later lap cannot be there, because the window does not reach it before the frontier has passed.

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crossbeam_utils::CachePadded;

use crate::ring::{Protocol, Ring};

pub(crate) struct Links<'a> {
    tail: CachePadded<AtomicUsize>,
    written: CachePadded<AtomicUsize>,
    /// Where the links end; moved under the mutex.
    followed: CachePadded<AtomicUsize>,
    following: CachePadded<Mutex<()>>,
    /// The end of the record that starts at a position, at that position modulo the window.
    links: Box<[AtomicUsize]>,
    ring: &'a Ring,
}

impl<'a> Links<'a> {
    /// INVARIANT: `window` is a power of two, and not longer than the ring.
    pub(crate) fn new(ring: &'a Ring, window: usize) -> Self {
        assert!(window.is_power_of_two() && window <= ring.len(), "positions are masked");
        Self {
            tail: CachePadded::default(),
            written: CachePadded::default(),
            followed: CachePadded::default(),
            following: CachePadded::default(),
            links: (0..window).map(|_| AtomicUsize::new(0)).collect(),
            ring,
        }
    }

    #[inline]
    fn link(&self, position: usize) -> &AtomicUsize {
        &self.links[position & (self.links.len() - 1)]
    }

    /// Whether `position` lies in the window.
    #[inline]
    fn reaches(&self, position: usize) -> bool {
        // ORDERING: Acquire; pairs with `follow`: a link is overwritten after it was followed.
        // Without it the frontier may find this link one lap early and skip a whole window.
        position < self.followed.load(Ordering::Acquire) + self.links.len()
    }

    #[cold]
    fn wait_for_window(&self, position: usize) {
        loop {
            if let Ok(_following) = self.following.try_lock() {
                self.follow();
            }
            if self.reaches(position) {
                return;
            }
            thread::yield_now();
        }
    }

    /// Follows the links to where they end. Under the mutex.
    fn follow(&self) -> usize {
        // ORDERING: Relaxed; only holders of the mutex change it.
        let mut at = self.followed.load(Ordering::Relaxed);
        loop {
            // ORDERING: Acquire; pairs with the store of the link, after the words were copied.
            let end = self.link(at).load(Ordering::Acquire);
            if end <= at {
                break;
            }
            at = end;
        }
        // ORDERING: Release; pairs with `reaches`, these links were read before.
        self.followed.store(at, Ordering::Release);
        at
    }
}

impl Protocol for Links<'_> {
    #[inline]
    fn append(&self, _hint: &Cell<usize>, record: &[usize], open: impl FnOnce()) {
        // ORDERING: Relaxed; it only tells places apart. Everything that this appender relies on
        // it acquires by itself below.
        let start = self.tail.fetch_add(record.len(), Ordering::Relaxed);
        let end = start + record.len();
        // ORDERING: Acquire; pairs with `set_written`: words are overwritten after they are read.
        while end > self.written.load(Ordering::Acquire) + self.ring.len() {
            thread::yield_now();
        }
        open();
        self.ring.copy(start, record);
        // Where the window is the whole ring, room in the one is room in the other.
        if self.links.len() < self.ring.len() && !self.reaches(start) {
            self.wait_for_window(start);
        }
        // ORDERING: Release; pairs with `follow`, whose caller reads the words next.
        self.link(start).store(end, Ordering::Release);
    }

    fn frontier(&self) -> Option<usize> {
        let _following = self.following.lock().ok()?;
        Some(self.follow())
    }

    fn set_written(&self, written: usize) {
        // ORDERING: Release; pairs with `append`, the words below were read before.
        self.written.store(written, Ordering::Release);
    }

    fn ring(&self) -> &Ring {
        self.ring
    }

    fn memory(&self) -> usize {
        size_of_val(&*self.links)
    }
}
