//! Opening again, and crashes on the way and at the end.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cohort_wal::sim::SimStore;

use super::{Run, wrong};
use crate::calls::Fault;
use crate::history::{History, Promise};
use crate::oracle::{
    Crash, Oracle, Violation, no_orphans, read, recover, recover_sim, unchanged_by_failed_open,
};
use crate::record::payload;
use crate::workload::options;

impl Run<'_> {
    /// After poison: crashes of what there is, and another opening.
    pub(super) fn begin_again(&mut self) -> Result<(), Violation> {
        let crash = self.crash();
        self.aside(|run| run.crashes(2, crash))?;
        if self.at.evict {
            self.disk.evict();
        }
        let crash = if self.at.evict { Crash::Power } else { crash };
        match self.dice.below(3) {
            0 => self.fall(false),
            1 => {
                self.fall(true);
                return self.open(Crash::Power);
            }
            _ => self.aside(|run| run.wal = None),
        }
        self.open(crash)
    }

    /// Opens the log; what fails once succeeds the second time.
    pub(super) fn open(&mut self, crash: Crash) -> Result<(), Violation> {
        let mut attempts = 0;
        let wal = loop {
            attempts += 1;
            let before = (!self.over).then(|| self.disk.snapshot());
            let recording = self.near();
            if recording {
                self.disk.record();
            }
            let open = || options().open_store(self.disk.clone());
            let result = catch_unwind(AssertUnwindSafe(open));
            let struck = self.struck_now();
            if recording {
                let (moments, history) = (self.disk.moments(), self.history.clone());
                self.moments(&moments, &history, crash)?;
            }
            let fault = self.at.fault;
            let full = matches!(fault, Fault::Full(_)) && self.struck && !self.over;
            let effect = fault.effect(&struck);
            let bad = |what: String| {
                let what = format!("opening with {fault} in {struck:?}: {what}");
                Err(wrong(Oracle::I9, what))
            };
            match result {
                Ok(Ok(wal)) if effect.is_none() => break wal,
                Ok(Ok(_)) => return bad("succeeds".to_owned()),
                Ok(Err(_)) if effect.is_none() && !full => return bad(format!("{result:?}")),
                Ok(Err(error)) if !fault.is_reported_as(&error) => {
                    return bad(format!("{error:?}"));
                }
                Err(_) if fault != Fault::Panic => return bad("panics".to_owned()),
                _ => {}
            }
            self.tally.opens += 1;
            if let Some(before) = &before {
                unchanged_by_failed_open(before, &self.disk.snapshot())?;
            }
            if attempts > 1 && !self.at.sticky {
                return bad("fails twice, of a fault that struck once".to_owned());
            }
            if self.at.sticky {
                self.heal();
            }
            if self.at.evict {
                self.disk.evict();
            }
        };
        self.wal = Some(wal);
        self.sync_failed = false;
        self.aside(|run| {
            let mut found = read(run.wal())?;
            run.history.check(&found, crash)?;
            run.history.settle(&found);
            if run.at.evict && run.struck {
                run.disk.evict();
                found.records.clear();
                found = read(run.wal())?;
                run.history.check(&found, Crash::Power)?;
            }
            Ok(())
        })
    }

    /// Crashes a few of the moments that an operation went through.
    pub(super) fn moments(
        &mut self,
        moments: &[SimStore],
        history: &History,
        crash: Crash,
    ) -> Result<(), Violation> {
        if !self.struck || moments.is_empty() {
            return Ok(());
        }
        for _ in 0..2 {
            let moment = &moments[self.dice.below(moments.len())];
            match self.dice.below(3) {
                0 => self.recovered(moment.kill(), crash, history)?,
                _ => self.recovered(moment.power_loss(), Crash::Power, history)?,
            }
        }
        Ok(())
    }

    /// Crashes the disk as it is: so many power losses, and a death of the process.
    pub(super) fn crashes(&mut self, losses: u64, crash: Crash) -> Result<(), Violation> {
        let history = self.history.clone();
        let states = self.disk.power_losses(losses);
        for number in 0..losses {
            // The first states are patterns; then come random ones.
            let number = if number < 2 { number } else { self.dice.number() };
            self.recovered(states.state(number), Crash::Power, &history)?;
        }
        self.recovered(self.disk.kill(), crash, &history)
    }

    /// Recovers a disk, goes on with it, and recovers it again.
    pub(super) fn recovered(
        &mut self,
        disk: SimStore,
        crash: Crash,
        history: &History,
    ) -> Result<(), Violation> {
        self.tally.states += 1;
        disk.set_capacity(None);
        if self.at.evict && crash == Crash::Power {
            disk.evict();
        }
        let mut history = history.clone();
        let wal = recover_sim(&disk, &options(), &mut history, crash)?;
        if self.at.evict {
            disk.evict();
        }
        let unit = history.attempt(0, 1);
        let lsn = wal.append_and_sync(&payload(history.units()[unit].first, 24));
        let lsn = lsn.map_err(|e| wrong(Oracle::I6, format!("after recovery: {e}")))?;
        history.appended(unit, vec![lsn.get()]);
        history.promise(unit, Promise::Durable);
        history.saw_durable(wal.durable_lsn().get());
        let again = if self.dice.one_in(2) { disk.kill() } else { disk.power_loss() };
        drop(wal);
        let second = recover_sim(&again, &options(), &mut history, Crash::Power)?;
        no_orphans(&again, &second)
    }

    /// With the fault gone, what the log owes is there, and it goes on.
    pub(super) fn end(&mut self) -> Result<(), Violation> {
        self.heal();
        if let Some(wal) = &self.wal {
            wal.sync().map_err(|e| wrong(Oracle::I6, format!("syncing at the end: {e}")))?;
            self.history.promise_all(Promise::Durable);
            self.history.saw_durable(wal.durable_lsn().get());
        }
        if self.struck {
            self.crashes(3, Crash::Power)?;
        }
        self.wal = None;
        if self.at.evict {
            self.disk.evict();
        }
        let wal = recover(self.disk.clone(), &options(), &mut self.history, Crash::Power)?;
        no_orphans(&self.disk, &wal)
    }
}
