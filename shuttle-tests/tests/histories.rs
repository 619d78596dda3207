//! Generated histories, each under one schedule that its seed decides.
//!
//! Method: threads work on a log on a disk with faults; the computer dies at some store call, or
//! at the end; what is left is recovered and held against what was acknowledged until then, again
//! and again. A broken promise is shrunk to a short history. The disk is simulated, or memory, or
//! a directory; of the last two only the process dies.

#![cfg(shuttle)]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;

use cohort_wal::MemStore;
use cohort_wal::sim::SimStore;
use proptest::prelude::BoxedStrategy;
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};
use shuttle_tests::disk::{Disk, Files};
use shuttle_tests::generate::{any_order, history, pct_order, random_order};
use shuttle_tests::history::History;
use shuttle_tests::schedule::{Order, number, quiet};

/// Plays the history with this number.
fn play<D: Disk>(seed: u64, strategy: &BoxedStrategy<History>, test: &str) {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        cases: 1,
        failure_persistence: None,
        max_shrink_iters: 3000,
        max_shrink_time: 60_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let tree = strategy.new_tree(&mut runner).expect("there are histories");
    let result = runner.run_one(tree, |history| {
        let history = Arc::new(history);
        history.order.explore(1, {
            let history = Arc::clone(&history);
            move || history.play::<D>().unwrap_or_else(|violation| panic!("{violation}"))
        });
        Ok(())
    });
    if let Err(error) = result {
        let TestError::Fail(reason, history) = error else { panic!("{error}") };
        panic!(
            "{reason}\n{history:?}\nreplay: COHORT_WAL_SEED={seed} COHORT_WAL_HISTORIES=1 \
             RUSTFLAGS=\"--cfg shuttle\" CARGO_TARGET_DIR=target-shuttle \
             cargo test -p shuttle-tests --release --test histories -- {test}"
        );
    }
}

fn play_all<D: Disk>(order: BoxedStrategy<Order>, default: u64, test: &str) {
    quiet();
    let strategy = history(order);
    let first = number("COHORT_WAL_SEED", 0);
    let histories = number("COHORT_WAL_HISTORIES", default);
    (first..first + histories).for_each(|seed| play::<D>(seed, &strategy, test));
}

#[test]
fn every_promise_holds_under_random_schedules() {
    play_all::<SimStore>(random_order(), 2000, "every_promise_holds_under_random_schedules");
}

#[test]
fn every_promise_holds_under_schedules_by_priority() {
    play_all::<SimStore>(pct_order(), 1000, "every_promise_holds_under_schedules_by_priority");
}

#[test]
fn every_promise_holds_in_memory() {
    play_all::<MemStore>(any_order(), 1000, "every_promise_holds_in_memory");
}

#[test]
fn every_promise_holds_on_files() {
    play_all::<Files>(any_order(), 300, "every_promise_holds_on_files");
}
