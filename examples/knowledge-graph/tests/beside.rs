//! Changes beside a compaction: the store holds the image up until somebody has made some.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../../tests/common/faulty.rs"]
mod faulty;

use std::sync::Arc;
use std::thread;

use cohort_wal::MemStore;
use knowledge_graph::{Graph, options};

use faulty::{FaultyStore, Op};

#[test]
fn changes_go_on_while_an_image_is_made_and_come_behind_it() {
    let disk = MemStore::new();
    let (store, script) = FaultyStore::over(disk.clone());
    let (graph, _) = Graph::open(Arc::new(options().open_store(store).unwrap())).unwrap();
    graph.create("before", "thing").unwrap();
    let image = script.hold(Op::Publish, ".snap");
    let made = thread::scope(|scope| {
        let compaction = scope.spawn(|| graph.compact().unwrap());
        image.wait_for_arrival();
        graph.create("beside", "thing").unwrap();
        graph.merge("before", "beside").unwrap();
        graph.sync().unwrap();
        image.open();
        compaction.join().expect("changes do not wait for it")
    });
    graph.close().unwrap();

    let (graph, replay) = Graph::open(Arc::new(options().open_store(disk).unwrap())).unwrap();
    assert_eq!((replay.image, replay.records), (Some(made), 2));
    assert_eq!(graph.read().entities().map(|(name, _)| name).collect::<Vec<_>>(), ["beside"]);
}
