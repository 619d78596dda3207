//! Ending a log where the caller says.

use super::aside::Aside;
use super::assess::{Assessment, is_record};
use super::report::RepairEffect;
use super::survey;
use crate::crypt::Keys;
use crate::error::{Result, WalError};
use crate::format::name;
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;
use crate::options::WalOptions;
use crate::recovery::apply::{self, Outcome};
use crate::recovery::chain::Chain;
use crate::recovery::extent::{self, Search};
use crate::recovery::plan::{Plan, Survey};
use crate::recovery::walk::Found;
use crate::scan::{BLOCK, read_full, to_u64};
use crate::segments;
use crate::store::WalStore;

/// A cut that can be made.
#[derive(Debug)]
pub(super) struct Cut {
    head: u64,
    at: u64,
    /// What lies from here on is written anew: no witness speaks for it yet.
    carry_from: u64,
    plain_snapshot: bool,
    kept_records: u64,
    lost_records: u64,
    lost_bytes: u64,
    /// The segments below the cut, ascending.
    live: Vec<SegmentHeader>,
    asides: Vec<Aside>,
}

/// What lies below a cut.
struct Below {
    /// A unit ends at the cut.
    is_boundary: bool,
    carry_from: u64,
    records: u64,
    /// The first hole.
    hole: Option<(u64, WalError)>,
}

pub(super) fn plan<S: WalStore>(store: &S, assessment: &Assessment, at: u64) -> Result<Cut> {
    let remains = &assessment.remains;
    let claim = remains.control.as_ref().map_err(Clone::clone)?.slot.claim;
    let (lsn, head) = (Lsn::new(at), claim.head);
    if at < head {
        return Err(WalError::Truncated { lsn, head: Lsn::new(head) });
    }
    let plain_snapshot = survey::check_snapshot(store, &remains.listing, &claim, u64::MAX)?;
    if claim.snapshot != u64::MAX && at < claim.snapshot {
        let why = "must not be below the snapshot that counts: rebuild CONTROL without it first";
        return Err(WalError::InvalidOption { name: "cut_at", why });
    }
    let below = below(store, assessment, at)?;
    if !below.is_boundary {
        return Err(match below.hole {
            Some((start, error)) if start < at => error,
            _ => WalError::NotARecord { lsn },
        });
    }
    let live = remains.pieces.iter().map(|piece| piece.header);
    let live: Vec<_> = live.filter(|header| header.base < at && at > head).collect();
    let mut cut = Cut {
        head,
        at,
        carry_from: below.carry_from,
        plain_snapshot,
        kept_records: below.records,
        lost_records: assessment
            .records
            .saturating_add(assessment.torn_records)
            .saturating_sub(below.records),
        lost_bytes: assessment.last.saturating_sub(at),
        live,
        asides: Vec::new(),
    };
    cut.plan_copies(store, assessment)?;
    Ok(cut)
}

/// Reads up to the cut, or to the first hole before it.
fn below<S: WalStore>(store: &S, assessment: &Assessment, at: u64) -> Result<Below> {
    let head = assessment.remains.head;
    let mut below = Below { is_boundary: at == head, carry_from: head, records: 0, hole: None };
    let mut walk = assessment.walk::<S>();
    while walk.position() < at {
        match walk.next(store)? {
            Found::Frame { header, .. } => {
                let end = walk.position();
                below.records = below.records.saturating_add(u64::from(is_record(header.kind)));
                if !header.more() {
                    below.is_boundary = end == at;
                    if end <= at.min(assessment.witnessed) {
                        below.carry_from = end;
                    }
                }
            }
            Found::Skipped { start, error, .. } => {
                below.hole = Some((start, error));
                break;
            }
            Found::End => break,
        }
    }
    Ok(below)
}

impl Cut {
    /// What is changed, removed, or not shown any more.
    fn plan_copies<S: WalStore>(&mut self, store: &S, assessment: &Assessment) -> Result<()> {
        let listing = &assessment.remains.listing;
        let mut files = vec![name::CONTROL.to_owned()];
        if let Some(last) = self.live.last() {
            let name = name::segment(last.seq);
            let offset = self.at.saturating_sub(last.base).saturating_add(FIRST_FRAME);
            if has_bytes_from(store, &name, offset)? {
                files.push(name);
            }
        }
        let kept = |seq: &&u64| self.live.binary_search_by_key(*seq, |header| header.seq).is_ok();
        let removed = listing.segments.iter().filter(|seq| !kept(seq));
        files.extend(removed.map(|seq| name::segment(*seq)));
        let counts = assessment.remains.control.as_ref().map(|view| view.slot.claim.snapshot);
        files.extend(leftover_snapshots(store, assessment, counts.ok())?);
        let taken = &listing.unknown;
        let asides = files.iter().map(|file| Aside::plan(store, file, taken));
        self.asides = asides.collect::<Result<_>>()?;
        Ok(())
    }

