//! Every way in which a commit fails is told to futures and callbacks too.

use std::sync::{Arc, mpsc};
use std::task::{Poll, Waker};

use cohort_wal::{Lsn, Result, WalError};

use crate::common::deadline;
use crate::faulty::{EIO, ENOSPC, Fault, Gate, Op, Script};
use crate::{Count, FaultyWal, begin_sync, hold_syncs, open, poll};

/// A future and a callback for each of two records behind the one that is being synced.
struct Outstanding {
    wal: Arc<FaultyWal>,
    script: Script,
    gate: Arc<Gate>,
    first: std::thread::JoinHandle<Result<Lsn>>,
    lsns: [Lsn; 2],
    futures: [cohort_wal::Durable; 2],
    told: [mpsc::Receiver<Result<()>>; 2],
    count: Arc<Count>,
}

impl Outstanding {
    fn new() -> Self {
        let (wal, script) = open();
        let gate = hold_syncs(&script);
        let first = begin_sync(&wal, &gate);
        let lsns = [wal.append(b"one").unwrap(), wal.append(b"two").unwrap()];
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let futures = lsns.map(|lsn| {
            let mut future = wal.durable(lsn);
            assert!(poll(&mut future, &waker).is_pending());
            future
        });
        let told = lsns.map(|lsn| {
            let (tell, told) = mpsc::channel();
            wal.on_durable(lsn, move |result| tell.send(result).unwrap());
            told
        });
        Self { wal, script, gate, first, lsns, futures, told, count }
    }

    /// The results of both futures and both callbacks, in this order.
    fn results(&mut self) -> [Result<()>; 4] {
        self.count.wait_for(2);
        let futures = self.futures.each_mut().map(|future| match poll(future, Waker::noop()) {
            Poll::Ready(result) => result,
            Poll::Pending => panic!("woken and not ready"),
        });
        let told = self.told.each_ref().map(|told| told.recv().unwrap());
        let [[a, b], [c, d]] = [futures, told];
        [a, b, c, d]
    }
}

fn is_poisoned(result: &Result<()>) -> bool {
    result.as_ref().is_err_and(WalError::is_poisoned)
}

#[test]
fn a_failed_sync_is_told_to_all_for_good() {
    for fault in [EIO, ENOSPC, Fault::Panic] {
        deadline(move || {
            let mut all = Outstanding::new();
            all.script.fail_once(Op::Sync, 0, fault);
            all.gate.open();
            assert!(all.results().iter().all(is_poisoned));
            assert!(all.first.join().unwrap().is_err());
            assert!(is_poisoned(&pollster::block_on(all.wal.durable(all.lsns[0]))));
            let (tell, told) = mpsc::channel();
            all.wal.on_durable(all.lsns[1], move |result| tell.send(result).unwrap());
            assert!(is_poisoned(&told.recv().unwrap()));
            assert!(all.wal.close().is_err());
        });
    }
}

#[test]
fn a_failed_write_is_told_to_all() {
    deadline(|| {
        let mut all = Outstanding::new();
        all.script.fail_once(Op::Write, 0, EIO);
        all.gate.open();
        assert!(all.results().iter().all(is_poisoned));
        all.first.join().unwrap().unwrap();
    });
}

#[test]
fn a_full_disk_is_told_once_and_the_next_commit_goes_on() {
    deadline(|| {
        let mut all = Outstanding::new();
        all.script.fail_always(Op::Write, ENOSPC);
        all.gate.open();
        let full = |result: &Result<()>| matches!(result, Err(WalError::StorageFull { .. }));
        assert!(all.results().iter().all(full));
        assert!(full(&pollster::block_on(all.wal.durable(all.lsns[0]))));
        all.script.heal();
        pollster::block_on(all.wal.durable(all.lsns[1])).unwrap();
        assert!(poll(&mut all.wal.durable(all.lsns[0]), Waker::noop()).is_ready());
    });
}

#[test]
fn a_close_makes_all_of_them_durable() {
    deadline(|| {
        let mut all = Outstanding::new();
        let closer = Arc::clone(&all.wal);
        let closer = std::thread::spawn(move || closer.close());
        all.gate.open();
        assert!(all.results().iter().all(Result::is_ok));
        closer.join().unwrap().unwrap();
        let lsn = all.lsns[0];
        let closed = |result: Result<()>| matches!(result, Err(WalError::Closed));
        assert!(closed(pollster::block_on(all.wal.durable(lsn))));
        let (tell, told) = mpsc::channel();
        all.wal.on_durable(lsn, move |result| tell.send(result).unwrap());
        assert!(closed(told.recv().unwrap()));
    });
}

