//! What the graph does and refuses, and what it reads back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cohort_wal::{Lsn, MemStore, Wal, WalError, WalOptions};
use knowledge_graph::{
    Change, Edge, Envelope, Graph, GraphError, Knowledge, MAX_NAME_BYTES, MAX_TEXT_BYTES, Replay,
    Unknown, options,
};

fn open_with(options: WalOptions, disk: &MemStore) -> (Graph<MemStore>, Replay) {
    Graph::open(Arc::new(options.open_store(disk.clone()).unwrap())).unwrap()
}

fn open(disk: &MemStore) -> (Graph<MemStore>, Replay) {
    open_with(options(), disk)
}

/// The log alone, as another program would use it.
fn log(disk: &MemStore) -> Wal<MemStore> {
    WalOptions::new().open_store(disk.clone()).unwrap()
}

fn edge(kind: &str, entity: &str) -> Edge {
    Edge { kind: kind.to_owned(), entity: entity.to_owned() }
}

/// Two entities that have something to merge, and two that they are related to.
fn populate(graph: &Graph<MemStore>) {
    for name in ["old", "new", "left", "right"] {
        graph.create(name, "thing").unwrap();
    }
    graph.observe("old", &["was first", "is round"]).unwrap();
    graph.observe("new", &["is round", "is blue"]).unwrap();
    graph.relate("old", "leads to", "right").unwrap();
    graph.relate("left", "leads to", "old").unwrap();
    graph.relate("old", "became", "new").unwrap();
    graph.relate("old", "is like", "old").unwrap();
}

#[test]
fn a_merge_moves_everything_and_the_graph_is_the_same_after_reopening() {
    let disk = MemStore::new();
    let (graph, _) = open(&disk);
    populate(&graph);
    graph.merge("old", "new").unwrap();
    {
        let known = graph.read();
        assert!(known.entity("old").is_none());
        let new = known.entity("new").unwrap();
        let texts: Vec<_> = new.observations.iter().map(String::as_str).collect();
        assert_eq!(texts, ["is blue", "is round", "was first"]);
        assert_eq!(Vec::from_iter(new.relations.clone()), [edge("leads to", "right")]);
        assert_eq!(Vec::from_iter(new.inbound.clone()), [edge("leads to", "left")]);
        let left = known.entity("left").unwrap();
        assert_eq!(Vec::from_iter(left.relations.clone()), [edge("leads to", "new")]);
    }
    let before = graph.read().clone();
    graph.close().unwrap();

    let (graph, replay) = open(&disk);
    assert_eq!(*graph.read(), before);
    assert_eq!((replay.image, replay.unknown.len(), replay.misfits.len()), (None, 0, 0));
}

#[test]
fn what_is_deleted_is_gone_from_both_ends_and_from_disk() {
    let disk = MemStore::new();
    let (graph, _) = open(&disk);
    populate(&graph);
    graph.forget("new", "is blue").unwrap();
    graph.unrelate("left", "leads to", "old").unwrap();
    assert!(graph.read().entity("old").unwrap().inbound.contains(&edge("is like", "old")));
    assert!(!graph.read().entity("old").unwrap().inbound.contains(&edge("leads to", "left")));
    graph.delete("old").unwrap();
    for (_, entity) in graph.read().entities() {
        assert!(entity.relations.is_empty() && entity.inbound.is_empty());
    }
    let before = graph.read().clone();
    graph.close().unwrap();
    assert_eq!(*open(&disk).0.read(), before);
}

#[test]
fn what_is_refused_appends_nothing_and_changes_nothing() {
    let (graph, log) = {
        let wal = Arc::new(options().open_store(MemStore::new()).unwrap());
        (Graph::open(Arc::clone(&wal)).unwrap().0, wal)
    };
    populate(&graph);
    let (end, before) = (log.end_lsn(), graph.read().clone());
    let name = "n".repeat(MAX_NAME_BYTES + 1);
    let text = "t".repeat(MAX_TEXT_BYTES + 1);

    let long = |result: Result<Lsn, GraphError>, expected: &str| {
        let error = result.unwrap_err();
        assert!(matches!(error, GraphError::TooLong { .. }), "{error}");
        assert_eq!(error.to_string(), expected);
    };
    long(graph.create(&name, "thing"), "the name has 257 bytes, more than 256");
    long(graph.create("x", &name), "the kind has 257 bytes, more than 256");
    long(graph.relate("old", &name, "new"), "the kind has 257 bytes, more than 256");
    // The first two are short enough, and are not added either.
    let texts = ["one", "two", text.as_str()];
    long(graph.observe("old", &texts), "the observation has 4097 bytes, more than 4096");

    let refused = |result: Result<Lsn, GraphError>| result.unwrap_err();
    assert!(matches!(refused(graph.create("old", "thing")), GraphError::Exists { .. }));
    assert!(matches!(refused(graph.create("", "thing")), GraphError::Empty { .. }));
    assert!(matches!(refused(graph.observe("old", &[])), GraphError::Empty { .. }));
    assert!(matches!(refused(graph.observe("none", &["x"])), GraphError::NoEntity { .. }));
    assert!(matches!(refused(graph.relate("old", "x", "none")), GraphError::NoEntity { .. }));
    assert!(matches!(refused(graph.forget("old", "is blue")), GraphError::NotThere { .. }));
    assert!(matches!(refused(graph.unrelate("old", "x", "new")), GraphError::NotThere { .. }));
    assert!(matches!(refused(graph.merge("old", "old")), GraphError::IntoItself { .. }));
    assert!(matches!(refused(graph.merge("old", "none")), GraphError::NoEntity { .. }));
    assert_eq!((log.end_lsn(), graph.read().clone()), (end, before));

    // As long as they may be.
    graph.create(&name[1..], &name[1..]).unwrap();
    graph.observe(&name[1..], &[&text[1..]]).unwrap();
}

