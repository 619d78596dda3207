//! writeahead with its defaults, over its own file with a count of the syncs.
//!
//! It has no buffered append: a write is acknowledged when it is durable. Its interface is async;
//! each thread drives its own future.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use ::writeahead::{FileIo, SimpleFile, WriteAhead, WriteAheadOptions, WriteHandle};
use futures::StreamExt;
use futures::executor::block_on;

use super::{Log, Peer, Sink};
use crate::Fallible;

pub(super) const PEER: Peer = Peer {
    name: "writeahead",
    version: "0.4.1",
    buffered: None,
    durable: "fdatasync before return",
    settings: "defaults: files of 1 GiB zero-filled in windows of 256 KiB; a writer thread drains \
               a queue of 64 commands into one write and one sync",
    open,
    read_back: Some(read_back),
};

/// Of the process: the trait opens files without a context. Runs are never at the same time.
static SYNCS: AtomicU64 = AtomicU64::new(0);

#[derive(Debug)]
struct Counted(SimpleFile);

impl FileIo for Counted {
    fn open(path: &Path) -> anyhow::Result<Self> {
        SimpleFile::open(path).map(Self)
    }

    fn open_existing(path: &Path) -> anyhow::Result<Self> {
        SimpleFile::open_existing(path).map(Self)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> anyhow::Result<()> {
        self.0.read_at(offset, buf)
    }

    fn write_at(&mut self, offset: u64, data: &[u8]) -> anyhow::Result<()> {
        self.0.write_at(offset, data)
    }

    fn sync(&mut self) -> anyhow::Result<()> {
        // ORDERING: Relaxed, a count that is read when all threads are done.
        SYNCS.fetch_add(1, Ordering::Relaxed);
        self.0.sync()
    }

    fn len(&self) -> anyhow::Result<u64> {
        self.0.len()
    }

    fn set_len(&mut self, len: u64) -> anyhow::Result<()> {
        self.0.set_len(len)
    }
}

struct Ahead {
    handle: WriteHandle,
    syncs_before: u64,
}

fn start<F: FileIo + 'static>(dir: &Path) -> Fallible<WriteAhead<F>> {
    let options = WriteAheadOptions { log_dir: dir.to_path_buf(), ..WriteAheadOptions::default() };
    let mut wal = WriteAhead::<F>::with_options(options);
    wal.start()?;
    Ok(wal)
}

fn open(dir: &Path) -> Fallible<Box<dyn Log>> {
    let handle = start::<Counted>(dir)?.writer()?;
    // ORDERING: Relaxed, as above.
    Ok(Box::new(Ahead { handle, syncs_before: SYNCS.load(Ordering::Relaxed) }))
}

impl Log for Ahead {
    fn append(&self, _record: &[u8]) -> Fallible<()> {
        Err("writeahead has no buffered append".into())
    }

    fn flush(&self) -> Fallible<()> {
        Ok(())
    }

    fn commit(&self, record: &[u8]) -> Fallible<()> {
        block_on(self.handle.write(record.to_vec()))?;
        Ok(())
    }

    fn fill(&self, lot: Vec<Vec<u8>>) -> Fallible<()> {
        block_on(self.handle.write_batch(lot))?;
        Ok(())
    }

    fn syncs(&self) -> Option<u64> {
        // ORDERING: Relaxed, as above.
        Some(SYNCS.load(Ordering::Relaxed) - self.syncs_before)
    }
}

fn read_back(dir: &Path, sink: Sink<'_>) -> Fallible<()> {
    let wal = start::<SimpleFile>(dir)?;
    let mut stream = wal.create_stream()?;
    block_on(async {
        while let Some(record) = stream.next().await {
            sink(&record?.1);
        }
        Ok(())
    })
}
