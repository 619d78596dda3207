//! What the tests share: small logs, a script of everything that an engine does, and what each
//! step of it owes.

#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use cohort_wal::sim::SimStore;
use cohort_wal::{Lsn, WalOptions, WalStore};
use ledger_engine::Result;
use ledger_engine::engine::Engine;
use ledger_engine::workload::{self, ACCOUNTS, MISTAKEN};

/// How many transactions of each writer there are.
pub(crate) type Counts = Vec<u64>;

/// The smallest segments and the smallest ring, so that both end often.
pub(crate) fn options() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

pub(crate) fn open<S: WalStore>(store: S) -> Result<Engine<S>> {
    Engine::open(options().open_store(store)?, ACCOUNTS)
}

/// Opens what a crash left; every transaction in it must be whole, and the sum zero.
pub(crate) fn recovered(store: SimStore) -> Counts {
    let engine = open(store).expect("what a crash leaves opens");
    workload::check(&engine.book().unwrap()).unwrap()
}

/// Every how many-th case is tried; all of them with `LEDGER_ENGINE_EXHAUSTIVE=1`.
pub(crate) fn stride(usual: usize) -> usize {
    if std::env::var_os("LEDGER_ENGINE_EXHAUSTIVE").is_some() { 1 } else { usual }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Posts and waits.
    Post(u16),
    /// Posts without waiting.
    Begin(u16),
    Checkpoint,
    /// Posts what is to be undone, and waits for it or not.
    Mistake(bool),
    /// Undoes all mistakes, by `truncate_from`.
    UndoFrom,
    /// The same by `truncate_after`.
    UndoAfter,
}

/// Every kind of step, with others before and behind it.
pub(crate) fn script() -> Vec<Step> {
    use Step::{Begin, Checkpoint, Mistake, Post, UndoAfter, UndoFrom};
    let round = [
        [Post(0), Begin(1), Post(2), Mistake(true)],
        [Mistake(false), UndoFrom, Post(1), Checkpoint],
        [Mistake(false), UndoFrom, Begin(0), Checkpoint],
        [Post(3), Mistake(true), Mistake(true), Mistake(false)],
        [UndoAfter, Begin(2), Begin(3), Mistake(false)],
        [UndoAfter, Post(0), Checkpoint, Post(2)],
    ];
    let round = round.concat();
    let (many, end) = ([Begin(4); 25], [Begin(5), Checkpoint, Begin(1)]);
    round.iter().chain(&many).chain(&round).chain(&end).copied().collect()
}

/// What a ledger owes: the states since the one that is certain to survive.
pub(crate) struct Owed {
    history: Vec<Counts>,
    /// Index of the oldest state that may show after a crash.
    durable: usize,
    /// The state before the first mistake, by its index; the records at both sides of it.
    mistakes: Option<(usize, Option<Lsn>, Lsn)>,
}

impl Owed {
    pub(crate) fn new() -> Self {
        let none = vec![0; usize::from(MISTAKEN) + 1];
        Self { history: vec![none], durable: 0, mistakes: None }
    }

    /// The states that a crash may leave behind the last step.
    pub(crate) fn allowed(&self) -> Vec<Counts> {
        self.history[self.durable..].to_vec()
    }

    /// The states that a crash may leave in a step that comes next: the same, and where it leads.
    pub(crate) fn allowed_in(&self, step: Step) -> Vec<Counts> {
        let leads_to = match step {
            Step::Post(writer) | Step::Begin(writer) => Some(self.and_one(writer)),
            Step::Mistake(_) => Some(self.and_one(MISTAKEN)),
            Step::Checkpoint => None,
            Step::UndoFrom | Step::UndoAfter => {
                self.mistakes.map(|(state, ..)| self.history[state].clone())
            }
        };
        self.allowed().into_iter().chain(leads_to).collect()
    }

    fn and_one(&self, writer: u16) -> Counts {
        let mut counts = self.history.last().unwrap().clone();
        counts[usize::from(writer)] += 1;
        counts
    }

    /// All steps so far are durable.
    fn settle(&mut self) {
        self.durable = self.history.len() - 1;
    }

    pub(crate) fn take<S: WalStore>(&mut self, engine: &Engine<S>, step: Step) -> Result<()> {
        match step {
            Step::Post(writer) => drop(self.post(engine, writer, true)?),
            Step::Begin(writer) => drop(self.post(engine, writer, false)?),
            Step::Mistake(wait) => {
                let (state, kept) = (self.history.len() - 1, engine.wal().last_lsn());
                let first = engine.wal().end_lsn();
                let posted = self.post(engine, MISTAKEN, wait);
                if self.history.len() > state + 1 {
                    self.mistakes.get_or_insert((state, kept, first));
                }
                assert!(posted.as_ref().is_ok_and(|lsn| *lsn == first) || posted.is_err());
                posted?;
            }
            Step::Checkpoint => {
                engine.checkpoint()?;
                self.settle();
            }
            Step::UndoFrom | Step::UndoAfter => {
                let Some((state, kept, first)) = self.mistakes else { return Ok(()) };
                match kept {
                    Some(last) if step == Step::UndoAfter => engine.roll_back_after(last)?,
                    _ => engine.roll_back_from(first)?,
                }
                self.mistakes = None;
                self.history.truncate(state + 1);
                self.settle();
            }
        }
        Ok(())
    }

    fn post<S: WalStore>(&mut self, engine: &Engine<S>, writer: u16, wait: bool) -> Result<Lsn> {
        let number = self.history.last().unwrap()[usize::from(writer)];
        let pending = engine.begin(&workload::transaction(writer, number)?)?;
        self.history.push(self.and_one(writer));
        let first = pending.receipt().first;
        if wait {
            pending.wait()?;
            self.settle();
        }
        Ok(first)
    }
}
