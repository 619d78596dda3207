//! Replicates a log into a second one with the same LSNs, and switches over to it.
//!
//! An LSN depends on where the log began and on the lengths of the payloads before it, and on
//! nothing else: not on options, batches, segments, or how often the log was opened. So a second
//! log that begins at the same LSN and gets the same records has the same LSNs, and whoever
//! remembers one (a checkpoint, a reader's position) can go on with the second log.
//!
//! There is one exception. A record larger than the ring that found the disk full leaves a pad, a
//! place without a record, which nobody can append. So the replica checks before it appends, and
//! stops rather than diverge; where that may happen, keep the first log's LSN in the records of the
//! second. What was a batch in the first log becomes one in the second, so that a crash of the
//! replica leaves no half of it either.
//!
//! ```sh
//! cargo run --example replicate
//! ```

#![allow(clippy::print_stdout, clippy::expect_used, reason = "it says what it did, or fails")]

use std::error::Error;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cohort_wal::{Follow, Lsn, Wal, WalError, WalOptions};

const WRITERS: usize = 4;
const EACH: usize = 250;

type AnyResult<T> = Result<T, Box<dyn Error + Send + Sync>>;
/// Records that were acknowledged, and where.
type Acknowledged = Vec<(Lsn, Vec<u8>)>;

fn write(wal: &Wal, writer: usize) -> cohort_wal::Result<Acknowledged> {
    let mut acknowledged = Vec::new();
    for number in 0..EACH {
        let pair = [format!("debit {writer} {number}"), format!("credit {writer} {number}")];
        let lsns = wal.append_batch_and_sync(&pair)?;
        acknowledged.extend(lsns.into_iter().zip(pair.map(String::into_bytes)));
    }
    Ok(acknowledged)
}

/// Appends what the follower yields, until the log that it follows is closed.
fn replicate(follower: Follow, second: &Wal) -> AnyResult<()> {
    let (mut batch, mut next) = (Vec::new(), second.end_lsn());
    for record in follower {
        let record = match record {
            Err(WalError::Closed) => break,
            record => record?,
        };
        let more = record.more();
        if batch.is_empty() && next != record.lsn() {
            return Err(format!("a pad from LSN {next} to {}", record.lsn()).into());
        }
        batch.push(record.into_data());
        if !more {
            second.append_batch(&batch)?;
            batch.clear();
            next = second.end_lsn();
        }
    }
    // Makes durable what the sync interval has not.
    Ok(second.close()?)
}

fn main() -> AnyResult<()> {
    let (first_dir, second_dir) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let first = Arc::new(WalOptions::new().segment_bytes(16 << 10).open(first_dir.path())?);
    // The first log has a past, which the second never sees.
    first.append_and_sync(b"forgotten")?;
    let head = first.truncate_before(first.end_lsn())?;

    let options = WalOptions::new().create_new(true).initial_lsn(head);
    let second = options.sync_interval(Duration::from_millis(20)).open(second_dir.path())?;
    let follower = first.follow(head)?;
    let replica = thread::spawn(move || replicate(follower, &second));

    let writers = (0..WRITERS).map(|writer| {
        let first = Arc::clone(&first);
        thread::spawn(move || write(&first, writer))
    });
    let mut acknowledged = Vec::new();
    for writer in writers.collect::<Vec<_>>() {
        acknowledged.extend(writer.join().expect("no writer panics")?);
    }

    // The switch-over: nobody writes any more. Closing the first log ends the follower once it has
    // yielded everything, and then the replica is whole.
    first.close()?;
    replica.join().expect("the replica does not panic")?;
    let second = Wal::open(second_dir.path())?;
    assert_eq!((second.head_lsn(), second.end_lsn()), (head, first.end_lsn()));
    acknowledged.extend(write(&second, WRITERS)?);

    acknowledged.sort();
    let mut held = Vec::new();
    for record in second.iter()? {
        let record = record?;
        assert_eq!(record.more(), record.starts_with(b"debit"), "batches are batches");
        held.push((record.lsn(), record.into_data()));
    }
    assert_eq!(held, acknowledged, "every acknowledged record once, in order, at its LSN");
    println!("{} records, the same LSNs in both logs, from {head} on", held.len());
    Ok(())
}
