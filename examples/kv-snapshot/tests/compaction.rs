//! Compaction: images, what goes on beside it, and what its failures leave.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says how much it has tried")]

mod common;
#[path = "../../../tests/common/faulty.rs"]
mod faulty;

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use cohort_wal::MemStore;
use cohort_wal::sim::{Profile, SimCall, SimFault, SimFaultKind, SimStore};
use kv_snapshot::{Error, Store, Token, workload};

use common::{commit, held, image, load};
use faulty::{FaultyStore, Op};

#[test]
fn equal_states_have_equal_snapshots_along_different_histories() {
    let (one, other) = (MemStore::new(), MemStore::new());
    let store = load(one).unwrap();
    (1..=60).for_each(|n| commit(&store, n).unwrap());
    store.compact().unwrap();

    // The same in three lives, with compactions, in one batch at last, and with detours.
    let long = load(other.clone()).unwrap();
    long.put("detour", Token::new(b"?").unwrap(), b"gone by then").unwrap();
    (1..=20).for_each(|n| commit(&long, n).unwrap());
    long.compact().unwrap();
    drop(long);
    let long = load(other.clone()).unwrap();
    (21..=40).for_each(|n| commit(&long, n).unwrap());
    long.purge("detour").unwrap();
    drop(long);
    let long = load(other).unwrap();
    let rest: Result<Vec<_>, _> = (41..=60).map(|n| workload::changes(0, n)).collect();
    long.commit(rest.unwrap().concat()).unwrap();
    long.compact().unwrap();
    assert_eq!(image(&long), image(&store));

    long.set_cursor(b"elsewhere").unwrap();
    long.compact().unwrap();
    assert_ne!(image(&long), image(&store));
}

#[test]
fn a_log_of_cursors_alone_is_loaded_before_and_after_compaction() {
    let disk = MemStore::new();
    for round in 0..4 {
        let store = load(disk.clone()).unwrap();
        let view = store.view().unwrap();
        let last = (round > 0).then(|| format!("{}", round - 1).into_bytes());
        assert_eq!((view.len(), view.cursor()), (0, last.as_deref()));
        store.set_cursor(b"on the way").unwrap();
        store.set_cursor(format!("{round}").as_bytes()).unwrap();
        if round % 2 == 1 {
            assert_eq!(store.compact().unwrap().entries, 0);
            assert!(store.wal().is_empty());
        }
    }
}

#[test]
fn the_threshold_asks_for_compaction_and_compaction_answers() {
    let store = load(MemStore::new()).unwrap();
    let mut n = 0;
    while !store.needs_compaction() {
        assert!(store.wal().live_bytes() <= common::COMPACT_ABOVE);
        n += 1;
        commit(&store, n).unwrap();
    }
    let before = store.wal().live_bytes();
    let done = store.compact().unwrap();
    assert_eq!((done.freed_bytes, done.entries), (before, store.view().unwrap().len()));
    assert!(!store.needs_compaction() && store.wal().is_empty());
    assert_eq!(store.compact().unwrap().freed_bytes, 0, "there is nothing to do");
}

#[test]
fn what_was_not_flushed_when_compaction_began_survives_it() {
    for profile in Profile::ALL {
        let disk = SimStore::new(profile, 9);
        let store = load(disk.clone()).unwrap();
        commit(&store, 1).unwrap();
        let (writes, bytes) = (disk.calls(SimCall::Write), disk.fingerprint());
        for n in 2..=4 {
            store.append(workload::changes(0, n).unwrap()).unwrap();
        }
        assert_eq!((disk.calls(SimCall::Write), disk.fingerprint()), (writes, bytes), "in memory");
        assert_eq!(held(&load(disk.kill()).unwrap(), 1), [1], "and lost with the process");
        store.compact().unwrap();
        for after in disk.power_losses(50).chain([disk.kill()]) {
            assert_eq!(held(&load(after).unwrap(), 1), [4]);
        }
    }
}

