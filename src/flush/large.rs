//! Units above the ring's limit: one owner pauses the log for a moment and writes around the ring.

use super::stage::Wrote;
use super::{Backing, Debt, Engine, Intent, Stage};
use crate::codec::Unit;
use crate::error::{Result, WalError};
use crate::lsn::{LSN_LIMIT, Place};
use crate::observe;
use crate::sync::{MutexGuard, Poll};

impl<B: Backing> Engine<B> {
    /// Appends a unit that the ring cannot take. Blocks other appenders while it writes.
    pub(super) fn append_large(&self, unit: &mut Unit) -> Result<Place> {
        self.enter()?;
        self.backing.check()?;
        let mut pause = self.pause()?;
        let frozen = pause.at;
        // No cut comes during a pause of somebody else's.
        let place = Place { lsn: frozen, era: self.tracker.era() };
        if frozen >= LSN_LIMIT - unit.len() {
            return Err(WalError::LsnExhausted);
        }
        let mut stage = self.write_all_below(frozen, unit.len())?;
        let result = self.write_large(&mut stage, unit, frozen, &mut pause);
        pause.end(&mut stage);
        result.map(|()| place)
    }

    /// Raises PAUSED; fails on a log that is closed or poisoned.
    pub(super) fn pause(&self) -> Result<Pause<'_, B>> {
        let owner = self.pause.lock();
        match self.ring.pause() {
            Ok(frozen) => Ok(Pause { engine: self, _owner: owner, at: frozen, over: false }),
            // PAUSED has no other owner while the lock is held.
            Err(flags) => self.refuse(flags).and(Err(WalError::Closed)),
        }
    }

    /// Writes everything below `frozen`, which waits for the reservations there, and secures a
    /// segment with room for the unit; returns the stage, held, with the bound on unsynced bytes
    /// respected.
    fn write_all_below(&self, frozen: u64, len: u64) -> Result<MutexGuard<'_, Stage<B::Stage>>> {
        let poll = Poll::default();
        loop {
            let mut stage = self.stage.lock();
            let wrote = self.write_out(&mut stage, Intent::Flush)?;
            let (written, durable) = (self.ring.written(), self.durable());
            let bound = durable.saturating_add(self.max_unsynced);
            if wrote == Wrote::All && written == frozen && (written < bound || written == durable) {
                let fits = written + len <= self.backing.limit(&stage.backing);
                if fits || self.begin_segment(&mut stage)? {
                    return Ok(stage);
                }
            }
            drop(stage);
            if wrote == Wrote::All && written < frozen {
                // A thread that met the pause has not given its slot back yet.
                poll.wait();
                continue;
            }
            // The stage never waits for a sync; its owner does, holding only the pause.
            let era = self.tracker.era();
            self.wait_for_sync(Place { lsn: written, era })?;
        }
    }

    /// Seals and writes the unit at `frozen`, and moves `written` past it. Decides where the log
    /// goes on after a failure.
    fn write_large(
        &self,
        stage: &mut MutexGuard<'_, Stage<B::Stage>>,
        unit: &mut Unit,
        frozen: u64,
        pause: &mut Pause<'_, B>,
    ) -> Result<()> {
        self.refuse_stage(stage)?;
        let end = frozen + unit.len();
        {
            let cipher = self.sealing.cipher();
            unit.seal(self.sealing.seed(), cipher.as_deref(), frozen, self.durable());
        }
        // From here on the place is used up, whatever becomes of the write: part of the unit may
        // be on disk, valid at this LSN. Until all of it is, a pad is owed.
        pause.go_on_at(end);
        stage.debt = Some(Debt { start: frozen, end });
        let written = self.in_stage("write", || {
            observe::flush(frozen, end, || {
                self.backing.write(&mut stage.backing, frozen, &[unit.bytes()], Intent::Flush)
            })
        });
        match written {
            Ok(()) => {
                stage.debt = None;
                self.ring.set_written(end);
                self.stats.flushes.add(1);
                self.stats.appends.add(unit.records());
                self.stats.bytes.add(unit.len());
                self.stats.last_large.set(frozen + unit.last() + 1);
                Ok(())
            }
            failed => failed,
        }
    }
}

/// Ownership of PAUSED, and of its lock. However it ends, the log is reopened under the write
/// stage, at the place that the unit has used up or not.
pub(super) struct Pause<'a, B: Backing> {
    engine: &'a Engine<B>,
    _owner: MutexGuard<'a, ()>,
    /// Where the log was frozen, until something else is said.
    at: u64,
    over: bool,
}

impl<B: Backing> Pause<'_, B> {
    /// Where the log goes on.
    pub(super) fn at(&self) -> u64 {
        self.at
    }

    /// Says where the log goes on, if not where it was frozen.
    pub(super) fn go_on_at(&mut self, at: u64) {
        self.at = at;
    }

    /// Reopens the log; the caller holds the write stage. `written`, if it moved, has moved
    /// already: a reservation that sees the larger tail sees it too.
    pub(super) fn end(&mut self, _stage: &mut MutexGuard<'_, Stage<B::Stage>>) {
        self.over = true;
        self.engine.ring.reopen(self.at);
    }
}

impl<B: Backing> Drop for Pause<'_, B> {
    fn drop(&mut self) {
        if !self.over {
            let engine = self.engine;
            self.end(&mut engine.stage.lock());
        }
    }
}
