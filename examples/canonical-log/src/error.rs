//! [`Error`]: why the canonical log refused.

use std::fmt;

use cohort_wal::{Lsn, WalError};

/// `Result` with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The log below said so. A checkpoint that fails with it may be in the log or not.
    Wal(WalError),
    /// The record is of another program, whose log this is. It was left alone.
    Foreign(Lsn),
    /// There is nothing at this place. Nothing was changed.
    BeyondEnd {
        /// What was asked for.
        lsn: Lsn,
        /// Where the log ends.
        end: Lsn,
    },
    /// The record at this place is an entry. Nothing was changed.
    NotACheckpoint(Lsn),
    /// The checkpoint is not known to be durable. Nothing was changed.
    NotCommitted(Lsn),
    /// The checkpoint does not say how many entries are before it: this is no canonical log.
    Miscounted {
        /// The checkpoint.
        lsn: Lsn,
        /// What it says.
        says: u64,
        /// How many there are.
        found: u64,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(error) => error.fmt(f),
            Self::Foreign(lsn) => {
                write!(f, "the record at LSN {lsn} is another program's; its log was left alone")
            }
            Self::BeyondEnd { lsn, end } => {
                write!(f, "LSN {lsn} is beyond the end of the log, {end}; nothing was changed")
            }
            Self::NotACheckpoint(lsn) => {
                write!(f, "the record at LSN {lsn} is not a checkpoint; nothing was changed")
            }
            Self::NotCommitted(lsn) => {
                write!(f, "the checkpoint at LSN {lsn} is not durable yet; nothing was changed")
            }
            Self::Miscounted { lsn, says, found } => {
                write!(f, "the checkpoint at LSN {lsn} commits {says} entries, not {found}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wal(error) => Some(error),
            _ => None,
        }
    }
}

impl From<WalError> for Error {
    fn from(error: WalError) -> Self {
        Self::Wal(error)
    }
}
