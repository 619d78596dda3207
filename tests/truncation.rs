//! The log forgets what is below a record, while everybody else goes on.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "truncation/cut.rs"]
mod cut;
#[path = "common/faulty.rs"]
mod faulty;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use cohort_wal::{Lsn, MemStore, Wal, WalError, WalOptions, WalStore};

use common::{base, deadline, deadline_of, join_all, names, read_all, smallest as options};
use faulty::{EIO, Fault, FaultyStore, Gate, Op};

/// Appends `count` records of 1,000 bytes that begin with their number; returns where they are.
fn fill(wal: &Wal<impl WalStore>, count: u64) -> Vec<Lsn> {
    let record = |number: u64| [&number.to_le_bytes()[..], &[7; 992]].concat();
    (0..count).map(|number| wal.append(&record(number)).unwrap()).collect()
}

fn number(record: &[u8]) -> u64 {
    u64::from_le_bytes(record[..8].try_into().unwrap())
}

/// The numbers of all records from the head on.
fn numbers(wal: &Wal<impl WalStore>) -> Vec<u64> {
    wal.iter().unwrap().map(|record| number(record.unwrap().data())).collect()
}

fn segments(store: &MemStore) -> usize {
    names(store, ".wal").len()
}

/// Where the segments begin.
fn bases(store: &MemStore) -> Vec<Lsn> {
    let files = store.snapshot();
    let segments = files.files().iter().filter(|(name, _)| name.ends_with(".wal"));
    segments.map(|(_, file)| Lsn::new(base(file))).collect()
}

#[test]
fn what_is_below_is_gone_and_what_is_not_stays() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 100);
    for keep in [0, 1, 17, 17, 50, 99] {
        assert_eq!(wal.truncate_before(lsns[keep]).unwrap(), lsns[keep]);
        assert_eq!(wal.head_lsn(), lsns[keep]);
        assert!(wal.durable_lsn() >= lsns[keep], "what is gone was durable");
        assert_eq!(numbers(&wal), (keep as u64..100).collect::<Vec<_>>());
        if keep > 0 {
            let gone = wal.iter_from(lsns[keep - 1]);
            let head = lsns[keep];
            assert!(matches!(gone, Err(WalError::Truncated { head: h, .. }) if h == head));
            assert_eq!(wal.truncate_before(lsns[keep - 1]).unwrap(), head, "it never moves back");
        }
        let needed = (100 - keep) / 8 + 3;
        assert!(segments(&memory) <= needed, "{keep}: {} segments", segments(&memory));
    }
    assert_eq!(wal.last_lsn(), Some(lsns[99]));
    drop(wal);
    let wal = options().open_store(memory).unwrap();
    assert_eq!(wal.head_lsn(), lsns[99]);
    assert_eq!(numbers(&wal), [99]);
}

#[test]
fn damage_below_the_head_takes_nothing_away() {
    for closes in [false, true] {
        let memory = MemStore::new();
        let wal = options().open_store(memory.clone()).unwrap();
        let lsns = fill(&wal, 5);
        wal.sync().unwrap();
        wal.truncate_before(lsns[3]).unwrap();
        if closes {
            wal.close().unwrap();
        }
        let mut files = memory.snapshot();
        drop(wal);
        let (_, segment) = files.files_mut().iter_mut().find(|(n, _)| n.ends_with(".wal")).unwrap();
        // Of the three records before the head.
        segment[8192..8192 + 3 * 1016].fill(0x5A);
        let damaged = MemStore::from_snapshot(files);
        for open in 0..3 {
            let wal = options().open_store(damaged.clone()).unwrap();
            assert_eq!(wal.head_lsn(), lsns[3], "{open}");
            assert_eq!(numbers(&wal), [3, 4]);
            assert_eq!(wal.last_lsn(), Some(lsns[4]));
        }
        let wal = options().open_store(damaged.clone()).unwrap();
        wal.truncate_after(lsns[3]).unwrap();
        assert_eq!((numbers(&wal), wal.last_lsn()), (vec![3], Some(lsns[3])));
        wal.truncate_from(wal.head_lsn()).unwrap();
        assert_eq!(numbers(&wal), []);
    }
}

