//! What errors say, and what they are to who knows [`io::Error`] alone.

use std::fmt;
use std::io;

use super::WalError;

impl fmt::Display for WalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { operation, path, source } => {
                write!(f, "{operation} failed on {}: {source}", path.display())
            }
            Self::RecordTooLarge { len, max } => {
                write!(f, "record of {len} bytes exceeds max_record_bytes ({max})")
            }
            Self::BatchTooLarge { len, max } => {
                write!(f, "batch of {len} encoded bytes exceeds max_batch_bytes ({max})")
            }
            Self::Poisoned { cause } => {
                write!(f, "log is poisoned by an earlier failure ({cause}); reopen it")
            }
            Self::Corruption { path, offset, start, end, why } => write!(
                f,
                "corruption in {} at offset {offset}, LSN {start} to {end}: {why}; nothing was \
                 changed, restore or salvage the log",
                path.display()
            ),
            Self::NotALog { path, why } => {
                write!(f, "{} is not a log: {why}; nothing was changed", path.display())
            }
            Self::NotFound { path } => write!(f, "no log in {}", path.display()),
            Self::AlreadyExists { path } => {
                write!(f, "a log already exists in {}", path.display())
            }
            Self::UnsupportedVersion { path, major, incompat } => write!(
                f,
                "{} has format version {major} with incompatible features {incompat:#x}, newer \
                 than this build supports; upgrade to open it",
                path.display()
            ),
            Self::Locked { path } => {
                write!(f, "{} is locked by another handle", path.display())
            }
            Self::NotARecord { .. }
            | Self::InsideBatch { .. }
            | Self::BelowSnapshot { .. }
            | Self::Tampered { .. }
            | Self::Truncated { .. } => self.fmt_place(f),
            Self::Closed => f.write_str("log is closed"),
            Self::WrongKey => f.write_str(
                "the log is encrypted with another key than the options have; nothing was changed, \
                 open it with the key it was written with",
            ),
            Self::StorageFull { path } => write!(
                f,
                "no space left for {}; free some and call again, nothing is lost",
                path.display()
            ),
            Self::TooManyFiles { path } => write!(
                f,
                "too many open files for {}; close some and call again, nothing is lost",
                path.display()
            ),
            Self::OutOfMemory => f.write_str("out of memory"),
            Self::Encode { .. } | Self::Decode { .. } => self.fmt_typed(f),
            Self::FeatureMissing { feature } => {
                write!(f, "this build lacks the feature {feature}, which the log needs")
            }
            Self::LsnExhausted => f.write_str("the LSN space is used up; start a new log"),
            Self::Reentrant => f.write_str("a call from inside a stage of the same log"),
            Self::Forked => f.write_str("this handle belongs to the parent process of a fork"),
            Self::InvalidOption { name, why } => write!(f, "option {name} {why}"),
        }
    }
}

impl WalError {
    /// The errors that say what is wrong with an LSN.
    fn fmt_place(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotARecord { lsn } => write!(f, "no record starts at LSN {lsn}"),
            Self::InsideBatch { lsn } => {
                write!(f, "LSN {lsn} is inside a batch; cut before or behind it")
            }
            Self::BelowSnapshot { lsn, snapshot } => write!(
                f,
                "LSN {lsn} is below the snapshot at {snapshot}, which stands for all before it"
            ),
            Self::Tampered { lsn } => write!(
                f,
                "what stands at LSN {lsn} was not written there with the key of the log; nothing \
                 was changed, restore it from a copy"
            ),
            Self::Truncated { lsn, head } if lsn < head => {
                write!(f, "LSN {lsn} was truncated; the log begins at {head}")
            }
            Self::Truncated { lsn, .. } => {
                write!(f, "the log was cut at LSN {lsn}; what was behind it is gone")
            }
            _ => Ok(()),
        }
    }

    /// The errors of typed records.
    fn fmt_typed(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode { why } => {
                write!(f, "the value has no encoding: {why}; nothing was appended, change its type")
            }
            Self::Decode { lsn, why } => write!(
                f,
                "the record at LSN {lsn} is of another type than was asked for: {why}; decode it \
                 as what it was appended as"
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for WalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(&**source),
            Self::Poisoned { cause } => Some(&**cause),
            _ => None,
        }
    }
}

impl From<WalError> for io::Error {
    fn from(error: WalError) -> Self {
        let kind = match &error {
            WalError::Io { source, .. } => source.kind(),
            WalError::Corruption { .. }
            | WalError::NotALog { .. }
            | WalError::Tampered { .. }
            | WalError::Decode { .. } => io::ErrorKind::InvalidData,
            WalError::WrongKey => io::ErrorKind::PermissionDenied,
            WalError::NotFound { .. } => io::ErrorKind::NotFound,
            WalError::AlreadyExists { .. } => io::ErrorKind::AlreadyExists,
            WalError::UnsupportedVersion { .. } | WalError::FeatureMissing { .. } => {
                io::ErrorKind::Unsupported
            }
            WalError::Locked { .. } => io::ErrorKind::WouldBlock,
            WalError::StorageFull { .. } => io::ErrorKind::StorageFull,
            WalError::OutOfMemory => io::ErrorKind::OutOfMemory,
            WalError::RecordTooLarge { .. }
            | WalError::BatchTooLarge { .. }
            | WalError::NotARecord { .. }
            | WalError::InsideBatch { .. }
            | WalError::BelowSnapshot { .. }
            | WalError::Encode { .. }
            | WalError::InvalidOption { .. } => io::ErrorKind::InvalidInput,
            _ => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
