//! Following a directory beside a writer.

use std::thread;

use cohort_wal::{FileStore, Follow, Lsn, Wal, WalError, WalOptions};

use crate::common::{self, Dice, Id, deadline, identify, payload, smallest};
use crate::faulty::{ENOSPC, FaultyStore, Op};
use crate::{data, ready};

fn follow(dir: &std::path::Path, from: Lsn) -> Follow {
    WalOptions::new().open_read_only(dir).unwrap().follow(from).unwrap()
}

#[test]
fn every_record_shows_once_and_in_order_while_the_writer_rotates_and_reopens() {
    const RECORDS: u64 = 3_000;
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_path_buf();
        drop(Wal::open(&path).unwrap());
        let follower = follow(&path, Lsn::new(0));
        let writer = thread::spawn(move || {
            let (mut dice, mut number) = (Dice::new(1), 0);
            while number < RECORDS {
                let wal = smallest().open(&path).unwrap();
                for _ in 0..RECORDS / 5 {
                    let record = payload(Id { owner: 0, number }, dice.len());
                    number += 1;
                    match dice.below(50) {
                        0 => wal.append_and_sync(&record).unwrap(),
                        _ => wal.append(&record).unwrap(),
                    };
                }
                if dice.below(2) == 0 {
                    wal.close().unwrap();
                }
            }
        });
        let mut expected = 0;
        for record in follower {
            assert_eq!(identify(&record.unwrap()).number, expected);
            expected += 1;
            if expected == RECORDS {
                break;
            }
        }
        writer.join().unwrap();
        assert_eq!(expected, RECORDS);
    });
}

#[test]
fn one_that_truncation_overtakes_is_told() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = smallest().open(dir.path()).unwrap();
        for _ in 0..100 {
            wal.append(&[1; 1000]).unwrap();
        }
        wal.sync().unwrap();
        // So that what was synced is witnessed.
        wal.append_and_sync(b"witness").unwrap();
        let mut slow = follow(dir.path(), Lsn::new(0));
        assert_eq!(data(slow.next()), [1; 1000]);
        wal.truncate_before(wal.end_lsn()).unwrap();
        let error = slow.by_ref().find_map(Result::err);
        assert!(matches!(error, Some(WalError::Truncated { .. })), "{error:?}");
        assert!(slow.next().is_none());
    });
}

#[test]
fn one_that_has_seen_what_was_cut_off_is_told_and_another_goes_on() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = smallest().open(dir.path()).unwrap();
        let lsns = [b"one", b"two", b"3rd"].map(|record| wal.append(record).unwrap());
        wal.close().unwrap();
        let (mut beyond, mut before) =
            (follow(dir.path(), Lsn::new(0)), follow(dir.path(), Lsn::new(0)));
        assert_eq!(ready(&mut beyond).len(), 3);
        assert_eq!(data(before.next()), b"one");
        let wal = smallest().open(dir.path()).unwrap();
        wal.truncate_after(lsns[0]).unwrap();
        // As long as what was cut off.
        (0..3).for_each(|_| assert!(wal.append(b"new").is_ok()));
        wal.close().unwrap();
        assert!(matches!(beyond.next(), Some(Err(WalError::Truncated { .. }))));
        // It may have read on in what it had open when the log was cut.
        let mut next = before.by_ref().take(3);
        match next.next().unwrap() {
            Ok(record) if record.data() == b"new" => {}
            other => assert_eq!(other.unwrap().data(), b"two"),
        }
    });
}

/// The same LSNs again, and the record before the place the same as well.
#[test]
fn what_takes_the_place_of_what_was_cut_off_is_not_taken_for_it() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = smallest().open(dir.path()).unwrap();
        let kept = wal.append(b"kept").unwrap();
        wal.append_batch(&["old", "end"]).unwrap();
        wal.close().unwrap();
        let mut seen = follow(dir.path(), Lsn::new(0));
        assert_eq!(ready(&mut seen).len(), 3);
        let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
        let mut resumed = reader.follow(reader.end_lsn()).unwrap();
        let wal = smallest().open(dir.path()).unwrap();
        wal.truncate_after(kept).unwrap();
        wal.append_batch(&["new", "end", "and"]).unwrap();
        wal.close().unwrap();
        assert!(matches!(seen.next(), Some(Err(WalError::Truncated { .. }))));
        assert!(matches!(resumed.next(), Some(Err(WalError::Truncated { .. }))));
    });
}

#[test]
fn another_log_in_the_same_directory_is_not_followed() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let write = |records: &[&[u8]]| {
            let wal = smallest().open(dir.path()).unwrap();
            records.iter().for_each(|record| assert!(wal.append(record).is_ok()));
            wal.close().unwrap();
        };
        write(&[b"one", b"two"]);
        let mut follower = follow(dir.path(), Lsn::new(0));
        assert_eq!(ready(&mut follower).len(), 2);
        for name in common::directory(dir.path()).keys() {
            std::fs::remove_file(dir.path().join(name)).unwrap();
        }
        write(&[b"one", b"two", b"three"]);
        assert!(follower.next().unwrap().is_err());
    });
}

