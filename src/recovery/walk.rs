//! [`Walk`]: over what is left of a log, past damage. Every frame it yields is valid; what it
//! passes over, it names, once and as one range per hole.
//!
//! I1. From one piece to the next it moves exactly at the cut.
//! I2. A place that could not be read is an error of the store, never damage.
//! I3. Time is linear in the bytes there are; memory is a block, or the largest record.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::remains::{Gap, Piece, Reading};
use super::tolerant::Tolerant;
use crate::error::{Result, WalError};
use crate::format::frame::Header;
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::lsn::{ALIGNMENT, LSN_LIMIT, Lsn};
use crate::scan::{Body, Scanner, Step};
use crate::store::{StoreFile, WalStore};

/// Until the files end, wherever that is.
pub(super) const OPEN_END: u64 = u64::MAX;

/// What comes next.
#[derive(Debug)]
pub(crate) enum Found {
    /// A valid frame; [`Walk::body`] lends its body.
    Frame { lsn: u64, header: Header },
    /// Nothing usable from `start` to the exclusive end `end`, and why.
    Skipped { start: u64, end: u64, error: WalError },
    /// The end that was asked for, or of the files.
    End,
}

/// A cursor over pieces.
pub(crate) struct Walk<S: WalStore> {
    /// The pieces that are left, last one first.
    left: Vec<Piece>,
    tail: Option<Gap>,
    open: Option<Open<S::File>>,
    /// Where the next frame must stand.
    at: u64,
    end: u64,
    reading: Reading,
}

/// The piece that is being read.
struct Open<F: StoreFile> {
    scanner: Scanner<Tolerant<F>>,
    path: PathBuf,
    header: SegmentHeader,
    /// Where reading it ends.
    limit: u64,
    /// The successor's base, or the end that was asked for.
    cut: u64,
}

impl<S: WalStore> fmt::Debug for Walk<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk").field("at", &self.at).field("end", &self.end).finish_non_exhaustive()
    }
}

impl<S: WalStore> Walk<S> {
    /// From `from` to `end`; frames behind a piece's cut do not exist.
    pub(super) fn new(
        mut pieces: Vec<Piece>,
        tail: Option<Gap>,
        from: u64,
        end: u64,
        reading: Reading,
    ) -> Self {
        let containing = pieces.iter().rposition(|piece| piece.header.base <= from).unwrap_or(0);
        pieces.drain(..containing);
        if let Some(first) = pieces.first_mut().filter(|first| first.header.base <= from) {
            first.gap = None;
        }
        pieces.reverse();
        Self { left: pieces, tail, open: None, at: from, end, reading }
    }

