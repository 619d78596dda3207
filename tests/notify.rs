//! Futures and callbacks: everybody is told once, in order, of success and of every way to fail,
//! and what they run harms nobody.
//!
//! Method: a store in memory behind a script; gates inside its syncs fix what is registered when a
//! sync ends. Wakers count, call the log, or panic.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "notify/ends.rs"]
mod ends;
#[path = "common/faulty.rs"]
mod faulty;
#[path = "notify/user.rs"]
mod user;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};

use cohort_wal::{Durable, Lsn, MemStore, Result, Wal, WalError, WalOptions};

use common::{deadline, smallest};
use faulty::{FaultyStore, Gate, Op, Script};

type FaultyWal = Wal<FaultyStore<MemStore>>;

fn open() -> (Arc<FaultyWal>, Script) {
    open_with(smallest())
}

fn open_with(options: WalOptions) -> (Arc<FaultyWal>, Script) {
    let (store, script) = FaultyStore::over(MemStore::new());
    (Arc::new(options.open_store(store).unwrap()), script)
}

/// Holds the next syncs until the gate is opened.
fn hold_syncs(script: &Script) -> Arc<Gate> {
    let gate = Arc::new(Gate::default());
    let at_gate = Arc::clone(&gate);
    script.hook(move |op, _| {
        if op == Op::Sync {
            at_gate.pass();
        }
    });
    gate
}

/// A waker that counts.
#[derive(Default)]
struct Count {
    woken: Mutex<usize>,
    changed: Condvar,
}

impl Count {
    fn wait_for(&self, woken: usize) {
        let mut now = self.woken.lock().unwrap();
        while *now < woken {
            now = self.changed.wait(now).unwrap();
        }
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() += 1;
        self.changed.notify_all();
    }
}

fn poll(future: &mut Durable, waker: &Waker) -> Poll<Result<()>> {
    pin!(future).poll(&mut Context::from_waker(waker))
}

/// Starts a sync that is held at the gate, with one record in it.
fn begin_sync(wal: &Arc<FaultyWal>, gate: &Gate) -> std::thread::JoinHandle<Result<Lsn>> {
    let wal = Arc::clone(wal);
    let committer = std::thread::spawn(move || wal.append_and_sync(b"first"));
    gate.wait_for_arrival();
    committer
}

#[test]
fn a_future_is_ready_when_its_record_is_durable_and_not_before() {
    deadline(|| {
        let (wal, script) = open();
        let lsn = wal.append(b"commit").unwrap();
        let gate = hold_syncs(&script);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut future = wal.durable(lsn);
        assert!(poll(&mut future, &waker).is_pending());
        gate.wait_for_arrival();
        assert!(poll(&mut future, &waker).is_pending());
        gate.open();
        count.wait_for(1);
        assert!(wal.durable_lsn() > lsn);
        assert!(matches!(poll(&mut future, &waker), Poll::Ready(Ok(()))));
        assert!(matches!(poll(&mut future, &waker), Poll::Ready(Ok(()))), "ready for good");
        assert_eq!(wal.stats().syncs, 1);
        assert_eq!(wal.stats().commit_us.count(), 1);
    });
}

#[test]
fn one_that_was_never_polled_asks_for_nothing() {
    let (wal, _) = open();
    let lsn = wal.append(b"commit").unwrap();
    drop(wal.durable(lsn));
    assert_eq!(wal.stats().syncs, 0);
    wal.durable(lsn).wait().unwrap();
    assert_eq!(wal.stats().syncs, 1);
}

#[test]
fn ten_thousand_outstanding_commits_share_a_sync() {
    const FUTURES: usize = 10_000;
    deadline(|| {
        let (wal, script) = open_with(WalOptions::new().ring_bytes(1 << 20));
        let gate = hold_syncs(&script);
        let first = begin_sync(&wal, &gate);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut futures: Vec<_> =
            (0..FUTURES).map(|_| wal.durable(wal.append(b"").unwrap())).collect();
        assert!(futures.iter_mut().all(|future| poll(future, &waker).is_pending()));
        gate.open();
        count.wait_for(FUTURES);
        first.join().unwrap().unwrap();
        assert!(futures.iter_mut().all(|future| poll(future, &waker).is_ready()));
        assert!(wal.stats().syncs <= 3, "{} syncs", wal.stats().syncs);
    });
}

#[test]
fn tasks_on_two_executor_threads_commit() {
    const TASKS: u64 = 10_000;
    deadline(|| {
        let (wal, _) = open();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let tasks: Vec<_> = (0..TASKS)
            .map(|_| {
                let wal = Arc::clone(&wal);
                runtime.spawn(async move {
                    let lsn = wal.append(b"commit")?;
                    wal.durable(lsn).await.map(|()| assert!(wal.durable_lsn() > lsn))
                })
            })
            .collect();
        for task in tasks {
            pollster::block_on(task).unwrap().unwrap();
        }
    });
}

