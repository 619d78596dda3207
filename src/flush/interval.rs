//! Intervals: what was appended is handed to the operating system, or made durable, within so much
//! time though nobody asks.
//!
//! A helper for each. It flushes or syncs one interval after the first append, goes on one interval
//! after the last time it began, and dozes when it finds nothing to do. Appends look at one word
//! that they share with it, and wake it where that says that it dozes.
//!
//! * I1. An append that the helper did not see before it dozed sees that it dozes: the helper says
//!   so before it changes the tail, which every append changes before it looks.
//! * I2. Nothing is retried behind the caller's back: after a failure that loses nothing the next
//!   call is told, and the helper goes on with the append after that. Until somebody was told, no
//!   append wakes a helper, not even one that had begun before the failure.

use std::time::Duration;

use super::helper::Helper;
use super::visit::Visitor;
use super::{Backing, Engine, Intent, Waiting};
use crate::error::{Result, WalError, discard};
use crate::sync::{Arc, AtomicU32, CachePadded, Mutex, Ordering, now, spawn};

/// One of the helpers; its thread has a clone.
#[derive(Debug, Clone)]
struct Interval {
    every: Duration,
    intent: Intent,
    helper: Arc<Helper>,
}

impl Interval {
    fn new(every: Duration, intent: Intent) -> Self {
        Self { every, intent, helper: Arc::new(Helper::new()) }
    }

    fn bit(&self) -> u32 {
        match self.intent {
            Intent::Flush => 1,
            Intent::Sync => 2,
        }
    }
}

/// There is something to tell the next call.
const FAILED: u32 = 4;

/// The helpers of a log, and what appends see of them.
#[derive(Debug)]
pub(super) struct Intervals {
    /// The bits of those that doze, and [`FAILED`].
    dozing: CachePadded<AtomicU32>,
    all: Vec<Interval>,
    failure: Mutex<Option<WalError>>,
}

impl Intervals {
    pub(super) fn new(flush: Option<Duration>, sync: Option<Duration>) -> Self {
        let flush = flush.map(|every| Interval::new(every, Intent::Flush));
        let sync = sync.map(|every| Interval::new(every, Intent::Sync));
        let all: Vec<_> = flush.into_iter().chain(sync).collect();
        let dozing = all.iter().map(Interval::bit).sum();
        Self { dozing: CachePadded::new(AtomicU32::new(dozing)), all, failure: Mutex::new(None) }
    }

    pub(super) fn stop(&self) {
        self.all.iter().for_each(|interval| interval.helper.stop());
    }

    #[inline]
    fn dozing(&self) -> u32 {
        // ORDERING: Relaxed; behind a change of the tail, which pairs with the one in `doze`. It
        // is the tail that brings what `doze` has stored before it.
        self.dozing.load(Ordering::Relaxed)
    }

    /// Fails once with what a helper met.
    #[inline]
    pub(super) fn check(&self) -> Result<()> {
        if self.dozing() & FAILED == 0 { Ok(()) } else { self.report() }
    }

    #[cold]
    fn report(&self) -> Result<()> {
        let mut failure = self.failure.lock();
        // ORDERING: Relaxed; a hint: whoever sees it looks under the lock.
        self.dozing.fetch_and(!FAILED, Ordering::Relaxed);
        failure.take().map_or(Ok(()), Err)
    }

    /// Leaves a failure to the next call, and the waking to the append after that.
    fn fail(&self, error: WalError, interval: &Interval) {
        let mut failure = self.failure.lock();
        // ORDERING: Relaxed; a hint: whoever sees it looks under the lock, as in `report`.
        self.dozing.fetch_or(FAILED | interval.bit(), Ordering::Relaxed);
        let before = failure.replace(error);
        drop(failure);
        // What an error carries is the store's, and so is the code that drops it.
        discard(before);
    }
}

impl<B: Backing> Engine<B> {
    /// Something was appended: the tail has changed.
    #[inline]
    pub(super) fn keep_intervals(&self) {
        if self.intervals.dozing() != 0 {
            self.wake_intervals();
        }
    }

    #[cold]
    fn wake_intervals(&self) {
        // A fork has no helpers, and does no I/O.
        if self.backing.check().is_err() {
            return;
        }
        let wake = |dozing| (dozing & FAILED == 0).then_some(0);
        // ORDERING: Relaxed; a hint, what it wakes looks for itself.
        let woken = self.intervals.dozing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, wake);
        let Ok(dozing) = woken else { return };
        for interval in &self.intervals.all {
            if dozing & interval.bit() != 0 {
                let wanted = interval.helper.want(|| {
                    let (visitor, interval) = (self.visitor(), interval.clone());
                    spawn("cohort-wal-interval", move || work(&visitor, &interval))
                });
                if !wanted {
                    let error = WalError::other("sync", "no thread can be started");
                    self.intervals.fail(error, interval);
                }
            }
        }
    }

    /// Flushes or syncs everything appended so far; false when nothing was to be done.
    fn keep(&self, interval: &Interval) -> Result<bool> {
        self.backing.check()?;
        let place = self.place();
        let done = match interval.intent {
            Intent::Flush => self.ring.written(),
            Intent::Sync => self.durable(),
        };
        if done >= place.lsn {
            return Ok(false);
        }
        let kept = match interval.intent {
            Intent::Flush => self.flush_to(place),
            Intent::Sync => self.wait(place, Waiting::Internal),
        };
        match kept {
            // What is gone needs nothing.
            Ok(()) | Err(WalError::Truncated { .. }) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Does the work of a helper once. How long it rests then; `None`: until it is woken.
    fn keep_or_doze(&self, interval: &Interval) -> Option<Duration> {
        let begun = now();
        match self.keep(interval) {
            Ok(true) => Some(interval.every.saturating_sub(begun.elapsed())),
            Ok(false) => (!self.doze(interval)).then_some(interval.every),
            Err(error) => {
                if error.loses_nothing() {
                    self.intervals.fail(error, interval);
                }
                None
            }
        }
    }

    /// Leaves the waking to appends; false when one came before that.
    fn doze(&self, interval: &Interval) -> bool {
        // ORDERING: Relaxed; pairs with `dozing`, by way of the tail.
        self.intervals.dozing.fetch_or(interval.bit(), Ordering::Relaxed);
        self.ring.meet_appends();
        let done = match interval.intent {
            Intent::Flush => self.ring.written(),
            Intent::Sync => self.durable(),
        };
        if self.end() <= done {
            return true;
        }
        // ORDERING: Relaxed; an append that sees the bit meanwhile wakes who is awake.
        self.intervals.dozing.fetch_and(!interval.bit(), Ordering::Relaxed);
        false
    }
}

fn work<B: Backing>(visitor: &Visitor<B>, interval: &Interval) {
    while interval.helper.park() {
        let mut rest = Some(interval.every);
        while let Some(wait) = rest {
            if !interval.helper.sleep(wait) {
                return;
            }
            let Some(next) = visitor.visit(|engine| engine.keep_or_doze(interval)) else { return };
            rest = next;
        }
    }
}
