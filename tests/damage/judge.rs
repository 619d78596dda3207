//! Damages copies of a log, opens them, and counts what became of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use cohort_wal::{MemStore, Wal, WalError};

use super::canon::options;
use super::layout::{Files, Log, Right, snapshot_of};

/// What became of one damaged copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    RefusedAtOpen,
    RefusedOnReading,
    Unharmed,
    /// The log ends earlier, where it may.
    Tail(u64),
    /// Something else was shown, and nobody was told.
    Silent(String),
    /// Nothing wrong was shown, but something else is wrong.
    Wrong(String),
}

/// Everything that a log shows, and the error that ended it.
fn read(wal: &Wal<MemStore>) -> (Vec<(u64, Vec<u8>)>, Option<WalError>) {
    let mut shown = Vec::new();
    let records = match wal.iter() {
        Ok(records) => records,
        Err(error) => return (shown, Some(error)),
    };
    for record in records {
        match record {
            Ok(record) => shown.push((record.lsn().get(), record.into_data())),
            Err(error) => return (shown, Some(error)),
        }
    }
    (shown, None)
}

/// A refusal calls it damage, and names a file that was touched.
fn refusal(log: &Log, files: &Files, error: &WalError, outcome: Outcome) -> Outcome {
    let path = match error {
        WalError::Corruption { path, .. } | WalError::NotALog { path, .. } => path,
        WalError::NotFound { .. } if files.is_empty() => return outcome,
        other => return Outcome::Wrong(format!("refused with {other:?}")),
    };
    let touched = log.touched(files);
    match path.file_name().and_then(|name| name.to_str()) {
        Some(name) if touched.contains(name) => outcome,
        _ => Outcome::Wrong(format!("{error} blames {}, not {touched:?}", path.display())),
    }
}

/// Opens a copy of the log whose files are `files`, reads everything, and compares.
pub(crate) fn judge(log: &Log, files: &Files) -> Outcome {
    let right = log.right(files);
    let outcome = catch_unwind(AssertUnwindSafe(|| look(log, files)));
    let outcome = outcome.unwrap_or_else(|_| Outcome::Wrong("panicked".to_owned()));
    let allowed = match &outcome {
        Outcome::RefusedAtOpen | Outcome::RefusedOnReading => {
            matches!(right, Right::Refused | Right::RefusedOrWhole)
        }
        Outcome::Unharmed => matches!(right, Right::Whole | Right::RefusedOrWhole),
        Outcome::Tail(end) => right == Right::EndsAt(*end),
        Outcome::Silent(_) | Outcome::Wrong(_) => true,
    };
    match outcome {
        outcome if allowed => outcome,
        Outcome::Unharmed | Outcome::Tail(_) => Outcome::Silent(format!("{outcome:?}, {right:?}")),
        other => Outcome::Wrong(format!("{other:?}, {right:?}")),
    }
}

fn look(log: &Log, files: &Files) -> Outcome {
    let before = snapshot_of(files);
    let store = MemStore::from_snapshot(before.clone());
    let wal = match options().create(false).open_store(store.clone()) {
        Ok(wal) => wal,
        Err(_) if store.snapshot() != before => {
            return Outcome::Wrong("refused and changed".to_owned());
        }
        Err(error) => return refusal(log, files, &error, Outcome::RefusedAtOpen),
    };
    let (shown, error) = read(&wal);
    let expected = &log.history.records;
    if expected.get(..shown.len()) != Some(&shown) {
        return Outcome::Silent("shows what is no prefix".to_owned());
    }
    if let Some(error) = error {
        return refusal(log, files, &error, Outcome::RefusedOnReading);
    }
    let end = wal.end_lsn().get();
    if shown.len() != log.below(end) || wal.recovery().end.get() != end {
        return Outcome::Silent(format!("{} records, end {end}", shown.len()));
    }
    drop(wal);
    // What was shown once stays.
    match options().create(false).open_store(store) {
        Ok(again) if read(&again).0 == shown && again.end_lsn().get() == end => {}
        Ok(_) => return Outcome::Silent("shows something else the second time".to_owned()),
        Err(error) => return Outcome::Wrong(format!("the second open fails: {error}")),
    }
    if end == log.history.end { Outcome::Unharmed } else { Outcome::Tail(end) }
}

/// The outcomes of a sweep, counted.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cases: usize,
    pub(crate) at_open: usize,
    pub(crate) on_reading: usize,
    pub(crate) unharmed: usize,
    pub(crate) tail: usize,
    /// The lowest end of a log that was cut.
    pub(crate) lowest_end: Option<u64>,
    silent: Vec<String>,
    wrong: Vec<String>,
}