#[test]
fn a_merge_that_is_too_large_for_a_batch_changes_nothing() {
    let disk = MemStore::new();
    let (graph, _) = open_with(options().max_batch_bytes(150), &disk);
    populate(&graph);
    let before = graph.read().clone();
    let refused = graph.merge("old", "new").unwrap_err();
    assert!(matches!(refused, GraphError::Wal(WalError::BatchTooLarge { .. })), "{refused}");
    assert_eq!(*graph.read(), before);
    graph.close().unwrap();
    assert_eq!(*open(&disk).0.read(), before);
}

/// A newer program, which knows a kind of record that this one does not.
fn write_as_newer(disk: &MemStore) -> Vec<Unknown> {
    let log = log(disk);
    let body = [0xff; 70];
    let new = Envelope { kind: 900, body: &body };
    let first = log.append_typed(&new).unwrap();
    // In the middle of what this program knows, and in a batch with it.
    let known = postcard_of(&Change::Observe { entity: "old", text: "is tall" });
    let empty = postcard::to_extend(&Envelope { kind: 65_535, body: b"" }, Vec::new()).unwrap();
    let batch = log.append_batch(&[known, empty]).unwrap();
    log.close().unwrap();
    vec![Unknown { lsn: first, kind: 900 }, Unknown { lsn: batch[1], kind: 65_535 }]
}

/// A payload, written by hand: `Change` keeps its encoding to itself.
fn postcard_of(change: &Change<'_>) -> Vec<u8> {
    let Change::Observe { entity, text } = *change else { panic!("only what the test needs") };
    let body = postcard::to_extend(&(entity, text), Vec::new()).unwrap();
    postcard::to_extend(&Envelope { kind: 2, body: &body }, Vec::new()).unwrap()
}

#[test]
fn records_of_a_newer_program_are_skipped_and_named_and_never_compacted_away() {
    let disk = MemStore::new();
    let (graph, _) = open(&disk);
    populate(&graph);
    graph.close().unwrap();
    let newer = write_as_newer(&disk);

    let (graph, replay) = open(&disk);
    assert_eq!(replay.unknown, newer);
    assert!(replay.misfits.is_empty());
    assert!(graph.read().entity("old").unwrap().observations.contains("is tall"));
    // It goes on, but makes no image in which those records are missing.
    graph.merge("old", "new").unwrap();
    let error = graph.compact().unwrap_err();
    assert!(
        matches!(error, GraphError::WrittenByNewer { records: 2, first } if first == newer[0].lsn),
        "{error}"
    );
    let before = graph.read().clone();
    graph.close().unwrap();

    let (graph, replay) = open(&disk);
    assert_eq!(*graph.read(), before);
    assert_eq!(replay.unknown, newer, "they are still there");
    assert!(replay.misfits.is_empty());
}

#[test]
fn an_image_of_a_newer_program_is_read_as_far_as_it_is_known() {
    let disk = MemStore::new();
    let log = log(&disk);
    let gone = log.append_typed(&Envelope { kind: 1, body: b"\x03old\x05thing" }).unwrap();
    let lsn = log.append_typed(&Envelope { kind: 2, body: b"\x03old\x07is blue" }).unwrap();
    assert!(gone < lsn);
    let image = b"\x01\x0a\x03old\x05thing\x84\x07\x02??\x02\x0d\x03old\x08is tall.";
    log.checkpoint(lsn, |out| out.write_all(image)).unwrap();
    log.close().unwrap();

    let (graph, replay) = open(&disk);
    assert_eq!(replay.unknown, [Unknown { lsn, kind: 900 }]);
    assert_eq!((replay.image, replay.records), (Some(lsn), 1));
    let known = graph.read();
    let texts = &known.entity("old").unwrap().observations;
    assert_eq!(Vec::from_iter(texts), ["is blue", "is tall."]);
    assert!(matches!(graph.compact(), Err(GraphError::WrittenByNewer { records: 1, .. })));
}

