//! The death of the process: every acknowledged change is there, and no merge by half.
//!
//! Method: the test runs its own binary again as a child, which changes a graph from several
//! threads, compacts it, and says on standard output what is durable. The parent kills it
//! (SIGKILL) after some reports, reads on to the end of the pipe, and opens the graph. All rounds
//! share one directory, and every round checks what all rounds before it were told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures of the cookbook")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::thread;

use cohort_wal::{MemStore, WalOptions, WalStore};
use knowledge_graph::{Entity, Graph, Knowledge, look, options};

const TEST: &str = "what_a_killed_process_acknowledged_survives_and_no_merge_by_half";
const DIR: &str = "KNOWLEDGE_GRAPH_TEST_DIR";
const ROUND: &str = "KNOWLEDGE_GRAPH_TEST_ROUND";

const ROUNDS: usize = 8;
const WRITERS: usize = 3;
/// Changes that a writer makes about one person, in this order.
const STAGES: usize = 6;

/// Makes one of the changes about a person, who is first known by an alias.
fn change<S: WalStore>(graph: &Graph<S>, person: &str, stage: usize) {
    let alias = format!("alias of {person}");
    let made = match stage {
        1 => graph.create(person, "person"),
        2 => graph.create(&alias, "alias"),
        3 => graph.observe(&alias, &["one", "two", "three"]),
        4 => graph.relate(&alias, "knows", "hub"),
        5 => graph.relate("hub", "knows", &alias),
        _ => graph.merge(&alias, person),
    };
    made.unwrap();
}

/// What is known of a person and the alias.
type About = (Option<Entity>, Option<Entity>);

fn about(known: &Knowledge, person: &str) -> About {
    let alias = known.entity(&format!("alias of {person}"));
    (known.entity(person).cloned(), alias.cloned())
}

/// What must be known after each stage, from stage 0 on: the same of everybody.
fn stages() -> Vec<About> {
    let person = "somebody";
    let wal = WalOptions::new().ring_bytes(64 << 10).open_store(MemStore::new()).unwrap();
    let (graph, _) = Graph::open(Arc::new(wal)).unwrap();
    graph.create("hub", "hub").unwrap();
    let mut stages = vec![about(&graph.read(), person)];
    for stage in 1..=STAGES {
        change(&graph, person, stage);
        stages.push(about(&graph.read(), person));
    }
    stages
}

/// Says a line to the parent, in one write.
fn say(what: &str) {
    let line = format!("child: {what}\n");
    // The parent may have stopped listening: then nobody is owed anything.
    std::io::stdout().lock().write_all(line.as_bytes()).ok();
}

/// Changes the graph until killed.
fn play_child(dir: &Path, round: &str) {
    let (graph, _) = Graph::open(Arc::new(options().open(dir).unwrap())).unwrap();
    if graph.read().is_empty() {
        graph.create("hub", "hub").unwrap();
    }
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let graph = &graph;
            scope.spawn(move || {
                for number in 0.. {
                    let person = format!("{round}.{writer}.{number}");
                    for stage in 1..=STAGES {
                        change(graph, &person, stage);
                        // Not after every one, so that there is something to lose.
                        if (number + stage) % 2 == 0 {
                            graph.sync().unwrap();
                            say(&format!("{person} {stage}"));
                        }
                    }
                }
            });
        }
        loop {
            graph.compact().unwrap();
        }
    });
}

/// A child process; killed when dropped.
struct Kin {
    child: Child,
    said: BufReader<ChildStdout>,
}

impl Kin {
    fn spawn(dir: &Path, round: usize) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([TEST, "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir)
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        Self { child, said }
    }

    /// The next person and stage that the child vouches for; `None` at the end.
    fn hear(&mut self) -> Option<(String, usize)> {
        let mut line = String::new();
        loop {
            line.clear();
            self.said.read_line(&mut line).unwrap();
            if !line.ends_with('\n') {
                return None;
            }
            // The harness says things too, and may begin a line that the child ends.
            if let Some((_, said)) = line.trim_end().split_once("child: ") {
                let (person, stage) = said.split_once(' ').unwrap();
                return Some((person.to_owned(), stage.parse().unwrap()));
            }
        }
    }
}

impl Drop for Kin {
    fn drop(&mut self) {
        // It may be gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Fails unless everybody is at a stage that there is, and none before the acknowledged one.
fn check(known: &Knowledge, stages: &[About], owed: &BTreeMap<String, usize>) {
    let people = known.entities().filter(|(_, entity)| entity.kind == "person");
    let people: Vec<_> = people.map(|(name, _)| name.to_owned()).collect();
    for person in people.iter().chain(owed.keys()) {
        let least = owed.get(person).copied().unwrap_or(0);
        let about = about(known, person);
        assert!(stages[least..].contains(&about), "{person} is not at stage {least}: {about:?}");
    }
    for (name, _) in known.entities().filter(|(_, entity)| entity.kind == "alias") {
        let person = name.strip_prefix("alias of ").unwrap();
        assert!(known.entity(person).is_some(), "{name} is there alone");
    }
}

#[test]
fn what_a_killed_process_acknowledged_survives_and_no_merge_by_half() {
    if let Some(dir) = std::env::var_os(DIR) {
        return play_child(Path::new(&dir), &std::env::var(ROUND).unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let stages = stages();
    let mut owed = BTreeMap::new();
    let mut reports = 0;
    for round in 0..ROUNDS {
        let owed_before = owed.clone();
        let mut child = Kin::spawn(dir.path(), round);
        for _ in 0..5 + (round * 37) % 90 {
            let (person, stage) = child.hear().expect("the child dies when it is killed");
            owed.insert(person, stage);
            reports += 1;
        }
        // Beside the child, without a lock: a reader lags behind what the child vouches for, and
        // shows no half either.
        check(&look(dir.path()).unwrap().0, &stages, &owed_before);
        child.child.kill().unwrap();
        while let Some((person, stage)) = child.hear() {
            owed.insert(person, stage);
            reports += 1;
        }
        drop(child);

        let wal = Arc::new(options().open(dir.path()).unwrap());
        let (graph, replay) = Graph::open(wal).unwrap();
        assert!(replay.misfits.is_empty() && replay.unknown.is_empty(), "{replay:?}");
        check(&graph.read(), &stages, &owed);
        graph.close().unwrap();
    }
    println!("{ROUNDS} kills, {reports} acknowledgements, {} people", owed.len());
}
