//! raft-engine with its defaults, without compression, over its own files with a count of syncs.
//!
//! A record is a Raft entry, and each thread has a region of its own, because entries of a region
//! must come in order. The engine keeps an index entry in memory for each of them.

use std::io::Result;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::protobuf::well_known_types::BytesValue;
use ::raft_engine::env::{DefaultFileSystem, FileSystem, Handle, Permission};
use ::raft_engine::{Config, Engine, LogBatch, MessageExt, ReadableSize};

use super::{Log, Peer, Sink};
use crate::Fallible;
use crate::records::identify;

pub(super) const PEER: Peer = Peer {
    name: "raft-engine",
    version: "0.4.2",
    buffered: Some("page cache: one write a group"),
    durable: "fdatasync before return; a failed sync ends the process",
    settings: "defaults without compression: files of 128 MiB allocated ahead, not written; a \
               leader writes for a queue of callers and makes one sync",
    open,
    read_back: Some(read_back),
};

type Base = <DefaultFileSystem as FileSystem>::Handle;

struct CountedFiles {
    files: DefaultFileSystem,
    syncs: Arc<AtomicU64>,
}

struct Counted {
    handle: Arc<Base>,
    syncs: Arc<AtomicU64>,
}

impl CountedFiles {
    fn wrap(&self, handle: Base) -> Counted {
        Counted { handle: Arc::new(handle), syncs: Arc::clone(&self.syncs) }
    }
}

impl FileSystem for CountedFiles {
    type Handle = Counted;
    type Reader = <DefaultFileSystem as FileSystem>::Reader;
    type Writer = <DefaultFileSystem as FileSystem>::Writer;

    fn create<P: AsRef<Path>>(&self, path: P) -> Result<Counted> {
        Ok(self.wrap(self.files.create(path)?))
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> Result<Counted> {
        Ok(self.wrap(self.files.open(path, permission)?))
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> Result<()> {
        self.files.delete(path)
    }

    fn rename<P: AsRef<Path>>(&self, source: P, target: P) -> Result<()> {
        self.files.rename(source, target)
    }

    fn new_reader(&self, handle: Arc<Counted>) -> Result<Self::Reader> {
        self.files.new_reader(Arc::clone(&handle.handle))
    }

    fn new_writer(&self, handle: Arc<Counted>) -> Result<Self::Writer> {
        self.files.new_writer(Arc::clone(&handle.handle))
    }
}

impl Handle for Counted {
    fn truncate(&self, offset: usize) -> Result<()> {
        self.handle.truncate(offset)
    }

    fn file_size(&self) -> Result<usize> {
        self.handle.file_size()
    }

    fn sync(&self) -> Result<()> {
        // ORDERING: Relaxed, a count that is read when all threads are done.
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.handle.sync()
    }
}

struct Entries;

impl MessageExt for Entries {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        identify(&entry.value).map_or(0, |(_, counter)| counter + 1)
    }
}

fn config(dir: &Path) -> Config {
    Config {
        dir: dir.to_string_lossy().into_owned(),
        batch_compression_threshold: ReadableSize(0),
        ..Config::default()
    }
}

struct Raft<E> {
    engine: E,
    syncs: Arc<AtomicU64>,
}

fn open(dir: &Path) -> Fallible<Box<dyn Log>> {
    let syncs = Arc::new(AtomicU64::new(0));
    let files = CountedFiles { files: DefaultFileSystem, syncs: Arc::clone(&syncs) };
    let engine = Engine::open_with_file_system(config(dir), Arc::new(files))?;
    let write = move |batch: &mut LogBatch, sync: bool| -> Fallible<()> {
        engine.write(batch, sync)?;
        Ok(())
    };
    Ok(Box::new(Raft { engine: write, syncs }))
}

impl<E: Fn(&mut LogBatch, bool) -> Fallible<()>> Raft<E> {
    fn put(&self, record: &[u8], sync: bool) -> Fallible<()> {
        let (thread, _) = identify(record).ok_or("a record that names no thread")?;
        let mut entry = BytesValue::new();
        entry.value = record.to_vec();
        let mut batch = LogBatch::with_capacity(1);
        batch.add_entries::<Entries>(thread + 1, &[entry])?;
        (self.engine)(&mut batch, sync)
    }
}

impl<E: Fn(&mut LogBatch, bool) -> Fallible<()> + Send + Sync> Log for Raft<E> {
    fn append(&self, record: &[u8]) -> Fallible<()> {
        self.put(record, false)
    }

    /// Nothing to do: `append` is a write.
    fn flush(&self) -> Fallible<()> {
        Ok(())
    }

    fn commit(&self, record: &[u8]) -> Fallible<()> {
        self.put(record, true)
    }

    fn syncs(&self) -> Option<u64> {
        // ORDERING: Relaxed, as above.
        Some(self.syncs.load(Ordering::Relaxed))
    }
}

fn read_back(dir: &Path, sink: Sink<'_>) -> Fallible<()> {
    const LOT: u64 = 1024;
    let engine = Engine::open(config(dir))?;
    for region in engine.raft_groups() {
        let (first, last) =
            engine.first_index(region).zip(engine.last_index(region)).unwrap_or((1, 0));
        let mut lot = Vec::new();
        let mut next = first;
        while next <= last {
            let end = (next + LOT).min(last + 1);
            engine.fetch_entries_to::<Entries>(region, next, end, None, &mut lot)?;
            lot.drain(..).for_each(|entry: BytesValue| sink(&entry.value));
            next = end;
        }
    }
    Ok(())
}
