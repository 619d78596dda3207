//! [`Remains`]: what is left of a log that recovery may refuse. Changes nothing.
//!
//! Where recovery needs every name, header and link to be right, this takes what there is: it
//! follows the chain from the newest readable segment down and steps over what is missing or
//! unreadable, remembering why. Each step over is a gap that a [`Walk`](super::walk::Walk) names.
//!
//! I1. A segment is cut at the base of its successor among the pieces: frames beyond a known cut
//!     never show. Where the segment that made the cut is lost, so is the cut.
//! I2. What is taken is of one log: CONTROL's, or the one of the newest readable segment where
//!     CONTROL says nothing or is of a log that has no segment here.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::PathBuf;

use super::chain::{self, Chain};
use super::headless;
use super::survey::{self, ControlView, Listing};
use super::tolerant::Tolerant;
use crate::error::{Result, WalError};
use crate::format::control::Claim;
use crate::format::segment::{
    HeaderArea, SECOND_COPY, SEGMENT_HEADER_BYTES, SegmentHeader, decode_area,
};
use crate::format::{BlockError, LogId, name};
use crate::lsn::Lsn;
use crate::scan::read_full;
use crate::store::WalStore;

/// How files are read and what is taken for a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Around places that cannot be read, and whatever a file is called: for who only looks.
    Tolerant,
    /// An error of the store is an error, and names count: for who will change files.
    Exact,
}

/// A segment that is part of the log, as far as can be told.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub(super) header: SegmentHeader,
    /// The file's name, which may be the wrong one.
    pub(super) name: String,
    /// Why the segment before it is not the piece before it, if so.
    pub(super) gap: Option<Gap>,
    /// Its header was lost, and what stands for it was guessed from a neighbour's.
    pub(super) guessed: bool,
}

/// A place where segments are missing.
#[derive(Debug, Clone)]
pub(super) struct Gap {
    pub(super) path: PathBuf,
    pub(super) why: &'static str,
    /// Set where nothing is known to be missing: it could not be read.
    pub(super) error: Option<WalError>,
}

/// What is left of a log.
#[derive(Debug)]
pub(super) struct Remains {
    pub(super) listing: Listing,
    /// What CONTROL says, or what is wrong with it.
    pub(super) control: Result<ControlView>,
    /// Ascending by base and by sequence number.
    pub(super) pieces: Vec<Piece>,
    /// All readable segments of the log, ascending by sequence number.
    pub(super) readable: Vec<SegmentHeader>,
    /// What lies behind the last piece, if something is known to be missing there.
    pub(super) tail: Option<Gap>,
    /// CONTROL's head; where the pieces begin, if CONTROL says nothing.
    pub(super) head: u64,
    /// What is wrong and no gap tells.
    pub(super) troubles: Vec<WalError>,
    /// Segments without a usable header, by the number in their name.
    pub(super) headless: BTreeMap<u64, WalError>,
    /// Files with one bad copy of their header.
    pub(super) damaged_copies: Vec<PathBuf>,
    /// The best watermark known without reading frames.
    pub(super) witnessed: u64,
}

/// Header areas, by what they turned out to be.
#[derive(Default)]
struct Found {
    /// By the sequence number in the header, with the file's name and whether both copies agree.
    segments: BTreeMap<u64, (SegmentHeader, String, bool)>,
    /// Segments by name that cannot be used, and why.
    bad: BTreeMap<u64, WalError>,
}

/// Looks at what is left.
pub(super) fn survey<S: WalStore>(store: &S, reading: Reading) -> Result<Remains> {
    let listing = survey::list(store)?;
    if listing.is_bare() {
        return Err(WalError::NotFound { path: store.locate("") });
    }
    let mut control = read_control(store, &listing, reading)?;
    let id = match &control {
        Ok(view) => Some(view.slot.claim.log_id),
        Err(_) => None,
    };
    let found = read_segments(store, &listing, id, reading)?;
    if let (Some(id), Some((header, ..))) = (id, found.segments.values().next_back())
        && id != header.log_id
    {
        let path = store.locate(name::CONTROL);
        control = Err(survey::damaged(path, 0, "CONTROL is of another log than the segments"));
    }
    let claim = control.as_ref().ok().map(|view| view.slot.claim);
    let mut remains = assemble(store, listing, control, claim.as_ref(), found);
    if reading == Reading::Tolerant {
        headless::fill(store, &mut remains)?;
    }
    Ok(remains)
}

fn read_control<S: WalStore>(
    store: &S,
    listing: &Listing,
    reading: Reading,
) -> Result<Result<ControlView>> {
    if !listing.control {
        // Says what the next line would overlook: that nothing here is a log's.
        return match survey::refuse_without_control(store, listing) {
            error @ WalError::Corruption { .. } => Ok(Err(error)),
            error @ WalError::Io { .. } if reading == Reading::Tolerant => Ok(Err(error)),
            error => Err(error),
        };
    }
    match survey::read_control(store, listing) {
        Ok(view) => Ok(Ok(view)),
        Err(error @ WalError::Corruption { .. }) => Ok(Err(error)),
        Err(error @ WalError::Io { .. }) if reading == Reading::Tolerant => Ok(Err(error)),
        Err(error) => Err(error),
    }
}

