//! Encryption at rest: what is appended comes back with the key and in no other way.
//!
//! Method: stores in memory whose bytes are looked at, moved about and forged, with checksums that
//! match.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;
#[path = "encryption/forge.rs"]
mod forge;
#[path = "encryption/nonces.rs"]
mod nonces;
#[path = "encryption/replaced.rs"]
mod replaced;
#[path = "encryption/rotation.rs"]
mod rotation;
#[path = "encryption/sound.rs"]
mod sound;
#[path = "encryption/tampering.rs"]
mod tampering;

use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Arc, Mutex};

use cohort_wal::{
    Key, KeyProvider, Lsn, MemStore, Record, Repair, Result, Wal, WalError, WalOptions, inspect,
};

use common::smallest;

/// Every payload has it.
const SECRET: &[u8] = b"attack at dawn";

/// Keys that may change while a log is open.
#[derive(Default)]
struct Ring(Mutex<(u32, BTreeMap<u32, u8>)>);

impl Ring {
    fn new(keys: &[(u32, u8)]) -> Arc<Self> {
        let active = keys.last().unwrap().0;
        Arc::new(Self(Mutex::new((active, keys.iter().copied().collect()))))
    }

    fn set(&self, keys: &[(u32, u8)]) {
        *self.0.lock().unwrap() = (keys.last().unwrap().0, keys.iter().copied().collect());
    }
}

impl KeyProvider for Ring {
    fn active(&self) -> u32 {
        self.0.lock().unwrap().0
    }

    fn get(&self, id: u32) -> Option<Key> {
        self.0.lock().unwrap().1.get(&id).map(|byte| Key::new([*byte; 32]))
    }
}

fn sealed() -> WalOptions {
    smallest().encryption(Ring::new(&[(1, 0xA1)]))
}

type Appended = Vec<(Lsn, Vec<u8>)>;

/// A payload that is easily found.
fn secret(number: usize, len: usize) -> Vec<u8> {
    let text = format!("{number} ").into_bytes();
    text.into_iter().chain(SECRET.iter().copied().cycle()).take(len + SECRET.len() + 4).collect()
}

/// Records of every way to append, in several segments.
fn fill(wal: &Wal<MemStore>, appended: &mut Appended) {
    for number in 0..40 {
        let payload = secret(number, number * 37 % 700);
        appended.push((wal.append(&payload).unwrap(), payload));
    }
    let batch = [secret(40, 0), secret(41, 3000), secret(42, 1)];
    let lsns = wal.append_batch_and_sync(&batch).unwrap();
    appended.extend(lsns.into_iter().zip(batch));
    let large = secret(43, 30_000);
    appended.push((wal.append_and_sync(&large).unwrap(), large));
    let parts = secret(44, 10);
    let (one, two) = parts.split_at(5);
    appended.push((wal.append_vectored(&[one, two]).unwrap(), parts));
    wal.flush().unwrap();
}

fn read(records: impl Iterator<Item = Result<Record>>) -> Appended {
    records.map(|record| record.map(|r| (r.lsn(), r.into_data())).unwrap()).collect()
}

fn copy(store: &MemStore) -> MemStore {
    MemStore::from_snapshot(store.snapshot())
}

/// Opening fails, and nothing has changed.
fn refused(store: &MemStore, options: WalOptions) -> WalError {
    let before = store.snapshot();
    let error = options.open_store(store.clone()).expect_err("it is refused");
    assert_eq!(before.files(), store.snapshot().files(), "{error}");
    error
}

fn hides_the_secret(store: &MemStore) {
    for (name, bytes) in store.snapshot().files() {
        assert!(!bytes.windows(SECRET.len()).any(|window| window == SECRET), "{name}");
    }
}

#[test]
fn everything_comes_back_with_the_key_and_nothing_is_written_in_the_clear() {
    let store = MemStore::new();
    let mut appended = Appended::new();
    for round in 0..3 {
        let wal = sealed().open_store(store.clone()).unwrap();
        assert_eq!(read(wal.iter().unwrap()), appended, "round {round}");
        fill(&wal, &mut appended);
        let crashed = copy(&store);
        assert_eq!(read(wal.iter().unwrap()), appended, "round {round}");
        let middle = appended[appended.len() / 2].0;
        assert_eq!(wal.iter_from(middle).unwrap().next().unwrap().unwrap().lsn(), middle);
        let mut records = wal.iter().unwrap();
        for (lsn, payload) in &appended {
            let record = records.read_next().unwrap().unwrap();
            assert_eq!((record.lsn(), record.data()), (*lsn, &payload[..]));
        }
        let follower = wal.follow(wal.head_lsn()).unwrap();
        wal.sync().unwrap();
        assert_eq!(read(follower.take(appended.len())), appended);
        hides_the_secret(&store);
        // A crash: the end is carried, sealed anew.
        drop(wal);
        let wal = sealed().open_store(crashed.clone()).unwrap();
        assert!(wal.recovery().carried_bytes > 0);
        assert_eq!(read(wal.iter().unwrap()), appended, "round {round}, after a crash");
        hides_the_secret(&crashed);
    }
    assert_eq!(read(sealed().salvage_store(store).unwrap()), appended);
}

