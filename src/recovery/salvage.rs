//! What salvage walks over: recovery's own view of a log that it would open, and what is left of
//! one that it refuses.

use std::collections::VecDeque;

use super::plan::{self, Plan};
use super::remains::{self, Piece, Reading};
use super::walk::{self, Walk};
use crate::error::{Result, WalError};
use crate::format::name;
use crate::store::WalStore;
use crate::sync::Poll;

/// How often a log is looked at before what looks like damage is taken for it. A writer that is at
/// work removes files between two reads, and tears a slot of CONTROL for a moment.
const ATTEMPTS: usize = 4;

/// Where to walk, and what is wrong besides the holes on the way.
#[derive(Debug)]
pub(crate) struct Route<S: WalStore> {
    pub(crate) walk: Walk<S>,
    pub(crate) troubles: VecDeque<WalError>,
    pub(crate) head: u64,
    pub(crate) end: u64,
}

/// Looks at the log in `store` without its lock, and changes nothing.
pub(crate) fn route<S: WalStore>(store: &S) -> Result<Route<S>> {
    let poll = Poll::default();
    let mut attempt = 1;
    loop {
        let refusal = match plan::verdict(store) {
            Ok(Ok(plan)) => return Ok(whole(&plan)),
            Ok(Err(refusal)) | Err(refusal @ WalError::Io { .. }) => refusal,
            Err(error) => return Err(error),
        };
        if attempt >= ATTEMPTS {
            return past_damage(store, refusal);
        }
        attempt = attempt.saturating_add(1);
        poll.wait();
    }
}

/// A log that recovery would open: what it would show.
fn whole<S: WalStore>(plan: &Plan) -> Route<S> {
    let head = plan.survey.control.slot.claim.head;
    let live = plan.survey.chain.live.iter();
    let pieces = live.map(|header| {
        let name = name::segment(header.seq);
        Piece { header: *header, name, gap: None, guessed: false }
    });
    let walk = Walk::new(pieces.collect(), None, head, plan.end, Reading::Tolerant);
    Route { walk, troubles: VecDeque::new(), head, end: plan.end }
}

fn past_damage<S: WalStore>(store: &S, refusal: WalError) -> Result<Route<S>> {
    let remains = remains::survey(store, Reading::Tolerant)?;
    if remains.pieces.is_empty() && remains.control.is_err() {
        return Err(refusal);
    }
    let head = remains.head;
    let end = walk::end_of(store, &remains.pieces, remains.witnessed, Reading::Tolerant)?;
    let end = end.max(head);
    let walk = Walk::new(remains.pieces, remains.tail, head, end, Reading::Tolerant);
    Ok(Route { walk, troubles: remains.troubles.into(), head, end })
}
