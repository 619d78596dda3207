//! Truncation: the log forgets what is below a record.

use super::{Backing, Engine};
use crate::error::{Result, WalError};
use crate::lsn::{Lsn, Place};

impl<B: Backing> Engine<B> {
    /// Moves the head to `lsn`, the end or where `is_record` finds one; returns the head. Appends,
    /// commits and readers go on meanwhile.
    pub(crate) fn truncate_before(
        &self,
        lsn: u64,
        is_record: impl FnOnce(Place) -> Result<()>,
    ) -> Result<u64> {
        self.enter()?;
        self.backing.check()?;
        // Others that move the head or close wait here; nobody else does.
        let _admin = self.open_admin()?;
        let head = self.backing.head();
        if lsn > head {
            self.give_up(lsn, is_record)?;
            // A reader is content with what is durable; whoever changes the log is not.
            self.enter()?;
        } else if !self.backing.has_dead(head) {
            return self.finish("truncate").map(|()| head);
        }
        let (head, durable) = (lsn.max(head), self.durable());
        self.in_stage("truncate", || self.backing.move_head(head, durable, None))??;
        Ok(head)
    }

    /// Makes everything below `lsn` durable, the end or where `is_record` finds one; `None` where a
    /// snapshot counts already.
    pub(crate) fn begin_checkpoint(
        &self,
        lsn: u64,
        is_record: impl FnOnce(Place) -> Result<()>,
    ) -> Result<Option<Place>> {
        self.enter()?;
        self.backing.check()?;
        let (end, head) = (self.place(), self.backing.head());
        if self.backing.snapshot_lsn() == Some(lsn) {
            let _admin = self.open_admin()?;
            return self.finish("checkpoint").map(|()| None);
        }
        if lsn < head {
            return Err(WalError::Truncated { lsn: Lsn::new(lsn), head: Lsn::new(head) });
        }
        if lsn > end.lsn {
            return Err(WalError::NotARecord { lsn: Lsn::new(lsn) });
        }
        let place = end.at(lsn);
        if lsn < end.lsn && lsn != head {
            is_record(place)?;
        }
        self.commit(place)?;
        Ok(Some(place))
    }

    /// Ends what an earlier change of the head, or a cut, has left undone.
    pub(super) fn finish(&self, operation: &'static str) -> Result<()> {
        self.in_stage(operation, || {
            self.backing.complete()?;
            Ok(self.backing.remove_dead())
        })?
    }

    /// Makes `image` the snapshot of all below `place`, and moves the head there. Nothing happens
    /// where a snapshot counts already.
    pub(crate) fn adopt(&self, place: Place, image: &B::Image) -> Result<()> {
        self.enter()?;
        self.backing.check()?;
        let _admin = self.open_admin()?;
        // What was durable and had its place when the image was begun may be truncated by now.
        self.tracker.check_place(place, self)?;
        let (lsn, head) = (place.lsn, self.backing.head());
        if self.backing.snapshot_lsn() == Some(lsn) {
            return self.finish("checkpoint");
        }
        if lsn < head {
            return Err(WalError::Truncated { lsn: Lsn::new(lsn), head: Lsn::new(head) });
        }
        if lsn == self.end() {
            self.rotate()?;
        }
        self.enter()?;
        self.in_stage("checkpoint", || {
            // A slot that could not be written may name what is in the way.
            self.backing.complete()?;
            Ok(self.backing.make_way(lsn))
        })??;
        let durable = self.durable();
        self.in_stage("checkpoint", || self.backing.move_head(lsn, durable, Some(image)))?
    }

    /// Makes ready for a head at `lsn`.
    fn give_up(&self, lsn: u64, is_record: impl FnOnce(Place) -> Result<()>) -> Result<()> {
        // Who holds `admin` keeps cuts away.
        let end = self.place();
        if lsn > end.lsn {
            return Err(WalError::NotARecord { lsn: Lsn::new(lsn) });
        }
        if lsn < end.lsn {
            is_record(end.at(lsn))?;
        }
        self.commit(end.at(lsn))?;
        if lsn == end.lsn {
            // What comes behind the end goes to another segment, so that this one can go.
            self.rotate()?;
        }
        Ok(())
    }
}
