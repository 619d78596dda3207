//! [`RecoveryReport`]: what opening a log found and did.

use std::path::PathBuf;

use crate::lsn::Lsn;
use crate::observe::Found;

/// What recovery found, kept, carried and cut.
///
/// ```
/// use cohort_wal::{MemStore, WalOptions};
///
/// # fn main() -> cohort_wal::Result<()> {
/// let store = MemStore::new();
/// let wal = WalOptions::new().open_store(store.clone())?;
/// let lsn = wal.append_and_sync(b"kept")?;
/// wal.close()?;
///
/// let wal = WalOptions::new().open_store(store)?;
/// let report = wal.recovery();
/// assert!(report.clean && report.torn_at.is_none());
/// assert_eq!(report.last_record, Some(lsn));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Records that were read and found whole, all of them below the end. Recovery reads the last
    /// segment or two, not the whole log.
    pub scanned_records: u64,
    /// Live segments, the new active one included.
    pub segments: u64,
    /// Oldest LSN kept.
    pub head: Lsn,
    /// Exclusive end of the log: where the next record starts.
    pub end: Lsn,
    /// The record that starts last; `None` in a log without records.
    pub last_record: Option<Lsn>,
    /// Where the log was cut; `None` when nothing but zeros lay beyond its end.
    pub torn_at: Option<Lsn>,
    /// Bytes from the end to the last byte beyond it that was not zero.
    pub cut_bytes: u64,
    /// Bytes that were above the newest witnessed watermark and were made durable anew.
    pub carried_bytes: u64,
    /// Epoch of this opening.
    pub epoch: u64,
    /// The log had been closed, and everything in it was witnessed as durable.
    pub clean: bool,
    /// Files with one bad copy of their header, or CONTROL with one bad slot. The good copy was
    /// used; a bad slot has been rewritten.
    pub damaged_copies: Vec<PathBuf>,
    /// Files that are not part of a log. They are left alone.
    pub unknown_files: Vec<String>,
    /// Files removed that a crash had left under construction.
    pub swept: u64,
}

impl RecoveryReport {
    /// What observers are told of it.
    pub(super) fn observed(&self) -> Found {
        Found {
            head: self.head.get(),
            end: self.end.get(),
            segments: self.segments,
            records: self.scanned_records,
            carried_bytes: self.carried_bytes,
            cut_bytes: self.cut_bytes,
            clean: self.clean,
        }
    }
}