/// Reads every header. `id` is the log's that CONTROL names.
fn read_segments<S: WalStore>(
    store: &S,
    listing: &Listing,
    id: Option<LogId>,
    reading: Reading,
) -> Result<Found> {
    let mut found = Found::default();
    let mut all = Vec::new();
    for seq in &listing.segments {
        let name = name::segment(*seq);
        match read_header(store, &name, reading)? {
            Area::Usable(header, intact) => all.push((*seq, header, name, intact)),
            Area::Contradiction(copies, error) => {
                found.bad.insert(*seq, error);
                // A copy of another segment's header got here; the own one is not hard to tell.
                let own = copies.into_iter().flatten().find(|header| header.seq == *seq);
                if let Some(own) = own.filter(|_| reading == Reading::Tolerant) {
                    all.push((*seq, own, name, false));
                }
            }
            Area::Bad(error) => drop(found.bad.insert(*seq, error)),
        }
    }
    let known = id.filter(|id| all.iter().any(|(_, header, ..)| header.log_id == *id));
    let id = known.or(all.last().map(|(_, header, ..)| header.log_id));
    // Files under their own names first: a copy under another name is one too many.
    all.sort_by_key(|(seq, header, ..)| (header.seq != *seq, *seq));
    for (seq, header, name, intact) in all {
        let misnamed = header.seq != seq;
        let why = match chain::sane(&header) {
            _ if Some(header.log_id) != id => "a segment belongs to another log",
            Err(flaw) => flaw.why,
            Ok(()) if misnamed => "a segment's name does not match its header",
            Ok(()) => {
                found.segments.insert(header.seq, (header, name, intact));
                continue;
            }
        };
        let ours = Some(header.log_id) == id && chain::sane(&header).is_ok();
        if ours && reading == Reading::Tolerant {
            found.segments.entry(header.seq).or_insert((header, name.clone(), intact));
        }
        found.bad.insert(seq, survey::damaged(store.locate(&name), header.base, why));
    }
    Ok(found)
}

/// One header area.
enum Area {
    /// With whether both copies agree.
    Usable(SegmentHeader, bool),
    /// Two valid copies that differ.
    Contradiction(Box<[Option<SegmentHeader>; 2]>, WalError),
    Bad(WalError),
}

fn read_header<S: WalStore>(store: &S, name: &str, reading: Reading) -> Result<Area> {
    let path = store.locate(name);
    let bad = |why| Ok(Area::Bad(survey::damaged(path.clone(), 0, why)));
    let tolerant = reading == Reading::Tolerant;
    let file = match store.open(name) {
        Ok(file) => Tolerant::new(file, tolerant),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            let why = "a segment's name belongs to something that is no regular file";
            return match reading {
                Reading::Tolerant => bad(why),
                Reading::Exact => Err(WalError::NotALog { path, why }),
            };
        }
        Err(error) if tolerant && error.kind() != io::ErrorKind::OutOfMemory => {
            return Ok(Area::Bad(WalError::io("open", &path, error)));
        }
        Err(error) => return Err(WalError::io("open", &path, error)),
    };
    let mut area = vec![0; SEGMENT_HEADER_BYTES];
    let read = read_full(&file, &path, 0, &mut area)?;
    area.truncate(read);
    let whole: Range<u64> = 0..u64::MAX;
    match decode_area(&area) {
        HeaderArea::Valid { .. } if read < SEGMENT_HEADER_BYTES => {
            bad("a segment ends inside its header")
        }
        HeaderArea::Valid { header, intact } => Ok(Area::Usable(header, intact)),
        HeaderArea::Unusable(BlockError::Unsupported { major, incompat }) => {
            Err(WalError::UnsupportedVersion { path, major, incompat })
        }
        HeaderArea::Conflict => {
            let copy = |at: usize| SegmentHeader::decode(area.get(at..).unwrap_or_default()).ok();
            let why = "the copies of a segment's header contradict each other";
            let error = survey::damaged(path, 0, why);
            Ok(Area::Contradiction(Box::new([copy(0), copy(SECOND_COPY)]), error))
        }
        HeaderArea::Unusable(unusable) => match file.take_error(&whole) {
            Some(error) => Ok(Area::Bad(WalError::io("read", &path, error))),
            None if unusable == BlockError::Damaged => {
                bad("both copies of a segment's header are damaged")
            }
            None => bad("a segment's header is gone"),
        },
    }
}