/// Every compaction is followed by the death of the process: a change that is neither in the image
/// nor behind it is missed at once, before a later image has it again.
#[test]
fn no_change_falls_between_an_image_and_the_log_behind_it() {
    const WRITERS: usize = 2;
    // Beside each compaction. To check a state takes as long as there were commits.
    const COMMITS: u64 = 500;
    let disk = MemStore::new();
    let store = load(disk.clone()).unwrap();
    let (over, due) = (AtomicBool::new(false), AtomicU64::new(0));
    let acknowledged = [const { AtomicU64::new(0) }; WRITERS];
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (store, acknowledged, over, due) = (&store, &acknowledged, &over, &due);
            scope.spawn(move || {
                for n in 1.. {
                    while n > due.load(SeqCst) && !over.load(SeqCst) {
                        thread::yield_now();
                    }
                    if over.load(SeqCst) {
                        break;
                    }
                    store.commit(workload::changes(writer, n).unwrap()).unwrap();
                    acknowledged[writer].store(n, SeqCst);
                }
            });
        }
        // However it ends, the writers end too.
        let _over = OnDrop(|| over.store(true, SeqCst));
        for _ in 0..30 {
            due.fetch_add(COMMITS, SeqCst);
            store.compact().unwrap();
            let owed = acknowledged.each_ref().map(|n| n.load(SeqCst));
            let killed = load(MemStore::from_snapshot(disk.snapshot())).unwrap();
            let found = held(&killed, WRITERS);
            assert!(owed.iter().zip(&found).all(|(owed, found)| owed <= found), "{owed:?}");
        }
    });
    let acknowledged = acknowledged.map(AtomicU64::into_inner);
    println!("killed after each of 30 compactions beside {acknowledged:?} commits");
    assert_eq!(held(&store, WRITERS), acknowledged);
}

/// The store holds the image up until somebody has committed.
#[test]
fn commits_and_reads_go_on_while_an_image_is_written() {
    let disk = MemStore::new();
    let (gated, script) = FaultyStore::over(disk.clone());
    let store = load(gated).unwrap();
    commit(&store, 1).unwrap();
    let image = script.hold(Op::Publish, ".snap");
    thread::scope(|scope| {
        let compaction = scope.spawn(|| store.compact().unwrap());
        image.wait_for_arrival();
        commit(&store, 2).unwrap();
        assert_eq!(held(&store, 1), [2]);
        image.open();
        compaction.join().expect("commits do not wait for it");
    });
    drop(store);
    assert_eq!(held(&load(disk).unwrap(), 1), [2]);
}

/// Does something when it goes, also in a panic.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// Commits that come while the image is being written stay in the log behind the snapshot.
#[test]
fn async_commits_go_on_beside_a_compaction_in_a_blocking_pool() {
    const TASKS: usize = 8;
    const LAST: u64 = 60;
    let disk = SimStore::new(Profile::Ext4, 8);
    let store = Arc::new(load(disk.clone()).unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let compactions = runtime.block_on(async {
        let writers = (0..TASKS).map(|writer| {
            let (store, disk) = (Arc::clone(&store), disk.clone());
            tokio::spawn(async move {
                let mut compactions = 0;
                for n in 1..=LAST {
                    store.commit_async(workload::changes(writer, n).unwrap()).await.unwrap();
                    if n.is_multiple_of(20) {
                        let after = load(disk.power_loss()).unwrap();
                        assert_eq!(held(&after, TASKS)[writer], n);
                    }
                    if store.needs_compaction() {
                        // The syncs of a compaction block a thread of the pool, not this task's.
                        let store = Arc::clone(&store);
                        let compaction = tokio::task::spawn_blocking(move || store.compact());
                        compaction.await.unwrap().unwrap();
                        compactions += 1;
                    }
                }
                compactions
            })
        });
        let mut compactions = 0;
        for writer in writers.collect::<Vec<_>>() {
            compactions += writer.await.unwrap();
        }
        compactions
    });
    assert!(compactions > 0);
    assert_eq!(held(&store, TASKS), [LAST; TASKS]);
    assert_eq!(held(&load(disk.power_loss()).unwrap(), TASKS), [LAST; TASKS]);
}

#[test]
fn a_full_disk_stops_a_compaction_and_nothing_else() {
    let disk = SimStore::new(Profile::Ext4, 2);
    let store = load(disk.clone()).unwrap();
    let token = Token::new(b"1").unwrap();
    for number in 0..60 {
        store.put(&format!("big {number}"), token.clone(), &[7; 2_000]).unwrap();
    }
    disk.set_capacity(Some(disk.bytes() + (20 << 10)));
    for _ in 0..3 {
        let error = store.compact().unwrap_err();
        assert!(error.is_retryable() && !error.is_poisoned(), "{error}");
        assert!(store.needs_compaction());
        store.put("small", token.clone(), b"fits").unwrap();
        let after = disk.power_loss();
        after.set_capacity(None);
        assert_eq!(load(after).unwrap().view().unwrap().len(), 61);
    }
    disk.set_capacity(None);
    store.compact().unwrap();
    assert_eq!(load(disk.power_loss()).unwrap().view().unwrap(), store.view().unwrap());
}

#[test]
fn a_large_value_that_found_the_disk_full_is_not_in_the_way_of_compaction() {
    let disk = SimStore::new(Profile::Ext4, 2);
    let store = load(disk.clone()).unwrap();
    (1..=10).for_each(|n| commit(&store, n).unwrap());
    disk.set_capacity(Some(disk.bytes() + (24 << 10)));
    let before = store.wal().end_lsn();
    // Larger than the ring: its segment can be begun, and there is no room for its bytes.
    let error = store.put("large", Token::new(b"1").unwrap(), &[1; 200_000]).unwrap_err();
    assert!(error.is_retryable() && store.wal().end_lsn() > before, "{error}: and there is a gap");
    disk.set_capacity(None);
    store.compact().unwrap();
    assert_eq!(held(&store, 1), [10]);
    assert_eq!(held(&load(disk.power_loss()).unwrap(), 1), [10]);
}

/// What became of a run with one failing call.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Outcomes {
    unnoticed: u32,
    went_on: u32,
    poisoned: u32,
}

