//! The contract of every public method of `Wal` on a log that works.
//!
//! Method: real files; one test per promise of the documentation. What opening refuses is in
//! `api/opening.rs`, sizes at and beyond the ring's limit in `api/large.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;
#[path = "api/large.rs"]
mod large;
#[path = "api/opening.rs"]
mod opening;

use std::error::Error;
use std::io;

use cohort_wal::{FileStore, Lsn, MemStore, Record, Wal, WalError, WalIter, WalOptions, WalReader};
use tempfile::TempDir;

use common::{deadline, directory, read_all, segment_names};

/// Bytes of a frame header, and what frames are padded to.
const HEADER: u64 = 16;
const ALIGNMENT: u64 = 8;

fn open() -> (TempDir, Wal) {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    (dir, wal)
}

fn lsn(position: u64) -> Lsn {
    Lsn::new(position)
}

#[test]
fn a_log_and_what_it_hands_out_can_be_shared_and_sent() {
    fn shared<T: Send + Sync + 'static>() {}
    fn sent<T: Send + 'static>() {}
    shared::<Wal>();
    shared::<Wal<cohort_wal::MemStore>>();
    shared::<WalError>();
    shared::<WalOptions>();
    shared::<WalReader>();
    shared::<Record>();
    sent::<WalIter<FileStore>>();
}

#[test]
fn a_new_log_is_empty_and_begins_at_zero() {
    let (dir, wal) = open();
    assert_eq!((wal.head_lsn(), wal.end_lsn(), wal.durable_lsn()), (lsn(0), lsn(0), lsn(0)));
    assert!(wal.is_empty() && wal.live_bytes() == 0 && wal.last_lsn().is_none());
    assert!(wal.iter().unwrap().next().is_none());
    assert_eq!(wal.path(), dir.path());
    let report = wal.recovery();
    assert_eq!((report.scanned_records, report.segments), (0, 1));
    assert_eq!((report.head, report.end, report.last_record), (lsn(0), lsn(0), None));
    assert!(report.torn_at.is_none() && report.cut_bytes == 0 && report.carried_bytes == 0);
    wal.sync().unwrap();
    wal.flush().unwrap();
    assert_eq!(wal.stats().syncs, 0);
}

#[test]
fn appends_return_the_place_of_each_record() {
    let (_dir, wal) = open();
    let mut place = 0;
    let mut expected = Vec::new();
    for len in [0_usize, 1, 7, 8, 9, 15, 16, 17, 1_000] {
        let data = vec![7; len];
        assert_eq!(wal.append(&data).unwrap(), lsn(place));
        assert_eq!(wal.last_lsn(), Some(lsn(place)));
        expected.push((lsn(place), data));
        place += HEADER + u64::try_from(len).unwrap().next_multiple_of(ALIGNMENT);
        assert_eq!(wal.end_lsn(), lsn(place));
        assert_eq!(wal.live_bytes(), place);
    }
    assert_eq!(wal.durable_lsn(), lsn(0), "append promises order only");
    let read = wal.iter().unwrap().map(Result::unwrap);
    assert!(read.map(|r| (r.lsn(), r.into_data())).eq(expected));
}

#[test]
fn an_empty_record_is_a_record() {
    let (dir, wal) = open();
    wal.append(b"").unwrap();
    wal.append_vectored(&[]).unwrap();
    wal.append_vectored(&[b"", b""]).unwrap();
    wal.append_batch(&["", ""]).unwrap();
    wal.append_and_sync(b"").unwrap();
    assert!(!wal.is_empty());
    wal.close().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    assert_eq!(read_all(&wal), vec![Vec::<u8>::new(); 6]);
    assert!(wal.iter().unwrap().all(|record| record.unwrap().is_empty()));
}

#[test]
fn parts_make_one_record() {
    let (_dir, wal) = open();
    wal.append_vectored(&[b"key", b"", b"=", b"value"]).unwrap();
    assert_eq!(read_all(&wal), [b"key=value"]);
}

