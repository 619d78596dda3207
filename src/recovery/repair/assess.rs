//! What is wrong with a log, read once from its head to the end of its files.

use super::report::RepairReport;
use super::{Repair, cut, rebuild};
use crate::error::{Result, WalError};
use crate::format::frame::Kind;
use crate::lsn::Lsn;
use crate::recovery::plan;
use crate::recovery::remains::{self, Reading, Remains};
use crate::recovery::survey;
use crate::recovery::walk::{self, Found, OPEN_END, Walk};
use crate::store::WalStore;

/// What is wrong with a log.
#[derive(Debug)]
pub(super) struct Assessment {
    pub(super) remains: Remains,
    pub(super) refused: Option<WalError>,
    /// Where recovery ends the log, or would if nothing below were damaged.
    pub(super) end: u64,
    /// The end of the last unit before the first hole from the head on.
    pub(super) boundary: u64,
    /// The newest witness of durability.
    pub(super) witnessed: u64,
    /// Intact records from the head to the end.
    pub(super) records: u64,
    /// Intact records behind the end, and where the last bytes there end.
    pub(super) torn_records: u64,
    pub(super) last: u64,
    findings: Vec<WalError>,
    more_findings: u64,
}

impl Assessment {
    pub(super) fn of<S: WalStore>(store: &S) -> Result<Self> {
        let planned = plan::verdict(store)?.map(|plan| plan.end);
        let remains = remains::survey(store, Reading::Exact)?;
        let end = match &planned {
            Ok(end) => *end,
            Err(refusal) if remains.pieces.is_empty() && remains.control.is_err() => {
                return Err(refusal.clone());
            }
            Err(_) => walk::end_of(store, &remains.pieces, remains.witnessed, Reading::Exact)?
                .max(remains.head),
        };
        let mut assessment = Self {
            refused: planned.err(),
            end,
            boundary: remains.head,
            witnessed: remains.witnessed,
            records: 0,
            torn_records: 0,
            last: end,
            findings: Vec::new(),
            more_findings: 0,
            remains,
        };
        let troubles = assessment.remains.troubles.clone();
        troubles.into_iter().for_each(|trouble| assessment.find(trouble));
        assessment.read(store)?;
        assessment.read_behind(store)?;
        Ok(assessment)
    }

    /// A walk over the pieces, from the head to the end.
    pub(super) fn walk<S: WalStore>(&self) -> Walk<S> {
        let Remains { pieces, tail, head, .. } = &self.remains;
        Walk::new(pieces.clone(), tail.clone(), *head, self.end, Reading::Exact)
    }

    fn read<S: WalStore>(&mut self, store: &S) -> Result<()> {
        let mut walk = self.walk::<S>();
        let mut unbroken = true;
        loop {
            match walk.next(store)? {
                Found::Frame { header, .. } => {
                    self.witnessed = self.witnessed.max(header.watermark.unwrap_or(0));
                    self.records = self.records.saturating_add(u64::from(is_record(header.kind)));
                    if unbroken && !header.more() {
                        self.boundary = walk.position();
                    }
                }
                Found::Skipped { error, .. } => {
                    unbroken = false;
                    self.find(error);
                }
                Found::End => return Ok(()),
            }
        }
    }

    fn read_behind<S: WalStore>(&mut self, store: &S) -> Result<()> {
        let pieces = self.remains.pieces.clone();
        let mut walk: Walk<S> = Walk::new(pieces, None, self.end, OPEN_END, Reading::Exact);
        loop {
            match walk.next(store)? {
                Found::Frame { header, .. } => {
                    let record = u64::from(is_record(header.kind));
                    self.torn_records = self.torn_records.saturating_add(record);
                }
                Found::Skipped { .. } => {}
                Found::End => return Ok(()),
            }
            self.last = self.last.max(walk.position());
        }
    }

    fn find(&mut self, finding: WalError) {
        if self.findings.len() < RepairReport::MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more_findings = self.more_findings.saturating_add(1);
        }
    }

    pub(super) fn report(&self, repair: Repair) -> RepairReport {
        RepairReport {
            repair,
            refused: self.refused.clone(),
            findings: self.findings.clone(),
            more_findings: self.more_findings,
            recommended: None,
            cut: None,
            rebuild: None,
            still_refused: None,
        }
    }

    /// Adds to a report what each repair would do, and which one to take.
    pub(super) fn advise<S: WalStore>(&self, store: &S, report: &mut RepairReport) -> Result<()> {
        if !report.is_damaged() {
            return Ok(());
        }
        let boundary = Lsn::new(self.boundary);
        report.cut = possible(cut::plan(store, self, self.boundary))?.map(|cut| cut.effect(store));
        let snapshot = self.likely_snapshot(store)?;
        let rebuilt = match possible(rebuild::plan(store, self, snapshot))? {
            None if snapshot.is_some() => possible(rebuild::plan(store, self, None))?,
            planned => planned,
        };
        report.rebuild = rebuilt.as_ref().map(|rebuild| rebuild.effect(store));
        let rebuild =
            rebuilt.map(|rebuild| Repair::RebuildControl { snapshot: rebuild.snapshot() });
        let head_is_gone = match (&report.rebuild, self.remains.pieces.first()) {
            (Some(effect), Some(first)) => {
                first.header.base > self.remains.head || effect.head.get() < self.remains.head
            }
            _ => false,
        };
        let cut = report.cut.as_ref().map(|_| Repair::CutAt(boundary));
        report.recommended = match head_is_gone {
            true => rebuild,
            false => cut.or(rebuild),
        };
        Ok(())
    }

    /// The snapshot that CONTROL names; the newest whose file says that it is one, if CONTROL says
    /// nothing.
    fn likely_snapshot<S: WalStore>(&self, store: &S) -> Result<Option<Lsn>> {
        let named = self.remains.control.as_ref().ok().map(|view| view.slot.claim.snapshot);
        let listed = &self.remains.listing.snapshots;
        let candidates = listed.iter().rev().filter(|lsn| named.is_none_or(|named| named == **lsn));
        for lsn in candidates {
            if survey::own_snapshot(store, *lsn)?.is_some() {
                return Ok(Some(Lsn::new(*lsn)));
            }
        }
        Ok(None)
    }
}

pub(super) fn is_record(kind: Kind) -> bool {
    kind == Kind::Record
}

/// A repair that can be done; `None` where the log or the request does not allow it.
fn possible<T>(planned: Result<T>) -> Result<Option<T>> {
    match planned {
        Ok(planned) => Ok(Some(planned)),
        Err(
            WalError::Corruption { .. }
            | WalError::InvalidOption { .. }
            | WalError::NotARecord { .. }
            | WalError::Truncated { .. },
        ) => Ok(None),
        Err(error) => Err(error),
    }
}
