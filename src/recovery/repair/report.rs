//! [`RepairReport`]: what is wrong with a log, and what each repair costs.

use std::fmt;
use std::path::PathBuf;

use super::Repair;
use crate::error::WalError;
use crate::lsn::Lsn;

/// What a repair found, and what it did or would do. Shows no payload bytes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepairReport {
    /// What was asked for.
    pub repair: Repair,
    /// Why the log refused to open before; `None` when it did not.
    pub refused: Option<WalError>,
    /// What is wrong, in LSN order, the first [`MAX_FINDINGS`](Self::MAX_FINDINGS) of it: files
    /// that cannot be used and ranges that are lost, as [`Salvage`](crate::Salvage) names them.
    pub findings: Vec<WalError>,
    /// How many more there are.
    pub more_findings: u64,
    /// What to do: `None` when nothing is wrong, and after a repair that was carried out.
    pub recommended: Option<Repair>,
    /// Of [`CutAt`](Repair::CutAt): what it did. Of a dry run: what it would do at the end of what
    /// is intact from the head on; `None` where nothing is wrong or no cut is possible.
    pub cut: Option<RepairEffect>,
    /// Of [`RebuildControl`](Repair::RebuildControl): what it did. Of a dry run: what it would do
    /// with the snapshot that CONTROL names, or with none; `None` where nothing is wrong or no
    /// segment is left to rebuild it from.
    pub rebuild: Option<RepairEffect>,
    /// Why the log still refuses to open after the repair; `None` when it does not, and in a dry
    /// run. Rebuilding CONTROL mends no segment: cut the log next.
    pub still_refused: Option<WalError>,
}

impl RepairReport {
    /// How many findings a report holds at most.
    pub const MAX_FINDINGS: usize = 64;

    /// True when something is, or was before the repair, wrong with the log.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        self.refused.is_some() || !self.findings.is_empty()
    }
}

/// What becomes of a log by a repair.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairEffect {
    /// Where the log begins afterwards.
    pub head: Lsn,
    /// Where it ends.
    pub end: Lsn,
    /// Intact records between the two.
    pub kept_records: u64,
    /// Intact records that the log does not show any more. They are in the copies.
    pub lost_records: u64,
    /// Bytes of the log that it does not show any more, intact or not.
    pub lost_bytes: u64,
    /// Files that are copied before anything is changed, because they are changed, are removed, or
    /// will be removed by the next opening, or because part of them is not shown any more.
    pub copies: Vec<RepairCopy>,
}

/// A file and its copy.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RepairCopy {
    /// The file.
    pub file: PathBuf,
    /// Its copy, in the same directory.
    pub copy: PathBuf,
    /// Length in bytes.
    pub bytes: u64,
}

impl fmt::Display for RepairReport {
    /// Several lines for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.refused {
            Some(why) => writeln!(f, "the log refused to open: {why}")?,
            None => writeln!(f, "the log opens")?,
        }
        for finding in &self.findings {
            writeln!(f, "found: {finding}")?;
        }
        if self.more_findings > 0 {
            writeln!(f, "found: {} more", self.more_findings)?;
        }
        let done = self.repair != Repair::DryRun;
        for (name, effect) in [("cut", &self.cut), ("rebuild CONTROL", &self.rebuild)] {
            let Some(effect) = effect else { continue };
            writeln!(f, "{} {name}: {effect}", if done { "did" } else { "would" })?;
        }
        match (&self.recommended, &self.still_refused) {
            (_, Some(why)) => write!(f, "the log still refuses to open: {why}"),
            (Some(repair), _) => write!(f, "recommended: {repair}"),
            (None, None) if done => write!(f, "the log opens now"),
            (None, None) => write!(f, "nothing to repair"),
        }
    }
}

impl fmt::Display for RepairEffect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the log from {} to {} with {} records, without {} records and {} bytes, {} files \
             copied",
            self.head,
            self.end,
            self.kept_records,
            self.lost_records,
            self.lost_bytes,
            self.copies.len()
        )
    }
}

impl fmt::Display for Repair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DryRun => f.write_str("a dry run"),
            Self::CutAt(lsn) => write!(f, "cut at {lsn}"),
            Self::RebuildControl { snapshot: Some(lsn) } => {
                write!(f, "rebuild CONTROL with the snapshot at {lsn}")
            }
            Self::RebuildControl { snapshot: None } => f.write_str("rebuild CONTROL"),
        }
    }
}
