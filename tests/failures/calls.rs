//! Every store call of a workload fails, once and for ever, in every way.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use cohort_wal::{Lsn, WalError};

use super::ledger::{Ledger, Log, SESSION, STEPS, Step, options, steps};
use super::power::PowerStore;
use crate::common::{deadline, read_ids};
use crate::faulty::{EIO, ENOSPC, Fault, Op, Script};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Once,
    ForEver,
    /// For ever, but only calls that need space.
    Full,
}

const NEED_SPACE: &[Op] = &[Op::Create, Op::Write, Op::Publish];

/// So many steps of a full disk, and then there is space again.
const FULL_STEPS: usize = 5;

struct Run {
    store: PowerStore,
    script: Script,
    fault: Fault,
    how: How,
    ledger: Ledger,
    /// Steps that found the disk full.
    full: usize,
}

/// What a run met.
#[derive(Debug, PartialEq, Eq)]
struct Met {
    /// The calls that were made to fail.
    injected: Vec<(Op, String)>,
    poisoned: bool,
    /// Steps that found the disk full.
    full: usize,
}

impl Run {
    fn new(k: u64, fault: Fault, how: How) -> Self {
        let (store, script) = PowerStore::new();
        match how {
            How::Once => script.fail_call(k, fault),
            How::ForEver => script.fail_from(k, &[], fault),
            How::Full => script.fail_from(k, NEED_SPACE, fault),
        }
        Self { store, script, fault, how, ledger: Ledger::default(), full: 0 }
    }

    fn run(mut self) -> Met {
        let mut poisoned = false;
        for session in steps().chunks(SESSION) {
            let Some(wal) = self.open() else { break };
            // Beside the store, so that no fault is spent on it.
            self.ledger.adopt(&options().open_store(self.store.written()).unwrap());
            let whole = session.iter().all(|step| self.step(&wal, *step));
            poisoned |= !whole;
            self.check_crashes();
            self.stays_silent(wal);
            self.check_crashes();
            if !whole && self.how == How::ForEver {
                break;
            }
        }
        let injected = self.script.injected();
        self.script.heal();
        self.goes_on();
        Met { injected, poisoned, full: self.full }
    }

    /// Opens the log; `None` when that goes on failing.
    fn open(&mut self) -> Option<Log> {
        let before = self.script.injected().len();
        let attempt = || {
            let open = || options().open_store(self.store.clone());
            catch_unwind(AssertUnwindSafe(open))
        };
        let first = attempt();
        if let Ok(Ok(wal)) = first {
            return Some(wal);
        }
        assert!(self.script.injected().len() > before, "opening failed by itself: {first:?}");
        match &first {
            Ok(Err(WalError::Io { .. })) => {}
            Ok(Err(WalError::StorageFull { .. })) => assert!(self.takes_space()),
            Err(_) => assert_eq!(self.fault, Fault::Panic),
            Ok(other) => panic!("opening ended as {other:?}"),
        }
        self.check_crashes();
        match self.how {
            How::Once => {}
            How::ForEver => return None,
            How::Full => self.script.heal(),
        }
        Some(attempt().unwrap().expect("the second attempt has no fault"))
    }

    fn takes_space(&self) -> bool {
        let full = ErrorKind::StorageFull;
        [Fault::Fail(full), Fault::Short(full)].contains(&self.fault)
    }

    /// Before the first fault there is nothing to see that other runs do not see.
    fn check_crashes(&self) {
        if !self.script.injected().is_empty() {
            self.ledger.check_crashes(&self.store);
        }
    }

    /// Takes a step to its end. False when the log is poisoned, which is then seen to be final.
    fn step(&mut self, wal: &Log, step: Step) -> bool {
        loop {
            let before = self.script.injected().len();
            let Err(error) = self.ledger.step(wal, step) else { return true };
            assert!(!error.is_corruption(), "{step:?}: {error:?}");
            match error {
                WalError::StorageFull { .. } => {
                    assert!(self.takes_space() && error.is_retryable());
                    assert!(self.script.injected().len() > before, "full by itself");
                    self.full += 1;
                    if self.how != How::Once && step != Step::Close && self.full < FULL_STEPS {
                        return true;
                    }
                    // There is space again, and the same step must succeed.
                    self.script.heal();
                }
                WalError::Poisoned { .. } => {
                    self.poison_is_final(wal, step);
                    return false;
                }
                // A read that failed concerns nobody else.
                WalError::Io { .. } if step == Step::Read => return true,
                other => panic!("{step:?} ended as {other:?}"),
            }
        }
    }

