//! What the tests share: small logs, a script of everything that a canonical log does, and what
//! each step of it owes.

#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use canonical_log::{CanonicalLog, Checkpoint, Error, Result};
use cohort_wal::sim::SimStore;
use cohort_wal::{WalError, WalOptions, WalStore};

/// Committed entries, each with its index.
pub(crate) type View = Vec<(u64, Vec<u8>)>;

/// The smallest segments and the smallest ring, so that both end often.
pub(crate) fn options() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

pub(crate) fn open<S: WalStore + Clone>(store: S) -> Result<CanonicalLog<S>> {
    CanonicalLog::open_store(options(), store)
}

pub(crate) fn view<S: WalStore>(log: &CanonicalLog<S>) -> View {
    log.entries().unwrap().map(Result::unwrap).collect()
}

/// Opens what a crash left, and checks that the last record is a checkpoint: no orphan is there.
/// Opened once more, it is the same.
pub(crate) fn recovered(store: SimStore) -> View {
    let first = open(store.clone()).expect("what a crash leaves opens");
    let found = view(&first);
    assert_eq!(first.wal().last_lsn(), first.committed().map(|checkpoint| checkpoint.lsn));
    assert_eq!(first.wal().is_empty(), first.committed().is_none());
    drop(first);
    let again = open(store).unwrap();
    assert_eq!((again.orphans(), view(&again)), (0, found.clone()));
    found
}

/// Every how many-th case is tried; all of them with `CANONICAL_LOG_EXHAUSTIVE=1`.
pub(crate) fn stride(usual: usize) -> usize {
    if std::env::var_os("CANONICAL_LOG_EXHAUSTIVE").is_some() { 1 } else { usual }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// So many entries of so many bytes.
    Append(usize, usize),
    Checkpoint,
    /// To the checkpoint that is so many before the last.
    Cut(usize),
    /// What is before the checkpoint that is so many before the last.
    Forget(usize),
    /// Closes the log and opens it again, which cuts orphans.
    Reopen,
}

/// Every kind of step, with others before and behind it.
pub(crate) fn script(rounds: usize) -> Vec<Step> {
    use Step::{Append, Checkpoint, Cut, Forget, Reopen};
    let round = [
        [Append(3, 30), Reopen, Append(2, 50), Checkpoint],
        [Append(1, 0), Checkpoint, Append(4, 900), Cut(0)],
        [Append(2, 40), Checkpoint, Append(1, 70), Checkpoint],
        [Cut(1), Append(5, 20), Checkpoint, Forget(1)],
        [Append(6, 1500), Checkpoint, Append(7, 1500), Reopen],
        [Checkpoint, Append(1, 9), Forget(0), Checkpoint],
    ];
    round.concat().repeat(rounds)
}

/// What a log owes, and what was done to it.
pub(crate) struct Owed {
    /// Every entry that was appended and not cut, from the first.
    all: Vec<Vec<u8>>,
    /// The checkpoints that are known to be durable, oldest first, and not forgotten.
    known: Vec<Checkpoint>,
    /// What may be committed: of the newest that is known, and of those that failed since.
    counts: Vec<usize>,
    /// The first entry that is kept; two of them when forgetting has failed.
    firsts: Vec<usize>,
    made: usize,
}

impl Owed {
    pub(crate) fn new() -> Self {
        Self { all: vec![], known: vec![], counts: vec![0], firsts: vec![0], made: 0 }
    }

    /// The views that a crash may leave now.
    pub(crate) fn allowed(&self) -> Vec<View> {
        let firsts = self.firsts.iter();
        firsts.flat_map(|first| self.counts.iter().map(|count| self.view(*first, *count))).collect()
    }

    /// The views that a crash may leave in a step that comes next.
    pub(crate) fn allowed_in(&self, step: Step) -> Vec<View> {
        let first = self.firsts[0];
        let leads_to = match step {
            Step::Checkpoint => Some(self.view(first, self.all.len())),
            Step::Cut(back) => {
                self.back(back).map(|checkpoint| self.view(first, index(checkpoint.entries)))
            }
            Step::Forget(back) => {
                self.back(back).map(|place| self.view(index(place.entries), self.counts[0]))
            }
            Step::Append(..) | Step::Reopen => None,
        };
        self.allowed().into_iter().chain(leads_to).collect()
    }

    fn view(&self, first: usize, count: usize) -> View {
        let numbered = (0..).zip(&self.all[..count]).skip(first);
        numbered.map(|(number, entry)| (number, entry.clone())).collect()
    }

    fn back(&self, back: usize) -> Option<Checkpoint> {
        self.known.iter().rev().nth(back).copied()
    }

    /// Takes a step. An error says whether it was for good.
    pub(crate) fn take<S: WalStore + Clone>(
        &mut self,
        log: &mut CanonicalLog<S>,
        store: &S,
        step: Step,
    ) -> Result<()> {
        match step {
            Step::Append(count, bytes) => (0..count).try_for_each(|_| self.append(log, bytes)),
            Step::Checkpoint => {
                let made = log.checkpoint();
                self.counts.push(self.all.len());
                let made = made?;
                assert_eq!(index(made.entries), self.all.len());
                self.known.push(made);
                self.counts = vec![self.all.len()];
                Ok(())
            }
            Step::Cut(back) => {
                let Some(place) = self.back(back) else { return Ok(()) };
                log.cut_to(place.lsn)?;
                self.all.truncate(index(place.entries));
                self.known.retain(|known| known.lsn <= place.lsn);
                self.counts = vec![self.all.len()];
                Ok(())
            }
            Step::Forget(back) => {
                let Some(place) = self.back(back) else { return Ok(()) };
                self.firsts.push(index(place.entries));
                log.forget_before(place.lsn)?;
                self.known.retain(|known| known.lsn >= place.lsn);
                self.firsts = vec![index(place.entries)];
                Ok(())
            }
            Step::Reopen => {
                log.wal().close()?;
                *log = open(store.clone())?;
                let found = log.entries()?.collect::<Result<View>>()?;
                assert!(self.allowed().contains(&found), "opened again: {found:?}");
                // What was in doubt is decided.
                let committed = index(log.committed().map_or(0, |newest| newest.entries));
                let orphans = self.all.len() - committed;
                assert!(index(log.orphans()) == orphans || self.counts.len() > 1);
                self.all.truncate(committed);
                self.counts = vec![committed];
                let firsts = self.firsts.iter().copied();
                self.firsts =
                    firsts.filter(|first| self.view(*first, committed) == found).collect();
                self.known.extend(log.committed().filter(|newest| !self.known.contains(newest)));
                Ok(())
            }
        }
    }

    fn append<S: WalStore>(&mut self, log: &CanonicalLog<S>, bytes: usize) -> Result<()> {
        let entry = format!("{:0bytes$}", self.made).into_bytes();
        self.made += 1;
        let number = log.append(&entry)?;
        assert_eq!(index(number), self.all.len());
        self.all.push(entry);
        Ok(())
    }
}

fn index(count: u64) -> usize {
    usize::try_from(count).unwrap()
}

/// Whether the log can be used after this error.
pub(crate) fn goes_on(error: &Error) -> bool {
    matches!(error, Error::Wal(WalError::StorageFull { .. }))
}
