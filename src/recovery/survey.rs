//! Looking at a store: names, CONTROL, segment headers. Changes nothing.
//!
//! Refuses what is not ours before anything is locked or changed, and never takes damage for a
//! foreign file or a foreign file for damage: what carries our magic, or what the log's own files
//! point at, is ours.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Result, WalError};
use crate::format::control::{CONTROL_BYTES, Claim, Slot, decode_slots};
use crate::format::name::{self, Name};
use crate::format::segment::{HeaderArea, SEGMENT_HEADER_BYTES, SegmentHeader, decode_area};
use crate::format::snapshot;
use crate::format::{BlockError, array};
use crate::lsn::{ALIGNMENT, LSN_LIMIT, Lsn};
use crate::scan::read_full;
use crate::snapshot::{Snapshot, is_ours};
use crate::store::WalStore;

/// The names in a store, by what they say they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Listing {
    pub(super) control: bool,
    /// Ascending.
    pub(super) segments: BTreeSet<u64>,
    pub(super) snapshots: BTreeSet<u64>,
    pub(super) unknown: Vec<String>,
}

impl Listing {
    /// No file has a name of ours.
    pub(super) fn is_bare(&self) -> bool {
        !self.control && self.segments.is_empty() && self.snapshots.is_empty()
    }
}

pub(super) fn list<S: WalStore>(store: &S) -> Result<Listing> {
    let place = store.locate("");
    let names = store.list().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => WalError::NotFound { path: place.clone() },
        _ => WalError::io("list", &place, error),
    })?;
    let mut listing = Listing::default();
    for name in names {
        match name::classify(&name) {
            Name::Control => listing.control = true,
            Name::Segment(seq) => drop(listing.segments.insert(seq)),
            Name::Snapshot(lsn) => drop(listing.snapshots.insert(lsn)),
            Name::Other => listing.unknown.push(name),
        }
    }
    listing.unknown.sort();
    Ok(listing)
}

/// Damage that concerns a whole file, or its header.
pub(super) fn damaged(path: PathBuf, at: u64, why: &'static str) -> WalError {
    WalError::Corruption { path, offset: 0, start: Lsn::new(at), end: Lsn::new(at), why }
}

/// The first bytes of a published file; `None` when it is no regular file.
pub(super) fn read_start<S: WalStore>(
    store: &S,
    name: &str,
    limit: usize,
) -> Result<Option<Vec<u8>>> {
    let path = store.locate(name);
    let file = match store.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(None),
        Err(error) => return Err(WalError::io("open", &path, error)),
    };
    let mut bytes = vec![0; limit];
    let read = read_full(&file, &path, 0, &mut bytes)?;
    bytes.truncate(read);
    Ok(Some(bytes))
}

/// Refuses segments and snapshots that stand without a CONTROL.
pub(super) fn refuse_without_control<S: WalStore>(store: &S, listing: &Listing) -> WalError {
    let segments = listing.segments.iter().map(|seq| name::segment(*seq));
    let snapshots = listing.snapshots.iter().map(|lsn| name::snapshot(*lsn));
    let mut first = None;
    for name in segments.chain(snapshots) {
        match read_start(store, &name, SEGMENT_HEADER_BYTES) {
            Ok(Some(bytes)) if begins_as_ours(&bytes) => {
                return damaged(store.locate(name::CONTROL), 0, "CONTROL is missing");
            }
            Ok(_) => first = first.or(Some(name)),
            Err(error) => return error,
        }
    }
    let path = store.locate(&first.unwrap_or_default());
    WalError::NotALog { path, why: "it is not a file of this crate, and there is no CONTROL" }
}

fn begins_as_ours(bytes: &[u8]) -> bool {
    let foreign = HeaderArea::Unusable(BlockError::Foreign);
    let control = decode_slots(bytes).iter().any(|slot| *slot != Err(BlockError::Foreign));
    control || array::<8>(bytes, 0) == snapshot::MAGIC || decode_area(bytes) != foreign
}

/// A leftover snapshot, if it is one of this crate's.
pub(super) fn own_snapshot<S: WalStore>(store: &S, lsn: u64) -> Result<Option<String>> {
    let ours = is_ours(store, lsn)?.unwrap_or(false);
    Ok(ours.then(|| name::snapshot(lsn)))
}

/// What CONTROL says.
#[derive(Debug, Clone)]
pub(super) struct ControlView {
    pub(super) bytes: Vec<u8>,
    /// The slot that counts, and its index.
    pub(super) slot: Slot,
    pub(super) newest: usize,
    /// Both slots are good.
    pub(super) intact: bool,
}