#[test]
fn damage_to_one_slot_of_control_brings_no_head_back() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 5);
    for keep in [1, 3] {
        match keep {
            1 => drop(wal.truncate_before(lsns[keep]).unwrap()),
            _ => wal.checkpoint(lsns[keep], |image| image.write_all(b"image")).unwrap(),
        }
        for slot in [0, 4096] {
            let mut files = memory.snapshot();
            files.files_mut().get_mut("CONTROL").unwrap()[slot + 48] ^= 1;
            let again = options().open_store(MemStore::from_snapshot(files)).unwrap();
            assert_eq!(again.head_lsn(), lsns[keep], "slot at {slot}");
            let snapshot = again.snapshots().unwrap().latest().unwrap();
            assert_eq!(snapshot.is_some(), keep == 3, "slot at {slot}");
        }
    }
}

#[test]
fn what_is_given_up_was_durable() {
    let wal = options().open_store(MemStore::new()).unwrap();
    wal.append(b"one").unwrap();
    let two = wal.append(b"two").unwrap();
    assert!(wal.durable_lsn() < two);
    wal.truncate_before(two).unwrap();
    assert!(wal.durable_lsn() >= two);
    assert_eq!(read_all(&wal), [b"two"]);
}

#[test]
fn the_end_empties_the_log_and_gives_all_space_back() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    for round in 0..5 {
        fill(&wal, 40);
        let end = wal.end_lsn();
        assert_eq!(wal.truncate_before(end).unwrap(), end);
        assert!(wal.is_empty(), "{round}");
        assert_eq!((wal.live_bytes(), wal.last_lsn()), (0, None));
        assert_eq!(segments(&memory), 1, "{round}");
        let bytes: usize = memory.snapshot().files().values().map(Vec::len).sum();
        assert!(bytes <= 16 << 10, "{bytes} bytes for nothing");
        // Again, with nothing to forget.
        assert_eq!(wal.truncate_before(end).unwrap(), end);
    }
    let end = wal.end_lsn();
    drop(wal);
    let wal = options().open_store(memory).unwrap();
    assert_eq!((wal.head_lsn(), wal.end_lsn()), (end, end));
    wal.append_and_sync(b"after").unwrap();
    assert_eq!(wal.last_lsn(), Some(end));
}

#[test]
fn a_place_that_is_no_record_is_refused_and_changes_nothing() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 50);
    let head = wal.head_lsn();
    let inside = Lsn::new(lsns[30].get() + 8);
    let beyond = Lsn::new(wal.end_lsn().get() + 8);
    for bad in [inside, beyond, Lsn::new(u64::MAX)] {
        let refused = wal.truncate_before(bad);
        assert!(matches!(refused, Err(WalError::NotARecord { lsn }) if lsn == bad), "{refused:?}");
        assert_eq!(wal.head_lsn(), head);
    }
    assert_eq!(numbers(&wal).len(), 50);
    wal.close().unwrap();
    assert!(matches!(wal.truncate_before(lsns[30]), Err(WalError::Closed)));
}

#[test]
fn iterators_that_were_made_before_show_everything_they_were_made_for() {
    deadline(|| {
        let memory = MemStore::new();
        let wal = options().open_store(memory.clone()).unwrap();
        let lsns = fill(&wal, 100);
        let whole = wal.iter().unwrap();
        let later = wal.iter_from(lsns[40]).unwrap();
        let mut begun = wal.iter().unwrap();
        assert_eq!(number(begun.next().unwrap().unwrap().data()), 0);
        for keep in [30, 60, 90] {
            wal.truncate_before(lsns[keep]).unwrap();
        }
        wal.truncate_before(wal.end_lsn()).unwrap();
        assert_eq!(segments(&memory), 1, "the names are gone at once");
        let rest = |iter: cohort_wal::WalIter<MemStore>| -> Vec<u64> {
            iter.map(|record| number(record.unwrap().data())).collect()
        };
        assert_eq!(rest(whole), (0..100).collect::<Vec<_>>());
        assert_eq!(rest(later), (40..100).collect::<Vec<_>>());
        assert_eq!(rest(begun), (1..100).collect::<Vec<_>>());
    });
}

