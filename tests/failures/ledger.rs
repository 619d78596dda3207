//! A workload that knows what the log owes it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cohort_wal::{Lsn, MemStore, Result, Wal, WalOptions, WalStore};

use super::power::PowerStore;
use crate::common::{Dice, Id, identify, payload, read_ids};

pub(crate) type Log = Wal<PowerStore>;

pub(crate) fn options() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Append(usize),
    Vectored(usize),
    /// So many records of rising size.
    Batch(usize),
    Commit(usize),
    CommitBatch(usize),
    /// For the last record that was appended.
    Wait,
    Flush,
    Sync,
    Rotate,
    Read,
    Close,
}

pub(crate) const STEPS: usize = 200;
/// A session ends with a close.
pub(crate) const SESSION: usize = 40;

/// The same steps every time, every kind of them in every session.
pub(crate) fn steps() -> Vec<Step> {
    let mut dice = Dice::new(1);
    let mut number = |from: u64, to| usize::try_from(from + dice.below(to - from)).unwrap();
    let step = |index: usize| match (index % SESSION, index % 13) {
        (39, _) => Step::Close,
        (_, 0 | 5) => Step::Append(number(24, 1_200)),
        (_, 1) => Step::Commit(if index.is_multiple_of(2) { number(24, 600) } else { 5_000 }),
        (_, 2) => Step::Batch(number(2, 9)),
        (_, 3) => Step::Flush,
        (_, 4) => Step::Append(number(2_500, 7_000)),
        (_, 6) => Step::Sync,
        (_, 7) => Step::Vectored(number(24, 2_000)),
        (_, 8) => Step::CommitBatch(number(0, 12)),
        (_, 9) => Step::Vectored(number(3_000, 4_000)),
        (_, 10) => Step::Wait,
        (_, 11) => Step::Rotate,
        _ => Step::Read,
    };
    (0..STEPS).map(step).collect()
}

/// What became of the steps so far.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    next: u64,
    /// Appended with success, in order.
    placed: Vec<(Lsn, Id)>,
    /// An append failed after it may have reached the disk.
    doubtful: Vec<Id>,
    /// The records of each batch, which survive together or not at all.
    batches: Vec<Vec<Id>>,
    /// How many of `placed` survive the death of the process, and a power loss.
    flushed: usize,
    durable: usize,
}

impl Ledger {
    fn fresh(&mut self, len: usize) -> (Id, Vec<u8>) {
        let id = Id { owner: 1, number: self.next };
        self.next += 1;
        (id, payload(id, len.max(24)))
    }

    fn place(&mut self, ids: Vec<Id>, result: Result<Vec<Lsn>>) -> Result<()> {
        match result {
            Ok(lsns) => self.placed.extend(lsns.into_iter().zip(ids)),
            Err(error) => {
                self.doubtful.extend(ids);
                return Err(error);
            }
        }
        Ok(())
    }

    pub(crate) fn all_are_durable(&mut self) {
        self.flushed = self.placed.len();
        self.durable = self.placed.len();
    }

    fn all_are_flushed(&mut self) {
        self.flushed = self.placed.len();
    }

    /// Takes a step; reading takes place on the caller's own account, and a panic of the store
    /// in there is the caller's.
    pub(crate) fn step(&mut self, wal: &Log, step: Step) -> Result<()> {
        match step {
            Step::Append(len) | Step::Commit(len) | Step::Vectored(len) => {
                let (id, data) = self.fresh(len);
                let (first, second) = data.split_at(data.len() / 3);
                let lsn = match step {
                    Step::Append(_) => wal.append(&data),
                    Step::Commit(_) => wal.append_and_sync(&data),
                    _ => wal.append_vectored(&[first, b"", second]),
                };
                self.place(vec![id], lsn.map(|lsn| vec![lsn]))?;
            }
            Step::Batch(records) | Step::CommitBatch(records) => {
                let (ids, data): (Vec<_>, Vec<_>) =
                    (0..records).map(|n| self.fresh(70 * n)).unzip();
                self.batches.push(ids.clone());
                let lsns = match step {
                    Step::Batch(_) => wal.append_batch(&data),
                    _ => wal.append_batch_and_sync(&data),
                };
                self.place(ids, lsns)?;
            }
            Step::Wait => match self.placed.last() {
                Some((lsn, _)) => wal.wait_durable(*lsn)?,
                None => return Ok(()),
            },
            Step::Flush => wal.flush()?,
            Step::Sync => wal.sync()?,
            Step::Rotate => wal.rotate()?,
            Step::Read => self.read(wal)?,
            Step::Close => wal.close()?,
        }
        match step {
            Step::Append(_) | Step::Vectored(_) | Step::Batch(_) => {}
            Step::Flush | Step::Rotate | Step::Read => self.all_are_flushed(),
            _ => self.all_are_durable(),
        }
        let durable = wal.durable_lsn();
        assert!(self.placed[..self.durable].iter().all(|(lsn, _)| *lsn < durable));
        Ok(())
    }

    fn read(&self, wal: &Log) -> Result<()> {
        let read = || -> Result<Vec<(Lsn, Id)>> {
            wal.iter()?.map(|r| r.map(|r| (r.lsn(), identify(r.data())))).collect()
        };
        let seen = catch_unwind(AssertUnwindSafe(read));
        // Reading shows what is durable when the flush before it poisoned the log.
        let flushed = wal.flush();
        if let Ok(seen) = seen {
            self.check(&seen?, if flushed.is_ok() { self.placed.len() } else { self.durable });
        }
        flushed
    }

    /// These are the first `owed` of the placed records at least, in order, and besides them
    /// nothing but more of the placed ones and of the doubtful ones; batches are whole.
    fn check(&self, seen: &[(Lsn, Id)], owed: usize) {
        let mut placed = self.placed.iter().peekable();
        let mut before = None;
        for record @ (_, id) in seen {
            assert!(before < Some(id.number), "{id:?} is out of order");
            before = Some(id.number);
            if placed.next_if_eq(&record).is_none() {
                assert!(self.doubtful.contains(id), "{record:?} was not appended here");
                let due = placed.peek().map(|(_, due)| due.number);
                assert!(due.is_none_or(|due| id.number < due), "{due:?} is missing below {id:?}");
            }
        }
        let survived = self.placed.len() - placed.count();
        assert!(survived >= owed, "{survived} of {owed} records");
        for batch in &self.batches {
            let there =
                |id: &&Id| seen.binary_search_by_key(&id.number, |(_, id)| id.number).is_ok();
            let survived = batch.iter().filter(there).count();
            assert!(survived == 0 || survived == batch.len(), "a batch is split");
        }
    }

    /// What an opened log is found to hold is the log from here on.
    pub(crate) fn adopt<S: WalStore>(&mut self, wal: &Wal<S>) {
        let seen = read_ids(wal);
        self.check(&seen, self.flushed);
        self.placed = seen;
        self.all_are_durable();
    }

    /// The death of the process and a power loss, now, lose nothing that is owed.
    pub(crate) fn check_crashes(&self, store: &PowerStore) {
        let open = |left: MemStore| read_ids(&options().open_store(left).unwrap());
        self.check(&open(store.written()), self.flushed);
        self.check(&open(store.synced()), self.durable);
        self.check(&open(store.mixed(&mut Dice::new(self.next))), self.durable);
    }

    pub(crate) fn durable(&self) -> Option<Lsn> {
        self.durable.checked_sub(1).map(|last| self.placed[last].0)
    }
}
