//! Records and batches far above what the ring takes, alone and among small ones.

use std::sync::Arc;
use std::thread;

use cohort_wal::{Lsn, Wal, WalError, WalOptions};

use crate::common::{Id, deadline, deadline_of, identify, join_all, payload, read_ids};

const MIB: usize = 1 << 20;

fn smallest_ring() -> WalOptions {
    WalOptions::new().ring_bytes(64 << 10)
}

/// A record of 64 MiB, whose content is checked by comparison, not by formula.
fn huge() -> Vec<u8> {
    let mut bytes = vec![0xA5; 64 * MIB];
    bytes[0] = 1;
    bytes[32 * MIB] = 2;
    bytes[64 * MIB - 1] = 3;
    bytes
}

/// A batch of about 100 MiB.
fn batch(owner: u64) -> Vec<Vec<u8>> {
    (0..100).map(|number| payload(Id { owner, number }, MIB)).collect()
}

#[test]
fn the_largest_record_and_a_batch_of_100_mib_pass_the_smallest_ring() {
    deadline_of(120, || {
        let dir = tempfile::tempdir().unwrap();
        let wal = smallest_ring().open(dir.path()).unwrap();
        let (record, records) = (huge(), batch(1));
        let first = wal.append(&record).unwrap();
        let lsns = wal.append_batch_and_sync(&records).unwrap();
        assert!(first < lsns[0] && wal.durable_lsn() == wal.end_lsn());
        assert_eq!(wal.last_lsn(), lsns.last().copied());
        assert!(matches!(wal.append(&vec![0; 64 * MIB + 1]), Err(WalError::RecordTooLarge { .. })));
        wal.close().unwrap();
        drop(wal);
        let wal = smallest_ring().open(dir.path()).unwrap();
        assert_eq!(wal.last_lsn(), lsns.last().copied());
        let mut read = wal.iter().unwrap();
        assert!(read.read_next().unwrap().unwrap().data() == record);
        for (lsn, record) in lsns.iter().zip(&records) {
            let lent = read.read_next().unwrap().unwrap();
            assert!(lent.lsn() == *lsn && lent.data() == record);
        }
        assert!(read.read_next().is_none());
    });
}

/// Appends small records until the large ones are in.
fn small_ones(wal: &Wal, owner: u64, records: u64) -> Vec<(Lsn, Id)> {
    let ids = (0..records).map(|number| Id { owner, number });
    ids.map(|id| (wal.append(&payload(id, 24 + 8 * 9)).unwrap(), id)).collect()
}

#[test]
fn large_units_among_eight_small_appenders_lose_nothing() {
    deadline_of(120, || {
        let dir = tempfile::tempdir().unwrap();
        let options = smallest_ring().segment_bytes(MIB as u64);
        let wal = Arc::new(options.clone().open(dir.path()).unwrap());
        let small = (1..=8).map(|owner| {
            let wal = Arc::clone(&wal);
            thread::spawn(move || small_ones(&wal, owner, 3_000))
        });
        let mut threads: Vec<_> = small.collect();
        for owner in [100, 101] {
            let wal = Arc::clone(&wal);
            threads.push(thread::spawn(move || {
                let mut placed = Vec::new();
                for number in 0..8 {
                    let id = Id { owner, number };
                    placed.push((wal.append(&payload(id, 3 * MIB)).unwrap(), id));
                }
                let records = batch(owner + 100);
                let lsns = wal.append_batch(&records).unwrap();
                placed.extend(lsns.into_iter().zip(records.iter().map(|r| identify(r))));
                placed
            }));
        }
        let mut expected: Vec<_> = join_all(threads).into_iter().flatten().collect();
        expected.sort_unstable();
        wal.close().unwrap();
        drop(wal);
        let wal = options.open(dir.path()).unwrap();
        assert!(read_ids(&wal) == expected);
    });
}

#[test]
fn every_length_around_the_rings_limit_is_kept() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let wal = smallest_ring().segment_bytes(16 << 10).open(dir.path()).unwrap();
        let mut expected = Vec::new();
        for length in (900..=4_200).step_by(7).chain([8_000, 8_191, 8_192, 8_193, 40_000]) {
            let id = Id { owner: 0, number: length };
            let data = payload(id, usize::try_from(length).unwrap());
            expected.push((wal.append(&data).unwrap(), id));
        }
        drop(wal);
        assert!(read_ids(&Wal::open(dir.path()).unwrap()) == expected);
    });
}
