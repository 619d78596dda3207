//! Every single store call of a workload fails once, in every way.
//!
//! The workload knows what each call returned, so it knows what the log owes: all that was
//! acknowledged as durable, in order, and nothing that was never appended.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cohort_wal::{Lsn, MemStore, Result, WalError};

use super::{EIO, ENOSPC, Fault, FaultyStore, FaultyWal, Op, Script, small};
use crate::common::{Id, deadline_of, identify, payload, read_ids};

/// What a run of the workload knows.
#[derive(Default)]
struct Ledger {
    next: u64,
    /// Appended with success, in order.
    placed: Vec<(Lsn, Id)>,
    /// An append failed after it may have reached the disk.
    doubtful: Vec<Id>,
    /// The records of each batch, which survive together or not at all.
    batches: Vec<Vec<Id>>,
    /// How many of `placed` are acknowledged as durable.
    durable: usize,
    /// Steps that failed for good.
    failures: Vec<WalError>,
}

#[derive(Clone, Copy)]
enum Step {
    Append(usize),
    Commit(usize),
    Batch(usize),
    CommitBatch,
    Flush,
    Sync,
    Rotate,
    Read,
}

/// About sixty steps that meet every way of writing; each round reopens the log.
const ROUND: [Step; 20] = [
    Step::Append(100),
    Step::Commit(40),
    Step::Batch(3),
    Step::Append(1_900),
    Step::Flush,
    Step::CommitBatch,
    Step::Append(5_000),
    Step::Sync,
    Step::Read,
    Step::Rotate,
    Step::Append(900),
    Step::Batch(4),
    Step::Sync,
    Step::Append(20_000),
    Step::Append(60),
    Step::Commit(700),
    Step::Rotate,
    Step::Batch(9),
    Step::Append(1_500),
    Step::Flush,
];
const ROUNDS: usize = 3;

impl Ledger {
    fn fresh(&mut self, len: usize) -> (Id, Vec<u8>) {
        let id = Id { owner: 1, number: self.next };
        self.next += 1;
        (id, payload(id, len.max(24)))
    }

    fn append(&mut self, wal: &FaultyWal, len: usize, commit: bool) -> Result<()> {
        let (id, data) = self.fresh(len);
        let result = if commit { wal.append_and_sync(&data) } else { wal.append(&data) };
        match result {
            Ok(lsn) => self.placed.push((lsn, id)),
            Err(error) => {
                self.doubtful.push(id);
                return Err(error);
            }
        }
        if commit {
            self.durable = self.placed.len();
        }
        Ok(())
    }

    fn batch(&mut self, wal: &FaultyWal, records: usize, commit: bool) -> Result<()> {
        let (ids, data): (Vec<_>, Vec<_>) = (0..records).map(|n| self.fresh(50 * n)).unzip();
        self.batches.push(ids.clone());
        let result =
            if commit { wal.append_batch_and_sync(&data) } else { wal.append_batch(&data) };
        match result {
            Ok(lsns) => self.placed.extend(lsns.into_iter().zip(ids)),
            Err(error) => {
                self.doubtful.extend(ids);
                return Err(error);
            }
        }
        if commit {
            self.durable = self.placed.len();
        }
        Ok(())
    }

    fn step(&mut self, wal: &FaultyWal, step: Step) -> Result<()> {
        match step {
            Step::Append(len) => self.append(wal, len, false),
            Step::Commit(len) => self.append(wal, len, true),
            Step::Batch(records) => self.batch(wal, records, false),
            Step::CommitBatch => self.batch(wal, 5, true),
            Step::Flush => wal.flush(),
            Step::Rotate => wal.rotate(),
            Step::Sync => wal.sync().map(|()| self.durable = self.placed.len()),
            Step::Read => self.read(wal),
        }
    }

    /// What a reader sees, which is at least what is durable and nothing else than was appended.
    fn read(&self, wal: &FaultyWal) -> Result<()> {
        let mut seen = Vec::new();
        for record in wal.iter()? {
            let record = record?;
            seen.push((record.lsn(), identify(record.data())));
        }
        self.check(&seen);
        Ok(())
    }

    fn check(&self, seen: &[(Lsn, Id)]) {
        let mut placed = self.placed.iter().peekable();
        for record in seen {
            if placed.next_if_eq(&record).is_none() {
                assert!(self.doubtful.contains(&record.1), "{record:?} was not appended here");
            }
        }
        for batch in &self.batches {
            let survived = seen.iter().filter(|(_, id)| batch.contains(id)).count();
            assert!(survived == 0 || survived == batch.len(), "a batch is split");
        }
        let missing = placed.count();
        let survived = self.placed.len() - missing;
        assert!(survived >= self.durable, "{survived} of {} durable records", self.durable);
    }

