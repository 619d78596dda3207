//! The engine over a disk that keeps written and synced bytes apart: for unit tests here and for
//! the models in `loom-tests/`. Not part of the library.
//!
//! The disk's own state is bookkeeping of the oracle; it uses no primitive that loom sees, so it
//! orders nothing.

#![allow(missing_docs, unreachable_pub, reason = "not part of the library")]
#![allow(clippy::missing_errors_doc, clippy::missing_panics_doc, reason = "test support")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "test support")]
#![allow(clippy::cast_possible_truncation, clippy::must_use_candidate, reason = "test support")]

mod disk;
#[cfg(all(loom, feature = "loom"))]
mod helpers;

use super::{Cut, Engine, Limits};
use crate::codec::with_unit;
use crate::error::{Result, WalError};
use crate::format::frame::{Kind, decode_header};
use crate::lsn::{Lsn, Place};
use crate::options::{Form, Gather};
use crate::ring::Ring;
use crate::segments::Epoch;
use crate::sync::{Arc, BookMutex};

pub use disk::Fault;
use disk::{Disk, File, Shared, seed};
#[cfg(all(loom, feature = "loom"))]
pub use helpers::Notice;

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
        Self::with(ring_bytes, slots, segment_bytes, Limits::new(max_unsynced, gather))
    }

    fn with(ring_bytes: usize, slots: usize, segment_bytes: u64, limits: Limits) -> Self {
        let files = vec![File::default()];
        let disk = Disk { files, ..Disk::default() };
        let shared = Shared { disk: Arc::new(BookMutex::new(disk)), segment_bytes };
        let ring = Ring::new(ring_bytes, slots, 0).expect("memory");
        let epoch = Epoch { seed: seed(0), cipher: None };
        let engine = Engine::new(shared.clone(), 0, epoch, ring, limits);
        Self { engine, shared }
    }

    #[cfg(not(loom))]
    pub(crate) fn engine(&self) -> &Engine<Shared> {
        &self.engine
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
                unit.push(&[body], index + 1 < bodies.len(), Form::plain(u32::MAX))?;
            }
            let start = self.engine.append(unit, hint)?;
            Ok((start, start.at(start.lsn + unit.len())))
        })
    }

    /// Reserves what `body` needs and unwinds before it is filled.
    pub fn abandon(&self, body: &[u8]) -> Result<()> {
        with_unit(|unit, hint| {
            unit.push(&[body], false, Form::plain(u32::MAX))?;
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
