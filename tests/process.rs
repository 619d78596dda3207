//! The death of a process: whatever it acknowledged is there, in order, and the log opens at once.
//!
//! Method: a test runs its own binary again as a child, with an environment variable that tells
//! the child to play its part of that same test. The child commits from many threads and reports
//! what it was promised on standard output; the parent kills it (SIGKILL) after so many reports,
//! reads on to the end of the pipe, reopens the log and compares. What a child was told before it
//! died is owed; what it appended besides may be there or not.
//!
//! `COHORT_WAL_KILLS` says how many times a process is killed. A thousand times:
//! `COHORT_WAL_KILLS=1000 cargo test --release --test process killed -- --nocapture`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;

use cohort_wal::{Wal, WalError, WalOptions};

use common::{Dice, Id, deadline, deadline_of, payload, read_ids};

const DIR: &str = "COHORT_WAL_TEST_DIR";
const ROUND: &str = "COHORT_WAL_TEST_ROUND";
const KILLS: &str = "COHORT_WAL_KILLS";

const THREADS: u64 = 8;
/// Numbers of one thread in one round: how many records it may append.
const PER_ROUND: u64 = 1 << 20;

fn options() -> WalOptions {
    WalOptions::new().segment_bytes(64 << 10).ring_bytes(64 << 10)
}

/// Where this process is to play the child, and in which round.
fn role() -> Option<(PathBuf, u64)> {
    let dir = std::env::var_os(DIR)?;
    Some((PathBuf::from(dir), std::env::var(ROUND).unwrap().parse().unwrap()))
}

