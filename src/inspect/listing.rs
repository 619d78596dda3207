//! What CONTROL, the headers and the names say.

use std::path::PathBuf;

use crate::format::control::SLOT_OFFSETS;
use crate::format::segment::FIRST_FRAME;
use crate::format::{BlockError, name};
use crate::lsn::Lsn;
use crate::recovery::{Inventory, Listed, Look, Slots, counting};
use crate::store::{FileHandle, FileStore, WalStore};

/// One of the two slots of CONTROL.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControlSlot {
    /// Where in CONTROL it is.
    pub offset: u64,
    /// It is valid and no other one is newer.
    pub counts: bool,
    /// What it says, or why that cannot be read.
    pub claim: Result<ControlClaim, &'static str>,
}

/// What a slot of CONTROL says. Each field was true when it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ControlClaim {
    /// Rises with every slot written.
    pub generation: u64,
    /// The identity of the log.
    pub log_id: [u8; 16],
    /// Newest segment that may hold an acknowledged record; 0: none yet.
    pub newest_seq: u64,
    /// Oldest LSN kept.
    pub head: Lsn,
    /// All below was durable.
    pub durable: Lsn,
    /// The snapshot that counts.
    pub snapshot: Option<Lsn>,
    /// The log was closed with everything durable.
    pub clean: bool,
}

/// A file with the name of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Segment {
    /// Creation order, by the file's name.
    pub seq: u64,
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes; 0 when a writer has removed it since.
    pub bytes: u64,
    /// Whether it is part of the log.
    pub state: SegmentState,
    /// What its header says, or why none can be used.
    pub header: Result<SegmentHeader, &'static str>,
    /// Exclusive end of what it holds of the log; none where that is nothing, or not known.
    pub end: Option<Lsn>,
}

/// What the header of a segment says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentHeader {
    /// The opening of the log that wrote it.
    pub epoch: u64,
    /// LSN of its first frame.
    pub base: Lsn,
    /// The segment before it in the log; 0: none.
    pub prev_seq: u64,
    /// Head of the log when it was made.
    pub head: Lsn,
    /// All below was durable when it got its name.
    pub durable: Lsn,
    /// Both copies of the header are good.
    pub intact: bool,
}

/// Whether a segment is part of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SegmentState {
    /// It is, and others come after it.
    Live,
    /// It is the last one: what is appended goes there until the next one is made.
    Active,
    /// Not any more: the next open for writing removes it.
    Dead,
    /// That cannot be said: the files do not hang together.
    Unknown,
}

/// A file with the name of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotFile {
    /// What it is a snapshot of: all below this LSN.
    pub lsn: Lsn,
    /// The file.
    pub path: PathBuf,
    /// Its length in bytes.
    pub bytes: u64,
    /// It is the one that CONTROL names; any other is a leftover.
    pub counts: bool,
}

impl SegmentState {
    /// True for [`Live`](Self::Live) and [`Active`](Self::Active).
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Live | Self::Active)
    }
}

impl Segment {
    /// Exclusive end of the bytes the file has, as a place in the log. What lies there is only part
    /// of the log below [`end`](Self::end). None without a usable header.
    #[must_use]
    pub fn bytes_end(&self) -> Option<Lsn> {
        let base = self.header.as_ref().ok()?.base.get();
        Some(Lsn::new(base.saturating_add(self.bytes.saturating_sub(FIRST_FRAME))))
    }
}

pub(super) fn control(slots: &Slots) -> [ControlSlot; 2] {
    let counts = counting(slots);
    let [first, second] = slots;
    let slot = |index: usize, offset, slot: &Result<_, _>| ControlSlot {
        offset,
        counts: counts == Some(index),
        claim: slot.as_ref().map(claim).map_err(|error| flaw(*error)),
    };
    let [at_first, at_second] = SLOT_OFFSETS;
    [slot(0, at_first, first), slot(1, at_second, second)]
}

fn claim(slot: &crate::format::control::Slot) -> ControlClaim {
    let claim = slot.claim;
    ControlClaim {
        generation: slot.generation,
        log_id: claim.log_id,
        newest_seq: claim.newest_seq,
        head: Lsn::new(claim.head),
        durable: Lsn::new(claim.durable),
        snapshot: Some(claim.snapshot).filter(|lsn| *lsn != u64::MAX).map(Lsn::new),
        clean: claim.clean,
    }
}

fn flaw(error: BlockError) -> &'static str {
    match error {
        BlockError::Foreign => "the magic is missing",
        BlockError::Damaged => "the checksum does not match",
        BlockError::Unsupported { .. } => "it is of a newer version",
    }
}

pub(super) fn segments(store: &FileStore, inventory: &Inventory<FileHandle>) -> Vec<Segment> {
    let segment = |listed: &Listed<FileHandle>| {
        let (state, end) = standing(inventory.look.as_ref(), listed.seq);
        Segment {
            seq: listed.seq,
            path: store.locate(&name::segment(listed.seq)),
            bytes: listed.bytes,
            state,
            header: listed.header.map(|(header, intact)| SegmentHeader {
                epoch: header.epoch,
                base: Lsn::new(header.base),
                prev_seq: header.prev_seq,
                head: Lsn::new(header.head),
                durable: Lsn::new(header.durable),
                intact,
            }),
            end,
        }
    };
    inventory.segments.iter().map(segment).collect()
}

/// Whether a segment is part of the log, and where what it holds of it ends.
fn standing(look: Option<&Look>, seq: u64) -> (SegmentState, Option<Lsn>) {
    let Some(look) = look else { return (SegmentState::Unknown, None) };
    let mut from = look.live.iter().skip_while(|header| header.seq != seq);
    let (state, end) = match (from.next(), from.next()) {
        (None, _) => return (SegmentState::Dead, None),
        (Some(own), None) => (SegmentState::Active, look.end.max(own.base)),
        (Some(own), Some(next)) => (SegmentState::Live, next.base.min(look.end).max(own.base)),
    };
    (state, Some(Lsn::new(end)))
}

pub(super) fn snapshots(store: &FileStore, inventory: &Inventory<FileHandle>) -> Vec<SnapshotFile> {
    let slot = inventory.slots.as_ref().and_then(|slots| slots.get(counting(slots)?)?.ok());
    let counts = slot.map(|slot| slot.claim.snapshot);
    let snapshot = |(lsn, bytes): &(u64, u64)| SnapshotFile {
        lsn: Lsn::new(*lsn),
        path: store.locate(&name::snapshot(*lsn)),
        bytes: *bytes,
        counts: counts == Some(*lsn),
    };
    inventory.snapshots.iter().map(snapshot).collect()
}
