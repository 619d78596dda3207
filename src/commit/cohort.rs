//! What a leader does, and for whom.

use crate::error::WalError;
use crate::observe;

/// The work of a leader.
pub(crate) trait Cohort {
    /// Writes everything published, at least to `target` unless that fails or a bound stops it,
    /// and makes it durable. Blocks for I/O. Holds no lock of the tracker.
    fn run(&self, target: u64) -> Outcome;

    /// Poisons the log with `cause`, as [`Tracker::poison`] and whatever else must know.
    fn poison(&self, cause: WalError);

    /// Tells observers what the sync of an outcome was for. Whoever waited knows.
    fn ended(&self, observed: observe::Cohort, commits: usize);

    /// The oldest LSN kept.
    fn head(&self) -> u64;
}

/// What a leader achieved.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// All below is durable.
    pub(crate) durable: u64,
    /// Why what is above `written` is not. Anything that loses something is recorded poison
    /// already.
    pub(crate) failure: Option<WalError>,
    /// All below is written by now, so that another sync will do.
    pub(crate) written: u64,
    /// The sync, for observers.
    pub(crate) observed: observe::Cohort,
}

/// What somebody waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// A commit of the caller's.
    Commit,
    /// The log itself, holding up others: no leader gathers meanwhile, and no commit is counted.
    Internal,
    /// Leadership without a cohort, for who changes what is durable.
    Turn,
}
