//! The plan: everything recovery decides, before anything is changed.

use std::path::PathBuf;

use super::ATTEMPTS;
use super::chain::{self, Chain};
use super::extent::{self, Extent, Search, Tally};
use super::survey::{self, ControlView, Headers, Listing};
use super::verdict::{Facts, Verdict};
use crate::crypt::Keys;
use crate::error::{Result, WalError};
use crate::format::segment::{AES_256_GCM, SegmentHeader};
use crate::format::{MAJOR, name};
use crate::lsn::Lsn;
use crate::store::WalStore;

/// What is there, as far as names, CONTROL and headers say.
#[derive(Debug)]
pub(super) struct Survey {
    pub(super) listing: Listing,
    pub(super) control: ControlView,
    pub(super) chain: Chain,
    /// The highest epoch of any segment.
    pub(super) epoch: u64,
    pub(super) damaged_copies: Vec<PathBuf>,
    /// The best watermark known without reading frames.
    pub(super) witnessed: u64,
}

/// What to do.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) survey: Survey,
    pub(super) extent: Extent,
    pub(super) end: u64,
    pub(super) tally: Tally,
    pub(super) last_record: Option<u64>,
    /// A snapshot counts, and is not encrypted.
    pub(super) plain_snapshot: bool,
}

impl Plan {
    /// Fails where the snapshot that counts is plain and none can be.
    pub(super) fn refuse_forged_snapshot(&self, keys: &Keys) -> Result<()> {
        let proven = self.survey.chain.live.last().is_some_and(SegmentHeader::is_entire);
        let encrypted = proven || keys.are_required();
        let lsn = Lsn::new(self.survey.control.slot.claim.snapshot);
        if encrypted && self.plain_snapshot { Err(WalError::Tampered { lsn }) } else { Ok(()) }
    }
}

/// Reads names, CONTROL and every header, and resolves the chain.
pub(super) fn survey<S: WalStore>(store: &S) -> Result<Survey> {
    survey_listed(store, survey::list(store)?)
}

/// The same, for names that were read already.
pub(super) fn survey_listed<S: WalStore>(store: &S, mut listing: Listing) -> Result<Survey> {
    let mut control = survey::read_control(store, &listing)?;
    let mut headers = Headers::read(store, &listing, &control.slot.claim)?;
    let mut attempts = 1..ATTEMPTS;
    let chain = loop {
        let claim = &control.slot.claim;
        headers.complete(store, &mut listing, claim)?;
        match chain::resolve(&headers.segments, claim) {
            Ok(chain) => break chain,
            Err(flaw) => {
                let now = survey::read_control(store, &listing)?;
                // Beside a writer the files may be ahead of what CONTROL said of them.
                if now.bytes == control.bytes || attempts.next().is_none() {
                    let path = store.locate(&name::segment(flaw.seq));
                    return Err(survey::damaged(path, flaw.base, flaw.why));
                }
                control = now;
            }
        }
    };
    let claim = control.slot.claim;
    if let Some(header) = chain.live.iter().find(|header| header.cipher > AES_256_GCM) {
        let path = store.locate(&name::segment(header.seq));
        return Err(WalError::UnsupportedVersion { path, major: MAJOR, incompat: 0 });
    }
    let mut damaged_copies = headers.damaged;
    if !control.intact {
        damaged_copies.push(store.locate(name::CONTROL));
    }
    let witnessed = chain.witnessed(&claim);
    if witnessed < claim.head {
        let path = store.locate(name::CONTROL);
        return Err(survey::damaged(path, claim.head, "the log was cut below its head"));
    }
    let epoch = headers.segments.iter().map(|header| header.epoch).max().unwrap_or(0);
    Ok(Survey { listing, control, chain, epoch, damaged_copies, witnessed })
}

/// Decides where the log ends, or that it is damaged.
pub(super) fn plan<S: WalStore>(store: &S, demand: Option<u64>) -> Result<Plan> {
    let survey = survey(store)?;
    let (chain, head) = (&survey.chain, survey.control.slot.claim.head);
    let search = Search { head, demand, behind: true };
    let extent = extent::find(store, chain, survey.witnessed, search)?;
    let (end, tally) = decide(store, chain, &extent, search)?;
    let (last_record, plain_snapshot) = check_rest(store, &survey, &extent, end)?;
    Ok(Plan { survey, extent, end, tally, last_record, plain_snapshot })
}

/// What an opening reads besides the end of the log: the snapshot, and what lies before the walk as
/// far as the last record, which it returns, with whether a snapshot counts that is plain.
pub(super) fn check_rest<S: WalStore>(
    store: &S,
    survey: &Survey,
    extent: &Extent,
    end: u64,
) -> Result<(Option<u64>, bool)> {
    let claim = &survey.control.slot.claim;
    let plain_snapshot = survey::check_snapshot(store, &survey.listing, claim, end)?;
    let last_record = match extent.last_record.filter(|lsn| *lsn < end) {
        Some(lsn) => Some(lsn),
        None => extent::last_record_before(store, &survey.chain, extent.first, claim.head)?,
    };
    Ok((last_record, plain_snapshot))
}

/// The plan, or why an opening would refuse the log; the outer error says nothing about the log.
pub(super) fn verdict<S: WalStore>(store: &S) -> Result<Result<Plan>> {
    let listing = survey::list(store)?;
    let planned = match listing.control {
        true => plan(store, None),
        false => Err(survey::refuse_without_control(store, &listing)),
    };
    match planned {
        Err(refusal @ (WalError::Corruption { .. } | WalError::NotALog { .. })) => Ok(Err(refusal)),
        planned => planned.map(Ok),
    }
}

/// Applies the decision table; returns the end and what lies between the witness and it.
pub(super) fn decide<S: WalStore>(
    store: &S,
    chain: &Chain,
    extent: &Extent,
    search: Search,
) -> Result<(u64, Tally)> {
    let end = extent.boundary;
    let stops_below_witness = extent.stop < extent.witnessed;
    // The walk does not know what lies below the witness, so only then is a second look of use.
    let tally = match stops_below_witness {
        true => None,
        false => extent::tally(store, chain, extent, end)?,
    };
    let start = extent::start(chain, extent.first, search.head).unwrap_or(extent.boundary);
    let demand_unmet = search.demand.is_some_and(|lsn| {
        lsn >= search.head && (lsn >= end || (lsn >= start && !extent.demand_seen))
    });
    let facts = Facts {
        stops_below_witness,
        witness_off_boundary: tally.is_none(),
        demand_unmet,
        evidence_too_far: extent.evidence_end > extent.reach(chain),
        inside_batch: extent.boundary < extent.stop,
    };
    match facts.verdict() {
        Verdict::Damaged(why) => Err(extent.damage(store, chain, why)),
        // The last boundary is the start of the batch that X is in, or X itself.
        Verdict::EndsAtBatch | Verdict::EndsHere => Ok((end, tally.unwrap_or_default())),
    }
}
