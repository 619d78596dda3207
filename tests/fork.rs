//! A fork: the child's copy of a log does no I/O, and the parent's goes on as if nothing had been.
//!
//! The child reports by its exit status: 0, or the number of the first check that failed. It never
//! returns into the test harness, whose other threads it does not have, and an alarm ends it if it
//! hangs.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(unsafe_code, reason = "nothing forks safely, and this is what is tested")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use std::io::{Read, Write, pipe};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cohort_wal::{FileStore, Result, Wal, WalError, WalOptions, WalStore};

use common::{Id, deadline, deadline_of, directory, join_all, payload, read_ids};
use faulty::{FaultyStore, Gate, Op};

fn options() -> WalOptions {
    WalOptions::new().segment_bytes(64 << 10).ring_bytes(64 << 10)
}

/// Runs `child` in a fork of this process, and returns at once with its process id. `child`
/// returns 0 or what to exit with.
fn fork(child: impl FnOnce() -> i32) -> libc::pid_t {
    // SAFETY: The child is a copy of this thread alone. It calls what the test is about and
    // leaves by `_exit`, so it runs no destructor and no harness of the parent's. Its allocator is
    // usable: glibc, musl and macOS reset theirs in a fork.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork: {}", std::io::Error::last_os_error());
    if pid == 0 {
        // SAFETY: No handler is installed: the signal ends the process.
        unsafe { libc::alarm(8) };
        let status = catch_unwind(AssertUnwindSafe(child)).unwrap_or(100);
        // SAFETY: Ends the process and touches nothing.
        unsafe { libc::_exit(status) };
    }
    pid
}

/// How a child ended: its exit status, or minus the signal that killed it.
fn wait(pid: libc::pid_t) -> i32 {
    let mut status = 0;
    // SAFETY: `status` lives through the call.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!(waited, pid, "waitpid: {}", std::io::Error::last_os_error());
    match libc::WIFEXITED(status) {
        true => libc::WEXITSTATUS(status),
        false => -libc::WTERMSIG(status),
    }
}

type Call<'a, S> = &'a dyn Fn(&Wal<S>) -> Result<()>;

/// The number of the first call that is not refused, counted from 1, or 0. `pending`: something
/// was appended and not written, so that there is something to do for every call.
fn first_not_refused<S: WalStore>(wal: &Wal<S>, pending: bool) -> i32 {
    let always: [Call<'_, S>; 6] = [
        &|wal| wal.append_and_sync(b"child").map(drop),
        &|wal| wal.append_batch_and_sync(&["child"]).map(drop),
        &|wal| wal.append(&[0; 9_000]).map(drop),
        &|wal| wal.rotate(),
        &|wal| wal.iter().map(drop),
        &|wal| wal.close(),
    ];
    let with_work: [Call<'_, S>; 4] = [
        &|wal| wal.flush(),
        &|wal| wal.sync(),
        &|wal| wal.append_batch_and_sync::<&str>(&[]).map(drop),
        &|wal| wal.wait_durable(wal.last_lsn().unwrap_or_default()),
    ];
    for (call, number) in always.iter().chain(&with_work).zip(1..) {
        match call(wal) {
            Err(WalError::Forked) => {}
            Ok(()) if !pending && number > 6 => {}
            _ => return number,
        }
    }
    0
}

/// What is asked of a log without an error to answer with.
fn values<S: WalStore>(wal: &Wal<S>) {
    std::hint::black_box((wal.end_lsn(), wal.durable_lsn(), wal.head_lsn(), wal.last_lsn()));
    std::hint::black_box((wal.is_empty(), wal.live_bytes(), wal.stats(), wal.recovery()));
}

fn id(number: u64) -> Id {
    Id { owner: 1, number }
}

