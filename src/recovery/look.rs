//! Looking at a log without its lock, beside a writer that may be at work. Changes nothing.
//!
//! What looks like damage may be the writer's doing between two of our reads: the last segment
//! vanished, a frame was not written yet when its block was read and was when the next one was. So
//! everything is read again a few times before anything is called damage. Segments that come and go
//! meanwhile need no such patience: a survey goes by the chain and by what CONTROL says after it.

use std::io;
use std::path::Path;

use super::extent::{self, Search};
use super::plan::{self, Survey};
use super::survey::{self, Listing};
use crate::error::{Result, WalError};
use crate::format::control::Claim;
use crate::format::segment::SegmentHeader;
use crate::snapshot::Counting;
use crate::store::{FileStore, WalStore};
use crate::sync::Poll;

/// How often a look is repeated.
const ATTEMPTS: usize = 16;

/// What a reader without the lock may show.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Ascending by base.
    pub(crate) live: Vec<SegmentHeader>,
    pub(crate) head: u64,
    /// The newest witnessed watermark: all below is durable.
    pub(crate) end: u64,
    /// The log was closed, and everything in it is witnessed as durable.
    pub(crate) clean: bool,
    pub(crate) unknown_files: Vec<String>,
}

/// A watermark that an earlier look saw in frames it could not reach yet, and in which chain.
#[derive(Debug, Clone, Copy)]
pub(super) struct Promise {
    newest: Option<u64>,
    witnessed: u64,
}

/// How much a look judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    /// What a reader relies on.
    Reader,
    /// What an opening for writing would refuse too.
    Opening,
}

/// Looks at the log in `store`.
pub(crate) fn survey_read_only<S: WalStore>(store: &S) -> Result<Look> {
    let look = |promise: &mut _| {
        let (look, verdict) = look(store, survey::list(store)?, promise, Depth::Reader)?;
        verdict.map(|()| look)
    };
    patiently(look, |result| {
        matches!(result, Err(WalError::Corruption { .. } | WalError::Io { .. }))
    })
}

/// Looks again while what is seen is suspicious, a few times.
pub(super) fn patiently<T>(
    mut look: impl FnMut(&mut Option<Promise>) -> Result<T>,
    suspicious: impl Fn(&Result<T>) -> bool,
) -> Result<T> {
    let poll = Poll::default();
    let mut promise = None;
    let mut attempt = 1;
    loop {
        let seen = look(&mut promise);
        if attempt >= ATTEMPTS || !suspicious(&seen) {
            return seen;
        }
        attempt = attempt.saturating_add(1);
        poll.wait();
    }
}

/// The directory of a log that is there.
pub(crate) fn open_directory(dir: &Path) -> Result<FileStore> {
    FileStore::existing(dir).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => WalError::NotFound { path: dir.to_path_buf() },
        io::ErrorKind::NotADirectory => {
            WalError::NotALog { path: dir.to_path_buf(), why: "it is not a directory" }
        }
        _ => WalError::io("open", dir, error),
    })
}

/// The oldest LSN that the log in `store` keeps now.
pub(crate) fn current_head<S: WalStore>(store: &S) -> Result<u64> {
    current_claim(store).map(|claim| claim.head)
}

/// The snapshot of the log in `store` that counts now.
pub(crate) fn current_snapshot<S: WalStore>(store: &S) -> Result<Counting> {
    current_claim(store).map(|claim| Counting {
        log_id: claim.log_id,
        lsn: claim.snapshot,
        encrypted: false,
    })
}

fn current_claim<S: WalStore>(store: &S) -> Result<Claim> {
    let poll = Poll::default();
    // The other names matter only where CONTROL is not what it should be.
    let mut listing = Listing::default();
    let mut attempt = 1;
    loop {
        match survey::read_control(store, &listing) {
            Err(WalError::Corruption { .. } | WalError::NotALog { .. }) if attempt < ATTEMPTS => {
                listing = survey::list(store)?;
            }
            view => return view.map(|view| view.slot.claim),
        }
        attempt = attempt.saturating_add(1);
        poll.wait();
    }
}

/// What a reader may show, and whether what is judged of the log is damaged. An error where the
/// files do not even hang together.
pub(super) fn look<S: WalStore>(
    store: &S,
    listing: Listing,
    promise: &mut Option<Promise>,
    depth: Depth,
) -> Result<(Look, Result<()>)> {
    if listing.is_bare() {
        return Err(WalError::NotFound { path: store.locate("") });
    }
    if !listing.control {
        return Err(survey::refuse_without_control(store, &listing));
    }
    let survey = plan::survey_listed(store, listing)?;
    let claim = survey.control.slot.claim;
    let newest = survey.chain.live.last().map(|segment| segment.seq);
    // Everything below an earlier watermark is durable by now, so this time it must be there,
    // and what lies behind the first invalid frame has nothing to add.
    let known = promise.take().filter(|promise| promise.newest == newest);
    let search = Search { head: claim.head, demand: None, behind: known.is_none() };
    let mut extent = extent::find(store, &survey.chain, survey.witnessed, search)?;
    if let Some(known) = known {
        extent.witnessed = extent.witnessed.max(known.witnessed);
    }
    let decided = plan::decide(store, &survey.chain, &extent, search);
    let verdict = decided.and_then(|(end, _)| match depth {
        Depth::Reader => Ok(()),
        Depth::Opening => plan::check_rest(store, &survey, &extent, end).map(drop),
    });
    if extent.stop < extent.witnessed {
        *promise = Some(Promise { newest, witnessed: extent.witnessed });
    }
    let Survey { chain, listing, .. } = survey;
    let look = Look {
        live: chain.live,
        head: claim.head,
        end: extent.witnessed,
        clean: claim.clean && claim.durable == extent.witnessed,
        unknown_files: listing.unknown,
    };
    Ok((look, verdict))
}
