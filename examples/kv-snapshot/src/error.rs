//! [`Error`]: what can go wrong, and whether it can be tried again.

use std::fmt;

use cohort_wal::{Lsn, WalError};

use crate::record::TOKEN_BYTES;

/// `Result` with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation on a store failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Error {
    /// The log failed.
    Wal(WalError),
    /// A version token is longer than ten bytes. Nothing was appended.
    TokenTooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// A record is of a kind that this program does not know. It is whole: a newer program wrote
    /// it, or another one. Nothing is skipped, because what follows may build on it.
    UnknownKind {
        /// The record, or the snapshot that it is in.
        lsn: Lsn,
        /// The kind it claims.
        kind: u8,
    },
    /// A record is whole and not what its kind says, so another program wrote it.
    Malformed {
        /// The record, or the snapshot that it is in.
        lsn: Lsn,
    },
}

impl Error {
    /// True when acknowledged bytes are damaged or missing.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        matches!(self, Self::Wal(error) if error.is_corruption())
    }

    /// True when this store acknowledges nothing any more: load it again from a log opened anew.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        matches!(self, Self::Wal(error) if error.is_poisoned())
    }

    /// True when the same call may succeed later, once there is space, say.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Wal(error) if error.is_retryable())
    }
}

impl From<WalError> for Error {
    fn from(error: WalError) -> Self {
        Self::Wal(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(error) => fmt::Display::fmt(error, f),
            Self::TokenTooLong { len } => {
                write!(f, "version token of {len} bytes, at most {TOKEN_BYTES} are allowed")
            }
            Self::UnknownKind { lsn, kind } => {
                write!(
                    f,
                    "record of the unknown kind {kind} at LSN {lsn}; a newer program wrote it"
                )
            }
            Self::Malformed { lsn } => write!(f, "record at LSN {lsn} is not one of this program"),
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
