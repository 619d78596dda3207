//! Power loss and failing disks: what was synced is there, and what else is there is a state that
//! the graph was in, never half a merge.
//!
//! Method: one thread makes random changes to a graph on a simulated disk and notes the graph after
//! each of them. What is read back after a crash, at any moment of any call, must be one of these
//! graphs, and none older than the last one that was acknowledged as durable.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures of the cookbook")]

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cohort_wal::sim::{Profile, SimCall, SimFault, SimFaultKind, SimStore};
use cohort_wal::{Wal, WalError, WalOptions};
use knowledge_graph::{Graph, GraphError, Knowledge, options};

/// Small, so that few changes fill segments. Without an interval, so that a run can be repeated.
fn small() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

fn open(disk: &SimStore) -> Graph<SimStore> {
    let (graph, replay) = Graph::open(Arc::new(small().open_store(disk.clone()).unwrap())).unwrap();
    assert!(replay.unknown.is_empty() && replay.misfits.is_empty(), "{replay:?}");
    graph
}

/// Random numbers, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        ((mixed ^ (mixed >> 31)) >> 16) % limit
    }

    fn name(&mut self) -> String {
        format!("entity {}", self.below(6))
    }
}

/// A graph, every state that it was in, and which of them is owed.
struct Run {
    graph: Graph<SimStore>,
    states: Vec<Knowledge>,
    /// The last state that was acknowledged as durable.
    owed: usize,
    merges: usize,
    serial: u64,
}

impl Run {
    fn new(disk: &SimStore) -> Self {
        let graph = open(disk);
        let states = vec![graph.read().clone()];
        Self { graph, states, owed: 0, merges: 0, serial: 0 }
    }

    /// Makes one change, or syncs, or compacts. An error is one of the log.
    fn step(&mut self, dice: &mut Dice) -> Result<(), WalError> {
        let (one, two) = (dice.name(), dice.name());
        self.serial += 1;
        let changed = match dice.below(16) {
            0..=3 => self.graph.create(&one, "thing"),
            4..=7 => {
                let tail = "x".repeat(usize::try_from(dice.below(700)).unwrap());
                let texts = [format!("{} {tail}", self.serial), format!("{} more", self.serial)];
                self.graph.observe(&one, &[&texts[0], &texts[1]])
            }
            8..=9 => self.graph.relate(&one, "knows", &two),
            10..=12 => self.graph.merge(&one, &two).inspect(|_| self.merges += 1),
            13 => self.graph.delete(&one),
            14 => return self.durable(self.graph.sync()),
            _ => return self.durable(self.graph.compact().map(drop)),
        };
        match changed {
            Ok(_) => self.states.push(self.graph.read().clone()),
            Err(GraphError::Wal(error)) => return Err(error),
            // The graph refused it: nothing was appended.
            Err(_) => {}
        }
        Ok(())
    }

    fn durable(&mut self, result: Result<(), GraphError>) -> Result<(), WalError> {
        match result {
            Ok(()) => self.owed = self.states.len() - 1,
            Err(GraphError::Wal(error)) => return Err(error),
            Err(other) => panic!("{other}"),
        }
        Ok(())
    }

    /// Opens what a crash left; it owes everything from `owed` on.
    fn check(&self, disk: &SimStore, owed: usize) {
        let graph = open(disk);
        let known = graph.read();
        let held = self.states[owed..].contains(&known);
        let older = self.states.iter().rposition(|state| *state == *known);
        assert!(held, "owed state {owed} of {}, found {older:?}", self.states.len());
    }
}

#[test]
fn what_was_synced_survives_power_loss_at_every_moment_and_merges_are_whole() {
    let (mut crashes, mut merges) = (0, 0);
    for (seed, profile) in (1..).zip(Profile::ALL) {
        let disk = SimStore::new(profile, seed);
        let (mut run, mut dice) = (Run::new(&disk), Dice(seed));
        disk.record();
        for _ in 0..70 {
            let owed = run.owed;
            run.step(&mut dice).unwrap();
            for moment in disk.moments() {
                for after in moment.power_losses(6).chain([moment.kill()]) {
                    run.check(&after, owed);
                    crashes += 1;
                }
            }
            run.check(&disk.power_loss(), run.owed);
            run.check(&disk.kill(), run.owed);
            crashes += 2;
        }
        merges += run.merges;
    }
    println!("{crashes} crashes of 6 runs with {merges} merges");
    assert!(merges > 20 && crashes > 1000, "{merges} merges, {crashes} crashes");
}

/// One merge alone, with nothing else to write, so that every moment is a moment of the merge.
#[test]
fn a_merge_shows_whole_or_not_at_all_wherever_the_power_goes() {
    let mut seen = [0, 0];
    for (seed, profile) in (1..).zip(Profile::ALL) {
        let disk = SimStore::new(profile, seed);
        let graph = open(&disk);
        graph.create("old", "thing").unwrap();
        graph.create("new", "thing").unwrap();
        for number in 0..12 {
            let name = format!("friend {number}");
            graph.create(&name, "friend").unwrap();
            graph.relate("old", "knows", &name).unwrap();
            graph.observe("old", &[&format!("{number} {}", "y".repeat(300))]).unwrap();
        }
        graph.sync().unwrap();
        let before = graph.read().clone();
        disk.record();
        graph.merge("old", "new").unwrap();
        let after = graph.read().clone();
        graph.sync().unwrap();
        for moment in disk.moments() {
            for lost in moment.power_losses(60) {
                let known = open(&lost).read().clone();
                assert!(known == before || known == after, "half of a merge");
                seen[usize::from(known == after)] += 1;
            }
        }
        assert_eq!(*open(&disk.power_loss()).read(), after);
    }
    println!("a merge: {} crashes before it, {} after it", seen[0], seen[1]);
    assert!(seen[0] > 10 && seen[1] > 10, "crashes before and after the merge: {seen:?}");
}

