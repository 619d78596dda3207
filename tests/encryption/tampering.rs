//! Frames with good checksums that no holder of the key has written where they are.

use cohort_wal::{Lsn, MemStore, Result, Wal, WalError};

use crate::common::names;
use crate::forge::{FIRST, frames, index, number, seal, seal_chunk, seal_end, seal_header, with};
use crate::{copy, refused, sealed, secret};

/// A log of three segments with records of the same length, closed.
fn log() -> MemStore {
    let store = MemStore::new();
    let wal = sealed().open_store(store.clone()).unwrap();
    for round in 0..3 {
        for number in 0..6 {
            wal.append(&secret(round * 10 + number, 60)).unwrap();
        }
        wal.append_batch(&[secret(8, 60), secret(9, 60)]).unwrap();
        wal.rotate().unwrap();
    }
    wal.close().unwrap();
    store
}

fn first_segment(store: &MemStore) -> String {
    names(store, ".wal").into_iter().min().unwrap()
}

/// Reads all of it, or as far as that is possible.
fn read(store: &MemStore) -> Result<usize> {
    let wal: Wal<MemStore> = sealed().open_store(copy(store))?;
    let mut count = 0;
    for record in wal.iter()? {
        record?;
        count += 1;
    }
    Ok(count)
}

#[track_caller]
fn is_tampered(store: &MemStore, at: u64) {
    let read = read(store);
    assert!(
        matches!(read, Err(WalError::Tampered { lsn }) if lsn == Lsn::new(at)),
        "{read:?} at {at}"
    );
    let salvaged: Vec<_> = sealed().salvage_store(copy(store)).unwrap().collect();
    let told = salvaged.iter().filter(|record| matches!(record, Err(WalError::Tampered { .. })));
    assert!(told.count() > 0, "salvage tells it");
    assert!(salvaged.iter().filter(|record| record.is_ok()).count() > 10, "and goes on");
}

#[test]
fn every_byte_of_a_sealed_frame_counts() {
    let store = log();
    let name = first_segment(&store);
    let file = &store.snapshot().files()[&name].clone();
    let frame = frames(file)[2].clone();
    let lsn = (frame.start - FIRST) as u64;
    for at in (frame.start + 16)..(frame.start + 16 + index(number(file, frame.start + 4, 4))) {
        let forged = with(&store, &name, |file| {
            file[at] ^= 1;
            seal(file, frame.start);
        });
        is_tampered(&forged, lsn);
    }
    // MORE, COMPRESSED; and no longer ENCRYPTED.
    for flag in [0x10, 0x20, 0x40] {
        let forged = with(&store, &name, |file| {
            file[frame.start + 12] ^= flag;
            seal(file, frame.start);
        });
        is_tampered(&forged, lsn);
    }
    assert_eq!(read(&store).unwrap(), 24);
}

#[test]
fn a_frame_opens_at_its_own_place_alone() {
    let (store, other) = (log(), log());
    let name = first_segment(&store);
    let file = store.snapshot().files()[&name].clone();
    let (one, two) = (frames(&file)[1].clone(), frames(&file)[3].clone());
    let lsn = (one.start - FIRST) as u64;
    let replaced = |body: &[u8]| {
        with(&store, &name, |file| {
            file[one.start + 4..one.end].copy_from_slice(&body[4..]);
            seal(file, one.start);
        })
    };
    is_tampered(&replaced(&file[two]), lsn);
    // From the same place of another segment, and of another log with the same key.
    let second = names(&store, ".wal").into_iter().nth(1).unwrap();
    is_tampered(&replaced(&store.snapshot().files()[&second][one.clone()]), lsn);
    is_tampered(&replaced(&other.snapshot().files()[&first_segment(&other)][one.clone()]), lsn);
}

