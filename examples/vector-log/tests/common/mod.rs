//! What tests of this program have in common.

#![allow(dead_code, reason = "no test uses all of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

use cohort_wal::sim::SimStore;
use cohort_wal::{Wal, WalOptions, WalStore};
use vector_log::{Collections, KeyRing, Result, VectorLog};

/// Small segments and a small ring, so that little data goes through many of them.
pub(crate) fn smallest() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

/// A disk that has a log, and its keys too: what cuts its power cuts it for both.
pub(crate) type Keys = Arc<KeyRing<SimStore>>;

/// Opens the log and the keys that are on a disk; the first key is drawn if there is none.
pub(crate) fn open(
    disk: &SimStore,
    manifest: Option<u64>,
) -> Result<(Arc<VectorLog<SimStore>>, Keys)> {
    let keys = Arc::new(KeyRing::load(disk.clone())?);
    if !disk.list().unwrap().iter().any(|name| name.ends_with(".key")) {
        keys.add()?;
    }
    let wal: Wal<SimStore> = smallest().encryption(keys.clone()).open_store(disk.clone())?;
    Ok((Arc::new(VectorLog::open(Arc::new(wal), manifest)?), keys))
}

/// What the log makes of what the files of the database hold.
pub(crate) fn replayed<S: WalStore>(log: &VectorLog<S>, files: &Collections) -> Collections {
    let mut collections = files.clone();
    log.replay(|_, change| collections.apply(change)).unwrap();
    collections
}

/// The program.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_vector-log"))
}

/// Runs the program on a directory with a log and a directory with keys.
pub(crate) fn run(command: &str, log: &Path, keys: &Path, more: &[&str]) -> Output {
    program().arg(command).args([log, keys]).args(more).output().unwrap()
}

/// The segments in a directory, oldest first.
pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> =
        names.filter(|path| path.extension().is_some_and(|end| end == "wal")).collect();
    segments.sort();
    segments
}

/// Copies the files of a directory: what a process that dies now leaves.
pub(crate) fn copy(source: &Path, target: &Path) {
    std::fs::create_dir(target).unwrap();
    for entry in std::fs::read_dir(source).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
    }
}
