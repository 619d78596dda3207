//! [`Inventory`]: every file of a log and what it says, of a log that recovery refuses too.
//! Changes nothing.
//!
//! It shows and does not judge: which segments are the log, and whether an opening would refuse it,
//! is what a look says. Where that look ends before it knows, so does the inventory.

use super::look::{self, Depth, Look, Promise};
use super::survey::{self, Listing};
use crate::error::{Result, WalError};
use crate::format::control::{CONTROL_BYTES, Claim, Slot, decode_slots};
use crate::format::segment::SegmentHeader;
use crate::format::{BlockError, name};
use crate::store::{StoreFile, WalStore};
use crate::sync::{Arc, Poll};

/// A slot is written in one call; who reads it torn that often reads damage.
const ATTEMPTS: usize = 16;

/// The two slots of CONTROL, as they were decoded.
pub(crate) type Slots = [Result<Slot, BlockError>; 2];

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Inventory<F> {
    /// None without CONTROL.
    pub(crate) slots: Option<Slots>,
    /// Ascending by the sequence number in the name.
    pub(crate) segments: Vec<Listed<F>>,
    /// LSN and length of each.
    pub(crate) snapshots: Vec<(u64, u64)>,
    pub(crate) unknown_files: Vec<String>,
    /// None where the files do not hang together: `refusal` says why.
    pub(crate) look: Option<Look>,
    /// Why the log does not open.
    pub(crate) refusal: Option<WalError>,
}

/// A file with the name of a segment.
#[derive(Debug)]
pub(crate) struct Listed<F> {
    pub(crate) seq: u64,
    /// The file of a live segment that holds the end, or lies above: it can be read when a writer
    /// has removed it.
    pub(crate) kept: Option<Arc<F>>,
    /// Length of the file; 0 when it is gone.
    pub(crate) bytes: u64,
    /// The header, and whether both copies are good; or why there is none.
    pub(crate) header: Result<(SegmentHeader, bool), &'static str>,
}

impl<F> Listed<F> {
    /// A live segment that a writer has removed since.
    fn gone(header: SegmentHeader) -> Self {
        Self { seq: header.seq, kept: None, bytes: 0, header: Ok((header, true)) }
    }
}

/// Index of the slot that counts.
pub(crate) fn counting(slots: &Slots) -> Option<usize> {
    match slots {
        [Ok(a), Ok(b)] => Some(usize::from(a.generation < b.generation)),
        [Ok(_), Err(_)] => Some(0),
        [Err(_), Ok(_)] => Some(1),
        [Err(_), Err(_)] => None,
    }
}

/// Looks at everything in `store`, without its lock.
pub(crate) fn take_inventory<S: WalStore>(store: &S) -> Result<Inventory<S::File>> {
    look::patiently(
        |promise| attempt(store, promise),
        |inventory| match inventory {
            Ok(inventory) => inventory.refusal.is_some(),
            Err(error) => matches!(error, WalError::Io { .. }),
        },
    )
}

fn attempt<S: WalStore>(store: &S, promise: &mut Option<Promise>) -> Result<Inventory<S::File>> {
    let listing = survey::list(store)?;
    let (look, refusal) = match look::look(store, listing.clone(), promise, Depth::Opening) {
        Ok((_, Err(error))) | Err(error) if !is_refusal(&error) => return Err(error),
        Ok((look, verdict)) => (Some(look), verdict.err()),
        Err(refusal) => (None, Some(refusal)),
    };
    let slots = read_slots(store, &listing)?;
    let counting = slots.as_ref().and_then(|slots| slots.get(counting(slots)?)?.as_ref().ok());
    let claim = counting.map(|slot| slot.claim);
    let live = look.as_ref().map_or(&[][..], |look| &look.live);
    let end = look.as_ref().map_or(0, |look| look.end);
    let last = live.iter().rfind(|header| header.base <= end).or(live.last());
    let last = last.map_or(u64::MAX, |header| header.seq);
    // A writer may have made some since the names were read, and removed others.
    let there = live.iter().map(|header| header.seq).collect();
    let mut segments = Vec::new();
    for seq in listing.segments.union(&there) {
        let known = live.binary_search_by_key(seq, |header| header.seq);
        let known = known.ok().and_then(|index| live.get(index));
        match list_segment(store, *seq, claim.as_ref(), known.is_some() && *seq >= last) {
            Err(error) if survey::is_missing(&error) && *seq < last => {
                segments.extend(known.map(|header| Listed::gone(*header)));
            }
            listed => segments.push(listed?),
        }
    }
    let mut snapshots = Vec::new();
    let counts = claim.map(|claim| claim.snapshot).filter(|lsn| *lsn != u64::MAX);
    for lsn in listing.snapshots.union(&counts.into_iter().collect()) {
        let expected = counts == Some(*lsn) && listing.snapshots.contains(lsn);
        match opened(store, &name::snapshot(*lsn)) {
            Err(error) if survey::is_missing(&error) && !expected => {}
            opened => snapshots.push((*lsn, opened?.map_or(0, |(_, bytes)| bytes))),
        }
    }
    let ours = claim.is_some() || segments.iter().any(|segment| segment.header.is_ok());
    match refusal {
        Some(refusal @ WalError::NotALog { .. }) if !ours => Err(refusal),
        refusal => {
            let unknown_files = listing.unknown;
            Ok(Inventory { slots, segments, snapshots, unknown_files, look, refusal })
        }
    }
}

fn list_segment<S: WalStore>(
    store: &S,
    seq: u64,
    claim: Option<&Claim>,
    keep: bool,
) -> Result<Listed<S::File>> {
    let header = match survey::read_header(store, seq, claim) {
        Ok(header) => header.ok_or("it is not a segment of this crate"),
        Err(WalError::Corruption { why, .. }) => Err(why),
        Err(WalError::UnsupportedVersion { .. }) => Err("it is of a newer version"),
        Err(error) => return Err(error),
    };
    let (file, bytes) = opened(store, &name::segment(seq))?.unzip();
    let kept = file.filter(|_| keep).map(Arc::new);
    Ok(Listed { seq, kept, bytes: bytes.unwrap_or(0), header })
}

/// True for what speaks of the files, not of the attempt to read them.
fn is_refusal(error: &WalError) -> bool {
    matches!(
        error,
        WalError::Corruption { .. }
            | WalError::NotALog { .. }
            | WalError::UnsupportedVersion { .. }
            | WalError::FeatureMissing { .. }
    )
}

fn read_slots<S: WalStore>(store: &S, listing: &Listing) -> Result<Option<Slots>> {
    if !listing.control {
        return Ok(None);
    }
    let poll = Poll::default();
    let mut attempt = 1;
    loop {
        let bytes = survey::read_start(store, name::CONTROL, CONTROL_BYTES)?;
        let slots = decode_slots(&bytes.unwrap_or_default());
        if attempt >= ATTEMPTS || slots.iter().all(Result::is_ok) {
            return Ok(Some(slots));
        }
        attempt = attempt.saturating_add(1);
        poll.wait();
    }
}

/// A file and its length; none for what is no regular file.
fn opened<S: WalStore>(store: &S, name: &str) -> Result<Option<(S::File, u64)>> {
    let path = store.locate(name);
    let file = match store.open(name) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(None),
        Err(error) => return Err(WalError::io("open", &path, error)),
    };
    let bytes = file.len().map_err(|e| WalError::io("read", &path, e))?;
    Ok(Some((file, bytes)))
}
