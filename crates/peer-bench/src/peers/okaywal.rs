//! okaywal with segments as large as ours and checkpoints off, so that nothing is dropped.
//!
//! It has no buffered append: an entry is committed or rolled back. Its syncs cannot be counted
//! from within; a commit of one thread is one.

use std::path::Path;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::{fmt, io};

use ::okaywal::{Configuration, Entry, EntryId, LogManager, LogVoid, SegmentReader, WriteAheadLog};

use super::{Log, Peer, Sink};
use crate::Fallible;

pub(super) const PEER: Peer = Peer {
    name: "okaywal",
    version: "0.3.1",
    buffered: None,
    durable: "fdatasync before return; after a failed sync later commits wait for ever",
    settings: "64 MiB zero-filled segments, no checkpoints, 16 KiB buffer; commits share a sync \
               that one of the callers makes",
    open,
    read_back: Some(read_back),
};

const SEGMENT_BYTES: u32 = 64 << 20;

fn configuration(dir: &Path) -> Configuration {
    Configuration::default_for(dir)
        .preallocate_bytes(SEGMENT_BYTES)
        .checkpoint_after_bytes(u64::MAX)
}

struct Okay(WriteAheadLog);

fn open(dir: &Path) -> Fallible<Box<dyn Log>> {
    Ok(Box::new(Okay(configuration(dir).open(LogVoid)?)))
}

impl Log for Okay {
    fn append(&self, _record: &[u8]) -> Fallible<()> {
        Err("okaywal has no buffered append".into())
    }

    fn flush(&self) -> Fallible<()> {
        Ok(())
    }

    fn commit(&self, record: &[u8]) -> Fallible<()> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(record)?;
        entry.commit()?;
        Ok(())
    }

    /// One entry of many chunks.
    fn fill(&self, lot: Vec<Vec<u8>>) -> Fallible<()> {
        let mut entry = self.0.begin_entry()?;
        for record in lot {
            entry.write_chunk(&record)?;
        }
        entry.commit()?;
        Ok(())
    }

    fn syncs(&self) -> Option<u64> {
        None
    }
}

/// Hands on what recovery finds: the only way that okaywal has to read all entries. Recovery wants
/// an owner, so that the records cross a channel, in lots.
struct Reader {
    lots: Mutex<Sender<Vec<Vec<u8>>>>,
    lot: Vec<Vec<u8>>,
}

const LOT: usize = 1024;

impl Reader {
    fn hand_on(&mut self) -> io::Result<()> {
        let lots = self.lots.get_mut().unwrap_or_else(PoisonError::into_inner);
        lots.send(std::mem::take(&mut self.lot)).map_err(io::Error::other)
    }
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl LogManager for Reader {
    fn recover(&mut self, entry: &mut Entry<'_>) -> io::Result<()> {
        self.lot.extend(entry.read_all_chunks()?.unwrap_or_default());
        if self.lot.len() >= LOT { self.hand_on() } else { Ok(()) }
    }

    fn checkpoint_to(
        &mut self,
        _last: EntryId,
        _entries: &mut SegmentReader,
        _wal: &WriteAheadLog,
    ) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        // Fails only when nobody listens any more.
        self.hand_on().ok();
    }
}

fn read_back(dir: &Path, sink: Sink<'_>) -> Fallible<()> {
    let (lots, incoming) = channel();
    let reader = Reader { lots: Mutex::new(lots), lot: Vec::new() };
    std::thread::scope(|scope| {
        let taker = scope.spawn(move || {
            incoming.iter().flatten().for_each(|record: Vec<u8>| sink(&record));
        });
        let opened = configuration(dir).open(reader).and_then(WriteAheadLog::shutdown);
        taker.join().map_err(|_| "the reader of the entries panicked")?;
        Ok(opened?)
    })
}