#[test]
fn a_batch_returns_the_place_of_each_record_in_a_row() {
    let (_dir, wal) = open();
    let before = wal.append(b"before").unwrap();
    let lsns = wal.append_batch(&["a", "", "0123456789"]).unwrap();
    assert_eq!(lsns, [lsn(24), lsn(48), lsn(64)]);
    assert!(before < lsns[0]);
    assert_eq!(wal.last_lsn(), Some(lsn(64)));
    assert_eq!(wal.end_lsn(), lsn(96));
    let read = wal.iter_from(lsns[0]).unwrap().map(|record| record.unwrap().lsn());
    assert!(read.eq(lsns));
}

#[test]
fn an_empty_batch_appends_nothing_and_with_sync_makes_the_rest_durable() {
    deadline(|| {
        let (_dir, wal) = open();
        wal.append(b"before").unwrap();
        let end = wal.end_lsn();
        assert!(wal.append_batch::<&[u8]>(&[]).unwrap().is_empty());
        assert_eq!((wal.end_lsn(), wal.durable_lsn()), (end, lsn(0)));
        assert!(wal.append_batch_and_sync::<&[u8]>(&[]).unwrap().is_empty());
        assert_eq!((wal.end_lsn(), wal.durable_lsn()), (end, end));
    });
}

#[test]
fn a_record_above_the_limit_is_refused_and_nothing_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let wal = WalOptions::new().max_record_bytes(100).open(dir.path()).unwrap();
    let refusals = [
        wal.append(&[0; 101]).err(),
        wal.append_and_sync(&[0; 101]).err(),
        wal.append_vectored(&[&[0; 60], &[0; 41]]).err(),
        wal.append_batch(&[vec![0; 100], vec![0; 101]]).err(),
        wal.append_batch_and_sync(&[vec![0; 101], vec![0; 100]]).err(),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, Some(WalError::RecordTooLarge { len: 101, max: 100 })));
    }
    assert!(wal.is_empty() && wal.stats().appends == 0);
    wal.append(&[0; 100]).unwrap();
}

#[test]
fn a_batch_above_the_limit_is_refused_and_nothing_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let wal = WalOptions::new().max_batch_bytes(96).open(dir.path()).unwrap();
    for refusal in [
        wal.append_batch(&[[0; 33], [0; 33]]).err(),
        wal.append_batch_and_sync(&[[0; 33], [0; 33]]).err(),
    ] {
        assert!(matches!(refusal, Some(WalError::BatchTooLarge { len: 112, max: 96 })));
    }
    assert!(wal.is_empty());
    assert_eq!(wal.append_batch(&[[0; 32], [0; 32]]).unwrap().len(), 2);
    // The limit is one on batches: a single record may be as large as `max_record_bytes`.
    wal.append(&[0; 200]).unwrap();
}

#[test]
fn sync_and_its_kin_move_durable_to_the_end() {
    deadline(|| {
        let (_dir, wal) = open();
        wal.append(b"one").unwrap();
        wal.sync().unwrap();
        assert_eq!(wal.durable_lsn(), wal.end_lsn());
        wal.append_and_sync(b"two").unwrap();
        assert_eq!(wal.durable_lsn(), wal.end_lsn());
        wal.append_batch_and_sync(&["three", "four"]).unwrap();
        assert_eq!(wal.durable_lsn(), wal.end_lsn());
        let lsns = wal.append_batch(&["five", "six"]).unwrap();
        wal.wait_durable(lsns[0]).unwrap();
        assert_eq!(wal.durable_lsn(), wal.end_lsn(), "a batch becomes durable as a whole");
        assert_eq!(wal.stats().syncs, 4);
    });
}

#[test]
fn what_is_durable_costs_no_further_sync() {
    deadline(|| {
        let (_dir, wal) = open();
        let lsn = wal.append_and_sync(b"one").unwrap();
        for _ in 0..10 {
            wal.sync().unwrap();
            wal.flush().unwrap();
            wal.wait_durable(lsn).unwrap();
            wal.append_batch_and_sync::<&str>(&[]).unwrap();
        }
        assert_eq!((wal.stats().syncs, wal.stats().flushes), (1, 1));
    });
}