#[test]
fn the_childs_copy_of_a_log_does_no_io_and_the_parents_goes_on() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = options().open(dir.path()).unwrap();
        wal.append_and_sync(&payload(id(0), 100)).unwrap();
        // In the ring: a child that wrote anything would write it.
        wal.append(&payload(id(1), 100)).unwrap();
        let before = directory(dir.path());
        let child = fork(|| {
            let failed = first_not_refused(&wal, true);
            // The child's memory is its own: appending is allowed until the ring is full.
            let full = (0..10_000).find_map(|_| wal.append(&[7; 500]).err());
            if failed == 0 && !matches!(full, Some(WalError::Forked)) {
                return 50;
            }
            // SAFETY: The copy in this process is dropped once; `_exit` drops no other.
            drop(unsafe { std::ptr::read(&raw const wal) });
            failed
        });
        assert_eq!(wait(child), 0);
        assert_eq!(directory(dir.path()), before, "the child changed bytes");
        assert!(is_locked(dir.path()), "the child released the lock");
        wal.append_and_sync(&payload(id(2), 100)).unwrap();
        wal.append(&payload(id(3), 9_000)).unwrap();
        wal.close().unwrap();
        let wal = options().open(dir.path()).unwrap();
        assert!(wal.recovery().clean);
        let read: Vec<_> = read_ids(&wal).into_iter().map(|(_, id)| id.number).collect();
        assert_eq!(read, [0, 1, 2, 3]);
    });
}

fn is_locked(dir: &Path) -> bool {
    matches!(options().open(dir), Err(WalError::Locked { .. }))
}

/// The child has the locked file open as well, and a lock lasts as long as somebody has it open.
#[test]
fn a_log_that_the_parent_closed_opens_anew_while_the_child_lives() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = options().open(dir.path()).unwrap();
        wal.append_and_sync(&payload(id(0), 100)).unwrap();
        let (mut closed, mut close) = pipe().unwrap();
        let child = fork(|| {
            if closed.read_exact(&mut [0]).is_err() {
                return 1;
            }
            match options().open(dir.path()) {
                Ok(wal) if read_ids(&wal).len() == 1 => 0,
                Ok(_) => 2,
                Err(WalError::Locked { .. }) => 3,
                Err(_) => 4,
            }
        });
        wal.close().unwrap();
        close.write_all(&[0]).unwrap();
        assert_eq!(wait(child), 0);
        assert_eq!(read_ids(&options().open(dir.path()).unwrap()).len(), 1);
    });
}

/// Every lock of the log may be held by a thread that the child does not have.
#[test]
fn the_childs_copy_answers_although_other_threads_were_inside_the_log() {
    deadline_of(60, || {
        let dir = tempfile::tempdir().unwrap();
        let wal = Arc::new(options().open(dir.path()).unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let committers = (0..4).map(|owner| {
            let (wal, stop) = (Arc::clone(&wal), Arc::clone(&stop));
            thread::spawn(move || {
                let mut number = 0;
                while !stop.load(Ordering::Relaxed) {
                    let len = if number % 5 == 0 { 9_000 } else { 100 };
                    wal.append_and_sync(&payload(Id { owner, number }, len)).unwrap();
                    number += 1;
                }
                number
            })
        });
        let committers: Vec<_> = committers.collect();
        for round in 0..30 {
            assert_eq!(wait(fork(|| first_not_refused(&wal, false))), 0, "round {round}");
        }
        stop.store(true, Ordering::Relaxed);
        let total: u64 = join_all(committers).into_iter().sum();
        wal.close().unwrap();
        let wal = options().open(dir.path()).unwrap();
        assert_eq!(u64::try_from(read_ids(&wal).len()).unwrap(), total);
    });
}

#[test]
fn the_childs_copy_has_values_although_other_threads_were_asking_for_them() {
    deadline_of(60, || {
        let dir = tempfile::tempdir().unwrap();
        let wal = Arc::new(options().open(dir.path()).unwrap());
        wal.append_and_sync(&payload(id(0), 100)).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let askers = (0..3).map(|_| {
            let (wal, stop) = (Arc::clone(&wal), Arc::clone(&stop));
            thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    values(&wal);
                    std::hint::black_box(wal.iter().is_ok());
                }
            })
        });
        let askers: Vec<_> = askers.collect();
        for round in 0..200 {
            let child = fork(|| {
                values(&wal);
                first_not_refused(&wal, false)
            });
            assert_eq!(wait(child), 0, "round {round}");
        }
        stop.store(true, Ordering::Relaxed);
        join_all(askers);
    });
}

