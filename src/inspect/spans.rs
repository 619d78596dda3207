//! [`Frames`]: what every byte of a segment is, past damage too.
//!
//! I1. The spans leave no byte out and overlap nowhere: each starts where the one before it ends.
//! I2. What a frame is, the scanner says, and where the next one is behind bytes that are none.

use std::fmt;
use std::path::{Path, PathBuf};

use super::Opened;
use crate::error::Result;
use crate::format::frame::{Header, Kind};
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;
use crate::recovery::Look;
use crate::scan::{Scanner, Skipped, Step};
use crate::store::FileHandle;
use crate::sync::Arc;

/// A range of a segment: one frame, or bytes that are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Span {
    /// Its place in the log.
    pub start: Lsn,
    /// Exclusive end.
    pub end: Lsn,
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// What it holds.
    pub content: Content,
    /// What the log says of this place.
    pub standing: Standing,
    /// What the header of the frame says; none of bytes that are no valid frame.
    pub header: Option<FrameHeader>,
}

/// What the header of a valid frame says, besides what kind of frame it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FrameHeader {
    /// Bytes of the body: of a record, what the caller appended, unless it is encoded.
    pub len: u32,
    /// Others of the same batch follow.
    pub more: bool,
    /// All below was durable when the frame was appended; none: no information.
    pub watermark: Option<Lsn>,
}

impl From<&Header> for FrameHeader {
    fn from(header: &Header) -> Self {
        let watermark = header.watermark.map(Lsn::new);
        Self { len: header.len, more: header.more(), watermark }
    }
}

/// What a range of a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Content {
    /// A valid frame with a record.
    Record,
    /// A valid frame that carries nothing.
    Pad,
    /// Zeros: space prepared for frames, or what is left of some.
    Zeros,
    /// Bytes that are no valid frame.
    Invalid {
        /// What is wrong where they start.
        why: &'static str,
    },
    /// Nothing: the file ends before.
    Missing,
}

/// What the log says of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Standing {
    /// Below the head: not kept any more.
    BelowHead,
    /// Witnessed as durable: a valid frame must be here.
    Durable,
    /// Above the newest witness: recovery decides what of it is kept.
    Unwitnessed,
    /// Beyond the cut of its segment, or in a segment that is not part of the log any more.
    Dead,
    /// Not known, because the files do not hang together.
    Unknown,
}

impl Span {
    /// Length in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.end.get().saturating_sub(self.start.get())
    }

    /// True when a frame must be here, and none is.
    #[must_use]
    pub fn is_damage(&self) -> bool {
        let is_frame = matches!(self.content, Content::Record | Content::Pad);
        self.standing == Standing::Durable && !is_frame
    }
}

impl Content {
    /// What a valid frame holds.
    pub(super) fn of(header: &Header) -> Self {
        match header.kind {
            Kind::Record => Self::Record,
            Kind::Pad => Self::Pad,
        }
    }
}

/// Where standings change in one segment.
#[derive(Debug, Clone, Copy)]
pub(super) enum Bounds {
    Unknown,
    Dead,
    Live { head: u64, witnessed: u64, cut: u64 },
}

impl Bounds {
    pub(super) fn of(look: Option<&Look>, seq: u64, cut: Option<u64>) -> Self {
        match look {
            None => Self::Unknown,
            Some(look) if !look.live.iter().any(|header| header.seq == seq) => Self::Dead,
            Some(look) => {
                let cut = cut.unwrap_or(u64::MAX);
                Self::Live { head: look.head, witnessed: look.end, cut }
            }
        }
    }

    pub(super) fn standing(self, lsn: u64) -> Standing {
        match self {
            Self::Unknown => Standing::Unknown,
            Self::Dead => Standing::Dead,
            Self::Live { cut, .. } if lsn >= cut => Standing::Dead,
            Self::Live { head, .. } if lsn < head => Standing::BelowHead,
            Self::Live { witnessed, .. } if lsn < witnessed => Standing::Durable,
            Self::Live { .. } => Standing::Unwitnessed,
        }
    }

