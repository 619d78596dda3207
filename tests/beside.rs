//! Readers without the lock, beside a writer that does everything a writer can do.
//!
//! Method: every record is what its number says, and the writer never uses a number twice, so
//! numbers rise along the log whatever was cut off in between. A reader that mixes what was cut
//! off with what came in its place sees them fall. `COHORT_WAL_SOAK` sets the seconds, 2 by
//! default.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use cohort_wal::{Lsn, Wal, WalError, WalOptions};

use common::{deadline_of, join_all, smallest as options};

fn record(number: u64) -> Vec<u8> {
    let len = [8, 40, 700, 3000][(number % 4) as usize];
    number.to_le_bytes().repeat(len / 8)
}

fn number(record: &[u8]) -> u64 {
    let number = u64::from_le_bytes(record[..8].try_into().unwrap());
    assert!(record.chunks(8).all(|part| part == number.to_le_bytes()), "not a record of ours");
    number
}

/// One look at the log: records in order, and a head that never moves back.
fn look(dir: &Path, head: &mut Lsn, looks: &AtomicU64) {
    let reader = WalOptions::new().open_read_only(dir).unwrap();
    assert!(reader.head_lsn() >= *head, "the head moved back");
    *head = reader.head_lsn();
    if let Some(mut snapshot) = reader.snapshots().latest().unwrap() {
        let mut image = Vec::new();
        snapshot.read_to_end(&mut image).unwrap();
        assert_eq!(image, snapshot.lsn().get().to_le_bytes().repeat(50_000));
    }
    let mut last: Option<(Lsn, u64)> = None;
    for record in reader.iter().unwrap() {
        match record {
            Ok(record) => {
                let (lsn, number) = (record.lsn(), number(record.data()));
                let rises = last.is_none_or(|(before, smaller)| lsn > before && number > smaller);
                assert!(rises, "number {number} at {lsn} after {last:?}");
                last = Some((lsn, number));
            }
            // The writer went past what this reader was opened for.
            Err(WalError::Truncated { .. }) => break,
            Err(error) => panic!("{error}"),
        }
    }
    looks.fetch_add(1, Relaxed);
}

/// Appends, rotates, truncates at both ends, makes checkpoints, closes and opens again.
fn write(dir: &Path, over: &AtomicBool) -> u64 {
    let (mut next, mut round) = (0, 0_u64);
    while !over.load(Relaxed) {
        let wal = options().open(dir).unwrap();
        for _ in 0..40 {
            round += 1;
            let lsns: Vec<Lsn> = (0..20)
                .map(|_| {
                    next += 1;
                    wal.append(&record(next)).unwrap()
                })
                .collect();
            wal.sync().unwrap();
            match round % 7 {
                0 => wal.rotate().unwrap(),
                1 => drop(wal.truncate_before(lsns[3]).unwrap()),
                2 => wal.truncate_from(lsns[10]).unwrap(),
                3 => wal.truncate_after(lsns[15]).unwrap(),
                4 => {
                    let image = lsns[5].get().to_le_bytes().repeat(50_000);
                    wal.checkpoint(lsns[5], |out| out.write_all(&image)).unwrap();
                }
                5 => drop(wal.truncate_before(wal.end_lsn()).unwrap()),
                _ => {}
            }
        }
        wal.close().unwrap();
    }
    round
}

#[test]
fn readers_beside_a_writer_that_does_everything_see_durable_records_in_order() {
    let seconds = std::env::var("COHORT_WAL_SOAK").ok().and_then(|s| s.parse().ok()).unwrap_or(2);
    deadline_of(seconds + 60, move || {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        options().open(dir.path()).unwrap().close().unwrap();
        let over = Arc::new(AtomicBool::new(false));
        let looks = Arc::new(AtomicU64::new(0));
        let mut threads: Vec<_> = (0..2)
            .map(|_| {
                let (dir, over) = (Arc::clone(&dir), Arc::clone(&over));
                let looks = Arc::clone(&looks);
                thread::spawn(move || {
                    let mut head = Lsn::new(0);
                    while !over.load(Relaxed) {
                        look(dir.path(), &mut head, &looks);
                    }
                })
            })
            .collect();
        let writer = {
            let (dir, over) = (Arc::clone(&dir), Arc::clone(&over));
            move || assert!(write(dir.path(), &over) > 0)
        };
        threads.push(thread::spawn(writer));
        thread::sleep(Duration::from_secs(seconds));
        over.store(true, Relaxed);
        join_all(threads);
        assert!(looks.load(Relaxed) > 10, "{looks:?} looks");
        assert!(Wal::open(dir.path()).unwrap().recovery().clean);
    });
}
