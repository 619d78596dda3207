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
        let closed = self.admin.lock();
        if *closed {
            return Err(WalError::Closed);
        }
        let head = self.backing.head();
        if lsn > head {
            self.give_up(lsn, is_record)?;
            // A reader is content with what is durable; whoever changes the log is not.
            self.enter()?;
        } else if !self.backing.has_dead(head) {
            return Ok(head);
        }
        let (head, durable) = (lsn.max(head), self.durable());
        self.in_stage("truncate", || self.backing.move_head(head, durable))??;
        Ok(head)
    }

    /// Makes ready for a head at `lsn`.
    fn give_up(&self, lsn: u64, is_record: impl FnOnce(Place) -> Result<()>) -> Result<()> {
        // Who holds `admin` keeps cuts away.
        let place = self.place().at(lsn);
        let end = self.end();
        if lsn > end {
            return Err(WalError::NotARecord { lsn: Lsn::new(lsn) });
        }
        if lsn < end {
            is_record(place)?;
        }
        self.commit(place)?;
        if lsn == end {
            // What comes behind the end goes to another segment, so that this one can go.
            self.rotate()?;
        }
        Ok(())
    }
}
