//! Opening has several outcomes that must not be taken for one another: each is made here, and told
//! by what the program says and by its exit code.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/forge.rs"]
mod forge;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cohort_wal::{Lsn, WalError};
use tempfile::TempDir;
use vector_log::{Collections, Error, KeyRing, VectorLog, workload};

use common::{copy, replayed, run, segments, smallest};

const DIMS: u32 = 32;
const BATCHES: u64 = 8;

/// A log of several segments, as a process leaves it that dies: everything acknowledged but the
/// last record, which is with the operating system.
struct Crashed {
    dir: TempDir,
    unacknowledged: Lsn,
}

impl Crashed {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = KeyRing::create(&dir.path().join("keys")).unwrap();
        let wal = smallest().encryption(Arc::new(keys)).open(dir.path().join("live")).unwrap();
        let log = VectorLog::open(Arc::new(wal), None).unwrap();
        workload::write(&log, DIMS, &[0], BATCHES, |_, _| ()).unwrap();
        // The drop of collection 0, as the log has it: not acknowledged, because nobody waited.
        let unacknowledged = log.wal().append(&[2, 0, 0, 0, 0]).unwrap();
        log.wal().flush().unwrap();
        copy(&dir.path().join("live"), &dir.path().join("log"));
        Self { dir, unacknowledged }
    }

    fn log(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    fn keys(&self) -> PathBuf {
        self.dir.path().join("keys")
    }

    fn open(&self) -> vector_log::Result<VectorLog> {
        let keys = Arc::new(KeyRing::open(&self.keys())?);
        VectorLog::open(Arc::new(smallest().encryption(keys).open(self.log())?), None)
    }

    /// Runs `replay`; returns its exit code, and what it says on stdout and stderr.
    fn replay(&self, keys: &Path, more: &[&str]) -> (i32, String, String) {
        let output = run("replay", &self.log(), keys, more);
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    /// Opening is refused with this code and these words.
    #[track_caller]
    fn refused(&self, keys: &Path, more: &[&str], code: i32, words: &str) {
        let (found, out, error) = self.replay(keys, more);
        assert_eq!((found, out.as_str()), (code, ""), "{error}");
        assert!(error.starts_with(&format!("vector-log: {words}: ")), "{error}");
    }
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn another_key_is_a_wrong_key_and_no_damage() {
    let crashed = Crashed::new();
    let other = crashed.dir.path().join("other");
    KeyRing::create(&other).unwrap();
    let before = files(&crashed.log());
    crashed.refused(&other, &[], 3, "wrong key");
    assert!(before == files(&crashed.log()), "nothing was touched");
    // Nothing is wrong with the log.
    assert_eq!(crashed.replay(&crashed.keys(), &[]).0, 0);
}

#[test]
fn a_forged_record_is_tampering_wherever_it_is() {
    for segment in [0, 1] {
        let crashed = Crashed::new();
        let segments = segments(&crashed.log());
        assert!(segments.len() > 2);
        let lsn = forge::flip(&segments[segment], 1, true);
        let error = crashed.open().unwrap_err();
        assert!(
            matches!(&error, Error::Wal(WalError::Tampered { lsn: at }) if at.get() == lsn),
            "{error:?}"
        );
    }
    let crashed = Crashed::new();
    // The newest one of those that were acknowledged: opening reads that segment on its own.
    let newest = segments(&crashed.log()).pop().unwrap();
    forge::flip(&newest, -2, true);
    crashed.refused(&crashed.keys(), &[], 4, "tampered with");
}

#[test]
fn a_plain_log_in_the_place_of_the_encrypted_one_is_tampering() {
    let crashed = Crashed::new();
    std::fs::remove_dir_all(crashed.log()).unwrap();
    let log = VectorLog::open(Arc::new(smallest().open(crashed.log()).unwrap()), None).unwrap();
    workload::write(&log, DIMS, &[0], 1, |_, _| ()).unwrap();
    log.wal().close().unwrap();
    let before = files(&crashed.log());
    crashed.refused(&crashed.keys(), &[], 4, "tampered with");
    assert!(before == files(&crashed.log()), "nothing was touched");
}

#[test]
fn plain_segments_before_encrypted_ones_are_tampering() {
    let crashed = Crashed::new();
    // Collections, as somebody without the key would like them to be.
    forge::make_plain(&segments(&crashed.log())[0], &[1, 9, 0, 0, 0, 1, 0, 0, 0]);
    let before = files(&crashed.log());
    crashed.refused(&crashed.keys(), &[], 4, "tampered with");
    assert!(before == files(&crashed.log()), "nothing was touched");
}

#[test]
fn a_torn_tail_is_cut_where_it_begins_and_costs_nothing_that_was_acknowledged() {
    let crashed = Crashed::new();
    let newest = segments(&crashed.log()).pop().unwrap();
    let lsn = forge::flip(&newest, -1, false);
    assert_eq!(lsn, crashed.unacknowledged.get());
    let (code, out, error) = crashed.replay(&crashed.keys(), &[]);
    assert_eq!((code, error.as_str()), (5, ""), "{out}");
    assert!(out.starts_with(&format!("outcome: torn tail at LSN {lsn}, ")), "{out}");
    assert!(out.contains("base (head): LSN 0\nhighest: LSN "), "{out}");
    let points = BATCHES * workload::BATCH;
    assert!(out.contains(&format!("{points} points of {DIMS} floats")), "{out}");
    // It has been cut.
    let (code, out, _) = crashed.replay(&crashed.keys(), &[]);
    assert_eq!(code, 0);
    assert!(out.starts_with("outcome: whole and authentic\n"), "{out}");
    let log = crashed.open().unwrap();
    assert_eq!(log.opening().torn, None);
    let found = replayed(&log, &Collections::default());
    assert_eq!(workload::held(&found, 1).unwrap(), [BATCHES]);
}

#[test]
fn what_opening_finds_is_told() {
    let crashed = Crashed::new();
    let lsn = forge::flip(&segments(&crashed.log()).pop().unwrap(), -1, false);
    let opening = *crashed.open().unwrap().opening();
    let torn = opening.torn.unwrap();
    assert_eq!(torn.at.get(), lsn);
    assert!(torn.bytes > 0 && opening.base == Lsn::default());
    assert!(opening.highest.unwrap() < torn.at);
    assert_eq!(opening.records, 1 + BATCHES * workload::BATCH);
}

#[test]
fn damage_to_what_was_acknowledged_is_neither() {
    let crashed = Crashed::new();
    forge::flip(&segments(&crashed.log())[0], 1, false);
    crashed.refused(&crashed.keys(), &[], 7, "damaged");
}

#[test]
fn a_manifest_that_is_older_than_the_log_s_is_refused() {
    let crashed = Crashed::new();
    let checkpoint = |manifest| {
        let output = run("checkpoint", &crashed.log(), &crashed.keys(), &["--manifest", manifest]);
        output.status.code().unwrap()
    };
    assert_eq!(checkpoint("5"), 0);
    crashed.refused(&crashed.keys(), &["--manifest", "4"], 6, "old manifest");
    assert_eq!(checkpoint("4"), 6);
    for manifest in ["5", "6"] {
        let (code, out, _) = crashed.replay(&crashed.keys(), &["--manifest", manifest]);
        assert_eq!(code, 0);
        assert!(out.contains("checkpoint: manifest 5 has all up to LSN "), "{out}");
    }
}

#[test]
fn keys_are_added_and_never_replaced() {
    let crashed = Crashed::new();
    let (log, keys) = (crashed.log(), crashed.keys());
    let again = common::program().arg("keygen").arg(&keys).output().unwrap();
    assert_eq!(again.status.code(), Some(1));
    let first = std::fs::read(keys.join("1.key")).unwrap();
    let rotated = run("rotate", &log, &keys, &[]);
    assert!(rotated.status.success(), "{rotated:?}");
    assert!(rotated.stdout.starts_with(b"key 2 from LSN "));
    assert_eq!(std::fs::read(keys.join("1.key")).unwrap(), first);
    let written = run("write", &log, &keys, &["--threads", "2", "--batches", "3"]);
    assert!(written.status.success(), "{written:?}");
    // Both keys are needed as long as the log goes back that far.
    for missing in ["1.key", "2.key"] {
        let aside = crashed.dir.path().join(missing);
        std::fs::rename(keys.join(missing), &aside).unwrap();
        crashed.refused(&keys, &[], 3, "wrong key");
        std::fs::rename(aside, keys.join(missing)).unwrap();
    }
    // Once all of that is captured the first one is not.
    let checkpoint = run("checkpoint", &log, &keys, &["--manifest", "1"]);
    assert!(checkpoint.status.success(), "{checkpoint:?}");
    std::fs::remove_file(keys.join("1.key")).unwrap();
    assert_eq!(crashed.replay(&keys, &[]).0, 0);
}
