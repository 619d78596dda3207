//! Everybody at full speed: checkpoints, rollbacks and readers beside writers that wait for
//! nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "../../../tests/common/faulty.rs"]
mod faulty;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use cohort_wal::{MemStore, WalError};
use ledger_engine::Error;
use ledger_engine::workload;

use common::open;
use faulty::{FaultyStore, Op};

/// Says that it is over also when the thread that should say so panics.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, SeqCst);
    }
}

#[test]
fn an_image_is_of_its_place_in_the_log_however_fast_others_post() {
    let engine = open(MemStore::new()).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                engine.checkpoint().unwrap();
            }
        });
        let _over = Over(&over);
        let writers = [0, 1].map(|writer| {
            let engine = &engine;
            scope.spawn(move || {
                for number in 0..2500 {
                    drop(engine.begin(&workload::transaction(writer, number).unwrap()).unwrap());
                }
            })
        });
        while !writers.iter().all(|writer| writer.is_finished()) {
            workload::check(&engine.audit().unwrap()).unwrap();
        }
    });
    workload::check(&engine.book().unwrap()).unwrap();
    assert_eq!(engine.audit().unwrap(), engine.book().unwrap());
}

/// The store holds the image up until somebody has posted.
#[test]
fn posting_goes_on_while_an_image_is_written() {
    let disk = MemStore::new();
    let (store, script) = FaultyStore::over(disk.clone());
    let engine = open(store).unwrap();
    let post = |number| engine.post(&workload::transaction(0, number).unwrap()).unwrap();
    post(0);
    let image = script.hold(Op::Publish, ".snap");
    thread::scope(|scope| {
        let checkpoint = scope.spawn(|| engine.checkpoint().unwrap());
        image.wait_for_arrival();
        // Durable, and shown.
        post(1);
        assert_eq!(workload::check(&engine.book().unwrap()).unwrap()[0], 2);
        image.open();
        checkpoint.join().expect("posting does not wait for it");
    });
    assert_eq!(workload::check(&engine.audit().unwrap()).unwrap()[0], 2);
    engine.wal().close().unwrap();
    assert_eq!(workload::check(&open(disk).unwrap().book().unwrap()).unwrap()[0], 2);
}

#[test]
fn checkpoints_and_rollbacks_do_not_come_between_each_other() {
    let store = MemStore::new();
    let engine = open(store.clone()).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(SeqCst) {
                engine.checkpoint().unwrap();
            }
        });
        let _over = Over(&over);
        let mut undone = 0;
        for _ in 0..600 {
            let number = workload::posted(&engine.book().unwrap(), 0);
            let one = engine.begin(&workload::transaction(0, number).unwrap()).unwrap();
            let two = engine.begin(&workload::transaction(0, number + 1).unwrap()).unwrap();
            match engine.roll_back_from(one.receipt().first) {
                Ok(()) => {
                    undone += 1;
                    assert!(one.wait().is_err() && two.wait().is_err());
                    assert_eq!(workload::posted(&engine.book().unwrap(), 0), number);
                }
                // The checkpoint was there first.
                Err(Error::Wal(WalError::Truncated { .. } | WalError::BelowSnapshot { .. })) => {
                    one.wait().unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
        assert!(undone > 0);
    });
    let book = engine.book().unwrap();
    workload::check(&book).unwrap();
    assert_eq!(engine.audit().unwrap(), book);
    engine.wal().close().unwrap();
    assert_eq!(open(store).unwrap().book().unwrap(), book);
}
