//! Opens damaged files and decides whether what became of them is right.

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cohort_wal::{Lsn, MemSnapshot, MemStore, StoreFile, Wal, WalError, WalStore};

use super::layout::{Files, Image, Opened, Right, Ruling, image_name, is_image, is_segment};
use super::script::Log;
use crate::oracle::{Oracle, Violation, image, unchanged};
use crate::record::identify;

/// What became of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Became {
    RefusedAtOpen,
    RefusedOnReading,
    Opened(Opened),
}

fn wrong(oracle: Oracle, what: impl Into<String>) -> Violation {
    Violation::new(oracle, what)
}

fn silent(what: impl std::fmt::Display) -> Violation {
    wrong(Oracle::I7, format!("SILENT: {what}"))
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
        WalError::NotFound { .. } if files.is_empty() => return Ok(()),
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
    let ruling = log.layout.rule(files);
    let became = catch_unwind(AssertUnwindSafe(|| look(log, files, &ruling, twice)));
    let became = became.unwrap_or_else(|_| Err(wrong(Oracle::I7, "panicked")))?;
    let allowed = match became {
        Became::RefusedAtOpen | Became::RefusedOnReading => ruling.right == Right::Refused,
        Became::Opened(opened) => ruling.right == Right::Opens(opened),
    };
    if allowed {
        return Ok(became);
    }
    let kind = match became {
        Became::Opened(_) => "SILENT",
        _ => "refused for nothing",
    };
    Err(wrong(Oracle::I7, format!("{kind}: {became:?}, not {:?}", ruling.right)))
}

fn look(log: &Log, files: &Files, ruling: &Ruling, twice: bool) -> Result<Became, Violation> {
    let store = MemStore::from_snapshot(snapshot_of(files.clone()));
    let options = log.script.options().create(false);
    let wal = match options.clone().open_store(store.clone()) {
        Ok(wal) => wal,
        Err(error) => {
            unchanged(&snapshot_of(files.clone()), &store.snapshot())?;
            return refusal(log, files, &error).map(|()| Became::RefusedAtOpen);
        }
    };
    no_leftovers(&wal, &store)?;
    let (shown, error) = read(&wal);
    let expected = ruling.records.iter().map(|(lsn, key)| (*lsn, Some(*key)));
    if !shown.iter().copied().eq(expected.take(shown.len())) {
        return Err(silent("shows what is no prefix"));
    }
    let is_known = |(lsn, key): &(u64, Option<u64>)| log.known.records.get(lsn).copied() == *key;
    if log.layout.knows_cuts(files) && !shown.iter().all(is_known) {
        return Err(silent("shows what was cut off"));
    }
    if let Some(error) = error {
        return refusal(log, files, &error).map(|()| Became::RefusedOnReading);
    }
    let opened = Opened {
        head: wal.head_lsn().get(),
        end: wal.end_lsn().get(),
        image: read_image(log, files, &wal)?,
    };
    let report = wal.recovery();
    let reported = [report.head, report.end].map(Lsn::get);
    if shown.len() != ruling.records.len() || reported != [opened.head, opened.end] {
        return Err(silent(format!("{} records, {opened:?}, {reported:?}", shown.len())));
    }
    drop(wal);
    if twice {
        // What was shown once stays.
        let again = options.open_store(store);
        let again = again.map_err(|e| wrong(Oracle::I5, format!("the second open fails: {e}")))?;
        let now = Opened {
            head: again.head_lsn().get(),
            end: again.end_lsn().get(),
            image: read_image(log, files, &again)?,
        };
        if read(&again).0 != shown || now != opened {
            return Err(wrong(Oracle::I5, "shows something else the second time"));
        }
    }
    Ok(Became::Opened(opened))
}

/// The snapshot that counts: its image as it was written, or an error that names it.
fn read_image(log: &Log, files: &Files, wal: &Wal<MemStore>) -> Result<Image, Violation> {
    let latest = wal.snapshots().and_then(|snapshots| snapshots.latest());
    let mut latest = match latest {
        Ok(None) => return Ok(Image::None),
        Ok(Some(latest)) => latest,
        Err(error) => {
            refusal(log, files, &error)?;
            let lsn = wal.head_lsn().get();
            let text = error.to_string();
            let names = text.contains(&image_name(lsn));
            return names.then_some(Image::Damaged(lsn)).ok_or_else(|| wrong(Oracle::I7, text));
        }
    };
    let (lsn, mut bytes) = (latest.lsn().get(), Vec::new());
    match latest.read_to_end(&mut bytes) {
        Ok(_) if bytes == image(lsn) => Ok(Image::Whole(lsn)),
        read => Err(silent(format!("the snapshot at {lsn} was verified; {read:?}"))),
    }
}

/// What does not count is gone once the log is open: dead segments, and other snapshots, if they
/// begin as some.
fn no_leftovers(wal: &Wal<MemStore>, store: &MemStore) -> Result<(), Violation> {
    let names = store.list().unwrap_or_default();
    let segments = names.iter().filter(|name| is_segment(name)).count() as u64;
    let counts = image_name(wal.head_lsn().get());
    let is_left = |name: &String| {
        if !is_image(name) || *name == counts {
            return false;
        }
        let mut magic = [0; 8];
        let read = store.open(name).and_then(|file| file.read_at(0, &mut magic));
        read.is_ok() && magic == *b"COHRTSNP"
    };
    if segments == wal.recovery().segments && !names.iter().any(is_left) {
        return Ok(());
    }
    let live = wal.recovery().segments;
    Err(wrong(Oracle::I11, format!("{live} live segments, head {}: {names:?}", wal.head_lsn())))
}
