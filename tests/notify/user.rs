//! What users' code does in callbacks and wakers.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Wake, Waker};

use cohort_wal::WalError;

use crate::common::deadline;
use crate::faulty::Op;
use crate::{FaultyWal, begin_sync, hold_syncs, open, poll};

struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

#[test]
fn a_callback_that_panics_harms_nobody() {
    deadline(|| {
        let (wal, script) = open();
        let gate = hold_syncs(&script);
        let first = begin_sync(&wal, &gate);
        let (tell, told) = mpsc::channel();
        for number in 0..10 {
            let (tell, bomb) = (tell.clone(), Bomb);
            let lsn = wal.append(b"").unwrap();
            wal.on_durable(lsn, move |_| panic!("callback {number}"));
            wal.on_durable(lsn, move |_| drop(bomb));
            wal.on_durable(lsn, move |result| tell.send(result).unwrap());
        }
        drop(tell);
        gate.open();
        assert_eq!(told.iter().map(Result::unwrap).count(), 10);
        first.join().unwrap().unwrap();
        pollster::block_on(wal.durable(wal.append(b"after").unwrap())).unwrap();
        wal.close().unwrap();
    });
}

#[test]
fn a_callback_may_append_commit_and_register() {
    deadline(|| {
        let (wal, _) = open();
        let (tell, told) = mpsc::channel();
        let (log, teller) = (Arc::clone(&wal), tell.clone());
        wal.on_durable(wal.append(b"one").unwrap(), move |result| {
            result.unwrap();
            let two = log.append(b"two").unwrap();
            log.append_and_sync(b"three").unwrap();
            log.wait_durable(two).unwrap();
            log.truncate_before(two).unwrap();
            let four = log.append(b"four").unwrap();
            log.on_durable(four, move |result| teller.send(result).unwrap());
        });
        told.recv().unwrap().unwrap();
        assert_eq!(wal.iter().unwrap().count(), 3);
    });
}

/// More than the ring holds, from a callback, which no sync of the notifier's can make room for.
#[test]
fn a_callback_may_fill_the_ring() {
    deadline(|| {
        let (wal, _) = open();
        let (tell, told) = mpsc::channel();
        let log = Arc::clone(&wal);
        wal.on_durable(wal.append(b"one").unwrap(), move |_| {
            (0..2000).for_each(|_| assert!(log.append(&[1; 1000]).is_ok()));
            tell.send(()).unwrap();
        });
        told.recv().unwrap();
        wal.close().unwrap();
    });
}

#[test]
fn a_callback_may_drop_the_last_handle() {
    deadline(|| {
        let (wal, script) = open();
        let gate = hold_syncs(&script);
        let first = begin_sync(&wal, &gate);
        let (tell, told) = mpsc::channel();
        let (one, two) = (wal.append(b"one").unwrap(), wal.append(b"two").unwrap());
        let handle = Arc::new(Mutex::new(None));
        let (from, teller) = (Arc::clone(&handle), tell.clone());
        wal.on_durable(one, move |result| {
            drop::<Option<Arc<FaultyWal>>>(from.lock().unwrap().take());
            teller.send(result).unwrap();
        });
        wal.on_durable(two, move |result| tell.send(result).unwrap());
        *handle.lock().unwrap() = Some(wal);
        gate.open();
        first.join().unwrap().unwrap();
        assert!(told.iter().map(Result::unwrap).count() == 2);
    });
}

#[test]
fn a_callback_may_close_the_log() {
    deadline(|| {
        let (wal, _) = open();
        let (tell, told) = mpsc::channel();
        let log = Arc::clone(&wal);
        wal.on_durable(wal.append(b"one").unwrap(), move |_| tell.send(log.close()).unwrap());
        told.recv().unwrap().unwrap();
        wal.close().unwrap();
    });
}

/// A waker that calls the log whenever anything is done with it.
struct Nosy {
    wal: Arc<FaultyWal>,
    done: Arc<AtomicUsize>,
}

impl Nosy {
    fn call(&self) {
        let lsn = self.wal.append(b"nosy").unwrap();
        // It registers, and takes that back.
        drop(poll(&mut self.wal.durable(lsn), Waker::noop()));
        self.wal.flush().unwrap();
        self.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Wake for Nosy {
    fn wake(self: Arc<Self>) {
        self.call();
    }
}

impl Drop for Nosy {
    fn drop(&mut self) {
        self.call();
    }
}

#[test]
fn wakers_that_call_the_log_meet_no_lock() {
    deadline(|| {
        let (wal, _) = open();
        let done = Arc::new(AtomicUsize::new(0));
        let nosy =
            || Waker::from(Arc::new(Nosy { wal: Arc::clone(&wal), done: Arc::clone(&done) }));
        let lsn = wal.append(b"").unwrap();
        let mut futures = [wal.durable(lsn), wal.durable(lsn), wal.durable(lsn)];
        for future in &mut futures {
            // The second waker takes the place of the first, which is dropped.
            drop(poll(future, &nosy()));
            drop(poll(future, &nosy()));
        }
        drop(futures);
        pollster::block_on(wal.durable(lsn)).unwrap();
        // Each is dropped in the end.
        while done.load(Ordering::Relaxed) < 6 {
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_waker_that_panics_harms_nobody() {
    struct Panics;
    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("waker");
        }
    }
    deadline(|| {
        let (wal, script) = open();
        let gate = hold_syncs(&script);
        let first = begin_sync(&wal, &gate);
        let lsn = wal.append(b"").unwrap();
        let mut future = wal.durable(lsn);
        assert!(poll(&mut future, &Waker::from(Arc::new(Panics))).is_pending());
        let (tell, told) = mpsc::channel();
        wal.on_durable(lsn, move |result| tell.send(result).unwrap());
        gate.open();
        told.recv().unwrap().unwrap();
        assert!(poll(&mut future, Waker::noop()).is_ready());
        first.join().unwrap().unwrap();
    });
}

/// A store that waits for its own log, in the stage that it is called in.
#[test]
fn waiting_inside_a_stage_is_refused() {
    deadline(|| {
        let (wal, script) = open();
        let lsn = wal.append(b"").unwrap();
        let log = Arc::downgrade(&wal);
        let refused = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&refused);
        let made = (wal.durable(lsn), wal.follow(wal.end_lsn()).unwrap());
        let made = Mutex::new(Some(made));
        script.hook(move |op, _| {
            let Some(wal) = log.upgrade().filter(|_| op == Op::Sync) else { return };
            let mut results = vec![
                pollster::block_on(wal.durable(lsn)),
                wal.durable(lsn).wait(),
                wal.follow(lsn).map(drop),
            ];
            // Those that were made outside.
            if let Some((future, mut follower)) = made.lock().unwrap().take() {
                results.push(pollster::block_on(future));
                results.push(follower.next().unwrap().map(drop));
            }
            let reentrant =
                |result: &cohort_wal::Result<()>| matches!(result, Err(WalError::Reentrant));
            assert!(results.iter().all(reentrant), "{results:?}");
            counter.fetch_add(1, Ordering::Relaxed);
        });
        pollster::block_on(wal.durable(lsn)).unwrap();
        assert!(refused.load(Ordering::Relaxed) > 0);
        script.hook(|_, _| {});
    });
}
