//! Where the log ends: the walk over valid frames, and what it and the bytes behind it witness.
//!
//! The walk begins at the base of the live segment that holds the best watermark known, so it
//! costs the last segment, whatever the log's size; or at the head, if that is in it. From one
//! segment to the next it moves exactly at the cut. Frames below the head do not count, and those
//! beyond a cut do not exist.

use std::path::PathBuf;

use super::behind::Behind;
use super::chain::Chain;
use crate::error::{Result, WalError};
use crate::format::frame::{COMPRESSED, Header, Kind};
use crate::format::name;
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;
use crate::scan::{Scanner, Step};
use crate::store::{StoreFile, WalStore};

/// Boundaries are marked at least this far apart, in bytes.
const MARK_STRIDE: u64 = 64 << 10;
/// More marks than this are thinned out.
const MAX_MARKS: usize = 4096;

/// What the walk found.
#[derive(Debug)]
pub(super) struct Extent {
    /// Index of the live segment where the walk began.
    pub(super) first: usize,
    /// The first invalid position, X.
    pub(super) stop: u64,
    /// Index of the live segment that X is in.
    pub(super) stop_index: usize,
    /// What is wrong at X.
    pub(super) why: &'static str,
    /// The last reservation boundary at or below X.
    pub(super) boundary: u64,
    /// The best watermark, W.
    pub(super) witnessed: u64,
    /// Where the valid frame that lies farthest behind X ends; at most X when there is none.
    pub(super) evidence_end: u64,
    /// End of the last word behind X that is not zero; at most X when there is none.
    pub(super) dirt_end: u64,
    /// Records below `boundary`.
    pub(super) records: u64,
    /// The last of them.
    pub(super) last_record: Option<u64>,
    /// A record starts at the LSN the caller demands.
    pub(super) demand_seen: bool,
    marks: Marks,
}

/// Some reservation boundaries, so that a second look need not start from the beginning.
#[derive(Debug)]
struct Marks {
    stride: u64,
    at: Vec<u64>,
}

impl Marks {
    fn add(&mut self, boundary: u64) {
        let next = self.at.last().map_or(0, |last| last.saturating_add(self.stride));
        if boundary < next {
            return;
        }
        if self.at.len() >= MAX_MARKS {
            let mut index = 0_usize;
            self.at.retain(|_| {
                index = index.wrapping_add(1);
                !index.is_multiple_of(2)
            });
            self.stride = self.stride.saturating_mul(2);
        }
        self.at.push(boundary);
    }
}

/// What the walk looks for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    pub(super) head: u64,
    /// The LSN of the record that the caller demands.
    pub(super) demand: Option<u64>,
    /// Whether to read on behind the first invalid frame.
    pub(super) behind: bool,
}

/// A live segment, opened.
struct Opened<F> {
    file: F,
    path: PathBuf,
    /// Its cut, or where its file ends.
    limit: u64,
}

fn open<S: WalStore>(store: &S, chain: &Chain, index: usize) -> Result<Option<Opened<S::File>>> {
    let Some(header) = chain.live.get(index) else { return Ok(None) };
    let name = name::segment(header.seq);
    let path = store.locate(&name);
    let file = store.open(&name).map_err(|e| WalError::io("open", &path, e))?;
    let limit = match chain.cut(index) {
        Some(cut) => cut,
        None => {
            let len = file.len().map_err(|e| WalError::io("read", &path, e))?;
            let frames = len.saturating_sub(FIRST_FRAME);
            header.end_after(frames)
        }
    };
    Ok(Some(Opened { file, path, limit }))
}

/// A scanner over a part of a live segment.
pub(super) fn scanner<S: WalStore>(
    store: &S,
    header: &SegmentHeader,
    from: u64,
    to: u64,
) -> Result<Scanner<S::File>> {
    let name = name::segment(header.seq);
    let path = store.locate(&name);
    let file = store.open(&name).map_err(|e| WalError::io("open", &path, e))?;
    Scanner::new(file, path, header.seed(), header.base, header.max_record, from, to)
}

/// Where the live segment at `index` begins to count: a frame starts there, if any does.
pub(super) fn start(chain: &Chain, index: usize, head: u64) -> Option<u64> {
    chain.live.get(index).map(|header| header.base.max(head))
}