    pub(super) fn effect<S: WalStore>(&self, store: &S) -> RepairEffect {
        RepairEffect {
            head: Lsn::new(self.head),
            end: Lsn::new(self.at),
            kept_records: self.kept_records,
            lost_records: self.lost_records,
            lost_bytes: self.lost_bytes,
            copies: self.asides.iter().map(|aside| aside.report(store)).collect(),
        }
    }

    /// Makes it so, as the last step of a recovery that found the log's end here.
    ///
    /// DURABILITY: the copies are durable before anything changes. From then on this is
    /// recovery's own application of a plan: a crash before the new segment has its name leaves
    /// the old log; one behind it the new one, or that one beside files that cannot be used, which
    /// is refused until the same cut is made again.
    pub(super) fn apply<S: WalStore>(
        self,
        store: &S,
        keys: &Keys,
        assessment: Assessment,
        file: &mut Option<S::File>,
    ) -> Result<()> {
        segments::admit(keys, &self.live)?;
        self.asides.iter().try_for_each(|aside| aside.make(store))?;
        let changed = || {
            let path = store.locate("");
            survey::damaged(path, self.at, "bytes changed between two reads")
        };
        let remains = assessment.remains;
        let epoch = remains.readable.iter().map(|header| header.epoch).max().unwrap_or(0);
        let chain = Chain { live: self.live.clone(), stale: Vec::new() };
        let search = Search { head: self.head, demand: None, behind: false };
        let mut extent = extent::find(store, &chain, self.carry_from, search)?;
        extent.witnessed = self.carry_from;
        let tally = extent::tally(store, &chain, &extent, self.at)?.ok_or_else(changed)?;
        let survey = Survey {
            listing: remains.listing,
            control: remains.control?,
            chain,
            epoch,
            damaged_copies: remains.damaged_copies,
            witnessed: self.carry_from,
        };
        let (end, plain_snapshot) = (self.at, self.plain_snapshot);
        let plan = Plan { survey, extent, end, tally, last_record: None, plain_snapshot };
        let Some(locked) = file.take() else { return Err(changed()) };
        let mut options = WalOptions::new();
        options.keys = keys.clone();
        match apply::apply(store, &options, locked, &plan)? {
            Outcome::Done(recovered) => {
                // DURABILITY: an opening may find removed names again, and removes them again; not
                // those of files that it would refuse.
                let removed = store.sync_names();
                recovered.control.unlock(store);
                removed.map_err(|e| WalError::io("sync", &store.locate(""), e))
            }
            Outcome::Changed(locked) => {
                *file = locked;
                Err(changed())
            }
        }
    }
}

/// The names of snapshots that are of this crate and do not count.
pub(super) fn leftover_snapshots<S: WalStore>(
    store: &S,
    assessment: &Assessment,
    counts: Option<u64>,
) -> Result<Vec<String>> {
    let listed = assessment.remains.listing.snapshots.iter();
    let leftover = listed.filter(|lsn| Some(**lsn) != counts);
    let names =
        leftover.map(|lsn| survey::own_snapshot(store, *lsn)).collect::<Result<Vec<_>>>()?;
    Ok(names.into_iter().flatten().collect())
}

/// Whether a file has anything but zeros from an offset on.
pub(super) fn has_bytes_from<S: WalStore>(store: &S, name: &str, offset: u64) -> Result<bool> {
    let path = store.locate(name);
    let file = store.open(name).map_err(|e| WalError::io("open", &path, e))?;
    let mut block = Vec::new();
    block.try_reserve_exact(BLOCK).map_err(|_| WalError::OutOfMemory)?;
    block.resize(BLOCK, 0);
    let mut at = offset;
    loop {
        let read = read_full(&file, &path, at, &mut block)?;
        if read == 0 || block.iter().take(read).any(|byte| *byte != 0) {
            return Ok(read > 0);
        }
        at = at.saturating_add(to_u64(read));
    }
}
