//! [`Beside`]: what a reader asks of the log that appends meanwhile.

use std::io;
use std::path::Path;

use crate::error::{Result, WalError};
use crate::lsn::Place;

/// A log that is read while it lives: what it wrote and has not synced may be lost yet, and it may
/// be cut.
pub(crate) trait Beside: Send + Sync {
    /// Makes every byte below `place` durable, or says why it never will be.
    fn settle(&self, place: Place) -> Result<()>;
    /// The lowest place where the log was cut since an era began.
    fn lowest_cut_since(&self, era: u64) -> Option<u64>;
    /// The error of who comes to a place beyond a cut.
    fn cut_off(&self, cut: u64) -> WalError;
    /// Whether a segment that has no file is rightly gone, because no log needs it any more.
    fn has_let_go(&self, seq: u64) -> Result<bool>;
}

/// Why the file of a segment does not open that is read from `from` on: the log may have been
/// truncated meanwhile, by another process too.
pub(crate) fn unopened(
    (log, era): (&(impl Beside + ?Sized), u64),
    (seq, from): (u64, u64),
    path: &Path,
    error: io::Error,
) -> WalError {
    let place = Place { lsn: from.saturating_add(1), era };
    if let Err(lost) = log.settle(place) {
        return lost;
    }
    if error.kind() != io::ErrorKind::NotFound {
        return WalError::io("open", path, error);
    }
    match log.has_let_go(seq) {
        Ok(true) => log.cut_off(from),
        Ok(false) => WalError::io("open", path, error),
        Err(broken) => broken,
    }
}
