//! Recovery: from whatever a store holds to an open log, or to a refusal that changes nothing.
//!
//! First a plan, then its application. The plan reads names, CONTROL, headers and the last
//! segment, and decides where the log ends or that it is damaged; the decision is a table
//! ([`verdict`]). Applying it builds the first segment of a new epoch and writes into no existing
//! one, so that a crash at any step leaves the old log whole.
//!
//! I1. Nothing is written before everything is decided, so an open that is refused changes
//!     nothing. One that an error of the store ends later leaves what it had finished: leftovers
//!     swept, CONTROL's claim written anew, perhaps the new segment. Each step leaves the log
//!     whole.
//! I2. What recovery shows is durable: bytes above the newest witnessed watermark are copied and
//!     synced before the log is open, since a page cache may show bytes the disk never got.
//! I3. An error of the store or the allocator is an error, never the end of the log.
//! I4. Every input is hostile: no panic, no memory beyond one record, no time beyond the bytes
//!     there are and a fixed budget.
//!
//! The limit: damage at or above the newest surviving watermark cannot be told from tearing.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod apply;
mod behind;
mod carry;
mod chain;
mod extent;
mod headless;
mod inventory;
mod look;
mod plan;
mod remains;
mod repair;
mod report;
mod salvage;
mod survey;
mod tolerant;
mod verdict;
mod walk;

#[cfg(test)]
#[expect(
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test that panics fails"
)]
mod tests;

use std::io;

use crate::control::{self, Control};
use crate::error::{Result, WalError};
use crate::format::control::Claim;
use crate::format::name;
use crate::format::segment::SegmentHeader;
use crate::lsn::Lsn;
use crate::observe;
use crate::options::WalOptions;
use crate::segments::{Epoch, admit, random};
use crate::store::WalStore;

pub(crate) use inventory::{Inventory, Listed, Slots, counting, take_inventory};
pub(crate) use look::{Look, current_head, current_snapshot, open_directory, survey_read_only};
pub use repair::{Repair, RepairCopy, RepairEffect, RepairReport, repair, repair_store};
pub use report::RecoveryReport;
pub(crate) use salvage::{Route, route};
pub(crate) use walk::{Found, Walk};

/// How often another handle may get ahead of this one, or bytes change under it.
const ATTEMPTS: usize = 8;

/// An open log.
#[derive(Debug)]
pub(crate) struct Recovered<S: WalStore> {
    pub(crate) control: Control<S>,
    /// Ascending by base; the last one is new and takes what is appended.
    pub(crate) live: Vec<SegmentHeader>,
    pub(crate) active: S::File,
    pub(crate) epoch: Epoch,
    pub(crate) end: u64,
    pub(crate) report: RecoveryReport,
}

/// Opens the log in `store` for writing, creating it if the options say so.
pub(crate) fn open<S: WalStore>(store: &S, options: &WalOptions) -> Result<Recovered<S>> {
    let open = || lock_and_recover(store, options);
    observe::open(&store.locate(""), open, |recovered| recovered.report.observed())
}

fn lock_and_recover<S: WalStore>(store: &S, options: &WalOptions) -> Result<Recovered<S>> {
    // Before there is a log without a key that it could be written with.
    options.keys.active()?;
    let Some(file) = lock(store, options)? else {
        // Others create and remove CONTROL as fast as we look: no log is ever removed by us.
        return Err(WalError::AlreadyExists { path: store.locate("") });
    };
    let mut file = Some(file);
    let result = recover(store, options, &mut file);
    if let (Err(_), Some(file)) = (&result, &file) {
        // Explicitly, because a fork of this process would keep the lock.
        store.unlock(file).ok();
    }
    result
}

/// Recovers the log whose CONTROL is `file`, locked; takes it unless it fails before.
fn recover<S: WalStore>(
    store: &S,
    options: &WalOptions,
    file: &mut Option<S::File>,
) -> Result<Recovered<S>> {
    store.sync_names().map_err(|e| WalError::io("sync", &store.locate(""), e))?;
    let demand = options.min_durable_lsn.map(Lsn::get);
    for _ in 0..ATTEMPTS {
        let plan = plan::plan(store, demand)?;
        // Somebody may have finished the creation before we had the lock.
        if !may_be_taken(&plan.survey.control.slot.claim, options) {
            return Err(WalError::AlreadyExists { path: store.locate("") });
        }
        admit(&options.keys, &plan.survey.chain.live)?;
        plan.refuse_forged_snapshot(&options.keys)?;
        let Some(locked) = file.take() else { break };
        match apply::apply(store, options, locked, &plan)? {
            apply::Outcome::Done(recovered) => return Ok(*recovered),
            apply::Outcome::Changed(locked) => *file = locked,
        }
    }
    Err(survey::damaged(store.locate(""), 0, "bytes keep changing between two reads"))
}

/// Whether the options allow to open a log with this claim. A creation that did not finish is
/// nobody's log yet; who wants a new one completes it.
fn may_be_taken(claim: &Claim, options: &WalOptions) -> bool {
    let unfinished = claim.newest_seq == 0 && claim.durable == options.initial_lsn.get();
    !options.create_new || unfinished
}

/// The CONTROL file, found or created, and locked.
fn lock<S: WalStore>(store: &S, options: &WalOptions) -> Result<Option<S::File>> {
    let path = store.locate(name::CONTROL);
    for _ in 0..ATTEMPTS {
        let listing = survey::list(store)?;
        if listing.is_bare() {
            if let Some(file) = create(store, options)? {
                return Ok(Some(file));
            }
            continue;
        }
        if !listing.control {
            // A listing is no snapshot: another handle may have created the log meanwhile.
            match store.open(name::CONTROL) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Err(survey::refuse_without_control(store, &listing));
                }
                _ => continue,
            }
        }
        let claim = match survey::read_control(store, &listing) {
            Ok(view) => view.slot.claim,
            Err(error) if error.is_corruption() => {
                look_again(store, &listing)?;
                continue;
            }
            Err(error) => return Err(error),
        };
        if !may_be_taken(&claim, options) {
            return Err(WalError::AlreadyExists { path: store.locate("") });
        }
        let file = match store.open(name::CONTROL) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(WalError::io("open", &path, error)),
        };
        control::lock(store, &file, &path)?;
        return Ok(Some(file));
    }
    Ok(None)
}

/// CONTROL looked damaged, which means nothing while another handle writes it: looks again with
/// the lock in hand.
fn look_again<S: WalStore>(store: &S, listing: &survey::Listing) -> Result<()> {
    let path = store.locate(name::CONTROL);
    let file = store.open(name::CONTROL).map_err(|e| WalError::io("open", &path, e))?;
    control::lock(store, &file, &path)?;
    let view = survey::read_control(store, listing);
    // Explicitly, because a fork of this process would keep the lock.
    store.unlock(&file).ok();
    view.map(drop)
}

/// Begins a new log; `None` when another handle was faster.
fn create<S: WalStore>(store: &S, options: &WalOptions) -> Result<Option<S::File>> {
    let place = store.locate("");
    if options.min_durable_lsn.is_some() {
        return Err(survey::damaged(place, 0, "the log that holds min_durable_lsn is missing"));
    }
    if !options.create {
        return Err(WalError::NotFound { path: place });
    }
    let initial = options.initial_lsn.get();
    let log_id = random(store)?;
    let (newest_seq, snapshot) = (0, u64::MAX);
    let claim =
        Claim { log_id, newest_seq, head: initial, snapshot, durable: initial, clean: false };
    control::create(store, claim)
}
