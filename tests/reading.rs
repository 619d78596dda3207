//! Reading: every record can be reached, places that are no records are refused, damage is named,
//! and a reader without the lock changes nothing.
//!
//! Method: logs of many small segments on real files, read back in every way and compared with
//! what was appended. Damage is done to the files behind the open log's back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cohort_wal::{Lsn, MemStore, Wal, WalError, WalOptions};

use common::{Dice, Id, deadline, deadline_of, directory, identify, payload, read_all, read_ids};
use faulty::{FaultyStore, Op};

fn many_segments() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

/// Appends records of all sizes; returns them in order.
fn fill(wal: &Wal, records: u64) -> Vec<(Lsn, Vec<u8>)> {
    let mut dice = Dice::new(records);
    let ids = (0..records).map(|number| Id { owner: 0, number });
    ids.map(|id| {
        let data = payload(id, dice.len());
        (wal.append(&data).unwrap(), data)
    })
    .collect()
}

/// Flips a bit of one byte of a file.
fn damage(path: &Path, offset: u64) {
    let mut file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.read_exact(&mut byte).unwrap();
    byte[0] ^= 1;
    file.seek(SeekFrom::Start(offset)).unwrap();
    file.write_all(&byte).unwrap();
}

/// The file that holds a record's payload, and its offset there.
fn find(dir: &Path, data: &[u8]) -> (String, u64) {
    let found = directory(dir).into_iter().find_map(|(name, bytes)| {
        let at = bytes.windows(data.len()).position(|window| window == data)?;
        Some((name, u64::try_from(at).unwrap()))
    });
    found.expect("the record is in some file")
}

#[test]
fn iteration_can_begin_at_every_record_and_goes_to_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let wal = many_segments().open(dir.path()).unwrap();
    let records = fill(&wal, 300);
    assert!(
        wal.iter()
            .unwrap()
            .map(Result::unwrap)
            .eq(wal.iter_from(records[0].0).unwrap().map(Result::unwrap))
    );
    assert!(wal.stats().rotations > 5);
    for reopened in [false, true] {
        let wal = if reopened {
            wal.close().unwrap();
            &many_segments().open(dir.path()).unwrap()
        } else {
            &wal
        };
        for (index, (lsn, _)) in records.iter().enumerate() {
            let read = wal.iter_from(*lsn).unwrap().map(|record| {
                let record = record.unwrap();
                (record.lsn(), record.into_data())
            });
            // All the rest now and then, and the first few always.
            let limit = if index % 40 == 0 { usize::MAX } else { 3 };
            assert!(read.take(limit).eq(records[index..].iter().take(limit).cloned()));
        }
    }
}

#[test]
fn lent_records_equal_owned_ones() {
    let dir = tempfile::tempdir().unwrap();
    let wal = many_segments().open(dir.path()).unwrap();
    fill(&wal, 300);
    let (mut lending, mut owning) = (wal.iter().unwrap(), wal.iter().unwrap());
    let mut records = 0;
    while let Some(lent) = lending.read_next() {
        let (lent, owned) = (lent.unwrap(), owning.next().unwrap().unwrap());
        assert_eq!((lent.lsn(), lent.data(), lent.len()), (owned.lsn(), owned.data(), owned.len()));
        assert_eq!(lent.to_record(), owned);
        records += 1;
    }
    assert_eq!(records, 300);
    assert!(owning.next().is_none() && lending.read_next().is_none());
}

#[test]
fn every_place_that_is_no_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let wal = many_segments().open(dir.path()).unwrap();
    let places: BTreeSet<_> = fill(&wal, 60).into_iter().map(|(lsn, _)| lsn).collect();
    let end = wal.end_lsn();
    for position in 0..end.get() {
        let lsn = Lsn::new(position);
        match wal.iter_from(lsn) {
            Ok(_) => assert!(places.contains(&lsn), "{lsn}"),
            Err(WalError::NotARecord { lsn: named }) => {
                assert_eq!(named, lsn);
                assert!(!places.contains(&lsn), "{lsn}");
            }
            Err(other) => panic!("{lsn}: {other}"),
        }
    }
    for beyond in [end, Lsn::new(end.get() + 8), Lsn::new(u64::MAX)] {
        assert!(wal.iter_from(beyond).unwrap().next().is_none(), "at or past the end is empty");
    }
}

#[test]
fn a_payload_that_looks_like_a_frame_is_not_a_record() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    wal.append(b"a true record").unwrap();
    wal.flush().unwrap();
    let (name, at) = find(dir.path(), b"a true record");
    let at = usize::try_from(at).unwrap();
    let frame = directory(dir.path())[&name][at - 16..at + 16].to_vec();
    let outer = wal.append(&frame).unwrap();
    let inner = Lsn::new(outer.get() + 16);
    assert!(matches!(wal.iter_from(inner), Err(WalError::NotARecord { .. })));
    wal.close().unwrap();
    assert_eq!(read_all(&Wal::open(dir.path()).unwrap()).len(), 2);
}