/// A fork while another thread writes a large record around the ring, which holds up appends.
#[test]
fn the_childs_copy_refuses_appends_that_wait_for_a_thread_it_does_not_have() {
    deadline_of(30, || {
        let dir = tempfile::tempdir().unwrap();
        let (store, script) = FaultyStore::over(FileStore::open(dir.path()).unwrap());
        let wal = Arc::new(options().open_store(store).unwrap());
        wal.append_and_sync(&payload(id(0), 100)).unwrap();
        let gate = Arc::new(Gate::default());
        let at_gate = Arc::clone(&gate);
        script.hook(move |op, _| {
            if op == Op::Write {
                at_gate.pass();
            }
        });
        let large = Arc::clone(&wal);
        let large = thread::spawn(move || large.append(&payload(id(1), 9_000)));
        gate.wait_for_arrival();
        let child = fork(|| {
            values(&wal);
            match (first_not_refused(&wal, false), wal.append(b"child")) {
                (0, Err(WalError::Forked)) => 0,
                (0, _) => 50,
                (failed, _) => failed,
            }
        });
        let ended = wait(child);
        gate.open();
        large.join().unwrap().unwrap();
        assert_eq!(ended, 0);
        wal.append_and_sync(&payload(id(2), 100)).unwrap();
        assert_eq!(read_ids(&wal).len(), 3);
    });
}

#[test]
fn a_child_forked_while_an_image_is_made_writes_nothing_into_it() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = options().open(dir.path()).unwrap();
        wal.append_and_sync(b"one").unwrap();
        let end = wal.end_lsn();
        wal.checkpoint(end, |image| {
            // More than a chunk, so that something is written before the end.
            let child = fork(|| i32::from(image.write_all(&[9; 900_000]).is_ok()));
            assert_eq!(wait(child), 0, "the child's image is refused");
            image.write_all(&[1; 1000])
        })
        .unwrap();
        let mut bytes = Vec::new();
        let mut latest = wal.snapshots().unwrap().latest().unwrap().unwrap();
        latest.read_to_end(&mut bytes).unwrap();
        assert_eq!(bytes, [1; 1000]);
        drop(wal);
        assert!(options().open(dir.path()).is_ok());
    });
}

/// The child appends, which wakes no helper of its own, and asks what was asked before the fork.
#[test]
fn the_childs_copy_starts_no_helpers() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let every = Duration::from_millis(1);
        let options = || options().sync_interval(every).flush_interval(every);
        let wal = options().open(dir.path()).unwrap();
        let before = directory(dir.path());
        let mut follower = wal.follow(wal.end_lsn()).unwrap();
        let child = fork(|| {
            if !matches!(follower.next(), Some(Err(WalError::Forked))) {
                return 50;
            }
            let lsn = wal.append(&[7; 500]).unwrap();
            let (tell, told) = std::sync::mpsc::channel();
            wal.on_durable(lsn, move |result| tell.send(result).unwrap());
            if !matches!(told.try_recv(), Ok(Err(WalError::Forked))) {
                return 51;
            }
            let mut future = std::pin::pin!(wal.durable(lsn));
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let polled = std::future::Future::poll(future.as_mut(), &mut context);
            if !matches!(polled, std::task::Poll::Ready(Err(WalError::Forked))) {
                return 52;
            }
            if !matches!(wal.follow(lsn), Err(WalError::Forked)) {
                return 53;
            }
            // Long enough for helpers, if there were any.
            thread::sleep(every * 50);
            let threads = std::fs::read_dir("/proc/self/task").unwrap().count();
            if threads == 1 { 0 } else { 54 }
        });
        assert_eq!(wait(child), 0);
        assert_eq!(directory(dir.path()), before, "the child changed bytes");
        wal.append(&payload(id(0), 100)).unwrap();
        while wal.durable_lsn() < wal.end_lsn() {
            thread::yield_now();
        }
        wal.close().unwrap();
    });
}
