//! The engine over a disk that keeps written and synced bytes apart: for unit tests here and for
//! the models in `loom-tests/`. Not part of the library.
//!
//! The disk's own state is bookkeeping of the oracle; it uses no primitive that loom sees, so it
//! orders nothing.

#![allow(missing_docs, unreachable_pub, reason = "not part of the library")]
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc, reason = "test support")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test support")]
#![allow(clippy::cast_possible_truncation, clippy::must_use_candidate, reason = "test support")]

use std::io;
use std::path::{Path, PathBuf};

use super::{Backing, Cut, Engine, Intent, Limits};
use crate::codec::with_unit;
use crate::error::{Result, WalError};
use crate::format::frame::{Kind, Seed, decode_header};
use crate::lsn::{Lsn, Place};
use crate::options::Gather;
use crate::ring::Ring;
use crate::sync::{Arc, BookMutex};

/// What the frames of the first epoch are sealed with; every cut adds one.
const SEED: Seed = Seed(0x5EED);

/// What the disk does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Every sync fails.
    Sync,
    /// Every sync panics.
    SyncPanic,
    /// Every write fails.
    Write,
    /// There is no space for any write or new segment.
    Full,
}

#[derive(Debug, Default)]
struct File {
    base: u64,
    /// Counts the cuts before it.
    epoch: u32,
    bytes: Vec<u8>,
    synced: usize,
}

#[derive(Debug)]
struct Disk {
    files: Vec<File>,
    fault: Fault,
    syncs: usize,
    /// A sync is under way.
    syncing: bool,
    closed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Shared {
    disk: Arc<BookMutex<Disk>>,
    segment_bytes: u64,
}

impl Backing for Shared {
    /// Index of the file that takes frames.
    type Stage = usize;
    type Snapshot = std::ops::RangeInclusive<usize>;
    type Image = ();

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn limit(&self, stage: &usize) -> u64 {
        self.disk.lock().files[*stage].base + self.segment_bytes
    }

    fn is_fresh(&self, stage: &usize, at: u64) -> bool {
        self.disk.lock().files[*stage].base == at
    }

    fn is_crowded(&self, _stage: &usize, _durable: u64) -> bool {
        false
    }

    fn rotate(&self, stage: &mut usize, at: u64, durable: u64) -> Result<()> {
        let mut disk = self.disk.lock();
        assert!(!disk.closed, "no I/O after close");
        assert!(durable <= disk.synced_end(), "a header claims what is not synced");
        if disk.fault == Fault::Full {
            return Err(WalError::StorageFull { path: PathBuf::new() });
        }
        let epoch = disk.files[*stage].epoch;
        disk.files.push(File { base: at, epoch, ..File::default() });
        *stage += 1;
        Ok(())
    }

    fn write(&self, stage: &mut usize, at: u64, parts: &[&[u8]], _: Intent) -> Result<()> {
        let mut disk = self.disk.lock();
        assert!(!disk.closed, "no I/O after close");
        match disk.fault {
            Fault::Full => return Err(WalError::StorageFull { path: PathBuf::new() }),
            Fault::Write => return Err(failure("write")),
            _ => {}
        }
        let file = &mut disk.files[*stage];
        let mut offset = (at - file.base) as usize;
        for part in parts {
            let end = offset + part.len();
            file.bytes.resize(file.bytes.len().max(end), 0);
            file.bytes[offset..end].copy_from_slice(part);
            offset = end;
        }
        Ok(())
    }

    fn snapshot(&self, stage: &mut usize, durable: u64) -> Self::Snapshot {
        let disk = self.disk.lock();
        let first = disk.files.iter().rposition(|file| file.base <= durable).unwrap_or(0);
        first..=*stage
    }

    fn sync(&self, snapshot: &Self::Snapshot, _written: u64) -> Result<()> {
        let (fault, lens) = {
            let mut disk = self.disk.lock();
            assert!(!disk.closed, "no I/O after close");
            assert!(!disk.syncing, "one leader at a time");
            disk.syncing = disk.fault == Fault::None;
            (disk.fault, disk.files.iter().map(|file| file.bytes.len()).collect::<Vec<_>>())
        };
        match fault {
            Fault::Sync => return Err(failure("sync")),
            Fault::SyncPanic => panic!("the model's store panics"),
            _ => {}
        }
        // What is written while a sync runs is not covered by it.
        crate::sync::pause_in_io();
        let mut disk = self.disk.lock();
        disk.syncs += 1;
        disk.syncing = false;
        for index in snapshot.clone() {
            let file = &mut disk.files[index];
            file.synced = file.synced.max(lens[index]);
        }
        Ok(())
    }