#[test]
fn appends_commits_and_readers_go_on_meanwhile() {
    deadline_of(60, || {
        let memory = MemStore::new();
        let wal = Arc::new(options().open_store(memory.clone()).unwrap());
        let over = Arc::new(AtomicBool::new(false));
        let start = |work: fn(&Wal<MemStore>)| {
            let (wal, over) = (Arc::clone(&wal), Arc::clone(&over));
            thread::spawn(move || {
                while !over.load(Relaxed) {
                    work(&wal);
                }
            })
        };
        let writer = |wal: &Wal<MemStore>| {
            wal.append(&[1; 700]).unwrap();
            wal.append_and_sync(&[2; 100]).unwrap();
        };
        let reader = |wal: &Wal<MemStore>| {
            let (from, mut last) = (wal.head_lsn(), None);
            for record in wal.iter().unwrap() {
                let record = record.unwrap();
                assert!(record.lsn() >= from && Some(record.lsn()) > last);
                last = Some(record.lsn());
            }
        };
        wal.append(b"first").unwrap();
        let threads = vec![start(writer), start(writer), start(reader), start(reader)];
        let mut head = wal.head_lsn();
        for round in 0..300 {
            let lsn = wal.append(b"checkpoint").unwrap();
            wal.append(&[3; 500]).unwrap();
            assert_eq!(wal.truncate_before(lsn).unwrap(), lsn);
            assert!(wal.head_lsn() > head, "{round}");
            head = wal.head_lsn();
        }
        over.store(true, Relaxed);
        join_all(threads);
        wal.close().unwrap();
        // However much was appended since: what a newer one makes dispensable is gone.
        let bases = bases(&memory);
        assert_eq!(bases.iter().filter(|base| **base <= head).count(), 1, "{head}: {bases:?}");
        let again = options().open_store(memory).unwrap();
        assert_eq!(again.head_lsn(), head);
        assert_eq!(again.iter().unwrap().next().unwrap().unwrap().data(), b"checkpoint");
    });
}

#[test]
fn a_segment_that_cannot_be_removed_goes_the_next_time() {
    deadline(|| {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let wal = options().open_store(store).unwrap();
        let lsns = fill(&wal, 100);
        wal.sync().unwrap();
        let all = segments(&memory);
        script.fail_once(Op::Remove, 1, EIO);
        let failed = wal.truncate_before(lsns[90]);
        assert!(matches!(failed, Err(WalError::Io { operation: "remove", .. })), "{failed:?}");
        assert_eq!(wal.head_lsn(), lsns[90], "the head has moved");
        assert_eq!(segments(&memory), all - 1);
        wal.append_and_sync(b"nothing is poisoned").unwrap();
        wal.truncate_before(lsns[95]).unwrap();
        assert!(segments(&memory) <= 2);
        script.fail_always(Op::Remove, EIO);
        fill(&wal, 100);
        wal.truncate_before(wal.last_lsn().unwrap()).unwrap_err();
        let head = wal.head_lsn();
        drop(wal);
        script.heal();
        let again = options().open_store(memory.clone()).unwrap();
        assert_eq!(again.head_lsn(), head);
        assert_eq!(segments(&memory) as u64, again.recovery().segments.max(1));
    });
}

