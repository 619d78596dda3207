//! Everybody at full speed: checkpoints, rollbacks and readers beside writers that wait for
//! nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;

use cohort_wal::{MemStore, WalError};
use ledger_engine::Error;
use ledger_engine::workload;

use common::open;

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
