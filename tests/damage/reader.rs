//! A reader without the lock, on real files: the same damage, and nothing above the newest
//! witness.

use std::fs;
use std::path::Path;

use cohort_wal::WalError;

use super::canon::{logs, options};
use super::judge::exhaustive;
use super::layout::{Files, HEADER_AREA, Log, Right};
use crate::common::{Dice, directory};

type Shown = (u64, Vec<(u64, Vec<u8>)>);

/// What a reader shows, and where it says that the log ends.
fn show(dir: &Path) -> Result<Shown, WalError> {
    let reader = options().open_read_only(dir)?;
    let mut shown = Vec::new();
    for record in reader.iter()? {
        let record = record?;
        shown.push((record.lsn().get(), record.into_data()));
    }
    Ok((reader.end_lsn().get(), shown))
}

/// True when the reader refused.
fn assert_reads_rightly(log: &Log, dir: &Path, files: &Files, what: &str) -> bool {
    for name in log.files.keys() {
        match files.get(name) {
            Some(bytes) => fs::write(dir.join(name), bytes).unwrap(),
            None => drop(fs::remove_file(dir.join(name))),
        }
    }
    let read = show(dir);
    assert_eq!(directory(dir), *files, "{what}: a reader changes nothing");
    let right = log.survivors(files);
    match (read, right) {
        (Ok((end, shown)), Some((Right::Whole | Right::EndsAt(_), witness))) => {
            assert_eq!(end, witness, "{what}");
            assert_eq!(shown, log.history.records[..log.below(witness)], "{what}");
            false
        }
        (Err(error), Some((Right::Refused, _))) => {
            assert!(error.is_corruption(), "{what}: {error}");
            true
        }
        (Err(WalError::Corruption { .. } | WalError::NotFound { .. }), None) => true,
        (read, right) => panic!("{what}: {right:?}, but {read:?}"),
    }
}

#[test]
fn a_reader_without_the_lock_shows_what_is_witnessed_or_refuses() {
    let place = tempfile::tempdir().unwrap();
    for log in &logs() {
        let dir = place.path().join(log.name);
        fs::create_dir(&dir).unwrap();
        let (mut refused, mut shown) = (0, 0);
        let mut check = |files: &Files, what: &str| {
            let count = if assert_reads_rightly(log, &dir, files, what) {
                &mut refused
            } else {
                &mut shown
            };
            *count += 1;
        };
        check(&log.files, "undamaged");
        for (name, bytes) in &log.files {
            let mut missing = log.files.clone();
            missing.remove(name);
            check(&missing, &format!("{name} missing"));
            for at in (0..bytes.len()).step_by(512) {
                let mut files = log.files.clone();
                let end = bytes.len().min(at + 512);
                files.get_mut(name).unwrap()[at..end].fill(0);
                check(&files, &format!("zeros at {at} of {name}"));
            }
        }
        let mut dice = Dice::new(1);
        let flips = if exhaustive() { 5_000 } else { 300 };
        for _ in 0..flips {
            let mut files = log.files.clone();
            let at = usize::try_from(dice.below(files.len() as u64)).unwrap();
            let name = files.keys().nth(at).unwrap().clone();
            let file = files.get_mut(&name).unwrap();
            // Half of them into frames, as far as there are any.
            let from = if dice.below(2) == 0 { HEADER_AREA.min(file.len() - 1) } else { 0 };
            let at = from + usize::try_from(dice.below((file.len() - from) as u64)).unwrap();
            let bit = dice.below(8);
            file[at] ^= 1 << bit;
            check(&files, &format!("bit {bit} at {at} of {name}"));
        }
        assert!(refused > 20 && shown > 20, "{}: {refused} refused, {shown} shown", log.name);
    }
}
