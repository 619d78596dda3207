//! [`WalReader`]: reading a log without its lock, beside a writer that may be at work.

use std::path::{Path, PathBuf};

use super::watch::Watch;
use super::{Beside, Follow, WalIter};
use crate::crypt::Keys;
use crate::error::{Result, WalError};
use crate::format::name;
use crate::format::segment::SegmentHeader;
use crate::lsn::{ALIGNMENT, Lsn, Place};
use crate::options::WalOptions;
use crate::recovery::{Look, current_head, current_snapshot, open_directory, survey_read_only};
use crate::segments::{LiveSegment, admit};
use crate::snapshot::{Counting, Snapshots};
use crate::store::{FileStore, StoreFile, WalStore};
use crate::sync::Arc;

/// A log opened for reading only: no lock, no change, safe beside a live writer.
///
/// It yields what was durable and witnessed as such when it was opened. For a log that was closed
/// that is everything; beside a writer, or after a crash, records above the newest witnessed
/// watermark do not show. Open another to see more.
///
/// ```
/// use cohort_wal::{Wal, WalOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// # let dir = dir.path().join("log");
/// let wal = Wal::open(&dir)?;
/// wal.append_and_sync(b"seen by both")?;
/// wal.close()?;
///
/// let reader = WalOptions::new().open_read_only(&dir)?;
/// assert_eq!(reader.iter()?.next().unwrap()?.data(), b"seen by both");
/// assert!(reader.is_clean());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WalReader {
    store: Arc<FileStore>,
    look: Look,
    keys: Keys,
}

/// One live segment of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Creation order; part of the file's name.
    pub seq: u64,
    /// The opening of the log that wrote it.
    pub epoch: u64,
    /// LSN of its first frame.
    pub base: Lsn,
    /// Exclusive end of what it holds of the log.
    pub end: Lsn,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// The file.
    pub path: PathBuf,
}

impl WalOptions {
    /// Opens the log in `dir` for reading only: takes no lock and changes nothing.
    ///
    /// Blocks for the time it takes to read the last segment. Of the options only those that
    /// describe how records are encoded have an effect. A snapshot is judged when it is read.
    ///
    /// # Errors
    /// [`WalError::NotFound`] when there is no log, [`WalError::NotALog`] when there is something
    /// else, [`WalError::Corruption`] when acknowledged bytes are damaged or missing,
    /// [`WalError::UnsupportedVersion`], [`WalError::FeatureMissing`] or [`WalError::Io`].
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{WalError, WalOptions};
    ///
    /// # let dir = tempfile::tempdir().unwrap();
    /// let missing = WalOptions::new().open_read_only(dir.path().join("log"));
    /// assert!(matches!(missing, Err(WalError::NotFound { .. })));
    /// ```
    pub fn open_read_only(self, dir: impl AsRef<Path>) -> Result<WalReader> {
        self.validate()?;
        let store = open_directory(dir.as_ref())?;
        let look = survey_read_only(&store)?;
        admit(&self.keys, &look.live)?;
        Ok(WalReader { store: Arc::new(store), look, keys: self.keys })
    }
}

/// What a writer elsewhere does to a log that is read: it truncates it.
impl Beside for FileStore {
    fn settle(&self, place: Place) -> Result<()> {
        let (lsn, head) = (place.lsn, current_head(self)?);
        if lsn > head {
            Ok(())
        } else {
            Err(WalError::Truncated { lsn: Lsn::new(lsn - 1), head: Lsn::new(head) })
        }
    }

    fn lowest_cut_since(&self, _era: u64) -> Option<u64> {
        None
    }

    fn cut_off(&self, cut: u64) -> WalError {
        let head = current_head(self).unwrap_or(0);
        WalError::Truncated { lsn: Lsn::new(cut), head: Lsn::new(head) }
    }

    fn has_let_go(&self, seq: u64) -> Result<bool> {
        Ok(survey_read_only(self)?.live.iter().all(|segment| segment.seq != seq))
    }
}

/// The snapshots of a log that a writer elsewhere may change; whether none but an encrypted one can
/// count.
pub(super) fn snapshots_beside<S: WalStore>(
    store: &Arc<S>,
    keys: &Keys,
    encrypted: bool,
) -> Snapshots<S> {
    let asked = Arc::clone(store);
    let ask = move || Ok(Counting { encrypted, ..current_snapshot(&*asked)? });
    Snapshots::new(Arc::clone(store), keys.clone(), Arc::new(ask))
}

/// The records of `[from, end)` of a live chain that a writer elsewhere may truncate.
pub(crate) fn iterate(
    store: &Arc<FileStore>,
    live: &[SegmentHeader],
    head: u64,
    from: u64,
    end: u64,
    keys: &Keys,
) -> Result<WalIter<FileStore>> {
    let live = live.iter().map(|header| LiveSegment::new(*header)).collect();
    let beside: Arc<dyn Beside> = Arc::clone(store) as _;
    WalIter::over(Arc::clone(store), live, head, from, end, (Some((beside, 0)), keys.clone()))
}

