//! What the threads of one life did and were told, and what no call may do after that.
//!
//! The book is locked with a mutex that shuttle does not see: between a call's return and its
//! entry no other thread runs, so the entries are in the order of the returns.

use std::sync::{Mutex, MutexGuard, PoisonError};

use cohort_wal::WalError;
use simulation::history::{History, Promise};
use simulation::oracle::{Oracle, Violation};

/// LSN and key of records, in the order they were read.
pub type Seen = Vec<(u64, u64)>;

/// What was known when a call began.
#[derive(Debug, Clone, Default)]
pub struct Before {
    /// The units whose place was known.
    pub covered: Vec<usize>,
    /// Somebody had been told that the log is poisoned.
    pub poisoned: bool,
    /// Somebody had been told that the log is closed.
    pub closed: bool,
}

/// The entries.
#[derive(Debug, Default)]
pub struct Book {
    /// What was done and promised.
    pub history: History,
    /// What the log said last about how far it is durable.
    durable: u64,
    /// What is durable for ever, as of the first call that said the log is poisoned.
    poisoned: Option<u64>,
    closed: bool,
    /// The longest sight of the log that a reader had.
    pub seen: Seen,
    /// The first broken promise.
    violation: Option<Violation>,
    calls: u64,
    /// The call that the computer dies at.
    death: Option<u64>,
    dead: bool,
    /// What was promised until the death.
    frozen: Option<History>,
}

/// One life of a log.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Book>);

impl Ledger {
    /// A life that begins after this history and ends at the store call `death`, from 0.
    #[must_use]
    pub fn new(history: History, death: Option<u64>) -> Self {
        Self(Mutex::new(Book { history, death, ..Book::default() }))
    }

    /// The entries; hold them for no call that others could run in.
    pub fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a store call; true for the one that the computer dies at.
    pub fn call(&self) -> bool {
        let mut book = self.book();
        let dies = !book.dead && book.death == Some(book.calls);
        book.calls += 1;
        if dies {
            book.dead = true;
            book.frozen = Some(book.history.clone());
        }
        dies
    }

    /// Whether the computer is dead.
    pub fn is_dead(&self) -> bool {
        self.book().dead
    }

    /// What was promised until the death.
    pub fn frozen(&self) -> Option<History> {
        self.book().frozen.take()
    }

    /// Enters the beginning of a call; `None` in a dead computer, where nothing begins.
    pub fn begin(&self) -> Option<Before> {
        let book = self.book();
        let begun = !book.dead && book.violation.is_none();
        begun.then(|| Before {
            covered: book.history.covered(),
            poisoned: book.poisoned.is_some(),
            closed: book.closed,
        })
    }

    /// Everything in `covered` is promised that much.
    pub fn promise(&self, covered: &[usize], promise: Promise) {
        let mut book = self.book();
        covered.iter().for_each(|unit| book.history.promise(*unit, promise));
    }

    /// Enters what the log says about how far it is durable, read after the last entry.
    pub fn durable(&self, durable: u64) {
        let mut book = self.book();
        if durable < book.durable {
            let what = format!("durable moved from {} to {durable}", book.durable);
            book.break_promise(Oracle::I8, what);
        }
        if let Some(last) = book.poisoned
            && durable > last
        {
            book.break_promise(Oracle::I10, format!("durable at {durable}, poisoned at {last}"));
        }
        book.durable = durable;
        book.history.saw_durable(durable);
    }

    /// Enters how a call ended and that the log was durable up to `durable` afterwards. On a log
    /// that was poisoned or closed before it began it must have failed.
    pub fn end<T>(&self, what: &str, before: &Before, end: &Result<T, WalError>, durable: u64) {
        self.durable(durable);
        let mut book = self.book();
        match end {
            Err(WalError::Poisoned { .. }) => {
                book.poisoned.get_or_insert(durable);
            }
            Err(WalError::Closed) => book.closed = true,
            Err(WalError::StorageFull { .. }) => {}
            Err(error) => book.break_promise(Oracle::I6, format!("{what}: {error}")),
            Ok(_) if before.poisoned => {
                book.break_promise(Oracle::I10, format!("{what} succeeds on a poisoned log"));
            }
            Ok(_) if before.closed => {
                book.break_promise(Oracle::I10, format!("{what} succeeds on a closed log"));
            }
            Ok(_) => {}
        }
    }

    /// The log is closed.
    pub fn closed(&self) {
        self.book().closed = true;
    }

    /// Enters a broken promise.
    pub fn violation(&self, violation: Violation) {
        self.book().violation.get_or_insert(violation);
    }

    /// Enters what a reader saw: a prefix of what others saw, or longer.
    pub fn saw(&self, seen: Seen) {
        let mut book = self.book();
        if let Err(violation) = agree(&seen, &book.seen) {
            book.violation.get_or_insert(violation);
        }
        if seen.last() > book.seen.last() {
            book.seen = seen;
        }
    }

    /// The first broken promise.
    ///
    /// # Errors
    /// That one.
    pub fn verdict(&self) -> Result<(), Violation> {
        self.book().violation.clone().map_or(Ok(()), Err)
    }
}

impl Book {
    fn break_promise(&mut self, oracle: Oracle, what: String) {
        self.violation.get_or_insert_with(|| Violation::new(oracle, what));
    }

    /// Whether somebody was told that the log is poisoned.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poisoned.is_some()
    }
}

/// Two sights of one log: from the later head on, one is the beginning of the other.
///
/// # Errors
/// [`Oracle::I2`] at the first difference.
pub fn agree(one: &Seen, other: &Seen) -> Result<(), Violation> {
    let head = |seen: &Seen| seen.first().map_or(u64::MAX, |(lsn, _)| *lsn);
    let from = head(one).max(head(other));
    let [one, other] = [one, other].map(|seen| seen.iter().skip_while(move |(lsn, _)| *lsn < from));
    match one.zip(other).find(|(a, b)| a != b) {
        None => Ok(()),
        Some((a, b)) => {
            let what = format!("one reader saw record (lsn, key) {a:?} where another saw {b:?}");
            Err(Violation::new(Oracle::I2, what))
        }
    }
}
