//! SIGKILL: whatever a process acknowledged before it was killed is there, whole, and what it had
//! rolled back is not.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "figures for the cookbook")]

mod common;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use ledger_engine::engine::Engine;
use ledger_engine::workload::{self, ACCOUNTS, MISTAKEN, WRITERS};

use common::{Counts, options, stride};

/// A process that works; killed when dropped.
struct Worker {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Worker {
    fn start(dir: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ledger-engine"));
        let command = command.arg("work").arg(dir).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The next whole line; `None` at the end.
    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        self.said.read_line(&mut line).unwrap();
        line.strip_suffix('\n').map(str::to_owned)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may be gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What was acknowledged.
struct Owed {
    counts: Counts,
    /// Mistakes were posted and are not said to be undone.
    mistaken: bool,
    /// Processes killed since the counts were those of the log.
    kills: u64,
}

impl Owed {
    fn enter(&mut self, said: &str) {
        let words: Vec<_> = said.split(' ').collect();
        match words.as_slice() {
            ["posted", writer, count] => {
                self.counts[writer.parse::<usize>().unwrap()] = count.parse().unwrap();
            }
            ["mistake"] => self.mistaken = true,
            ["undone"] => self.mistaken = false,
            _ => panic!("{said}"),
        }
    }

    fn check(&self, counts: &Counts) {
        for writer in 0..usize::from(WRITERS) {
            // Each process that was killed may have had one more under way.
            let range = self.counts[writer]..=self.counts[writer] + self.kills;
            assert!(range.contains(&counts[writer]), "{counts:?} of {:?}", self.counts);
        }
        let most = if self.mistaken { 3 } else { 0 };
        assert!(counts[usize::from(MISTAKEN)] <= most, "a mistake is back: {counts:?}");
    }
}

#[test]
fn what_a_killed_process_acknowledged_is_there_and_what_it_undid_is_not() {
    let kills = if stride(8) == 1 { 100 } else { 8 };
    let dir = tempfile::tempdir().unwrap();
    let mut owed = Owed { counts: vec![0; usize::from(MISTAKEN) + 1], mistaken: false, kills: 0 };
    let mut lines = 0_u64;
    for round in 0..kills {
        let mut worker = Worker::start(dir.path());
        // Where in its doings the kill hits is up to the system.
        for _ in 0..round * 97 % 400 + 1 {
            owed.enter(&worker.hear().expect("the worker works until it is killed"));
            lines += 1;
        }
        worker.child.kill().unwrap();
        worker.child.wait().unwrap();
        owed.kills += 1;
        // What it said before it died counts as well.
        while let Some(said) = worker.hear() {
            owed.enter(&said);
            lines += 1;
        }
        // Every third time the next worker is the first to open what is left.
        if round % 3 != 2 {
            let engine = Engine::open(options().open(dir.path()).unwrap(), ACCOUNTS).unwrap();
            let counts = workload::check(&engine.book().unwrap()).unwrap();
            owed.check(&counts);
            // The next worker goes on from what is there.
            (owed.counts, owed.kills) = (counts, 0);
            owed.counts[usize::from(MISTAKEN)] = 0;
        }
    }
    let engine = Engine::open(options().open(dir.path()).unwrap(), ACCOUNTS).unwrap();
    let counts = workload::check(&engine.book().unwrap()).unwrap();
    owed.check(&counts);
    let sum: u64 = counts.iter().sum();
    eprintln!("{kills} processes killed, {lines} acknowledgements, {sum} transactions, none lost");
}