    /// Runs a step; one that can be retried is retried once, and then it must succeed.
    fn insist(&mut self, wal: &FaultyWal, step: Step) -> bool {
        let attempt = |ledger: &mut Self| match step {
            // Reading takes place on the caller's own account: a panic of the store is theirs.
            Step::Read => {
                catch_unwind(AssertUnwindSafe(|| ledger.step(wal, step))).unwrap_or(Ok(()))
            }
            _ => ledger.step(wal, step),
        };
        match attempt(self) {
            Ok(()) => true,
            Err(error) if error.is_retryable() => {
                attempt(self).expect("there is space again");
                true
            }
            Err(error) => {
                self.failures.push(error);
                matches!(step, Step::Read)
            }
        }
    }
}

/// Opens the log, again if an error or a panic was injected into the first attempt.
fn open(store: &FaultyStore<MemStore>, script: &Script) -> FaultyWal {
    let before = script.injected().len();
    let attempt = || catch_unwind(AssertUnwindSafe(|| small().open_store(store.clone())));
    match attempt() {
        Ok(Ok(wal)) => wal,
        first => {
            assert!(script.injected().len() > before, "opening failed by itself: {first:?}");
            attempt().unwrap().expect("the second attempt has no fault")
        }
    }
}

/// Runs the workload with one fault at the `k`-th store call; false when there are fewer calls.
fn run(k: u64, fault: Fault) -> bool {
    let memory = MemStore::new();
    let (store, script) = FaultyStore::over(memory.clone());
    script.fail_call(k, fault);
    let mut ledger = Ledger::default();
    for _ in 0..ROUNDS {
        let wal = open(&store, &script);
        ledger.check(&read_ids_calmly(&wal));
        let whole = ROUND.iter().all(|step| ledger.insist(&wal, *step));
        if whole {
            match wal.close() {
                Ok(()) => ledger.durable = ledger.placed.len(),
                Err(error) if error.is_retryable() => {
                    wal.close().expect("there is space again");
                    ledger.durable = ledger.placed.len();
                }
                Err(error) => ledger.failures.push(error),
            }
        } else {
            // A crash of the process: whatever close says, the lock must be gone.
            wal.close().ok();
        }
        drop(wal);
        assert!(
            ledger.failures.iter().all(|error| !error.is_corruption()),
            "{:?}",
            ledger.failures
        );
        let seen =
            read_ids(&small().open_store(MemStore::from_snapshot(memory.snapshot())).unwrap());
        ledger.check(&seen);
        // Whatever survived is the log from here on.
        ledger.placed = seen;
        ledger.durable = ledger.placed.len();
    }
    let injected = script.injected();
    if fault == ENOSPC
        && injected.iter().all(|(op, _)| matches!(op, Op::Write | Op::Create | Op::Publish))
    {
        assert!(ledger.failures.is_empty(), "{injected:?}: {:?}", ledger.failures);
    }
    !injected.is_empty()
}

/// As `read_ids`, on a log whose store may still have a fault to come.
fn read_ids_calmly(wal: &FaultyWal) -> Vec<(Lsn, Id)> {
    let read = || -> Result<Vec<(Lsn, Id)>> {
        wal.iter()?.map(|record| record.map(|r| (r.lsn(), identify(r.data())))).collect()
    };
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(Ok(seen)) => seen,
        _ => read().expect("the fault is spent"),
    }
}

fn sweep(fault: Fault) {
    deadline_of(120, move || {
        let mut k = 0;
        while run(k, fault) {
            k += 1;
        }
        assert!(k > 150, "only {k} store calls");
    });
}

#[test]
fn an_error_of_any_single_store_call_loses_nothing_acknowledged() {
    sweep(EIO);
}

#[test]
fn running_out_of_space_in_any_single_store_call_loses_nothing_acknowledged() {
    sweep(ENOSPC);
}

#[test]
fn half_a_write_and_no_space_in_any_single_store_call_loses_nothing_acknowledged() {
    sweep(Fault::Short(std::io::ErrorKind::StorageFull));
}

#[test]
fn half_a_write_and_an_error_in_any_single_store_call_loses_nothing_acknowledged() {
    sweep(Fault::Short(std::io::ErrorKind::Other));
}

#[test]
fn a_panic_in_any_single_store_call_loses_nothing_acknowledged() {
    sweep(Fault::Panic);
}
