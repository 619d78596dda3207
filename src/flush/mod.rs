//! The engine: appends through the ring, a write stage, a sync stage, and the ways around them.
//!
//! Moves `written`. Generic over the [`Backing`] that does the I/O, so that the models in
//! `loom-tests/` run this very code.
//!
//! * *Write stage*, one at a time under its lock: computes `published` and hands
//!   `[written, published)` to the current segment, cut at reservation boundaries where a segment
//!   is full or the bound on unsynced bytes is near. It waits for nothing but I/O: not for slots,
//!   not for syncs.
//! * *Sync stage*, one at a time by leadership: snapshots `written` and the files with unsynced
//!   bytes together under the write-stage lock, unlocks, syncs.
//!
//! Lock order: admin, pause, leadership, write stage, CONTROL; the tracker's list lock and the
//! list of live segments are leaves. Who holds the write stage waits for none of the others.
//!
//! A store call that panics poisons. After poison nothing is written.

mod admin;
mod append;
mod background;
mod close;
mod cohort;
mod cut;
mod heartbeat;
mod helper;
mod interval;
mod large;
mod limits;
#[cfg(any(test, all(loom, feature = "loom")))]
pub(crate) mod model;
mod notify;
mod sealing;
mod stage;
mod storage;
mod truncate;
mod visit;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::codec;
use crate::commit::{Cohort, Tracker, Waiting};
use crate::error::{Result, WalError, discard};
use crate::lsn::Place;
use crate::ring::{CLOSED, POISONED, Ring};
use crate::segments::Epoch;
use crate::stats::Stats;
use crate::sync::{Arc, Mutex, Poll, Weak};

use heartbeat::Heart;
use helper::Helper;
use interval::Intervals;
use sealing::Sealing;
use stage::{Debt, Stage};
use visit::Visits;

pub(crate) use cut::Cut;
pub(crate) use limits::Limits;
pub(crate) use notify::Notices;
pub(crate) use storage::Storage;

/// Why bytes are written: before a sync, or for the operating system alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    Flush,
    Sync,
}

/// The I/O of the stages. Errors that [lose nothing](WalError::loses_nothing) are reported only
/// when nothing but the bytes of this call is affected; every other error poisons.
pub(crate) trait Backing: Send + Sync + 'static {
    /// What the write stage owns.
    type Stage: Send;
    /// What one sync covers.
    type Snapshot;
    /// A finished snapshot file without a name.
    type Image;
    /// What the records of an epoch are encrypted with.
    type Key;

    /// Fails where no I/O may be done at all.
    fn check(&self) -> Result<()>;
    /// LSN up to which the current segment takes frames, exclusive.
    fn limit(&self, stage: &Self::Stage) -> u64;
    /// Whether the current segment has no frames.
    fn is_fresh(&self, stage: &Self::Stage, at: u64) -> bool;
    /// Whether so many segments wait for a sync that no other may be begun before one. All below
    /// `durable` is durable.
    fn is_crowded(&self, stage: &Self::Stage, durable: u64) -> bool;
    /// Begins a new segment at `at`. All below `durable` is durable.
    fn rotate(&self, stage: &mut Self::Stage, at: u64, durable: u64) -> Result<()>;
    /// Writes consecutive parts at `at`.
    fn write(
        &self,
        stage: &mut Self::Stage,
        at: u64,
        parts: &[&[u8]],
        intent: Intent,
    ) -> Result<()>;
    /// The files with bytes in `[durable, written)`.
    fn snapshot(&self, stage: &mut Self::Stage, durable: u64) -> Self::Snapshot;
    /// Makes everything a snapshot covers durable; `written` was read with it.
    fn sync(&self, snapshot: &Self::Snapshot, written: u64) -> Result<()>;
    /// Hints that what is durable of it will hardly be read.
    fn release(&self, snapshot: &Self::Snapshot);
    /// The oldest LSN kept.
    fn head(&self) -> u64;
    /// Whether something below `head` takes up space that could come back.
    fn has_dead(&self, head: u64) -> bool;
    /// The LSN of the snapshot that counts.
    fn snapshot_lsn(&self) -> Option<u64>;
    /// Makes way for a snapshot at `lsn`, which does not count: what a crash left there goes.
    fn make_way(&self, lsn: u64) -> Result<()>;
    /// Ends what a change of the head that failed for want of space has begun.
    fn complete(&self) -> Result<()>;
    /// Keeps nothing below `head`, for which `image` stands if there is one: first for good, then
    /// in space. All below `durable` is durable, which is not below the head.
    /// What fails in between concerns nobody; what fails inside only makes space come back later.
    fn move_head(&self, head: u64, durable: u64, image: Option<&Self::Image>)
    -> Result<Result<()>>;
    /// Fails when the log may not be cut at `at`.
    fn allows_cut(&self, at: u64) -> Result<()>;
    /// Ends the log at `at`, at or above the head, where everything below is durable, for good:
    /// begins a segment of a new epoch there, with the same key unless there is another one.
    /// Returns what frames are sealed with in it, and the files that are to be closed. What an
    /// error that loses nothing leaves is the log as it was.
    fn cut(
        &self,
        stage: &mut Self::Stage,
        at: u64,
        key: Option<Self::Key>,
    ) -> Result<(Epoch, Self::Snapshot)>;
    /// Shows readers the log that [`cut`](Self::cut) has left.
    fn show_cut(&self, stage: &Self::Stage);
    /// Removes what was cut off or lies below the head and is there still. A failure only makes
    /// space come back later.
    fn remove_dead(&self) -> Result<()>;
    /// Says for good that all below `durable` is durable.
    fn witness(&self, durable: u64) -> Result<()>;
    /// Marks the log, which ends at `end` and is durable, as closed.
    fn seal(&self, end: u64) -> Result<()>;
    /// Gives the log's lock back. No I/O begins afterwards.
    fn end(&self);
}

