//! open-wal: one writer, so that threads take turns behind a mutex, each with its own commit.
//!
//! Sharing a sync is left to the caller by design, and none is added here: with several threads
//! its figures show what the crate does on its own. There is no flush without a sync, so that it
//! has no part in the buffered load.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use ::open_wal::{Lsn, Wal, WalConfig};

use super::{Log, Peer, Sink};
use crate::Fallible;

pub(super) const PEER: Peer = Peer {
    name: "open-wal",
    version: "0.2.1",
    buffered: None,
    durable: "fdatasync before return, sticky errors",
    settings: "defaults: segments of 128 MiB allocated ahead, not written; a single writer, here \
               behind a mutex, a commit a sync (two where a commit crosses segments)",
    open,
    read_back: Some(read_back),
};

struct Open {
    wal: Mutex<Wal>,
    commits: AtomicU64,
}

fn open(dir: &Path) -> Fallible<Box<dyn Log>> {
    let (wal, _) = Wal::open(dir, WalConfig::default())?;
    Ok(Box::new(Open { wal: Mutex::new(wal), commits: AtomicU64::new(0) }))
}

impl Log for Open {
    fn append(&self, _record: &[u8]) -> Fallible<()> {
        Err("open-wal cannot flush without a sync".into())
    }

    fn flush(&self) -> Fallible<()> {
        Ok(())
    }

    fn commit(&self, record: &[u8]) -> Fallible<()> {
        let mut wal = self.wal.lock().map_err(|_| "a writer panicked")?;
        wal.append(record)?;
        wal.commit()?;
        // ORDERING: Relaxed, a count that is read when all threads are done.
        self.commits.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn fill(&self, lot: Vec<Vec<u8>>) -> Fallible<()> {
        let mut wal = self.wal.lock().map_err(|_| "a writer panicked")?;
        for record in lot {
            wal.append(&record)?;
        }
        wal.commit()?;
        Ok(())
    }

    fn syncs(&self) -> Option<u64> {
        // ORDERING: Relaxed, as above.
        Some(self.commits.load(Ordering::Relaxed))
    }
}

fn read_back(dir: &Path, sink: Sink<'_>) -> Fallible<()> {
    let (wal, _) = Wal::open(dir, WalConfig::default())?;
    let mut reader = wal.reader_from(Lsn::NONE)?;
    while let Some(record) = reader.next() {
        sink(record?.1);
    }
    Ok(())
}