    /// The first place after `lsn` where the standing changes.
    fn next(self, lsn: u64) -> u64 {
        let Self::Live { head, witnessed, cut } = self else { return u64::MAX };
        [head, witnessed, cut].into_iter().filter(|at| *at > lsn).min().unwrap_or(u64::MAX)
    }
}

/// Everything in a segment, in order. After an error it ends.
pub struct Frames {
    scanner: Option<Scanner<Arc<FileHandle>>>,
    path: PathBuf,
    header: SegmentHeader,
    bounds: Bounds,
    /// Where the file ends.
    limit: u64,
    /// Where the part that is being read ends.
    end: u64,
    /// The part behind the cut, which is read after the one before it.
    beyond: Option<(u64, u64)>,
    gap: Option<Gap>,
}

/// Bytes without a frame that are not told yet.
#[derive(Debug, Clone, Copy)]
struct Gap {
    at: u64,
    end: u64,
    /// From here on there are only zeros.
    zeros: u64,
    why: &'static str,
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Frames {
    pub(super) fn over(opened: Opened, path: PathBuf, bounds: Bounds) -> Result<Self> {
        let (header, limit) = (opened.header, opened.limit);
        let must = match bounds {
            Bounds::Live { witnessed, .. } => witnessed,
            Bounds::Unknown | Bounds::Dead => header.base,
        };
        let end = opened.cut.unwrap_or(limit.max(must)).max(header.base);
        let beyond = (limit > end).then_some((end, limit));
        let scanner = Some(opened.scanner(&path, header.base, end)?);
        Ok(Self { scanner, path, header, bounds, limit, end, beyond, gap: None })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn span(&self, start: u64, end: u64, content: Content) -> Span {
        let offset = start.saturating_sub(self.header.base).saturating_add(FIRST_FRAME);
        let standing = self.bounds.standing(start);
        let (start, end) = (Lsn::new(start), Lsn::new(end));
        Span { start, end, offset, content, standing, header: None }
    }

    fn advance(&mut self) -> Result<Option<Span>> {
        loop {
            if let Some(span) = self.piece() {
                return Ok(Some(span));
            }
            let Some(scanner) = &mut self.scanner else { return Ok(None) };
            match scanner.next()? {
                Step::Frame { lsn, header } => {
                    let end = lsn.saturating_add(header.frame_bytes());
                    let span = self.span(lsn, end, Content::of(&header));
                    return Ok(Some(Span { header: Some(FrameHeader::from(&header)), ..span }));
                }
                Step::Invalid { lsn, why } => {
                    let Skipped { to, dirt_end } = scanner.skip_invalid()?;
                    // Zeros between two frames are part of what was there; those before the end
                    // are space that was never used.
                    let only_zeros = dirt_end <= lsn;
                    let zeros = if only_zeros || to >= self.end { dirt_end } else { to };
                    self.gap = Some(Gap { at: lsn, end: to, zeros: zeros.clamp(lsn, to), why });
                }
                Step::End => self.go_beyond()?,
            }
        }
    }

    /// Goes on behind the cut.
    fn go_beyond(&mut self) -> Result<()> {
        let Some(scanner) = self.scanner.take() else { return Ok(()) };
        let Some((from, end)) = self.beyond.take() else { return Ok(()) };
        let opened =
            Opened { file: scanner.into_file(), header: self.header, cut: None, limit: end };
        self.scanner = Some(opened.scanner(&self.path, from, end)?);
        self.end = end;
        Ok(())
    }

    /// The next piece of a gap: of one content and one standing.
    fn piece(&mut self) -> Option<Span> {
        let mut gap = self.gap?;
        let (content, until) = if gap.at >= self.limit {
            (Content::Missing, gap.end)
        } else if gap.at >= gap.zeros {
            (Content::Zeros, gap.end.min(self.limit))
        } else {
            (Content::Invalid { why: gap.why }, gap.zeros.min(self.limit))
        };
        let start = gap.at;
        gap.at = until.min(self.bounds.next(start));
        self.gap = Some(gap).filter(|gap| gap.at < gap.end);
        Some(self.span(start, gap.at, content))
    }
}

impl Iterator for Frames {
    type Item = Result<Span>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.scanner = None;
            self.gap = None;
        }
        next.transpose()
    }
}

impl std::iter::FusedIterator for Frames {}