pub(crate) struct Engine<B: Backing> {
    ring: Ring,
    tracker: Tracker,
    stage: Mutex<Stage<B::Stage>>,
    backing: B,
    /// Held by the owner of PAUSED; appenders that meet a pause queue here until it ends.
    pause: Mutex<()>,
    /// Held by whoever closes; true when nothing is left to close.
    admin: Mutex<bool>,
    /// What frames are sealed with.
    sealing: Sealing,
    max_unsynced: u64,
    background: Arc<Helper>,
    heart: Option<Heart>,
    intervals: Intervals,
    /// For the threads of helpers.
    this: Weak<Self>,
    visits: Arc<Visits>,
    stats: Arc<Stats>,
}

impl<B: Backing> Engine<B> {
    /// An engine for a log that goes on where its ring does, with everything below durable.
    pub(crate) fn new(
        backing: B,
        stage: B::Stage,
        epoch: Epoch,
        ring: Ring,
        limits: Limits,
    ) -> Arc<Self> {
        let stats = Arc::new(Stats::new());
        Arc::new_cyclic(|this| Self {
            tracker: Tracker::new(ring.written(), limits.gather, Arc::clone(&stats)),
            ring,
            stage: Mutex::new(Stage { backing: stage, debt: None, closed: false }),
            backing,
            pause: Mutex::new(()),
            admin: Mutex::new(false),
            sealing: Sealing::new(epoch),
            max_unsynced: limits.max_unsynced,
            background: Arc::new(Helper::new()),
            heart: limits.heartbeat.map(Heart::new),
            intervals: Intervals::new(limits.flush_interval, limits.sync_interval),
            this: this.clone(),
            visits: Visits::new(),
            stats,
        })
    }

    pub(crate) fn backing(&self) -> &B {
        &self.backing
    }

    pub(crate) fn ring(&self) -> &Ring {
        &self.ring
    }