#[test]
fn flush_hands_bytes_to_the_files_without_a_sync() {
    let (dir, wal) = open();
    wal.append(b"visible to the operating system").unwrap();
    let shows = || {
        let files = directory(dir.path());
        files.values().any(|bytes| bytes.windows(7).any(|window| window == b"visible"))
    };
    assert!(!shows());
    wal.flush().unwrap();
    assert!(shows());
    assert_eq!((wal.stats().flushes, wal.stats().syncs), (1, 0));
    assert_eq!(wal.durable_lsn(), lsn(0));
}

#[test]
fn waiting_where_no_record_can_be_is_refused() {
    deadline(|| {
        let (_dir, wal) = open();
        assert!(matches!(wal.wait_durable(lsn(0)), Err(WalError::NotARecord { .. })));
        wal.append(b"one").unwrap();
        let end = wal.end_lsn();
        for wrong in
            [end, lsn(end.get() + 8), lsn(1), lsn(end.get() - 1), lsn(u64::MAX), lsn(1 << 62)]
        {
            match wal.wait_durable(wrong) {
                Err(WalError::NotARecord { lsn }) => assert_eq!(lsn, wrong),
                other => panic!("{wrong}: {other:?}"),
            }
        }
        assert_eq!(wal.durable_lsn(), lsn(0));
        wal.wait_durable(lsn(0)).unwrap();
    });
}

#[test]
fn rotate_ends_a_segment_that_has_records_and_no_other() {
    deadline(|| {
        let (dir, wal) = open();
        wal.rotate().unwrap();
        assert_eq!((wal.stats().rotations, segment_names(dir.path()).len()), (0, 1));
        wal.append(b"one").unwrap();
        wal.rotate().unwrap();
        wal.rotate().unwrap();
        assert_eq!((wal.stats().rotations, segment_names(dir.path()).len()), (1, 2));
        wal.append(b"two").unwrap();
        assert_eq!(wal.end_lsn(), lsn(48), "a segment's header takes no LSNs");
        assert_eq!(read_all(&wal), [b"one", b"two"]);
        wal.close().unwrap();
        let wal = Wal::open(dir.path()).unwrap();
        assert_eq!(read_all(&wal), [b"one", b"two"]);
    });
}

#[test]
fn every_method_but_the_values_says_closed_after_close() {
    deadline(|| {
        let (dir, wal) = open();
        let one = wal.append(b"one").unwrap();
        wal.close().unwrap();
        let refusals = [
            wal.append(b"x").err(),
            wal.append(&vec![0; 2 << 20]).err(),
            wal.append_vectored(&[b"x"]).err(),
            wal.append_and_sync(b"x").err(),
            wal.append_batch(&["x"]).err(),
            wal.append_batch::<&str>(&[]).err(),
            wal.append_batch_and_sync(&["x"]).err(),
            wal.append_batch_and_sync::<&str>(&[]).err(),
            wal.flush().err(),
            wal.sync().err(),
            wal.wait_durable(one).err(),
            wal.iter().err(),
            wal.iter_from(one).err(),
            wal.rotate().err(),
        ];
        for (index, refusal) in refusals.into_iter().enumerate() {
            assert!(matches!(refusal, Some(WalError::Closed)), "call {index}: {refusal:?}");
        }
        let end = wal.end_lsn();
        assert_eq!((wal.head_lsn(), wal.durable_lsn(), wal.last_lsn()), (lsn(0), end, Some(one)));
        assert_eq!((wal.live_bytes(), wal.is_empty()), (24, false));
        assert_eq!((wal.stats().appends, wal.recovery().segments), (1, 1));
        let before = directory(dir.path());
        wal.close().unwrap();
        drop(wal);
        assert_eq!(directory(dir.path()), before, "closing again writes nothing");
    });
}

