//! [`Error`]: what can go wrong.

use std::{fmt, io};

use cohort_wal::{Lsn, WalError};

/// `Result` with an [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation failed. Nothing was appended, except perhaps with [`Wal`](Self::Wal).
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The log failed; [`WalError`] says what to do. With [`WalError::WrongKey`] and
    /// [`WalError::Tampered`] nothing of it was used.
    Wal(WalError),
    /// The key ring failed.
    Keys(io::Error),
    /// A file of the key ring holds no key.
    NotAKey {
        /// Its number.
        id: u32,
    },
    /// A record is whole and authentic, and none that this program knows: a newer one wrote it.
    UnknownRecord {
        /// The record.
        lsn: Lsn,
    },
    /// The manifest is older than one that a checkpoint record knows: it names files that lack
    /// what the log has let go of. Find the newer manifest.
    OldManifest {
        /// The version that was given.
        given: u64,
        /// The newest that the log knows.
        newest: u64,
    },
    /// A checkpoint captures less than the one before it.
    OldCheckpoint {
        /// Where that has come to.
        captured: Lsn,
    },
    /// There is a collection with this number, and it is another one.
    CollectionExists {
        /// The number.
        collection: u32,
    },
    /// There is no collection with this number.
    NoCollection {
        /// The number.
        collection: u32,
    },
    /// A vector has another length than the collection is for.
    WrongDims {
        /// The number of the collection.
        collection: u32,
        /// Floats of its vectors.
        dims: u32,
    },
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
            Self::Keys(error) => write!(f, "key ring: {error}"),
            Self::NotAKey { id } => write!(f, "key ring: file {id} holds no 64 hex digits"),
            Self::UnknownRecord { lsn } => {
                write!(f, "record at LSN {lsn} is of no known kind; a newer program wrote it")
            }
            Self::OldManifest { given, newest } => {
                write!(f, "manifest version {given} is older than {newest}, which the log knows")
            }
            Self::OldCheckpoint { captured } => {
                write!(f, "the newest checkpoint has captured more, up to LSN {captured}")
            }
            Self::CollectionExists { collection } => {
                write!(f, "collection {collection} exists already and is another one")
            }
            Self::NoCollection { collection } => write!(f, "there is no collection {collection}"),
            Self::WrongDims { collection, dims } => {
                write!(f, "collection {collection} takes vectors of {dims} floats")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wal(error) => Some(error),
            Self::Keys(error) => Some(error),
            _ => None,
        }
    }
}