#[test]
fn what_two_programs_left_behind_in_turns_is_named_and_changes_nothing() {
    let disk = MemStore::new();
    let (graph, _) = open(&disk);
    populate(&graph);
    let before = graph.read().clone();
    graph.close().unwrap();
    let log = log(&disk);
    let lsn = log.append_typed(&Envelope { kind: 2, body: b"\x04none\x01x" }).unwrap();
    log.close().unwrap();
    let (graph, replay) = open(&disk);
    assert_eq!((replay.misfits, graph.read().clone()), (vec![lsn], before));
}

#[test]
fn a_log_of_something_else_is_refused_by_lsn() {
    for (payload, kind) in [(&b"\x06\x05\x03Ada."[..], Some(6)), (b"hello", None)] {
        let disk = MemStore::new();
        let log = log(&disk);
        log.append(b"\x84\x07\x00").unwrap();
        let lsn = log.append(payload).unwrap();
        log.close().unwrap();
        let wal = Arc::new(options().open_store(disk).unwrap());
        match (Graph::open(wal).unwrap_err(), kind) {
            (GraphError::Malformed { lsn: at, kind }, Some(expected)) => {
                assert_eq!((at, kind), (lsn, expected));
            }
            (GraphError::Wal(WalError::Decode { lsn: at, .. }), None) => assert_eq!(at, lsn),
            (other, _) => panic!("{other}"),
        }
    }
}

/// Creates and merges until told to stop.
fn churn(graph: &Graph<MemStore>, writer: usize, until: &AtomicBool) {
    for number in 0.. {
        let (old, new) = (format!("old {writer}.{number}"), format!("new {writer}.{number}"));
        graph.create(&new, "person").unwrap();
        graph.create(&old, "alias").unwrap();
        graph.observe(&old, &["one", "two", "three"]).unwrap();
        graph.relate(&old, "knows", "hub").unwrap();
        graph.relate("hub", "knows", &old).unwrap();
        graph.merge(&old, &new).unwrap();
        if number % 3 == 0 {
            graph.delete(&new).unwrap();
        }
        if number >= 20 && until.load(Ordering::Acquire) {
            return;
        }
    }
}

/// Fails where a merge shows by half.
fn assert_whole(known: &Knowledge) {
    for (name, person) in known.entities().filter(|(_, entity)| entity.kind == "person") {
        let alias = known.entity(&name.replace("new", "old"));
        let got = (person.observations.len(), person.relations.len(), person.inbound.len());
        assert!(got == (0, 0, 0) || (got == (3, 1, 1) && alias.is_none()), "{name}: {got:?}");
    }
}

#[test]
fn compactions_beside_writers_lose_nothing_double_nothing_and_show_no_half() {
    let disk = MemStore::new();
    let (graph, _) = open(&disk);
    graph.create("hub", "hub").unwrap();
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..3 {
            let (graph, enough) = (&graph, &enough);
            scope.spawn(move || churn(graph, writer, enough));
        }
        scope.spawn(|| {
            while !enough.load(Ordering::Acquire) {
                assert_whole(&graph.read());
                thread::yield_now();
            }
        });
        for _ in 0..5 {
            // Two at a time: they take turns.
            thread::scope(|pair| {
                pair.spawn(|| graph.compact().unwrap());
                pair.spawn(|| graph.compact().unwrap());
            });
        }
        enough.store(true, Ordering::Release);
    });
    let before = graph.read().clone();
    let last = graph.compact().unwrap();
    // Behind the last image there is something, too.
    graph.create("late", "thing").unwrap();
    graph.close().unwrap();

    let (graph, replay) = open(&disk);
    assert_eq!((replay.image, replay.records), (Some(last), 1));
    graph.delete("late").unwrap();
    assert_eq!(*graph.read(), before);
    assert!(replay.misfits.is_empty());
}

/// The state behind every image that was made beside writers, not only the last one.
#[test]
fn every_image_is_exactly_what_is_below_its_lsn() {
    for round in 0..12 {
        let disk = MemStore::new();
        let (graph, _) = open(&disk);
        graph.create("hub", "hub").unwrap();
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            for writer in 0..2 {
                let (graph, enough) = (&graph, &enough);
                scope.spawn(move || churn(graph, writer, enough));
            }
            graph.compact().unwrap();
            enough.store(true, Ordering::Release);
        });
        let before = graph.read().clone();
        graph.close().unwrap();
        let (graph, replay) = open(&disk);
        assert!(replay.misfits.is_empty(), "round {round}: {:?}", replay.misfits);
        assert_eq!(*graph.read(), before, "round {round}");
    }
}
