//! Parts of an encrypted log that are replaced by plain ones, and lengths that are made up: all
//! that takes no key.

use cohort_wal::{MemStore, Result, WalError};

use crate::common::{names, smallest};
use crate::forge::{frames, index, number, seal, seal_end, seal_header, with};
use crate::{copy, refused, sealed, secret};

fn log() -> MemStore {
    let store = MemStore::new();
    let wal = sealed().open_store(store.clone()).unwrap();
    for round in 0..3 {
        for number in 0..6 {
            wal.append(&secret(round * 10 + number, 60)).unwrap();
        }
        wal.rotate().unwrap();
    }
    wal.close().unwrap();
    store
}

/// Makes a segment a plain one whose records are all forged. No key is needed.
fn forge_plain(file: &mut [u8]) {
    file[124..148].fill(0);
    seal_header(file);
    for frame in frames(file) {
        let len = index(number(file, frame.start + 4, 4));
        file[frame.start + 12] &= !0x40;
        file[frame.start + 16..frame.end].fill(0);
        file[frame.start + 16..frame.start + 16 + len].fill(b'F');
        seal(file, frame.start);
    }
}

#[test]
fn a_forged_plain_segment_before_encrypted_ones_is_never_shown() {
    let store = log();
    let first = names(&store, ".wal").into_iter().min().unwrap();
    let forged = with(&store, &first, |file| forge_plain(file));
    assert!(matches!(refused(&forged, sealed()), WalError::Tampered { .. }));
}

#[test]
fn salvage_does_not_show_a_forged_plain_segment_behind_encrypted_ones() {
    let store = log();
    let third = names(&store, ".wal").into_iter().nth(2).unwrap();
    let forged = with(&store, &third, |file| forge_plain(file));
    assert!(sealed().open_store(copy(&forged)).is_err(), "an opening refuses it");
    let salvage = sealed().salvage_store(forged).unwrap();
    let shown: Vec<_> = salvage.filter_map(Result::ok).collect();
    assert_eq!(shown.len(), 12, "what is not forged");
    let shown =
        shown.iter().filter(|record| record.data().iter().all(|byte| *byte == b'F')).count();
    assert_eq!(shown, 0, "records that nobody appended");
}

fn with_snapshot(bytes: &[u8]) -> MemStore {
    let store = MemStore::new();
    let wal = sealed().open_store(store.clone()).unwrap();
    let lsn = wal.append(&secret(0, 60)).unwrap();
    let lsn = wal.append(&secret(1, 60)).map(|_| lsn).unwrap();
    wal.checkpoint(lsn, |image| image.write_all(bytes)).unwrap();
    wal.close().unwrap();
    store
}

#[test]
fn a_forged_plain_snapshot_of_an_encrypted_log_is_never_shown() {
    let store = with_snapshot(b"balance: 7");
    let name = names(&store, ".snap").pop().unwrap();
    let forged = with(&store, &name, |file| {
        let crc = |parts: &[&[u8]]| {
            parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part)).to_le_bytes()
        };
        file.truncate(512);
        file[48..88].fill(0);
        let sum = crc(&[&file[..508]]);
        file[508..].copy_from_slice(&sum);
        let (id, body) = (file[24..48].to_vec(), b"balance: 1000000");
        let len = u32::try_from(body.len()).unwrap().to_le_bytes();
        file.extend_from_slice(&len);
        file.extend_from_slice(&crc(&[&id, &0_u64.to_le_bytes(), &len, body]));
        file.extend_from_slice(body);
        let total = (body.len() as u64).to_le_bytes();
        let one = 1_u64.to_le_bytes();
        file.extend_from_slice(&[0; 4]);
        file.extend_from_slice(&crc(&[&id, &one, &[0; 4], &total, &one]));
        file.extend_from_slice(&total);
        file.extend_from_slice(&one);
    });
    assert!(matches!(refused(&forged, sealed()), WalError::Tampered { .. }));
    let salvage = sealed().salvage_store(forged).unwrap();
    assert!(matches!(salvage.snapshots().latest(), Err(WalError::Tampered { .. })));
}

