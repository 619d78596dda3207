//! The live chain: which of the listed segments are the log. Pure.
//!
//! From the highest sequence number down along `prev_seq`. A segment is cut at the base of its
//! live successor; one whose base is at or above that is dead. Sequence numbers fall strictly, so
//! no damage makes the walk endless.

use crate::format::control::Claim;
use crate::format::segment::SegmentHeader;
use crate::lsn::{ALIGNMENT, LSN_LIMIT};

/// The segments that are the log, and those that are not any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chain {
    /// Ascending by base and by sequence number.
    pub(super) live: Vec<SegmentHeader>,
    /// Dead, or wholly below head and cut off from the chain; ascending.
    pub(super) stale: Vec<u64>,
}

/// Why the listed segments are no chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flaw {
    pub(super) seq: u64,
    pub(super) base: u64,
    pub(super) why: &'static str,
}

/// Resolves the chain of `headers`, which ascend by sequence number.
pub(super) fn resolve(headers: &[SegmentHeader], claim: &Claim) -> Result<Chain, Flaw> {
    for header in headers {
        sane(header)?;
    }
    let find = |seq| {
        let index = headers.binary_search_by_key(&seq, |header| header.seq).ok()?;
        headers.get(index)
    };
    if claim.newest_seq != 0 && find(claim.newest_seq).is_none() {
        let why = "the newest segment that CONTROL knows is missing";
        return Err(Flaw { seq: claim.newest_seq, base: claim.durable, why });
    }
    let mut live = Vec::new();
    let mut next = headers.last();
    while let Some(current) = next {
        live.push(*current);
        next = find(current.prev_seq);
        let Some(previous) = next else { break };
        let flaw = |seq, why| Err(Flaw { seq, base: current.base, why });
        if previous.base >= current.base {
            return flaw(previous.seq, "a segment begins where its successor does, or later");
        }
        if previous.epoch > current.epoch {
            return flaw(previous.seq, "a segment has a higher epoch than its successor");
        }
        let after = headers.partition_point(|header| header.seq <= previous.seq);
        let before = headers.partition_point(|header| header.seq < current.seq);
        let between = headers.get(after..before).unwrap_or_default();
        if let Some(skipped) = between.iter().find(|other| other.base < current.base) {
            return flaw(skipped.seq, "a segment is left out by its successor");
        }
    }
    live.reverse();
    if let Some(oldest) = live.first()
        && oldest.base > claim.head
    {
        let (seq, base) = (oldest.prev_seq, claim.head);
        return Err(Flaw { seq, base, why: "a segment at or above the head is missing" });
    }
    let is_live = |seq: &u64| live.binary_search_by_key(seq, |header| header.seq).is_ok();
    let stale = headers.iter().map(|header| header.seq).filter(|seq| !is_live(seq)).collect();
    Ok(Chain { live, stale })
}

pub(super) fn sane(header: &SegmentHeader) -> Result<(), Flaw> {
    let flaw = |why| Err(Flaw { seq: header.seq, base: header.base, why });
    if header.seq > u64::MAX >> 1 {
        return flaw("a segment's sequence number leaves no room for others");
    }
    if header.seq == 0 || header.prev_seq >= header.seq {
        return flaw("a segment's predecessor is not older than the segment");
    }
    let positions = [header.base, header.head, header.durable];
    if positions.iter().any(|lsn| !lsn.is_multiple_of(ALIGNMENT) || *lsn >= LSN_LIMIT) {
        return flaw("a segment header holds an impossible position");
    }
    if header.head > header.base {
        return flaw("a segment begins below the head of its time");
    }
    Ok(())
}

impl Chain {
    /// The base of the successor of the live segment at `index`; `None` for the last one.
    pub(super) fn cut(&self, index: usize) -> Option<u64> {
        self.live.get(index.checked_add(1)?).map(|next| next.base)
    }

    /// The best watermark known before any frame is read: CONTROL's, clipped to the lowest base
    /// among live segments newer than its `newest_seq`, and the headers', clipped to the cuts.
    ///
    /// CONTROL may be older than a cut of the log: what it calls durable above the cut does not
    /// exist any more.
    pub(super) fn witnessed(&self, claim: &Claim) -> u64 {
        let newer = self.live.iter().filter(|header| header.seq > claim.newest_seq);
        let lowest = newer.map(|header| header.base).min().unwrap_or(u64::MAX);
        let headers = self.live.iter().enumerate();
        let headers = headers.map(|(i, h)| h.durable.min(self.cut(i).unwrap_or(u64::MAX)));
        headers.fold(claim.durable.min(lowest), u64::max)
    }

    /// Index of the live segment that holds `lsn`.
    pub(super) fn containing(&self, lsn: u64) -> usize {
        self.live.iter().rposition(|header| header.base <= lsn).unwrap_or(0)
    }

    /// The parts of `[from, to)` that each live segment holds.
    pub(super) fn pieces(
        &self,
        from: u64,
        to: u64,
    ) -> impl DoubleEndedIterator<Item = (SegmentHeader, u64, u64)> {
        let pieces = self.live.iter().enumerate().map(move |(index, header)| {
            let cut = self.cut(index).unwrap_or(u64::MAX);
            (*header, from.max(header.base), to.min(cut))
        });
        pieces.filter(|(_, from, to)| from < to)
    }
}

#[cfg(test)]
#[path = "chain_tests.rs"]
mod tests;