impl WalReader {
    /// The records from the head to [`end_lsn`](Self::end_lsn).
    ///
    /// # Errors
    /// [`WalError::Io`] when a file cannot be read. Where a writer has removed a segment since this
    /// reader was opened, by truncating the log or by opening it anew, the iterator ends with
    /// [`WalError::Truncated`]: open another reader to see what there is now.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Wal, WalOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// Wal::open(dir.path())?.append_and_sync(b"record")?;
    /// assert_eq!(WalOptions::new().open_read_only(dir.path())?.iter()?.count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> Result<WalIter<FileStore>> {
        self.read(self.look.head)
    }

    /// The records from the one that starts at `lsn`; none when that is at or past the end.
    ///
    /// # Errors
    /// [`WalError::Truncated`] below the head, [`WalError::NotARecord`] where no record starts,
    /// and as [`iter`](Self::iter).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Wal, WalOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::open(dir.path())?;
    /// wal.append(b"first")?;
    /// let second = wal.append_and_sync(b"second")?;
    /// wal.close()?;
    /// let reader = WalOptions::new().open_read_only(dir.path())?;
    /// assert_eq!(reader.iter_from(second)?.next().unwrap()?.data(), b"second");
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter_from(&self, lsn: Lsn) -> Result<WalIter<FileStore>> {
        self.read(lsn.get())
    }

    /// Follows the log from the record at `from` on, which may be the end of what this reader
    /// shows: yields what is witnessed as durable, and waits for what will be.
    ///
    /// Nobody tells it: it looks again after a while, longer where a look takes longer, and up to
    /// half a second where nothing happens. Records show when a later one witnesses them, which is
    /// one sync later, or when the writer's heartbeat does or it closes. It goes on when the log
    /// is closed and opened again. What was cut off since the last look it may still yield, and is
    /// told then; unless the writer has truncated everything up to its place as well, which takes
    /// what tells of the cut with it.
    ///
    /// # Errors
    /// [`WalError::Truncated`] below the head, [`WalError::NotARecord`] beyond the end and where no
    /// record starts. The follower's: [`WalError::Truncated`] once its place was truncated or cut
    /// off, and as for [`open_read_only`](WalOptions::open_read_only).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Wal, WalOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::open(dir.path())?;
    /// let reader = WalOptions::new().open_read_only(dir.path())?;
    /// let mut follower = reader.follow(reader.end_lsn())?;
    /// wal.append(b"shows when it is witnessed")?;
    /// wal.close()?;
    /// assert_eq!(follower.next().unwrap()?.data(), b"shows when it is witnessed");
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow(&self, from: Lsn) -> Result<Follow<FileStore>> {
        if !from.get().is_multiple_of(ALIGNMENT) || from.get() > self.look.end {
            return Err(WalError::NotARecord { lsn: from });
        }
        let sure = from.get() == self.look.end;
        Follow::new(Box::new(Watch::new(&self.store, &self.look, &self.keys)), from.get(), sure)
    }

    /// The records of one of [`segments`](Self::segments), from the head on; none when all of
    /// them are below it. No record and no batch is in two segments, so that all of them may be
    /// read at once by as many threads, and together they are what [`iter`](Self::iter) shows.
    ///
    /// # Errors
    /// [`WalError::NotFound`] for a segment of another log, and as [`iter`](Self::iter).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Wal, WalOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::open(dir.path())?;
    /// wal.append(b"in the first segment")?;
    /// wal.rotate()?;
    /// wal.append(b"in the second")?;
    /// wal.close()?;
    /// let reader = WalOptions::new().open_read_only(dir.path())?;
    /// let mut each = Vec::new();
    /// for segment in reader.segments() {
    ///     each.push(reader.iter_segment(&segment)?.count());
    /// }
    /// assert_eq!(each, [1, 1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter_segment(&self, segment: &SegmentInfo) -> Result<WalIter<FileStore>> {
        let known = self.look.live.iter().find(|live| live.seq == segment.seq);
        let missing = || WalError::NotFound { path: segment.path.clone() };
        let header = *known.ok_or_else(missing)?;
        let end = segment.end.get().min(self.look.end);
        let from = header.base.max(self.look.head).min(end);
        iterate(&self.store, &[header], from, from, end, &self.keys)
    }

    fn read(&self, from: u64) -> Result<WalIter<FileStore>> {
        let Look { live, head, end, .. } = &self.look;
        iterate(&self.store, live, *head, from, *end, &self.keys)
    }

    /// The snapshots of the log as it is now.
    #[must_use]
    pub fn snapshots(&self) -> Snapshots<FileStore> {
        let encrypted = self.look.live.last().is_some_and(SegmentHeader::is_entire);
        snapshots_beside(&self.store, &self.keys, encrypted)
    }

    /// Oldest LSN kept.
    #[must_use]
    pub fn head_lsn(&self) -> Lsn {
        Lsn::new(self.look.head)
    }

    /// Exclusive end of what this reader shows: everything below is durable.
    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        Lsn::new(self.look.end)
    }

    /// True when the log had been closed: nothing lies beyond [`end_lsn`](Self::end_lsn).
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.look.clean
    }

    /// Files in the directory that are not part of a log.
    #[must_use]
    pub fn unknown_files(&self) -> &[String] {
        &self.look.unknown_files
    }

    /// The live segments, oldest first. Asks the store for the length of each file; one that a
    /// writer has removed since has length 0.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let live = &self.look.live;
        let next = live.iter().skip(1).map(|segment| segment.base).chain([self.look.end]);
        live.iter().zip(next).map(|(segment, end)| self.segment(segment, end)).collect()
    }

    fn segment(&self, header: &SegmentHeader, end: u64) -> SegmentInfo {
        let name = name::segment(header.seq);
        let bytes = self.store.open(&name).and_then(|file| file.len()).unwrap_or(0);
        SegmentInfo {
            seq: header.seq,
            epoch: header.epoch,
            base: Lsn::new(header.base),
            // A segment newer than the newest witnessed watermark shows nothing yet.
            end: Lsn::new(end.min(self.look.end).max(header.base)),
            bytes,
            path: self.store.locate(&name),
        }
    }
}
