//! Typed records: values come back as they were appended, whatever stands in the way is an error
//! that says so.
//!
//! Method: values with every kind of field; types that do not fit; bytes from proptest, decoded as
//! several types. `Serialize` implementations that misbehave are in `typed/user.rs`; what typed
//! appends allocate is in `tests/allocation.rs`, which is run with this feature as well.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "typed/batch.rs"]
mod batch;
mod common;
#[path = "typed/user.rs"]
mod user;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cohort_wal::{Lsn, MemStore, Record, Wal, WalError, WalOptions};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize};

use common::{deadline, join_all, read_all, smallest};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Change {
    Put { key: u64, value: Vec<u8> },
    Rename(String, Option<String>),
    Move { from: (i64, i64), by: f64, tags: BTreeMap<String, bool> },
    Mark,
}

/// The same, of lent bytes and text.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Lent<'a> {
    Put { key: u64, value: &'a [u8] },
    Rename(&'a str, Option<&'a str>),
}

/// How an enum may change: a variant more, at its end.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Later {
    Put { identity: u64, value: Vec<u8> },
    Rename(String, Option<String>),
    Move { from: (i64, i64), by: f64, tags: BTreeMap<String, bool> },
    Mark,
    Unmark,
}

fn changes() -> Vec<Change> {
    let tags = [("a".to_owned(), true), (String::new(), false)];
    vec![
        Change::Put { key: u64::MAX, value: vec![0, 255, 7] },
        Change::Rename("old".into(), Some("n\u{e9}w".into())),
        Change::Rename(String::new(), None),
        Change::Move { from: (-1, i64::MIN), by: -0.5, tags: tags.into() },
        Change::Mark,
        Change::Put { key: 0, value: vec![9; 100_000] },
    ]
}

fn open() -> Wal<MemStore> {
    smallest().open_store(MemStore::new()).unwrap()
}

/// The only record of the log.
fn only(wal: &Wal<MemStore>) -> Record {
    let mut records = wal.iter().unwrap();
    let record = records.next().unwrap().unwrap();
    assert!(records.next().is_none());
    record
}

fn decoded(records: impl Iterator<Item = cohort_wal::Result<Record>>) -> Vec<Change> {
    records.map(|record| record.unwrap().decode().unwrap()).collect()
}

/// Why decoding failed; it must name the record and quote nothing of it.
fn why<T: fmt::Debug>(refused: cohort_wal::Result<T>, at: Lsn) -> &'static str {
    match refused {
        Err(WalError::Decode { lsn, why }) if lsn == at => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn values_come_back_whichever_way_they_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let wal = smallest().open(dir.path()).unwrap();
    let lsns: Vec<_> = changes().iter().map(|change| wal.append_typed(change).unwrap()).collect();
    assert_eq!(decoded(wal.iter().unwrap()), changes());
    wal.close().unwrap();

    let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
    assert_eq!(decoded(reader.iter().unwrap()), changes());
    let wal = smallest().open(dir.path()).unwrap();
    assert_eq!(decoded(wal.iter().unwrap()), changes());
    assert_eq!(decoded(wal.iter_from(lsns[2]).unwrap()), changes()[2..]);
    let mut records = wal.iter().unwrap();
    for (change, lsn) in changes().iter().zip(&lsns) {
        let record = records.read_next().unwrap().unwrap();
        assert_eq!((&record.decode::<Change>().unwrap(), record.lsn()), (change, *lsn));
    }
    assert!(records.read_next().is_none());
    let mut follower = wal.follow(lsns[1]).unwrap();
    for change in &changes()[1..] {
        let record = follower.next_timeout(Duration::ZERO).unwrap().unwrap();
        assert_eq!(&record.decode::<Change>().unwrap(), change);
    }
}

#[cfg(all(feature = "aead", feature = "lz4"))]
#[test]
fn values_come_back_from_logs_that_compress_and_seal() {
    use cohort_wal::{Compression, Key, KeyProvider};

    struct One;

    impl KeyProvider for One {
        fn active(&self) -> u32 {
            1
        }

        fn get(&self, id: u32) -> Option<Key> {
            (id == 1).then(|| Key::new([7; 32]))
        }
    }

    let (lz4, key) = (Compression::Lz4, || Arc::new(One));
    let plain = || smallest().max_record_bytes(100_010);
    let shortened = plain().compression(lz4);
    for options in [shortened.clone(), plain().encryption(key()), shortened.encryption(key())] {
        let store = MemStore::new();
        let wal = options.clone().open_store(store.clone()).unwrap();
        for change in changes() {
            wal.append_typed(&change).unwrap();
        }
        // The limit is one of values, however short they become.
        let refused = wal.append_typed(&Change::Put { key: 0, value: vec![9; 100_006] });
        assert!(matches!(refused, Err(WalError::RecordTooLarge { len: 100_011, .. })));
        wal.close().unwrap();
        let wal = options.open_store(store).unwrap();
        assert_eq!(decoded(wal.iter().unwrap()), changes());
    }
}

