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
const MAX_TIME: Duration = Duration::from_secs(1);
const MIN_OPERATIONS: u64 = 200;
/// A device so slow that the minimum takes longer than this is known well enough.
const PATIENCE: Duration = Duration::from_secs(10);
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

/// Measures the floor that belongs to `mode` in `dir`, for at most a second and at most `limit`.
pub(crate) fn measure(
    dir: &Path,
    mode: Mode,
    size: u32,
    limit: Duration,
) -> Result<Floor, Failure> {
    let body = usize::try_from(size).unwrap_or(usize::MAX).next_multiple_of(8);
    let frame = vec![0xa5; FRAME_HEADER_BYTES + body];
    let limit = limit.min(MAX_TIME);
    let failed = |error| Failure::io("measure the floor", dir, error);
    let (kind, per_s) = match mode {
        Mode::Durable => (FloorKind::PwriteFdatasync, writes(dir, &frame, limit, true)),
        Mode::Flushed => (FloorKind::Pwrite, writes(dir, &frame, limit, false)),
        Mode::Buffered => (FloorKind::Memcpy, Ok(copies(&frame, limit))),
    };
    Ok(Floor { kind, per_s: per_s.map_err(failed)? })
}

fn writes(dir: &Path, frame: &[u8], limit: Duration, sync: bool) -> io::Result<f64> {
    let mut file = tempfile::tempfile_in(dir)?;
    let area = AREA_BYTES.max(frame.len());
    let zeros = vec![0; 256 << 10];
    let mut filled = 0;
    while filled < area {
        let step = zeros.len().min(area - filled);
        file.write_all(&zeros[..step])?;
        filled += step;
    }
    sync_data(&file)?;

    let started = clock::now();
    let mut offset = 0;
    let mut operations = 0;
    loop {
        if offset + frame.len() > area {
            offset = 0;
        }
        write_at(&file, frame, offset)?;
        if sync {
            sync_data(&file)?;
        }
        offset += frame.len();
        operations += 1;
        let elapsed = started.elapsed();
        if elapsed >= limit && operations >= MIN_OPERATIONS || elapsed >= PATIENCE {
            return Ok(operations as f64 / elapsed.as_secs_f64());
        }
    }
}

fn copies(frame: &[u8], limit: Duration) -> f64 {
    // Written once beforehand: a page fault is no part of a copy.
    let mut area = vec![1_u8; AREA_BYTES.max(frame.len())];
    let started = clock::now();
    let mut offset = 0;
    let mut operations = 0_u64;
    loop {
        for _ in 0..COPIES_PER_LOOK {
            if offset + frame.len() > area.len() {
                offset = 0;
            }
            area[offset..offset + frame.len()].copy_from_slice(black_box(frame));
            black_box(&mut area);
            offset += frame.len();
        }
        operations += COPIES_PER_LOOK;
        let elapsed = started.elapsed();
        if elapsed >= limit {
            return operations as f64 / elapsed.as_secs_f64();
        }
    }
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
            let floor = measure(dir.path(), mode, 100, brief).unwrap();
            assert_eq!(floor.kind, kind);
            assert!(floor.per_s > 0.0);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
