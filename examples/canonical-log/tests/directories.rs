//! Directories that hold the files of others: refused or shared, and those files stay as they are.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use canonical_log::{CanonicalLog, Error, Result};
use cohort_wal::{MemStore, Wal, WalError};

use common::{options, view};

/// Every file below a directory, byte for byte.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let bytes = |path: &Path| fs::read(path).unwrap_or_else(|_| b"no file".to_vec());
    entries.map(|entry| (name(&entry.path()), bytes(&entry.path()))).collect()
}

fn open(dir: &Path) -> Result<CanonicalLog> {
    CanonicalLog::open(options(), dir)
}

/// Does everything that changes files.
fn work(dir: &Path) {
    for round in 0..3 {
        let log = open(dir).unwrap();
        for _ in 0..20 {
            log.append(&[round; 1000]).unwrap();
        }
        let place = log.checkpoint().unwrap();
        log.append(b"to be cut").unwrap();
        log.checkpoint().unwrap();
        log.cut_to(place.lsn).unwrap();
        log.forget_before(place.lsn).unwrap();
        log.append(b"an orphan").unwrap();
        log.wal().close().unwrap();
    }
    assert_eq!(open(dir).unwrap().orphans(), 1);
}

#[test]
fn what_looks_like_a_log_and_is_none_is_refused_and_stays() {
    let zeros = vec![0; 64 << 10];
    let texts: [&[u8]; 5] = [b"", b"of another program", b"COHORT", b"CANON01e", &zeros];
    for name in ["CONTROL", "00000000000000000001.wal", "00000000000000000000.snap"] {
        for text in texts {
            let dir = tempfile::tempdir().unwrap();
            fs::write(dir.path().join(name), text).unwrap();
            fs::write(dir.path().join("beside"), "it").unwrap();
            let before = files(dir.path());
            let refused = open(dir.path()).unwrap_err();
            assert!(matches!(refused, Error::Wal(WalError::NotALog { .. })), "{name}: {refused}");
            assert_eq!(files(dir.path()), before, "{name}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("CONTROL")).unwrap();
    let before = files(dir.path());
    assert!(matches!(open(dir.path()), Err(Error::Wal(WalError::NotALog { .. }))));
    assert_eq!(files(dir.path()), before);
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    assert!(open(&file).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
}

#[test]
fn the_log_of_another_program_is_refused_and_stays() {
    let records: [&[u8]; 5] = [b"", b"a record", b"CANON01", b"CANON01c12345", b"CANON02e"];
    for record in records {
        for closed in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            let wal = Wal::open(dir.path()).unwrap();
            for _ in 0..3 {
                wal.append_and_sync(record).unwrap();
            }
            if closed {
                wal.close().unwrap();
            }
            let before = files(dir.path());
            let refused = open(dir.path()).unwrap_err();
            assert!(matches!(refused, Error::Foreign(lsn) if lsn.get() == 0), "{refused}");
            assert_eq!(files(dir.path()), before);
            drop(wal);
            assert_eq!(Wal::open(dir.path()).unwrap().iter().unwrap().count(), 3);
        }
    }
}

#[test]
fn so_does_one_in_a_store_that_is_no_directory() {
    let store = MemStore::new();
    options().open_store(store.clone()).unwrap().append_and_sync(b"a record").unwrap();
    let before = store.snapshot();
    let refused = CanonicalLog::open_store(options(), store.clone()).unwrap_err();
    assert!(matches!(refused, Error::Foreign(lsn) if lsn.get() == 0), "{refused}");
    assert!(store.snapshot() == before, "nothing was touched");
}

#[test]
fn records_of_another_program_behind_ours_are_not_cut() {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path()).unwrap();
    log.append(b"ours").unwrap();
    log.wal().append_and_sync(b"theirs").unwrap();
    log.wal().close().unwrap();
    for _ in 0..2 {
        assert!(matches!(open(dir.path()), Err(Error::Foreign(_))));
        assert_eq!(Wal::open(dir.path()).unwrap().iter().unwrap().count(), 2);
    }
}

#[test]
fn files_of_other_names_are_left_alone_whatever_the_log_does() {
    let dir = tempfile::tempdir().unwrap();
    let others: [(&str, &[u8]); 6] = [
        ("LOCK", b""),
        ("CURRENT", b"MANIFEST-000001\n"),
        ("000003.log", b"of another log"),
        ("1.wal", b"mine"),
        ("control", b"lower case"),
        ("wal.tmp", b"half of something"),
    ];
    for (name, bytes) in others {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    work(dir.path());
    let after = files(dir.path());
    for (name, bytes) in others {
        assert_eq!(after[name], bytes, "{name}");
    }
}

#[test]
fn a_foreign_file_among_the_segments_is_refused_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    work(dir.path());
    let kept = view(&open(dir.path()).unwrap());
    let foreign = dir.path().join("00000000000000000999.wal");
    fs::write(&foreign, "somebody put it there").unwrap();
    let before = files(dir.path());
    let refused = open(dir.path()).unwrap_err();
    assert!(matches!(refused, Error::Wal(WalError::NotALog { .. })), "{refused}");
    assert_eq!(files(dir.path()), before);
    fs::remove_file(&foreign).unwrap();
    assert_eq!(view(&open(dir.path()).unwrap()), kept);
}
