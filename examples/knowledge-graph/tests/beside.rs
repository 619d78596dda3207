//! Changes beside a compaction: the store holds the image up until somebody has made some.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "../../../tests/common/faulty.rs"]
mod faulty;

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use cohort_wal::MemStore;
use knowledge_graph::{Graph, options};

use faulty::{FaultyStore, Op};

#[test]
fn changes_go_on_while_an_image_is_made_and_come_behind_it() {
    let disk = MemStore::new();
    let (store, script) = FaultyStore::over(disk.clone());
    let (graph, _) = Graph::open(Arc::new(options().open_store(store).unwrap())).unwrap();
    graph.create("before", "thing").unwrap();
    let ((tell, told), (go_on, held)) = (mpsc::channel(), mpsc::channel());
    let (held, changed) = (Mutex::new(held), Arc::new(AtomicBool::new(false)));
    let seen = Arc::clone(&changed);
    script.hook(move |op, name| {
        if op == Op::Publish && name.ends_with(".snap") {
            tell.send(()).unwrap();
            seen.store(held.lock().unwrap().recv_timeout(Duration::from_secs(20)).is_ok(), SeqCst);
        }
    });
    let made = thread::scope(|scope| {
        let compaction = scope.spawn(|| graph.compact().unwrap());
        told.recv().unwrap();
        graph.create("beside", "thing").unwrap();
        graph.merge("before", "beside").unwrap();
        graph.sync().unwrap();
        // It has given up when nothing could be changed.
        go_on.send(()).ok();
        compaction.join().unwrap()
    });
    assert!(changed.load(SeqCst), "changes wait for the compaction");
    graph.close().unwrap();

    let (graph, replay) = Graph::open(Arc::new(options().open_store(disk).unwrap())).unwrap();
    assert_eq!((replay.image, replay.records), (Some(made), 2));
    assert_eq!(graph.read().entities().map(|(name, _)| name).collect::<Vec<_>>(), ["beside"]);
}
