//! Batches of values.

use cohort_wal::{MemStore, WalError};
use serde::Serialize;

use crate::common::smallest;
use crate::{Change, changes};

/// Fails where it is the third of its batch.
struct Third(u32);

impl Serialize for Third {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            3 => Err(serde::ser::Error::custom("the third")),
            number => serializer.serialize_u32(number),
        }
    }
}

#[test]
fn a_batch_of_values_is_one_unit_or_nothing() {
    let store = MemStore::new();
    let wal = smallest().max_batch_bytes(200_000).open_store(store.clone()).unwrap();
    let lsns = wal.append_batch_typed_and_sync(&changes()).unwrap();
    assert_eq!((lsns.len(), wal.durable_lsn()), (changes().len(), wal.end_lsn()));
    let read: Vec<Change> = wal.iter().unwrap().map(|r| r.unwrap().decode().unwrap()).collect();
    assert_eq!(read, changes());
    assert!(matches!(wal.truncate_after(lsns[1]), Err(WalError::InsideBatch { .. })), "one unit");

    let end = wal.end_lsn();
    let refused = wal.append_batch_typed(&[Third(1), Third(2), Third(3), Third(4)]);
    assert!(matches!(refused, Err(WalError::Encode { .. })));
    let refused = wal.append_batch_typed(&vec![vec![7_u8; 60_000]; 4]);
    assert!(matches!(refused, Err(WalError::BatchTooLarge { max: 200_000, .. })));
    assert_eq!(wal.append_batch_typed::<u8>(&[]).unwrap(), []);
    assert_eq!(wal.end_lsn(), end, "nothing was appended");
}