impl Tally {
    fn add(&mut self, case: usize, outcome: Outcome) {
        self.cases += 1;
        match outcome {
            Outcome::RefusedAtOpen => self.at_open += 1,
            Outcome::RefusedOnReading => self.on_reading += 1,
            Outcome::Unharmed => self.unharmed += 1,
            Outcome::Tail(end) => {
                self.tail += 1;
                self.lowest_end = Some(self.lowest_end.map_or(end, |lowest| lowest.min(end)));
            }
            Outcome::Silent(what) => self.silent.push(format!("case {case}: {what}")),
            Outcome::Wrong(what) => self.wrong.push(format!("case {case}: {what}")),
        }
    }

    pub(crate) fn refused(&self) -> usize {
        self.at_open + self.on_reading
    }

    /// Nothing silent, nothing wrong.
    pub(crate) fn check(&self, what: &str) {
        let some = |list: &[String]| list.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
        let (silent, wrong) = (self.silent.len(), self.wrong.len());
        assert_eq!(silent, 0, "{what}: silent\n{}", some(&self.silent));
        assert_eq!(wrong, 0, "{what}: wrong\n{}", some(&self.wrong));
    }

    fn merge(&mut self, other: &Self) {
        self.cases += other.cases;
        self.at_open += other.at_open;
        self.on_reading += other.on_reading;
        self.unharmed += other.unharmed;
        self.tail += other.tail;
        self.silent.extend_from_slice(&other.silent);
        self.wrong.extend_from_slice(&other.wrong);
    }

    fn row(&self, what: &str, log: &str) -> String {
        let Self { cases, at_open, on_reading, unharmed, tail, silent, .. } = self;
        let silent = silent.len();
        let refused = format!("{at_open} | {on_reading}");
        format!("| {what} | {log} | {cases} | {refused} | {unharmed} | {tail} | {silent} |")
    }
}

const TITLE: &str = "| damage | log | cases | refused at open | refused on reading | unharmed \
                     | last cohorts only | silent |";

/// Rows of a table, printed in one piece and checked when all are there.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// What was done to which log, and what became of it.
    rows: Vec<(String, &'static str, Tally)>,
}

impl Table {
    /// Damages copies of `log` in `count` ways, each `stride`-th of which is tried. Sweeps of the
    /// same name share a row.
    pub(crate) fn sweep(
        &mut self,
        log: &Log,
        what: &str,
        (count, stride): (usize, usize),
        damage: impl Fn(usize, &mut Files) + Sync,
    ) -> Tally {
        let tally = Mutex::new(Tally::default());
        let next = AtomicUsize::new(0);
        let work = || {
            loop {
                let case = next.fetch_add(1, Ordering::Relaxed) * stride;
                if case >= count {
                    return;
                }
                let mut files = log.files.clone();
                damage(case, &mut files);
                let outcome = judge(log, &files);
                tally.lock().unwrap().add(case, outcome);
            }
        };
        let workers = thread::available_parallelism().map_or(2, usize::from).min(8);
        thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(work);
            }
        });
        let tally = tally.into_inner().unwrap();
        let what = if stride == 1 { what.to_owned() } else { format!("{what}, 1 in {stride}") };
        match self.rows.iter_mut().find(|row| (&row.0, row.1) == (&what, log.name)) {
            Some(row) => row.2.merge(&tally),
            None => {
                let mut row = Tally::default();
                row.merge(&tally);
                self.rows.push((what, log.name, row));
            }
        }
        tally
    }

    /// Prints the rows and fails if any of them holds what must not be.
    pub(crate) fn finish(self) {
        let rows = self.rows.iter().map(|(what, log, tally)| tally.row(what, log));
        let text = rows.collect::<Vec<_>>().join("\n");
        #[expect(clippy::print_stdout, reason = "the table goes into the documents")]
        {
            println!("{TITLE}\n|---|---|---|---|---|---|---|---|\n{text}\n");
        }
        assert!(!self.rows.is_empty());
        for (what, log, tally) in &self.rows {
            assert!(tally.cases > 0, "{what}, {log}: nothing was tried");
            tally.check(&format!("{what}, {log}"));
        }
    }
}

/// Whether everything is tried, not a sample.
pub(crate) fn exhaustive() -> bool {
    std::env::var_os("COHORT_WAL_EXHAUSTIVE").is_some_and(|value| value == "1")
}

/// Cases and stride: all of them in the exhaustive version.
pub(crate) fn sample(count: usize, stride: usize) -> (usize, usize) {
    (count, if exhaustive() { 1 } else { stride })
}