#[test]
fn a_pad_is_skipped_and_is_no_record() {
    deadline(|| {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let options = WalOptions::new().ring_bytes(64 << 10);
        let wal = options.clone().open_store(store).unwrap();
        wal.append(b"before").unwrap();
        wal.flush().unwrap();
        let pad = wal.end_lsn();
        script.fail_once(Op::Write, 0, faulty::Fault::Short(std::io::ErrorKind::StorageFull));
        assert!(wal.append(&[1; 10_000]).unwrap_err().is_retryable());
        let after = wal.append(b"after").unwrap();
        assert!(after > Lsn::new(pad.get() + 10_000));
        let check = |wal: &Wal<_>| {
            assert_eq!(read_all(wal), [&b"before"[..], b"after"]);
            for inside in [pad, Lsn::new(pad.get() + 8), Lsn::new(pad.get() + 16)] {
                assert!(matches!(wal.iter_from(inside), Err(WalError::NotARecord { .. })));
            }
            assert_eq!(wal.iter_from(after).unwrap().count(), 1);
            assert_eq!(wal.last_lsn(), Some(after));
        };
        check(&wal);
        wal.close().unwrap();
        let (store, _) = FaultyStore::over(memory);
        check(&options.open_store(store).unwrap());
    });
}

#[test]
fn below_the_head_is_truncated() {
    let dir = tempfile::tempdir().unwrap();
    let head = Lsn::new(4_096);
    let wal = WalOptions::new().initial_lsn(head).open(dir.path()).unwrap();
    for empty in [true, false] {
        for below in [0, 8, 4_088, 4_095] {
            match wal.iter_from(Lsn::new(below)) {
                Err(WalError::Truncated { lsn, head: named }) => {
                    assert_eq!((lsn.get(), named), (below, head));
                }
                other => panic!("{below}: {other:?}"),
            }
        }
        assert_eq!(wal.iter_from(head).unwrap().next().is_none(), empty);
        wal.append(b"one").unwrap();
    }
}

#[test]
fn damage_below_the_end_is_named_and_ends_the_iterator() {
    let dir = tempfile::tempdir().unwrap();
    let wal = many_segments().open(dir.path()).unwrap();
    let records = fill(&wal, 200);
    wal.sync().unwrap();
    for index in [0, 77, 199] {
        let (lsn, data) = &records[index];
        let (name, offset) = find(dir.path(), data);
        let path = dir.path().join(name);
        // The checksum, the length, the kind, the first and the last byte of the payload.
        let len = u64::try_from(data.len()).unwrap();
        for byte in [offset - 16, offset - 12, offset - 4, offset, offset + len - 1] {
            damage(&path, byte);
            let mut read = wal.iter().unwrap();
            assert_eq!(read.by_ref().take(index).filter(Result::is_ok).count(), index);
            let error = read.next().unwrap().unwrap_err();
            assert!(error.is_corruption() && !error.is_retryable());
            match &error {
                WalError::Corruption { path: named, start, offset: at, .. } => {
                    assert_eq!((named, *start, *at), (&path, *lsn, offset - 16));
                }
                other => panic!("{other:?}"),
            }
            assert!(error.to_string().contains(&*path.to_string_lossy()));
            assert!(read.next().is_none() && read.read_next().is_none());
            if index > 0 {
                assert!(wal.iter_from(*lsn).unwrap_err().is_corruption());
            }
            if let Some((next, _)) = records.get(index + 1) {
                assert_eq!(wal.iter_from(*next).unwrap().count(), records.len() - index - 1);
            }
            damage(&path, byte);
        }
    }
    assert_eq!(wal.iter().unwrap().filter(Result::is_ok).count(), 200, "all is repaired");
    wal.append_and_sync(b"a reader's error does not poison").unwrap();
}

#[test]
fn a_segment_that_vanishes_is_an_error_not_an_end() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = many_segments().open(dir.path()).unwrap();
        fill(&wal, 200);
        wal.sync().unwrap();
        let names = common::segment_names(dir.path());
        fs::remove_file(dir.path().join(&names[names.len() / 2])).unwrap();
        let results: Vec<_> = wal.iter().unwrap().collect();
        assert!(matches!(results.last(), Some(Err(WalError::Io { .. }))));
        assert_eq!(results.iter().filter(|result| result.is_err()).count(), 1);
    });
}

#[test]
fn records_larger_than_a_block_are_read_whole() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let block = 256 << 10;
    let lengths =
        [100, block - 17, block - 16, block - 15, block, block + 1, 3 * block, 50, 1 << 21];
    let mut expected = Vec::new();
    for (number, len) in (0..).zip(lengths) {
        let id = Id { owner: 0, number };
        expected.push((wal.append(&payload(id, len)).unwrap(), id));
    }
    assert!(read_ids(&wal) == expected);
    for (index, (lsn, _)) in expected.iter().enumerate() {
        assert_eq!(wal.iter_from(*lsn).unwrap().count(), expected.len() - index);
    }
    drop(wal);
    assert!(read_ids(&Wal::open(dir.path()).unwrap()) == expected);
}