    pub(crate) fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Every byte below is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.tracker.durable()
    }

    /// Exclusive end of everything appended so far.
    pub(crate) fn end(&self) -> u64 {
        let poll = Poll::default();
        loop {
            // `None` lasts from the raising of a flag to the store behind it.
            if let Some(end) = self.ring.end() {
                return end.max(self.ring.written());
            }
            if self.backing.check().is_err() {
                // Whoever raised it is not in this process, a fork, and nothing moves any more.
                return self.ring.written();
            }
            poll.wait();
        }
    }

    /// Everything appended so far, and the era it was appended in.
    pub(crate) fn place(&self) -> Place {
        let (lsn, era) = self.in_one_era(|| self.end());
        Place { lsn, era }
    }

    /// Reads what a cut changes; again until no cut came in between. Returns the era as well.
    pub(crate) fn in_one_era<T>(&self, read: impl Fn() -> T) -> (T, u64) {
        let poll = Poll::default();
        loop {
            let era = self.tracker.era();
            let value = read();
            let unchanged = era.is_multiple_of(2) && self.tracker.era() == era;
            // In a fork nobody ends what another thread of the parent had begun.
            if unchanged || self.backing.check().is_err() {
                return (value, era);
            }
            poll.wait();
        }
    }

    /// The lowest place where the log was cut since an era began.
    pub(crate) fn lowest_cut_since(&self, era: u64) -> Option<u64> {
        if self.tracker.era() == era {
            return None;
        }
        // A fork may have been made while somebody held the lock behind `tracker`.
        if self.backing.check().is_err() {
            return Some(0);
        }
        self.tracker.lowest_cut_since(era)
    }

    /// Refuses calls from inside a stage, and on a closed or poisoned log.
    pub(crate) fn enter(&self) -> Result<()> {
        self.enter_for_reading()?;
        self.refuse(self.ring.flags())
    }

    /// Refuses calls from inside a stage, and on a closed log.
    pub(crate) fn enter_for_reading(&self) -> Result<()> {
        if codec::in_stage(self.identity()) {
            return Err(WalError::Reentrant);
        }
        if self.ring.flags() & CLOSED != 0 {
            return Err(WalError::Closed);
        }
        Ok(())
    }

    /// Why the log is poisoned, if it is.
    pub(crate) fn poisoned(&self) -> Option<WalError> {
        self.refuse(self.ring.flags() & POISONED).err()
    }

    /// The error that flags of the tail stand for, if any.
    fn refuse(&self, flags: u64) -> Result<()> {
        if flags & CLOSED != 0 {
            return Err(WalError::Closed);
        }
        if flags & POISONED == 0 {
            return Ok(());
        }
        // A fork may have been made while somebody held the lock behind `tracker`.
        self.backing.check()?;
        self.tracker.check()
    }

    fn identity(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Waits until every byte below `target` is durable; leads or joins a cohort.
    pub(crate) fn commit(&self, target: Place) -> Result<()> {
        if self.tracker.is_durable(target) {
            return Ok(());
        }
        self.backing.check()?;
        self.wait(target, Waiting::Commit)
    }

    fn wait(&self, target: Place, waiting: Waiting) -> Result<()> {
        self.tracker.wait(target, waiting, self)
    }

    /// Makes everything appended so far durable.
    pub(crate) fn sync(&self) -> Result<()> {
        self.enter()?;
        self.intervals.check()?;
        self.commit(self.place())
    }

    /// Makes every byte below `place` durable for somebody who reads, a commit of nobody's.
    pub(crate) fn settle(&self, place: Place) -> Result<()> {
        if self.tracker.is_durable(place) {
            return Ok(());
        }
        if codec::in_stage(self.identity()) {
            return Err(WalError::Reentrant);
        }
        self.backing.check()?;
        self.wait(place, Waiting::Internal)
    }

    /// Waits until what the write stage had written when it was left is durable, or cut off.
    fn wait_for_sync(&self, written: Place) -> Result<()> {
        match self.wait(written, Waiting::Internal) {
            Err(WalError::Truncated { .. }) => Ok(()),
            waited => waited,
        }
    }

    /// What is written. Under the write-stage lock.
    fn written(&self) -> Place {
        Place { lsn: self.ring.written(), era: self.tracker.era() }
    }

    /// Hands everything appended so far to the operating system.
    pub(crate) fn flush(&self) -> Result<()> {
        self.enter()?;
        self.intervals.check()?;
        self.flush_to(self.place())
    }

    /// Ends the current segment, unless it is empty.
    pub(crate) fn rotate(&self) -> Result<()> {
        self.flush()?;
        self.backing.check()?;
        loop {
            let mut stage = self.stage.lock();
            if self.begin_segment(&mut stage)? {
                return Ok(());
            }
            let written = self.written();
            drop(stage);
            self.wait_for_sync(written)?;
        }
    }

    /// Runs a store call as a stage: marks the thread, turns a panic into an error, and poisons
    /// on every error but those that lose nothing. The mark lasts until the error is disposed of:
    /// what it carries is the store's, and so is the code that drops it.
    fn in_stage<T>(&self, operation: &'static str, call: impl FnOnce() -> Result<T>) -> Result<T> {
        let _mark = codec::StageMark::new(self.identity());
        let result = catch_unwind(AssertUnwindSafe(call));
        let result = result.unwrap_or_else(|payload| {
            discard(payload);
            Err(WalError::other(operation, "the store panicked"))
        });
        match result {
            Err(harmless) if harmless.loses_nothing() => Err(harmless),
            Err(cause) => {
                self.poison(cause);
                // The first failure, which may be another one.
                self.tracker.check()?;
                Err(WalError::Closed)
            }
            ok => ok,
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
