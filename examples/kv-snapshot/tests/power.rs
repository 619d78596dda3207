//! Power loss at every moment of a run: acknowledged commits are there, and none is there in part.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says how much it has tried")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use cohort_wal::sim::{Profile, SimStore};
use kv_snapshot::workload;

use common::{commit, held, load};

/// Loads every state that a power loss may leave at one of these moments; so many were checked.
fn crash(moments: &[SimStore], limit: u64, may_be_held: &[u64]) -> u64 {
    let mut states = 0;
    for moment in moments {
        for (number, after) in (0..).zip(moment.power_losses(limit)) {
            let store = load(after).unwrap_or_else(|e| panic!("{moment:?} {number}: {e}"));
            let found = held(&store, 1)[0];
            assert!(may_be_held.contains(&found), "{found} of {may_be_held:?}");
            states += 1;
        }
    }
    states
}

#[test]
fn acknowledged_commits_survive_power_loss_at_any_moment() {
    let (mut states, mut compactions) = (0, 0);
    for profile in Profile::ALL {
        let disk = SimStore::new(profile, 11);
        disk.record();
        let store = load(disk.clone()).unwrap();
        states += crash(&disk.moments(), 8, &[0]);
        for n in 1..=40 {
            commit(&store, n).unwrap();
            states += crash(&disk.moments(), 8, &[n - 1, n]);
            if store.needs_compaction() {
                store.compact().unwrap();
                compactions += 1;
                states += crash(&disk.moments(), 24, &[n]);
            }
        }
        store.close().unwrap();
        states += crash(&disk.moments(), 8, &[40]);
    }
    println!("{states} states after power loss, {compactions} compactions among their moments");
    assert!(states > 1_000 && compactions >= 6, "{states} {compactions}");
}

#[test]
fn power_may_go_again_while_a_log_is_loaded_and_compacted() {
    let disk = SimStore::new(Profile::Hostile, 5);
    let store = load(disk.clone()).unwrap();
    (1..=25).for_each(|n| commit(&store, n).unwrap());
    store.compact().unwrap();
    (26..=30).for_each(|n| commit(&store, n).unwrap());
    let mut states = 0;
    for seed in 0..4 {
        let after = disk.power_losses(4).state(seed);
        after.record();
        let store = load(after.clone()).unwrap();
        states += crash(&after.moments(), 6, &[30]);
        store.compact().unwrap();
        states += crash(&after.moments(), 6, &[30]);
    }
    assert!(states > 50, "{states}");
}

#[test]
fn power_loss_beside_writers_and_compaction_takes_nothing_that_was_acknowledged() {
    const WRITERS: usize = 3;
    const LAST: u64 = 150;
    for profile in [Profile::Ext4, Profile::Hostile] {
        let disk = SimStore::new(profile, 3);
        let store = load(disk.clone()).unwrap();
        let acknowledged: Vec<_> = (0..WRITERS).map(|_| AtomicU64::new(0)).collect();
        let crashes = AtomicU64::new(0);
        let run = workload::run(&store, &[0; WRITERS], LAST, |writer, n| {
            acknowledged[writer].store(n, SeqCst);
            if !n.is_multiple_of(5) {
                return;
            }
            let owed: Vec<_> = acknowledged.iter().map(|n| n.load(SeqCst)).collect();
            let after = if n.is_multiple_of(10) { disk.power_loss() } else { disk.kill() };
            let found = held(&load(after).unwrap(), WRITERS);
            assert_eq!(found[writer], n, "this writer has nothing under way");
            let kept = owed.iter().zip(&found).all(|(owed, found)| owed <= found);
            assert!(kept, "owed {owed:?}, found {found:?}");
            crashes.fetch_add(1, SeqCst);
        });
        let run = run.unwrap();
        assert!(run.compactions >= 1);
        assert_eq!((run.commits, crashes.load(SeqCst)), (3 * LAST, 3 * LAST / 5));
        assert_eq!(held(&load(disk.kill()).unwrap(), WRITERS), [LAST; WRITERS]);
    }
}
