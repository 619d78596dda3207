//! [`WalError`]: everything that can go wrong, and what the caller should do about it.
//!
//! Errors carry fields, not prose, and never payload bytes. They are `Clone`, because one failed
//! sync is reported to every commit that waited for it.

mod display;

use std::io;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::lsn::Lsn;
use crate::sync::Arc;

/// `Result` with a [`WalError`].
pub type Result<T, E = WalError> = std::result::Result<T, E>;

/// Drops what a store made, an error or what a panic carried: that runs the store's code, which may
/// panic (again).
pub(crate) fn discard<T>(made: T) {
    let dropped = catch_unwind(AssertUnwindSafe(|| drop(made)));
    if let Err(again) = dropped {
        // Whatever this is, it is not touched any more.
        let _leaked = ManuallyDrop::new(again);
    }
}

/// Why an operation on the log failed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum WalError {
    /// An operation of the file system or the store failed, and nothing depends on it but the call
    /// that made it. Where an open log cannot write or sync what was appended it is poisoned, and
    /// every caller gets [`Poisoned`](Self::Poisoned), the first one included.
    Io {
        /// What was being done, as a verb: `"write"`, `"sync"`, `"open"`.
        operation: &'static str,
        /// The file or directory concerned.
        path: PathBuf,
        /// What the operating system said.
        source: Arc<io::Error>,
    },
    /// The record is longer than `max_record_bytes`. Nothing was appended; split the record or
    /// raise the limit.
    RecordTooLarge {
        /// Length of the record in bytes.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// The encoded batch is longer than `max_batch_bytes`. Nothing was appended; split the batch
    /// or raise the limit.
    BatchTooLarge {
        /// Encoded length of the batch in bytes, frame headers and padding included.
        len: u64,
        /// The limit in bytes.
        max: u64,
    },
    /// An earlier write or sync failed. `durable_lsn` never moves again on this handle; what is
    /// durable stays readable. Find out why, then reopen the log.
    Poisoned {
        /// The first failure.
        cause: Arc<WalError>,
    },
    /// Bytes that were acknowledged as durable are damaged or missing. Nothing was changed.
    /// Restore from a copy, [salvage](crate::WalOptions::salvage) what is readable, or
    /// [repair](crate::repair()) the log.
    Corruption {
        /// The damaged file, or the directory when a file is missing.
        path: PathBuf,
        /// Offset of the damage in that file, in bytes.
        offset: u64,
        /// Where in the log the damage begins.
        start: Lsn,
        /// Exclusive end of the range that must have been intact.
        end: Lsn,
        /// What is wrong there.
        why: &'static str,
    },
    /// The path holds something that is not a log of this crate. Nothing was changed. Point the
    /// log at a directory of its own.
    NotALog {
        /// The file or directory that is not ours.
        path: PathBuf,
        /// What gave it away.
        why: &'static str,
    },
    /// There is no log here and the options forbid creating one.
    NotFound {
        /// The directory that was searched.
        path: PathBuf,
    },
    /// There is a log here already and the options demand a new one.
    AlreadyExists {
        /// The directory that holds the log.
        path: PathBuf,
    },
    /// The log was written by a newer version of this crate. Nothing was changed; upgrade.
    UnsupportedVersion {
        /// The file that says so.
        path: PathBuf,
        /// Major version found.
        major: u16,
        /// Incompatible feature bits found.
        incompat: u32,
    },
    /// Another handle, in this process or another, has the log open for writing.
    Locked {
        /// The locked file.
        path: PathBuf,
    },
    /// No record starts at this LSN: it is at or past the end, or inside a record.
    NotARecord {
        /// The LSN asked for.
        lsn: Lsn,
    },
    /// The LSN lies inside a batch, which is kept or cut as a whole. Nothing was changed.
    InsideBatch {
        /// The LSN asked for.
        lsn: Lsn,
    },
    /// The LSN lies below a snapshot, which stands for everything before it. Nothing was changed.
    BelowSnapshot {
        /// The LSN asked for.
        lsn: Lsn,
        /// The LSN of the snapshot.
        snapshot: Lsn,
    },
    /// The LSN lies in a part of the log that was truncated.
    Truncated {
        /// The LSN asked for, below the head; or where the log was cut, below what was asked for.
        lsn: Lsn,
        /// The oldest LSN still kept.
        head: Lsn,
    },
    /// The log is closed.
    Closed,
    /// The file system is full. Nothing is lost: what was appended stays in memory, and the next
    /// call goes on once there is space.
    StorageFull {
        /// The file that could not grow.
        path: PathBuf,
    },
    /// The process or the system has too many open files. Nothing is lost: what was appended
    /// stays in memory, and the next call goes on once some are closed.
    TooManyFiles {
        /// The file that could not be opened.
        path: PathBuf,
    },
    /// Memory could not be allocated. Nothing was appended.
    OutOfMemory,
    /// The log is encrypted, and the options have no key for it, or another one than it was written
    /// with; or the header of a segment was forged. Nothing was changed. Open it with the key.
    WrongKey,
    /// The bytes at this LSN are whole, and were not written there by a holder of the key: they
    /// were forged, or moved from another place. Nothing was changed. Find out who could write to
    /// the files, and restore from a copy.
    Tampered {
        /// Where the frame starts, or the segment or snapshot that it is about.
        lsn: Lsn,
    },
    /// A value has no encoding, or its `Serialize` implementation failed. Nothing was appended;
    /// change the value or its type.
    Encode {
        /// What stood in the way.
        why: &'static str,
    },
    /// The record is intact and is no encoding of the type that was asked for. Decode it as the
    /// type that it was appended as.
    Decode {
        /// The LSN of the record.
        lsn: Lsn,
        /// Where the type and the record disagree.
        why: &'static str,
    },
    /// The record needs a feature that this build lacks. Enable it.
    FeatureMissing {
        /// Name of the cargo feature.
        feature: &'static str,
    },
    /// The LSN space (2^62 bytes) is used up. Start a new log.
    LsnExhausted,
    /// The store, a `tracing` subscriber or a `metrics` recorder called back into the log from
    /// inside a write or sync stage. The call did nothing; make it from another place.
    Reentrant,
    /// This process is a fork of the one that opened the log. The handle does no I/O here; open
    /// the log anew after the parent has closed it.
    Forked,
    /// An option is out of range or contradicts another. Nothing was opened.
    InvalidOption {
        /// Name of the option.
        name: &'static str,
        /// What it must satisfy.
        why: &'static str,
    },
}