fn assemble<S: WalStore>(
    store: &S,
    listing: Listing,
    control: Result<ControlView>,
    claim: Option<&Claim>,
    mut found: Found,
) -> Remains {
    let locate = |seq: u64| store.locate(&name::segment(seq));
    let known_head = claim.map(|claim| claim.head);
    let (mut pieces, gaps) = chain_down(&found, known_head);
    for (piece, missing) in pieces.iter_mut().zip(gaps) {
        piece.gap = missing.map(|seq| gap(&found, seq, locate(seq)));
    }
    let last = pieces.last().map_or(0, |piece| piece.header.seq);
    let newest = claim.map_or(0, |claim| claim.newest_seq);
    let behind = found.bad.keys().copied().filter(|seq| *seq > last).chain([newest]).max();
    let tail = behind.filter(|seq| *seq > last).map(|seq| gap(&found, seq, locate(seq)));
    let told = pieces.iter().filter_map(|piece| piece.gap.as_ref()).chain(&tail);
    let told: BTreeSet<_> = told.map(|gap| gap.path.clone()).collect();
    let first = pieces.first().map_or(0, |piece| piece.header.base);
    let head = known_head.unwrap_or(first);
    // The head that the segments know of is a lower bound: what lies between it and the oldest
    // segment was truncated, or is lost.
    let floor = pieces.iter().map(|piece| piece.header.head).max().unwrap_or(head).min(head);
    let lost_control = control.as_ref().err().cloned().map(|error| match error {
        WalError::Corruption { path, offset, why, .. } => {
            let (start, end) = (Lsn::new(floor), Lsn::new(head));
            WalError::Corruption { path, offset, start, end, why }
        }
        error => error,
    });
    let mut troubles: Vec<_> = lost_control.into_iter().collect();
    let headless = found.bad.clone();
    found.bad.retain(|seq, _| !told.contains(&locate(*seq)));
    troubles.extend(found.bad.into_values());
    let live = pieces.iter().map(|piece| piece.header).collect();
    let known = found.segments.values();
    let damaged_copies =
        known.clone().filter(|(_, _, intact)| !intact).map(|(_, name, _)| store.locate(name));
    Remains {
        damaged_copies: damaged_copies.collect(),
        readable: known.map(|(header, ..)| *header).collect(),
        witnessed: witnessed(live, claim),
        headless,
        listing,
        control,
        pieces,
        tail,
        head,
        troubles,
    }
}

/// The best watermark of a chain, with or without CONTROL's.
pub(super) fn witnessed(live: Vec<SegmentHeader>, claim: Option<&Claim>) -> u64 {
    let chain = Chain { live, stale: Vec::new() };
    let nothing = Claim {
        log_id: [0; 16],
        newest_seq: u64::MAX,
        head: 0,
        snapshot: u64::MAX,
        durable: 0,
        clean: false,
    };
    chain.witnessed(claim.unwrap_or(&nothing))
}

fn gap(found: &Found, seq: u64, path: PathBuf) -> Gap {
    match found.bad.get(&seq) {
        Some(WalError::Corruption { why, .. }) => Gap { path, why, error: None },
        None => Gap { path, why: "a segment is missing", error: None },
        error => Gap { path, why: "a segment cannot be read", error: error.cloned() },
    }
}

/// The chain from the newest segment down to the head, and for each piece the sequence number of
/// the segment that is missing before it. Ascending.
fn chain_down(found: &Found, head: Option<u64>) -> (Vec<Piece>, Vec<Option<u64>>) {
    let mut pieces = Vec::new();
    let mut gaps = Vec::new();
    let mut next = found.segments.values().next_back();
    while let Some((header, name, _)) = next {
        pieces.push(Piece { header: *header, name: name.clone(), gap: None, guessed: false });
        gaps.push(None);
        if head.is_some_and(|head| header.base <= head) {
            break;
        }
        let before = |seq: u64| found.segments.get(&seq);
        let fits = |older: &&(SegmentHeader, String, bool)| precedes(&older.0, header);
        next = before(header.prev_seq).filter(fits);
        if next.is_some() {
            continue;
        }
        // Nothing older is needed where nothing older is known to be part of the log.
        next = found.segments.range(..header.prev_seq).rev().map(|(_, older)| older).find(fits);
        if next.is_some() || head.is_some() {
            gaps.pop();
            gaps.push(Some(header.prev_seq));
        }
    }
    pieces.reverse();
    gaps.reverse();
    (pieces, gaps)
}

/// Whether a segment may be the one before another.
fn precedes(older: &SegmentHeader, newer: &SegmentHeader) -> bool {
    older.base < newer.base && older.epoch <= newer.epoch && older.seq < newer.seq
}

/// The readable segments that hang together, from the newest one down. Ascending.
pub(super) fn contiguous(readable: &[SegmentHeader]) -> Vec<SegmentHeader> {
    let mut live: Vec<SegmentHeader> = Vec::new();
    let mut next = readable.last();
    while let Some(header) = next {
        live.push(*header);
        let before = readable.binary_search_by_key(&header.prev_seq, |older| older.seq).ok();
        next = before.and_then(|index| readable.get(index)).filter(|o| precedes(o, header));
    }
    live.reverse();
    live
}
