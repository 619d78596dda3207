//! Opens damaged files and decides whether what became of them is right.

use std::panic::{AssertUnwindSafe, catch_unwind};

use cohort_wal::{MemSnapshot, MemStore, Wal, WalError};

use super::layout::{Files, Right};
use super::script::Log;
use crate::oracle::{Oracle, Violation, unchanged};
use crate::record::identify;

/// What became of damage, as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    RefusedAtOpen,
    RefusedOnReading,
    Unharmed,
    /// The log ends here, earlier than it did.
    Tail(u64),
}

fn wrong(oracle: Oracle, what: impl Into<String>) -> Violation {
    Violation::new(oracle, what)
}

fn snapshot_of(files: Files) -> MemSnapshot {
    let mut snapshot = MemSnapshot::default();
    *snapshot.files_mut() = files;
    snapshot
}

/// Everything that a log shows, and the error that ended it. A record with other bytes than were
/// appended has no key.
fn read(wal: &Wal<MemStore>) -> (Vec<(u64, Option<u64>)>, Option<WalError>) {
    let mut shown = Vec::new();
    let mut records = match wal.iter() {
        Ok(records) => records,
        Err(error) => return (shown, Some(error)),
    };
    while let Some(record) = records.read_next() {
        match record {
            Ok(record) => shown.push((record.lsn().get(), identify(record.data()))),
            Err(error) => return (shown, Some(error)),
        }
    }
    (shown, None)
}

/// Whether a refusal calls it damage, and names a file that was touched or is missing.
fn refusal(log: &Log, files: &Files, error: &WalError) -> Result<(), Violation> {
    let path = match error {
        WalError::Corruption { path, .. } | WalError::NotALog { path, .. } => path,
        other => return Err(wrong(Oracle::I7, format!("refused with {other:?}"))),
    };
    let name = path.file_name().and_then(|name| name.to_str());
    let missing = name.is_some_and(|name| !files.contains_key(name));
    if missing || log.layout.touched(files).any(|touched| Some(touched) == name) {
        return Ok(());
    }
    let touched: Vec<_> = log.layout.touched(files).collect();
    Err(wrong(Oracle::I7, format!("{error} blames {name:?}, not one of {touched:?}")))
}

/// Opens a log whose files are `files`, reads it, and compares; `twice`: and opens it again.
pub(super) fn judge(log: &Log, files: &Files, twice: bool) -> Result<Became, Violation> {
    let right = log.layout.right(files);
    let became = catch_unwind(AssertUnwindSafe(|| look(log, files, twice)));
    let became = became.unwrap_or_else(|_| Err(wrong(Oracle::I7, "panicked")))?;
    let allowed = match became {
        Became::RefusedAtOpen | Became::RefusedOnReading => {
            matches!(right, Right::Refused | Right::RefusedOrWhole)
        }
        Became::Unharmed => matches!(right, Right::Whole | Right::RefusedOrWhole),
        Became::Tail(end) => right == Right::EndsAt(end),
    };
    if allowed {
        return Ok(became);
    }
    let silent = matches!(became, Became::Unharmed | Became::Tail(_));
    let kind = if silent { "SILENT" } else { "refused for nothing" };
    Err(wrong(Oracle::I7, format!("{kind}: {became:?}, not {right:?}")))
}

fn look(log: &Log, files: &Files, twice: bool) -> Result<Became, Violation> {
    let store = MemStore::from_snapshot(snapshot_of(files.clone()));
    let options = log.script.options().create(false);
    let wal = match options.clone().open_store(store.clone()) {
        Ok(wal) => wal,
        Err(error) => {
            unchanged(&snapshot_of(files.clone()), &store.snapshot())?;
            return refusal(log, files, &error).map(|()| Became::RefusedAtOpen);
        }
    };
    let (shown, error) = read(&wal);
    let expected = log.known.records.iter().map(|(lsn, key)| (*lsn, Some(*key)));
    if !shown.iter().copied().eq(expected.take(shown.len())) {
        return Err(wrong(Oracle::I7, "SILENT: shows what is no prefix"));
    }
    if let Some(error) = error {
        return refusal(log, files, &error).map(|()| Became::RefusedOnReading);
    }
    let end = wal.end_lsn().get();
    if shown.len() != log.known.below(end) || wal.recovery().end.get() != end {
        let what = format!("SILENT: {} records, end {end}", shown.len());
        return Err(wrong(Oracle::I7, what));
    }
    drop(wal);
    if twice {
        // What was shown once stays.
        let again = options.open_store(store);
        let again = again.map_err(|e| wrong(Oracle::I5, format!("the second open fails: {e}")))?;
        if read(&again).0 != shown || again.end_lsn().get() != end {
            return Err(wrong(Oracle::I5, "shows something else the second time"));
        }
    }
    Ok(if end == log.layout.end { Became::Unharmed } else { Became::Tail(end) })
}
