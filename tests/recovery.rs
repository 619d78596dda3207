//! Recovery through the public interface, on real files and in memory.

#![expect(clippy::unwrap_used, reason = "a test that panics fails")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc;
use std::thread;

use cohort_wal::{Lsn, MemSnapshot, MemStore, Result, Wal, WalError, WalOptions, WalStore};

use common::deadline_of;

fn small() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

fn contents<S: WalStore>(wal: &Wal<S>) -> Vec<Vec<u8>> {
    wal.iter().unwrap().map(|record| record.unwrap().into_data()).collect()
}

fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(Result::<_, std::io::Error>::unwrap);
    let file = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    entries.map(file).collect()
}

fn is_segment(name: &str) -> bool {
    name.ends_with(".wal")
}

/// A log of several segments that was never closed: its lock is gone, its claims are old.
fn killed(records: usize) -> (MemSnapshot, Vec<Vec<u8>>) {
    let store = MemStore::new();
    let wal = small().open_store(store.clone()).unwrap();
    let body = |n: usize| vec![u8::try_from(n % 251).unwrap(); n % 700];
    for n in 0..records {
        wal.append(&body(n)).unwrap();
        if n % 16 == 0 {
            wal.sync().unwrap();
        }
    }
    wal.flush().unwrap();
    (store.snapshot(), (0..records).map(body).collect())
}

#[test]
fn a_flushed_log_survives_the_death_of_the_process_whole() {
    let (snapshot, expected) = killed(300);
    assert!(snapshot.files().keys().filter(|name| is_segment(name)).count() > 3);
    let wal = small().open_store(MemStore::from_snapshot(snapshot)).unwrap();
    assert_eq!(contents(&wal), expected);
    assert!(!wal.recovery().clean);
    assert_eq!(wal.durable_lsn(), wal.end_lsn());
}

#[test]
fn a_closed_log_reopens_clean_and_goes_on_where_it_ended() {
    let dir = tempfile::tempdir().unwrap();
    let mut expected = Vec::new();
    let mut end = Lsn::new(0);
    for round in 0..5_u8 {
        let wal = small().open(dir.path()).unwrap();
        assert_eq!(wal.recovery().clean, round > 0);
        assert_eq!((wal.recovery().carried_bytes, wal.end_lsn()), (0, end));
        assert_eq!(wal.recovery().epoch, u64::from(round) + 1);
        for n in 0..40 {
            expected.push(vec![round; n * 20]);
            wal.append(expected.last().unwrap()).unwrap();
        }
        end = wal.end_lsn();
        wal.close().unwrap();
    }
    assert_eq!(contents(&small().open(dir.path()).unwrap()), expected);
}

#[test]
fn every_cut_of_the_last_segment_leaves_a_prefix_or_is_refused() {
    let (snapshot, expected) = killed(100);
    let last = snapshot.files().keys().rfind(|name| is_segment(name)).unwrap().clone();
    let bytes = snapshot.files()[&last].clone();
    let mut opened = 0;
    // Inside the header area every length is refused alike.
    for len in (0..8192).step_by(511).chain(8192..bytes.len()) {
        let mut cut = snapshot.clone();
        cut.files_mut().get_mut(&last).unwrap().truncate(len);
        let before = cut.clone();
        let store = MemStore::from_snapshot(cut);
        match small().open_store(store.clone()) {
            Ok(wal) => {
                opened += 1;
                let kept = contents(&wal);
                assert_eq!(kept, expected[..kept.len()], "{len}");
                // What is appended now is all that ever follows.
                wal.append_and_sync(b"after").unwrap();
                assert_eq!(contents(&wal).len(), kept.len() + 1);
            }
            Err(error) => {
                assert!(error.is_corruption(), "{error}");
                assert_eq!(store.snapshot(), before);
            }
        }
    }
    assert!(opened > 0);
}

#[test]
fn records_that_were_cut_never_come_back() {
    let store = MemStore::new();
    let wal = small().open_store(store.clone()).unwrap();
    wal.append_and_sync(b"kept").unwrap();
    for n in 0..8 {
        wal.append(&[n; 64]).unwrap();
    }
    wal.flush().unwrap();
    // The first unsynced record is torn; the seven behind it are whole.
    let mut snapshot = store.snapshot();
    let last = snapshot.files().keys().rfind(|name| is_segment(name)).unwrap().clone();
    snapshot.files_mut().get_mut(&last).unwrap()[8192 + 24 + 20] ^= 1;
    let store = MemStore::from_snapshot(snapshot);
    let wal = small().open_store(store.clone()).unwrap();
    assert_eq!(contents(&wal), [b"kept"]);
    assert!(wal.recovery().torn_at.is_some() && wal.recovery().cut_bytes > 0);
    // The same sizes again, so that old frames would line up behind the new one.
    wal.append(&[100; 64]).unwrap();
    wal.flush().unwrap();
    let wal = small().open_store(MemStore::from_snapshot(store.snapshot())).unwrap();
    assert_eq!(contents(&wal), [b"kept".to_vec(), vec![100; 64]]);
}