#[test]
fn a_reader_of_a_closed_log_sees_all_of_it_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = many_segments().open(dir.path()).unwrap();
    let records = fill(&wal, 200);
    wal.close().unwrap();
    let before = directory(dir.path());
    let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
    assert!(reader.is_clean());
    assert_eq!((reader.head_lsn(), reader.end_lsn()), (wal.head_lsn(), wal.end_lsn()));
    let read = reader.iter().unwrap().map(Result::unwrap);
    assert!(read.map(|record| (record.lsn(), record.into_data())).eq(records.iter().cloned()));
    let (third, _) = records[3];
    assert_eq!(reader.iter_from(third).unwrap().count(), 197);
    assert!(matches!(
        reader.iter_from(Lsn::new(third.get() + 8)),
        Err(WalError::NotARecord { .. })
    ));
    let segments = reader.segments();
    assert_eq!(segments.len(), common::segment_names(dir.path()).len());
    assert!(
        segments.windows(2).all(|pair| pair[0].end == pair[1].base && pair[0].seq < pair[1].seq)
    );
    assert_eq!(segments.last().unwrap().end, reader.end_lsn());
    assert_eq!(directory(dir.path()), before);
}

#[test]
fn a_reader_beside_an_idle_writer_changes_nothing_and_shows_a_witnessed_prefix() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = many_segments().open(dir.path()).unwrap();
        let records = fill(&wal, 200);
        wal.sync().unwrap();
        // This frame says that all before it is durable.
        wal.append(b"not durable").unwrap();
        wal.flush().unwrap();
        let before = directory(dir.path());
        let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
        assert_eq!(reader.end_lsn(), wal.durable_lsn());
        assert_eq!(reader.iter().unwrap().filter(Result::is_ok).count(), records.len());
        assert!(!reader.is_clean());
        assert_eq!(directory(dir.path()), before);
        wal.append_and_sync(b"unharmed").unwrap();
    });
}

#[test]
fn readers_beside_a_busy_writer_always_see_a_prefix() {
    deadline_of(60, || {
        let dir = tempfile::tempdir().unwrap();
        let wal = many_segments().open(dir.path()).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let writer = thread::spawn(move || {
            let mut dice = Dice::new(1);
            let mut number = 0;
            while !stopped.load(Ordering::Relaxed) && number < 40_000 {
                wal.append(&payload(Id { owner: 0, number }, dice.len())).unwrap();
                number += 1;
                if number % 50 == 0 {
                    wal.sync().unwrap();
                }
            }
            wal.close().unwrap();
            number
        });
        let (mut most, mut looks) = (0, 0);
        while looks < 60 || most < 500 {
            looks += 1;
            let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
            let mut seen = 0;
            for record in reader.iter().unwrap() {
                assert_eq!(identify(record.unwrap().data()).number, seen);
                seen += 1;
            }
            assert!(seen >= most, "what was shown once is shown again");
            most = seen;
        }
        stop.store(true, Ordering::Relaxed);
        let appended = writer.join().unwrap();
        let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
        assert_eq!(u64::try_from(reader.iter().unwrap().count()).unwrap(), appended);
        assert!(appended >= most);
    });
}

#[test]
fn records_behind_damage_in_their_segment_are_damaged_and_not_missing() {
    let memory = MemStore::new();
    let options = || WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns: Vec<_> = (0..100_u8).map(|byte| wal.append(&[byte; 8]).unwrap()).collect();
    wal.rotate().unwrap();
    wal.append(b"newest").unwrap();
    wal.close().unwrap();
    let mut snapshot = memory.snapshot();
    let mut files = snapshot.files_mut().iter_mut();
    let (_, first) = files.find(|(name, _)| name.ends_with(".wal")).unwrap();
    first[8192 + 240..8192 + 480].fill(0);
    let wal = options().open_store(MemStore::from_snapshot(snapshot)).unwrap();
    for (lsn, damaged) in [(lsns[9], false), (lsns[10], true), (lsns[15], true)] {
        let read = wal.iter_from(lsn).map(|mut records| records.next().unwrap());
        let corrupt = matches!(read, Err(WalError::Corruption { .. }));
        assert_eq!(corrupt, damaged, "{lsn}");
    }
}

#[test]
fn opening_takes_time_in_proportion_to_the_number_of_segments() {
    deadline_of(60, || {
        let memory = MemStore::new();
        let options = || WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
        let wal = options().open_store(memory.clone()).unwrap();
        for _ in 0..20_000 {
            wal.append(b"").unwrap();
            wal.rotate().unwrap();
        }
        wal.close().unwrap();
        // Quadratic, this is minutes in a debug build.
        let wal = options().open_store(memory).unwrap();
        assert_eq!(wal.recovery().segments, 20_001);
    });
}