    fn release(&self, _snapshot: &Self::Snapshot) {}

    fn head(&self) -> u64 {
        self.disk.lock().files[0].base
    }

    fn has_dead(&self, _head: u64) -> bool {
        false
    }

    fn snapshot_lsn(&self) -> Option<u64> {
        None
    }

    fn complete(&self) -> Result<()> {
        Ok(())
    }

    fn make_way(&self, _lsn: u64) -> Result<()> {
        Ok(())
    }

    fn move_head(&self, _head: u64, _durable: u64, _image: Option<&()>) -> Result<Result<()>> {
        Ok(Ok(()))
    }

    fn allows_cut(&self, _at: u64) -> Result<()> {
        Ok(())
    }

    fn cut(&self, stage: &mut usize, at: u64) -> Result<(Seed, Self::Snapshot)> {
        let mut disk = self.disk.lock();
        assert!(!disk.closed, "no I/O after close");
        assert!(!disk.syncing, "a cut beside a sync");
        assert!(at <= disk.synced_end(), "what is kept is durable");
        match disk.fault {
            Fault::None => {}
            Fault::Full => return Err(WalError::StorageFull { path: PathBuf::new() }),
            _ => return Err(failure("cut")),
        }
        let epoch = disk.files[*stage].epoch + 1;
        // What is beyond does not exist any more; the indexes of files stay what they are.
        for file in &mut disk.files {
            let kept = at.saturating_sub(file.base) as usize;
            file.bytes.truncate(kept);
            file.synced = file.synced.min(kept);
            file.base = file.base.min(at);
        }
        disk.files.push(File { base: at, epoch, ..File::default() });
        *stage += 1;
        Ok((seed(epoch), *stage..=*stage))
    }

    fn show_cut(&self, _stage: &usize) {}

    fn remove_dead(&self) -> Result<()> {
        Ok(())
    }

    fn witness(&self, _durable: u64) -> Result<()> {
        Ok(())
    }

    fn seal(&self, end: u64) -> Result<()> {
        assert_eq!(self.disk.lock().synced_end(), end, "close seals what is synced");
        Ok(())
    }

    fn end(&self) {
        self.disk.lock().closed = true;
    }
}

fn seed(epoch: u32) -> Seed {
    Seed(SEED.0 + epoch)
}

fn failure(operation: &'static str) -> WalError {
    WalError::io(operation, Path::new(""), io::Error::other("the model's disk fails"))
}

impl Disk {
    /// Exclusive end of the prefix that survives a power loss.
    fn synced_end(&self) -> u64 {
        let mut end = self.files[0].base;
        for (index, file) in self.files.iter().enumerate() {
            end = file.base + file.synced as u64;
            if self.files.get(index + 1).is_some_and(|next| next.base != end) {
                break;
            }
        }
        end
    }
}

/// A log over the model disk.
#[derive(Clone)]
pub struct Model {
    engine: Arc<Engine<Shared>>,
    shared: Shared,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Model")
    }
}

impl Model {
    /// A log with `slots` slots and sizes in bytes, its first LSN 0, whose leaders do not gather.
    pub fn new(ring_bytes: usize, slots: usize, segment_bytes: u64, max_unsynced: u64) -> Self {
        Self::gathering(ring_bytes, slots, segment_bytes, max_unsynced, Gather::Off)
    }

    pub fn gathering(
        ring_bytes: usize,
        slots: usize,
        segment_bytes: u64,
        max_unsynced: u64,
        gather: Gather,
    ) -> Self {
        let files = vec![File::default()];
        let (fault, syncs) = (Fault::None, 0);
        let disk = Disk { files, fault, syncs, syncing: false, closed: false };
        let shared = Shared { disk: Arc::new(BookMutex::new(disk)), segment_bytes };
        let limits = Limits { max_unsynced, gather, heartbeat: None };
        let ring = Ring::new(ring_bytes, slots, 0).expect("memory");
        let engine = Engine::new(shared.clone(), 0, SEED, ring, limits);
        Self { engine, shared }
    }

