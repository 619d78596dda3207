//! [`WalIter`]: a cursor over the live chain.

use std::fmt;
use std::io;
use std::path::PathBuf;

use super::beside::{Beside, unopened};
use super::decode::{Decoder, flaw_at};
use super::record::{Record, RecordRef};
use crate::crypt::Keys;
use crate::error::{Result, WalError};
use crate::format::frame::{Header, Kind};
use crate::format::name;
use crate::format::segment::FIRST_FRAME;
use crate::lsn::{Lsn, Place};
use crate::scan::{Scanner, Step};
use crate::segments::{LiveSegment, cipher_of};
use crate::store::{FileStore, WalStore};
use crate::sync::Arc;

/// Records in LSN order, up to an end that was fixed when the iterator was made.
///
/// As an `Iterator` it yields owned [`Record`]s; [`read_next`](Self::read_next) lends payloads
/// instead and allocates nothing per record. Every checksum is verified. The files are read in
/// blocks, one file open at a time. After an error the iterator ends.
pub struct WalIter<S: WalStore = FileStore> {
    store: Arc<S>,
    /// The segments that are left, last one first.
    left: Vec<Arc<LiveSegment<S::File>>>,
    scanner: Option<Scanner<Arc<S::File>>>,
    segment: PathBuf,
    /// LSN the next segment is read from.
    from: u64,
    end: u64,
    /// The caller named this LSN; a record must start there.
    first: Option<u64>,
    /// The log that appends meanwhile, if any, and the era this was made in.
    beside: Option<(Arc<dyn Beside>, u64)>,
    keys: Keys,
    decoder: Decoder,
    /// A record could not be decoded: nothing comes any more.
    over: bool,
}

/// The log that appends meanwhile, if any, and the era it is read in; and the keys it is read with.
pub(crate) type Surroundings = (Option<(Arc<dyn Beside>, u64)>, Keys);

impl<S: WalStore> fmt::Debug for WalIter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("WalIter");
        f.field("from", &self.from).field("end", &self.end).finish_non_exhaustive()
    }
}

impl<S: WalStore> WalIter<S> {
    /// A cursor over `[from, end)` of a live chain in ascending order whose oldest kept byte is
    /// at `head`. All of it is durable, or the log is `beside`.
    pub(crate) fn over(
        store: Arc<S>,
        live: Vec<Arc<LiveSegment<S::File>>>,
        head: u64,
        from: u64,
        end: u64,
        surroundings: Surroundings,
    ) -> Result<Self> {
        if from < head {
            return Err(WalError::Truncated { lsn: Lsn::new(from), head: Lsn::new(head) });
        }
        let mut iter = Self::at_boundary(store, live, from, end, surroundings);
        iter.first = (from != head && from < end).then_some(from);
        if iter.first.is_some() {
            iter.require_record()?;
        }
        Ok(iter)
    }

    /// The same where a frame is known to start at `from`, which is not below the head.
    pub(crate) fn at_boundary(
        store: Arc<S>,
        live: Vec<Arc<LiveSegment<S::File>>>,
        from: u64,
        end: u64,
        (beside, keys): Surroundings,
    ) -> Self {
        let mut left = live;
        let containing = left.iter().rposition(|segment| segment.header.base <= from).unwrap_or(0);
        left.drain(..containing);
        left.reverse();
        if from >= end {
            left.clear();
        }
        Self {
            segment: store.locate(""),
            store,
            left,
            scanner: None,
            from,
            end,
            first: None,
            beside,
            keys,
            decoder: Decoder::default(),
            over: false,
        }
    }

    /// Where the next frame starts.
    pub(super) fn reached(&self) -> u64 {
        self.scanner.as_ref().map_or(self.from, Scanner::position)
    }

    /// Lets a cursor over one segment that has come to its end go on up to `end`, in the same file.
    pub(crate) fn go_on(&mut self, end: u64) -> Result<()> {
        (self.from, self.end) = (end, end);
        self.scanner.as_mut().map_or(Ok(()), |scanner| scanner.extend(end))
    }

    /// The segment that it reads, by its base.
    pub(crate) fn base(&self) -> Option<u64> {
        self.scanner.as_ref().map(Scanner::base)
    }

