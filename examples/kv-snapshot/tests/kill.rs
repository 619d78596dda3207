//! SIGKILL: the program writes from several threads, compacts, and acknowledges on its standard
//! output; it is killed again and again on one directory, and what it acknowledged is owed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says how much it has tried")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use cohort_wal::Wal;
use kv_snapshot::Store;

use common::held;

const WRITERS: usize = 3;
const KILLS: u64 = 25;

/// The program; it does not outlive a test that fails.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        // It may be gone already.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Lets the program write until it has acknowledged so many commits, and kills it. Adds what it
/// acknowledged before it died, all of it.
fn kill_after(dir: &Path, acknowledgements: u64, owed: &mut [u64]) -> u64 {
    let program = Command::new(env!("CARGO_BIN_EXE_kv-snapshot"))
        .args(["--compact-above", "8192", "churn", "--writers", &WRITERS.to_string()])
        .arg(dir)
        .stdout(Stdio::piped())
        .spawn();
    let mut program = Program(program.unwrap());
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
        let (writer, n) = words.split_once(' ').unwrap();
        let (writer, n): (usize, u64) = (writer.parse().unwrap(), n.parse().unwrap());
        assert_eq!(n, owed[writer] + 1, "writer {writer} goes on where it was");
        owed[writer] = n;
        heard += 1;
    }
    let status = program.0.wait().unwrap();
    assert!(status.code().is_none(), "it was killed and did not fail: {status}");
    heard
}

#[test]
fn a_killed_program_has_kept_what_it_acknowledged_and_no_half_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (mut owed, mut heard, mut ahead, mut moment) = ([0; WRITERS], 0, 0, 7_u64);
    for _ in 0..KILLS {
        moment = moment.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        heard += kill_after(dir.path(), (moment >> 33) % 120, &mut owed);
        let store = Store::load(Arc::new(Wal::open(dir.path()).unwrap()), 8192).unwrap();
        let found = held(&store, WRITERS);
        for (owed, found) in owed.iter_mut().zip(found) {
            assert!((*owed..=*owed + 1).contains(&found), "owed {owed}, found {found}");
            ahead += found - *owed;
            // It is there now, and stays.
            *owed = found;
        }
        store.close().unwrap();
    }
    let store = Store::load(Arc::new(Wal::open(dir.path()).unwrap()), 8192).unwrap();
    let snapshot = store.wal().snapshots().unwrap().latest().unwrap();
    let compacted = snapshot.expect("it has compacted").lsn();
    println!("{KILLS} kills, {heard} acknowledged, {ahead} more held, compacted at {compacted}");
    assert!(heard > KILLS * 20);
}
