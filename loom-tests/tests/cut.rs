//! Models of cutting off what is durable against everybody who appends, waits and writes.

#![cfg(loom)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use cohort_wal::WalError;
use loom::thread;
use loom_tests::{EMPTY, Fault, Model, RING, VAST, explore};

fn is_cut_off(error: &WalError) -> bool {
    matches!(error, WalError::Truncated { .. })
}

/// The bodies that are on the disk, in order.
fn bodies(model: &Model) -> Vec<Vec<u8>> {
    model.frames().into_iter().filter_map(|(_, body)| body).collect()
}

/// A commit beside a cut: it is cut off, or it went before and was cut, or it goes behind the cut
/// and stays. Nothing of the old epoch is left behind the cut, and nobody waits for ever.
#[test]
fn a_commit_beside_a_cut() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let (_, kept) = model.append_and_commit(b"").unwrap();
        let other = model.clone();
        let committer = thread::spawn(move || other.append_and_commit(b"new"));
        model.cut(kept).unwrap();
        let committed = committer.join().unwrap();
        let bodies = bodies(&model);
        match committed {
            // Before the cut, or behind it.
            Ok(_) => assert!(bodies.len() <= 2),
            Err(error) => {
                assert!(is_cut_off(&error), "{error}");
                assert_eq!(bodies.len(), 1, "what is cut off is not there");
            }
        }
        assert_eq!(model.durable(), model.synced_end());
        // What comes next goes where the log ends, in the new epoch.
        let end = model.end();
        assert_eq!(model.append_and_commit(b"next").unwrap().0, end);
        assert_eq!(model.frames().last().unwrap().0, end);
    });
}

/// Waiters in the list: two that commit what is cut off, one of whom leads a sync that began
/// before the cut. Their sync must not make the log longer than the cut.
#[test]
fn a_sync_that_runs_when_the_log_is_cut() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        model.append(b"").unwrap();
        let other = model.clone();
        let syncer = thread::spawn(move || other.sync());
        model.cut(0).unwrap();
        if let Err(error) = syncer.join().unwrap() {
            assert!(is_cut_off(&error), "{error}");
        }
        assert_eq!((model.durable(), model.end(), model.synced_end()), (0, 0, 0));
        model.append_and_commit(b"").unwrap();
        assert_eq!(model.frames().len(), 1);
    });
}

/// A flush beside a cut ends, also when what it was to hand over is gone.
#[test]
fn a_flush_beside_a_cut_ends() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let (_, kept) = model.append_and_commit(b"").unwrap();
        model.append(b"").unwrap();
        let other = model.clone();
        let flusher = thread::spawn(move || other.flush());
        model.cut(kept).unwrap();
        if let Err(error) = flusher.join().unwrap() {
            assert!(is_cut_off(&error), "{error}");
        }
        assert_eq!(model.written(), kept);
    });
}

/// Appends on both sides of a cut: none fills ring bytes that another one has by now, and each is
/// sealed in the epoch that its place is in.
#[test]
fn appends_beside_a_cut_are_of_one_epoch() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        model.append_and_commit(b"").unwrap();
        let other = model.clone();
        let appender = thread::spawn(move || {
            for _ in 0..2 {
                other.append(b"").unwrap();
            }
        });
        model.cut(0).unwrap();
        // Over the place of what may be on its way.
        model.append(&[7; 16]).unwrap();
        appender.join().unwrap();
        model.sync().unwrap();
        // The frames are read with the seed of their file.
        let frames = model.frames();
        assert!((1..=3).contains(&frames.len()));
        assert_eq!(model.synced_end(), (frames.len() as u64 + 1) * EMPTY);
    });
}

/// A cut that fails before it happened leaves the log as it was, and those who wait go on.
#[test]
fn a_cut_that_finds_no_space_changes_nothing() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let (_, kept) = model.append_and_commit(b"").unwrap();
        let (_, end) = model.append(b"").unwrap();
        model.flush().unwrap();
        model.fault(Fault::Full);
        let other = model.clone();
        let committer = thread::spawn(move || other.commit(end));
        assert!(matches!(model.cut(kept), Err(WalError::StorageFull { .. })));
        let committed = committer.join().unwrap();
        model.fault(Fault::None);
        assert!(committed.is_ok(), "what is written can be synced on a full disk");
        assert_eq!((model.durable(), model.end()), (end, end));
        model.append_and_commit(b"").unwrap();
    });
}

/// Poison beside a cut: whichever comes first, nobody waits for ever.
#[test]
fn poison_beside_a_cut() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        model.append(b"").unwrap();
        let other = model.clone();
        let committer = thread::spawn(move || {
            other.fault(Fault::Sync);
            other.append_and_commit(b"").map(drop)
        });
        let cut = model.cut(0);
        let committed = committer.join().unwrap();
        for result in [cut, committed] {
            if let Err(error) = result {
                assert!(error.is_poisoned() || is_cut_off(&error), "{error}");
            }
        }
    });
}

/// Who reads where the log ends beside a cut gets an end and the era that it is the end in: a
/// commit of it is done or cut off, and never waits for bytes that do not come.
#[test]
fn the_end_beside_a_cut_is_of_one_era() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let (_, kept) = model.append_and_commit(b"").unwrap();
        model.append_and_commit(b"").unwrap();
        let seen = Arc::new(AtomicU64::new(0));
        let (other, told) = (model.clone(), Arc::clone(&seen));
        let syncer = thread::spawn(move || {
            let synced = other.sync();
            told.store(other.durable(), Relaxed);
            synced
        });
        model.cut(kept).unwrap();
        if let Err(error) = syncer.join().unwrap() {
            assert!(is_cut_off(&error), "{error}");
        }
        assert!([kept, kept + EMPTY].contains(&seen.load(Relaxed)));
    });
}
