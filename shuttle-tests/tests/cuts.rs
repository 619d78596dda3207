//! Many schedules of logs that are cut, truncated and checkpointed beside everybody else.
//!
//! Method: writers append, commit, flush and read while one thread cuts the log again and again.
//! Nobody hangs, which shuttle tells; a call fails with `Truncated` alone; what a commit that began
//! after the last cut acknowledged is there, and nothing is there twice, out of order, or made up.
//! The same holds after the power went.

#![cfg(shuttle)]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};

use cohort_wal::sim::{Profile, SimStore};
use cohort_wal::{Lsn, Wal, WalError, WalOptions};
use shuttle::thread;
use shuttle_tests::schedule::{Order, number};
use simulation::dice::Dice;

/// Seeds that found something once.
const REGRESSIONS: [u64; 1] = [5965];

/// Schedules of one seed that share a runner.
const ROUND: usize = 8;

type Log = Arc<Wal<SimStore>>;

fn options() -> WalOptions {
    WalOptions::new().ring_bytes(64 << 10).segment_bytes(16 << 10).max_unsynced_bytes(32 << 10)
}

/// What is known besides the log itself.
#[derive(Debug, Default)]
struct Book {
    /// Cuts that have begun, and that have returned.
    begun: u64,
    ended: u64,
    /// Records that a commit has acknowledged, and whether no cut has begun since before it did.
    acknowledged: Vec<(u64, u64)>,
}

type Shared = Arc<Mutex<Book>>;

fn book(shared: &Shared) -> std::sync::MutexGuard<'_, Book> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn record(id: u64, len: usize) -> Vec<u8> {
    let mut record = vec![id as u8; len.max(8)];
    record[..8].copy_from_slice(&id.to_le_bytes());
    record
}

fn id(record: &[u8]) -> u64 {
    let id = u64::from_le_bytes(*record.first_chunk().expect("a record of ours"));
    assert!(record[8..].iter().all(|byte| *byte == id as u8), "a record that nobody appended");
    id
}

/// True unless a cut came in between; nothing else may fail.
fn went_well<T>(result: Result<T, WalError>) -> bool {
    match result {
        Ok(_) => true,
        Err(WalError::Truncated { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn write(wal: &Log, shared: &Shared, mut dice: Dice, owner: u64) {
    for number in 0..4 {
        let id = (owner << 32) + number;
        let len = dice.pick(&[16, 16, 700, 3000]);
        match dice.below(6) {
            0..3 => {
                let cuts = book(shared).ended;
                if went_well(wal.append_and_sync(&record(id, len))) {
                    book(shared).acknowledged.push((id, cuts));
                }
            }
            3 => assert!(went_well(wal.append(&record(id, len)))),
            4 => {
                assert!(went_well(wal.append_batch(&[record(id, 16), record(id + (1 << 16), 16)])));
                went_well(wal.flush());
            }
            _ => drop(look(wal, false)),
        }
    }
}

/// Reads everything; whole logs give their records.
fn look(wal: &Log, whole: bool) -> Vec<(Lsn, u64)> {
    let mut seen: Vec<(Lsn, u64)> = Vec::new();
    for record in wal.iter().expect("an iterator") {
        match record {
            Ok(record) => seen.push((record.lsn(), id(record.data()))),
            Err(WalError::Truncated { .. }) if !whole => break,
            Err(error) => panic!("{error}"),
        }
    }
    assert!(seen.windows(2).all(|pair| pair[0].0 < pair[1].0));
    let mut ids: Vec<u64> = seen.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), seen.len(), "a record twice");
    seen
}

fn cut(wal: &Log, shared: &Shared, mut dice: Dice) {
    for number in 0..3 {
        let mark = wal.append(&record((99 << 32) + number, 16)).expect("an append");
        book(shared).begun += 1;
        let done = match dice.below(5) {
            0 => wal.truncate_from(mark),
            1 => wal.truncate_after(mark),
            2 => wal.truncate_from(wal.head_lsn()),
            3 => wal.truncate_before(mark).map(drop),
            _ => wal.checkpoint(mark, |image| image.write_all(&mark.get().to_le_bytes())),
        };
        done.expect("nobody else truncates");
        book(shared).ended += 1;
    }
}

fn play(seed: u64) {
    let profile = Profile::ALL[usize::try_from(seed).expect("small") % Profile::ALL.len()];
    let disk = SimStore::new(profile, seed);
    let wal = Arc::new(options().open_store(disk.clone()).expect("a new log"));
    let shared = Shared::default();
    let writers = (0..3).map(|owner| {
        let (wal, shared) = (Arc::clone(&wal), Arc::clone(&shared));
        thread::spawn(move || write(&wal, &shared, Dice::new(&[seed, owner]), owner + 1))
    });
    let mut threads: Vec<_> = writers.collect();
    let (other, told) = (Arc::clone(&wal), Arc::clone(&shared));
    threads.push(thread::spawn(move || cut(&other, &told, Dice::new(&[seed, 99]))));
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    wal.sync().expect("nobody cuts any more");
    let seen = look(&wal, true);
    assert_eq!(wal.last_lsn(), seen.last().map(|(lsn, _)| *lsn));
    let held = |id: u64, seen: &[(Lsn, u64)]| seen.iter().any(|(_, there)| *there == id);
    {
        let book = book(&shared);
        for (id, cuts) in book.acknowledged.iter().filter(|(_, cuts)| *cuts == book.begun) {
            assert!(held(*id, &seen), "{id:#x} was acknowledged after cut {cuts} and is not there");
        }
    }
    let dead = disk.power_loss();
    drop(wal);
    let again = Arc::new(options().open_store(dead).expect("a log"));
    assert_eq!(look(&again, true), seen, "after the power went");
}

#[test]
fn logs_that_are_cut_hang_nobody_and_keep_what_was_acknowledged_since() {
    let first = number("COHORT_WAL_SEED", 0);
    let rounds = number("COHORT_WAL_SCHEDULES", 2000).div_ceil(2 * ROUND as u64);
    for seed in REGRESSIONS.into_iter().chain(first..first + rounds) {
        for order in [Order::Random(seed), Order::Pct { seed, depth: 3 }] {
            let played =
                catch_unwind(AssertUnwindSafe(|| order.explore(ROUND, move || play(seed))));
            if let Err(cause) = played {
                let cause = cause.downcast_ref::<String>().map_or("a panic", String::as_str);
                panic!(
                    "{cause}\n{order:?}; again with COHORT_WAL_SEED={seed} COHORT_WAL_SCHEDULES=1"
                );
            }
        }
    }
}