/// Walks the log from the live segment that holds `witnessed`, which is not below the head.
pub(super) fn find<S: WalStore>(
    store: &S,
    chain: &Chain,
    witnessed: u64,
    search: Search,
) -> Result<Extent> {
    let first = chain.containing(witnessed);
    let start = start(chain, first, search.head).unwrap_or(witnessed);
    let mut walk = Walk {
        extent: Extent {
            first,
            stop: start,
            stop_index: first,
            why: "the log ends here",
            boundary: start,
            witnessed,
            evidence_end: 0,
            dirt_end: 0,
            records: 0,
            last_record: None,
            demand_seen: false,
            marks: Marks { stride: MARK_STRIDE, at: vec![start] },
        },
        search,
        unit_records: 0,
        unit_last: None,
    };
    let mut index = first;
    while let Some(opened) = open(store, chain, index)? {
        let Some(header) = chain.live.get(index) else { break };
        walk.extent.stop_index = index;
        let (path, limit) = (opened.path.clone(), opened.limit);
        let (file, whole) = walk.segment(header, opened)?;
        if !whole {
            if search.behind {
                walk.behind(store, chain, index, (file, path, limit))?;
            }
            break;
        }
        index = index.saturating_add(1);
    }
    Ok(walk.extent)
}

struct Walk {
    extent: Extent,
    search: Search,
    /// Records of the batch that the walk is in, and the last of them.
    unit_records: u64,
    unit_last: Option<u64>,
}

impl Walk {
    /// Walks one segment; true when it is valid up to its cut.
    fn segment<F: StoreFile>(
        &mut self,
        header: &SegmentHeader,
        opened: Opened<F>,
    ) -> Result<(F, bool)> {
        let Opened { file, path, limit } = opened;
        let (seed, base, max) = (header.seed(), header.base, header.max_record);
        let from = base.max(self.search.head);
        let mut scanner = Scanner::new(file, path, seed, base, max, from, limit)?;
        let whole = loop {
            match scanner.next()? {
                Step::Frame { lsn, header } => self.frame(lsn, &header),
                Step::End => {
                    self.extent.stop = limit.max(from);
                    let whole = self.extent.boundary >= limit;
                    if !whole {
                        self.extent.why = "a batch crosses the end of its segment";
                    }
                    break whole;
                }
                Step::Invalid { lsn, why } => {
                    self.extent.stop = lsn;
                    self.extent.why = why;
                    break false;
                }
            }
        };
        Ok((scanner.into_file(), whole))
    }

    fn frame(&mut self, lsn: u64, header: &Header) {
        let extent = &mut self.extent;
        extent.witnessed = extent.witnessed.max(header.watermark.unwrap_or(0));
        if header.kind == Kind::Record {
            extent.demand_seen |= self.search.demand == Some(lsn);
            self.unit_records = self.unit_records.saturating_add(1);
            self.unit_last = Some(lsn);
        }
        if !header.more() {
            extent.boundary = lsn.saturating_add(header.frame_bytes());
            extent.marks.add(extent.boundary);
            extent.records = extent.records.saturating_add(self.unit_records);
            extent.last_record = self.unit_last.or(extent.last_record);
            self.unit_records = 0;
            self.unit_last = None;
        }
    }

    /// Reads on behind X, in its segment and in every later one.
    fn behind<S: WalStore>(
        &mut self,
        store: &S,
        chain: &Chain,
        index: usize,
        first: (S::File, PathBuf, u64),
    ) -> Result<()> {
        let mut behind = Behind::new();
        let (file, path, limit) = first;
        if let Some(header) = chain.live.get(index) {
            behind.search(&file, path, header, self.extent.stop, limit)?;
        }
        let mut index = index.saturating_add(1);
        while let Some(opened) = open(store, chain, index)? {
            let Some(header) = chain.live.get(index) else { break };
            behind.search(&opened.file, opened.path, header, header.base, opened.limit)?;
            index = index.saturating_add(1);
        }
        self.extent.witnessed = self.extent.witnessed.max(behind.watermark);
        self.extent.evidence_end = behind.evidence_end;
        self.extent.dirt_end = behind.dirt_end;
        Ok(())
    }
}

