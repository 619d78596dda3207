//! Whether what a call returned fits what struck it, and what it promised.

use cohort_wal::sim::SimCall;
use cohort_wal::{Lsn, WalError};

use super::{Ended, Got, Run, calls, records_of, wrong};
use crate::calls::fault::Effect;
use crate::calls::{Act, Fault};
use crate::history::{Found, Promise};
use crate::oracle::{Crash, Oracle, Violation, snapshot};

impl Run<'_> {
    /// Holds what a call returned against what struck it.
    pub(super) fn judge(
        &mut self,
        act: Act,
        result: std::thread::Result<Result<Got, WalError>>,
        struck: &[SimCall],
    ) -> Result<Ended, Violation> {
        let fault = self.at.fault;
        let full = matches!(fault, Fault::Full(_)) && self.struck && !self.over;
        let effect = fault.effect(struck);
        let bad = |what: String| {
            Err(wrong(Oracle::I10, format!("{act:?} with {fault} in {struck:?}: {what}")))
        };
        if act == Act::Read && effect == Some(Effect::Poison) {
            // Its flush has poisoned the log, and it covers what is durable as far as that can be
            // read; whether the log is poisoned is looked at next.
            return Ok(Ended::Poisoned);
        }
        let Ok(result) = result else {
            let allowed = fault == Fault::Panic && effect == Some(Effect::Read);
            return if allowed { Ok(Ended::Unread) } else { bad("panics".to_owned()) };
        };
        if let Some(ended) = excused(act, fault, &result, effect, struck) {
            return Ok(ended);
        }
        match (result, effect) {
            // Zero-filling ahead may fail for lack of space, and nobody need know.
            (Ok(got), None | Some(Effect::Nothing)) => Ok(Ended::Well(got)),
            (Ok(_), Some(effect)) => bad(format!("succeeds, not {effect:?}")),
            (Err(error), Some(Effect::Read))
                if (matches!(act, Act::Read | Act::Truncate | Act::Checkpoint) || act.cuts())
                    && fault.is_reported_as(&error) =>
            {
                self.tally.reads += 1;
                Ok(Ended::Unread)
            }
            // The log is truncated; what could not be removed is a matter of space.
            (Err(error), Some(Effect::Poison))
                if struck.iter().all(|call| *call == SimCall::Remove)
                    && fault.is_reported_as(&error) =>
            {
                Ok(Ended::Well(Got::Nothing))
            }
            (Err(error), _)
                if (effect == Some(Effect::Nothing) || full) && fault.loses_nothing_as(&error) =>
            {
                self.tally.full += 1;
                Ok(Ended::Refused)
            }
            (Err(WalError::Poisoned { .. }), Some(Effect::Poison)) => Ok(Ended::Poisoned),
            (Err(error), _) => bad(format!("ends as {error:?}, not {effect:?}")),
        }
    }

    /// What a call that succeeded has promised.
    pub(super) fn promise(&mut self, act: Act, last: Option<u64>) -> Result<(), Violation> {
        match act {
            Act::Flush | Act::Rotate | Act::Read => self.history.promise_all(Promise::Flushed),
            Act::Sync | Act::Commit | Act::Close => self.history.promise_all(Promise::Durable),
            Act::Wait => {
                for unit in self.history.covered() {
                    if self.history.units()[unit].lsns.first() <= last.as_ref() {
                        self.history.promise(unit, Promise::Durable);
                    }
                }
            }
            _ => return Ok(()),
        }
        let durable = self.wal().durable_lsn().get();
        let missing = self.history.units().iter().find(|unit| {
            unit.promise == Promise::Durable && unit.lsns.iter().any(|lsn| *lsn >= durable)
        });
        missing.map_or(Ok(()), |unit| {
            let what = format!("{act:?} returns, and {unit:?} is not below durable {durable}");
            Err(wrong(Oracle::I1, what))
        })
    }

    /// What a reader saw is what was appended.
    pub(super) fn check_read(&mut self, got: Got) -> Result<(), Violation> {
        let Got::Records(records) = got else { return Ok(()) };
        let snapshot = self.aside(|run| snapshot(run.wal()))?;
        let wal = self.wal();
        let [head, end, durable] = [wal.head_lsn(), wal.end_lsn(), wal.durable_lsn()].map(Lsn::get);
        self.history.check(&Found { records, head, end, durable, snapshot }, Crash::Process)
    }

    /// Nothing is acknowledged any more, at once, and no call reaches the store.
    pub(super) fn poison_is_final(&mut self, act: Act) -> Result<(), Violation> {
        self.tally.poisoned += 1;
        let fault = self.at.fault;
        self.aside(|run| {
            let wal = run.wal();
            let (made, durable) = (calls(&run.disk), wal.durable_lsn());
            let late = [b"late".to_vec(), vec![b'l'; 5000]];
            let last = wal.end_lsn().get().saturating_sub(8).max(durable.get());
            let results = [
                ("append", wal.append(&late[0]).err()),
                ("append", wal.append(&late[1]).err()),
                ("append_batch", wal.append_batch(&late).err()),
                ("append_and_sync", wal.append_and_sync(&late[0]).err()),
                ("flush", wal.flush().err()),
                ("sync", wal.sync().err()),
                ("rotate", wal.rotate().err()),
                ("truncate_before", wal.truncate_before(Lsn::new(last)).err()),
                ("truncate_from", wal.truncate_from(wal.head_lsn()).err()),
                ("wait_durable", wal.wait_durable(Lsn::new(last)).err()),
            ];
            for (call, result) in results {
                let right = match &result {
                    Some(WalError::Poisoned { .. }) => act != Act::Close,
                    Some(WalError::Closed) => act == Act::Close,
                    // Everything is durable: there is no such place.
                    Some(WalError::NotARecord { .. }) => call == "wait_durable",
                    _ => false,
                };
                if !right {
                    let what = format!("{call} on a log poisoned by {fault}: {result:?}");
                    return Err(wrong(Oracle::I10, what));
                }
            }
            if calls(&run.disk) != made || wal.durable_lsn() != durable {
                return Err(wrong(Oracle::I10, "a poisoned log goes on".to_owned()));
            }
            if act != Act::Close {
                let units = run.history.units().iter();
                let below = units.filter(|unit| unit.promise >= Promise::Buffered);
                let last = below.map(|unit| unit.lsns[0]).rfind(|lsn| *lsn < durable.get());
                let known = last.map_or(Ok(()), |lsn| wal.wait_durable(Lsn::new(lsn)));
                known.map_err(|e| wrong(Oracle::I10, format!("durable, and waited for: {e}")))?;
                let records = records_of(wal);
                let records = records.map_err(|e| wrong(Oracle::I10, format!("reading: {e}")))?;
                let (head, end) = (wal.head_lsn().get(), durable.get());
                // What was flushed and is not durable, a poisoned log does not show.
                let found = Found { records, head, end, durable: end, snapshot: snapshot(wal)? };
                run.history.check(&found, Crash::Power)?;
            }
            Ok(())
        })
    }
}

/// How a call ended that a fault has struck in a way of its own.
fn excused(
    act: Act,
    fault: Fault,
    result: &Result<Got, WalError>,
    effect: Option<Effect>,
    struck: &[SimCall],
) -> Option<Ended> {
    match (result, effect?) {
        // It is not there, which is no error, and a call that failed so did nothing late.
        (Ok(_), _) => {
            let late = matches!(struck, [SimCall::Remove | SimCall::Open]) && fault == Fault::Late;
            late.then_some(Ended::Well(Got::Nothing))
        }
        // From where it counts on, a cut finishes or poisons, for want of space as well.
        (Err(WalError::Poisoned { .. }), Effect::Nothing) if act.cuts() => Some(Ended::Poisoned),
        // So does a panic inside a stage, whatever was called.
        (Err(WalError::Poisoned { .. }), Effect::Read) => {
            (act == Act::Checkpoint && fault == Fault::Panic).then_some(Ended::Poisoned)
        }
        // Nothing but the image depends on it until it has its name.
        (Err(error), Effect::Poison) => {
            (act == Act::Checkpoint && fault.is_reported_as(error)).then_some(Ended::Unread)
        }
        _ => None,
    }
}