#[test]
fn an_error_of_control_poisons_and_leaves_one_of_both_heads() {
    for (op, k) in [(Op::Write, 0), (Op::Write, 1), (Op::Sync, 0), (Op::Sync, 1)] {
        deadline(move || {
            let memory = MemStore::new();
            let (store, script) = FaultyStore::over(memory.clone());
            let wal = options().open_store(store).unwrap();
            let lsns = fill(&wal, 60);
            wal.sync().unwrap();
            let (old, new) = (wal.head_lsn(), lsns[30]);
            script.fail_once(op, k, Fault::Fail(std::io::ErrorKind::Other));
            let failed = wal.truncate_before(new).unwrap_err();
            assert!(failed.is_poisoned(), "{op:?} {k}: {failed}");
            assert!(wal.append(b"late").unwrap_err().is_poisoned());
            assert!(wal.truncate_before(lsns[31]).unwrap_err().is_poisoned());
            drop(wal);
            let again = options().open_store(memory).unwrap();
            assert!([old, new].contains(&again.head_lsn()), "{op:?} {k}");
            let first = if again.head_lsn() == old { 0 } else { 30 };
            assert_eq!(numbers(&again), (first..60).collect::<Vec<_>>(), "{op:?} {k}");
        });
    }
}

#[test]
fn a_log_that_is_poisoned_on_the_way_is_not_truncated() {
    deadline(|| {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let wal = options().open_store(store).unwrap();
        wal.append_and_sync(b"durable").unwrap();
        let lost = wal.append(b"lost").unwrap();
        // To see whether a record starts there, it flushes.
        script.fail_once(Op::Write, 0, EIO);
        let failed = wal.truncate_before(lost).unwrap_err();
        assert!(failed.is_poisoned(), "{failed}");
        let head = wal.head_lsn();
        assert!(head < lost);
        drop(wal);
        let again = options().open_store(memory).unwrap();
        assert_eq!((again.head_lsn(), read_all(&again)), (head, vec![b"durable".to_vec()]));
    });
}

#[test]
fn a_log_that_somebody_else_poisons_meanwhile_is_not_truncated() {
    deadline(|| {
        let (store, script) = FaultyStore::over(MemStore::new());
        let wal = Arc::new(options().open_store(store).unwrap());
        wal.append(b"old").unwrap();
        let durable = wal.append_and_sync(b"durable").unwrap();
        let gate = Arc::new(Gate::default());
        let at_gate = Arc::clone(&gate);
        // To see whether a record starts there, it reads, and what is durable need not be written.
        script.hook(move |op, _| {
            if op == Op::Read {
                at_gate.pass();
            }
        });
        let other = Arc::clone(&wal);
        let truncation = thread::spawn(move || other.truncate_before(durable));
        gate.wait_for_arrival();
        script.fail_once(Op::Sync, 0, EIO);
        assert!(wal.append_and_sync(b"lost").unwrap_err().is_poisoned());
        gate.open();
        let failed = truncation.join().unwrap().unwrap_err();
        assert!(failed.is_poisoned(), "{failed}");
        assert!(wal.head_lsn() < durable);
    });
}

#[test]
fn a_reader_elsewhere_is_told_that_the_log_was_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().open(dir.path()).unwrap();
    let lsns = fill(&wal, 100);
    wal.sync().unwrap();
    wal.append_and_sync(b"a witness").unwrap();
    let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
    let (mut early, late) = (reader.iter().unwrap(), reader.iter_from(lsns[95]).unwrap());
    assert_eq!(number(early.next().unwrap().unwrap().data()), 0);
    wal.truncate_before(lsns[90]).unwrap();
    let end = early.find(Result::is_err).unwrap().unwrap_err();
    assert!(matches!(end, WalError::Truncated { head, .. } if head == lsns[90]), "{end}");
    assert_eq!(late.count(), 5, "the witness has none yet");
    let gone = reader.iter_from(lsns[20]).map(drop);
    assert!(matches!(gone, Err(WalError::Truncated { .. })), "{gone:?}");
    let fresh = WalOptions::new().open_read_only(dir.path()).unwrap();
    assert_eq!(fresh.head_lsn(), lsns[90]);
    assert_eq!(fresh.iter().unwrap().count(), 11);
}