#[test]
fn the_payload_is_the_documented_encoding_in_a_plain_record() {
    type Value<'a> = (u8, u16, i32, &'a str, Option<bool>, [u8; 2]);
    let wal = open();
    let value: Value<'_> = (7_u8, 300_u16, -1_i32, "ab", Some(true), [1_u8, 2]);
    let encoding = [7, 0xAC, 0x02, 0x01, 2, b'a', b'b', 1, 1, 1, 2];
    let lsn = wal.append_typed(&value).unwrap();
    let next = wal.append(&encoding).unwrap();
    assert_eq!(read_all(&wal), [encoding, encoding]);
    assert_eq!(wal.end_lsn().get() - next.get(), next.get() - lsn.get());
    for record in wal.iter().unwrap() {
        assert_eq!(record.unwrap().decode::<Value<'_>>().unwrap(), value);
    }
}

#[test]
fn typed_records_and_others_of_many_threads_share_a_log() {
    let wal = Arc::new(smallest().open_store(MemStore::new()).unwrap());
    deadline(move || {
        let threads = (0..4_u32).map(|owner| {
            let wal = Arc::clone(&wal);
            thread::spawn(move || {
                for number in 0..500_u32 {
                    wal.append_typed(&(owner, number, "typed")).unwrap();
                    wal.append_batch(&[[1, 2, 3], [4, 5, 6]]).unwrap();
                    if number % 100 == 0 {
                        let lsn = wal.append_typed_and_sync("synced").unwrap();
                        assert!(wal.durable_lsn() > lsn);
                    }
                }
            })
        });
        join_all(threads.collect());
        let (mut next, mut synced, mut untyped) = ([0; 4], 0, 0);
        let mut records = wal.iter().unwrap();
        while let Some(record) = records.read_next() {
            let record = record.unwrap();
            if record.data().len() == 3 {
                untyped += 1;
            } else if let Ok((owner, number, "typed")) = record.decode::<(usize, u32, &str)>() {
                assert_eq!(number, next[owner]);
                next[owner] += 1;
            } else {
                assert_eq!(record.decode::<&str>().unwrap(), "synced");
                synced += 1;
            }
        }
        assert_eq!((next, synced, untyped), ([500; 4], 20, 4_000));
    });
}

#[test]
fn text_and_bytes_are_lent_and_not_copied() {
    let wal = open();
    wal.append_typed(&Lent::Put { key: 3, value: b"payload" }).unwrap();
    wal.append_typed(&Lent::Rename("from", Some("to"))).unwrap();
    let mut records = wal.iter().unwrap();
    let record = records.read_next().unwrap().unwrap();
    let Lent::Put { key: 3, value } = record.decode().unwrap() else { panic!("another value") };
    assert_eq!(value.as_ptr_range().end, record.data().as_ptr_range().end);
    assert_eq!(value, b"payload");
    let record = records.read_next().unwrap().unwrap().to_record();
    let Lent::Rename(from, Some("to")) = record.decode().unwrap() else { panic!("another value") };
    assert_eq!((from, from.as_ptr()), ("from", record.data()[2..].as_ptr()));
}

#[test]
fn an_enum_may_get_variants_at_its_end() {
    let wal = open();
    for change in changes() {
        wal.append_typed(&change).unwrap();
    }
    let unmark = wal.append_typed(&Later::Unmark).unwrap();
    for (record, change) in wal.iter().unwrap().zip(changes()) {
        let later: Later = record.unwrap().decode().unwrap();
        // Names are not in the encoding; everything else is the same.
        assert_eq!(format!("{later:?}").replace("identity", "key"), format!("{change:?}"));
    }
    let unknown = wal.iter_from(unmark).unwrap().next().unwrap().unwrap().decode::<Change>();
    assert!(why(unknown, unmark).contains("variant"));
}

#[test]
fn what_is_no_encoding_of_the_type_is_an_error_that_names_the_record() {
    let wal = open();
    wal.append(b"before").unwrap();
    let refused = |payload: &[u8], decode: &dyn Fn(&Record) -> &'static str| {
        let lsn = wal.append(payload).unwrap();
        decode(&wal.iter_from(lsn).unwrap().next().unwrap().unwrap())
    };
    fn of<T: DeserializeOwned + fmt::Debug>(record: &Record) -> &'static str {
        why(record.decode::<T>(), record.lsn())
    }
    let cases = [
        (refused(b"", &of::<u8>), "ends"),
        (refused(&[5, b'a'], &of::<String>), "ends"),
        (refused(&[1, 2], &of::<u8>), "left over"),
        (refused(b"x", &of::<()>), "left over"),
        (refused(&[0xFF, 0xFF, 0x7F], &of::<u16>), "range"),
        (refused(&[2], &of::<bool>), "bool"),
        (refused(&[2, 0xFF, 0xFF], &of::<String>), "UTF-8"),
        (refused(&[4, 0xFF, 0xFF, 0xFF, 0xFF], &of::<char>), "char"),
        (refused(&[7], &of::<Option<u8>>), "Option"),
        (refused(&[4], &of::<Change>), "variant"),
        (refused(&[1], &of::<Picky>), "refused"),
        (refused(&[0xFF; 10], &of::<Vec<u64>>), "range"),
        (refused(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], &of::<Vec<[u64; 32]>>), "ends"),
        (refused(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F], &of::<BTreeMap<u64, String>>), "ends"),
        (refused(&[0xFF, 0xFF, 0xFF, 0xFF, 0x0F, b'a'], &of::<String>), "ends"),
    ];
    for (why, word) in cases {
        assert!(why.contains(word) && !why.contains("secret"), "{why:?} of {word:?}");
    }
}

