//! Writing CONTROL anew from what the segments say.

use super::aside::Aside;
use super::assess::{Assessment, is_record};
use super::cut::{has_bytes_from, leftover_snapshots};
use super::report::RepairEffect;
use super::survey;
use crate::control;
use crate::error::{Result, WalError};
use crate::format::control::{CONTROL_BYTES, Claim};
use crate::format::name;
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;
use crate::recovery::remains::{self, Piece, Reading};
use crate::recovery::walk::{self, Found, Walk};
use crate::scan::read_full;
use crate::snapshot::Snapshot;
use crate::store::WalStore;

/// A CONTROL that can be written.
#[derive(Debug)]
pub(super) struct Rebuild {
    claim: Claim,
    end: u64,
    kept_records: u64,
    lost_records: u64,
    lost_bytes: u64,
    asides: Vec<Aside>,
}

pub(super) fn plan<S: WalStore>(
    store: &S,
    assessment: &Assessment,
    snapshot: Option<Lsn>,
) -> Result<Rebuild> {
    let remains = &assessment.remains;
    let live = remains::contiguous(&remains.readable);
    let (Some(oldest), Some(newest)) = (live.first(), live.last()) else {
        let why = "no segment is left whose header can be read";
        return Err(survey::damaged(store.locate(""), remains.head, why));
    };
    let old = remains.control.as_ref().ok().map(|view| view.slot.claim);
    let known = remains::witnessed(live.clone(), old.as_ref());
    let pieces = live.iter().map(|header| Piece {
        header: *header,
        name: name::segment(header.seq),
        gap: None,
        guessed: false,
    });
    let pieces: Vec<_> = pieces.collect();
    let end = walk::end_of(store, &pieces, known, Reading::Exact)?;
    // A head that is still in the log is kept: what was truncated does not come back.
    let head = old.map(|claim| claim.head).filter(|head| (oldest.base..=end).contains(head));
    let head = head.unwrap_or(oldest.base);
    let end = end.max(head);
    if let Some(lsn) = snapshot {
        let in_range = (head..=end).contains(&lsn.get());
        let listed = remains.listing.snapshots.contains(&lsn.get());
        let whole = || Snapshot::open(store, newest.log_id, lsn.get()).and_then(Snapshot::verify);
        if !in_range || !listed || is_damaged(whole())? {
            let why = "must name a snapshot that is whole, from the head to the end of the log";
            return Err(WalError::InvalidOption { name: "snapshot", why });
        }
    }
    let kept_records = count(store, Walk::new(pieces, None, head, end, Reading::Exact))?;
    let mut rebuild = Rebuild {
        claim: Claim {
            log_id: newest.log_id,
            newest_seq: newest.seq,
            head,
            snapshot: snapshot.map_or(u64::MAX, Lsn::get),
            // Of what lies below the head nothing is in the log, so nothing untrue is said of it.
            durable: known.max(head),
            clean: false,
        },
        end,
        kept_records,
        lost_records: assessment.records.saturating_sub(kept_records),
        lost_bytes: head.saturating_sub(remains.head),
        asides: Vec::new(),
    };
    rebuild.plan_copies(store, assessment, &live)?;
    Ok(rebuild)
}

fn count<S: WalStore>(store: &S, mut walk: Walk<S>) -> Result<u64> {
    let mut records = 0_u64;
    loop {
        match walk.next(store)? {
            Found::Frame { header, .. } => {
                records = records.saturating_add(u64::from(is_record(header.kind)));
            }
            Found::Skipped { .. } => {}
            Found::End => return Ok(records),
        }
    }
}

impl Rebuild {
    /// CONTROL itself, and what the next opening removes or cuts because of this CONTROL.
    fn plan_copies<S: WalStore>(
        &mut self,
        store: &S,
        assessment: &Assessment,
        live: &[SegmentHeader],
    ) -> Result<()> {
        let remains = &assessment.remains;
        let mut files = Vec::new();
        if remains.listing.control {
            files.push(name::CONTROL.to_owned());
        }
        let is_live = |seq: u64| live.binary_search_by_key(&seq, |header| header.seq).is_ok();
        let stale = remains.readable.iter().filter(|header| !is_live(header.seq));
        files.extend(stale.map(|header| name::segment(header.seq)));
        // With CONTROL goes a witness, so what an opening then cuts as torn may have been durable.
        for (index, header) in live.iter().enumerate() {
            let cut = live.get(index.saturating_add(1)).map_or(u64::MAX, |next| next.base);
            let name = name::segment(header.seq);
            let behind = self.end.max(header.base).saturating_sub(header.base);
            let offset = behind.saturating_add(FIRST_FRAME);
            if cut > self.end && has_bytes_from(store, &name, offset)? {
                files.push(name);
            }
        }
        files.extend(leftover_snapshots(store, assessment, Some(self.claim.snapshot))?);
        let taken = &remains.listing.unknown;
        let asides = files.iter().map(|file| Aside::plan(store, file, taken));
        self.asides = asides.collect::<Result<_>>()?;
        Ok(())
    }

    pub(super) fn snapshot(&self) -> Option<Lsn> {
        (self.claim.snapshot != u64::MAX).then_some(Lsn::new(self.claim.snapshot))
    }

    pub(super) fn effect<S: WalStore>(&self, store: &S) -> RepairEffect {
        RepairEffect {
            head: Lsn::new(self.claim.head),
            end: Lsn::new(self.end),
            kept_records: self.kept_records,
            lost_records: self.lost_records,
            lost_bytes: self.lost_bytes,
            copies: self.asides.iter().map(|aside| aside.report(store)).collect(),
        }
    }

    /// Makes it so. Writes no segment.
    ///
    /// DURABILITY: the copies are durable first. A new CONTROL gets its name with both slots
    /// synced; one that is there is overwritten slot by slot, so that a crash leaves what counted
    /// before or what counts from now on.
    pub(super) fn apply<S: WalStore>(&self, store: &S, file: &mut Option<S::File>) -> Result<()> {
        self.asides.iter().try_for_each(|aside| aside.make(store))?;
        let path = store.locate(name::CONTROL);
        if let Some(file) = file {
            let mut bytes = vec![0; CONTROL_BYTES];
            let read = read_full(file, &path, 0, &mut bytes)?;
            bytes.truncate(read);
            return control::rewrite(file, &path, &bytes, self.claim);
        }
        // Somebody else makes one at the same time.
        *file = Some(control::create(store, self.claim)?.ok_or(WalError::Locked { path })?);
        Ok(())
    }
}

/// Whether a snapshot cannot count. An error that says nothing about it stays one.
fn is_damaged<S: WalStore>(opened: Result<Snapshot<S>>) -> Result<bool> {
    match opened {
        Ok(_) => Ok(false),
        Err(WalError::Corruption { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}
