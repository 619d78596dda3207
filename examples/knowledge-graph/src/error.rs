//! [`GraphError`]: why something was refused.

use std::fmt;
use std::io;

use cohort_wal::{Lsn, WalError};

/// `Result` with a [`GraphError`].
pub type Result<T, E = GraphError> = std::result::Result<T, E>;

/// Why an operation on the graph failed. Unless a variant says otherwise nothing was appended and
/// the graph is as it was.
#[derive(Debug)]
#[non_exhaustive]
pub enum GraphError {
    /// The log failed; its error says what is to be done.
    Wal(WalError),
    /// A string is longer than the graph takes.
    TooLong {
        /// Which string.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The most bytes it may have.
        max: usize,
    },
    /// Something that must not be empty is.
    Empty {
        /// Which string or list.
        what: &'static str,
    },
    /// There is no such entity.
    NoEntity {
        /// Its name.
        name: String,
    },
    /// There is an entity of this name already.
    Exists {
        /// Its name.
        name: String,
    },
    /// The entity has no such observation or relation.
    NotThere {
        /// Which of the two.
        what: &'static str,
        /// The entity's name.
        name: String,
    },
    /// An entity cannot be merged into itself.
    IntoItself {
        /// Its name.
        name: String,
    },
    /// A record is of a known kind, and its body is not what that kind has. It was not written by
    /// this program or a newer one; find out what did.
    Malformed {
        /// The LSN of the record, or of the image that it is in.
        lsn: Lsn,
        /// The kind.
        kind: u16,
    },
    /// The image of a compaction cannot be read.
    Image {
        /// The LSN of the image.
        lsn: Lsn,
        /// What reading it said.
        source: io::Error,
    },
    /// The log holds records of a newer program, which an image made by this one would lose. Let
    /// the newer program compact it.
    WrittenByNewer {
        /// How many records.
        records: usize,
        /// The first of them.
        first: Lsn,
    },
    /// A change could not be encoded.
    Encode(postcard::Error),
}

impl fmt::Display for GraphError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(error) => write!(f, "{error}"),
            Self::TooLong { what, len, max } => {
                write!(f, "the {what} has {len} bytes, more than {max}")
            }
            Self::Empty { what } => write!(f, "the {what} is empty"),
            Self::NoEntity { name } => write!(f, "there is no entity {name:?}"),
            Self::Exists { name } => write!(f, "there is an entity {name:?} already"),
            Self::NotThere { what, name } => write!(f, "{name:?} has no such {what}"),
            Self::IntoItself { name } => write!(f, "{name:?} cannot be merged into itself"),
            Self::Malformed { lsn, kind } => {
                write!(f, "the record at LSN {lsn} is no record of kind {kind}")
            }
            Self::Image { lsn, source } => {
                write!(f, "the image at LSN {lsn} cannot be read: {source}")
            }
            Self::WrittenByNewer { records, first } => write!(
                f,
                "{records} records of a newer program, from LSN {first} on, would be lost"
            ),
            Self::Encode(error) => write!(f, "a change could not be encoded: {error}"),
        }
    }
}

impl std::error::Error for GraphError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Wal(error) => Some(error),
            Self::Image { source, .. } => Some(source),
            Self::Encode(error) => Some(error),
            _ => None,
        }
    }
}

impl From<WalError> for GraphError {
    fn from(error: WalError) -> Self {
        Self::Wal(error)
    }
}

impl From<postcard::Error> for GraphError {
    fn from(error: postcard::Error) -> Self {
        Self::Encode(error)
    }
}
