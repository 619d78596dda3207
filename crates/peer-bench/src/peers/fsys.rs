//! fsys: its journal without the window that would delay a lone committer.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::fsys::observer::{FsysObserver, JournalSyncEvent};
use ::fsys::{JournalHandle, JournalOptions, JournalReader};

use super::{Log, Peer, Sink};
use crate::Fallible;

pub(super) const PEER: Peer = Peer {
    name: "fsys",
    version: "1.1.3",
    buffered: Some("page cache: one pwrite a record"),
    durable: "fdatasync before return, sticky errors",
    settings: "buffered journal in one growing file, group-commit window off (its default of \
               500 us delays every lone committer); commits share a sync one caller makes",
    open,
    read_back: Some(read_back),
};

const FILE: &str = "log.journal";

#[derive(Debug, Default)]
struct Count(AtomicU64);

impl FsysObserver for Count {
    fn on_journal_sync(&self, _event: JournalSyncEvent) {
        // ORDERING: Relaxed, a count that is read when all threads are done.
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

struct Fsys {
    journal: JournalHandle,
    count: Arc<Count>,
}

fn open(dir: &Path) -> Fallible<Box<dyn Log>> {
    let count = Arc::new(Count::default());
    let fs = ::fsys::builder().root(dir).observer(Arc::clone(&count) as _).build()?;
    let options = JournalOptions::new().group_commit_window(None);
    Ok(Box::new(Fsys { journal: fs.journal_with(FILE, options)?, count }))
}

impl Log for Fsys {
    fn append(&self, record: &[u8]) -> Fallible<()> {
        self.journal.append(record)?;
        Ok(())
    }

    /// Nothing to do: `append` is a pwrite.
    fn flush(&self) -> Fallible<()> {
        Ok(())
    }

    fn commit(&self, record: &[u8]) -> Fallible<()> {
        let lsn = self.journal.append(record)?;
        Ok(self.journal.sync_through(lsn)?)
    }

    fn syncs(&self) -> Option<u64> {
        // ORDERING: Relaxed, as above.
        Some(self.count.0.load(Ordering::Relaxed))
    }
}

fn read_back(dir: &Path, sink: Sink<'_>) -> Fallible<()> {
    let mut reader = JournalReader::open(&dir.join(FILE))?;
    reader.advise_sequential()?;
    for record in reader.iter() {
        sink(&record?.payload);
    }
    Ok(())
}