pub(super) fn read_control<S: WalStore>(store: &S, listing: &Listing) -> Result<ControlView> {
    let path = store.locate(name::CONTROL);
    let refuse = |ours: bool, why| {
        if ours || !listing.segments.is_empty() && owns_a_segment(store, listing)? {
            return Err(damaged(path.clone(), 0, why));
        }
        Err(WalError::NotALog { path: path.clone(), why })
    };
    let Some(bytes) = read_start(store, name::CONTROL, CONTROL_BYTES)? else {
        return refuse(false, "CONTROL is not a regular file");
    };
    let slots = decode_slots(&bytes);
    for slot in &slots {
        if let Err(BlockError::Unsupported { major, incompat }) = *slot {
            return Err(WalError::UnsupportedVersion { path, major, incompat });
        }
    }
    let (newest, slot) = match slots {
        [Ok(a), Ok(b)] if a.claim.log_id != b.claim.log_id => {
            return refuse(true, "the slots of CONTROL are of different logs");
        }
        [Ok(a), Ok(b)] if a.generation == b.generation && a.claim != b.claim => {
            return refuse(true, "the slots of CONTROL contradict each other");
        }
        [Ok(a), Ok(b)] if a.generation < b.generation => (1, b),
        [Ok(a), _] => (0, a),
        [_, Ok(b)] => (1, b),
        [Err(BlockError::Foreign), Err(BlockError::Foreign)] => {
            return refuse(begins_as_ours(&bytes), "CONTROL is not a file of this crate");
        }
        _ => return refuse(true, "both slots of CONTROL are damaged"),
    };
    if !sane(&slot) {
        return refuse(true, "CONTROL makes an impossible claim");
    }
    Ok(ControlView { bytes, slot, newest, intact: slots.iter().all(Result::is_ok) })
}

fn sane(slot: &Slot) -> bool {
    let Claim { head, durable, .. } = slot.claim;
    let aligned = head.is_multiple_of(ALIGNMENT) && durable.is_multiple_of(ALIGNMENT);
    aligned && head <= durable && durable < LSN_LIMIT && slot.generation < u64::MAX >> 1
}

