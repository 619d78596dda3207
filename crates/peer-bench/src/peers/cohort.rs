//! cohort-wal with its defaults.

use std::path::Path;

use cohort_wal::Wal;

use super::{Log, Peer, Sink};
use crate::Fallible;

pub(super) const PEER: Peer = Peer {
    name: "cohort-wal",
    version: env!("CARGO_PKG_VERSION"),
    buffered: Some("order only: in the process until a flush"),
    durable: "fdatasync before return, sticky errors",
    settings: "defaults: 64 MiB zero-filled segments, 16 MiB ring, adaptive gather; commits share \
               a sync as a cohort led by one of the callers",
    open,
    read_back: Some(read_back),
};

fn open(dir: &Path) -> Fallible<Box<dyn Log>> {
    Ok(Box::new(Wal::open(dir)?))
}

impl Log for Wal {
    fn append(&self, record: &[u8]) -> Fallible<()> {
        self.append(record)?;
        Ok(())
    }

    fn flush(&self) -> Fallible<()> {
        Ok(self.flush()?)
    }

    fn commit(&self, record: &[u8]) -> Fallible<()> {
        self.append_and_sync(record)?;
        Ok(())
    }

    fn syncs(&self) -> Option<u64> {
        Some(self.stats().syncs)
    }
}

fn read_back(dir: &Path, sink: Sink<'_>) -> Fallible<()> {
    let wal = Wal::open(dir)?;
    let mut records = wal.iter()?;
    while let Some(record) = records.read_next() {
        sink(record?.data());
    }
    Ok(())
}