#[test]
fn a_record_that_ends_anywhere_within_its_value_is_refused() {
    for change in &changes()[..4] {
        let wal = open();
        wal.append_typed(change).unwrap();
        let whole = only(&wal).into_data();
        for len in 0..whole.len() {
            let lsn = wal.append(&whole[..len]).unwrap();
            let record = wal.iter_from(lsn).unwrap().next().unwrap().unwrap();
            why(record.decode::<Change>(), lsn);
        }
    }
}

#[test]
fn a_value_above_the_limit_is_refused_with_its_length_and_nothing_is_appended() {
    let wal = WalOptions::new().max_record_bytes(100).open_store(MemStore::new()).unwrap();
    let text = |len: usize| "x".repeat(len);
    for (value, exact) in [(text(100), 101), (text(127), 128), (text(5_000_000), 5_000_004)] {
        for refused in [wal.append_typed(&value), wal.append_typed_and_sync(&value)] {
            let Err(WalError::RecordTooLarge { len, max: 100 }) = refused else {
                panic!("{refused:?}")
            };
            assert_eq!(len, exact);
        }
    }
    assert!(wal.is_empty() && wal.stats().appends == 0);
    wal.append_typed(&text(99)).unwrap();
    assert_eq!(only(&wal).decode::<String>().unwrap(), text(99));
}

#[test]
fn values_larger_than_the_ring_are_records_too() {
    let wal = smallest().open_store(MemStore::new()).unwrap();
    let value: Vec<u32> = (0..300_000).collect();
    wal.append_typed_and_sync(&value).unwrap();
    assert_eq!(only(&wal).decode::<Vec<u32>>().unwrap(), value);
}

#[test]
fn a_closed_log_says_so() {
    let wal = open();
    wal.close().unwrap();
    assert!(matches!(wal.append_typed(&1), Err(WalError::Closed)));
    assert!(matches!(wal.append_typed_and_sync(&1), Err(WalError::Closed)));
}

/// Takes no value but 0.
#[derive(Debug)]
struct Picky;

impl<'de> Deserialize<'de> for Picky {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Self),
            other => Err(D::Error::custom(format!("secret: {other}"))),
        }
    }
}

fn any_change() -> impl Strategy<Value = Change> {
    let tags = prop::collection::btree_map(any::<String>(), any::<bool>(), 0..5);
    prop_oneof![
        any::<(u64, Vec<u8>)>().prop_map(|(key, value)| Change::Put { key, value }),
        any::<(String, Option<String>)>().prop_map(|(old, new)| Change::Rename(old, new)),
        (any::<(i64, i64)>(), -1e300..1e300_f64, tags).prop_map(|(from, by, tags)| Change::Move {
            from,
            by,
            tags
        }),
        Just(Change::Mark),
    ]
}

proptest! {
    #[test]
    fn any_value_comes_back_and_its_length_is_counted_rightly(change in any_change()) {
        let wal = open();
        wal.append_typed(&change).unwrap();
        let record = only(&wal);
        prop_assert_eq!(record.decode::<Change>().unwrap(), change.clone());
        // No limit is below one byte.
        prop_assume!(record.len() > 1);
        let less = u32::try_from(record.len() - 1).unwrap();
        let small = smallest().max_record_bytes(less).open_store(MemStore::new()).unwrap();
        let refused = small.append_typed(&change);
        let len = u64::try_from(record.len()).unwrap();
        let exact = matches!(refused, Err(WalError::RecordTooLarge { len: l, .. }) if l == len);
        prop_assert!(exact, "{:?} of {}", refused, len);
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(bytes in any::<Vec<u8>>()) {
        let wal = open();
        wal.append(&bytes).unwrap();
        let record = only(&wal);
        let at = record.lsn();
        fn read<'a, T: Deserialize<'a> + fmt::Debug>(record: &'a Record, at: Lsn) {
            let value = record.decode::<T>();
            if value.is_err() {
                why(value, at);
            }
        }
        read::<Change>(&record, at);
        read::<Lent<'_>>(&record, at);
        read::<(char, i128, Option<String>)>(&record, at);
        read::<BTreeMap<String, Vec<(f32, bool)>>>(&record, at);
        read::<Vec<Option<Change>>>(&record, at);
        read::<(&str, &[u8])>(&record, at);
        read::<Vec<[u64; 32]>>(&record, at);
    }
}
