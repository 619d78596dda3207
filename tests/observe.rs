//! What `tracing` subscribers and `metrics` recorders are told, and that nothing they do harms the
//! log: panics, calls back, and taking their time.
//!
//! Method: an observer that notes what it is told on a thread and runs a hook each time. Sweeps
//! take everything that a fixed workload tells, one by one, and let the hook interfere there; the
//! log must come out as without. Nothing may hang: every run has a deadline.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;
#[path = "observe/observer.rs"]
mod observer;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;

use cohort_wal::{Lsn, MemStore, Result, Wal, WalError, WalOptions};

use common::{deadline, deadline_of, join_all, read_all, smallest};
use faulty::{EIO, FaultyStore, Op, Script};
use observer::{Notes, observed};

type Log = Wal<FaultyStore<MemStore>>;

/// Every kind of thing that is observed, and what the log says of itself at the end.
fn workload(store: &MemStore, meanwhile: &OnceLock<Weak<Log>>) -> String {
    let (faulty, script) = FaultyStore::over(store.clone());
    let wal = Arc::new(smallest().open_store(faulty).unwrap());
    meanwhile.set(Arc::downgrade(&wal)).unwrap();
    for number in 0..10 {
        wal.append(&[number; 100]).unwrap();
    }
    wal.flush().unwrap();
    wal.append_and_sync(b"commit").unwrap();
    wal.append(&vec![1; 80 << 10]).unwrap();
    wal.rotate().unwrap();
    wal.append_and_sync(b"the last that is durable").unwrap();
    let (syncs, durable) = (script.calls(Op::Sync), wal.durable_lsn());
    script.fail_always(Op::Sync, EIO);
    let poisoned = wal.append_and_sync(b"fails").unwrap_err();
    assert!(poisoned.is_poisoned());
    let stats = wal.stats();
    let sums = [stats.appends, stats.flushes, stats.syncs, stats.commits, stats.rotations];
    let closed = wal.close().unwrap_err();
    drop(wal);
    script.heal();
    let wal = smallest().open_store(store.clone()).unwrap();
    wal.append_and_sync(b"goes on").unwrap();
    wal.close().unwrap();
    let records: Vec<_> = read_all(&smallest().open_store(store.clone()).unwrap())
        .iter()
        .map(|record| (record.len(), record[0]))
        .collect();
    format!("{poisoned} {closed} {sums:?} {syncs} {durable} {records:?}")
}

/// The labels of the workload, each once, and what becomes of the log.
fn undisturbed() -> (BTreeSet<String>, String) {
    let notes = Arc::new(Notes::default());
    let result = observed(&notes, || workload(&MemStore::new(), &OnceLock::new()));
    let labels: BTreeSet<_> = notes.labels().into_iter().collect();
    for told in ["new open", "enters flush", "leaves sync", "records sync", "closes rotate"] {
        assert!(labels.contains(told), "{told}: {labels:?}");
    }
    for told in ["log is poisoned", "log is closed", "counts cohort_wal.syncs"] {
        assert!(labels.contains(told), "{told}: {labels:?}");
    }
    (labels, result)
}

/// The sum of values that are whole numbers.
fn sum(values: &[f64]) -> String {
    values.iter().sum::<f64>().to_string()
}

