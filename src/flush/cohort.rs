//! The sync stage: what a leader does for its cohort, and poison.

use super::stage::Wrote;
use super::{Backing, Engine, Intent};
use crate::codec;
use crate::commit::{Cohort, Outcome};
use crate::error::WalError;
use crate::observe;
use crate::ring::POISONED;
use crate::sync::Poll;

impl<B: Backing> Cohort for Engine<B> {
    fn run(&self, target: u64) -> Outcome {
        // Files are closed in here, which is the store's code.
        let _mark = codec::StageMark::new(self.identity());
        let poll = Poll::default();
        loop {
            let mut stage = self.stage.lock();
            let wrote = self.write_out(&mut stage, Intent::Sync);
            let (durable, written) = (self.durable(), self.ring.written());
            if wrote.as_ref().is_ok_and(|wrote| *wrote == Wrote::All) && written < target {
                // An appender below the target still copies. Hold nothing while it does.
                drop(stage);
                poll.wait();
                continue;
            }
            // `written` and the unsynced files are read together, or a rotation in between would
            // let `durable` pass bytes that this sync does not cover.
            let snapshot = self.backing.snapshot(&mut stage.backing, durable);
            drop(stage);
            let failure = wrote.err();
            if failure.as_ref().is_none_or(WalError::loses_nothing) && written > durable {
                let observed = observe::Cohort::new(durable, written);
                return self.sync_snapshot(snapshot, written, failure, observed);
            }
            let observed = observe::Cohort::default();
            return Outcome { durable, failure, written: durable, observed };
        }
    }

    fn poison(&self, cause: WalError) {
        // The cause first: whoever meets the flag finds it. The waiters last: whoever was told
        // meets the flag.
        let mut first = false;
        self.tracker.poison(cause, || {
            self.ring.raise(POISONED);
            first = true;
        });
        if first {
            // Not everybody who comes here is in a stage.
            let mark = || codec::StageMark::new(self.identity());
            observe::poisoned(mark, || self.tracker.check());
        }
    }

    fn ended(&self, observed: observe::Cohort, commits: usize) {
        observed.ended(commits as u64, || codec::StageMark::new(self.identity()));
    }

    fn head(&self) -> u64 {
        self.backing.head()
    }
}

impl<B: Backing> Engine<B> {
    fn sync_snapshot(
        &self,
        snapshot: B::Snapshot,
        written: u64,
        failure: Option<WalError>,
        observed: observe::Cohort,
    ) -> Outcome {
        let sync = || {
            let synced = observed.sync(|| self.backing.sync(&snapshot, written));
            drop(snapshot);
            synced
        };
        match self.in_stage("sync", sync) {
            Ok(()) => {
                self.arm_heartbeat();
                Outcome { durable: written, failure, written: self.ring.written(), observed }
            }
            Err(error) => {
                let durable = self.durable();
                Outcome { durable, failure: Some(error), written: durable, observed }
            }
        }
    }
}
