//! What the tests share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io::Read;
use std::sync::Arc;

use cohort_wal::{WalOptions, WalStore};
use kv_snapshot::{Result, Store, workload};

/// So little that a few dozen commits take several segments and compactions.
pub(crate) const COMPACT_ABOVE: u64 = 3 << 10;

pub(crate) fn options() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

pub(crate) fn load<S: WalStore>(disk: S) -> Result<Store<S>> {
    Store::load(Arc::new(options().open_store(disk)?), COMPACT_ABOVE)
}

/// How many commits of each writer are held, each of them whole.
pub(crate) fn held<S: WalStore>(store: &Store<S>, writers: usize) -> Vec<u64> {
    workload::held(&store.view().unwrap(), writers).unwrap_or_else(|found| panic!("{found}"))
}

/// Makes commit `n` of writer 0.
pub(crate) fn commit<S: WalStore>(store: &Store<S>, n: u64) -> Result<()> {
    store.commit(workload::changes(0, n)?)
}

/// The image of the snapshot that counts.
pub(crate) fn image<S: WalStore>(store: &Store<S>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let snapshot = store.wal().snapshots().unwrap().latest().unwrap();
    snapshot.expect("there was a compaction").read_to_end(&mut bytes).unwrap();
    bytes
}
