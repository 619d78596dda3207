//! Applying a plan. Writes into no existing segment; a crash at any step leaves the old log whole.

use super::Recovered;
use super::carry;
use super::plan::Plan;
use super::report::RecoveryReport;
use super::survey;
use crate::control::Control;
use crate::error::{Result, WalError};
use crate::format::name;
use crate::format::segment::{ENTIRE, FIRST_FRAME, Ignored, SegmentHeader};
use crate::lsn::{LSN_LIMIT, Lsn};
use crate::options::WalOptions;
use crate::scan::to_u64;
use crate::segments::{self, Epoch, construct, publish, random};
use crate::store::{WalStore, remove_if_there};

/// How applying a plan ended.
pub(super) enum Outcome<S: WalStore> {
    Done(Box<Recovered<S>>),
    /// Bytes are no longer what they were when the plan was made; the locked CONTROL comes back.
    Changed(Option<S::File>),
}

/// Applies `plan` to a log whose CONTROL is `file`, locked.
pub(super) fn apply<S: WalStore>(
    store: &S,
    options: &WalOptions,
    file: S::File,
    plan: &Plan,
) -> Result<Outcome<S>> {
    let view = &plan.survey.control;
    let control = Control::<S>::adopt(file, store.locate(name::CONTROL), view.newest, view.slot);
    match begin_epoch(store, options, plan, &control) {
        Ok(Some((live, active, epoch, report))) => {
            let end = plan.end;
            let recovered = Recovered { control, live, active, epoch, end, report };
            Ok(Outcome::Done(Box::new(recovered)))
        }
        Ok(None) => Ok(Outcome::Changed(control.into_file())),
        Err(error) => {
            control.unlock(store);
            Err(error)
        }
    }
}

/// What a new epoch begins with: the live chain, its newest segment, what frames are sealed with,
/// and the report.
type Begun<F> = (Vec<SegmentHeader>, F, Epoch, RecoveryReport);

/// Makes the plan true, step by step; `None` when bytes are no longer what the plan rests on.
fn begin_epoch<S: WalStore>(
    store: &S,
    options: &WalOptions,
    plan: &Plan,
    control: &Control<S>,
) -> Result<Option<Begun<S::File>>> {
    let mut header = next_header(options, plan, random(store)?)?;
    let key = options.keys.active()?.filter(|_| !carry::is_plain(plan, &header));
    let epoch = segments::begin_epoch(key.as_ref(), &mut header);
    carry::check(store, &options.keys, plan, &header)?;
    // DURABILITY: files without a name are nobody's; a crash leaves some of them for next time.
    let swept = store.sweep().map_err(|e| WalError::io("sweep", &store.locate(""), e))?;
    // DURABILITY: from here on the disk holds the claim that the plan rests on, even if it came
    // from a page cache that the disk never got.
    control.make_true(&plan.survey.control.bytes)?;
    // DURABILITY: the head is durable, so a crash leaves any of these or none, all below head.
    let below = below_head(plan);
    below.iter().try_for_each(|segment| remove(store, &name::segment(segment.seq)))?;
    let live = plan.survey.chain.live.get(below.len()..).unwrap_or_default();
    let live = live.iter().filter(|segment| segment.base < header.base).copied();
    let live: Vec<_> = live.chain([header]).collect();

    let bytes = FIRST_FRAME.saturating_add(plan.end.saturating_sub(header.base));
    // DURABILITY: until it is published, the new segment has no name; a crash leaves the old log
    // and a leftover.
    let active = construct(store, &header, bytes)?;
    if !carry::carry(store, &options.keys, plan, (&header, &epoch), &active)? {
        return Ok(None);
    }
    // DURABILITY: a crash inside leaves the old log, or the new one whole: the header says that
    // everything up to the end is durable, and the segment's own bytes were synced first. CONTROL
    // knows the old newest segment, and its watermark is clipped to the new base.
    publish(store, &active, &header)?;
    // DURABILITY: a crash between the slots leaves one that knows the new segment.
    control.witness_both(|claim| {
        claim.newest_seq = header.seq;
        claim.durable = plan.end;
        claim.clean = false;
    })?;
    // DURABILITY: both slots are synced. What is removed now is on no live chain; a crash leaves
    // any of it, and the next open removes it.
    remove_dead(store, plan, &live, below)?;

    let report = report(plan, &live, &header, swept);
    Ok(Some((live, active, epoch, report)))
}

