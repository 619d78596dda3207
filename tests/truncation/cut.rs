//! What lies behind a record is cut off, and the log goes on there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use cohort_wal::{Lsn, MemStore, Wal, WalError, WalOptions};

use super::common::{deadline, deadline_of, join_all, read_all, smallest as options};
use super::faulty::{EIO, ENOSPC, FaultyStore, Op};
use super::{fill, numbers, segments};

fn is_cut(error: &WalError) -> bool {
    matches!(error, WalError::Truncated { .. })
}

fn reopened(memory: &MemStore) -> Wal<MemStore> {
    options().open_store(memory.clone()).unwrap()
}

#[test]
fn the_log_ends_at_the_cut_and_goes_on_from_there() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 100);
    wal.sync().unwrap();
    for keep in [99, 98, 60, 59, 17, 0] {
        wal.truncate_after(lsns[keep]).unwrap();
        let end = lsns.get(keep + 1).copied().unwrap_or_else(|| wal.end_lsn());
        assert_eq!((wal.end_lsn(), wal.durable_lsn()), (end, end), "{keep}");
        assert_eq!(wal.last_lsn(), Some(lsns[keep]));
        assert_eq!(numbers(&wal), (0..=keep as u64).collect::<Vec<_>>());
        let needed = keep / 8 + 4;
        assert!(segments(&memory) <= needed, "{keep}: {} segments", segments(&memory));
        drop(wal.iter_from(lsns[keep]).unwrap());
        if keep < 99 {
            assert_eq!(wal.iter_from(lsns[keep + 1]).unwrap().count(), 0, "past the end");
            assert!(matches!(wal.wait_durable(end), Err(WalError::NotARecord { .. })));
        }
    }
    let next = wal.append_and_sync(&[5; 1000]).unwrap();
    assert_eq!(next, lsns[1], "the log goes on where it was cut");
    drop(wal);
    let wal = reopened(&memory);
    assert_eq!(wal.iter().unwrap().count(), 2);
    assert_eq!(wal.last_lsn(), Some(lsns[1]));
}

#[test]
fn a_record_can_be_dropped_with_what_is_behind_it() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 40);
    let end = wal.end_lsn();
    wal.truncate_from(end).unwrap();
    assert_eq!((wal.end_lsn(), wal.durable_lsn()), (end, end), "nothing cut, all durable");
    wal.truncate_from(lsns[20]).unwrap();
    assert_eq!(wal.end_lsn(), lsns[20]);
    assert_eq!(wal.last_lsn(), Some(lsns[19]));
    wal.truncate_before(lsns[5]).unwrap();
    wal.truncate_from(lsns[6]).unwrap();
    assert_eq!(numbers(&wal), [5]);
    wal.truncate_from(wal.head_lsn()).unwrap();
    assert!(wal.is_empty());
    assert_eq!((wal.last_lsn(), wal.end_lsn()), (None, lsns[5]));
    assert_eq!(segments(&memory), 1, "space comes back at once");
    drop(wal);
    let wal = reopened(&memory);
    assert_eq!((wal.head_lsn(), wal.end_lsn(), wal.last_lsn()), (lsns[5], lsns[5], None));
    assert_eq!(fill(&wal, 3)[0], lsns[5]);
}

