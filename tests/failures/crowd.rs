//! More threads than the ring has slots.

use std::collections::BTreeMap;
use std::sync::{Arc, Barrier};
use std::thread;

use cohort_wal::{Lsn, MemStore, Wal, WalOptions};

use crate::common::{Dice, Id, deadline_of, join_all, payload, read_ids};

/// On up to four cores a ring of 64 KiB has 16 slots, on any machine at most 32.
const THREADS: u64 = 64;
const ROUNDS: u64 = 40;

/// Appends in every way, and returns where each record is.
fn take_part(wal: &Wal<MemStore>, owner: u64) -> Vec<(Lsn, Id)> {
    let mut dice = Dice::new(owner);
    let mut placed = Vec::new();
    for round in 0..ROUNDS {
        let number = u64::try_from(placed.len()).unwrap();
        let id = |offset| Id { owner, number: number + offset };
        match (owner + round) % 8 {
            0 => {
                let ids: Vec<_> = (0..=dice.below(8)).map(id).collect();
                let records: Vec<_> = ids.iter().map(|id| payload(*id, 200)).collect();
                placed.extend(wal.append_batch(&records).unwrap().into_iter().zip(ids));
            }
            1 => {
                // Above the ring's limit.
                let ids: Vec<_> = (0..3).map(id).collect();
                let records: Vec<_> = ids.iter().map(|id| payload(*id, 1_500)).collect();
                let lsns = wal.append_batch_and_sync(&records).unwrap();
                placed.extend(lsns.into_iter().zip(ids));
            }
            2 => placed.push((wal.append(&payload(id(0), 5_000)).unwrap(), id(0))),
            3 => {
                placed.push((wal.append_and_sync(&payload(id(0), dice.len())).unwrap(), id(0)));
                assert!(wal.durable_lsn() > placed.last().unwrap().0);
            }
            _ => placed.push((wal.append(&payload(id(0), dice.len())).unwrap(), id(0))),
        }
    }
    placed
}

#[test]
fn sixty_four_threads_on_sixteen_slots_lose_nothing_and_keep_their_order() {
    deadline_of(60, || {
        let memory = MemStore::new();
        let options = WalOptions::new().segment_bytes(64 << 10).ring_bytes(64 << 10);
        let wal = Arc::new(options.clone().open_store(memory.clone()).unwrap());
        let start = Arc::new(Barrier::new(usize::try_from(THREADS).unwrap()));
        let threads = (0..THREADS).map(|owner| {
            let (wal, start) = (Arc::clone(&wal), Arc::clone(&start));
            thread::spawn(move || {
                start.wait();
                take_part(&wal, owner)
            })
        });
        let placed = join_all(threads.collect());
        for own in &placed {
            assert!(own.is_sorted_by(|a, b| a.0 < b.0), "a thread's own records are in order");
        }
        let all: BTreeMap<Lsn, Id> = placed.into_iter().flatten().collect();
        assert!(u64::try_from(all.len()).unwrap() > THREADS * ROUNDS);
        assert!(read_ids(&wal).into_iter().eq(all.clone()), "the open log");
        wal.close().unwrap();
        let reopened = options.open_store(memory).unwrap();
        assert!(read_ids(&reopened).into_iter().eq(all), "the reopened log");
    });
}