#[test]
fn spans_and_counters_have_the_numbers_of_the_log() {
    let notes = Arc::new(Notes::default());
    let wal = observed(&notes, || {
        let wal = smallest().open_store(MemStore::new()).unwrap();
        wal.append(b"one").unwrap();
        wal.append(b"two").unwrap();
        wal.flush().unwrap();
        wal.append_and_sync(b"three").unwrap();
        wal.rotate().unwrap();
        wal.append(&vec![4; 80 << 10]).unwrap();
        wal.close().unwrap();
        wal
    });
    let [opened] = &notes.named("open")[..] else { panic!() };
    assert_eq!((opened.level.as_str(), opened.over), ("INFO", true));
    assert_eq!((opened.number("head"), opened.number("end"), opened.number("records")), (0, 0, 0));
    let flushes = notes.named("flush");
    assert!(flushes.iter().all(|flush| flush.level == "DEBUG" && flush.over));
    let ranges: Vec<_> =
        flushes.iter().map(|flush| (flush.number("start"), flush.number("end"))).collect();
    let end = wal.end_lsn().get();
    assert_eq!(ranges, [(0, 48), (48, 72), (72, end)]);
    for flush in &flushes {
        assert_eq!(flush.number("bytes"), flush.number("end") - flush.number("start"));
    }
    let syncs = notes.named("sync");
    let first = ["start", "end", "bytes", "commits"].map(|field| syncs[0].number(field));
    assert_eq!(first, [0, 72, 72, 1]);
    let last = ["start", "end", "commits"].map(|field| syncs.last().unwrap().number(field));
    assert_eq!((last[1], last[2]), (end, 0), "closing commits for nobody");
    let rotations: Vec<_> = notes.named("rotate").iter().map(|note| note.number("at")).collect();
    assert!(rotations.contains(&72), "{rotations:?}");
    let [closed] = &notes.named("log is closed")[..] else { panic!() };
    assert_eq!((closed.level.as_str(), closed.number("durable")), ("INFO", end));
    assert_eq!(closed.fields["clean"], "true");
    assert!(notes.named("log is poisoned").is_empty());

    let stats = wal.stats();
    let counted = ["flushes", "rotations", "commits", "bytes_written", "syncs"];
    let counted = counted.map(|name| notes.count(&format!("cohort_wal.{name}")));
    let spans = u64::try_from(syncs.len()).unwrap();
    assert_eq!(counted, [stats.flushes, stats.rotations, stats.commits, end, spans]);
    assert_eq!(rotations.len(), usize::try_from(stats.rotations).unwrap());
    let counted = ["opened", "closed", "poisoned"];
    assert_eq!(counted.map(|name| notes.count(&format!("cohort_wal.{name}"))), [1, 1, 0]);
    assert_eq!(sum(&notes.values("cohort_wal.flush_bytes")), end.to_string());
    assert_eq!(notes.values("cohort_wal.cohort_commits"), [1.0]);
    assert_eq!(notes.values("cohort_wal.sync_seconds").len(), syncs.len());
}

#[test]
fn opening_says_what_it_found_and_why_it_refused() {
    let store = MemStore::new();
    let wal = smallest().open_store(store.clone()).unwrap();
    wal.append_and_sync(b"one").unwrap();
    let notes = Arc::new(Notes::default());
    let refused = observed(&notes, || smallest().open_store(store.clone()).unwrap_err());
    assert_eq!(notes.named("open")[0].fields["error"], refused.to_string());
    assert_eq!(notes.count("cohort_wal.opened"), 0);
    wal.close().unwrap();
    let wal = observed(&notes, || smallest().open_store(store).unwrap());
    let opened = &notes.named("open")[1];
    assert_eq!((opened.number("end"), opened.number("records")), (wal.end_lsn().get(), 1));
    assert_eq!(opened.fields["clean"], "true");
    assert_eq!(notes.count("cohort_wal.opened"), 1);
}

#[test]
fn nothing_is_told_per_append() {
    let notes = Arc::new(Notes::default());
    let wal = WalOptions::new().open_store(MemStore::new()).unwrap();
    observed(&notes, || {
        for _ in 0..1000 {
            wal.append(&[7; 100]).unwrap();
        }
    });
    assert_eq!(notes.labels(), [""; 0]);
}