fn owns_a_segment<S: WalStore>(store: &S, listing: &Listing) -> Result<bool> {
    for seq in &listing.segments {
        let start = read_start(store, &name::segment(*seq), SEGMENT_HEADER_BYTES)?;
        if start.is_some_and(|bytes| begins_as_ours(&bytes)) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// True when a file is not there.
pub(super) fn is_missing(error: &WalError) -> bool {
    matches!(error, WalError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
}

/// The headers of all segments.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// Ascending by sequence number.
    pub(super) segments: Vec<SegmentHeader>,
    /// Files with one bad copy.
    pub(super) damaged: Vec<PathBuf>,
    /// Files that are no segments of this crate.
    foreign: BTreeSet<u64>,
}

impl Headers {
    /// Reads those that are listed. A writer may have removed some since: then another listing
    /// lacks them.
    pub(super) fn read<S: WalStore>(store: &S, listing: &Listing, claim: &Claim) -> Result<Self> {
        let mut headers = Self::default();
        let mut gone = BTreeMap::new();
        for seq in &listing.segments {
            if let Err(error) = headers.add(store, *seq, claim)? {
                gone.insert(*seq, error);
            }
        }
        if !gone.is_empty() {
            let there = list(store)?.segments;
            gone.retain(|seq, _| there.contains(seq));
        }
        gone.into_values().next().map_or(Ok(headers), Err)
    }

    /// Reads those that are not there and should be. A listing is no snapshot: a writer may have
    /// made them while the names were read, and others after them that were seen.
    pub(super) fn complete<S: WalStore>(
        &mut self,
        store: &S,
        listing: &mut Listing,
        claim: &Claim,
    ) -> Result<()> {
        let above_head = self.segments.iter().filter(|header| header.base > claim.head);
        let mut wanted: Vec<u64> = above_head.map(|header| header.prev_seq).collect();
        wanted.push(claim.newest_seq);
        while let Some(seq) = wanted.pop() {
            if seq == 0 || self.find(seq).is_ok() || self.foreign.contains(&seq) {
                continue;
            }
            if self.add(store, seq, claim)?.is_ok() {
                listing.segments.insert(seq);
                let added = self.find(seq).ok().and_then(|index| self.segments.get(index));
                wanted.extend(added.filter(|added| added.base > claim.head).map(|h| h.prev_seq));
            }
        }
        self.refuse_foreign(store, claim)
    }

    /// Reads one header; the inner error is that of a file that is not there.
    fn add<S: WalStore>(
        &mut self,
        store: &S,
        seq: u64,
        claim: &Claim,
    ) -> Result<Result<(), WalError>> {
        match read_header(store, seq, Some(claim)) {
            Err(error) if is_missing(&error) => return Ok(Err(error)),
            read => match read? {
                None => drop(self.foreign.insert(seq)),
                Some((header, intact)) => {
                    let index = self.find(seq).unwrap_or_else(|index| index);
                    self.segments.insert(index, header);
                    if !intact {
                        self.damaged.push(store.locate(&name::segment(seq)));
                    }
                }
            },
        }
        Ok(Ok(()))
    }

    fn find(&self, seq: u64) -> Result<usize, usize> {
        self.segments.binary_search_by_key(&seq, |header| header.seq)
    }

    fn refuse_foreign<S: WalStore>(&self, store: &S, claim: &Claim) -> Result<()> {
        let Some(first) = self.foreign.first() else { return Ok(()) };
        let needed = |seq: &&u64| {
            **seq == claim.newest_seq || self.segments.iter().any(|h| h.prev_seq == **seq)
        };
        let missed = self.foreign.iter().find(needed);
        let path = store.locate(&name::segment(*missed.unwrap_or(first)));
        match missed {
            Some(_) => Err(damaged(path, claim.head, "a segment's header is gone")),
            None => Err(WalError::NotALog { path, why: "it is not a segment of this crate" }),
        }
    }
}

/// The header of one listed segment, and whether both copies are good; `None` when the file is not
/// ours at all. Without a claim any log's header will do.
pub(super) fn read_header<S: WalStore>(
    store: &S,
    seq: u64,
    claim: Option<&Claim>,
) -> Result<Option<(SegmentHeader, bool)>> {
    let name = name::segment(seq);
    let Some(area) = read_start(store, &name, SEGMENT_HEADER_BYTES)? else { return Ok(None) };
    let own = match decode_area(&area) {
        HeaderArea::Valid { header, .. } => header.log_id,
        _ => [0; 16],
    };
    let (newest_seq, head, snapshot, durable) = (0, 0, u64::MAX, 0);
    let any = Claim { log_id: own, newest_seq, head, snapshot, durable, clean: false };
    one_header(&area, seq, claim.unwrap_or(&any), &store.locate(&name))
}

/// Decodes and checks one header area; `None` when it is not ours at all.
fn one_header(
    area: &[u8],
    seq: u64,
    claim: &Claim,
    path: &Path,
) -> Result<Option<(SegmentHeader, bool)>> {
    let refuse = |why| Err(damaged(path.to_path_buf(), claim.head, why));
    match decode_area(area) {
        HeaderArea::Valid { .. } if area.len() < SEGMENT_HEADER_BYTES => {
            refuse("a segment ends inside its header")
        }
        HeaderArea::Valid { header, .. } if header.log_id != claim.log_id => {
            refuse("a segment belongs to another log")
        }
        HeaderArea::Valid { header, .. } if header.seq != seq => {
            refuse("a segment's name does not match its header")
        }
        HeaderArea::Valid { header, intact } => Ok(Some((header, intact))),
        HeaderArea::Conflict => refuse("the copies of a segment's header contradict each other"),
        HeaderArea::Unusable(BlockError::Unsupported { major, incompat }) => {
            Err(WalError::UnsupportedVersion { path: path.to_path_buf(), major, incompat })
        }
        HeaderArea::Unusable(BlockError::Damaged) => {
            refuse("both copies of a segment's header are damaged")
        }
        HeaderArea::Unusable(BlockError::Foreign) => Ok(None),
    }
}

/// The snapshot that counts must be there, begin and end as one, and not be above the end. Whether
/// there is one that is not encrypted.
pub(super) fn check_snapshot<S: WalStore>(
    store: &S,
    listing: &Listing,
    claim: &Claim,
    end: u64,
) -> Result<bool> {
    let lsn = claim.snapshot;
    if lsn == u64::MAX {
        return Ok(false);
    }
    match Snapshot::open(store, claim.log_id, lsn) {
        Ok(snapshot) if lsn <= end => Ok(snapshot.is_plain()),
        Ok(_) => {
            let path = store.locate(&name::snapshot(lsn));
            Err(damaged(path, lsn, "the snapshot is above the end of the log"))
        }
        // A writer may have made another one meanwhile, and then it counts no more.
        Err(_) if read_control(store, listing)?.slot.claim.snapshot != lsn => Ok(false),
        Err(error) => Err(error),
    }
}