#[test]
fn a_record_is_not_passed_over_by_a_pad_or_replaced_by_a_plain_one() {
    let store = log();
    let name = first_segment(&store);
    let frame = frames(&store.snapshot().files()[&name])[2].clone();
    let lsn = (frame.start - FIRST) as u64;
    for (kind, body) in [(0x02, 0), (0x42, 0), (0x01, b'x')] {
        let forged = with(&store, &name, |file| {
            file[frame.start + 12] = kind;
            file[frame.start + 16..frame.end].fill(body);
            seal(file, frame.start);
        });
        is_tampered(&forged, lsn);
    }
}

#[test]
fn a_header_that_was_not_made_with_the_key_is_refused_at_once() {
    let store = log();
    let name = first_segment(&store);
    let flipped = |at: usize| {
        with(&store, &name, |file| {
            file[at] ^= 1;
            seal_header(file);
        })
    };
    // The limits, the key's id, the proof.
    for at in [104, 112, 128, 132] {
        let error = refused(&flipped(at), sealed());
        assert!(matches!(error, WalError::WrongKey), "{at}: {error}");
    }
    // With another salt no checksum is right; and one that says that nothing is encrypted is
    // found out by what is.
    assert!(read(&flipped(56)).is_err());
    is_tampered(&flipped(124), 0);
    // Behind an encrypted segment there is no plain one.
    let last = names(&store, ".wal").into_iter().max().unwrap();
    let forged = with(&store, &last, |file| {
        file[124..148].fill(0);
        seal_header(file);
    });
    assert!(matches!(refused(&forged, sealed()), WalError::Tampered { .. }));
}

#[test]
fn what_is_carried_is_opened_before_anything_changes() {
    let store = MemStore::new();
    let wal = sealed().open_store(store.clone()).unwrap();
    for number in 0..10 {
        wal.append(&secret(number, 60)).unwrap();
    }
    wal.flush().unwrap();
    let name = first_segment(&store);
    let frame = frames(&store.snapshot().files()[&name])[4].clone();
    let forged = with(&store, &name, |file| {
        file[frame.start + 20] ^= 1;
        seal(file, frame.start);
    });
    let error = refused(&forged, sealed());
    let lsn = Lsn::new((frame.start - FIRST) as u64);
    assert!(matches!(error, WalError::Tampered { lsn: at } if at == lsn), "{error}");
    assert!(error.is_corruption());
    drop(wal);
}

#[test]
fn a_snapshot_with_good_checksums_is_refused_where_it_was_tampered_with() {
    let store = MemStore::new();
    let wal = sealed().open_store(store.clone()).unwrap();
    let lsn = wal.append(&secret(0, 60)).unwrap();
    wal.checkpoint(lsn, |image| image.write_all(&vec![7; 600_000])).unwrap();
    wal.close().unwrap();
    let name = names(&store, ".snap").pop().unwrap();
    let file = store.snapshot().files()[&name].clone();
    let latest = |store: &MemStore| {
        let wal = sealed().open_store(store.clone())?;
        wal.snapshots()?.latest().map(|snapshot| snapshot.is_some())
    };
    assert!(latest(&copy(&store)).unwrap());
    let chunk = 8 + index(number(&file, 512, 4));
    let swapped = with(&store, &name, |file| {
        let (one, two) = (file[520..512 + chunk].to_vec(), 520 + chunk..512 + 2 * chunk);
        file.copy_within(two.clone(), 520);
        file[two].copy_from_slice(&one);
        seal_chunk(file, 512, 0);
        seal_chunk(file, 512 + chunk, 1);
    });
    let flipped = with(&store, &name, |file| {
        file[600] ^= 1;
        seal_chunk(file, 512, 0);
    });
    let rotten = with(&store, &name, |file| *file.last_mut().unwrap() ^= 1);
    assert!(matches!(latest(&rotten), Err(WalError::Corruption { .. })), "no checksum fits");
    let end = with(&store, &name, |file| {
        *file.last_mut().unwrap() ^= 1;
        seal_end(file);
    });
    for forged in [swapped, flipped, end] {
        let refused = latest(&forged);
        assert!(matches!(refused, Err(WalError::Tampered { .. })), "{refused:?}");
    }
}
