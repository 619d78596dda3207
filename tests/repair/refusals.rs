//! What repair refuses, and that it then changes nothing.

use std::fs;

use cohort_wal::{Lsn, Repair, WalError, WalOptions, repair, repair_store};

use super::canon::{logs, options};
use super::common::directory;
use super::layout::{CONTROL, Files, HEADER_AREA, snapshot_of};
use super::{REBUILD, assert_keeps, lose_control, store_of};

const ALL: [Repair; 3] = [Repair::DryRun, Repair::CutAt(Lsn::new(0)), REBUILD];

#[test]
fn a_log_that_a_writer_has_open_is_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().open(dir.path()).unwrap();
    wal.append_and_sync(b"record").unwrap();
    let before = directory(dir.path());
    for request in ALL {
        let refused = repair(dir.path(), request);
        assert!(matches!(refused, Err(WalError::Locked { .. })), "{request}");
    }
    assert_eq!(directory(dir.path()), before);
    wal.close().unwrap();
    assert!(repair(dir.path(), Repair::DryRun).unwrap().recommended.is_none());
}

#[test]
fn the_lock_is_free_after_every_repair() {
    for request in ALL {
        let dir = tempfile::tempdir().unwrap();
        drop(WalOptions::new().open(dir.path()).unwrap());
        repair(dir.path(), request).unwrap();
        assert!(WalOptions::new().open(dir.path()).is_ok(), "{request}");
    }
}

#[test]
fn what_is_no_log_is_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    for request in ALL {
        let missing = repair(dir.path().join("log"), request);
        assert!(matches!(missing, Err(WalError::NotFound { .. })), "{request}");
        assert!(matches!(repair(dir.path(), request), Err(WalError::NotFound { .. })));
    }
    for name in [CONTROL, "00000000000000000001.wal"] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), "mine").unwrap();
        for request in ALL {
            let foreign = repair(dir.path(), request);
            assert!(matches!(foreign, Err(WalError::NotALog { .. })), "{name} {request}");
            assert_eq!(directory(dir.path()).len(), 1);
        }
    }
}

#[test]
fn a_cut_above_damage_is_refused_and_names_it() {
    let [_, log] = logs();
    let mut files = log.files.clone();
    let hit = &log.frames[3];
    files.get_mut(&hit.file).unwrap()[hit.offset] ^= 1;
    let store = store_of(&files);
    for at in log.history.bounds.range(hit.lsn + 1..) {
        let cut = repair_store(&store, Repair::CutAt(Lsn::new(*at)));
        let Err(WalError::Corruption { start, .. }) = cut else { panic!("{at}: {cut:?}") };
        assert_eq!(start.get(), hit.lsn);
    }
    assert_eq!(store.snapshot(), snapshot_of(&files));
}

#[test]
fn a_cut_needs_a_control() {
    let [_, log] = logs();
    for way in 0..6 {
        let mut files = log.files.clone();
        lose_control(&mut files, way);
        let store = store_of(&files);
        let cut = repair_store(&store, Repair::CutAt(Lsn::new(0)));
        assert!(matches!(cut, Err(WalError::Corruption { .. })), "{way}: {cut:?}");
        assert_eq!(store.snapshot(), snapshot_of(&files), "{way}");
    }
}

#[test]
fn a_log_of_a_newer_version_is_not_repaired() {
    let [_, log] = logs();
    for name in log.files.keys() {
        let mut files = log.files.clone();
        let file = files.get_mut(name).unwrap();
        for at in [0, 4096] {
            file[at + 8] = 9;
            let crc = crc32c::crc32c(&file[at..at + 508]);
            file[at + 508..at + 512].copy_from_slice(&crc.to_le_bytes());
        }
        let store = store_of(&files);
        for request in ALL {
            let refused = repair_store(&store, request);
            let newer = matches!(refused, Err(WalError::UnsupportedVersion { .. }));
            assert!(newer, "{name} {request}: {refused:?}");
        }
        assert_eq!(store.snapshot(), snapshot_of(&files));
    }
}

/// A snapshot file without an image, of the log with these files.
fn snapshot(files: &Files, lsn: u64) -> (String, Vec<u8>) {
    let log_id = &files.get(CONTROL).unwrap_or(&files[&newest(files)])[24..40];
    let mut bytes = vec![0; 536];
    bytes[..8].copy_from_slice(b"COHRTSNP");
    bytes[8] = 1;
    bytes[24..40].copy_from_slice(log_id);
    bytes[40..48].copy_from_slice(&lsn.to_le_bytes());
    let crc = crc32c::crc32c(&bytes[..508]);
    bytes[508..512].copy_from_slice(&crc.to_le_bytes());
    // The end: of no chunks, with no bytes.
    let covered = [log_id, &lsn.to_le_bytes(), &[0; 8 + 4 + 16]].concat();
    let crc = crc32c::crc32c(&covered);
    bytes[516..520].copy_from_slice(&crc.to_le_bytes());
    (format!("{lsn:020}.snap"), bytes)
}