#[test]
fn a_crash_in_the_opening_after_a_crash_loses_nothing() {
    let disk = SimStore::new(Profile::Hostile, 9);
    let (mut run, mut dice) = (Run::new(&disk), Dice(9));
    for _ in 0..60 {
        run.step(&mut dice).unwrap();
    }
    let crashed = disk.power_loss();
    crashed.record();
    run.check(&crashed, run.owed);
    let moments = crashed.moments();
    assert!(moments.len() > 2, "opening changes something");
    for again in moments.iter().flat_map(|moment| moment.power_losses(20)) {
        run.check(&again, run.owed);
    }
}

#[test]
fn no_failing_store_call_loses_what_was_acknowledged() {
    let mut failed = 0;
    for (round, after) in (0..240).step_by(3).enumerate() {
        let disk = SimStore::new(Profile::Ext4, after);
        let (mut run, mut dice) = (Run::new(&disk), Dice(after % 5));
        let kinds = [
            SimFaultKind::Errno(5),
            SimFaultKind::Short(std::io::ErrorKind::Other),
            SimFaultKind::Late(std::io::ErrorKind::Other),
            SimFaultKind::Error(std::io::ErrorKind::StorageFull),
        ];
        disk.inject(SimFault::new(kinds[round % 4]).after(after));
        for _ in 0..80 {
            // A poisoned log goes on failing, and acknowledges nothing.
            failed += usize::from(run.step(&mut dice).is_err());
        }
        for lost in disk.power_losses(4).chain([disk.power_loss()]) {
            run.check(&lost, run.owed);
        }
    }
    assert!(failed > 80, "{failed} calls failed");
}

#[test]
fn a_failed_sync_is_told_and_what_the_graph_shows_is_read_only_from_then_on() {
    let disk = SimStore::new(Profile::Ext4, 3);
    let graph = open(&disk);
    graph.create("safe", "thing").unwrap();
    graph.sync().unwrap();
    graph.create("lost", "thing").unwrap();
    disk.inject(SimFault::new(SimFaultKind::Errno(5)).on(SimCall::Sync));
    assert!(matches!(graph.sync(), Err(GraphError::Wal(_))));
    let before = graph.read().clone();
    let refused = graph.merge("lost", "safe").unwrap_err();
    assert!(matches!(refused, GraphError::Wal(WalError::Poisoned { .. })), "{refused}");
    assert_eq!(*graph.read(), before, "a merge that was not appended does not show");
    assert!(open(&disk.power_loss()).read().entity("safe").is_some());
}

#[test]
fn what_nobody_syncs_is_durable_within_the_interval() {
    let disk = SimStore::new(Profile::Ext4, 4);
    // As the program opens it: the interval is the program's.
    let options = options().segment_bytes(16 << 10).ring_bytes(64 << 10);
    let wal = Arc::new(options.open_store(disk.clone()).unwrap());
    let (graph, _) = Graph::open(Arc::clone(&wal)).unwrap();
    for number in 0..10 {
        graph.create(&format!("entity {number}"), "thing").unwrap();
        let end = wal.end_lsn();
        wait_until_durable(&wal, end);
        assert_eq!(*open(&disk.power_loss()).read(), *graph.read());
    }
    assert_eq!(wal.stats().commits, 0, "nobody asked for it");
}

/// Waits without asking for it.
fn wait_until_durable(wal: &Wal<SimStore>, end: cohort_wal::Lsn) {
    for _ in 0..2_000 {
        if wal.durable_lsn() >= end {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("nothing makes it durable");
}

/// A batch that is larger than the ring, on a full disk: the place where a log may skip bytes.
#[test]
fn a_merge_that_finds_the_disk_full_changes_nothing_and_succeeds_when_there_is_space() {
    let disk = SimStore::new(Profile::Ext4, 5);
    let graph = open(&disk);
    graph.create("old", "thing").unwrap();
    graph.create("new", "thing").unwrap();
    for number in 0..30 {
        graph.observe("old", &[&format!("{number} {}", "z".repeat(4000))]).unwrap();
    }
    graph.compact().unwrap();
    let before = graph.read().clone();
    disk.set_capacity(Some(disk.bytes()));
    let refused = graph.merge("old", "new").unwrap_err();
    assert!(matches!(refused, GraphError::Wal(WalError::StorageFull { .. })), "{refused}");
    assert_eq!(*graph.read(), before);
    // Whole or not at all also for who dies now.
    let killed = disk.kill();
    killed.set_capacity(None);
    let left = open(&killed).read().clone();
    assert!(left == before || left.entity("old").is_none());

    disk.set_capacity(None);
    graph.compact().unwrap();
    assert_eq!(*open(&disk.power_loss()).read(), before);
    graph.merge("old", "new").unwrap();
    let merged = graph.read().clone();
    graph.sync().unwrap();
    assert_eq!(merged.entity("new").unwrap().observations.len(), 30);
    assert_eq!(*open(&disk.power_loss()).read(), merged);
    graph.compact().unwrap();
    assert_eq!(*open(&disk.power_loss()).read(), merged);
}