impl WalError {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::OutOfMemory {
            return Self::OutOfMemory;
        }
        Self::Io { operation, path: path.to_path_buf(), source: Arc::new(source) }
    }

    /// What happens in no file.
    pub(crate) fn other(operation: &'static str, why: &'static str) -> Self {
        Self::io(operation, Path::new(""), io::Error::other(why))
    }

    /// A store call failed where running out of space loses nothing.
    pub(crate) fn io_or_full(operation: &'static str, path: &Path, source: io::Error) -> Self {
        if is_full(&source) {
            return Self::StorageFull { path: path.to_path_buf() };
        }
        Self::io(operation, path, source)
    }

    /// Wraps a first failure for the callers that come after it; idempotent.
    pub(crate) fn poisoned(cause: Self) -> Self {
        match cause {
            already @ Self::Poisoned { .. } => already,
            cause => Self::Poisoned { cause: Arc::new(cause) },
        }
    }

    /// True when acknowledged bytes are damaged, missing or forged.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Corruption { .. } | Self::Tampered { .. } => true,
            Self::Poisoned { cause } => cause.is_corruption(),
            _ => false,
        }
    }

    /// True when this handle will never acknowledge anything again.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        matches!(self, Self::Poisoned { .. })
    }

    /// True when the same call on the same handle can succeed later, once its cause (a full file
    /// system, a lock held elsewhere, exhausted memory) is gone.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.loses_nothing() || matches!(self, Self::Locked { .. } | Self::OutOfMemory)
    }

    /// The same failure where there is no way back.
    pub(crate) fn for_good(self) -> Self {
        match self {
            Self::StorageFull { path } => {
                Self::io("write", &path, io::Error::from(io::ErrorKind::StorageFull))
            }
            other => other,
        }
    }

    /// True for the failures of a stage that leave everything as it was before the call, so that
    /// the log need not be poisoned.
    pub(crate) fn loses_nothing(&self) -> bool {
        matches!(self, Self::StorageFull { .. } | Self::TooManyFiles { .. })
    }
}

/// True for the errors that mean "no space left" and nothing worse.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poisoning_keeps_the_first_cause() {
        let first = WalError::poisoned(WalError::OutOfMemory);
        let again = WalError::poisoned(first.clone());
        assert_eq!(first.to_string(), again.to_string());
        assert!(again.is_poisoned() && !again.is_retryable());
    }

    #[test]
    fn a_value_that_does_not_fit_its_type_is_nobodys_damage() {
        let decode = WalError::Decode { lsn: Lsn::new(8), why: "it ends early" };
        let encode = WalError::Encode { why: "it has no encoding" };
        for error in [&decode, &encode] {
            assert!(!error.is_corruption() && !error.is_retryable() && !error.is_poisoned());
        }
        assert!(decode.to_string().contains("LSN 8") && decode.to_string().contains("ends early"));
        assert!(encode.to_string().contains("nothing was appended"));
        assert_eq!(io::Error::from(decode).kind(), io::ErrorKind::InvalidData);
        assert_eq!(io::Error::from(encode).kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn a_full_disk_is_retryable_and_an_io_error_is_not() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(WalError::io_or_full("write", Path::new("x"), full).is_retryable());
        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        let other = WalError::io_or_full("write", Path::new("x"), other);
        assert!(!other.is_retryable());
        assert_eq!(io::Error::from(other).kind(), io::ErrorKind::PermissionDenied);
    }
}
