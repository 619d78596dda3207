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

    /// Appends a record and registers a call for it; when that is made with success the record
    /// is on the disk.
    fn append(&self, model: &Model) -> Result<Notice> {
        self.append_and_demand(model, false)
    }

    /// The same without asking for a sync.
    fn append_quietly(&self, model: &Model) -> Result<Notice> {
        self.append_and_demand(model, true)
    }

    fn append_and_demand(&self, model: &Model, quiet: bool) -> Result<Notice> {
        let (mailbox, log) = (self.clone(), model.clone());
        model.append_and_notify(quiet, move |end, verdict| {
            assert!(verdict.is_err() || log.synced_end() >= end, "acknowledged before the sync");
            mailbox.deliver(verdict);
        })
    }

    fn deliver(&self, verdict: Result<()>) {
        let mut told = self.0.0.lock().unwrap();
        assert!(told.replace(verdict).is_none(), "called twice");
        self.0.1.notify_one();
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
        one.append(&model).unwrap();
        two.append(&model).unwrap();
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
        let mailbox = Mailbox::new();
        mailbox.append(&model).unwrap();
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
        // So that the notifier is there, and parks.
        let before = Mailbox::new();
        before.append(&model).unwrap();
        before.wait().unwrap();
        let other = model.clone();
        let committer = thread::spawn(move || other.append_and_commit(b"").unwrap());
        let notice = Mailbox::new().append(&model).unwrap();
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
        let mailbox = Mailbox::new();
        if let Err(error) = mailbox.append(&model) {
            assert!(error.is_poisoned());
            assert!(committer.join().unwrap().is_err() && model.close().is_err());
            return;
        }
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
        let (other, mailbox) = (model.clone(), Mailbox::new());
        let told = mailbox.clone();
        let registrar = thread::spawn(move || told.append(&other).is_ok());
        model.close().unwrap();
        if registrar.join().unwrap() {
            mailbox.wait().unwrap();
        }
    });
}

/// Whoever lets go of the last handle lets go of all that the log holds.
#[test]
fn a_helper_has_left_a_log_that_is_closed() {
    explore(|| {
        let model = model();
        let mailbox = Mailbox::new();
        model.append_and_notify(false, move |_, verdict| mailbox.deliver(verdict)).unwrap();
        model.close().unwrap();
        assert_eq!(model.holders(), 1);
    });
}

/// A close that gives up leaves nobody without an answer.
#[test]
fn a_log_that_is_given_up_tells_its_notices() {
    explore(|| {
        let model = model();
        model.fault(Fault::Full);
        let mailbox = Mailbox::new();
        mailbox.append(&model).unwrap();
        let full = mailbox.wait();
        assert!(matches!(full, Err(WalError::StorageFull { .. })));
        model.fault(Fault::None);
        model.close().unwrap();
    });
}

/// What is cut off is told so, what is kept is durable, and the notifier leads in the new era.
#[test]
fn a_cut_is_told_to_notices() {
    static CUT_OFF: AtomicUsize = AtomicUsize::new(0);
    explore(|| {
        let model = model();
        let (_, kept) = model.append_and_commit(b"").unwrap();
        let (other, mailbox) = (model.clone(), Mailbox::new());
        let cutter = thread::spawn(move || other.cut(kept).unwrap());
        // It may be cut off when it was durable, before the call.
        let told = mailbox.clone();
        model.append_and_notify(false, move |_, verdict| told.deliver(verdict)).unwrap();
        if let Err(error) = mailbox.wait() {
            assert!(matches!(error, WalError::Truncated { .. }), "{error}");
            CUT_OFF.fetch_add(1, Relaxed);
        }
        cutter.join().unwrap();
        model.close().unwrap();
    });
    assert!(CUT_OFF.load(Relaxed) > 0);
}

/// Nobody asks for a sync. The helper dozes behind the first one, and must be woken by the second
/// append, unless it sees that before.
#[test]
fn an_interval_syncs_what_is_appended_when_it_is_about_to_doze() {
    explore(|| {
        let model = Model::syncing(8 * RING, 4, VAST, VAST);
        for _ in 0..2 {
            let mailbox = Mailbox::new();
            mailbox.append_quietly(&model).unwrap();
            mailbox.wait().unwrap();
        }
        model.close().unwrap();
    });
}

/// What an interval met is told before anything is tried again, although an append that had begun
/// before it ends behind it.
#[test]
fn an_append_beside_a_failure_wakes_no_interval() {
    static BESIDE: AtomicUsize = AtomicUsize::new(0);
    explore(|| {
        let model = Model::syncing(8 * RING, 4, VAST, VAST);
        model.fault(Fault::Full);
        model.append(b"").unwrap();
        let beside = model.append(b"");
        // The helper comes to rest: it yields a few times in a round.
        (0..10).for_each(|_| thread::yield_now());
        assert!(model.refused() <= 1, "tried again");
        if beside.is_ok() && model.refused() == 1 {
            BESIDE.fetch_add(1, Relaxed);
        }
        model.fault(Fault::None);
        // Told of it at most once.
        model.close().or_else(|_| model.close()).unwrap();
    });
    assert!(BESIDE.load(Relaxed) > 0);
}