#[test]
fn a_failed_open_leaves_every_byte_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..100 {
        wal.append(&vec![1; n * 10]).unwrap();
    }
    wal.close().unwrap();
    drop(wal);
    let last = files(dir.path()).into_keys().rfind(|name| is_segment(name)).unwrap();
    let path = dir.path().join(last);
    let mut bytes = fs::read(&path).unwrap();
    let in_a_record = bytes.iter().rposition(|byte| *byte == 1).unwrap();
    bytes[in_a_record] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    let before = files(dir.path());
    let error = small().open(dir.path()).map(drop).unwrap_err();
    assert!(matches!(&error, WalError::Corruption { path: at, .. } if *at == path), "{error}");
    assert!(small().open_read_only(dir.path()).unwrap_err().is_corruption());
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_directory_of_somebody_elses_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("CONTROL"), b"not a log").unwrap();
    let before = files(dir.path());
    let refused = small().open(dir.path());
    assert!(matches!(refused, Err(WalError::NotALog { .. })));
    assert!(matches!(small().open_read_only(dir.path()), Err(WalError::NotALog { .. })));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_reader_without_the_lock_shows_a_closed_log_whole_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    for n in 0..200_u8 {
        wal.append(&vec![n; usize::from(n) * 5]).unwrap();
    }
    wal.close().unwrap();
    drop(wal);
    fs::write(dir.path().join("notes"), b"mine").unwrap();
    let before = files(dir.path());
    let reader = small().open_read_only(dir.path()).unwrap();
    let records: Vec<_> = reader.iter().unwrap().map(Result::unwrap).collect();
    assert_eq!(records.len(), 200);
    assert!(reader.is_clean());
    assert_eq!(reader.unknown_files(), ["notes"]);
    let rest = reader.iter_from(records[150].lsn()).unwrap();
    assert_eq!(rest.map(Result::unwrap).collect::<Vec<_>>(), records[150..]);
    assert_eq!(reader.iter_from(reader.end_lsn()).unwrap().count(), 0);
    let segments = reader.segments();
    assert!(segments.len() > 3);
    assert_eq!(segments.first().unwrap().base, reader.head_lsn());
    assert_eq!(segments.last().unwrap().end, reader.end_lsn());
    assert!(segments.windows(2).all(|pair| pair[0].end == pair[1].base));
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_reader_beside_a_writer_shows_durable_records_and_never_damage() {
    deadline_of(60, || {
        let dir = tempfile::tempdir().unwrap();
        let wal = small().open(dir.path()).unwrap();
        thread::scope(|scope| {
            // So many at each look: writers that have a processor to themselves would run away.
            let turns: Vec<_> = (0..2_u8)
                .map(|writer| {
                    let (go_on, turns) = mpsc::sync_channel(1);
                    let wal = &wal;
                    scope.spawn(move || {
                        for n in turns.into_iter().flat_map(|()| 0..300) {
                            wal.append(&vec![writer; n % 900]).unwrap();
                            if n % 8 == 0 {
                                wal.sync().unwrap();
                            }
                        }
                    });
                    go_on
                })
                .collect();
            let (mut looks, mut last) = (0, Lsn::new(0));
            // Until there is something to be seen: syncs may take longer than looks.
            while looks < 60 || last == Lsn::new(0) {
                // One that has its next turn already needs no other.
                turns.iter().for_each(|go_on| go_on.try_send(()).unwrap_or_default());
                let reader = small().open_read_only(dir.path()).unwrap();
                assert!(reader.end_lsn() >= last, "a durable record vanished");
                last = reader.end_lsn();
                // CONTROL may witness a sync a moment before the writer's own threads learn of it.
                assert!(last <= wal.end_lsn(), "a record that does not exist showed");
                reader.iter().unwrap().for_each(|record| drop(record.unwrap()));
                looks += 1;
            }
        });
        wal.close().unwrap();
        assert_eq!(small().open_read_only(dir.path()).unwrap().end_lsn(), wal.durable_lsn());
    });
}

#[test]
fn the_record_named_as_durable_by_the_caller_must_survive() {
    let dir = tempfile::tempdir().unwrap();
    let wal = small().open(dir.path()).unwrap();
    let kept = wal.append_and_sync(b"kept").unwrap();
    let last = wal.append_and_sync(b"last").unwrap();
    wal.close().unwrap();
    drop(wal);
    for lsn in [kept, last] {
        drop(small().min_durable_lsn(lsn).open(dir.path()).unwrap());
    }
    let beyond = Lsn::new(last.get() + 24);
    let error = small().min_durable_lsn(beyond).open(dir.path()).map(drop).unwrap_err();
    assert!(error.is_corruption(), "{error}");
}