    /// Fails unless a frame starts where it begins.
    pub(crate) fn require_frame(mut self) -> Result<Self> {
        if self.from < self.end {
            self.first = Some(self.from);
            self.require(|_| true)?;
            self.first = None;
        }
        Ok(self)
    }

    /// The next record, its payload lent until the next call; `None` at the end. Reads a block
    /// now and then, otherwise does no I/O, and allocates only for a record larger than a block.
    ///
    /// # Errors
    /// [`WalError::Corruption`] where durable bytes are damaged, [`WalError::Io`] where they cannot
    /// be read, [`WalError::Poisoned`] where a failed sync has lost what was not durable; the
    /// iterator ends after any of them. Bytes that are damaged and not durable yet are synced
    /// before it is said which they are: that blocks, and fails as [`sync`](crate::Wal::sync) does.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"one")?;
    /// let mut records = wal.iter()?;
    /// assert_eq!(records.read_next().unwrap()?.data(), b"one");
    /// assert!(records.read_next().is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_next(&mut self) -> Option<Result<RecordRef<'_>>> {
        let (lsn, header) = match self.advance() {
            Ok(Some(next)) => next,
            Ok(None) => return None,
            Err(error) => {
                self.stop();
                return Some(Err(error));
            }
        };
        let scanner = self.scanner.as_ref()?;
        Some(match self.decoder.record(lsn, &header, scanner.body()) {
            Ok(body) => Ok(RecordRef::new(lsn, &header, body)),
            Err(flaw) => {
                self.over = true;
                Err(flaw_at(&self.segment, scanner.base(), lsn, &header, flaw))
            }
        })
    }

    fn stop(&mut self) {
        self.left.clear();
        self.scanner = None;
    }

    /// Moves to the next record, and returns its LSN and its header.
    #[inline]
    fn advance(&mut self) -> Result<Option<(u64, Header)>> {
        if self.over {
            self.stop();
        }
        loop {
            let Some(scanner) = &mut self.scanner else {
                if !self.next_segment()? {
                    return Ok(None);
                }
                continue;
            };
            match scanner.next()? {
                Step::Frame { lsn, header } if header.kind == Kind::Record => {
                    self.refuse_cut(lsn)?;
                    return Ok(Some((lsn, header)));
                }
                Step::Frame { lsn, header } => {
                    let checked = self.decoder.check_pad(lsn, &header, scanner.pad_tag());
                    let base = scanner.base();
                    checked.map_err(|flaw| flaw_at(&self.segment, base, lsn, &header, flaw))?;
                }
                // The file is kept for who goes on.
                Step::End if self.left.is_empty() => return Ok(None),
                Step::End => self.scanner = None,
                Step::Invalid { lsn, why } => return Err(self.damage(lsn, why)),
            }
        }
    }

    /// Fails when the log was cut at or below `lsn` since this was made.
    #[inline]
    fn refuse_cut(&self, lsn: u64) -> Result<()> {
        let Some((log, era)) = &self.beside else { return Ok(()) };
        match log.lowest_cut_since(*era) {
            Some(cut) if cut <= lsn => Err(log.cut_off(cut)),
            _ => Ok(()),
        }
    }

    /// Makes what is below `lsn` durable, where there is a log that can.
    fn settle(&self, lsn: u64) -> Result<()> {
        self.beside.as_ref().map_or(Ok(()), |(log, era)| log.settle(Place { lsn, era: *era }))
    }

    /// What the bytes at `lsn` are that do not hold a frame.
    ///
    /// After a failed sync a system may show what its disk has instead of what was written, and
    /// it may do so before anyone was told. Bytes that are synced since are damaged for sure.
    pub(super) fn damage(&self, lsn: u64, why: &'static str) -> WalError {
        if let Err(lost) = self.settle(lsn + 1) {
            return lost;
        }
        let base = self.scanner.as_ref().map_or(0, Scanner::base);
        WalError::Corruption {
            path: self.segment.clone(),
            offset: FIRST_FRAME + lsn.saturating_sub(base),
            start: Lsn::new(lsn),
            end: Lsn::new(self.end),
            why,
        }
    }

    /// Opens the next segment; false when there is none.
    fn next_segment(&mut self) -> Result<bool> {
        let Some(segment) = self.left.pop() else { return Ok(false) };
        let cut = self.cut();
        if self.from >= cut {
            return Ok(true);
        }
        self.scanner = Some(self.open(&segment, self.from.max(segment.header.base), cut)?);
        self.from = cut;
        if cut == self.end {
            self.left.clear();
        }
        Ok(true)
    }

    /// Where the segment before those that are left ends.
    fn cut(&self) -> u64 {
        self.left.last().map_or(self.end, |next| next.header.base.min(self.end))
    }

    /// The segments that are left and begin below `lsn` or are the first one, newest first.
    pub(super) fn segments_to(&self, lsn: u64) -> Vec<Arc<LiveSegment<S::File>>> {
        let mut segments: Vec<_> = self.left.iter().map(Arc::clone).collect();
        let newer = segments.iter().take_while(|segment| segment.header.base > lsn).count();
        segments.drain(..newer.min(segments.len().saturating_sub(1)));
        segments
    }

    /// Where the segment that holds `lsn` ends.
    pub(super) fn cut_of(&self, lsn: u64) -> u64 {
        let newer = self.left.iter().map(|segment| segment.header.base);
        newer.take_while(|base| *base > lsn).last().map_or(self.end, |base| base.min(self.end))
    }

    /// Reads a segment up to `end` from `from` on, whatever was read before.
    pub(super) fn scan(
        &mut self,
        segment: &LiveSegment<S::File>,
        from: u64,
        end: u64,
    ) -> Result<()> {
        self.scanner = Some(self.open(segment, from, end)?);
        Ok(())
    }

    pub(super) fn scanner(&mut self) -> Option<&mut Scanner<Arc<S::File>>> {
        self.scanner.as_mut()
    }

    fn open(
        &mut self,
        segment: &LiveSegment<S::File>,
        from: u64,
        end: u64,
    ) -> Result<Scanner<Arc<S::File>>> {
        let header = &segment.header;
        self.segment = self.store.locate(&name::segment(header.seq));
        let file = match segment.open(&*self.store) {
            Ok(file) => file,
            Err(error) => return Err(self.unopened(header.seq, from, error)),
        };
        let path = self.segment.clone();
        self.decoder.begin(cipher_of(&self.keys, header)?, header.max_record);
        Scanner::new(file, path, header.seed(), header.base, header.max_record, from, end)
    }

    /// Why a segment cannot be read from `from` on.
    fn unopened(&self, seq: u64, from: u64, error: io::Error) -> WalError {
        match &self.beside {
            Some((log, era)) => unopened((&**log, *era), (seq, from), &self.segment, error),
            None => WalError::io("open", &self.segment, error),
        }
    }

    /// Fails unless a record starts at the LSN the caller named.
    fn require_record(&mut self) -> Result<()> {
        self.require(|kind| kind == Kind::Record)
    }

    /// Fails unless such a frame starts at the LSN the caller named. Where no valid frame is, only
    /// the frames before it tell a damaged record from a place that never was one.
    fn require(&mut self, such: impl Fn(Kind) -> bool) -> Result<()> {
        let Some((segment, lsn)) = self.left.pop().zip(self.first) else { return Ok(()) };
        let cut = self.cut();
        let found = self.starts_at(&segment, lsn, cut);
        self.left.push(segment);
        match found? {
            Some(kind) if such(kind) => Ok(()),
            _ => Err(WalError::NotARecord { lsn: Lsn::new(lsn) }),
        }
    }

    fn starts_at(
        &mut self,
        segment: &LiveSegment<S::File>,
        lsn: u64,
        cut: u64,
    ) -> Result<Option<Kind>> {
        match self.open(segment, lsn, cut)?.next()? {
            Step::Frame { header, .. } => return Ok(Some(header.kind)),
            Step::End => return Ok(None),
            Step::Invalid { .. } => {}
        }
        let mut walk = self.open(segment, segment.header.base, cut)?;
        loop {
            match walk.next()? {
                Step::Frame { lsn: at, .. } if at <= lsn => {}
                // Behind damage nobody knows where records start.
                Step::Invalid { lsn: at, why } if at <= lsn => {
                    self.scanner = Some(walk);
                    return Err(self.damage(at, why));
                }
                _ => return Ok(None),
            }
        }
    }
}

impl<S: WalStore> Iterator for WalIter<S> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.read_next()?.and_then(|record| record.try_to_record());
        if record.is_err() {
            self.stop();
        }
        Some(record)
    }
}

impl<S: WalStore> std::iter::FusedIterator for WalIter<S> {}
