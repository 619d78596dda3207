//! [`Error`]: why the ledger refused, or what is wrong with it.

use std::fmt;
use std::io;

use cohort_wal::{Lsn, WalError};

/// `Result` with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on the ledger failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The log said so. A commit that fails with it may be in the log or not, except with
    /// [`WalError::Truncated`]: then it was rolled back.
    Wal(WalError),
    /// There are only so many legs to a transaction, and at least one. Nothing was posted.
    Legs(usize),
    /// The amounts do not add up to zero. Nothing was posted.
    Unbalanced(i128),
    /// The account would fall below zero. Nothing was posted.
    Overdrawn(u16),
    /// There is no such account. Nothing was posted.
    NoAccount(u16),
    /// A record of the log is not of this program, or not where it belongs.
    Record {
        /// Where it is.
        lsn: Lsn,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The log holds a part of a transaction.
    Half {
        /// Where the transaction begins.
        lsn: Lsn,
        /// Whose it is.
        reference: u64,
    },
    /// The snapshot is not an image of this ledger.
    Image(io::Error),
    /// Nobody knows whether there is a snapshot, or what it says.
    ImageLost,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(error) => error.fmt(f),
            Self::Legs(legs) => write!(f, "a transaction of {legs} legs"),
            Self::Unbalanced(sum) => write!(f, "the amounts add up to {sum}, not to 0"),
            Self::Overdrawn(account) => write!(f, "account {account} would be overdrawn"),
            Self::NoAccount(account) => write!(f, "there is no account {account}"),
            Self::Record { lsn, why } => write!(f, "the record at LSN {lsn}: {why}"),
            Self::Half { lsn, reference } => {
                write!(f, "half of transaction {reference:#x} at LSN {lsn}")
            }
            Self::Image(error) => write!(f, "the snapshot cannot be read: {error}"),
            Self::ImageLost => f.write_str("the snapshot is out of reach"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wal(error) => Some(error),
            Self::Image(error) => Some(error),
            _ => None,
        }
    }
}

impl From<WalError> for Error {
    fn from(error: WalError) -> Self {
        Self::Wal(error)
    }
}