#[test]
fn the_length_of_an_encrypted_snapshot_is_not_forged() {
    let store = with_snapshot(b"balance: 7");
    let name = names(&store, ".snap").pop().unwrap();
    let forged = with(&store, &name, |file| {
        let end = file.len() - 16 - 24;
        let total = number(file, end + 8, 8) + (1 << 20);
        file[end + 8..end + 16].copy_from_slice(&total.to_le_bytes());
        file.splice(end..end, vec![0; 1 << 20]);
        seal_end(file);
    });
    let wal = sealed().open_store(forged).unwrap();
    let latest = wal.snapshots().unwrap().latest().map(drop);
    assert!(matches!(latest, Err(WalError::Corruption { .. })), "{latest:?}");
}

#[test]
fn where_encryption_is_required_a_plain_log_does_not_pass_for_the_encrypted_one() {
    let required = sealed().require_encryption(true);
    let plain = MemStore::new();
    let wal = smallest().open_store(plain.clone()).unwrap();
    wal.append_and_sync(&secret(0, 60)).unwrap();
    drop(wal);
    assert!(matches!(refused(&plain, required.clone()), WalError::Tampered { .. }));
    let salvage = required.clone().salvage_store(plain.clone()).unwrap();
    assert_eq!(salvage.filter_map(Result::ok).count(), 0, "nor does salvage show its records");
    // Nor does a log that was plain once, as long as some of it is.
    let wal = sealed().open_store(plain.clone()).unwrap();
    let second = wal.append_and_sync(&secret(1, 60)).unwrap();
    wal.close().unwrap();
    assert!(matches!(refused(&plain, required.clone()), WalError::Tampered { .. }));
    sealed().open_store(plain.clone()).unwrap().truncate_before(second).unwrap();
    let wal = required.open_store(plain).unwrap();
    assert_eq!(wal.iter().unwrap().next().unwrap().unwrap().data(), secret(1, 60));
}

#[test]
fn where_encryption_is_required_a_plain_snapshot_is_forged() {
    let plain = MemStore::new();
    let wal = smallest().open_store(plain.clone()).unwrap();
    wal.append(&secret(0, 60)).unwrap();
    wal.checkpoint(wal.end_lsn(), |image| image.write_all(b"balance: 7")).unwrap();
    wal.close().unwrap();
    // All its segments are encrypted now.
    sealed().open_store(plain.clone()).unwrap().append_and_sync(&secret(1, 60)).unwrap();
    let required = sealed().require_encryption(true);
    assert!(matches!(refused(&plain, required.clone()), WalError::Tampered { .. }));
    let wal = sealed().open_store(plain.clone()).unwrap();
    wal.checkpoint(wal.end_lsn(), |image| image.write_all(b"balance: 8")).unwrap();
    wal.close().unwrap();
    assert!(required.open_store(plain).unwrap().snapshots().unwrap().latest().unwrap().is_some());
}

#[test]
fn where_encryption_is_required_readers_refuse_what_is_plain() {
    let dir = tempfile::tempdir().unwrap();
    let required = sealed().require_encryption(true);
    let wal = smallest().open(dir.path()).unwrap();
    wal.append(&secret(0, 60)).unwrap();
    wal.checkpoint(wal.end_lsn(), |image| image.write_all(b"balance: 7")).unwrap();
    wal.close().unwrap();
    let read = required.clone().open_read_only(dir.path());
    assert!(matches!(read, Err(WalError::Tampered { .. })));
    // From here on its segments are encrypted, and its snapshot is not.
    sealed().open(dir.path()).unwrap().append_and_sync(&secret(1, 60)).unwrap();
    let read = required.open_read_only(dir.path()).unwrap();
    assert!(matches!(read.snapshots().latest(), Err(WalError::Tampered { .. })));
    assert_eq!(read.iter().unwrap().next().unwrap().unwrap().data(), secret(1, 60));
}

#[test]
fn where_encryption_is_required_everything_else_goes_on() {
    let required = sealed().require_encryption(true);
    let store = MemStore::new();
    for round in 0..4 {
        let wal = required.clone().open_store(store.clone()).unwrap();
        for number in 0..20 {
            wal.append_and_sync(&secret(number, 400)).unwrap();
        }
        match round {
            0 => wal.rotate_key().unwrap(),
            1 => wal.checkpoint(wal.last_lsn().unwrap(), |image| image.write_all(b"7")).unwrap(),
            2 => wal.close().unwrap(),
            _ => {}
        }
    }
    let refused = smallest().require_encryption(true).open_store(store).unwrap_err();
    assert!(matches!(refused, WalError::InvalidOption { name: "require_encryption", .. }));
}