#[test]
fn the_commits_of_all_cohorts_are_those_of_the_log() {
    deadline(|| {
        let notes = Arc::new(Notes::default());
        let wal = Arc::new(WalOptions::new().open_store(MemStore::new()).unwrap());
        let committers = (0..4).map(|_| {
            let (wal, notes) = (Arc::clone(&wal), Arc::clone(&notes));
            thread::spawn(move || {
                observed(&notes, || {
                    for _ in 0..200 {
                        wal.append_and_sync(&[3; 50]).unwrap();
                    }
                });
            })
        });
        join_all(committers.collect());
        let mut syncs = notes.named("sync");
        syncs.sort_by_key(|sync| sync.number("start"));
        let mut durable = 0;
        for sync in &syncs {
            assert_eq!(sync.number("start"), durable, "syncs follow each other");
            durable = sync.number("end");
        }
        assert_eq!(durable, wal.durable_lsn().get());
        let commits: u64 = syncs.iter().map(|sync| sync.number("commits")).sum();
        let stats = wal.stats();
        assert_eq!((commits, notes.count("cohort_wal.commits")), (stats.commits, stats.commits));
        assert_eq!(notes.count("cohort_wal.syncs"), stats.syncs);
        let sizes = notes.values("cohort_wal.cohort_commits");
        assert_eq!(sum(&sizes), commits.to_string());
    });
}

#[test]
fn an_observer_that_panics_anywhere_changes_nothing() {
    let (labels, expected) = undisturbed();
    assert!(labels.len() > 30, "{labels:?}");
    deadline_of(60, move || {
        for label in labels {
            let (at, panics) = (label.clone(), Arc::new(AtomicU64::new(0)));
            let count = Arc::clone(&panics);
            let notes = Notes::with_hook(move |told| {
                if told == at {
                    count.fetch_add(1, Ordering::Relaxed);
                    panic!("the observer does not like {told}");
                }
            });
            let result = observed(&notes, || workload(&MemStore::new(), &OnceLock::new()));
            assert!(panics.load(Ordering::Relaxed) > 0, "{label} is told");
            assert_eq!(result, expected, "{label}");
        }
    });
}

#[test]
fn an_observer_that_panics_each_time_changes_nothing() {
    let (_, expected) = undisturbed();
    deadline(move || {
        // The second one first lets the log have spans and counters.
        for spared in [&[][..], &["asks", "new", "registers"]] {
            let notes = Notes::with_hook(|told| {
                let spared = spared.iter().any(|word| told.starts_with(word));
                assert!(spared, "the observer does not like {told}");
            });
            let result = observed(&notes, || workload(&MemStore::new(), &OnceLock::new()));
            assert_eq!(result, expected);
        }
    });
}

/// What was told, and what a call from there returned.
type Refused = (String, Result<()>);

/// Every deed of a log.
fn call_back(wal: &Log) -> Vec<Result<()>> {
    vec![
        wal.append(b"a line of a log").map(drop),
        wal.append(&vec![9; 80 << 10]).map(drop),
        wal.append_and_sync(b"a line of a log").map(drop),
        wal.append_batch(&["a", "b"]).map(drop),
        wal.flush(),
        wal.sync(),
        wal.rotate(),
        wal.wait_durable(Lsn::new(0)),
        wal.iter().map(drop),
        wal.truncate_before(wal.durable_lsn()).map(drop),
        wal.close(),
    ]
}

#[test]
fn an_observer_that_calls_the_log_is_refused_and_harms_nobody() {
    let (_, expected) = undisturbed();
    deadline(move || {
        let log: Arc<OnceLock<Weak<Log>>> = Arc::default();
        let errors: Arc<Mutex<Vec<Refused>>> = Arc::default();
        let (from, into) = (Arc::clone(&log), Arc::clone(&errors));
        let notes = Notes::with_hook(move |told| {
            let Some(wal) = from.get().and_then(Weak::upgrade) else { return };
            let results = call_back(&wal);
            assert!(wal.durable_lsn() <= wal.end_lsn() && wal.stats().appends > 0);
            into.lock().unwrap().extend(results.into_iter().map(|r| (told.to_owned(), r)));
        });
        assert_eq!(observed(&notes, || workload(&MemStore::new(), &log)), expected);
        let errors = errors.lock().unwrap();
        let places: BTreeSet<_> = errors.iter().map(|(told, _)| told.as_str()).collect();
        assert!(places.contains("records sync") && places.contains("log is closed"), "{places:?}");
        for (told, result) in &*errors {
            assert!(matches!(result, Err(WalError::Reentrant)), "{told}: {result:?}");
        }
    });
}

