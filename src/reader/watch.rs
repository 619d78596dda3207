//! A directory that somebody else writes to, as a follower sees it.

use std::time::Duration;

use super::bell::Bell;
use super::beside::Beside;
use super::follow::{Reached, Source};
use super::iter::WalIter;
use crate::crypt::Keys;
use crate::error::{Result, WalError};
use crate::format::segment::SegmentHeader;
use crate::lsn::Lsn;
use crate::recovery::{Look, survey_read_only};
use crate::segments::{LiveSegment, admit};
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
    keys: Keys,
    /// Nobody has looked since the look.
    unused: bool,
    took: Duration,
    pause: Duration,
}

impl Watch {
    pub(super) fn new(store: &Arc<FileStore>, look: &Look, keys: &Keys) -> Self {
        Self {
            store: Arc::clone(store),
            look: look.clone(),
            keys: keys.clone(),
            unused: true,
            took: Duration::ZERO,
            pause: PAUSES.0,
        }
    }

    fn live(&self) -> Vec<Arc<LiveSegment<<FileStore as WalStore>::File>>> {
        self.look.live.iter().map(|header| LiveSegment::new(*header)).collect()
    }

    fn beside(&self) -> Option<(Arc<dyn Beside>, u64)> {
        Some((Arc::clone(&self.store) as _, 0))
    }

    /// Whether what lies below `at` is what it was in an earlier look, all of which was durable. A
    /// log that is opened anew carries nothing below that into another segment, so that only a cut,
    /// a repair, or another log has another one there.
    fn stands(&self, before: &Look, at: u64) -> bool {
        let holder = |look: &Look| {
            let holds = |segment: &&SegmentHeader| segment.base < at;
            look.live.iter().rev().find(holds).map(|segment| (segment.seq, segment.salt))
        };
        let now = holder(&self.look);
        now.is_none() || holder(before) == now
    }

    fn gone(&self, at: u64) -> WalError {
        WalError::Truncated { lsn: Lsn::new(at), head: Lsn::new(self.look.head) }
    }
}

impl Source<FileStore> for Watch {
    fn ahead(&mut self, at: &mut Reached, cursor: &mut Option<WalIter<FileStore>>) -> Result<bool> {
        if !std::mem::take(&mut self.unused) {
            let begun = now();
            let look = survey_read_only(&*self.store)?;
            admit(&self.keys, &look.live)?;
            self.took = begun.elapsed();
            let before = std::mem::replace(&mut self.look, look);
            if !self.stands(&before, at.yielded) {
                return Err(self.gone(at.yielded));
            }
            if !self.stands(&before, at.read) {
                (at.read, *cursor) = (at.yielded, None);
            }
        }
        let (head, end) = (self.look.head, self.look.end);
        if at.read < head || at.yielded > end {
            return Err(self.gone(at.yielded));
        }
        if at.read >= end {
            return Ok(false);
        }
        self.pause = PAUSES.0;
        let (store, around) = (Arc::clone(&self.store), (self.beside(), self.keys.clone()));
        let new = WalIter::at_boundary(store, self.live(), at.read, end, around);
        *cursor = Some(if at.sure || at.read == head { new } else { new.require_frame()? });
        at.sure = true;
        Ok(true)
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
