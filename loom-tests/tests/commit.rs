//! Models of group commit: leadership, wake-ups, acknowledgements, poison.
//!
//! A lost wake-up or lost leadership is a deadlock, which loom reports.

#![cfg(loom)]

use std::time::Duration;

use cohort_wal::{Gather, WalError};
use loom::thread;
use loom_tests::{Fault, Model, RING, VAST, explore};

/// Appends and commits, and checks that what was acknowledged is on the disk.
fn append_and_commit(model: &Model, body: &[u8]) {
    let (_, end) = model.append(body).unwrap();
    model.commit(end).unwrap();
    assert!(model.synced_end() >= end, "acknowledged before it was synced");
    assert!(model.durable() >= end);
}

/// Two committers: one leads, the other joins or leads later; both return.
#[test]
fn an_acknowledged_commit_is_synced() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let other = model.clone();
        let committer = thread::spawn(move || append_and_commit(&other, b"other"));
        append_and_commit(&model, b"mine");
        committer.join().unwrap();
        assert!((1..=2).contains(&model.syncs()));
        assert_eq!(model.durable(), model.end());
    });
}

/// Three committers: leadership passes to exactly one waiter and is never lost.
#[test]
fn leadership_is_handed_over_and_never_lost() {
    explore(|| {
        let model = Model::new(4 * RING, 4, VAST, VAST);
        let ends: Vec<_> = (0..3).map(|_| model.append(b"").unwrap().1).collect();
        let committers: Vec<_> = ends[1..]
            .iter()
            .map(|&end| {
                let model = model.clone();
                thread::spawn(move || {
                    model.commit(end).unwrap();
                    assert!(model.synced_end() >= end);
                })
            })
            .collect();
        model.commit(ends[0]).unwrap();
        committers.into_iter().for_each(|committer| committer.join().unwrap());
        assert!((1..=3).contains(&model.syncs()));
    });
}

/// A committer arrives while another one is about to finish: it is woken or leads.
#[test]
fn no_wake_up_is_lost() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let (_, first) = model.append(b"").unwrap();
        let other = model.clone();
        let leader = thread::spawn(move || other.commit(first).unwrap());
        let (_, second) = model.append(b"").unwrap();
        model.commit(second).unwrap();
        leader.join().unwrap();
        assert_eq!(model.durable(), second);
    });
}

/// A flush writes while a sync is under way: the sync covers what was written when it began, and
/// acknowledges no more.
#[test]
fn a_sync_acknowledges_only_what_was_written_before_it() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let other = model.clone();
        let committer = thread::spawn(move || append_and_commit(&other, b""));
        model.append(b"").unwrap();
        model.flush().unwrap();
        committer.join().unwrap();
        assert!(model.durable() <= model.synced_end());
    });
}

/// `written` and the files to sync are snapshot together: a rotation between two commits never
/// lets `durable` pass bytes that no sync covered.
#[test]
fn a_rotation_beside_a_commit_loses_nothing() {
    explore(|| {
        let model = Model::new(4 * RING, 2, 24, VAST);
        let other = model.clone();
        let committer = thread::spawn(move || append_and_commit(&other, b"other"));
        append_and_commit(&model, b"mine");
        committer.join().unwrap();
        assert_eq!(model.segments(), 2);
    });
}

/// Every sync fails: both committers get the error, `durable` does not move, later calls fail.
#[test]
fn a_failing_sync_acknowledges_no_one_and_wakes_everyone() {
    for fault in [Fault::Sync, Fault::Write] {
        explore(move || {
            let model = Model::new(4 * RING, 2, VAST, VAST);
            model.fault(fault);
            let other = model.clone();
            let attempt = |model: &Model| {
                // The other thread may have poisoned the log before this append.
                if let Ok((_, end)) = model.append(b"") {
                    assert!(model.commit(end).unwrap_err().is_poisoned());
                }
            };
            let committer = thread::spawn(move || attempt(&other));
            attempt(&model);
            committer.join().unwrap();
            model.fault(Fault::None);
            assert_eq!((model.durable(), model.syncs()), (0, 0));
            assert!(model.append(b"").unwrap_err().is_poisoned());
            assert!(model.sync().unwrap_err().is_poisoned());
        });
    }
}

/// The store panics in the leader's hands: everybody gets the poison, nobody waits for ever.
#[test]
fn a_panicking_leader_wakes_everyone() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        model.fault(Fault::SyncPanic);
        let (_, end) = model.append(b"").unwrap();
        let other = model.clone();
        let committer = thread::spawn(move || other.commit(end).unwrap_err());
        assert!(model.commit(end).unwrap_err().is_poisoned());
        assert!(committer.join().unwrap().is_poisoned());
        assert_eq!(model.durable(), 0);
    });
}

