//! Models of notices against commits, cancelling, poison, a cut and the end of the log.
//!
//! Every model closes its log in the end, which ends the notifier; where a notice must be called
//! without that, the model waits for the call, and a call that is never made is a deadlock.

#![cfg(loom)]

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use cohort_wal::{Result, WalError};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use loom_tests::{Fault, Model, Notice, RING, VAST, explore};

/// Where a call arrives; a second one is a failure.
#[derive(Clone)]
struct Mailbox(Arc<(Mutex<Option<Result<()>>>, Condvar)>);

impl Mailbox {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(None), Condvar::new())))
    }

    /// Registers a call for `end`, which must be on the disk when it is made with success.
    fn register(&self, model: &Model, end: u64) -> Notice {
        let (mailbox, log) = (self.clone(), model.clone());
        model.on_durable(end, move |verdict| {
            assert!(verdict.is_err() || log.synced_end() >= end, "acknowledged before the sync");
            let mut told = mailbox.0.0.lock().unwrap();
            assert!(told.replace(verdict).is_none(), "called twice");
            mailbox.0.1.notify_one();
        })
    }

    fn wait(&self) -> Result<()> {
        let mut told = self.0.0.lock().unwrap();
        loop {
            match told.clone() {
                Some(verdict) => return verdict,
                None => told = self.0.1.wait(told).unwrap(),
            }
        }
    }

    /// What was told, once the log has ended.
    fn told(&self) -> Option<Result<()>> {
        self.0.0.lock().unwrap().clone()
    }
}

fn model() -> Model {
    Model::new(8 * RING, 4, VAST, VAST)
}

/// Nobody but the notifier leads. It must not park on what is demanded.
#[test]
fn what_only_notices_demand_is_synced() {
    explore(|| {
        let model = model();
        let (one, two) = (Mailbox::new(), Mailbox::new());
        let (_, end) = model.append(b"").unwrap();
        one.register(&model, end);
        let (_, end) = model.append(b"").unwrap();
        two.register(&model, end);
        one.wait().unwrap();
        two.wait().unwrap();
        model.close().unwrap();
    });
}

/// A thread leads, and what is registered meanwhile is covered by its sync, or by another one.
#[test]
fn a_notice_beside_a_commit() {
    explore(|| {
        let model = model();
        let other = model.clone();
        let committer = thread::spawn(move || other.append_and_commit(b"").unwrap());
        let (_, end) = model.append(b"").unwrap();
        let mailbox = Mailbox::new();
        mailbox.register(&model, end);
        mailbox.wait().unwrap();
        committer.join().unwrap();
        model.close().unwrap();
    });
}

/// What is taken back may have been handed leadership, which somebody else waits for.
#[test]
fn a_cancelled_notice_keeps_nobody_waiting() {
    explore(|| {
        let model = model();
        let other = model.clone();
        let committer = thread::spawn(move || other.append_and_commit(b"").unwrap());
        let (_, end) = model.append(b"").unwrap();
        let mailbox = Mailbox::new();
        let notice = mailbox.register(&model, end);
        model.cancel(notice);
        committer.join().unwrap();
        model.append_and_commit(b"").unwrap();
        model.close().unwrap();
    });
}

#[test]
fn poison_is_told_to_notices_once() {
    explore(|| {
        let model = model();
        model.append(b"").unwrap();
        model.fault(Fault::Sync);
        let other = model.clone();
        let committer = thread::spawn(move || other.sync());
        let (_, end) = match model.append(b"") {
            Ok(range) => range,
            Err(error) => {
                assert!(error.is_poisoned());
                drop((committer.join().unwrap(), model.close()));
                return;
            }
        };
        let mailbox = Mailbox::new();
        mailbox.register(&model, end);
        assert!(mailbox.wait().is_err_and(|error| error.is_poisoned()));
        assert!(committer.join().unwrap().is_err());
        assert!(model.close().is_err());
    });
}

/// Registered while the log ends: called once, and by then it is durable, or the log was closed.
#[test]
fn the_end_of_the_log_is_told_to_notices_once() {
    explore(|| {
        let model = model();
        let (_, end) = model.append(b"").unwrap();
        let (other, mailbox) = (model.clone(), Mailbox::new());
        let told = mailbox.clone();
        let registrar = thread::spawn(move || {
            told.register(&other, end);
        });
        model.close().unwrap();
        registrar.join().unwrap();
        mailbox.wait().unwrap();
    });
}

/// A close that gives up leaves nobody without an answer.
#[test]
fn a_log_that_is_given_up_tells_its_notices() {
    explore(|| {
        let model = model();
        let (_, end) = model.append(b"").unwrap();
        model.fault(Fault::Full);
        let mailbox = Mailbox::new();
        mailbox.register(&model, end);
        let full = mailbox.wait();
        assert!(matches!(full, Err(WalError::StorageFull { .. })));
        model.fault(Fault::None);
        model.close().unwrap();
    });
}

/// What is cut off is told so, what is kept is durable, and the notifier leads in the new era.
#[test]
fn a_cut_is_told_to_notices() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    explore(|| {
        let model = model();
        let (_, kept) = model.append_and_commit(b"").unwrap();
        let (_, end) = model.append(b"").unwrap();
        let (other, mailbox) = (model.clone(), Mailbox::new());
        let told = mailbox.clone();
        let cutter = thread::spawn(move || other.cut(kept).unwrap());
        told.register(&model, end);
        match mailbox.wait() {
            Ok(()) => {}
            Err(error) => assert!(matches!(error, WalError::Truncated { .. }), "{error}"),
        }
        cutter.join().unwrap();
        model.close().unwrap();
        assert!(mailbox.told().is_some());
        CALLS.fetch_add(1, Relaxed);
    });
    assert!(CALLS.load(Relaxed) > 1);
}
