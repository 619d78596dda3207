//! [`Wal`]: the log as its users see it.
//!
//! Wires recovery, the engine and the readers together, and states what each call promises. Has
//! no protocol of its own.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::codec::{Unit, with_unit};
use crate::error::{Result, WalError};
use crate::flush::{Engine, Limits, Storage};
use crate::format::frame::frame_bytes;
use crate::lsn::{ALIGNMENT, Lsn};
use crate::options::WalOptions;
use crate::reader::WalIter;
use crate::recovery::{self, RecoveryReport};
use crate::ring::Ring;
use crate::stats::WalStats;
use crate::store::{FileStore, WalStore};
use crate::sync::Arc;

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
    engine: Engine<Storage<S>>,
    report: RecoveryReport,
    path: PathBuf,
    max_record_bytes: u32,
    max_batch_bytes: u64,
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

impl WalOptions {
    /// Opens the log in the directory `dir`, recovering it first.
    ///
    /// Blocks for the time it takes to read the last segment. Everything that is then in the log
    /// is durable. A failed open leaves every byte as it was.
    ///
    /// # Errors
    /// [`WalError::Locked`] while another handle has it open; [`WalError::Corruption`] when
    /// acknowledged bytes are damaged or missing; [`WalError::NotALog`],
    /// [`WalError::UnsupportedVersion`], [`WalError::NotFound`], [`WalError::AlreadyExists`],
    /// [`WalError::InvalidOption`], [`WalError::StorageFull`], [`WalError::Io`] as they say.
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{WalError, WalOptions};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let refused = WalOptions::new().create(false).open(dir.path());
    /// assert!(matches!(refused, Err(WalError::NotFound { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Wal> {
        self.validate()?;
        let dir = dir.as_ref();
        let store = if self.create { FileStore::open(dir) } else { FileStore::existing(dir) };
        let store = store.map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => WalError::NotFound { path: dir.to_path_buf() },
            io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
                WalError::NotALog { path: dir.to_path_buf(), why: "it is not a directory" }
            }
            _ => WalError::io_or_full("open", dir, error),
        })?;
        self.open_store(store)
    }

    /// Opens the log in a store of any kind, recovering it first.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{MemStore, WalOptions};
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let store = MemStore::new();
    /// let lsn = WalOptions::new().open_store(store.clone())?.append_and_sync(b"kept")?;
    /// let wal = WalOptions::new().open_store(store)?;
    /// assert_eq!(wal.iter()?.next().unwrap()?.lsn(), lsn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open_store<S: WalStore>(self, store: S) -> Result<Wal<S>> {
        self.validate()?;
        let recovered = recovery::open(&store, &self)?;
        let store = Arc::new(store);
        let path = store.locate("");
        let seed = recovered.live.last().map(|active| active.seed());
        let (storage, stage) = Storage::new(
            store,
            recovered.control,
            recovered.live,
            recovered.active,
            recovered.end,
            &self,
        )?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let limits = Limits {
            ring_bytes: self.ring_bytes,
            slots: Ring::slots_for(cores, self.ring_bytes),
            max_unsynced: self.max_unsynced(),
            gather: self.gather,
        };
        let seed = seed.ok_or_else(|| WalError::NotFound { path: path.clone() })?;
        let engine = Engine::new(storage, stage, seed, recovered.end, limits)?;
        Ok(Wal {
            engine,
            report: recovered.report,
            path,
            max_record_bytes: self.max_record_bytes,
            max_batch_bytes: self.max_batch_bytes,
        })
    }
}

impl<S: WalStore> Wal<S> {
    /// Appends one record and returns its LSN. The payload may be empty.
    ///
    /// # Durability
    /// Buffered: the record has its place in the order, and is lost with the process.
    ///
    /// # Concurrency
    /// Lock-free while the ring has room: no mutex, no allocation, no system call. With a full
    /// ring it writes to the operating system, and at the bound on unsynced bytes it waits for a
    /// sync. A record larger than the ring's limit briefly holds up other appenders.
    ///
    /// # Errors
    /// [`WalError::RecordTooLarge`]; [`WalError::StorageFull`] with a full ring on a full disk,
    /// after which the record is not in the log; [`WalError::Poisoned`]; [`WalError::Closed`];
    /// [`WalError::OutOfMemory`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let first = wal.append(b"first")?;
    /// let second = wal.append(b"second")?;
    /// assert!(first < second);
    /// # Ok(())
    /// # }
    /// ```
    #[inline]
    pub fn append(&self, record: &[u8]) -> Result<Lsn> {
        self.append_vectored(&[record])
    }

    /// Appends one record made of several parts, as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append`](Self::append).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_vectored(&[b"key", b"=", b"value"])?;
    /// assert_eq!(wal.iter()?.next().unwrap()?.data(), b"key=value");
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_vectored(&self, parts: &[&[u8]]) -> Result<Lsn> {
        self.append_unit(|unit| unit.push(parts, false, self.max_record_bytes))
            .map(|(start, _)| Lsn::new(start))
    }

