//! wal-db with its defaults, over its own file store with a count of the syncs.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use wal_db::{FileStore, Result, Wal, WalStore};

use super::{Log, Peer, Sink};
use crate::Fallible;

pub(super) const PEER: Peer = Peer {
    name: "wal-db",
    version: "1.1.0",
    buffered: Some("page cache: one pwrite a record"),
    durable: "fdatasync before return; a follower of a failed sync may still get Ok",
    settings: "defaults: one growing file; commits share a sync that one of the callers makes",
    open,
    read_back: Some(read_back),
};

const FILE: &str = "log.wal";

struct Counted {
    store: FileStore,
    syncs: Arc<AtomicU64>,
}

impl WalStore for Counted {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        self.store.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<usize> {
        self.store.read_at(offset, buf)
    }

    fn truncate(&self, len: u64) -> Result<()> {
        self.store.truncate(len)
    }

    fn sync(&self) -> Result<()> {
        // ORDERING: Relaxed, a count that is read when all threads are done.
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.store.sync()
    }

    fn len(&self) -> Result<u64> {
        self.store.len()
    }
}

struct WalDb {
    wal: Wal<Counted>,
    syncs: Arc<AtomicU64>,
}

fn open(dir: &Path) -> Fallible<Box<dyn Log>> {
    let syncs = Arc::new(AtomicU64::new(0));
    let store = Counted { store: FileStore::open(dir.join(FILE))?, syncs: Arc::clone(&syncs) };
    Ok(Box::new(WalDb { wal: Wal::with_store(store)?, syncs }))
}

impl Log for WalDb {
    fn append(&self, record: &[u8]) -> Fallible<()> {
        self.wal.append(record).map(drop)?;
        Ok(())
    }

    /// Nothing to do: `append` is a pwrite.
    fn flush(&self) -> Fallible<()> {
        Ok(())
    }

    fn commit(&self, record: &[u8]) -> Fallible<()> {
        self.wal.append_and_sync(record).map(drop)?;
        Ok(())
    }

    fn syncs(&self) -> Option<u64> {
        // ORDERING: Relaxed, as above.
        Some(self.syncs.load(Ordering::Relaxed))
    }
}

fn read_back(dir: &Path, sink: Sink<'_>) -> Fallible<()> {
    let wal = Wal::open(dir.join(FILE))?;
    for record in wal.iter()? {
        sink(record?.data());
    }
    Ok(())
}