impl Extent {
    /// Damage at X, in the words of a verdict.
    pub(super) fn damage<S: WalStore>(
        &self,
        store: &S,
        chain: &Chain,
        why: &'static str,
    ) -> WalError {
        let segment = chain.live.get(self.stop_index);
        let path = store.locate(&segment.map_or(String::new(), |h| name::segment(h.seq)));
        let base = segment.map_or(self.stop, |header| header.base);
        let offset = self.stop.saturating_sub(base).saturating_add(FIRST_FRAME);
        let end = Lsn::new(self.witnessed.max(self.stop));
        WalError::Corruption { path, offset, start: Lsn::new(self.stop), end, why }
    }

    /// How far behind X a valid frame may end without being evidence of damage.
    pub(super) fn reach(&self, chain: &Chain) -> u64 {
        let from = chain.live.get(self.stop_index..).unwrap_or_default();
        let unsynced = from.iter().map(|header| header.max_unsynced).max().unwrap_or(0);
        let unit = from.iter().map(|header| header.max_unit).max().unwrap_or(0);
        self.stop.saturating_add(unsynced).saturating_add(unit)
    }

    /// A known boundary at or below `lsn`, which is not below the walk's start.
    fn mark(&self, lsn: u64) -> u64 {
        if self.boundary <= lsn {
            return self.boundary;
        }
        let marks = &self.marks.at;
        marks.iter().rev().find(|mark| **mark <= lsn).or(marks.first()).copied().unwrap_or(lsn)
    }
}

/// What `[witness, end)` holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// The largest reservation, in encoded bytes.
    pub(super) largest_unit: u64,
    /// The largest body, or what a compressed one may stand for.
    pub(super) largest_record: u32,
}

/// Measures `[extent.witnessed, end)`; `None` when no reservation ends at the witnessed LSN.
///
/// Reads again what lies between the last mark and the end, so the walk need not remember every
/// boundary. The frames were valid a moment ago; if one no longer is, that is damage.
pub(super) fn tally<S: WalStore>(
    store: &S,
    chain: &Chain,
    extent: &Extent,
    end: u64,
) -> Result<Option<Tally>> {
    let witness = extent.witnessed;
    let from = extent.mark(witness);
    let mut found = from == witness;
    let mut unit_start = from;
    let mut tally = Tally::default();
    for (segment, from, to) in chain.pieces(from, end.max(witness)) {
        let mut scanner = scanner(store, &segment, from, to)?;
        loop {
            match scanner.next()? {
                Step::Frame { lsn, header } => {
                    let frame_end = lsn.saturating_add(header.frame_bytes());
                    if lsn >= witness && header.kind == Kind::Record {
                        // What a compressed one stands for is not looked at here.
                        let compressed = header.flags & COMPRESSED != 0;
                        let most = if compressed { segment.max_record } else { 0 };
                        tally.largest_record = tally.largest_record.max(header.len).max(most);
                    }
                    if !header.more() {
                        found |= frame_end == witness;
                        if unit_start >= witness {
                            let unit = frame_end.saturating_sub(unit_start);
                            tally.largest_unit = tally.largest_unit.max(unit);
                        }
                        unit_start = frame_end;
                    }
                    if frame_end > witness && !found {
                        return Ok(None);
                    }
                }
                Step::End => break,
                Step::Invalid { .. } => {
                    return Err(extent.damage(store, chain, "bytes changed between two reads"));
                }
            }
        }
    }
    Ok(found.then_some(tally))
}

/// The last record at or above `head` in the live segments before the one with index `first`.
pub(super) fn last_record_before<S: WalStore>(
    store: &S,
    chain: &Chain,
    first: usize,
    head: u64,
) -> Result<Option<u64>> {
    let end = chain.live.get(first).map_or(0, |header| header.base);
    for (segment, from, to) in chain.pieces(head, end).rev() {
        let mut scanner = scanner(store, &segment, from, to)?;
        let mut last = None;
        loop {
            match scanner.next()? {
                Step::Frame { lsn, header } => {
                    if header.kind == Kind::Record {
                        last = Some(lsn);
                    }
                }
                Step::End => break,
                Step::Invalid { lsn, why } => {
                    let path = store.locate(&name::segment(segment.seq));
                    let offset = lsn.saturating_sub(segment.base).saturating_add(FIRST_FRAME);
                    let (start, end) = (Lsn::new(lsn), Lsn::new(to));
                    return Err(WalError::Corruption { path, offset, start, end, why });
                }
            }
        }
        if last.is_some() {
            return Ok(last);
        }
    }
    Ok(None)
}
