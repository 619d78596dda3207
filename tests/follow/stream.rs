//! A follower as a stream, on an executor of two threads.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use cohort_wal::{Follow, Lsn, Record, Result, WalError, WalOptions, WalStore};
use futures_core::Stream;

use crate::common::{deadline, smallest};
use crate::open;

async fn next<S: WalStore>(follower: &mut Follow<S>) -> Option<Result<Record>> {
    std::future::poll_fn(|context| Pin::new(&mut *follower).poll_next(context)).await
}

#[test]
fn many_streams_on_two_threads_yield_every_record() {
    const RECORDS: usize = 200;
    deadline(|| {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        let (wal, _) = open();
        let followers: Vec<_> = (0..50)
            .map(|_| {
                let mut follower = wal.follow(Lsn::new(0)).unwrap();
                runtime.spawn(async move {
                    for _ in 0..RECORDS {
                        next(&mut follower).await.unwrap().unwrap();
                    }
                    let end = next(&mut follower).await.unwrap();
                    assert!(matches!(end, Err(WalError::Closed)));
                    assert!(next(&mut follower).await.is_none());
                })
            })
            .collect();
        let appended = Arc::clone(&wal);
        let appender = runtime.spawn(async move {
            for _ in 0..RECORDS {
                let lsn = appended.append(&[0; 500]).unwrap();
                appended.durable(lsn).await.unwrap();
            }
        });
        pollster::block_on(appender).unwrap();
        wal.close().unwrap();
        followers.into_iter().for_each(|follower| pollster::block_on(follower).unwrap());
    });
}

#[test]
fn a_stopped_stream_ends() {
    deadline(|| {
        let (wal, _) = open();
        let mut follower = wal.follow(Lsn::new(0)).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(&mut follower).poll_next(&mut context).is_pending());
        let stopper = follower.stopper();
        std::thread::spawn(move || stopper.stop());
        assert!(pollster::block_on(next(&mut follower)).is_none());
    });
}

#[test]
fn a_directory_can_be_streamed_too() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = smallest().open(dir.path()).unwrap();
        let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
        let mut follower = reader.follow(Lsn::new(0)).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(&mut follower).poll_next(&mut context).is_pending());
        let appender = std::thread::spawn(move || {
            wal.append(b"late").unwrap();
            wal.close().unwrap();
        });
        let record = pollster::block_on(next(&mut follower)).unwrap().unwrap();
        assert_eq!(record.data(), b"late");
        appender.join().unwrap();
    });
}

#[test]
fn a_directory_can_be_waited_for_in_both_ways() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = smallest().open(dir.path()).unwrap();
        let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
        let mut follower = reader.follow(Lsn::new(0)).unwrap();
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(&mut follower).poll_next(&mut context).is_pending());
        assert!(follower.next_timeout(Duration::from_millis(50)).unwrap().is_none());
        wal.append(b"late").unwrap();
        wal.close().unwrap();
        let record = pollster::block_on(next(&mut follower)).unwrap().unwrap();
        assert_eq!(record.data(), b"late");
    });
}
