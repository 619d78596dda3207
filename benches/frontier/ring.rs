//! The ring that both protocols fill, and what a protocol is.
//!
//! Positions count words of 8 bytes from the beginning of the log. The ring is made of relaxed
//! atomics: they order nothing, so a protocol has to, and one that publishes a word too early or
//! lets it be overwritten too soon fails the check instead of being undefined behaviour.

use std::cell::Cell;
use std::iter::zip;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What the words of every record hold; in the ring each is mixed with its own position.
pub(crate) const PAYLOAD: usize = 0x5EED;

/// How appenders find a place, and how one consumer knows what is complete.
pub(crate) trait Protocol: Sync {
    /// Reserves, copies, publishes. `open` runs while the reservation is open.
    fn append(&self, hint: &Cell<usize>, record: &[usize], open: impl FnOnce());

    /// Everything below is complete; `None`: nobody can say now. By one thread at a time.
    fn frontier(&self) -> Option<usize>;

    /// The consumer is done with everything below `written`.
    fn set_written(&self, written: usize);

    fn ring(&self) -> &Ring;

    /// What tracking takes, in bytes.
    fn memory(&self) -> usize;
}

pub(crate) struct Ring {
    words: Box<[AtomicUsize]>,
}

impl Ring {
    /// INVARIANT: `words` is a power of two.
    pub(crate) fn new(words: usize) -> Self {
        assert!(words.is_power_of_two(), "positions are masked");
        Self { words: (0..words).map(|_| AtomicUsize::new(0)).collect() }
    }

    pub(crate) fn len(&self) -> usize {
        self.words.len()
    }

    #[inline]
    pub(crate) fn copy(&self, start: usize, record: &[usize]) {
        let at = start & (self.len() - 1);
        let (first, rest) = record.split_at(record.len().min(self.len() - at));
        let put = |at: usize, from: &[usize], start: usize| {
            for (position, (word, value)) in zip(start.., zip(&self.words[at..], from)) {
                // ORDERING: Relaxed; ordering the words is what the protocols are for.
                word.store(value ^ position, Ordering::Relaxed);
            }
        };
        put(at, first, start);
        put(0, rest, start + first.len());
    }

    /// Reads `[start, end)`, as a write to a file would.
    ///
    /// # Panics
    /// When a word is not the one that was appended at its position.
    pub(crate) fn check(&self, start: usize, end: usize) {
        assert!(end - start <= self.len(), "more is complete than the ring holds");
        let at = start & (self.len() - 1);
        let first = (end - start).min(self.len() - at);
        let differs = |words: &[AtomicUsize], start: usize| {
            // ORDERING: Relaxed; as in `copy`.
            let read = words.iter().map(|word| word.load(Ordering::Relaxed));
            zip(start.., read).fold(0, |seen, (at, word)| seen | (word ^ at ^ PAYLOAD))
        };
        let wrong = differs(&self.words[at..at + first], start)
            | differs(&self.words[..end - start - first], start + first);
        assert_eq!(wrong, 0, "a word in {start}..{end} is incomplete or overwritten");
    }
}
