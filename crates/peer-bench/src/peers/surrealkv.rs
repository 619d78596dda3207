//! surrealkv: a transaction a record, in a memtable so large that no table is written meanwhile.
//!
//! It is a key-value store and not a log: a commit also inserts into a memtable, and a replay also
//! builds one. Its syncs cannot be counted from within.

use std::path::Path;

use ::surrealkv::{Durability, LSMIterator, Mode, Tree, TreeBuilder};
use tokio::runtime::{Builder, Runtime};

use super::{Log, Peer, Sink};
use crate::Fallible;

pub(super) const PEER: Peer = Peer {
    name: "surrealkv",
    version: "1.2.0",
    buffered: Some("page cache or better: a transaction of eventual durability"),
    durable: "fsync before return, sticky errors",
    settings: "memtable of 1 GiB, no compression; transactions share a sync in a commit pipeline; \
               a key-value store, whose commit does more than a log's",
    open,
    read_back: Some(read_back),
};

const MEMTABLE_BYTES: usize = 1 << 30;
const KEY_BYTES: usize = 16;

struct Surreal {
    runtime: Runtime,
    tree: Tree,
}

fn start(dir: &Path) -> Fallible<Surreal> {
    let runtime = Builder::new_multi_thread().enable_all().build()?;
    let inside = runtime.enter();
    let tree = TreeBuilder::new()
        .with_path(dir.to_path_buf())
        .with_max_memtable_size(MEMTABLE_BYTES)
        .with_flush_on_close(false)
        .without_compression()
        .build()?;
    drop(inside);
    Ok(Surreal { runtime, tree })
}

fn open(dir: &Path) -> Fallible<Box<dyn Log>> {
    Ok(Box::new(start(dir)?))
}

impl Surreal {
    fn put(&self, record: &[u8], durability: Durability) -> Fallible<()> {
        let key = record.get(..KEY_BYTES).ok_or("a record without a key")?;
        let mut transaction =
            self.tree.begin_with_mode(Mode::WriteOnly)?.with_durability(durability);
        transaction.set(key, record)?;
        Ok(self.runtime.block_on(transaction.commit())?)
    }
}

impl Drop for Surreal {
    fn drop(&mut self) {
        // What cannot be closed shows when it is read back.
        self.runtime.block_on(self.tree.close()).ok();
    }
}

impl Log for Surreal {
    fn append(&self, record: &[u8]) -> Fallible<()> {
        self.put(record, Durability::Eventual)
    }

    fn flush(&self) -> Fallible<()> {
        Ok(self.tree.flush_wal(false)?)
    }

    fn commit(&self, record: &[u8]) -> Fallible<()> {
        self.put(record, Durability::Immediate)
    }

    fn syncs(&self) -> Option<u64> {
        None
    }
}

fn read_back(dir: &Path, sink: Sink<'_>) -> Fallible<()> {
    let store = start(dir)?;
    let transaction = store.tree.begin_with_mode(Mode::ReadOnly)?;
    let mut records = transaction.iter()?;
    records.seek_first()?;
    while records.valid() {
        sink(&records.value_ref()?);
        records.next()?;
    }
    Ok(())
}
