//! Keys that change, and logs that were not encrypted before.

use cohort_wal::{MemStore, WalError};

use crate::common::smallest;
use crate::{Appended, Ring, SECRET, copy, fill, hides_the_secret, read, refused, sealed, secret};

#[test]
fn a_new_key_is_used_from_there_on_and_the_old_one_as_long_as_its_segments_live() {
    let store = MemStore::new();
    let ring = Ring::new(&[(1, 0xA1)]);
    let options = || smallest().encryption(ring.clone());
    let wal = options().open_store(store.clone()).unwrap();
    let mut appended = Appended::new();
    fill(&wal, &mut appended);
    ring.set(&[(1, 0xA1), (7, 0xB2)]);
    let (before, last) = (wal.end_lsn(), wal.last_lsn());
    wal.rotate_key().unwrap();
    assert_eq!((wal.end_lsn(), wal.last_lsn()), (before, last), "nothing is cut off");
    assert_eq!(wal.durable_lsn(), before);
    fill(&wal, &mut appended);
    wal.sync().unwrap();
    assert_eq!(read(wal.iter().unwrap()), appended);
    let crashed = copy(&store);

    // Both keys are needed, whatever is active.
    ring.set(&[(7, 0xB2)]);
    assert!(matches!(refused(&crashed, options()), WalError::WrongKey));
    ring.set(&[(1, 0xA1)]);
    assert!(matches!(refused(&crashed, options()), WalError::WrongKey));
    ring.set(&[(7, 0xB2), (1, 0xA1)]);
    assert_eq!(read(options().open_store(copy(&crashed)).unwrap().iter().unwrap()), appended);

    // Until what was written with the first one is truncated.
    wal.truncate_before(before).unwrap();
    appended.retain(|(lsn, _)| *lsn >= before);
    wal.close().unwrap();
    ring.set(&[(7, 0xB2)]);
    let wal = options().open_store(store).unwrap();
    assert_eq!(read(wal.iter().unwrap()), appended);
}

#[test]
fn a_key_is_rotated_beside_appends_and_in_an_empty_log() {
    let ring = Ring::new(&[(1, 0xA1)]);
    let store = MemStore::new();
    let wal = smallest().encryption(ring.clone()).open_store(store.clone()).unwrap();
    let keys: Vec<(u32, u8)> = (1..=20).map(|id| (id, 0xA0 + u8::try_from(id).unwrap())).collect();
    for count in 1..=3 {
        ring.set(&keys[..count]);
        wal.rotate_key().unwrap();
    }
    let mut appended: Appended = std::thread::scope(|scope| {
        let append = |owner: usize| {
            let one = |number| {
                let payload = secret(owner * 1000 + number, number % 50);
                (wal.append(&payload).unwrap(), payload)
            };
            (0..500).map(one).collect::<Appended>()
        };
        let threads: Vec<_> = (0..2).map(|owner| scope.spawn(move || append(owner))).collect();
        for count in 3..=20 {
            ring.set(&keys[..count]);
            wal.rotate_key().unwrap();
        }
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    appended.sort();
    assert_eq!(read(wal.iter().unwrap()), appended);
    wal.close().unwrap();
    let wal = smallest().encryption(ring).open_store(store).unwrap();
    assert_eq!(read(wal.iter().unwrap()), appended);
}

#[test]
fn a_cut_goes_on_with_the_key_and_what_comes_next_is_read() {
    let store = MemStore::new();
    let wal = sealed().open_store(store.clone()).unwrap();
    let mut appended = Appended::new();
    fill(&wal, &mut appended);
    let keep = appended[20].0;
    wal.truncate_after(keep).unwrap();
    appended.truncate(21);
    fill(&wal, &mut appended);
    assert_eq!(read(wal.iter().unwrap()), appended);
    hides_the_secret(&store);
    wal.close().unwrap();
    assert_eq!(read(sealed().open_store(store).unwrap().iter().unwrap()), appended);
}

#[test]
fn a_plain_log_is_encrypted_from_the_next_opening_on() {
    for closed in [true, false] {
        let store = MemStore::new();
        let wal = smallest().open_store(store.clone()).unwrap();
        let mut appended = Appended::new();
        fill(&wal, &mut appended);
        assert!(matches!(wal.rotate_key(), Err(WalError::InvalidOption { .. })));
        let store = if closed {
            wal.close().unwrap();
            store
        } else {
            copy(&store)
        };
        let plain = appended.len();
        let wal = sealed().open_store(store.clone()).unwrap();
        assert_eq!(read(wal.iter().unwrap()), appended);
        assert_eq!(wal.last_lsn(), appended.last().map(|(lsn, _)| *lsn));
        fill(&wal, &mut appended);
        assert_eq!(read(wal.iter().unwrap()), appended);
        let crashed = copy(&store);
        assert!(matches!(refused(&crashed, smallest()), WalError::WrongKey), "no way back");
        assert_eq!(read(sealed().open_store(crashed).unwrap().iter().unwrap()), appended);
        // What was plain goes with its segments.
        wal.truncate_before(appended[plain].0).unwrap();
        wal.close().unwrap();
        let wal = sealed().open_store(store.clone()).unwrap();
        assert_eq!(read(wal.iter().unwrap()), appended[plain..]);
        hides_the_secret(&store);
    }
    assert!(secret(0, 0).windows(SECRET.len()).any(|window| window == SECRET));
}