    /// The body of the last frame.
    pub(crate) fn body(&self) -> Body<'_> {
        self.open.as_ref().map(|open| open.scanner.body()).unwrap_or_default()
    }

    /// What the last frame's body begins with, if it is a pad that is sealed.
    pub(crate) fn pad_tag(&self) -> &[u8] {
        self.open.as_ref().map_or(&[], |open| open.scanner.pad_tag())
    }

    /// The segment that the last frame was in.
    pub(crate) fn header(&self) -> Option<&SegmentHeader> {
        self.open.as_ref().map(|open| &open.header)
    }

    /// Its file, and where it begins in the log.
    pub(crate) fn place(&self) -> (&Path, u64) {
        match &self.open {
            Some(open) => (open.path.as_path(), open.header.base),
            None => (Path::new(""), 0),
        }
    }

    /// The headers of the segments that are left, but for those that were guessed.
    pub(crate) fn headers(&self) -> impl Iterator<Item = &SegmentHeader> {
        self.left.iter().filter(|piece| !piece.guessed).map(|piece| &piece.header)
    }

    /// Where the next frame would stand.
    pub(crate) fn position(&self) -> u64 {
        self.at
    }

    /// Goes on to the end of the files, whatever end was asked for.
    pub(crate) fn without_end(&mut self) {
        self.end = OPEN_END;
    }

    /// The next frame or hole. An error is of the whole walk, and ends it.
    pub(crate) fn next(&mut self, store: &S) -> Result<Found> {
        let found = self.advance(store);
        if found.is_err() {
            self.left.clear();
            self.open = None;
            self.tail = None;
            self.end = self.at;
        }
        found
    }

    fn advance(&mut self, store: &S) -> Result<Found> {
        loop {
            let Some(open) = &mut self.open else {
                match self.open_next(store)? {
                    Some(found) => return Ok(found),
                    None => continue,
                }
            };
            match open.scanner.next()? {
                Step::Frame { lsn, header } => {
                    self.at = lsn.saturating_add(header.frame_bytes());
                    return Ok(Found::Frame { lsn, header });
                }
                Step::End => {
                    self.at = self.at.max(open.limit);
                    self.open = None;
                }
                Step::Invalid { why, .. } => {
                    if let Some(found) = self.skip(why)? {
                        return Ok(found);
                    }
                }
            }
        }
    }

    /// Opens the next piece; something to yield first, if there is.
    fn open_next(&mut self, store: &S) -> Result<Option<Found>> {
        let Some(piece) = self.left.pop() else { return Ok(Some(self.behind(store))) };
        let base = piece.header.base;
        if base > self.at || piece.gap.is_some() {
            if self.at >= self.end {
                self.left.clear();
                return Ok(None);
            }
            // A gap is told even where nothing seems to be missing: the link is.
            let end = base.min(self.end).max(self.at);
            let gap = piece.gap.clone().unwrap_or_else(|| unknown(store.locate(&piece.name)));
            let found = self.gap(end, gap);
            self.left.push(Piece { gap: None, ..piece });
            return Ok(Some(found));
        }
        let cut = self.left.last().map_or(self.end, |next| next.header.base.min(self.end));
        if self.at >= cut {
            return Ok(None);
        }
        match self.open_piece(store, &piece, cut) {
            Ok(open) => {
                self.open = Some(open);
                Ok(None)
            }
            Err(error @ WalError::Io { .. }) if self.reading == Reading::Tolerant => {
                let start = self.at;
                let end = if cut == OPEN_END { start.saturating_add(ALIGNMENT) } else { cut };
                self.at = end;
                Ok(Some(Found::Skipped { start, end, error }))
            }
            Err(error) => Err(error),
        }
    }

    fn open_piece(&self, store: &S, piece: &Piece, cut: u64) -> Result<Open<S::File>> {
        let header = &piece.header;
        let path = store.locate(&piece.name);
        let file = store.open(&piece.name).map_err(|e| WalError::io("open", &path, e))?;
        let mut limit = cut;
        if self.left.is_empty() {
            let len = file.len().map_err(|e| WalError::io("read", &path, e))?;
            let end = header.base.saturating_add(len.saturating_sub(FIRST_FRAME)).min(LSN_LIMIT);
            limit = cut.min(end.checked_next_multiple_of(ALIGNMENT).unwrap_or(LSN_LIMIT));
        }
        let file = Tolerant::new(file, self.reading == Reading::Tolerant);
        let (seed, max) = (header.seed(), header.max_record);
        let scanner = Scanner::new(file, path.clone(), seed, header.base, max, self.at, limit)?;
        Ok(Open { scanner, path, header: *header, limit, cut })
    }

    /// Passes over what is no valid frame; nothing to tell where only zeros end the files.
    fn skip(&mut self, why: &'static str) -> Result<Option<Found>> {
        let Some(open) = &mut self.open else { return Ok(None) };
        let start = self.at;
        let skipped = open.scanner.skip_invalid()?;
        let offset = |lsn: u64| lsn.saturating_sub(open.header.base).saturating_add(FIRST_FRAME);
        let reaches_limit = skipped.to >= open.limit;
        let end = match (reaches_limit, open.cut) {
            (false, _) => skipped.to,
            (true, OPEN_END) => skipped.dirt_end,
            // What is missing behind the last frame is one hole with what is missing behind it.
            (true, cut) => cut,
        };
        let read_to = if reaches_limit { open.limit.max(end) } else { end };
        let failed = open.scanner.file().take_error(&(offset(start)..offset(read_to)));
        let (path, at) = (open.path.clone(), offset(start));
        if reaches_limit {
            self.open = None;
        }
        if let Some(source) = failed {
            let end = end.max(read_to);
            self.at = end;
            let why = io::Error::new(source.kind(), Unreadable { start, end, source });
            return Ok(Some(Found::Skipped {
                start,
                end,
                error: WalError::io("read", &path, why),
            }));
        }
        if end <= start {
            return Ok(None);
        }
        if reaches_limit && let Some(gap) = self.take_gap() {
            return Ok(Some(self.gap(end, gap)));
        }
        Ok(Some(self.hole(end, path, at, why)))
    }

    /// What is missing between a piece that has ended and the next one, if anything is: where the
    /// whole rest of a piece is missing, it has it.
    fn take_gap(&mut self) -> Option<Gap> {
        match self.left.last_mut() {
            Some(next) => next.gap.take(),
            None => self.tail.take(),
        }
    }

    /// Behind the last piece. That something is missing there is told even where nothing is known
    /// to have been in it.
    fn behind(&mut self, store: &S) -> Found {
        let end = if self.end == OPEN_END { self.at } else { self.end.max(self.at) };
        match self.tail.take() {
            Some(gap) => self.gap(end, gap),
            None if end > self.at => self.gap(end, unknown(store.locate(""))),
            None => Found::End,
        }
    }

    fn gap(&mut self, end: u64, gap: Gap) -> Found {
        match gap.error {
            Some(error) => {
                let start = std::mem::replace(&mut self.at, end);
                Found::Skipped { start, end, error }
            }
            None => self.hole(end, gap.path, 0, gap.why),
        }
    }

    fn hole(&mut self, end: u64, path: PathBuf, offset: u64, why: &'static str) -> Found {
        let start = self.at;
        self.at = end;
        let (from, to) = (Lsn::new(start), Lsn::new(end));
        let error = WalError::Corruption { path, offset, start: from, end: to, why };
        Found::Skipped { start, end, error }
    }
}

