//! Cuts: what lies behind a unit never was, and the log goes on there in a new epoch.
//!
//! Order: everything below the cut durable; PAUSED, so that appenders wait; all reservations
//! complete, while no stage is held; leadership, then the write stage; the new epoch's first
//! segment published, which is where the cut happens on disk; then in memory, in one go: `durable`,
//! `written`, the seed, the tail.

use super::{Backing, Engine};
use crate::commit::{Cohort, Waiting};
use crate::crypt::ActiveKey;
use crate::error::{Result, WalError};
use crate::lsn::{Lsn, Place};
use crate::sync::Poll;

/// Where a log is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The end of what is kept.
    pub(crate) at: u64,
    /// The last record that is kept.
    pub(crate) last_record: Option<u64>,
}

impl<B: Backing> Engine<B> {
    /// Cuts off everything behind the place that `find` finds, which is a boundary of units at or
    /// above the head. `find` is told where the log ends; nothing but appends happens meanwhile.
    pub(crate) fn cut(&self, find: impl FnOnce(Place) -> Result<Cut>) -> Result<()> {
        self.enter()?;
        self.backing.check()?;
        // Others that cut, move the head or close wait here.
        let _admin = self.open_admin()?;
        let end = self.place();
        let cut = find(end)?;
        self.backing.allows_cut(cut.at)?;
        self.commit(end.at(cut.at))?;
        self.enter()?;
        self.pause_and_cut(Some(cut), None)?;
        self.finish("truncate")
    }

    /// Begins a new epoch at the end, where nothing is cut off, with another key.
    pub(crate) fn begin_epoch(&self, key: B::Key) -> Result<()> {
        self.enter()?;
        self.backing.check()?;
        let _admin = self.open_admin()?;
        // Most of it before appenders have to wait.
        self.commit(self.place())?;
        self.enter()?;
        self.pause_and_cut(None, Some(key))?;
        self.finish("rotate_key")
    }

    /// Ends the log at `cut`, or where it ends already.
    fn pause_and_cut(&self, cut: Option<Cut>, key: Option<B::Key>) -> Result<()> {
        let mut pause = self.pause()?;
        let frozen = pause.at();
        self.drain(frozen)?;
        let cut = match cut {
            Some(cut) if cut.at == frozen => return Ok(()),
            Some(cut) => cut,
            None => {
                let era = self.tracker.era();
                self.wait(Place { lsn: frozen, era }, Waiting::Internal)?;
                Cut { at: frozen, last_record: self.last_record(self.backing.head()) }
            }
        };
        let turn = self.tracker.turn(self)?;
        let mut stage = self.stage.lock();
        self.refuse_stage(&stage)?;
        let (epoch, closed) =
            self.in_stage("truncate", || self.backing.cut(&mut stage.backing, cut.at, key))?;
        // What a large unit has left unwritten lies behind the cut.
        stage.debt = None;
        pause.go_on_at(cut.at);
        turn.cut(cut.at, || {
            self.sealing.begin(epoch);
            // Whoever reads the new chain finds the new era.
            self.backing.show_cut(&stage.backing);
            self.ring.cut(cut.at);
            self.stats.last_large.set(0);
            self.stats.last_kept.set(cut.last_record.map_or(0, |lsn| lsn + 1));
            pause.end(&mut stage);
        });
        drop(stage);
        drop(turn);
        // Closing a file is the store's code.
        self.in_stage("truncate", || {
            drop(closed);
            Ok(())
        })
    }

    /// The key that is appended with, if there is one.
    pub(crate) fn key(&self) -> Option<ActiveKey> {
        self.sealing.key()
    }

    /// Waits until every reservation below `frozen` is complete.
    fn drain(&self, frozen: u64) -> Result<()> {
        let poll = Poll::default();
        loop {
            {
                let stage = self.stage.lock();
                self.refuse_stage(&stage)?;
                if self.ring.published() == frozen {
                    return Ok(());
                }
            }
            poll.wait();
        }
    }

    /// The record that starts last in a log whose head is at `head`.
    pub(crate) fn last_record(&self, head: u64) -> Option<u64> {
        let last = || {
            let ring = self.ring.appended().last_record;
            ring.max(self.stats.last_large.get()).max(self.stats.last_kept.get())
        };
        self.in_one_era(last).0.checked_sub(1).filter(|lsn| *lsn >= head)
    }

    /// The error of a reader that comes to a place beyond a cut.
    pub(crate) fn cut_off(&self, cut: u64) -> WalError {
        WalError::Truncated { lsn: Lsn::new(cut), head: Lsn::new(self.head()) }
    }
}