#[test]
fn callbacks_are_called_in_lsn_order() {
    deadline(|| {
        let (wal, script) = open();
        let gate = hold_syncs(&script);
        let first = begin_sync(&wal, &gate);
        let mut lsns: Vec<_> = (0..100).map(|_| wal.append(b"").unwrap()).collect();
        let sorted = lsns.clone();
        lsns.reverse();
        lsns.rotate_left(37);
        let (tell, told) = mpsc::channel();
        for lsn in lsns {
            let tell = tell.clone();
            wal.on_durable(lsn, move |result| tell.send((lsn, result)).unwrap());
        }
        drop(tell);
        gate.open();
        let called: Vec<_> = told.iter().collect();
        assert!(called.iter().all(|(_, result)| result.is_ok()));
        assert_eq!(called.iter().map(|(lsn, _)| *lsn).collect::<Vec<_>>(), sorted);
        first.join().unwrap().unwrap();
    });
}

#[test]
fn what_is_durable_already_is_told_at_once_without_a_sync() {
    deadline(|| {
        let (wal, _) = open();
        let lsn = wal.append_and_sync(b"").unwrap();
        let (tell, told) = mpsc::channel();
        wal.on_durable(lsn, move |result| tell.send(result).unwrap());
        told.recv().unwrap().unwrap();
        assert!(poll(&mut wal.durable(lsn), Waker::noop()).is_ready());
        assert_eq!(wal.stats().syncs, 1);
    });
}

#[test]
fn a_place_without_a_record_is_an_error() {
    deadline(|| {
        let (wal, _) = open();
        wal.append(b"").unwrap();
        let not_a_record = |result| matches!(result, Err(WalError::NotARecord { .. }));
        assert!(not_a_record(pollster::block_on(wal.durable(wal.end_lsn()))));
        assert!(not_a_record(wal.durable(Lsn::new(3)).wait()));
        let (tell, told) = mpsc::channel();
        wal.on_durable(wal.end_lsn(), move |result| tell.send(result).unwrap());
        assert!(not_a_record(told.recv().unwrap()));
    });
}

#[test]
fn dropped_futures_leave_nothing_behind_and_wake_nobody() {
    deadline(|| {
        let (wal, script) = open();
        let gate = hold_syncs(&script);
        let first = begin_sync(&wal, &gate);
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut futures: Vec<_> = (0..100).map(|_| wal.durable(wal.append(b"").unwrap())).collect();
        assert!(futures.iter_mut().all(|future| poll(future, &waker).is_pending()));
        let kept = futures.swap_remove(50);
        drop(futures);
        drop(waker);
        assert_eq!(Arc::strong_count(&count), 2, "the test's own and that of the one kept");
        gate.open();
        count.wait_for(1);
        kept.wait().unwrap();
        first.join().unwrap().unwrap();
        wal.close().unwrap();
        assert_eq!(*count.woken.lock().unwrap(), 1);
    });
}

#[test]
fn a_commit_whose_future_is_gone_becomes_durable_with_others() {
    deadline(|| {
        let store = MemStore::new();
        let wal = WalOptions::new().open_store(store.clone()).unwrap();
        let lsn = wal.append(b"kept").unwrap();
        let mut future = wal.durable(lsn);
        // It may be ready by now.
        drop(poll(&mut future, Waker::noop()));
        drop(future);
        wal.sync().unwrap();
        assert!(wal.durable_lsn() > lsn);
        drop(wal);
        assert_eq!(WalOptions::new().open_store(store).unwrap().iter().unwrap().count(), 1);
    });
}

#[test]
fn threads_and_tasks_share_syncs() {
    deadline(|| {
        let (wal, script) = open();
        let gate = hold_syncs(&script);
        let first = begin_sync(&wal, &gate);
        let (tell, told) = mpsc::channel();
        for _ in 0..50 {
            let tell = tell.clone();
            let lsn = wal.append(b"").unwrap();
            wal.on_durable(lsn, move |result| tell.send(result).unwrap());
        }
        drop(tell);
        let committers: Vec<_> = (0..8)
            .map(|_| {
                let wal = Arc::clone(&wal);
                std::thread::spawn(move || wal.append_and_sync(b"thread").unwrap())
            })
            .collect();
        while wal.stats().appends < 1 + 50 + 8 {
            std::thread::yield_now();
        }
        gate.open();
        common::join_all(committers);
        first.join().unwrap().unwrap();
        wal.close().unwrap();
        assert_eq!(told.iter().filter(Result::is_ok).count(), 50);
        assert!(wal.stats().syncs <= 4, "{} syncs", wal.stats().syncs);
    });
}
