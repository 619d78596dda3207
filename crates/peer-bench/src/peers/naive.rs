//! The log that everybody writes first: a file behind a mutex, one write and one sync a commit.

use std::fs::{File, OpenOptions};
use std::io::{BufReader, ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Log, Peer, Sink};
use crate::Fallible;

pub(super) const PEER: Peer = Peer {
    name: "naive",
    version: env!("CARGO_PKG_VERSION"),
    buffered: Some("page cache: one write a record"),
    durable: "fdatasync before return; no sticky errors, no checks of any kind but a CRC-32C",
    settings: "a growing file behind a mutex; nobody shares a sync",
    open,
    read_back: Some(read_back),
};

const HEADER_BYTES: usize = 8;

struct Naive {
    file: Mutex<File>,
    syncs: AtomicU64,
}

fn open(dir: &Path) -> Fallible<Box<dyn Log>> {
    let file = OpenOptions::new().append(true).create_new(true).open(dir.join("log"))?;
    Ok(Box::new(Naive { file: Mutex::new(file), syncs: AtomicU64::new(0) }))
}

impl Naive {
    fn put(&self, record: &[u8], sync: bool) -> Fallible<()> {
        let mut frame = Vec::with_capacity(HEADER_BYTES + record.len());
        frame.extend_from_slice(&u32::try_from(record.len())?.to_le_bytes());
        frame.extend_from_slice(&crc32c::crc32c(record).to_le_bytes());
        frame.extend_from_slice(record);
        let mut file = self.file.lock().map_err(|_| "a writer panicked")?;
        file.write_all(&frame)?;
        if sync {
            sync_data(&file)?;
            // ORDERING: Relaxed, a count that is read when all threads are done.
            self.syncs.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a bare fdatasync is what this peer is")]
fn sync_data(file: &File) -> std::io::Result<()> {
    file.sync_data()
}

impl Log for Naive {
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
    let mut file = BufReader::with_capacity(1 << 20, File::open(dir.join("log"))?);
    let mut header = [0; HEADER_BYTES];
    let mut record = Vec::new();
    loop {
        match file.read_exact(&mut header) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let [a, b, c, d, sum @ ..] = header;
        record.resize(usize::try_from(u32::from_le_bytes([a, b, c, d]))?, 0);
        file.read_exact(&mut record)?;
        if crc32c::crc32c(&record) != u32::from_le_bytes(sum) {
            return Err("a record with a wrong checksum".into());
        }
        sink(&record);
    }
}