#[test]
fn one_whose_place_is_inside_what_came_instead_is_told() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = smallest().open(dir.path()).unwrap();
        let lsns = [b"one", b"two", b"3rd"].map(|record| wal.append(record).unwrap());
        let end = wal.end_lsn();
        wal.close().unwrap();
        let (mut waits, mut has_read) = (follow(dir.path(), end), follow(dir.path(), Lsn::new(0)));
        assert!(ready(&mut waits).is_empty());
        assert_eq!(ready(&mut has_read).len(), 3);
        let wal = smallest().open(dir.path()).unwrap();
        wal.truncate_after(lsns[0]).unwrap();
        wal.append(&[1; 24]).unwrap();
        let around = wal.append(&[2; 100]).unwrap();
        assert!(lsns[2] < around && around < end && end < wal.end_lsn());
        // What it has read last is not kept either, so that nothing tells but the place itself.
        wal.truncate_before(around).unwrap();
        wal.close().unwrap();
        for follower in [&mut waits, &mut has_read] {
            let next = follower.next();
            assert!(matches!(next, Some(Err(WalError::Truncated { .. }))), "{next:?}");
        }
    });
}

/// A pad comes to stand at the place of a follower that waits.
#[test]
fn a_pad_where_one_waits_is_stepped_over() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let (store, script) = FaultyStore::over(FileStore::open(dir.path()).unwrap());
        let wal = smallest().open_store(store).unwrap();
        wal.append_and_sync(b"one").unwrap();
        wal.append_and_sync(b"witness").unwrap();
        let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
        let mut beside = follow(dir.path(), reader.end_lsn());
        wal.sync().unwrap();
        let mut live = wal.follow(wal.end_lsn()).unwrap();
        let end = wal.end_lsn();
        // There is room for the header of a segment, and not for the record.
        script.fail_once(Op::Write, 1, ENOSPC);
        let refused = wal.append(&[1; 100 << 10]);
        assert!(matches!(refused, Err(WalError::StorageFull { .. })), "{refused:?}");
        let two = wal.append_and_sync(b"two").unwrap();
        assert!(two > end, "a pad stands for the record that was refused");
        wal.close().unwrap();
        assert_eq!(data(live.next()), b"two");
        assert_eq!(data(follow(dir.path(), end).next()), b"two");
        assert_eq!(data(beside.next()), b"witness");
        assert_eq!(data(beside.next()), b"two");
    });
}

/// The place is the head by now, which a truncation alone would be no reason to tell of.
#[test]
fn a_cut_that_a_truncation_hides_is_told_all_the_same() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = smallest().open(dir.path()).unwrap();
        let kept = wal.append(b"kept").unwrap();
        wal.append_batch(&["old", "end"]).unwrap();
        wal.close().unwrap();
        let mut seen = follow(dir.path(), Lsn::new(0));
        assert_eq!(ready(&mut seen).len(), 3);
        let wal = smallest().open(dir.path()).unwrap();
        wal.truncate_after(kept).unwrap();
        wal.append_batch(&["new", "end"]).unwrap();
        let more = wal.append(b"more").unwrap();
        assert_eq!(wal.truncate_before(more).unwrap(), seen.next_lsn());
        wal.close().unwrap();
        assert!(matches!(seen.next(), Some(Err(WalError::Truncated { .. }))));
    });
}

/// It has read a pad behind its last record, and what comes in place of that it must show.
#[test]
fn what_takes_the_place_of_a_pad_is_shown() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let (store, script) = FaultyStore::over(FileStore::open(dir.path()).unwrap());
        let wal = smallest().open_store(store).unwrap();
        let kept = wal.append_and_sync(b"kept").unwrap();
        script.fail_once(Op::Write, 1, ENOSPC);
        wal.append(&[1; 20 << 10]).unwrap_err();
        script.heal();
        wal.close().unwrap();
        let mut follower = follow(dir.path(), Lsn::new(0));
        assert_eq!(ready(&mut follower), [b"kept"]);
        let wal = smallest().open(dir.path()).unwrap();
        assert!(follower.next_lsn() < wal.end_lsn(), "a pad");
        wal.truncate_after(kept).unwrap();
        assert!(ready(&mut follower).is_empty());
        for _ in 0..30 {
            wal.append(&[2; 1000]).unwrap();
        }
        wal.close().unwrap();
        let shown = ready(&mut follower);
        assert_eq!(shown, vec![vec![2; 1000]; 30]);
    });
}

#[test]
fn a_stopper_ends_the_wait_for_a_log_that_does_nothing() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let _wal = smallest().open(dir.path()).unwrap();
        let mut follower = follow(dir.path(), Lsn::new(0));
        let stopper = follower.stopper();
        let waiting = thread::spawn(move || follower.next().is_none());
        stopper.stop();
        assert!(waiting.join().unwrap());
    });
}

#[test]
fn a_place_beyond_what_is_witnessed_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wal = smallest().open(dir.path()).unwrap();
    wal.append_and_sync(b"one").unwrap();
    wal.close().unwrap();
    let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
    for lsn in [8, 3, 1 << 20] {
        assert!(matches!(reader.follow(Lsn::new(lsn)), Err(WalError::NotARecord { .. })));
    }
    assert!(reader.follow(reader.end_lsn()).is_ok());
}