fn newest(files: &Files) -> String {
    files.keys().rfind(|name| name.ends_with(".wal")).unwrap().clone()
}

#[test]
fn a_snapshot_counts_if_it_is_there_and_in_range_and_is_copied_if_it_does_not_count() {
    let [_, log] = logs();
    let mut files = log.files.clone();
    let [low, high] = [log.frames[2].lsn, log.frames[8].lsn];
    let beyond = log.history.end + 8;
    let snapshot = |lsn| snapshot(&log.files, lsn);
    files.extend([low, high, beyond].map(snapshot));
    lose_control(&mut files, 0);
    let store = store_of(&files);
    let rebuild = |lsn| Repair::RebuildControl { snapshot: Some(Lsn::new(lsn)) };
    for wrong in [beyond, low + 8, 0] {
        let refused = repair_store(&store, rebuild(wrong));
        let named = matches!(refused, Err(WalError::InvalidOption { name: "snapshot", .. }));
        assert!(named, "{wrong}: {refused:?}");
    }
    assert_eq!(store.snapshot(), snapshot_of(&files));
    let done = repair_store(&store, rebuild(high)).unwrap();
    assert!(done.still_refused.is_none(), "{done}");
    // Openings remove snapshots that do not count; the copies are there.
    drop(options().open_store(store.clone()).unwrap());
    let after = store.snapshot().into_files();
    assert!(after.contains_key(&snapshot(high).0) && !after.contains_key(&snapshot(low).0));
    assert_keeps(&files, &after, "opened");
    // A log is not cut below the snapshot it counts on.
    let below = repair_store(&store, Repair::CutAt(Lsn::new(log.frames[1].lsn)));
    assert!(matches!(below, Err(WalError::InvalidOption { name: "cut_at", .. })), "{below:?}");
    repair_store(&store, Repair::CutAt(Lsn::new(high))).unwrap();
    assert!(options().open_store(store.clone()).is_ok());
    // One that is missing is refused, until CONTROL is rebuilt without it.
    let mut lost = store.snapshot().into_files();
    lost.remove(&snapshot(high).0);
    let store = store_of(&lost);
    let planned = repair_store(&store, Repair::DryRun).unwrap();
    assert_eq!(planned.recommended, Some(REBUILD), "{planned}");
    assert!(repair_store(&store, REBUILD).unwrap().still_refused.is_none());
    assert!(options().open_store(store).is_ok());
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_not_moved() {
    let [_, log] = logs();
    for name in [CONTROL, log.newest()] {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in &log.files {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        let (link, target) = (dir.path().join(name), dir.path().join("elsewhere"));
        fs::rename(&link, &target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for request in ALL {
            let refused = repair(dir.path(), request);
            let told =
                matches!(refused, Err(WalError::NotALog { .. } | WalError::Corruption { .. }));
            assert!(told, "{name} {request}: {refused:?}");
        }
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }
}

#[test]
fn on_real_files_a_repaired_log_opens_and_the_copies_are_left_alone() {
    let [_, log] = logs();
    let dir = tempfile::tempdir().unwrap();
    let mut files = log.files.clone();
    let hit = &log.frames[log.frames.len() / 2];
    files.get_mut(&hit.file).unwrap()[hit.offset + 4] ^= 1;
    for (name, bytes) in &files {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    let planned = repair(dir.path(), Repair::DryRun).unwrap();
    assert_eq!(directory(dir.path()), files);
    let Some(Repair::CutAt(lsn)) = planned.recommended else { panic!("{planned}") };
    let done = repair(dir.path(), Repair::CutAt(lsn)).unwrap();
    assert_eq!(done.cut, planned.cut);
    let copies = done.cut.unwrap().copies;
    for round in 0..2 {
        let wal = options().open(dir.path()).unwrap();
        assert_eq!(wal.iter().unwrap().count(), log.below(lsn.get()), "{round}");
        assert_eq!(wal.recovery().unknown_files.len(), copies.len());
        wal.close().unwrap();
    }
    assert_keeps(&files, &directory(dir.path()), "reopened");
    for copy in &copies {
        assert_eq!(fs::metadata(&copy.copy).unwrap().len(), copy.bytes);
    }
    assert!(HEADER_AREA > 0 && copies.len() >= 2, "CONTROL and the segment of the cut");
}