    /// Appends one record; returns its range.
    pub fn append(&self, body: &[u8]) -> Result<(u64, u64)> {
        self.append_batch(&[body])
    }

    pub fn append_batch(&self, bodies: &[&[u8]]) -> Result<(u64, u64)> {
        self.append_unit(bodies).map(|(start, end)| (start.lsn, end.lsn))
    }

    /// Appends one record and makes it durable; what cut it off is an error.
    pub fn append_and_commit(&self, body: &[u8]) -> Result<(u64, u64)> {
        let (start, end) = self.append_unit(&[body])?;
        self.engine.commit(end)?;
        Ok((start.lsn, end.lsn))
    }

    fn append_unit(&self, bodies: &[&[u8]]) -> Result<(Place, Place)> {
        with_unit(|unit, hint| {
            for (index, body) in bodies.iter().enumerate() {
                unit.push(&[body], index + 1 < bodies.len(), u32::MAX)?;
            }
            let start = self.engine.append(unit, hint)?;
            Ok((start, start.at(start.lsn + unit.len())))
        })
    }

    /// Reserves what `body` needs and unwinds before it is filled.
    pub fn abandon(&self, body: &[u8]) -> Result<()> {
        with_unit(|unit, hint| {
            unit.push(&[body], false, u32::MAX)?;
            self.engine.abandon(unit, hint);
            Ok(())
        })
    }

    pub fn commit(&self, end: u64) -> Result<()> {
        self.engine.commit(Place { lsn: end, era: self.engine.tracker.era() })
    }

    pub fn sync(&self) -> Result<()> {
        self.engine.sync()
    }

    pub fn flush(&self) -> Result<()> {
        self.engine.flush()
    }

    pub fn close(&self) -> Result<()> {
        self.engine.close()
    }

    /// Cuts off everything behind `at`, a boundary of units.
    pub fn cut(&self, at: u64) -> Result<()> {
        self.engine.cut(|end| match at <= end.lsn {
            true => Ok(Cut { at, last_record: None }),
            false => Err(WalError::NotARecord { lsn: Lsn::new(at) }),
        })
    }

    pub fn fault(&self, fault: Fault) {
        self.shared.disk.lock().fault = fault;
    }

    pub fn durable(&self) -> u64 {
        self.engine.durable()
    }

    pub fn end(&self) -> u64 {
        self.engine.end()
    }

    pub fn written(&self) -> u64 {
        self.engine.ring().written()
    }

    pub fn max_unit(&self) -> u64 {
        self.engine.ring().max_unit()
    }

    pub fn synced_end(&self) -> u64 {
        self.shared.disk.lock().synced_end()
    }

    pub fn syncs(&self) -> usize {
        self.shared.disk.lock().syncs
    }

    pub fn segments(&self) -> usize {
        self.shared.disk.lock().files.len()
    }

    /// Every frame on the disk, as (LSN, body), pads as `None`.
    ///
    /// # Panics
    /// Where the written bytes are not a dense sequence of valid frames.
    pub fn frames(&self) -> Vec<(u64, Option<Vec<u8>>)> {
        let disk = self.shared.disk.lock();
        let mut frames = Vec::new();
        let mut expected = 0;
        for file in &disk.files {
            assert_eq!(file.base, expected, "segments join");
            let mut offset = 0;
            while offset < file.bytes.len() {
                let (lsn, rest) = (file.base + offset as u64, &file.bytes[offset..]);
                let header =
                    decode_header(seed(file.epoch), lsn, rest).expect("a valid frame header");
                let body = &rest[16..header.frame_bytes() as usize];
                assert!(header.body_matches(body), "a valid body at {lsn}");
                assert!(header.watermark.is_none_or(|w| w <= disk.synced_end()), "a true lag");
                let record =
                    (header.kind == Kind::Record).then(|| body[..header.len as usize].to_vec());
                frames.push((lsn, record));
                offset += header.frame_bytes() as usize;
            }
            expected = file.base + offset as u64;
        }
        frames
    }
}