#[test]
fn a_directory_is_read_beside_its_writer_with_the_key_and_verified_without() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("log");
    let wal = sealed().open(&dir).unwrap();
    let lsns: Vec<_> = (0..100).map(|n| wal.append(&secret(n, 300)).unwrap()).collect();
    let reader = sealed().open_read_only(&dir).unwrap();
    let follower = reader.follow(reader.head_lsn()).unwrap();
    wal.rotate().unwrap();
    wal.append_and_sync(&secret(100, 0)).unwrap();
    wal.close().unwrap();
    let followed: Vec<_> = follower.take(101).map(|record| record.unwrap().lsn()).collect();
    assert_eq!(&followed[..100], &lsns[..]);

    for options in [smallest(), smallest().encryption(Ring::new(&[(1, 0xB2)]))] {
        let wrong = |result: Result<()>| assert!(matches!(result, Err(WalError::WrongKey)));
        wrong(options.clone().open_read_only(&dir).map(drop));
        wrong(options.clone().salvage(&dir).map(drop));
        wrong(options.clone().repair(&dir, Repair::CutAt(lsns[50])).map(drop));
        wrong(options.open(&dir).map(drop));
    }
    let inspection = inspect::Inspection::open(&dir).unwrap();
    assert!(inspection.refusal().is_none(), "{:?}", inspection.refusal());
    let refused = inspection.iter_from(lsns[0]).and_then(|mut records| records.next().unwrap());
    assert!(matches!(refused, Err(WalError::WrongKey)));

    let report = sealed().repair(&dir, Repair::CutAt(lsns[50])).unwrap();
    assert!(report.still_refused.is_none());
    assert_eq!(sealed().open(&dir).unwrap().iter().unwrap().count(), 50);
}

#[test]
fn another_key_is_told_from_damage_before_anything_is_touched() {
    let store = MemStore::new();
    let wal = sealed().open_store(store.clone()).unwrap();
    fill(&wal, &mut Vec::new());
    let crashed = copy(&store);
    wal.close().unwrap();
    for store in [store, crashed] {
        let another = smallest().encryption(Ring::new(&[(1, 0xB2)]));
        let unknown = smallest().encryption(Ring::new(&[(2, 0xA1)]));
        let without_active = smallest().encryption(Ring::new(&[(1, 0xA1)]));
        for options in [smallest(), another, unknown] {
            assert!(matches!(refused(&store, options), WalError::WrongKey));
        }
        sealed().open_store(copy(&store)).unwrap();
        drop(without_active);
    }
    struct NoActive;
    impl KeyProvider for NoActive {
        fn active(&self) -> u32 {
            9
        }
        fn get(&self, _id: u32) -> Option<Key> {
            None
        }
    }
    let refused = smallest().encryption(Arc::new(NoActive)).open_store(MemStore::new());
    assert!(matches!(refused, Err(WalError::InvalidOption { name: "encryption", .. })));
}

#[test]
fn snapshots_are_sealed_too() {
    let store = MemStore::new();
    let wal = sealed().open_store(store.clone()).unwrap();
    for len in [0, 1, 262_128, 262_129, 600_000] {
        let image = secret(0, len);
        let lsn = wal.append(&secret(1, 100)).unwrap();
        wal.checkpoint(lsn, |out| out.write_all(&image)).unwrap();
        let mut shown = Vec::new();
        let mut snapshot = wal.snapshots().unwrap().latest().unwrap().unwrap();
        assert_eq!(snapshot.len(), image.len() as u64);
        snapshot.read_to_end(&mut shown).unwrap();
        assert!(shown == image, "{len} bytes");
        hides_the_secret(&store);
    }
    wal.close().unwrap();
    let wal = sealed().open_store(store.clone()).unwrap();
    assert!(wal.snapshots().unwrap().latest().unwrap().is_some());
    assert!(inspect_is_clean(&store));
}