/// A segment that ought to be there, and nobody knows which.
fn unknown(path: PathBuf) -> Gap {
    Gap { path, why: "a segment is missing", error: None }
}

/// Part of a log that the store could not read.
#[derive(Debug)]
struct Unreadable {
    start: u64,
    end: u64,
    source: io::Error,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LSN {} to {}: {}", self.start, self.end, self.source)
    }
}

impl std::error::Error for Unreadable {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// What a walk to the end of the files found.
#[derive(Debug, Default)]
struct Reach {
    /// The highest watermark.
    witnessed: u64,
    /// The first hole.
    first_hole: Option<u64>,
    /// Where the last valid frame ends.
    last_valid: u64,
}

/// Where a log that recovery refuses ends: everything below was durable or hangs together with
/// what was.
///
/// The same rules as recovery's, applied past damage: the newest witness W counts wherever it
/// stands, and so does a valid frame too far behind the first hole. Below W holes are damage; the
/// first one at or above it is a torn tail.
pub(super) fn end_of<S: WalStore>(
    store: &S,
    pieces: &[Piece],
    witnessed: u64,
    reading: Reading,
) -> Result<u64> {
    let first = pieces.iter().rposition(|piece| piece.header.base <= witnessed).unwrap_or(0);
    let pieces = pieces.get(first..).unwrap_or_default();
    let Some(from) = pieces.first().map(|piece| piece.header.base) else { return Ok(witnessed) };
    let walk = || Walk::<S>::new(pieces.to_vec(), None, from, OPEN_END, reading);
    let reach = measure(store, walk(), witnessed)?;
    let hole = reach.first_hole.unwrap_or(OPEN_END);
    let index = pieces.iter().rposition(|piece| piece.header.base <= hole).unwrap_or(0);
    let behind = pieces.get(index..).unwrap_or_default().iter().map(|piece| &piece.header);
    let unsynced = behind.clone().map(|header| header.max_unsynced).max().unwrap_or(0);
    let unit = behind.map(|header| header.max_unit).max().unwrap_or(0);
    let far = reach.last_valid.saturating_sub(unsynced).saturating_sub(unit);
    let proven = match far > hole {
        true => reach.witnessed.max(far),
        false => reach.witnessed,
    };
    // A second walk, so that a frame that a writer had not finished when it was passed is there
    // now: everything below what the first walk saw witnessed is.
    end_behind(store, walk(), proven)
}

fn measure<S: WalStore>(store: &S, mut walk: Walk<S>, witnessed: u64) -> Result<Reach> {
    let mut reach = Reach { witnessed, ..Reach::default() };
    loop {
        match walk.next(store)? {
            Found::Frame { header, .. } => {
                reach.witnessed = reach.witnessed.max(header.watermark.unwrap_or(0));
                reach.last_valid = walk.position();
            }
            Found::Skipped { start, .. } => drop(reach.first_hole.get_or_insert(start)),
            Found::End => return Ok(reach),
        }
    }
}

/// The last boundary of a unit before the first hole at or above `proven`, which it is not below.
fn end_behind<S: WalStore>(store: &S, mut walk: Walk<S>, proven: u64) -> Result<u64> {
    let mut boundary = proven;
    loop {
        match walk.next(store)? {
            // A frame that begins below it was durable as a whole.
            Found::Frame { lsn, header } if !header.more() || lsn < proven => {
                boundary = boundary.max(walk.position());
            }
            Found::Frame { .. } => {}
            Found::Skipped { end, .. } if end <= proven => {}
            // What could not be read is no end: it is told, as the last thing.
            Found::Skipped { end, error: WalError::Io { .. }, .. } => return Ok(boundary.max(end)),
            Found::Skipped { .. } | Found::End => return Ok(boundary),
        }
    }
}
