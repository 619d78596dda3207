//! Following a log that is open.

use std::time::Duration;

use super::Wal;
use crate::commit::{Demand, Ticket};
use crate::error::{Result, WalError};
use crate::flush::{Engine, Notices, Storage};
use crate::lsn::{ALIGNMENT, Lsn, Place};
use crate::reader::{Bell, Beside, Follow, Reached, Source, WalIter};
use crate::store::WalStore;
use crate::sync::Arc;

/// An open log as a follower sees it.
struct Live<S: WalStore> {
    engine: Arc<Engine<Storage<S>>>,
    /// In which era the follower has come to where it is.
    era: u64,
    /// What rings the bell.
    notice: Option<Ticket>,
}

impl<S: WalStore> Source<S> for Live<S> {
    fn ahead(&mut self, at: &mut Reached, cursor: &mut Option<WalIter<S>>) -> Result<bool> {
        self.engine.check_process()?;
        let storage = self.engine.backing();
        let seen = || {
            // The end first, so that the segments reach so far; the head last, as for any cursor.
            let durable = self.engine.durable();
            (durable, storage.holder(at.read), storage.control().claim().head)
        };
        let ((durable, (holder, next), head), era) = self.engine.in_one_era(seen);
        if era != self.era {
            match self.engine.lowest_cut_since(self.era) {
                Some(cut) if cut < at.yielded => return Err(self.engine.cut_off(cut)),
                Some(cut) => at.read = at.read.min(cut),
                None => {}
            }
            (self.era, *cursor) = (era, None);
            return self.ahead(at, cursor);
        }
        if at.read < head {
            let (lsn, head) = (Lsn::new(at.read), Lsn::new(head));
            return Err(WalError::Truncated { lsn, head });
        }
        if at.read >= durable {
            return Ok(false);
        }
        // One segment at a time, so that it holds no other one that is removed meanwhile.
        let end = next.map_or(durable, |next| next.min(durable));
        let base = holder.as_ref().map(|segment| segment.header.base);
        if let Some(cursor) = cursor.as_mut().filter(|cursor| cursor.base() == base) {
            cursor.go_on(end)?;
            return Ok(true);
        }
        let (store, live) = (Arc::clone(storage.store()), holder.into_iter().collect());
        let beside: Arc<dyn Beside> = Arc::clone(&self.engine) as _;
        let around = (Some((beside, era)), storage.keys().clone());
        let new = WalIter::at_boundary(store, live, at.read, end, around);
        *cursor = Some(if at.sure || at.read == head { new } else { new.require_frame()? });
        at.sure = true;
        Ok(true)
    }

    fn head(&self) -> u64 {
        self.engine.backing().control().head()
    }

    fn listen(&mut self, at: u64, bell: &Arc<Bell>) -> Option<Duration> {
        if self.notice.is_none() {
            let bell = Arc::clone(bell);
            let place = Place { lsn: at + 1, era: self.era };
            let ring = Box::new(move |verdict| bell.ring(verdict));
            self.notice = self.engine.notify(Ok(place), Demand::Nothing, ring);
        }
        None
    }

    fn heard(&mut self) {
        self.notice = None;
    }
}

impl<S: WalStore> Drop for Live<S> {
    fn drop(&mut self) {
        if let Some(notice) = self.notice {
            self.engine.cancel(notice);
        }
    }
}

impl<S: WalStore> Wal<S> {
    /// Follows the log from the record at `from` on, which may be the end: yields what is durable,
    /// and waits for what will be.
    ///
    /// It asks for no sync: what is never made durable is never yielded. Any number may follow a
    /// log; none holds up a writer, a commit or a truncation. One that a truncation overtakes ends
    /// with [`WalError::Truncated`]; so does one that has yielded a record that was cut off, while
    /// one that had not come so far goes on with what comes instead. The first one that waits
    /// starts the thread that futures and callbacks are told by.
    ///
    /// # Errors
    /// [`WalError::Truncated`] below the head; [`WalError::NotARecord`] beyond the end, and where
    /// no record starts, which the follower may tell only when it comes there; otherwise as
    /// [`iter_from`](Self::iter_from).
    ///
    /// # Examples
    /// ```
    /// # use std::sync::Arc;
    /// # use cohort_wal::{MemStore, WalError, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = Arc::new(WalOptions::new().open_store(MemStore::new())?);
    /// let follower = wal.follow(wal.head_lsn())?;
    /// let shipped = std::thread::spawn(move || follower.map_while(Result::ok).count());
    /// wal.append_and_sync(b"one")?;
    /// wal.append_and_sync(b"two")?;
    /// wal.close()?;
    /// assert_eq!(shipped.join().unwrap(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn follow(&self, from: Lsn) -> Result<Follow<S>> {
        self.engine.enter_for_reading()?;
        self.engine.check_process()?;
        let end = self.engine.place();
        if !from.get().is_multiple_of(ALIGNMENT) || from.get() > end.lsn {
            return Err(WalError::NotARecord { lsn: from });
        }
        let engine = Arc::clone(&self.engine);
        let live = Live { engine, era: end.era, notice: None };
        Follow::new(Box::new(live), from.get(), from.get() == end.lsn)
    }
}