#[test]
fn close_and_drop_make_everything_durable_and_the_log_clean() {
    deadline(|| {
        for by_close in [true, false] {
            let (dir, wal) = open();
            wal.append(b"only buffered").unwrap();
            if by_close {
                wal.close().unwrap();
                wal.close().unwrap();
                assert_eq!(wal.durable_lsn(), wal.end_lsn());
            }
            drop(wal);
            let wal = Wal::open(dir.path()).unwrap();
            assert!(wal.recovery().clean && wal.recovery().carried_bytes == 0);
            assert_eq!(read_all(&wal), [b"only buffered"]);
        }
    });
}

#[test]
fn a_log_works_and_closes_in_a_thread_that_is_ending() {
    use std::cell::RefCell;
    thread_local! {
        static HELD: RefCell<Option<Wal<MemStore>>> = const { RefCell::new(None) };
    }
    let store = MemStore::new();
    let theirs = store.clone();
    std::thread::spawn(move || {
        // Its destructor is registered first, so it runs after the log's own thread-local state
        // is gone.
        HELD.with(|held| assert!(held.borrow().is_none()));
        let wal = WalOptions::new().open_store(theirs).unwrap();
        wal.append(b"closed by a destructor").unwrap();
        HELD.with(|held| *held.borrow_mut() = Some(wal));
    })
    .join()
    .unwrap();
    let wal = WalOptions::new().open_store(store).unwrap();
    assert!(wal.recovery().clean);
    assert_eq!(wal.iter().unwrap().count(), 1);
}

#[test]
fn an_iterator_outlives_the_log_it_came_from() {
    let (_dir, wal) = open();
    wal.append(b"one").unwrap();
    let mut records = wal.iter().unwrap();
    wal.append(b"after the call").unwrap();
    drop(wal);
    assert_eq!(records.next().unwrap().unwrap().data(), b"one");
    assert!(records.next().is_none() && records.next().is_none());
}

#[test]
fn statistics_count_what_was_done() {
    deadline(|| {
        let (_dir, wal) = open();
        wal.append(b"12345678").unwrap();
        wal.append_batch_and_sync(&["12345678", "12345678"]).unwrap();
        wal.rotate().unwrap();
        wal.append(&vec![0; 1 << 20]).unwrap();
        wal.append_and_sync(b"12345678").unwrap();
        let stats = wal.stats();
        assert_eq!(stats.appends, 5);
        assert_eq!(stats.bytes, wal.live_bytes());
        assert_eq!(stats.bytes, 4 * 24 + 16 + (1 << 20));
        assert_eq!((stats.flushes, stats.rotations), (3, 1));
        assert_eq!((stats.syncs, stats.commits), (2, 2));
        assert_eq!((stats.ring_waits, stats.gathers), (0, 0));
        assert_eq!(stats.cohort_sizes.count(), 2);
        assert_eq!((stats.sync_us.count(), stats.commit_us.count()), (2, 2));
    });
}

#[test]
fn errors_explain_themselves_and_keep_their_kind_as_io_errors() {
    let (dir, _wal) = open();
    let locked = Wal::open(dir.path()).unwrap_err();
    assert!(locked.to_string().contains(&*dir.path().to_string_lossy()), "{locked}");
    assert!(locked.is_retryable() && !locked.is_poisoned() && !locked.is_corruption());
    assert!(locked.source().is_none());
    let locked = io::Error::from(locked);
    assert_eq!(locked.kind(), io::ErrorKind::WouldBlock);
    assert!(locked.get_ref().unwrap().downcast_ref::<WalError>().is_some());
}

#[test]
fn debug_output_shows_no_payload() {
    let (_dir, wal) = open();
    wal.append(b"secret").unwrap();
    let mut records = wal.iter().unwrap();
    let lent = format!("{:?}", records.read_next().unwrap().unwrap());
    let owned = format!("{:?}", wal.iter().unwrap().next().unwrap().unwrap());
    for shown in [lent, owned, format!("{records:?}"), format!("{wal:?}")] {
        assert!(!shown.contains("secret") && !shown.contains("115, 101, 99"), "{shown}");
    }
}
