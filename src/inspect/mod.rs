//! Looking into the files of a log: which there are, what CONTROL and the headers say, and what
//! every byte of a segment is. For tools that show a log to people; of a damaged log too.
//!
//! [`Inspection::open`] takes no lock and changes nothing, and is safe beside a live writer: what
//! it shows was so a moment ago. It judges as a reader does, so that no tool has rules of its own:
//! [`Inspection::refusal`] is why the log would not open, and [`Span::is_damage`] is true of the
//! bytes that a reader would call damage.
//!
//! ```
//! use cohort_wal::Wal;
//! use cohort_wal::inspect::{Content, Inspection, Span, Standing};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! let wal = Wal::open(dir.path())?;
//! wal.append(b"one")?;
//! let two = wal.append_and_sync(b"two")?;
//! wal.close()?;
//!
//! let inspection = Inspection::open(dir.path())?;
//! assert!(inspection.refusal().is_none());
//! let segment = &inspection.segments()[0];
//! let spans = inspection.frames(segment.seq)?.collect::<Result<Vec<Span>, _>>()?;
//! assert_eq!((spans[1].start, spans[1].content), (two, Content::Record));
//! assert_eq!(spans[1].standing, Standing::Durable);
//! assert_eq!(spans[1].header.unwrap().len, 3);
//!
//! let frame = inspection.frame_at(segment.seq, two)?.unwrap();
//! assert_eq!(frame.body(), b"two");
//! assert_eq!(frame.fields.header_crc, frame.fields.header_crc_computed);
//! # Ok(())
//! # }
//! ```

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod frame;
mod listing;
mod spans;
mod watch;

use std::fmt;
use std::path::Path;

pub use frame::{Fields, Frame};
pub use listing::{ControlClaim, ControlSlot, Segment, SegmentHeader, SegmentState, SnapshotFile};
pub use spans::{Content, FrameHeader, Frames, Span, Standing};
pub use watch::Watch;

use crate::crypt::Keys;
use crate::error::{Result, WalError};
use crate::format::{name, segment};
use crate::lsn::Lsn;
use crate::reader::{WalIter, iterate, unopened};
use crate::recovery::{Inventory, open_directory, take_inventory};
use crate::scan::Scanner;
use crate::store::{FileHandle, FileStore, StoreFile, WalStore};
use crate::sync::Arc;

/// The files of a log, as they were when they were looked at. See the [module](self).
pub struct Inspection {
    store: Arc<FileStore>,
    inventory: Inventory<FileHandle>,
    control: Option<[ControlSlot; 2]>,
    segments: Vec<Segment>,
    snapshots: Vec<SnapshotFile>,
    leftovers: Vec<String>,
}

impl fmt::Debug for Inspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Inspection");
        f.field("path", &self.path()).field("refusal", &self.refusal());
        f.field("segments", &self.segments.len()).finish_non_exhaustive()
    }
}

/// A segment file that is open, and how its bytes are to be read.
struct Opened {
    file: Arc<FileHandle>,
    header: segment::SegmentHeader,
    /// Its cut in the log. None for a segment that has none, or whose place is not known.
    cut: Option<u64>,
    /// Where its file ends, as a place in the log.
    limit: u64,
}

