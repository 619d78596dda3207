//! The floors: what one thread reaches on the same file system in the same run without a log.
//!
//! - durable: pwrite and fdatasync of the same bytes into a zero-filled file, so that no sync
//!   commits metadata;
//! - buffered: a copy of the same bytes into memory;
//! - replay: a CRC-32C of the same bytes.
//!
//! Measured in slices around the runs of the peers: a disk that is throttled now and then slows
//! both down alike. The file has no name, so that no log ever meets it.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::Fallible;
use crate::clock::{self, Duration};
use crate::report::Floor;

const AREA_BYTES: usize = 16 << 20;
const FRAME_HEADER_BYTES: usize = 16;
/// Of one slice.
const MIN_OPERATIONS: u64 = 25;
/// Operations in memory between two looks at the clock.
const PER_LOOK: u64 = 256;

/// What is done over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FloorKind {
    PwriteFdatasync,
    Memcpy,
    Crc32c,
}

impl FloorKind {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::PwriteFdatasync => "pwrite + fdatasync, one thread",
            Self::Memcpy => "memcpy, one thread",
            Self::Crc32c => "crc32c, one thread",
        }
    }
}

/// Measures a floor in slices, between which something else may be measured.
#[derive(Debug)]
pub(crate) struct Gauge {
    kind: FloorKind,
    frame: Vec<u8>,
    area: Vec<u8>,
    file: Option<File>,
    offset: usize,
    operations: u64,
    elapsed: Duration,
}

impl Gauge {
    /// Makes ready in `dir`, for records of `size` bytes and a frame header.
    pub(crate) fn new(dir: &Path, kind: FloorKind, size: usize) -> Fallible<Self> {
        let frame = vec![0xa5; FRAME_HEADER_BYTES + size.next_multiple_of(8)];
        // Written once beforehand: a page fault is no part of a copy.
        let area = vec![1; AREA_BYTES.max(frame.len())];
        let durable = kind == FloorKind::PwriteFdatasync;
        let file = if durable { Some(zero_filled(dir, area.len())?) } else { None };
        let (offset, operations, elapsed) = (0, 0, Duration::ZERO);
        Ok(Self { kind, frame, area, file, offset, operations, elapsed })
    }

    /// Measures for `limit`, and longer where that is too few operations to count.
    pub(crate) fn slice(&mut self, limit: Duration) -> Fallible<()> {
        let started = clock::now();
        let before = self.operations;
        loop {
            match &self.file {
                Some(_) => self.write()?,
                None => (0..PER_LOOK).for_each(|_| self.compute()),
            }
            let elapsed = started.elapsed();
            if elapsed >= limit && self.operations - before >= MIN_OPERATIONS {
                self.elapsed += elapsed;
                return Ok(());
            }
        }
    }

    fn advance(&mut self) -> usize {
        self.operations += 1;
        let fits = self.offset + 2 * self.frame.len() <= self.area.len();
        self.offset = if fits { self.offset + self.frame.len() } else { 0 };
        self.offset
    }

    fn write(&mut self) -> io::Result<()> {
        let offset = self.advance();
        let Some(file) = &self.file else { return Ok(()) };
        file.write_all_at(&self.frame, offset as u64)?;
        sync_data(file)
    }

    fn compute(&mut self) {
        let offset = self.advance();
        let place = &mut self.area[offset..offset + self.frame.len()];
        match self.kind {
            FloorKind::Crc32c => {
                black_box(crc32c::crc32c(black_box(&*place)));
            }
            _ => {
                place.copy_from_slice(black_box(&self.frame));
                black_box(place);
            }
        }
    }

    /// The floor over all slices.
    pub(crate) fn floor(&self) -> Floor {
        let per_s = self.operations as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        Floor { what: self.kind.describe().to_owned(), per_s }
    }
}

fn zero_filled(dir: &Path, area: usize) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(dir)?;
    file.write_all(&vec![0; area])?;
    sync_data(&file)?;
    Ok(file)
}

#[expect(clippy::disallowed_methods, reason = "the floor is a bare fdatasync, without a log")]
fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_floor_is_measured_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let brief = Duration::from_millis(1);
        for kind in [FloorKind::PwriteFdatasync, FloorKind::Memcpy, FloorKind::Crc32c] {
            for size in [16, 1000] {
                let mut gauge = Gauge::new(dir.path(), kind, size).unwrap();
                gauge.slice(brief).unwrap();
                gauge.slice(brief).unwrap();
                assert!(gauge.floor().per_s > 0.0);
            }
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
