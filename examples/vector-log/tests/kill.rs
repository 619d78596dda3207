//! SIGKILL: the program writes from several threads, rotates its key, and acknowledges on its
//! standard output; it is killed again and again on one directory, and owes what it acknowledged.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says how much it has tried")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;

use cohort_wal::Wal;
use vector_log::{Collections, KeyRing, VectorLog, workload};

use common::{program, replayed};

const THREADS: usize = 3;
const KILLS: u64 = 12;

/// The program; it does not outlive a test that fails.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may be gone already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Lets the program write until it has acknowledged so many batches, and kills it. Adds what it
/// acknowledged before it died, all of it.
fn kill_after(log: &Path, keys: &Path, acknowledgements: u64, owed: &mut [u64]) -> u64 {
    let program = program()
        .arg("write")
        .args([log, keys])
        .args(["--threads", &THREADS.to_string(), "--dims", "8"])
        .args(["--batches", &u64::MAX.to_string(), "--rotate-every", "9"])
        .stdout(Stdio::piped())
        .spawn();
    let mut program = Running(program.unwrap());
    let mut said = BufReader::new(program.0.stdout.take().unwrap());
    let (mut line, mut heard) = (String::new(), 0);
    loop {
        if heard == acknowledgements {
            program.0.kill().unwrap();
        }
        line.clear();
        said.read_line(&mut line).unwrap();
        // A line is whole or was never said.
        let Some(words) = line.strip_suffix('\n') else { break };
        let (collection, number) = words.split_once(' ').unwrap();
        let (collection, number): (usize, u64) =
            (collection.parse().unwrap(), number.parse().unwrap());
        assert_eq!(number, owed[collection], "collection {collection} goes on where it was");
        owed[collection] += 1;
        heard += 1;
    }
    let status = program.0.wait().unwrap();
    assert!(status.code().is_none(), "it was killed and did not fail: {status}");
    heard
}

#[test]
fn a_killed_program_has_kept_what_it_acknowledged_and_no_half_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (log, keys) = (dir.path().join("log"), dir.path().join("keys"));
    KeyRing::create(&keys).unwrap();
    let (mut owed, mut heard, mut ahead, mut torn) = ([0; THREADS], 0, 0, 0);
    let mut moment = 7_u64;
    for _ in 0..KILLS {
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        heard += kill_after(&log, &keys, (moment >> 33) % 50, &mut owed);
        let ring = Arc::new(KeyRing::open(&keys).unwrap());
        let Ok(wal) = Wal::options().create(false).encryption(ring).open(&log) else {
            assert_eq!(owed, [0; THREADS], "the log is there once it has acknowledged anything");
            continue;
        };
        let log = VectorLog::open(Arc::new(wal), None).unwrap();
        torn += u64::from(log.opening().torn.is_some());
        let found = workload::held(&replayed(&log, &Collections::default()), THREADS).unwrap();
        for (owed, found) in owed.iter_mut().zip(found) {
            assert!((*owed..=*owed + 1).contains(&found), "owed {owed}, found {found}");
            ahead += found - *owed;
            // It is there now, and stays.
            *owed = found;
        }
        log.wal().close().unwrap();
    }
    let rotations = std::fs::read_dir(&keys).unwrap().count() - 1;
    println!("{KILLS} kills, {heard} acknowledged, {ahead} more held, {torn} torn tails");
    println!("{rotations} rotations of the key");
    assert!(heard > KILLS * 10 && rotations > 0, "{heard} {rotations}");
}
