//! What loading makes of damage, of a torn end, and of records of others.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::sync::Arc;

use cohort_wal::sim::{Profile, SimStore};
use cohort_wal::{MemSnapshot, MemStore, Wal};
use kv_snapshot::{Error, Store};

use common::{commit, held, load, options};

const LAST: u64 = 100;

/// A log of several segments without a snapshot, which was closed.
fn written(disk: &MemStore) -> MemSnapshot {
    let store = load(disk.clone()).unwrap();
    (1..=LAST).for_each(|n| commit(&store, n).unwrap());
    store.close().unwrap();
    disk.snapshot()
}

fn segments(files: &MemSnapshot) -> Vec<String> {
    files.files().keys().filter(|name| name.ends_with(".wal")).cloned().collect()
}

/// Where a text stands in a file.
fn find(file: &[u8], text: &[u8]) -> usize {
    file.windows(text.len()).position(|window| window == text).expect("the text is there")
}

#[test]
fn damage_in_the_middle_is_an_error_wherever_it_is() {
    let disk = MemStore::new();
    let files = written(&disk);
    let names = segments(&files);
    assert!(names.len() >= 2, "{names:?}");
    let mut damaged = 0;
    for name in &names {
        let file = &files.files()[name];
        let end = file.iter().rposition(|byte| *byte != 0).unwrap();
        // The records begin with the name of the first entry that the segment holds.
        let first = file.windows(6).position(|window| window == b"0/left");
        let Some(first) = first else { continue };
        for at in (first..end).step_by(211) {
            let mut files = files.clone();
            files.files_mut().get_mut(name).unwrap()[at] ^= 0x40;
            let disk = MemStore::from_snapshot(files.clone());
            let error = load(disk.clone()).expect_err("bytes of a record have changed");
            assert!(error.is_corruption() && !error.is_retryable(), "{name} {at}: {error}");
            damaged += 1;
        }
    }
    assert!(damaged > 50, "{damaged}");
}

#[test]
fn a_torn_end_is_cut_and_told() {
    let disk = MemStore::new();
    let store = load(disk.clone()).unwrap();
    (1..=10).for_each(|n| commit(&store, n).unwrap());
    // Nobody was told of this one. The process dies, and half of it is on the disk.
    let torn = store.append(vec![kv_snapshot::Change::Purge { key: "0/left".into() }]).unwrap();
    store.wal().flush().unwrap();
    let mut files = disk.snapshot();
    let name = segments(&files).pop().unwrap();
    let file = files.files_mut().get_mut(&name).unwrap();
    let purge = file.len() - file.iter().rev().skip_while(|byte| **byte == 0).count();
    let last = file.len() - purge - 1;
    file[last] ^= 1;
    let store = load(MemStore::from_snapshot(files)).unwrap();
    assert_eq!((store.recovery().torn_at, store.recovery().cut_bytes > 0), (torn, true));
    assert_eq!(held(&store, 1), [10]);
    commit(&store, 11).unwrap();
}

#[test]
fn power_loss_tears_ends_and_none_of_them_is_an_error() {
    let disk = SimStore::new(Profile::Hostile, 4);
    let store = load(disk.clone()).unwrap();
    (1..=10).for_each(|n| commit(&store, n).unwrap());
    store.append(kv_snapshot::workload::changes(0, 11).unwrap()).unwrap();
    store.wal().flush().unwrap();
    let loaded: Vec<_> = disk.power_losses(60).map(|after| load(after).unwrap()).collect();
    let torn = loaded.iter().filter(|store| store.recovery().torn_at.is_some());
    assert!(torn.count() > 5);
    loaded.iter().for_each(|store| assert!([[10], [11]].contains(&[held(store, 1)[0]])));
}

#[test]
fn a_damaged_snapshot_is_an_error() {
    let disk = MemStore::new();
    let store = load(disk.clone()).unwrap();
    (1..=LAST).for_each(|n| commit(&store, n).unwrap());
    store.compact().unwrap();
    store.close().unwrap();
    let files = disk.snapshot();
    let (name, file) = files.files().iter().find(|(name, _)| name.ends_with(".snap")).unwrap();
    let first = find(file, b"0/item");
    for at in (first..file.len()).step_by(199) {
        let mut files = files.clone();
        files.files_mut().get_mut(name).unwrap()[at] ^= 1;
        let error = load(MemStore::from_snapshot(files)).expect_err("the image has changed");
        assert!(error.is_corruption(), "{at}: {error}");
    }
}

#[test]
fn a_record_of_an_unknown_kind_is_refused_by_its_lsn() {
    let disk = MemStore::new();
    let store = load(disk.clone()).unwrap();
    commit(&store, 1).unwrap();
    store.close().unwrap();
    let wal = options().open_store(disk.clone()).unwrap();
    let lsn = wal.append_and_sync(&[200, 3, b'k', b'e', b'y']).unwrap();
    wal.close().unwrap();
    for _ in 0..2 {
        let error = load(disk.clone()).unwrap_err();
        let named = matches!(error, Error::UnknownKind { lsn: at, kind: 200 } if at == lsn);
        assert!(named && !error.is_corruption(), "{error}");
        assert!(error.to_string().contains(&format!("LSN {lsn}")), "{error}");
    }
}

#[test]
fn an_image_of_others_is_refused() {
    let load_with = |image: &[u8]| {
        let wal = Arc::new(options().open_store(MemStore::new()).unwrap());
        wal.append(b"whatever").unwrap();
        wal.checkpoint(wal.end_lsn(), |out| out.write_all(image)).unwrap();
        (wal.end_lsn(), Store::load(wal, 1).map(|_: Store<MemStore>| ()))
    };
    let (lsn, refused) = load_with(&[2, 99, 0]);
    assert!(matches!(refused, Err(Error::UnknownKind { lsn: at, kind: 99 }) if at == lsn));
    for image in [&[2, 3][..], &[0xFF], &[0xFF; 12], &[0]] {
        let (lsn, refused) = load_with(image);
        let named = matches!(refused, Err(Error::Malformed { lsn: at }) if at == lsn);
        assert!(named, "{image:?}: {refused:?}");
    }
}

#[test]
fn a_store_is_loaded_once_at_a_time() {
    let disk = MemStore::new();
    let store = load(disk.clone()).unwrap();
    let error = load(disk.clone()).unwrap_err();
    assert!(error.is_retryable(), "{error}");
    drop(store);
    let _wal: Wal<MemStore> = options().open_store(disk).unwrap();
}