/// Waits for `done` when it is told `label`, once.
fn wait_at(label: &'static str, done: Receiver<()>) -> Arc<Notes> {
    let done = Mutex::new(Some(done));
    Notes::with_hook(move |told| {
        if told == label
            && let Some(done) = done.lock().unwrap().take()
        {
            done.recv().unwrap();
        }
    })
}

fn faulty_log() -> (Arc<Log>, Script) {
    let (store, script) = FaultyStore::over(MemStore::new());
    (Arc::new(smallest().open_store(store).unwrap()), script)
}

#[test]
fn nobody_waits_for_an_observer_of_a_cohort_that_is_over() {
    deadline(|| {
        let (wal, _) = faulty_log();
        let (done, committed) = channel();
        let notes = wait_at("records sync", committed);
        let leader = {
            let wal = Arc::clone(&wal);
            thread::spawn(move || observed(&notes, || wal.append_and_sync(b"leads").map(drop)))
        };
        // The observer of the first sync waits until another one was made.
        while wal.durable_lsn() == Lsn::new(0) {
            thread::yield_now();
        }
        wal.append_and_sync(b"leads next").unwrap();
        done.send(()).unwrap();
        leader.join().unwrap().unwrap();
        assert_eq!(wal.durable_lsn(), wal.end_lsn());
    });
}

#[test]
fn nobody_waits_for_an_observer_of_a_log_that_is_poisoned() {
    for op in [Op::Write, Op::Sync] {
        deadline(move || {
            let (wal, script) = faulty_log();
            script.fail_always(op, EIO);
            let (done, told) = channel();
            let notes = wait_at("log is poisoned", told);
            let failing = {
                let (wal, notes) = (Arc::clone(&wal), Arc::clone(&notes));
                thread::spawn(move || observed(&notes, || wal.append_and_sync(b"x").map(drop)))
            };
            // Whether it comes before or after the failure, it ends while the observer waits.
            let other = wal.append_and_sync(b"another commit").unwrap_err();
            assert!(other.is_poisoned(), "{other:?}");
            // Whoever leads is observed, and that may have been this thread.
            done.send(()).ok();
            assert!(failing.join().unwrap().unwrap_err().is_poisoned());
        });
    }
}

#[test]
fn poison_is_told_once_with_its_cause_and_no_payload() {
    deadline(|| {
        let (wal, script) = faulty_log();
        let notes = Arc::new(Notes::default());
        observed(&notes, || {
            wal.append_and_sync(b"secret").unwrap();
            script.fail_always(Op::Sync, EIO);
            wal.append_and_sync(b"secret").unwrap_err();
            wal.append_and_sync(b"secret").unwrap_err();
            wal.close().unwrap_err();
        });
        let [poisoned] = &notes.named("log is poisoned")[..] else { panic!() };
        assert_eq!(poisoned.level, "ERROR");
        let cause = &poisoned.fields["cause"];
        assert!(cause.starts_with("sync failed on ") && !cause.contains("secret"), "{cause}");
        assert_eq!(notes.count("cohort_wal.poisoned"), 1);
        assert_eq!(notes.named("log is closed")[0].fields["clean"], "false");
        let told: Vec<_> = notes.named("sync").iter().map(|sync| sync.number("commits")).collect();
        assert_eq!(told, [1, 0], "the one that failed has served nobody");
        assert_eq!(notes.count("cohort_wal.syncs"), 1);
    });
}
