//! What a log tells `tracing` subscribers and `metrics` recorders, each of them a feature.
//!
//! The only file that the engine knows of both; without the features everything in here is empty.
//! Nothing is told per append.
//!
//! Who is told is code of others, which may panic, take its time, or call the log.
//!
//! * I1. A panic of theirs ends here: it changes nothing for the log, and nothing of it is kept.
//! * I2. The engine tells from inside a stage, so that whoever calls the log meanwhile gets
//!   `Reentrant`, and never under a leaf lock. Who waits for a sync is told its end before.
//!
//! What no stage can tell is which locks of their own they hold: a subscriber that calls a log
//! under one may find another thread there that waits for it inside of that log.

#[cfg(feature = "metrics")]
mod meter;
#[cfg(not(all(feature = "metrics", feature = "tracing")))]
mod silent;
#[cfg(feature = "tracing")]
mod tracer;

#[cfg(any(feature = "metrics", feature = "tracing"))]
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

#[cfg(any(feature = "metrics", feature = "tracing"))]
use crate::error::discard;
use crate::error::{Result, WalError};

#[cfg(not(feature = "metrics"))]
use silent::meter;
#[cfg(not(feature = "tracing"))]
use silent::tracer;

use tracer::Span;

/// Whether there may be anybody who is told.
const ACTIVE: bool = cfg!(any(feature = "metrics", feature = "tracing"));

/// What opening a log has found.
#[cfg_attr(not(feature = "tracing"), expect(dead_code, reason = "nobody is told"))]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found {
    pub(crate) head: u64,
    pub(crate) end: u64,
    pub(crate) segments: u64,
    pub(crate) records: u64,
    pub(crate) carried_bytes: u64,
    pub(crate) cut_bytes: u64,
    pub(crate) clean: bool,
}

/// Recovers the log at `path`. There is no log yet that could be called.
pub(crate) fn open<T>(
    path: &Path,
    recover: impl FnOnce() -> Result<T>,
    found: impl FnOnce(&T) -> Found,
) -> Result<T> {
    let span = Span::open(path);
    let opened = span.within(recover);
    match &opened {
        Ok(opened) => {
            span.found(&found(opened));
            meter::opened();
        }
        Err(error) => span.failed(error),
    }
    opened
}

/// Writes `[start, end)` of the log, from inside a stage.
pub(crate) fn flush<T>(start: u64, end: u64, write: impl FnOnce() -> Result<T>) -> Result<T> {
    let written = Span::flush(start, end).within(write);
    if written.is_ok() {
        meter::flushed(end - start);
    }
    written
}

/// Begins a segment at `at`, from inside a stage.
pub(crate) fn rotate<T>(at: u64, begin: impl FnOnce() -> Result<T>) -> Result<T> {
    let begun = Span::rotate(at).within(begin);
    if begun.is_ok() {
        meter::rotated();
    }
    begun
}

/// A sync, until it is known how many commits it has served.
#[derive(Debug, Default)]
pub(crate) struct Cohort {
    span: Span,
}

impl Cohort {
    /// The sync of `[start, end)`, from inside a stage.
    pub(crate) fn new(start: u64, end: u64) -> Self {
        Self { span: Span::sync(start, end) }
    }

    /// Makes it durable, from inside a stage.
    pub(crate) fn sync<T>(&self, sync: impl FnOnce() -> Result<T>) -> Result<T> {
        let begun = meter::now();
        let synced = self.span.within(sync);
        if synced.is_ok() {
            meter::synced(begun);
        }
        synced
    }

    /// So many commits were made durable by it, and have been told. `mark` makes a stage of this.
    pub(crate) fn ended<M>(self, commits: u64, mark: impl FnOnce() -> M) {
        let _mark = ACTIVE.then(mark);
        let span = self.span;
        span.commits(commits);
        meter::committed(commits);
    }
}

/// The log is poisoned for good, as `check` says, and everybody knows. `mark` makes a stage of
/// this.
pub(crate) fn poisoned<M>(mark: impl FnOnce() -> M, check: impl FnOnce() -> Result<()>) {
    if !ACTIVE {
        return;
    }
    let _mark = mark();
    if let Err(WalError::Poisoned { cause }) = check() {
        tracer::poisoned(&cause);
        meter::poisoned();
    }
}

/// The log has ended all I/O; all of it is durable when it is `clean`. From inside a stage.
pub(crate) fn closed(durable: u64, clean: bool) {
    tracer::closed(durable, clean);
    meter::closed();
}

/// Runs code of whoever is told; `None` where that panics.
#[cfg(any(feature = "metrics", feature = "tracing"))]
fn guarded<T>(tell: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(tell)).map_err(discard).ok()
}
