//! SIGKILL: what a process said to be committed before it was killed is there, in order; what was
//! not committed is not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "figures for the cookbook")]

mod common;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use canonical_log::CanonicalLog;
use canonical_log::record::Kind;
use cohort_wal::WalOptions;

use common::{options, stride, view};

/// A process that works; killed when dropped.
struct Worker {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Worker {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_canonical-log"));
        let command = command.arg("work").arg(dir).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// Which writer has how many entries committed; `None` at the end.
    fn hear(&mut self) -> Option<(u64, u64)> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        let words = line.strip_suffix('\n')?.strip_prefix("committed ").expect("it says only that");
        let (writer, count) = words.split_once(' ').unwrap();
        Some((writer.parse().unwrap(), count.parse().unwrap()))
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What the records say without opening: how many entries the last checkpoint has committed.
fn last_checkpoint(dir: &Path) -> u64 {
    let reader = WalOptions::new().open_read_only(dir).unwrap();
    let mut committed = 0;
    for record in reader.iter().unwrap() {
        let record = record.unwrap();
        if let Kind::Checkpoint(entries) = Kind::decode(record.lsn(), record.data()).unwrap() {
            committed = entries;
        }
    }
    committed
}

/// Opens and checks: each writer's numbers go up without a gap to the end, and what was said to be
/// committed is below the end. Returns where each writer ends, and how many were orphans.
fn check(dir: &Path, owed: &BTreeMap<u64, u64>) -> (BTreeMap<u64, u64>, u64) {
    let at_least = last_checkpoint(dir);
    let log = CanonicalLog::open(options(), dir).unwrap();
    let committed = log.committed().unwrap();
    assert!(committed.entries >= at_least);
    assert_eq!(log.wal().last_lsn(), Some(committed.lsn), "an orphan is left");
    let entries = view(&log);
    assert_eq!(entries.last().unwrap().0 + 1, committed.entries);
    let mut ends = BTreeMap::new();
    for (_, entry) in entries {
        let text = String::from_utf8(entry).unwrap();
        let (writer, number) = text.split_once(' ').unwrap();
        let (writer, number): (u64, u64) = (writer.parse().unwrap(), number.parse().unwrap());
        let before = ends.insert(writer, number + 1);
        assert!(before.is_none_or(|before| before == number), "a gap before {text}");
    }
    for (writer, count) in owed {
        assert!(ends[writer] >= *count, "writer {writer}: {} of {count}", ends[writer]);
    }
    (ends, log.orphans())
}

#[test]
fn what_a_killed_process_committed_is_there_and_orphans_are_not() {
    let kills = if stride(10) == 1 { 100 } else { 10 };
    let dir = tempfile::tempdir().unwrap();
    let (mut owed, mut lines, mut orphans) = (BTreeMap::new(), 0_u64, 0);
    for round in 0..kills {
        let mut worker = Worker::start(dir.path());
        // Where in its doings the kill hits is up to the system.
        for _ in 0..round * 61 % 300 + 10 {
            let (writer, count) = worker.hear().expect("the worker works until it is killed");
            owed.insert(writer, count);
            lines += 1;
        }
        worker.child.kill().unwrap();
        worker.child.wait().unwrap();
        // What it said before it died counts as well.
        while let Some((writer, count)) = worker.hear() {
            owed.insert(writer, count);
            lines += 1;
        }
        // Every third time the next worker is the first to open what is left.
        if round % 3 != 2 {
            let (ends, cut) = check(dir.path(), &owed);
            (owed, orphans) = (ends, orphans + cut);
        }
    }
    check(dir.path(), &owed);
    let committed: u64 = owed.values().sum();
    eprintln!(
        "{kills} processes killed, {lines} acknowledgements, {committed} entries committed, \
         none lost; {orphans} orphans cut"
    );
}
