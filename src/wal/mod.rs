//! [`Wal`]: the log as its users see it.
//!
//! Wires recovery, the engine and the readers together, and states what each call promises. Has
//! no protocol of its own.

mod append;
mod checkpoint;
mod commit;
mod durable;
mod follow;
mod open;
mod read;
#[cfg(feature = "aead")]
mod rotate_key;
mod truncate;
#[cfg(feature = "postcard")]
mod typed;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::{Result, WalError};
use crate::flush::{Engine, Storage};
use crate::lsn::Lsn;
use crate::options::{Form, WalOptions};
use crate::recovery::RecoveryReport;
use crate::stats::WalStats;
use crate::store::{FileStore, WalStore};
use crate::sync::Arc;
#[cfg(feature = "aead")]
use crate::sync::Mutex;

pub use durable::Durable;

/// A write-ahead log, shared by many threads as `Arc<Wal>`.
///
/// Three promises: *buffered* ([`append`](Self::append) returned: the record has its place in the
/// order), *flushed* ([`flush`](Self::flush) returned: it survives the death of the process),
/// *durable* ([`sync`](Self::sync), [`wait_durable`](Self::wait_durable) or
/// [`append_and_sync`](Self::append_and_sync) returned: it survives power loss).
///
/// Dropping the log closes it as best it can; [`close`](Self::close) says whether that worked.
///
/// ```
/// use std::sync::Arc;
///
/// use cohort_wal::Wal;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let wal = Arc::new(Wal::open(dir.path().join("log"))?);
/// let committer = Arc::clone(&wal);
/// let lsn = std::thread::spawn(move || committer.append_and_sync(b"debit 7")).join().unwrap()?;
/// assert!(wal.durable_lsn() > lsn);
/// # Ok(())
/// # }
/// ```
pub struct Wal<S: WalStore = FileStore> {
    engine: Arc<Engine<Storage<S>>>,
    report: RecoveryReport,
    path: PathBuf,
    form: Form,
    max_batch_bytes: u64,
    /// Held by who asks for another key until it is used.
    #[cfg(feature = "aead")]
    rotating: Mutex<()>,
}

impl<S: WalStore> fmt::Debug for Wal<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wal")
            .field("path", &self.path)
            .field("head", &self.head_lsn())
            .field("durable", &self.durable_lsn())
            .finish_non_exhaustive()
    }
}

impl Wal<FileStore> {
    /// Opens the log in the directory `dir` with default options; creates both if absent.
    ///
    /// # Errors
    /// See [`WalOptions::open`].
    ///
    /// # Examples
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = cohort_wal::Wal::open(dir.path().join("log"))?;
    /// assert!(wal.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        WalOptions::new().open(dir)
    }

    /// The default options: the same as [`WalOptions::new`].
    pub fn options() -> WalOptions {
        WalOptions::new()
    }

    /// The log's directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl<S: WalStore> Wal<S> {
    /// The oldest LSN that is kept.
    #[must_use]
    pub fn head_lsn(&self) -> Lsn {
        Lsn::new(self.engine.backing().control().head())
    }

    /// Exclusive end of everything appended so far: where the next record will start.
    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        Lsn::new(self.engine.end())
    }

    /// Everything below is durable. Moves back only where the log is cut.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        Lsn::new(self.engine.durable())
    }

    /// The record that starts last, `None` in a log without records.
    #[must_use]
    pub fn last_lsn(&self) -> Option<Lsn> {
        self.engine.last_record(self.head_lsn().get()).map(Lsn::new)
    }

    /// True when the log has neither records nor pads: its end is its head.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.live_bytes() == 0
    }

    /// Encoded bytes between head and end.
    #[must_use]
    pub fn live_bytes(&self) -> u64 {
        self.end_lsn().get().saturating_sub(self.head_lsn().get())
    }

    /// What opening found, kept, carried and cut.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        &self.report
    }

    /// What this handle has done since it was opened.
    #[must_use]
    pub fn stats(&self) -> WalStats {
        let appended = self.engine.ring().appended();
        let syncs = self.engine.backing().syncs();
        self.engine.stats().snapshot(appended.appends, appended.bytes, syncs)
    }

    /// Why this handle will acknowledge nothing any more, as [`WalError::Poisoned`]; `None` if it
    /// is not poisoned. It tells who only reads of a failure in the background of an
    /// [interval](WalOptions::sync_interval), which every append and sync is told anyhow.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// assert!(wal.poisoned().is_none());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn poisoned(&self) -> Option<WalError> {
        self.engine.poisoned()
    }

    /// Closes the log: makes everything appended durable, marks the log clean, and lets go of its
    /// lock. Idempotent; every later call of another method fails with [`WalError::Closed`].
    ///
    /// # Durability
    /// Durable: everything appended.
    ///
    /// # Concurrency
    /// Blocks for a sync. Appends in flight complete or fail with [`WalError::Closed`]. Futures and
    /// callbacks are told what became of their records, some perhaps when this has returned.
    ///
    /// # Errors
    /// [`WalError::StorageFull`]: closed to appends, but not clean and still locked; call again
    /// when there is space. [`WalError::Poisoned`]: what was durable stays so, the lock is gone.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalError, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let store = MemStore::new();
    /// let wal = WalOptions::new().open_store(store.clone())?;
    /// wal.append(b"made durable by close")?;
    /// wal.close()?;
    /// assert!(matches!(wal.append(b"late"), Err(WalError::Closed)));
    /// assert!(WalOptions::new().open_store(store)?.recovery().clean);
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) -> Result<()> {
        self.engine.close()
    }
}

impl<S: WalStore> Drop for Wal<S> {
    fn drop(&mut self) {
        // As best it can: `close` is there for whoever wants to know.
        self.engine.abandon_or_close();
    }
}
