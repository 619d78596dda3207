//! Models of closing, and of units that bypass the ring, against everything else.

#![cfg(loom)]

use cohort_wal::WalError;
use loom::thread;
use loom_tests::{Model, RING, VAST, explore};

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