#[test]
fn a_place_that_is_no_boundary_is_refused_and_changes_nothing() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let one = wal.append(b"one").unwrap();
    let batch = wal.append_batch(&["a", "b", "c"]).unwrap();
    let last = wal.append(b"last").unwrap();
    let end = wal.end_lsn();
    let not_a_record = |result: Result<(), WalError>, at: Lsn| {
        assert!(matches!(result, Err(WalError::NotARecord { lsn }) if lsn == at), "{result:?}");
    };
    not_a_record(wal.truncate_after(end), end);
    for bad in [Lsn::new(last.get() + 8), Lsn::new(end.get() + 8), Lsn::new(u64::MAX)] {
        not_a_record(wal.truncate_after(bad), bad);
        not_a_record(wal.truncate_from(bad), bad);
    }
    for inside in [batch[0], batch[1]] {
        let refused = wal.truncate_after(inside);
        assert!(matches!(refused, Err(WalError::InsideBatch { lsn }) if lsn == inside));
    }
    for inside in [batch[1], batch[2]] {
        let refused = wal.truncate_from(inside);
        assert!(matches!(refused, Err(WalError::InsideBatch { lsn }) if lsn == inside));
    }
    assert_eq!((read_all(&wal).len(), wal.end_lsn()), (5, end));
    assert_eq!(wal.recovery().epoch, 1, "refused before anything was done");
    assert_eq!(segments(&memory), 1);
    wal.truncate_after(batch[2]).unwrap();
    wal.truncate_from(batch[0]).unwrap();
    assert_eq!(read_all(&wal), [b"one"]);
    wal.truncate_before(wal.end_lsn()).unwrap();
    assert!(matches!(wal.truncate_after(one), Err(WalError::Truncated { lsn, .. }) if lsn == one));
    assert!(is_cut(&wal.truncate_from(one).unwrap_err()));
    wal.close().unwrap();
    assert!(matches!(wal.truncate_from(one), Err(WalError::Closed)));
}

#[test]
fn what_was_cut_off_never_returns_behind_records_of_the_same_size() {
    let memory = MemStore::new();
    for round in 0..6_u8 {
        let wal = reopened(&memory);
        let lsns: Vec<_> = (0..30).map(|_| wal.append(&[round; 1000]).unwrap()).collect();
        wal.sync().unwrap();
        wal.truncate_from(lsns[10]).unwrap();
        // Of the same size, so that what lay behind it fits to it.
        wal.append(&[round + 100; 1000]).unwrap();
        wal.flush().unwrap();
        let dead = memory.snapshot();
        let again = options().open_store(MemStore::from_snapshot(dead)).unwrap();
        let seen: Vec<u8> = read_all(&again).iter().map(|record| record[0]).collect();
        let kept = |r: u8| std::iter::repeat_n(r, 10).chain([r + 100]);
        let expected: Vec<u8> = (0..=round).flat_map(kept).collect();
        assert_eq!(seen, expected, "{round}");
    }
}

#[test]
fn cursors_that_come_to_the_cut_say_so_and_never_show_what_is_dead() {
    let wal = options().open_store(MemStore::new()).unwrap();
    let lsns = fill(&wal, 60);
    let mut before = wal.iter().unwrap();
    let mut behind = wal.iter_from(lsns[50]).unwrap();
    // It has read a block with what is cut off.
    assert_eq!(behind.next().unwrap().unwrap().lsn(), lsns[50]);
    wal.truncate_from(lsns[30]).unwrap();
    let next = lsns[30];
    for _ in 0..40 {
        wal.append(&[9; 1000]).unwrap();
    }
    wal.sync().unwrap();
    for _ in 0..30 {
        before.next().unwrap().unwrap();
    }
    for mut cursor in [before, behind] {
        let ended = cursor.next().unwrap();
        assert!(matches!(ended, Err(WalError::Truncated { lsn, .. }) if lsn == next), "{ended:?}");
        assert!(cursor.next().is_none());
    }
    assert_eq!(wal.iter().unwrap().count(), 70);
}

#[test]
fn everybody_goes_on_while_the_log_is_cut_again_and_again() {
    deadline_of(60, || {
        let memory = MemStore::new();
        let wal = Arc::new(options().open_store(memory.clone()).unwrap());
        let base = wal.append_and_sync(b"base").unwrap();
        let (over, cut_off) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..4_u8)
            .map(|number| {
                let (wal, over, cut_off) =
                    (Arc::clone(&wal), Arc::clone(&over), Arc::clone(&cut_off));
                thread::spawn(move || {
                    while !over.load(Relaxed) {
                        let len = [40, 3000, 20_000][usize::from(number) % 3];
                        let done = match number {
                            0..3 => wal.append_and_sync(&vec![number; len]).map(drop),
                            _ => wal.append(&[3; 10]).and_then(|_| wal.flush()),
                        };
                        match done {
                            Ok(()) => {}
                            Err(error) if is_cut(&error) => drop(cut_off.fetch_add(1, Relaxed)),
                            Err(error) => panic!("{error}"),
                        }
                        for record in wal.iter().unwrap() {
                            match record {
                                Ok(record) => assert!(record.lsn() >= base),
                                Err(error) => assert!(is_cut(&error), "{error}"),
                            }
                        }
                    }
                })
            })
            .collect();
        for round in 0..200 {
            let mark = wal.append(b"mark").unwrap();
            match wal.truncate_after([base, mark][round % 2]) {
                // Nobody else cuts, so the mark is there.
                Ok(()) => assert!(wal.durable_lsn() > base),
                Err(error) => panic!("{round}: {error}"),
            }
        }
        over.store(true, Relaxed);
        join_all(threads);
        wal.truncate_after(base).unwrap();
        wal.close().unwrap();
        assert_eq!(read_all(&reopened(&memory)), [b"base"]);
    });
}