/// The header of the segment that begins the new epoch.
fn next_header(options: &WalOptions, plan: &Plan, salt: [u8; 16]) -> Result<SegmentHeader> {
    let claim = plan.survey.control.slot.claim;
    let live = &plan.survey.chain.live;
    let oldest = live.first().map_or(plan.end, |segment| segment.base);
    let base = plan.extent.witnessed.max(oldest);
    if plan.end >= LSN_LIMIT {
        return Err(WalError::LsnExhausted);
    }
    // A segment that is missing keeps its number: a claim never forgets the newest one.
    let highest = plan.survey.listing.segments.last().copied().unwrap_or(0).max(claim.newest_seq);
    let seq = highest.checked_add(1).ok_or(WalError::LsnExhausted)?;
    let epoch = plan.survey.epoch.checked_add(1).ok_or(WalError::LsnExhausted)?;
    let removed = below_head(plan).len();
    let kept = live.get(removed..).unwrap_or_default();
    let below = kept.iter().filter(|segment| segment.base < base);
    let previous = below.clone().next_back();
    let is_entire = !plan.plain_snapshot && below.clone().all(|segment| segment.cipher != 0);
    Ok(SegmentHeader {
        log_id: claim.log_id,
        seq,
        epoch,
        salt,
        base,
        prev_seq: previous.map_or(0, |segment| segment.seq),
        head: claim.head,
        durable: plan.end,
        max_unsynced: options.max_unsynced(),
        max_unit: options.max_unit().max(plan.tally.largest_unit),
        max_record: options.max_record_bytes.max(plan.tally.largest_record),
        cipher: 0,
        extent: if is_entire { ENTIRE } else { 0 },
        key_id: 0,
        key_check: [0; _],
        ignored: Ignored::NONE,
    })
}

/// The live segments wholly below head that are older than the newest that CONTROL knows.
fn below_head(plan: &Plan) -> &[SegmentHeader] {
    let claim = plan.survey.control.slot.claim;
    let chain = &plan.survey.chain;
    let below = |index: usize, segment: &SegmentHeader| {
        segment.seq < claim.newest_seq && chain.cut(index).is_some_and(|cut| cut <= claim.head)
    };
    let count = chain.live.iter().enumerate().take_while(|(i, segment)| below(*i, segment)).count();
    chain.live.get(..count).unwrap_or_default()
}

fn remove<S: WalStore>(store: &S, name: &str) -> Result<()> {
    remove_if_there(store, name).map_err(|e| WalError::io("remove", &store.locate(name), e))
}

fn remove_dead<S: WalStore>(
    store: &S,
    plan: &Plan,
    live: &[SegmentHeader],
    removed: &[SegmentHeader],
) -> Result<()> {
    let is_one_of =
        |those: &[SegmentHeader], seq: u64| those.binary_search_by_key(&seq, |one| one.seq).is_ok();
    let is_dead = |seq: &&u64| !is_one_of(live, **seq) && !is_one_of(removed, **seq);
    for seq in plan.survey.listing.segments.iter().rev().filter(is_dead) {
        remove(store, &name::segment(*seq))?;
    }
    let snapshot = plan.survey.control.slot.claim.snapshot;
    for lsn in plan.survey.listing.snapshots.iter().filter(|lsn| **lsn != snapshot) {
        if let Some(name) = survey::own_snapshot(store, *lsn)? {
            remove(store, &name)?;
        }
    }
    Ok(())
}

fn report(
    plan: &Plan,
    live: &[SegmentHeader],
    header: &SegmentHeader,
    swept: usize,
) -> RecoveryReport {
    let claim = plan.survey.control.slot.claim;
    let (extent, end) = (&plan.extent, plan.end);
    // Between the end and X there are only frames of a batch that is not whole.
    let dirt_end = extent.dirt_end.max(extent.stop).max(end);
    RecoveryReport {
        scanned_records: extent.records,
        segments: to_u64(live.len()),
        head: Lsn::new(claim.head),
        end: Lsn::new(end),
        last_record: plan.last_record.map(Lsn::new),
        torn_at: (dirt_end > end).then_some(Lsn::new(end)),
        cut_bytes: dirt_end.saturating_sub(end),
        carried_bytes: end.saturating_sub(header.base),
        epoch: header.epoch,
        clean: claim.clean && claim.durable == end,
        damaged_copies: plan.survey.damaged_copies.clone(),
        unknown_files: plan.survey.listing.unknown.clone(),
        swept: to_u64(swept),
    }
}
