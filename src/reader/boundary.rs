//! Where units of the log begin and end.

use super::iter::WalIter;
use crate::error::Result;
use crate::format::frame::{Header, Kind, MORE};
use crate::scan::Step;
use crate::segments::LiveSegment;
use crate::store::WalStore;
use crate::sync::Arc;

/// What is around the place where a frame starts, or at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Boundary {
    /// The record that starts last before it.
    pub(crate) before: Option<u64>,
    /// What stands before it belongs to the same batch.
    pub(crate) inside: bool,
    /// The end of the record that starts there, and whether its batch goes on behind that.
    pub(crate) record: Option<(u64, bool)>,
}

impl<S: WalStore> WalIter<S> {
    /// Looks at all frames around `lsn`, which is below the end or there, and not below the head;
    /// `None` where no frame starts. Reads the segment that holds it, and more only where that
    /// has no record before.
    pub(crate) fn boundary(mut self, head: u64, lsn: u64) -> Result<Option<Boundary>> {
        let segments: Vec<_> = self.segments_to(lsn);
        let mut boundary = Boundary { before: None, inside: false, record: None };
        let mut cut = self.cut_of(lsn);
        for (number, segment) in segments.iter().enumerate() {
            let Some(around) = self.around(segment, head, lsn, cut)? else { return Ok(None) };
            if number == 0 {
                boundary = around;
            }
            boundary.before = around.before;
            if boundary.before.is_some() || segment.header.base <= head {
                break;
            }
            cut = segment.header.base;
        }
        Ok(Some(boundary))
    }

    /// What a segment that ends at `cut` says of `lsn`.
    fn around(
        &mut self,
        segment: &Arc<LiveSegment<S::File>>,
        head: u64,
        lsn: u64,
        cut: u64,
    ) -> Result<Option<Boundary>> {
        let mut boundary = Boundary { before: None, inside: false, record: None };
        // What lies below the head does not count, and may be damaged.
        let mut reached = segment.header.base.max(head);
        self.scan(segment, reached, cut)?;
        while reached < lsn.min(cut) {
            let Some((at, header)) = self.step()? else { break };
            boundary.inside = header.flags & MORE != 0;
            if header.kind == Kind::Record {
                boundary.before = Some(at);
            }
            reached = at + header.frame_bytes();
        }
        if reached != lsn.min(cut) {
            return Ok(None);
        }
        if reached == lsn
            && lsn < cut
            && let Some((at, header)) = self.step()?
            && header.kind == Kind::Record
        {
            boundary.record = Some((at + header.frame_bytes(), header.flags & MORE != 0));
        }
        Ok(Some(boundary))
    }

    fn step(&mut self) -> Result<Option<(u64, Header)>> {
        let Some(scanner) = self.scanner() else { return Ok(None) };
        match scanner.next()? {
            Step::Frame { lsn, header } => Ok(Some((lsn, header))),
            Step::End => Ok(None),
            Step::Invalid { lsn, why } => Err(self.damage(lsn, why)),
        }
    }
}