impl Inspection {
    /// Looks at the log in `dir`: names, CONTROL, headers, and what a reader reads of the frames.
    /// A log that does not open is no error; [`refusal`](Self::refusal) says why it does not.
    ///
    /// Blocks for the time it takes to read the last segment; a damaged log is read several times
    /// before it is called damaged.
    ///
    /// # Errors
    /// [`WalError::NotFound`] when there is no log, [`WalError::NotALog`] when nothing there is a
    /// file of this crate, [`WalError::Io`] when a file cannot be read.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Wal, inspect::Inspection};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// Wal::open(dir.path())?.close()?;
    /// std::fs::write(dir.path().join("CONTROL"), "garbage")?;
    /// let inspection = Inspection::open(dir.path())?;
    /// assert!(inspection.refusal().unwrap().is_corruption());
    /// assert_eq!(inspection.segments().len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        let store = open_directory(dir.as_ref())?;
        let inventory = take_inventory(&store)?;
        let mut leftovers =
            store.unpublished().map_err(|e| WalError::io("list", store.path(), e))?;
        leftovers.sort();
        let control = inventory.slots.as_ref().map(listing::control);
        let segments = listing::segments(&store, &inventory);
        let snapshots = listing::snapshots(&store, &inventory);
        Ok(Self { store: Arc::new(store), inventory, control, segments, snapshots, leftovers })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.store.path()
    }

    /// Why the log would not open, if it would not. Damage in older segments is none: it is found
    /// when they are read.
    #[must_use]
    pub fn refusal(&self) -> Option<&WalError> {
        self.inventory.refusal.as_ref()
    }

    /// Oldest LSN kept. None when the log is refused before that is known.
    #[must_use]
    pub fn head_lsn(&self) -> Option<Lsn> {
        self.inventory.look.as_ref().map(|look| Lsn::new(look.head))
    }

    /// Exclusive end of what is witnessed as durable. None when the log is refused before that is
    /// known.
    #[must_use]
    pub fn end_lsn(&self) -> Option<Lsn> {
        self.inventory.look.as_ref().map(|look| Lsn::new(look.end))
    }

    /// True when the log had been closed: nothing lies beyond [`end_lsn`](Self::end_lsn).
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.refusal().is_none() && self.inventory.look.as_ref().is_some_and(|look| look.clean)
    }

    /// The two slots of CONTROL, in the order of the file. None without CONTROL.
    #[must_use]
    pub fn control(&self) -> Option<&[ControlSlot; 2]> {
        self.control.as_ref()
    }

    /// Every file with the name of a segment, by that name.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Every file with the name of a snapshot, by its LSN.
    #[must_use]
    pub fn snapshots(&self) -> &[SnapshotFile] {
        &self.snapshots
    }

    /// Files under construction: a writer's that is at work, or what a crash left. The next open
    /// for writing removes them.
    #[must_use]
    pub fn leftovers(&self) -> &[String] {
        &self.leftovers
    }

    /// Files that are not part of a log.
    #[must_use]
    pub fn unknown_files(&self) -> &[String] {
        &self.inventory.unknown_files
    }

    /// The records from the one that starts at `from` up to [`end_lsn`](Self::end_lsn), of a log
    /// that is refused too: they end where the damage begins.
    ///
    /// # Errors
    /// What the log is [refused](Self::refusal) for when its files do not hang together; otherwise
    /// as [`WalReader::iter_from`](crate::WalReader::iter_from).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Wal, inspect::Inspection};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::open(dir.path())?;
    /// wal.append(b"one")?;
    /// wal.append(b"two")?;
    /// wal.close()?;
    /// let segment = dir.path().join("00000000000000000001.wal");
    /// let mut bytes = std::fs::read(&segment)?;
    /// let at = bytes.windows(3).position(|window| window == b"two").unwrap();
    /// bytes[at] ^= 1;
    /// std::fs::write(&segment, bytes)?;
    ///
    /// assert!(Wal::open(dir.path()).unwrap_err().is_corruption());
    /// let inspection = Inspection::open(dir.path())?;
    /// let mut records = inspection.iter_from(inspection.head_lsn().unwrap())?;
    /// assert_eq!(records.next().unwrap()?.data(), b"one");
    /// assert!(records.next().unwrap().unwrap_err().is_corruption());
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter_from(&self, from: Lsn) -> Result<WalIter<FileStore>> {
        let Some(look) = &self.inventory.look else {
            let unknown = WalError::NotFound { path: self.path().to_path_buf() };
            return Err(self.refusal().cloned().unwrap_or(unknown));
        };
        iterate(&self.store, &look.live, look.head, from.get(), look.end, &Keys::default())
    }

    /// The segments that have bytes for `lsn`, or should: first the one that holds it for the log,
    /// if one does, then the others, newest first.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Lsn, Wal, inspect::Inspection};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::open(dir.path())?;
    /// let lsn = wal.append_and_sync(b"record")?;
    /// wal.close()?;
    /// let inspection = Inspection::open(dir.path())?;
    /// assert_eq!(inspection.holding(lsn)[0].seq, 1);
    /// assert!(inspection.holding(Lsn::new(1 << 40)).is_empty());
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn holding(&self, lsn: Lsn) -> Vec<&Segment> {
        let holds = |segment: &&Segment| {
            let base = segment.header.as_ref().map(|header| header.base);
            base.is_ok_and(|base| base <= lsn) && segment.bytes_end().max(segment.end) > Some(lsn)
        };
        let mut found: Vec<_> = self.segments.iter().rev().filter(holds).collect();
        let cut = |segment: &Segment| self.cut(segment.seq).is_some_and(|cut| cut <= lsn.get());
        found.sort_by_key(|segment| !segment.state.is_live() || cut(segment));
        found
    }

    /// Everything in a segment, byte for byte, in order: from its base to the end of its file, or
    /// of what it must hold of the log if that is farther.
    ///
    /// The last live segment can always be read. A writer may remove others at any time.
    ///
    /// # Errors
    /// [`WalError::NotFound`] for a segment that is not listed, [`WalError::Corruption`] for one
    /// without a usable header, [`WalError::Truncated`] for one that a writer has removed since,
    /// [`WalError::Io`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Wal, inspect::Inspection};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::open(dir.path())?;
    /// wal.append_and_sync(b"record")?;
    /// wal.close()?;
    /// for span in Inspection::open(dir.path())?.frames(1)? {
    ///     assert!(!span?.is_damage());
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn frames(&self, seq: u64) -> Result<Frames> {
        let path = self.store.locate(&name::segment(seq));
        let look = self.inventory.look.as_ref();
        Frames::over(self.opened(seq)?, path, spans::Bounds::of(look, seq, self.cut(seq)))
    }

    /// The frame that starts at `lsn` in a segment, field by field, valid or not. None where the
    /// file has no room for a frame header.
    ///
    /// It is for the caller to know that a frame starts there: [`frames`](Self::frames) tells.
    ///
    /// # Errors
    /// As [`frames`](Self::frames), and [`WalError::OutOfMemory`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Lsn, Wal, inspect::Inspection};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::open(dir.path())?;
    /// let lsn = wal.append_and_sync(b"record")?;
    /// wal.close()?;
    /// let inspection = Inspection::open(dir.path())?;
    /// let frame = inspection.frame_at(1, lsn)?.unwrap();
    /// assert_eq!((frame.flaw, frame.body()), (None, &b"record"[..]));
    /// assert_eq!(frame.padding(), [0, 0]);
    /// assert!(inspection.frame_at(1, Lsn::new(1 << 40))?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn frame_at(&self, seq: u64, lsn: Lsn) -> Result<Option<Frame>> {
        let path = self.store.locate(&name::segment(seq));
        let look = self.inventory.look.as_ref();
        let standing = spans::Bounds::of(look, seq, self.cut(seq)).standing(lsn.get());
        Frame::read(self.opened(seq)?, path, standing, lsn.get())
    }

    /// The frames that a writer adds, from [`end_lsn`](Self::end_lsn) on, as they come.
    ///
    /// # Errors
    /// What the log is [refused](Self::refusal) for, and as [`frames`](Self::frames).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Wal, inspect::Inspection};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let dir = tempfile::tempdir()?;
    /// let wal = Wal::open(dir.path())?;
    /// let mut watch = Inspection::open(dir.path())?.watch()?;
    /// assert!(watch.next_frame()?.is_none());
    /// let lsn = wal.append_and_sync(b"record")?;
    /// assert_eq!(watch.next_frame()?.unwrap().start, lsn);
    /// assert!(watch.next_frame()?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn watch(&self) -> Result<Watch> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal.clone());
        }
        let end = self.end_lsn().unwrap_or_default();
        let holds = |segment: &&Segment| {
            let base = segment.header.as_ref().ok().map(|header| header.base);
            segment.state.is_live() && base.is_some_and(|base| base <= end)
        };
        let newest = self.segments.iter().rev().find(holds);
        let seq = newest.map_or(0, |segment| segment.seq);
        let Opened { file, header, .. } = self.opened(seq)?;
        Ok(Watch::new(Arc::clone(&self.store), file, header, end.get()))
    }

    /// The base of a live segment's successor.
    fn cut(&self, seq: u64) -> Option<u64> {
        let live = &self.inventory.look.as_ref()?.live;
        let index = live.iter().position(|header| header.seq == seq)?;
        live.get(index.checked_add(1)?).map(|next| next.base)
    }

    fn opened(&self, seq: u64) -> Result<Opened> {
        let name = name::segment(seq);
        let path = self.store.locate(&name);
        let listed = self.inventory.segments.iter().find(|listed| listed.seq == seq);
        let Some(listed) = listed else { return Err(WalError::NotFound { path }) };
        let (header, _) = match listed.header {
            Ok(header) => header,
            Err(why) => {
                let (start, end) = (Lsn::default(), Lsn::default());
                return Err(WalError::Corruption { path, offset: 0, start, end, why });
            }
        };
        let open = || self.store.open(&name).map(Arc::new);
        let file = listed.kept.clone().map_or_else(open, Ok);
        let beside = (&*self.store, 0);
        let file = file.map_err(|e| unopened(beside, (seq, header.base), &path, e))?;
        let len = file.len().map_err(|e| WalError::io("read", &path, e))?;
        let limit = header.end_after(len.saturating_sub(segment::FIRST_FRAME));
        Ok(Opened { file, header, cut: self.cut(seq), limit })
    }
}

impl Opened {
    /// A scanner over a part of the segment.
    fn scanner(self, path: &Path, from: u64, end: u64) -> Result<Scanner<Arc<FileHandle>>> {
        let segment::SegmentHeader { base, max_record, .. } = self.header;
        let seed = self.header.seed();
        Scanner::new(self.file, path.to_path_buf(), seed, base, max_record, from, end)
    }
}
