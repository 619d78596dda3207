//! The floor: what one thread reaches by putting the same frames in the same place without a log.
//!
//! - durable: pwrite and fdatasync into a zero-filled file, so that no sync commits metadata;
//! - flushed: the pwrite alone;
//! - buffered: a copy into memory of the ring's default size.
//!
//! The file has no name, so that neither the log nor a crash ever meets it.

use std::fs::File;
use std::hint::black_box;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::Mode;
use crate::clock;
use crate::failure::Failure;

const AREA_BYTES: usize = 16 << 20;
const FRAME_HEADER_BYTES: usize = 16;
/// Of one slice.
const MIN_OPERATIONS: u64 = 25;
/// A device so slow that the minimum takes longer than this is known well enough.
const PATIENCE: Duration = Duration::from_secs(2);
/// Copies between two looks at the clock.
const COPIES_PER_LOOK: u64 = 256;

/// What was done over and over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FloorKind {
    PwriteFdatasync,
    Pwrite,
    Memcpy,
}

impl FloorKind {
    pub(crate) fn describe(self) -> &'static str {
        match self {
            Self::PwriteFdatasync => "pwrite + fdatasync, one thread",
            Self::Pwrite => "pwrite, one thread",
            Self::Memcpy => "memcpy, one thread",
        }
    }
}

/// A floor and the rate it was reached at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Floor {
    pub(crate) kind: FloorKind,
    pub(crate) per_s: f64,
}

/// Measures a floor in slices, between which something else may be measured: a disk that is
/// throttled now and then slows both down alike.
#[derive(Debug)]
pub(crate) struct Gauge {
    kind: FloorKind,
    frame: Vec<u8>,
    target: Target,
    offset: usize,
    operations: u64,
    elapsed: Duration,
}

#[derive(Debug)]
enum Target {
    File { file: File, area: usize, sync: bool },
    Memory(Vec<u8>),
}

impl Gauge {
    /// Makes ready what belongs to `mode` in `dir`.
    pub(crate) fn new(dir: &Path, mode: Mode, size: u32) -> Result<Self, Failure> {
        let body = usize::try_from(size).unwrap_or(usize::MAX).next_multiple_of(8);
        let frame = vec![0xa5; FRAME_HEADER_BYTES + body];
        let area = AREA_BYTES.max(frame.len());
        let (kind, sync) = match mode {
            Mode::Durable => (FloorKind::PwriteFdatasync, true),
            Mode::Flushed => (FloorKind::Pwrite, false),
            Mode::Buffered => (FloorKind::Memcpy, false),
        };
        let target = match mode {
            // Written once beforehand: a page fault is no part of a copy.
            Mode::Buffered => Target::Memory(vec![1; area]),
            _ => Target::File { file: zero_filled(dir, area).map_err(failed(dir))?, area, sync },
        };
        Ok(Self { kind, frame, target, offset: 0, operations: 0, elapsed: Duration::ZERO })
    }

    /// Measures for `limit`, and longer where that is too few operations to count.
    pub(crate) fn slice(&mut self, dir: &Path, limit: Duration) -> Result<(), Failure> {
        let started = clock::now();
        let before = self.operations;
        loop {
            let least = match &mut self.target {
                Target::File { file, area, sync } => {
                    self.offset =
                        if self.offset + self.frame.len() > *area { 0 } else { self.offset };
                    write_at(file, &self.frame, self.offset).map_err(failed(dir))?;
                    if *sync {
                        sync_data(file).map_err(failed(dir))?;
                    }
                    self.offset += self.frame.len();
                    self.operations += 1;
                    MIN_OPERATIONS
                }
                Target::Memory(area) => {
                    for _ in 0..COPIES_PER_LOOK {
                        if self.offset + self.frame.len() > area.len() {
                            self.offset = 0;
                        }
                        let place = self.offset..self.offset + self.frame.len();
                        area[place].copy_from_slice(black_box(&self.frame));
                        black_box(&mut *area);
                        self.offset += self.frame.len();
                    }
                    self.operations += COPIES_PER_LOOK;
                    COPIES_PER_LOOK
                }
            };
            let elapsed = started.elapsed();
            if elapsed >= limit && self.operations - before >= least || elapsed >= PATIENCE {
                self.elapsed += elapsed;
                return Ok(());
            }
        }
    }

    /// The floor over all slices.
    pub(crate) fn floor(&self) -> Floor {
        let per_s = self.operations as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        Floor { kind: self.kind, per_s }
    }
}

fn failed(dir: &Path) -> impl Fn(io::Error) -> Failure + '_ {
    |error| Failure::io("measure the floor", dir, error)
}

fn zero_filled(dir: &Path, area: usize) -> io::Result<File> {
    let mut file = tempfile::tempfile_in(dir)?;
    let zeros = vec![0; 256 << 10];
    let mut filled = 0;
    while filled < area {
        let step = zeros.len().min(area - filled);
        file.write_all(&zeros[..step])?;
        filled += step;
    }
    sync_data(&file)?;
    Ok(file)
}

#[expect(clippy::disallowed_methods, reason = "the floor is a bare fdatasync, without the log")]
fn sync_data(file: &File) -> io::Result<()> {
    file.sync_data()
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: usize) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset as u64)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], offset: usize) -> io::Result<()> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset as u64))?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_has_its_floor_and_leaves_no_file() {
        let dir = tempfile::tempdir().unwrap();
        let brief = Duration::from_millis(1);
        for (mode, kind) in [
            (Mode::Durable, FloorKind::PwriteFdatasync),
            (Mode::Flushed, FloorKind::Pwrite),
            (Mode::Buffered, FloorKind::Memcpy),
        ] {
            let mut gauge = Gauge::new(dir.path(), mode, 100).unwrap();
            gauge.slice(dir.path(), brief).unwrap();
            gauge.slice(dir.path(), brief).unwrap();
            let floor = gauge.floor();
            assert_eq!(floor.kind, kind);
            assert!(floor.per_s > 0.0);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
