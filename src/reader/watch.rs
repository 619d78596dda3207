//! A directory that somebody else writes to, as a follower sees it.

use std::time::Duration;

use super::bell::Bell;
use super::follow::Source;
use super::iter::{Beside, WalIter};
use super::record::Record;
use crate::checksum;
use crate::error::{Result, WalError};
use crate::format::segment::SegmentHeader;
use crate::lsn::Lsn;
use crate::recovery::{Look, survey_read_only};
use crate::segments::LiveSegment;
use crate::store::{FileStore, WalStore};
use crate::sync::{Arc, now};

/// The first wait for more, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// A look may take this part of the time.
const SHARE: u32 = 10;

/// A look at a directory, again and again.
pub(super) struct Watch {
    store: Arc<FileStore>,
    look: Look,
    /// Nobody has looked since the look.
    unused: bool,
    /// Nothing was read yet: the place may be no record's.
    fresh: bool,
    /// What was read last: the segment that held it, and what its frame says of it.
    last: Option<Seen>,
    took: Duration,
    pause: Duration,
}

/// A record that was yielded.
#[derive(Debug, Clone, Copy)]
struct Seen {
    lsn: u64,
    checksum: u32,
    /// The segment that held it.
    seq: u64,
}

impl Watch {
    pub(super) fn new(store: &Arc<FileStore>, look: &Look) -> Self {
        Self {
            store: Arc::clone(store),
            look: look.clone(),
            unused: true,
            fresh: true,
            last: None,
            took: Duration::ZERO,
            pause: PAUSES.0,
        }
    }

    fn live(&self) -> Vec<Arc<LiveSegment<<FileStore as WalStore>::File>>> {
        self.look.live.iter().map(|header| LiveSegment::new(*header)).collect()
    }

    /// The segment of the live chain that holds an LSN.
    fn seq_of(&self, lsn: u64) -> u64 {
        let holds = |segment: &&SegmentHeader| segment.base <= lsn;
        self.look.live.iter().rev().find(holds).map_or(0, |segment| segment.seq)
    }

    fn beside(&self) -> Option<(Arc<dyn Beside>, u64)> {
        Some((Arc::clone(&self.store) as _, 0))
    }

    /// Whether what was yielded last is still there. A log that was opened anew carries records
    /// over into another segment; one that was cut has other ones there.
    fn stands(&mut self, at: u64) -> Result<bool> {
        let Some(last) = self.last.filter(|last| last.lsn >= self.look.head) else {
            return Ok(true);
        };
        let seq = self.seq_of(last.lsn);
        if seq == last.seq {
            return Ok(true);
        }
        let (store, live) = (Arc::clone(&self.store), self.live());
        let head = self.look.head;
        let cursor = WalIter::over(store, live, head, last.lsn, at, self.beside());
        let mut cursor = match cursor {
            Err(WalError::NotARecord { .. } | WalError::Corruption { .. }) => return Ok(false),
            cursor => cursor?,
        };
        let same = match cursor.read_next() {
            Some(Ok(record)) => checksum::of(record.data()) == last.checksum,
            _ => false,
        };
        self.last = Some(Seen { seq, ..last });
        Ok(same && cursor.next().is_none() && cursor.reached() == at)
    }

    fn gone(&self, at: u64) -> WalError {
        WalError::Truncated { lsn: Lsn::new(at), head: Lsn::new(self.look.head) }
    }
}

impl Source<FileStore> for Watch {
    fn ahead(&mut self, at: u64, cursor: &mut Option<WalIter<FileStore>>) -> Result<bool> {
        if !std::mem::take(&mut self.unused) {
            let begun = now();
            self.look = survey_read_only(&*self.store)?;
            self.took = begun.elapsed();
        }
        let (head, end) = (self.look.head, self.look.end);
        if at < head || at > end || !self.stands(at)? {
            return Err(self.gone(at));
        }
        if at == end {
            return Ok(false);
        }
        self.pause = PAUSES.0;
        let (store, live, beside) = (Arc::clone(&self.store), self.live(), self.beside());
        *cursor = Some(match std::mem::take(&mut self.fresh) {
            true => WalIter::over(store, live, head, at, end, beside)?,
            false => WalIter::at_boundary(store, live, at, end, beside),
        });
        Ok(true)
    }

    fn yielded(&mut self, record: &Record) {
        let lsn = record.lsn().get();
        self.last = Some(Seen { lsn, checksum: checksum::of(record), seq: self.seq_of(lsn) });
    }

    fn head(&self) -> u64 {
        self.look.head
    }

    fn listen(&mut self, _at: u64, _bell: &Arc<Bell>) -> Option<Duration> {
        let pause = self.pause.max(self.took * SHARE);
        self.pause = (self.pause * 2).min(PAUSES.1);
        Some(pause)
    }

    fn heard(&mut self) {}
}