    fn poison_is_final(&self, wal: &Log, step: Step) {
        let (calls, durable) = (self.script.all_calls(), wal.durable_lsn());
        let results = [
            wal.append(b"late").err(),
            wal.append(&[0; 9_000]).err(),
            wal.append_vectored(&[b"la", b"te"]).err(),
            wal.append_and_sync(b"late").err(),
            wal.append_batch(&["late"]).err(),
            wal.append_batch::<&str>(&[]).err(),
            wal.append_batch_and_sync(&["late"]).err(),
            wal.append_batch_and_sync::<&str>(&[]).err(),
            wal.flush().err(),
            wal.sync().err(),
            wal.rotate().err(),
        ];
        for (index, error) in results.into_iter().enumerate() {
            match error {
                Some(WalError::Poisoned { .. }) => {}
                // A log that could not be closed well is closed all the same.
                Some(WalError::Closed) if step == Step::Close => {}
                other => panic!("{index}: {other:?}"),
            }
        }
        if step != Step::Close
            && let Some(lsn) = self.ledger.durable()
        {
            wal.wait_durable(lsn).unwrap();
        }
        assert_eq!(wal.durable_lsn(), durable);
        assert_eq!(self.script.all_calls(), calls, "a poisoned log does no I/O");
    }

    /// Closes the log, whatever it says, and drops it: no I/O follows.
    fn stays_silent(&self, wal: Log) {
        if matches!(wal.close(), Err(WalError::StorageFull { .. })) {
            self.script.heal();
            wal.close().ok();
        }
        let calls = self.script.all_calls();
        let refused = |error: Option<WalError>| {
            let error = error.expect("the log is closed");
            assert!(matches!(error, WalError::Closed | WalError::Poisoned { .. }), "{error:?}");
        };
        refused(wal.append(b"late").err());
        refused(wal.append(&[0; 9_000]).err());
        refused(wal.append_batch_and_sync(&["late"]).err());
        refused(wal.flush().err());
        refused(wal.sync().err());
        refused(wal.rotate().err());
        refused(wal.wait_durable(Lsn::new(0)).err());
        refused(wal.iter().err());
        wal.close().unwrap();
        drop(wal);
        assert_eq!(self.script.all_calls(), calls, "no I/O after close");
    }

    /// With all faults gone the log opens, holds what it owes and takes more.
    fn goes_on(&mut self) {
        self.check_crashes();
        let wal = options().open_store(self.store.clone()).unwrap();
        self.ledger.adopt(&wal);
        self.ledger.step(&wal, Step::Commit(100)).unwrap();
        self.check_crashes();
        self.ledger.step(&wal, Step::Close).unwrap();
        self.check_crashes();
        drop(wal);
        let wal = options().open_store(self.store.synced()).unwrap();
        assert!(wal.recovery().clean && !read_ids(&wal).is_empty());
    }
}

/// Every n-th call, unless all of them are asked for.
const STRIDE: u64 = 53;

fn stride() -> u64 {
    if std::env::var_os("COHORT_WAL_EXHAUSTIVE").is_some() { 1 } else { STRIDE }
}

fn run(k: u64, fault: Fault, how: How) -> Met {
    let run = move || deadline(move || Run::new(k, fault, how).run());
    catch_unwind(run).unwrap_or_else(|cause| {
        // An injected panic prints nothing by itself.
        let escaped = cause.is::<&str>().then_some("; the store's panic came out");
        panic!("{fault:?} {how:?} at call {k}{}", escaped.unwrap_or_default())
    })
}

/// Runs the workload with a fault at every position, and says what it met.
fn sweep(fault: Fault, how: How) -> Vec<Met> {
    let mut k = start(fault, how) % stride();
    let mut all = Vec::new();
    loop {
        let met = run(k, fault, how);
        if met.injected.is_empty() {
            break;
        }
        all.push(met);
        k += stride();
    }
    let mut first: BTreeMap<String, usize> = BTreeMap::new();
    for met in &all {
        *first.entry(format!("{:?}", met.injected[0].0)).or_default() += 1;
    }
    let (poisoned, full) = (count(&all, |met| met.poisoned), count(&all, |met| met.full > 0));
    let line = format!(
        "{fault:?} {how:?}: {} runs of {STEPS} steps over {k} calls, stride {}; {poisoned} \
         poisoned, {full} full; {first:?}\n",
        all.len(),
        stride(),
    );
    // Past the harness, which shows what is printed only of tests that fail.
    std::io::stderr().write_all(line.as_bytes()).ok();
    all
}

/// Sweeps start apart, so that together they visit more of the calls.
fn start(fault: Fault, how: How) -> u64 {
    let first = match fault {
        Fault::Fail(ErrorKind::StorageFull) => 6,
        Fault::Fail(_) => 0,
        Fault::Short(ErrorKind::StorageFull) => 24,
        Fault::Short(_) => 12,
        Fault::Late(_) => 18,
        Fault::Panic | Fault::Bomb | Fault::Watched => 30,
        Fault::Less => 36,
    };
    first + if how == How::ForEver { 3 } else { 0 }
}