    /// Appends one record and waits until it is durable.
    ///
    /// # Durability
    /// Durable: the record, and everything before it, survives power loss.
    ///
    /// # Concurrency
    /// Blocks for a sync; commits that wait at the same time share one.
    ///
    /// # Errors
    /// As [`append`](Self::append) and [`sync`](Self::sync). After an error of the sync the record
    /// may or may not survive.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsn = wal.append_and_sync(b"commit")?;
    /// assert!(wal.durable_lsn() > lsn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_and_sync(&self, record: &[u8]) -> Result<Lsn> {
        let (start, end) =
            self.append_unit(|unit| unit.push(&[record], false, self.max_record_bytes))?;
        self.engine.commit(end)?;
        Ok(Lsn::new(start))
    }

    /// Appends records as one batch: consecutive, and after a crash all there or none. Returns
    /// their LSNs; an empty batch appends nothing.
    ///
    /// # Durability
    /// Buffered, as [`append`](Self::append).
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`WalError::BatchTooLarge`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsns = wal.append_batch(&["debit", "credit"])?;
    /// assert_eq!(lsns.len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_batch<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<Vec<Lsn>> {
        self.batch(records).map(|(lsns, _)| lsns)
    }

    /// Appends records as one batch and waits until it is durable.
    ///
    /// # Durability
    /// Durable, as [`append_and_sync`](Self::append_and_sync). An empty batch makes everything
    /// before it durable.
    ///
    /// # Errors
    /// As [`append_batch`](Self::append_batch) and [`sync`](Self::sync).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_batch_and_sync(&["debit", "credit"])?;
    /// assert_eq!(wal.durable_lsn(), wal.end_lsn());
    /// # Ok(())
    /// # }
    /// ```
    pub fn append_batch_and_sync<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<Vec<Lsn>> {
        let (lsns, end) = self.batch(records)?;
        match end {
            Some(end) => self.engine.commit(end)?,
            None => self.engine.sync()?,
        }
        Ok(lsns)
    }

    /// Hands everything appended before the call to the operating system.
    ///
    /// # Durability
    /// Flushed: survives the death of the process, not power loss.
    ///
    /// # Concurrency
    /// Blocks for a write, and at the bound on unsynced bytes for a sync.
    ///
    /// # Errors
    /// [`WalError::StorageFull`]: nothing is lost, call again; [`WalError::Poisoned`];
    /// [`WalError::Closed`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"kept by the operating system")?;
    /// wal.flush()?;
    /// assert_eq!(wal.stats().flushes, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn flush(&self) -> Result<()> {
        self.engine.flush()
    }

    /// Makes everything appended before the call durable; no system call when it already is.
    ///
    /// # Durability
    /// Durable: survives power loss.
    ///
    /// # Concurrency
    /// Blocks for a sync, shared with every commit that waits at the same time.
    ///
    /// # Errors
    /// [`WalError::StorageFull`]: nothing is lost, call again; [`WalError::Poisoned`] after a
    /// failed write or sync, for good; [`WalError::Closed`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"a")?;
    /// wal.append(b"b")?;
    /// wal.sync()?;
    /// wal.sync()?;
    /// assert_eq!(wal.stats().syncs, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn sync(&self) -> Result<()> {
        self.engine.sync()
    }

    /// Waits until the record at `lsn` is durable; leads or joins a cohort.
    ///
    /// # Durability
    /// Durable: the record, its batch, and everything before it.
    ///
    /// # Errors
    /// [`WalError::NotARecord`] at or past the end of the log; otherwise as
    /// [`sync`](Self::sync), except that a record that is durable already is reported so even on
    /// a poisoned log.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalError, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsn = wal.append(b"commit")?;
    /// wal.wait_durable(lsn)?;
    /// assert!(matches!(wal.wait_durable(wal.end_lsn()), Err(WalError::NotARecord { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_durable(&self, lsn: Lsn) -> Result<()> {
        self.engine.enter_for_reading()?;
        if !lsn.get().is_multiple_of(ALIGNMENT) || lsn >= self.end_lsn() {
            return Err(WalError::NotARecord { lsn });
        }
        // `durable` moves from unit to unit, so past the start of a record means past its end.
        self.engine.commit(lsn.get() + 1)
    }

    /// Iterates over everything appended before the call, from the head. Flushes first. On a
    /// poisoned log it covers what is durable.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), except for poison; [`WalError::Io`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"one")?;
    /// for record in wal.iter()? {
    ///     assert_eq!(record?.data(), b"one");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> Result<WalIter<S>> {
        self.read(None)
    }

    /// Iterates from the record at `lsn` over everything appended before the call; nothing when
    /// `lsn` is at or past the end.
    ///
    /// # Errors
    /// [`WalError::Truncated`] below the head; [`WalError::NotARecord`] when no record starts at
    /// `lsn`; otherwise as [`iter`](Self::iter).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"one")?;
    /// let two = wal.append(b"two")?;
    /// assert_eq!(wal.iter_from(two)?.next().unwrap()?.data(), b"two");
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter_from(&self, lsn: Lsn) -> Result<WalIter<S>> {
        self.read(Some(lsn.get()))
    }

    fn read(&self, from: Option<u64>) -> Result<WalIter<S>> {
        self.engine.enter_for_reading()?;
        let end = self.engine.end();
        let end = match self.engine.flush() {
            Ok(()) => end,
            Err(WalError::Poisoned { .. }) => self.engine.durable(),
            Err(error) => return Err(error),
        };
        let storage = self.engine.backing();
        let head = storage.control().claim().head;
        let store = Arc::clone(storage.store());
        WalIter::over(store, storage.live(), head, from.unwrap_or(head), end)
    }

    /// Ends the current segment after everything appended so far, unless it is empty.
    ///
    /// # Durability
    /// Flushed. The new segment's name is durable.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"in the first segment")?;
    /// wal.rotate()?;
    /// wal.rotate()?;
    /// assert_eq!(wal.stats().rotations, 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn rotate(&self) -> Result<()> {
        self.engine.rotate()
    }

    /// The oldest LSN that is kept.
    #[must_use]
    pub fn head_lsn(&self) -> Lsn {
        Lsn::new(self.engine.backing().control().claim().head)
    }

    /// Exclusive end of everything appended so far: where the next record will start.
    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        Lsn::new(self.engine.end())
    }

    /// Everything below is durable. Never moves back while the log is open.
    #[must_use]
    pub fn durable_lsn(&self) -> Lsn {
        Lsn::new(self.engine.durable())
    }

    /// The record that starts last, `None` in a log without records.
    #[must_use]
    pub fn last_lsn(&self) -> Option<Lsn> {
        let recovered = self.report.last_record.map_or(0, |lsn| lsn.get() + 1);
        let ring = self.engine.ring().appended().last_record;
        let last = recovered.max(ring).max(self.engine.stats().last_large.get());
        last.checked_sub(1).map(Lsn::new)
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

    /// Closes the log: makes everything appended durable, marks the log clean, and lets go of its
    /// lock. Idempotent; every later call of another method fails with [`WalError::Closed`].
    ///
    /// # Durability
    /// Durable: everything appended.
    ///
    /// # Concurrency
    /// Blocks for a sync. Appends in flight complete or fail with [`WalError::Closed`].
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
        let storage = self.engine.backing();
        let newest_seq = storage.live().last().map_or(0, |segment| segment.seq);
        let seal = |end| {
            storage.control().witness(|claim| {
                claim.newest_seq = newest_seq;
                claim.durable = end;
                claim.clean = true;
            })
        };
        self.engine.close(seal, || storage.control().unlock())
    }

    /// Encodes a unit and appends it; returns its range.
    #[inline]
    fn append_unit(&self, encode: impl FnOnce(&mut Unit) -> Result<()>) -> Result<(u64, u64)> {
        with_unit(|unit, hint| {
            encode(unit)?;
            let start = self.engine.append(unit, hint)?;
            Ok((start, start + unit.len()))
        })
    }

    /// Appends a batch; returns its LSNs and its end, which an empty batch has none of.
    fn batch<R: AsRef<[u8]>>(&self, records: &[R]) -> Result<(Vec<Lsn>, Option<u64>)> {
        let Some((last, others)) = records.split_last() else {
            self.engine.enter()?;
            return Ok((Vec::new(), None));
        };
        let mut lsns = Vec::new();
        lsns.try_reserve_exact(records.len()).map_err(|_| WalError::OutOfMemory)?;
        let max = self.max_batch_bytes;
        let sizes = records.iter().map(|record| frame_bytes(record.as_ref().len() as u64));
        let len = sizes.fold(0, u64::saturating_add);
        with_unit(|unit, hint| {
            for record in others {
                if unit.len() > max {
                    break;
                }
                unit.push(&[record.as_ref()], true, self.max_record_bytes)?;
            }
            unit.push(&[last.as_ref()], false, self.max_record_bytes)?;
            if len.max(unit.len()) > max {
                return Err(WalError::BatchTooLarge { len: len.max(unit.len()), max });
            }
            let start = self.engine.append(unit, hint)?;
            lsns.extend(unit.offsets().map(|offset| Lsn::new(start + offset)));
            Ok((lsns, Some(start + unit.len())))
        })
    }
}

impl<S: WalStore> Drop for Wal<S> {
    fn drop(&mut self) {
        // As best it can: `close` is there for whoever wants to know.
        self.close().ok();
    }
}
