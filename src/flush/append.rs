//! Appending through the ring.

use std::cell::Cell;

use super::{Backing, Engine, Intent, stage::Wrote};
use crate::codec::{self, Unit};
use crate::crypt::Cipher;
use crate::error::{Result, WalError};
use crate::format::frame::Seed;
use crate::lsn::Place;
use crate::ring::{PAUSED, Refusal, Reservation};
use crate::sync::{HELPERS, Poll};

impl<B: Backing> Engine<B> {
    /// Appends a unit, and returns where it starts. Buffered: order only.
    ///
    /// While the ring has room this takes no lock, allocates nothing and makes no system call.
    pub(crate) fn append(&self, unit: &mut Unit, hint: &Cell<usize>) -> Result<Place> {
        if codec::in_stage(self.identity()) {
            return Err(WalError::Reentrant);
        }
        self.intervals.check()?;
        if unit.len() > self.ring.max_unit() {
            return self.append_large(unit).inspect(|_| self.keep_intervals());
        }
        let poll = Poll::default();
        let mut waited = false;
        loop {
            match self.ring.reserve(unit.len(), hint) {
                Ok(mut reservation) => {
                    let place = self.fill(&mut reservation, unit);
                    drop(reservation);
                    self.keep_intervals();
                    return Ok(place);
                }
                Err(Refusal::Busy) => {
                    self.backing.check()?;
                    poll.wait();
                }
                Err(Refusal::Full) => {
                    if !waited {
                        self.stats.ring_waits.add(1);
                        waited = true;
                    }
                    self.make_room(&poll)?;
                }
                Err(Refusal::Flagged(flags)) => {
                    self.refuse(flags)?;
                    if flags & PAUSED != 0 {
                        self.backing.check()?;
                        self.wait_for_pause();
                    }
                }
                Err(Refusal::Exhausted) => return Err(WalError::LsnExhausted),
            }
        }
    }

    /// Seals the unit at its place and copies it. Nothing in here allocates, waits or runs user
    /// code; should it unwind all the same, the guard leaves a pad.
    #[inline]
    fn fill(&self, reservation: &mut Reservation<'_>, unit: &mut Unit) -> Place {
        // The epoch and the watermark are read inside the slot, so that no cut of the log lies
        // between reading them and using them.
        let seed = self.sealing.seed();
        let cipher = unit.is_sealed().then(|| self.sealing.cipher());
        let cipher = cipher.as_ref().and_then(|cipher| cipher.as_deref());
        let mut guard = PadOnUnwind { reservation, seed, cipher, filled: false };
        let start = guard.reservation.start();
        unit.seal(seed, cipher, start, self.durable());
        guard.reservation.fill(0, unit.bytes());
        guard.reservation.count(unit.records(), start + unit.last());
        guard.filled = true;
        // Odd where the cut before it is not quite over.
        let era = self.tracker.era().next_multiple_of(2);
        Place { lsn: start, era }
    }

    /// Reserves a place for the unit and unwinds before it is filled.
    #[cfg(any(test, all(loom, feature = "loom")))]
    pub(super) fn abandon(&self, unit: &Unit, hint: &Cell<usize>) {
        let reservation = self.ring.reserve(unit.len(), hint);
        if let Ok(mut reservation) = reservation {
            let (seed, cipher) = (self.sealing.seed(), None);
            drop(PadOnUnwind { reservation: &mut reservation, seed, cipher, filled: false });
        }
    }

    /// Helps the write stage until the ring may have room.
    #[cold]
    fn make_room(&self, poll: &Poll) -> Result<()> {
        self.backing.check()?;
        if HELPERS {
            self.want_background();
        }
        let mut stage = self.stage.lock();
        if self.ring.admit() != Err(Refusal::Full) {
            return Ok(());
        }
        let before = self.ring.written();
        let wrote = self.write_out(&mut stage, Intent::Flush)?;
        let written = self.written();
        drop(stage);
        match wrote {
            Wrote::AtBound => self.wait_for_sync(written),
            Wrote::All if written.lsn == before => {
                // Somebody's open reservation is in the way; it waits for nothing.
                poll.wait();
                Ok(())
            }
            Wrote::All => Ok(()),
        }
    }

    /// Waits until a pause that was seen has ended.
    #[cold]
    pub(super) fn wait_for_pause(&self) {
        drop(self.pause.lock());
    }
}

/// An open reservation that becomes a pad frame if its appender unwinds.
struct PadOnUnwind<'a, 'r> {
    reservation: &'a mut Reservation<'r>,
    seed: Seed,
    cipher: Option<&'a Cipher>,
    filled: bool,
}

impl Drop for PadOnUnwind<'_, '_> {
    #[inline]
    fn drop(&mut self) {
        if !self.filled {
            self.pad();
        }
    }
}

impl PadOnUnwind<'_, '_> {
    #[cold]
    fn pad(&mut self) {
        let (start, len) = (self.reservation.start(), self.reservation.len());
        let reservation = &mut *self.reservation;
        let epoch = (self.seed, self.cipher);
        let Ok(()) = codec::write_pad(epoch, start, len, None, |offset, piece| {
            reservation.fill(offset, piece);
            Ok::<(), std::convert::Infallible>(())
        });
    }
}
