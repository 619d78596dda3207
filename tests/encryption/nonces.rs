//! No key meets a nonce twice with different bytes.
//!
//! Method: every frame that ever stands in a file is noted by what its key and its nonce are made
//! of; whatever stands there at another time must be the same.

use std::collections::BTreeMap;
use std::io::ErrorKind;

use cohort_wal::{Lsn, MemStore};

use crate::common::{deadline, smallest};
use crate::faulty::{Fault, FaultyStore, Op};
use crate::forge::{FIRST, frames, number};
use crate::{Ring, copy, sealed, secret};

/// Salt, LSN and kind; and the bytes of the body.
#[derive(Default)]
struct Seen(BTreeMap<(Vec<u8>, u64, u8), Vec<u8>>);

impl Seen {
    fn look(&mut self, store: &MemStore) {
        let snapshot = store.snapshot();
        for (name, file) in snapshot.files().iter().filter(|(name, _)| name.ends_with(".wal")) {
            for frame in frames(file) {
                let lsn = number(file, 72, 8) + (frame.start - FIRST) as u64;
                let kind = file[frame.start + 12];
                assert!(kind & 0x40 != 0, "{name} at {lsn} is not sealed");
                let place = (file[56..72].to_vec(), lsn, kind & 0x0F);
                // Of a frame that was written in part there is less.
                let body = file[frame.start + 16..frame.end.min(file.len())].to_vec();
                let before = self.0.entry(place).or_insert_with(|| body.clone());
                assert_eq!(*before, body, "{name} at {lsn} is sealed twice");
            }
        }
    }
}

#[test]
fn no_place_is_sealed_twice_under_one_key() {
    let (store, mut seen) = (MemStore::new(), Seen::default());
    let wal = sealed().open_store(store.clone()).unwrap();
    let mut number = 0;
    let mut next = || {
        number += 1;
        secret(number, number % 90)
    };
    // Cuts: the same places again.
    let kept = wal.append(&next()).unwrap();
    for _ in 0..5 {
        (0..10).for_each(|_| assert!(wal.append(&next()).is_ok()));
        wal.append_and_sync(&vec![1; 20_000]).unwrap();
        seen.look(&store);
        wal.truncate_after(kept).unwrap();
        seen.look(&store);
    }
    // Torn tails: the same places again, and what was before them carried.
    let mut torn = copy(&store);
    for _ in 0..5 {
        let wal = sealed().open_store(torn.clone()).unwrap();
        seen.look(&torn);
        (0..10).for_each(|_| assert!(wal.append(&next()).is_ok()));
        wal.flush().unwrap();
        seen.look(&torn);
        let mut crash = torn.snapshot();
        let newest = crash.files_mut().iter_mut().rfind(|(name, _)| name.ends_with(".wal"));
        let (_, file) = newest.unwrap();
        let last = frames(file).pop().unwrap();
        file[last].fill(0);
        torn = MemStore::from_snapshot(crash);
    }
    // Two copies of one directory that both go on.
    let twins = [copy(&torn), copy(&torn)];
    for twin in &twins {
        let wal = sealed().open_store(twin.clone()).unwrap();
        (0..10).for_each(|_| assert!(wal.append(&next()).is_ok()));
        wal.close().unwrap();
        seen.look(twin);
    }
    // The same key under another id, and back.
    let ring = Ring::new(&[(1, 0xA1)]);
    let wal = smallest().encryption(ring.clone()).open_store(twins[0].clone()).unwrap();
    for id in [2, 3, 1, 2] {
        ring.set(&[(1, 0xA1), (2, 0xA1), (3, 0xA1), (id, 0xA1)]);
        wal.rotate_key().unwrap();
        wal.append_and_sync(&next()).unwrap();
        seen.look(&twins[0]);
    }
    assert!(seen.0.len() > 150, "{} places", seen.0.len());
}

#[test]
fn a_failed_large_record_and_its_pad_have_nonces_of_their_own() {
    // Both stand at the same LSN: the record as far as it was written, then the pad.
    deadline(|| {
        let store = MemStore::new();
        let (faulty, script) = FaultyStore::over(store.clone());
        let wal = sealed().open_store(faulty).unwrap();
        let before = wal.append_and_sync(&secret(0, 10)).unwrap();
        let mut seen = Seen::default();
        seen.look(&store);
        let place = wal.end_lsn();
        // The first write is that of a segment's header.
        script.fail_once(Op::Write, 1, Fault::Short(ErrorKind::StorageFull));
        assert!(wal.append(&vec![7; 200_000]).is_err());
        seen.look(&store);
        let after = wal.append_and_sync(&secret(1, 10)).unwrap();
        assert!(after > place);
        seen.look(&store);
        let kinds = seen.0.keys().filter(|(_, lsn, _)| *lsn == place.get());
        assert_eq!(kinds.map(|(.., kind)| *kind).collect::<Vec<_>>(), [1, 2]);
        let lsns = |wal: &dyn Fn() -> cohort_wal::Result<Vec<Lsn>>| wal().unwrap();
        let crashed = copy(&store);
        assert_eq!(lsns(&|| wal.iter()?.map(|r| Ok(r?.lsn())).collect()), [before, after]);
        // The pad is carried too, sealed anew.
        let wal = sealed().open_store(crashed.clone()).unwrap();
        assert_eq!(lsns(&|| wal.iter()?.map(|r| Ok(r?.lsn())).collect()), [before, after]);
        seen.look(&crashed);
    });
}