fn count(all: &[Met], wanted: impl Fn(&Met) -> bool) -> usize {
    all.iter().filter(|met| wanted(met)).count()
}

/// The calls of the workload are there to be hit, and hitting them has consequences.
fn assert_poisons(all: &[Met]) {
    assert!(count(all, |met| met.poisoned) > all.len() / 8);
    assert_eq!(count(all, |met| met.full > 0), 0);
}

#[test]
fn an_error_of_any_store_call_loses_nothing_acknowledged() {
    let all = sweep(EIO, How::Once);
    assert_poisons(&all);
    if stride() == 1 {
        for op in ALL {
            let hit = |met: &Met| met.injected[0].0 == *op;
            assert!(all.iter().any(hit), "{op:?} was never made to fail");
        }
    }
}

/// All calls that the log makes and that can fail.
const ALL: &[Op] = &[
    Op::List,
    Op::Create,
    Op::Publish,
    Op::Open,
    Op::Remove,
    Op::Lock,
    Op::SyncNames,
    Op::SyncPlace,
    Op::Sweep,
    Op::Write,
    Op::Read,
    Op::Sync,
    Op::Len,
];

#[test]
fn a_store_that_fails_for_ever_from_any_call_on_loses_nothing_acknowledged() {
    assert_poisons(&sweep(EIO, How::ForEver));
}

#[test]
fn a_call_that_fails_after_it_did_its_work_loses_nothing_acknowledged() {
    assert_poisons(&sweep(Fault::Late(ErrorKind::Other), How::Once));
    assert_poisons(&sweep(Fault::Late(ErrorKind::Other), How::ForEver));
}

#[test]
fn half_a_transfer_and_an_error_in_any_store_call_loses_nothing_acknowledged() {
    assert_poisons(&sweep(Fault::Short(ErrorKind::Other), How::Once));
    assert_poisons(&sweep(Fault::Short(ErrorKind::Other), How::ForEver));
}

#[test]
fn a_panic_in_any_store_call_loses_nothing_acknowledged() {
    assert_poisons(&sweep(Fault::Panic, How::Once));
    assert_poisons(&sweep(Fault::Panic, How::ForEver));
}

/// By then everything is durable and marked clean, and the lock goes with its handle at the latest.
#[test]
fn a_lock_that_is_not_given_back_well_costs_nothing() {
    for fault in [EIO, Fault::Late(ErrorKind::Other), Fault::Panic] {
        let (store, script) = PowerStore::new();
        let wal = options().open_store(store.clone()).unwrap();
        wal.append(b"kept").unwrap();
        script.fail_once(Op::Unlock, 0, fault);
        // A panic is reported like that of any other call.
        match wal.close() {
            Ok(()) => assert_ne!(fault, Fault::Panic),
            Err(error) => assert!(fault == Fault::Panic && error.is_poisoned(), "{error:?}"),
        }
        assert_eq!(script.injected().len(), 1);
        wal.close().unwrap();
        let next = options().open_store(store).expect("the lock is gone");
        assert!(next.recovery().clean && next.iter().unwrap().count() == 1);
    }
}

#[test]
fn no_space_in_any_store_call_is_retryable_and_loses_nothing_accepted() {
    for fault in [ENOSPC, Fault::Short(ErrorKind::StorageFull)] {
        let all = sweep(fault, How::Once);
        let grows = |met: &Met| NEED_SPACE.contains(&met.injected[0].0);
        for met in &all {
            assert!(!(grows(met) && met.poisoned), "{met:?}");
        }
        assert!(count(&all, |met| met.full == 1) > all.len() / 8);
        // Running out of space in a sync is final.
        assert!(all.iter().any(|met| met.poisoned));
        sweep(fault, How::ForEver);
    }
}

#[test]
fn a_full_disk_fails_nothing_for_good_and_ends_when_there_is_space() {
    for fault in [ENOSPC, Fault::Short(ErrorKind::StorageFull)] {
        let all = sweep(fault, How::Full);
        assert_eq!(count(&all, |met| met.poisoned), 0);
        assert!(count(&all, |met| met.full == FULL_STEPS) > all.len() / 4);
    }
}

/// A store continues what a signal interrupts, so that it never reports it; one that does has
/// failed like any other, and the log neither retries nor waits.
#[test]
fn a_reported_interruption_is_an_error_like_any_other() {
    let interrupted = Fault::Fail(ErrorKind::Interrupted);
    let all = sweep(interrupted, How::Once);
    assert_poisons(&all);
    assert_eq!(all, sweep(EIO, How::Once));
    assert_poisons(&sweep(interrupted, How::ForEver));
}

#[test]
fn a_read_of_fewer_bytes_than_asked_is_continued() {
    for how in [How::Once, How::ForEver] {
        let all = sweep(Fault::Less, how);
        assert_eq!(count(&all, |met| met.poisoned || met.full > 0), 0);
    }
}
