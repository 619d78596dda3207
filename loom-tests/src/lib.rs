//! Support for the models of the lock-free kernel: empty unless built with `--cfg loom`.
//!
//! Run them with `RUSTFLAGS="--cfg loom" LOOM_MAX_PREEMPTIONS=2 cargo test -p loom-tests
//! --release`. The models run the production code of the ring, of group commit and of the stages
//! over a disk that keeps written and synced bytes apart.

#![cfg(loom)]

pub use cohort_wal::__loom::{Fault, Model, Notice, TailModel};

/// Bytes of the smallest ring: with two slots it takes units of one empty record.
pub const RING: usize = 64;

/// Frame of an empty record.
pub const EMPTY: u64 = 16;

/// A size that nothing in a model reaches.
pub const VAST: u64 = 1 << 20;

/// Explores every interleaving of `body` within the preemption bound of the environment.
pub fn explore(body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.max_branches = 20_000;
    builder.preemption_bound = builder.preemption_bound.or(Some(2));
    builder.check(body);
}