/// Whether an opening would find the log whole, keys aside.
fn inspect_is_clean(store: &MemStore) -> bool {
    let report = WalOptions::new().repair_store(&copy(store), Repair::DryRun).unwrap();
    !report.is_damaged()
}

#[test]
fn torn_tails_and_rot_are_judged_without_the_key() {
    let store = MemStore::new();
    let wal = sealed().open_store(store.clone()).unwrap();
    let mut lsns: Vec<_> = (0..10).map(|n| wal.append_and_sync(&secret(n, 50)).unwrap()).collect();
    lsns.push(wal.append(&secret(10, 50)).unwrap());
    lsns.push(wal.append(&secret(11, 50)).unwrap());
    wal.flush().unwrap();
    let name = common::names(&store, ".wal").pop().unwrap();
    let flipped = |lsn: Lsn| {
        let mut snapshot = store.snapshot();
        let file = snapshot.files_mut().get_mut(&name).unwrap();
        file[8192 + usize::try_from(lsn.get()).unwrap() + 20] ^= 1;
        MemStore::from_snapshot(snapshot)
    };
    // A torn tail: two records that nobody was told are durable.
    let torn = sealed().open_store(flipped(lsns[10])).unwrap();
    assert_eq!(torn.recovery().torn_at, Some(lsns[10]));
    assert_eq!(torn.iter().unwrap().count(), 10);
    // Damage in the middle: corruption with the key and without, never a wrong key or tampering.
    let rotten = flipped(lsns[4]);
    for options in [sealed(), smallest()] {
        assert!(matches!(refused(&rotten, options), WalError::Corruption { .. }));
    }
    assert!(!inspect_is_clean(&rotten));
}

#[test]
fn compressed_records_are_sealed_as_well() {
    if !cfg!(feature = "lz4") {
        return;
    }
    #[cfg(feature = "lz4")]
    {
        let options = || sealed().compression(cohort_wal::Compression::Lz4);
        let store = MemStore::new();
        let wal = options().open_store(store.clone()).unwrap();
        let mut appended = Appended::new();
        fill(&wal, &mut appended);
        let plain = sealed().open_store(MemStore::new()).unwrap();
        fill(&plain, &mut Appended::new());
        assert!(wal.live_bytes() < plain.live_bytes() / 2);
        let crashed = copy(&store);
        assert_eq!(read(sealed().open_store(crashed).unwrap().iter().unwrap()), appended);
        hides_the_secret(&store);
    }
}

#[test]
fn limits_count_what_sealing_adds() {
    let options = || sealed().max_record_bytes(100).max_batch_bytes(3 * (16 + 16 + 104));
    let wal = options().open_store(MemStore::new()).unwrap();
    wal.append(&[1; 100]).unwrap();
    wal.append_batch(&[[1; 100], [2; 100], [3; 100]]).unwrap();
    let refused = wal.append_batch(&[&[1; 100][..], &[2; 100], &[3; 100], &[]]);
    assert!(matches!(refused, Err(WalError::BatchTooLarge { .. })));
    assert_eq!(wal.iter().unwrap().count(), 4);
}

#[test]
fn keys_show_in_no_options_and_no_error() {
    let options = format!("{:?}", sealed());
    assert!(!options.contains("161") && !options.to_lowercase().contains("a1, a1"), "{options}");
    assert!(options.contains("Keys(..)"));
}

#[test]
fn salvage_reads_past_a_segment_whose_header_is_lost() {
    let (store, mut appended) = (MemStore::new(), Appended::new());
    let wal = sealed().open_store(store.clone()).unwrap();
    fill(&wal, &mut appended);
    wal.close().unwrap();
    let segments = common::names(&store, ".wal");
    let mut snapshot = store.snapshot();
    let file = snapshot.files_mut().get_mut(&segments[1]).unwrap();
    // Both copies.
    (file[100], file[4196]) = (!file[100], !file[4196]);
    let (base, end) = (common::base(file), {
        let next = &snapshot.files()[&segments[2]];
        common::base(next)
    });
    let salvage = sealed().salvage_store(MemStore::from_snapshot(snapshot)).unwrap();
    let shown: Appended = salvage.flatten().map(|r| (r.lsn(), r.into_data())).collect();
    let outside = |(lsn, _): &&(Lsn, Vec<u8>)| !(base..end).contains(&lsn.get());
    let kept: Appended = appended.iter().filter(outside).cloned().collect();
    assert!(kept.len() < appended.len());
    for record in &kept {
        assert!(shown.contains(record), "{:?}", record.0);
    }
}