/// A child process; killed when dropped.
struct Kin {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Kin {
    /// Runs one test of this binary as a child.
    fn spawn(test: &str, dir: &Path, round: u64) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The next whole line that the child said for us; `None` at the end.
    fn hear(&mut self) -> Option<String> {
        let mut line = String::new();
        loop {
            line.clear();
            self.said.read_line(&mut line).unwrap();
            if !line.ends_with('\n') {
                return None;
            }
            // The harness says things too, and may begin a line that the child ends.
            if let Some((_, said)) = line.trim_end().split_once("child: ") {
                return Some(said.to_owned());
            }
        }
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        // It may be gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Says a line to the parent, in one write.
fn say(what: &str) {
    let line = format!("child: {what}\n");
    // The parent may have stopped listening: then nobody is owed anything.
    std::io::stdout().lock().write_all(line.as_bytes()).ok();
}

/// Batches are numbered like this, so that who reads one record knows the others: a batch has
/// four records, the first of which has a number divisible by 4.
const BATCH: u64 = 4;
/// Owners at and above this append batches.
const BATCHERS: u64 = 6;

/// Commits until killed.
fn commit_for_ever(wal: &Wal, owner: u64, round: u64) {
    let mut dice = Dice::new(owner + round * THREADS);
    let mut number = round * PER_ROUND;
    loop {
        if owner >= BATCHERS {
            let ids = (number..number + BATCH).map(|number| Id { owner, number });
            let records: Vec<_> = ids.map(|id| payload(id, dice.len())).collect();
            wal.append_batch_and_sync(&records).unwrap();
            number += BATCH;
        } else {
            for _ in 0..dice.below(4) {
                wal.append(&payload(Id { owner, number }, dice.len())).unwrap();
                number += 1;
            }
            let len = if dice.below(50) == 0 { 90_000 } else { dice.len() };
            wal.append_and_sync(&payload(Id { owner, number }, len)).unwrap();
            number += 1;
            if dice.below(40) == 0 {
                wal.rotate().unwrap();
            }
        }
        // All of this thread's records below `number` are durable.
        say(&format!("{owner} {number}"));
    }
}

/// What is owed: per owner and round, the number below which every record was acknowledged.
type Owed = BTreeMap<(u64, u64), u64>;

fn check(read: &[Id], owed: &Owed) {
    let mut last: BTreeMap<u64, u64> = BTreeMap::new();
    for id in read {
        let before = last.insert(id.owner, id.number);
        let round = id.number / PER_ROUND * PER_ROUND;
        let wanted = match before {
            // Within a round no record of an owner is missing.
            Some(before) if before >= round => before + 1,
            _ => round,
        };
        assert_eq!(id.number, wanted, "owner {}", id.owner);
    }
    let present: BTreeSet<_> = read.iter().copied().collect();
    assert_eq!(present.len(), read.len(), "no record twice");
    for ((owner, round), end) in owed {
        for number in round * PER_ROUND..*end {
            let id = Id { owner: *owner, number };
            assert!(present.contains(&id), "{id:?} was acknowledged");
        }
    }
    for id in read.iter().filter(|id| id.owner >= BATCHERS) {
        let first = id.number / BATCH * BATCH;
        let whole = (first..first + BATCH).all(|number| present.contains(&Id { number, ..*id }));
        assert!(whole, "the batch of {id:?} is split");
    }
}

/// How many processes are killed.
fn kills() -> u64 {
    std::env::var(KILLS).map_or(100, |kills| kills.parse().unwrap())
}

/// How many records the log holds, every one of them checked.
fn check_log(wal: &Wal, owed: &Owed) -> usize {
    let read: Vec<_> = read_ids(wal).into_iter().map(|(_, id)| id).collect();
    check(&read, owed);
    read.len()
}

#[test]
fn what_a_killed_process_acknowledged_survives() {
    let name = "what_a_killed_process_acknowledged_survives";
    if let Some((dir, round)) = role() {
        let wal = Arc::new(options().open(dir).unwrap());
        let committers = (0..THREADS).map(|owner| {
            let wal = Arc::clone(&wal);
            thread::spawn(move || commit_for_ever(&wal, owner, round))
        });
        common::join_all(committers.collect());
        return;
    }
    let kills = kills();
    deadline_of(300 + kills, move || {
        let mut dice = Dice::new(7);
        let (mut acknowledged, mut survived) = (0, 0);
        let mut round = 0;
        while round < kills {
            // A log of its own for so many rounds, or reading it again would take ever longer.
            let dir = tempfile::tempdir().unwrap();
            let mut owed = Owed::new();
            for _ in 0..LIVES.min(kills - round) {
                die(name, dir.path(), round, &mut owed, &mut dice);
                // Two of three times we recover; the third time the next child does.
                if round % 3 != 2 {
                    let wal = options().open(dir.path()).unwrap();
                    assert!(!wal.recovery().clean);
                    check_log(&wal, &owed);
                }
                round += 1;
            }
            survived += check_log(&options().open(dir.path()).unwrap(), &owed);
            let owed = owed.iter().map(|((_, round), end)| end - round * PER_ROUND);
            acknowledged += owed.sum::<u64>();
        }
        assert!(acknowledged >= kills && survived >= usize::try_from(acknowledged).unwrap());
        // Past the harness: `check` has found that none is lost.
        let line = format!(
            "{kills} processes killed, {acknowledged} records acknowledged, 0 lost, \
             {survived} there\n"
        );
        std::io::stderr().write_all(line.as_bytes()).ok();
    });
}

/// Rounds of one log.
const LIVES: u64 = 50;

/// Runs a child that commits, kills it, and notes what it was promised.
fn die(name: &str, dir: &Path, round: u64, owed: &mut Owed, dice: &mut Dice) {
    let mut kin = Kin::spawn(name, dir, round);
    let mut heard = |said: String| {
        let (owner, end) = said.split_once(' ').unwrap();
        owed.insert((owner.parse().unwrap(), round), end.parse().unwrap());
    };
    for _ in 0..=dice.below(60) {
        heard(kin.hear().expect("the child commits until it is killed"));
    }
    kin.kill();
    // What it said before it died counts as well.
    while let Some(said) = kin.hear() {
        heard(said);
    }
}

#[test]
fn a_second_process_is_locked_out_until_the_first_is_dead() {
    let name = "a_second_process_is_locked_out_until_the_first_is_dead";
    if let Some((dir, _)) = role() {
        let wal = options().open(dir).unwrap();
        wal.append_and_sync(&payload(Id { owner: 0, number: 0 }, 100)).unwrap();
        say("open");
        loop {
            thread::park();
        }
    }
    deadline(move || {
        let dir = tempfile::tempdir().unwrap();
        let mut kin = Kin::spawn(name, dir.path(), 0);
        assert_eq!(kin.hear().as_deref(), Some("open"));
        let before = common::directory(dir.path());
        for _ in 0..3 {
            assert!(matches!(options().open(dir.path()), Err(WalError::Locked { .. })));
        }
        assert_eq!(common::directory(dir.path()), before);
        kin.kill();
        let wal = options().open(dir.path()).unwrap();
        assert_eq!(read_ids(&wal).len(), 1);
    });
}

#[test]
fn what_a_killed_process_flushed_survives() {
    let name = "what_a_killed_process_flushed_survives";
    if let Some((dir, _)) = role() {
        let wal = options().open(dir).unwrap();
        for number in 0..2_000 {
            wal.append(&payload(Id { owner: 0, number }, 24)).unwrap();
        }
        wal.flush().unwrap();
        say("flushed");
        loop {
            thread::park();
        }
    }
    deadline(move || {
        let dir = tempfile::tempdir().unwrap();
        let mut kin = Kin::spawn(name, dir.path(), 0);
        assert_eq!(kin.hear().as_deref(), Some("flushed"));
        kin.kill();
        let wal = options().open(dir.path()).unwrap();
        assert_eq!(read_ids(&wal).len(), 2_000);
        assert!(wal.recovery().torn_at.is_none() && wal.durable_lsn() == wal.end_lsn());
        wal.append_and_sync(b"the log goes on").unwrap();
    });
}