/// Commits and compacts until something fails: how many commits were acknowledged, and the error
/// with whether it was the compaction's.
fn until_it_fails(store: &Store<SimStore>, mut n: u64) -> (u64, Option<(Error, bool)>) {
    while n < 16 {
        if let Err(error) = commit(store, n + 1) {
            return (n, Some((error, false)));
        }
        n += 1;
        if n.is_multiple_of(3)
            && let Err(error) = store.compact()
        {
            return (n, Some((error, true)));
        }
    }
    (n, None)
}

#[test]
fn no_failing_call_loses_anything_and_poison_is_reported() {
    let calls = [SimCall::Create, SimCall::Publish, SimCall::Write, SimCall::Sync, SimCall::Remove];
    let kinds = [
        SimFaultKind::Error(ErrorKind::Other),
        SimFaultKind::Error(ErrorKind::StorageFull),
        SimFaultKind::Short(ErrorKind::Other),
        SimFaultKind::Late(ErrorKind::Other),
    ];
    let mut seen = Outcomes::default();
    for (call, kind) in calls.into_iter().flat_map(|call| kinds.map(|kind| (call, kind))) {
        for after in 0..24 {
            let disk = SimStore::new(Profile::Ext4, after);
            let store = load(disk.clone()).unwrap();
            (1..=5).for_each(|n| commit(&store, n).unwrap());
            store.compact().unwrap();
            disk.inject(SimFault::new(kind).on(call).after(after));
            let (mut held_now, failed) = until_it_fails(&store, 5);
            let name = format!("{call:?} {kind:?} {after}: {failed:?}");
            disk.heal();
            let next = commit(&store, held_now + 1);
            match (&failed, &next) {
                (None, _) => seen.unnoticed += 1,
                (Some((error, of_compaction)), Err(next)) => {
                    seen.poisoned += 1;
                    assert!(next.is_poisoned(), "{name}: {next}");
                    assert!(error.is_poisoned(), "{name}: the first error says so too");
                    assert!(store.compact().unwrap_err().is_poisoned(), "{name}");
                    // What could not be made durable is not shown either.
                    assert!(*of_compaction || store.view().is_err(), "{name}");
                }
                (Some((error, _)), Ok(())) => {
                    seen.went_on += 1;
                    assert!(!error.is_poisoned(), "{name}: and it goes on");
                }
            }
            if next.is_ok() {
                held_now += 1;
                store.compact().unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            for after in [disk.power_loss(), disk.kill()] {
                let found = held(&load(after).unwrap(), 1)[0];
                let under_way = u64::from(next.is_err());
                assert!((held_now..=held_now + under_way).contains(&found), "{name}: {found}");
            }
        }
    }
    println!("runs with a failing call: {seen:?}");
    assert!(seen.unnoticed > 0 && seen.went_on > 20 && seen.poisoned > 20, "{seen:?}");
}