#[test]
fn dropping_the_log_makes_all_of_them_durable() {
    deadline(|| {
        let mut all = Outstanding::new();
        all.gate.open();
        all.first.join().unwrap().unwrap();
        let (wal, _) = open();
        drop(std::mem::replace(&mut all.wal, wal));
        all.first = std::thread::spawn(|| Ok(Lsn::new(0)));
        assert!(all.results().iter().all(Result::is_ok));
    });
}

#[test]
fn a_future_made_before_the_close_tells_what_became_of_its_record() {
    deadline(|| {
        let (wal, _) = open();
        let lsn = wal.append(b"").unwrap();
        let (polled, waited) = (wal.durable(lsn), wal.durable(lsn));
        wal.close().unwrap();
        pollster::block_on(polled).unwrap();
        waited.wait().unwrap();
    });
}

#[test]
fn a_log_that_cannot_be_closed_tells_those_it_leaves() {
    deadline(|| {
        let mut all = Outstanding::new();
        all.script.fail_always(Op::Write, ENOSPC);
        all.gate.open();
        all.first.join().unwrap().unwrap();
        let (wal, _) = open();
        drop(std::mem::replace(&mut all.wal, wal));
        all.first = std::thread::spawn(|| Ok(Lsn::new(0)));
        assert!(all.results().iter().all(Result::is_err));
    });
}

#[test]
fn a_cut_is_told_to_those_beyond_it_alone() {
    deadline(|| {
        let (wal, script) = open();
        wal.append_and_sync(b"kept").unwrap();
        let lsns = [wal.append(b"also").unwrap(), wal.append(b"cut").unwrap()];
        let gate = hold_syncs(&script);
        let (tell, told) = mpsc::channel();
        let count = Arc::new(Count::default());
        let waker = Waker::from(Arc::clone(&count));
        let mut futures = lsns.map(|lsn| wal.durable(lsn));
        // The cut takes its turn behind the sync that the first future asks for; what comes
        // after that is still to be synced when the cut comes.
        assert!(poll(&mut futures[0], &waker).is_pending());
        gate.wait_for_arrival();
        let late = wal.append(b"late").unwrap();
        for lsn in [lsns[0], late] {
            let tell = tell.clone();
            wal.on_durable(lsn, move |result| tell.send((lsn, result)).unwrap());
        }
        assert!(poll(&mut futures[1], &waker).is_pending());
        let cutter = Arc::clone(&wal);
        let cutter = std::thread::spawn(move || cutter.truncate_after(lsns[0]));
        gate.open();
        cutter.join().unwrap().unwrap();
        drop(tell);
        let told: Vec<_> = told.iter().collect();
        assert_eq!(told.len(), 2);
        assert!(told.iter().find(|(lsn, _)| *lsn == lsns[0]).unwrap().1.is_ok());
        let (_, of_late) = told.iter().find(|(lsn, _)| *lsn == late).unwrap();
        // Durable before the cut, or cut off.
        assert!(matches!(of_late, Ok(()) | Err(WalError::Truncated { .. })));
        // What comes next has the place of what was cut off, and is not that.
        wal.append_and_sync(b"new").unwrap();
        let result = pollster::block_on(&mut futures[1]);
        assert!(matches!(result, Ok(()) | Err(WalError::Truncated { .. })));
        let beyond = wal.durable(lsns[1]);
        pollster::block_on(beyond).unwrap();
    });
}

#[test]
fn a_future_of_before_a_cut_is_not_ready_for_what_comes_after() {
    deadline(|| {
        let (wal, _) = open();
        let kept = wal.append_and_sync(b"kept").unwrap();
        let cut = wal.append(b"cut").unwrap();
        let (polled, waited) = (wal.durable(cut), wal.durable(cut));
        wal.truncate_after(kept).unwrap();
        assert_eq!(wal.append_and_sync(b"new").unwrap(), cut);
        let truncated = |result| matches!(result, Err(WalError::Truncated { .. }));
        assert!(truncated(pollster::block_on(polled)));
        assert!(truncated(waited.wait()));
    });
}