#[test]
fn who_waits_for_what_is_cut_off_is_told_so() {
    deadline(|| {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let wal = Arc::new(options().open_store(store).unwrap());
        let base = wal.append_and_sync(b"base").unwrap();
        // A full disk keeps the waiters where they are: each is told so once.
        script.fail_always(Op::Write, ENOSPC);
        let lost = wal.append(b"lost").unwrap();
        assert!(matches!(wal.wait_durable(lost), Err(WalError::StorageFull { .. })));
        assert!(matches!(wal.truncate_after(base), Err(WalError::StorageFull { .. })));
        assert_eq!(wal.end_lsn().get(), lost.get() + 24, "a cut that failed changed nothing");
        script.heal();
        wal.wait_durable(lost).unwrap();
        wal.truncate_after(base).unwrap();
        assert!(matches!(wal.wait_durable(lost), Err(WalError::NotARecord { .. })));
        assert_eq!(read_all(&wal), [b"base"]);
    });
}

#[test]
fn a_cut_needs_no_space_for_what_it_cuts_off() {
    deadline(|| {
        let (store, script) = FaultyStore::over(MemStore::new());
        let wal = options().open_store(store).unwrap();
        let base = wal.append_and_sync(b"base").unwrap();
        wal.append(&[1; 700]).unwrap();
        // What is in the ring cannot be written; what is below the cut need not be.
        script.fail_once(Op::Write, 0, ENOSPC);
        assert!(matches!(wal.sync(), Err(WalError::StorageFull { .. })));
        script.heal();
        wal.truncate_after(base).unwrap();
        assert_eq!(read_all(&wal), [b"base"]);
        wal.append_and_sync(b"next").unwrap();
        assert_eq!(read_all(&wal).len(), 2);
    });
}

#[test]
fn a_failure_on_the_way_leaves_the_old_log_or_the_new_one() {
    for op in [Op::Create, Op::Write, Op::Sync, Op::Publish] {
        for k in 0..4 {
            for (fault, full) in [(EIO, false), (ENOSPC, true)] {
                deadline(move || {
                    let memory = MemStore::new();
                    let (store, script) = FaultyStore::over(memory.clone());
                    let wal = options().open_store(store).unwrap();
                    let lsns = fill(&wal, 30);
                    wal.sync().unwrap();
                    script.fail_once(op, k, fault);
                    let cut = wal.truncate_after(lsns[9]);
                    let name = format!("{op:?} {k} full: {full}: {cut:?}");
                    script.heal();
                    match &cut {
                        Ok(()) => assert_eq!(numbers(&wal).len(), 10, "{name}"),
                        Err(WalError::StorageFull { .. }) => {
                            assert_eq!(numbers(&wal).len(), 30, "{name}");
                            wal.append_and_sync(&[0; 1000]).unwrap();
                            wal.truncate_after(lsns[9]).unwrap();
                        }
                        Err(error) => {
                            assert!(error.is_poisoned(), "{name}");
                            assert!(wal.append(b"late").unwrap_err().is_poisoned(), "{name}");
                            assert!(wal.truncate_after(lsns[3]).unwrap_err().is_poisoned());
                        }
                    }
                    let poisoned = cut.as_ref().is_err_and(WalError::is_poisoned);
                    drop(wal);
                    let again = reopened(&memory);
                    let found = numbers(&again).len();
                    assert!(found == 10 || poisoned && found == 30, "{name}: {found}");
                    again.append_and_sync(b"on").unwrap();
                });
            }
        }
    }
}

