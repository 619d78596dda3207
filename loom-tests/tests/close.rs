//! Models of closing, and of units that bypass the ring, against everything else.

#![cfg(loom)]

use std::sync::Arc;

use cohort_wal::WalError;
use loom::thread;
use loom_tests::{Fault, Model, RING, TailModel, VAST, explore};

/// Close against an append and a commit: the record is durable or refused, never half in, and no
/// I/O follows the close.
#[test]
fn close_against_append_and_commit() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let other = model.clone();
        let committer = thread::spawn(move || match other.append(b"") {
            Ok((_, end)) => match other.commit(end) {
                Ok(()) => assert!(other.synced_end() >= end),
                Err(error) => assert!(matches!(error, WalError::Closed), "{error}"),
            },
            Err(error) => assert!(matches!(error, WalError::Closed), "{error}"),
        });
        model.close().unwrap();
        committer.join().unwrap();
        assert_eq!(model.synced_end(), model.end(), "close makes all that was appended durable");
        assert!(matches!(model.append(b""), Err(WalError::Closed)));
    });
}

/// Two threads close: one does the work, the other waits for it.
#[test]
fn close_against_close() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        model.append(b"").unwrap();
        let other = model.clone();
        let closer = thread::spawn(move || other.close().unwrap());
        model.close().unwrap();
        assert_eq!(model.synced_end(), model.end());
        closer.join().unwrap();
    });
}

/// Poison is raised while reservations are made: those that met the flag are void and cover no
/// bytes, the others are complete.
#[test]
fn void_reservations_cover_nothing() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let other = model.clone();
        let appender = thread::spawn(move || match other.append(b"") {
            Ok((_, end)) => end,
            Err(error) => {
                assert!(matches!(error, WalError::Closed), "{error}");
                0
            }
        });
        let mine = model.append(b"").map_or(0, |(_, end)| end);
        model.close().unwrap();
        let end = mine.max(appender.join().unwrap());
        assert_eq!(model.end(), end, "the log ends with the last reservation that counts");
        assert_eq!(model.written(), end);
    });
}

/// A large unit finds the disk full: its place becomes a pad, and an append beside it goes on.
#[test]
fn a_large_unit_on_a_full_disk_leaves_a_pad() {
    explore(|| {
        let model = Model::new(2 * RING, 2, VAST, VAST);
        model.fault(Fault::Full);
        let other = model.clone();
        let appender = thread::spawn(move || match other.append(b"") {
            Ok(_) => 1,
            Err(error) => {
                assert!(matches!(error, WalError::StorageFull { .. }), "{error}");
                0
            }
        });
        assert!(matches!(model.append(&[7; 60]), Err(WalError::StorageFull { .. })));
        let appended = appender.join().unwrap();
        model.fault(Fault::None);
        model.flush().unwrap();
        let bodies = model.frames().into_iter().filter(|(_, body)| body.is_some());
        assert_eq!(bodies.count(), appended);
        assert_eq!(model.written(), model.end());
    });
}

/// A large unit pauses the log beside an appender: no byte of the ring is overwritten or lost,
/// and reservations that met the pause are void.
#[test]
fn a_large_unit_beside_an_append() {
    explore(|| {
        let model = Model::new(RING, 2, VAST, VAST);
        let other = model.clone();
        let appender = thread::spawn(move || {
            other.append(b"").unwrap();
        });
        model.append(&[7; 60]).unwrap();
        appender.join().unwrap();
        model.append(b"").unwrap();
        model.flush().unwrap();
        let frames = model.frames();
        assert_eq!(frames.len(), 3);
        assert!(frames.iter().any(|(_, body)| body.as_deref() == Some(&[7; 60])));
    });
}

/// A large unit waits for the appenders that it met, but for no sync.
#[test]
fn a_large_unit_needs_no_sync() {
    explore(|| {
        let model = Model::new(RING, 2, VAST, VAST);
        let other = model.clone();
        let appender = thread::spawn(move || {
            other.append(b"").unwrap();
        });
        model.append(b"").unwrap();
        model.append(&[7; 60]).unwrap();
        appender.join().unwrap();
        assert_eq!(model.syncs(), 0);
    });
}

/// The end of the log, read beside two pauses and void reservations, is always the end of a unit.
#[test]
fn the_end_beside_a_pause_is_a_boundary() {
    explore(|| {
        let tail = Arc::new(TailModel::new(0));
        let owner = Arc::clone(&tail);
        let owner = thread::spawn(move || {
            assert_eq!(owner.pause(), Some(0));
            // Void: they meet the flag.
            owner.reserve(16);
            owner.reserve(16);
            owner.reopen(24);
            owner.reserve(16);
            assert_eq!(owner.pause(), Some(40));
        });
        if let Some(end) = tail.end() {
            assert!([0, 24, 40].contains(&end), "the log ends at {end}, inside a unit");
        }
        owner.join().unwrap();
    });
}

/// A large unit against close: in whole or refused, and close never meets a pause.
#[test]
fn a_large_unit_beside_close() {
    explore(|| {
        let model = Model::new(RING, 2, VAST, VAST);
        let other = model.clone();
        let appender = thread::spawn(move || match other.append(&[7; 60]) {
            Ok(_) => 1,
            Err(error) => {
                assert!(matches!(error, WalError::Closed), "{error}");
                0
            }
        });
        model.close().unwrap();
        let appended = appender.join().unwrap();
        assert_eq!(model.frames().len(), appended);
        assert_eq!(model.synced_end(), model.end());
    });
}
