//! [`Failure`]: why a command could not run to its end, and the exit code that says so.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use cohort_wal::WalError;

pub(crate) const DAMAGE: u8 = 1;
const USAGE: u8 = 2;
const LOCKED: u8 = 3;
const IO: u8 = 4;

/// Why a command could not run to its end.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The command line asks for something senseless. Nothing was changed.
    Usage(String),
    /// The log refused.
    Wal(WalError),
    /// The benchmark's own log could not be read back: whatever the cause, that is a loss.
    Replay(WalError),
    /// The operating system refused something that the log had no part in.
    Io { operation: &'static str, path: PathBuf, source: io::Error },
}

impl Failure {
    pub(crate) fn io(operation: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { operation, path: path.to_path_buf(), source }
    }

    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Wal(error) => wal_exit_code(error),
            Self::Replay(error) => match wal_exit_code(error) {
                USAGE => DAMAGE,
                code => code,
            },
            Self::Io { .. } => IO,
        }
    }
}

fn wal_exit_code(error: &WalError) -> u8 {
    match error {
        WalError::Corruption { .. } | WalError::Tampered { .. } => DAMAGE,
        WalError::NotFound { .. }
        | WalError::NotALog { .. }
        | WalError::AlreadyExists { .. }
        | WalError::UnsupportedVersion { .. }
        | WalError::FeatureMissing { .. }
        | WalError::WrongKey
        | WalError::InvalidOption { .. }
        | WalError::RecordTooLarge { .. }
        | WalError::BatchTooLarge { .. }
        | WalError::NotARecord { .. }
        | WalError::Truncated { .. } => USAGE,
        WalError::Locked { .. } => LOCKED,
        WalError::Poisoned { cause } => wal_exit_code(cause),
        _ => IO,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Usage(why) => f.write_str(why),
            Self::Wal(error) => error.fmt(f),
            Self::Replay(error) => write!(f, "the log just written cannot be read back: {error}"),
            Self::Io { operation, path, source } => {
                write!(f, "{operation} failed on {}: {source}", path.display())
            }
        }
    }
}

impl From<WalError> for Failure {
    fn from(error: WalError) -> Self {
        Self::Wal(error)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cohort_wal::Lsn;

    use super::*;

    #[test]
    fn exit_codes_tell_damage_usage_lock_and_io_apart() {
        let path = PathBuf::from("log");
        let damage = WalError::Corruption {
            path: path.clone(),
            offset: 0,
            start: Lsn::new(0),
            end: Lsn::new(8),
            why: "test",
        };
        let code = |error: WalError| Failure::Wal(error).exit_code();
        assert_eq!(code(damage.clone()), 1);
        assert_eq!(code(WalError::Poisoned { cause: Arc::new(damage) }), 1);
        assert_eq!(code(WalError::NotFound { path: path.clone() }), 2);
        assert_eq!(code(WalError::NotALog { path: path.clone(), why: "test" }), 2);
        assert_eq!(code(WalError::Locked { path: path.clone() }), 3);
        assert_eq!(code(WalError::StorageFull { path: path.clone() }), 4);
        assert_eq!(code(WalError::OutOfMemory), 4);
        assert_eq!(Failure::Usage("no".into()).exit_code(), 2);
        assert_eq!(Failure::io("read", &path, io::Error::other("no")).exit_code(), 4);
    }

    #[test]
    fn a_benchmark_log_that_is_gone_is_a_loss() {
        let path = PathBuf::from("log");
        assert_eq!(Failure::Replay(WalError::NotFound { path: path.clone() }).exit_code(), 1);
        assert_eq!(Failure::Replay(WalError::Locked { path }).exit_code(), 3);
    }
}