#[test]
fn a_segment_that_cannot_be_removed_does_not_undo_the_cut() {
    deadline(|| {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let wal = options().open_store(store).unwrap();
        let lsns = fill(&wal, 60);
        script.fail_once(Op::Remove, 1, EIO);
        let failed = wal.truncate_after(lsns[9]);
        assert!(matches!(failed, Err(WalError::Io { operation: "remove", .. })), "{failed:?}");
        assert_eq!(numbers(&wal).len(), 10);
        wal.append_and_sync(&[0; 1000]).unwrap();
        wal.truncate_after(lsns[9]).unwrap();
        assert!(segments(&memory) <= 4, "{}", segments(&memory));
        drop(wal);
        assert_eq!(numbers(&reopened(&memory)).len(), 10);
    });
}

#[test]
fn a_reader_elsewhere_is_told_that_the_log_was_cut() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().open(dir.path()).unwrap();
    let lsns = fill(&wal, 100);
    wal.sync().unwrap();
    wal.append_and_sync(b"a witness").unwrap();
    let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
    let mut all = reader.iter().unwrap();
    wal.truncate_after(lsns[20]).unwrap();
    wal.append_and_sync(b"behind the cut").unwrap();
    wal.append_and_sync(b"a witness").unwrap();
    // What it was opened for may be there still, or gone; it is never taken for damage.
    let end = all.find(Result::is_err).map(Result::unwrap_err);
    assert!(end.as_ref().is_none_or(is_cut), "{end:?}");
    let fresh = WalOptions::new().open_read_only(dir.path()).unwrap();
    assert_eq!(fresh.iter().unwrap().count(), 22);
}

/// Both slots of CONTROL, whole and in the order of the file.
fn slots(memory: &MemStore) -> [Vec<u8>; 2] {
    let bytes = memory.snapshot().files()["CONTROL"].clone();
    // Magic, version and generation differ or mean nothing here.
    [bytes[20..96].to_vec(), bytes[4116..4192].to_vec()]
}

#[test]
fn a_cut_tells_both_slots() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 30);
    wal.sync().unwrap();
    let before = slots(&memory);
    wal.truncate_after(lsns[9]).unwrap();
    let after = slots(&memory);
    assert_eq!(after[0], after[1], "no loss of one slot brings the old claim back");
    assert!(before.iter().all(|slot| *slot != after[0]));
}

#[test]
fn a_cut_begins_an_epoch() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 10);
    let header = || {
        let snapshot = memory.snapshot();
        let newest = snapshot.files().iter().rfind(|(name, _)| name.ends_with(".wal")).unwrap();
        let field = |at: usize| newest.1[at..at + 8].to_vec();
        (field(48), newest.1[56..72].to_vec(), field(72))
    };
    let (epoch, salt, _) = header();
    wal.truncate_after(lsns[4]).unwrap();
    let (next, other, base) = header();
    let number = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().unwrap());
    assert_eq!(number(&next), number(&epoch) + 1);
    assert_ne!(salt, other, "what was written before is no frame in it");
    assert_eq!(number(&base), lsns[5].get());
}

#[test]
fn a_debt_behind_the_cut_is_dropped() {
    deadline(|| {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let wal = options().open_store(store).unwrap();
        let base = wal.append_and_sync(b"base").unwrap();
        // Past the ring: its place is used up when it cannot be written.
        script.fail_once(Op::Write, 0, ENOSPC);
        assert!(matches!(wal.append(&[1; 5000]), Err(WalError::StorageFull { .. })));
        assert!(wal.end_lsn().get() > base.get() + 5000);
        script.heal();
        wal.truncate_after(base).unwrap();
        let next = wal.append_and_sync(b"next").unwrap();
        assert_eq!(next.get(), base.get() + 24);
        drop(wal);
        assert_eq!(read_all(&reopened(&memory)), [b"base", b"next"]);
    });
}