/// Committers that arrive before, during and after a failing sync all get its error.
#[test]
fn late_arrivals_at_a_poisoned_log_do_not_wait() {
    explore(|| {
        let model = Model::new(4 * RING, 4, VAST, VAST);
        let (_, end) = model.append(b"").unwrap();
        model.fault(Fault::Sync);
        let others = [model.clone(), model.clone()]
            .map(|model| thread::spawn(move || model.commit(end).unwrap_err()));
        assert!(model.sync().unwrap_err().is_poisoned());
        for other in others {
            assert!(other.join().unwrap().is_poisoned());
        }
    });
}

/// Whoever was told that the log is poisoned finds it so: a later append fails as well.
#[test]
fn poison_is_seen_by_whoever_was_told() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        model.fault(Fault::Sync);
        let (_, end) = model.append(b"").unwrap();
        let attempt = move |model: &Model| {
            assert!(model.commit(end).unwrap_err().is_poisoned());
            assert!(model.append(b"").unwrap_err().is_poisoned());
        };
        let other = model.clone();
        let committer = thread::spawn(move || attempt(&other));
        attempt(&model);
        committer.join().unwrap();
    });
}

/// A write fails while a sync is under way: that sync still ends, and acknowledges nothing.
#[test]
fn durable_does_not_move_after_poison() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let (_, end) = model.append(b"").unwrap();
        let other = model.clone();
        let committer = thread::spawn(move || other.commit(end).is_ok());
        model.flush().unwrap();
        model.append(b"").unwrap();
        model.fault(Fault::Write);
        let durable = match model.flush() {
            Err(error) => {
                assert!(error.is_poisoned(), "{error}");
                Some(model.durable())
            }
            // The committer's pass wrote it before the disk failed.
            Ok(()) => None,
        };
        let committed = committer.join().unwrap();
        assert!(durable.is_none_or(|durable| durable == model.durable()));
        assert_eq!(committed, model.durable() >= end);
    });
}

/// The disk is full and has space again: a commit fails for lack of space or succeeds, loses
/// nothing, and succeeds afterwards.
#[test]
fn out_of_space_and_back() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let (_, end) = model.append(b"").unwrap();
        model.fault(Fault::Full);
        let other = model.clone();
        let committer = thread::spawn(move || match other.commit(end) {
            Ok(()) => assert!(other.synced_end() >= end),
            Err(error) => assert!(matches!(error, WalError::StorageFull { .. }), "{error}"),
        });
        if let Err(error) = model.commit(end) {
            assert!(matches!(error, WalError::StorageFull { .. }), "{error}");
        }
        model.fault(Fault::None);
        model.commit(end).unwrap();
        committer.join().unwrap();
        assert_eq!((model.synced_end(), model.frames().len()), (end, 1));
    });
}

/// Leaders gather: the company that they wait for comes, or does not.
#[test]
fn a_gathering_leader_delays_nobody_for_ever() {
    explore(|| {
        let window = Gather::Window(Duration::from_millis(1));
        let model = Model::gathering(4 * RING, 2, VAST, VAST, window);
        let ends: Vec<_> = (0..3).map(|_| model.append(b"").unwrap().1).collect();
        let other = model.clone();
        let (first, second) = (ends[0], ends[1]);
        let committer = thread::spawn(move || {
            other.commit(first).unwrap();
            other.commit(second).unwrap();
            assert!(other.synced_end() >= second);
        });
        model.commit(ends[2]).unwrap();
        let (_, last) = model.append(b"").unwrap();
        model.commit(last).unwrap();
        committer.join().unwrap();
        assert_eq!(model.durable(), last);
    });
}

/// A leader gathers while the log is poisoned, and while a flush at the bound is in a hurry.
#[test]
fn gathering_ends_early_for_poison_and_hurry() {
    for fault in [Fault::None, Fault::Write] {
        explore(move || {
            let window = Gather::Window(Duration::from_millis(1));
            let model = Model::gathering(4 * RING, 2, VAST, 16, window);
            let (_, end) = model.append(b"").unwrap();
            model.fault(fault);
            let other = model.clone();
            let committer = thread::spawn(move || match other.commit(end) {
                Ok(()) => assert!(other.synced_end() >= end),
                Err(error) => assert!(error.is_poisoned(), "{error}"),
            });
            let flushed = model.append(b"").and_then(|_| model.flush());
            assert_eq!(flushed.is_err(), fault == Fault::Write);
            committer.join().unwrap();
        });
    }
}

/// A flush at the bound on unsynced bytes leads or joins a sync, beside a committer, and neither
/// waits for the other for ever.
#[test]
fn the_bound_on_unsynced_bytes_deadlocks_nobody() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, 16);
        model.append(b"").unwrap();
        let other = model.clone();
        let committer = thread::spawn(move || append_and_commit(&other, b""));
        model.append(b"").unwrap();
        model.flush().unwrap();
        committer.join().unwrap();
        assert_eq!(model.written(), model.end());
    });
}
