//! Writes points, opens their log again and replays it: plain, and encrypted.

#![allow(clippy::disallowed_methods, reason = "it measures how long things take")]

use std::io::Write;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use cohort_wal::{Wal, WalError, WalOptions};
use vector_log::{Batch, Change, KeyRing, Vector, VectorLog, workload};

use crate::AnyResult;

const MIB: f64 = 1024.0 * 1024.0;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    #[arg(long, default_value_t = 2_000)]
    points: usize,
    #[arg(long, default_value_t = 768)]
    dims: u32,
    /// Points that are upserted at once.
    #[arg(long, default_value_t = 64)]
    batch: usize,
    /// Collections, each with a thread that writes into it.
    #[arg(long, default_value_t = 4)]
    threads: usize,
    /// Where directories are made, which go away afterwards; where the system has such things if
    /// it is not given.
    #[arg(long)]
    dir: Option<PathBuf>,
}

/// What is written: made beforehand, so that making it takes no time of the log's.
struct Points {
    collection: u32,
    floats: Vec<f32>,
    /// One for each vector.
    checksums: Vec<u64>,
}

impl Demo {
    pub(crate) fn run(&self, out: &mut impl Write) -> AnyResult<()> {
        if self.points == 0 || self.dims == 0 || self.batch == 0 || self.threads == 0 {
            return Err("there must be points, floats, batches and threads".into());
        }
        let place = self.dir.clone().unwrap_or_else(std::env::temp_dir);
        let dir = tempfile::tempdir_in(place)?;
        let keys = Arc::new(KeyRing::create(&dir.path().join("keys"))?);
        let points = self.points();
        writeln!(
            out,
            "{} points of {} floats, batches of {}, {} collections and threads",
            self.points, self.dims, self.batch, self.threads
        )?;
        let (plain, sealed) = (dir.path().join("plain"), dir.path().join("encrypted"));
        self.measure("plain", &WalOptions::new(), &plain, &points, out)?;
        std::fs::remove_dir_all(&plain)?;
        let options = WalOptions::new().encryption(keys);
        self.measure("encrypted", &options, &sealed, &points, out)?;
        let other = Arc::new(KeyRing::create(&dir.path().join("other"))?);
        match WalOptions::new().encryption(other).open(&sealed) {
            Err(WalError::WrongKey) => writeln!(out, "with another key: refused, wrong key")?,
            opened => return Err(format!("another key must not do: {opened:?}").into()),
        }
        Ok(dir.close()?)
    }

    fn points(&self) -> Vec<Points> {
        let collections = (0_u32..).take(self.threads);
        let mut left = self.points;
        let parts = collections.enumerate().map(|(place, collection)| {
            let count = left / (self.threads - place);
            left -= count;
            let (mut floats, mut checksums) = (Vec::new(), Vec::new());
            for id in (0..).take(count) {
                let start = floats.len();
                floats.extend(workload::vector(collection, id, self.dims));
                checksums.push(checksum(Vector::new(&floats[start..])));
            }
            Points { collection, floats, checksums }
        });
        parts.collect()
    }

    fn measure(
        &self,
        what: &str,
        options: &WalOptions,
        dir: &Path,
        points: &[Points],
        out: &mut impl Write,
    ) -> AnyResult<()> {
        let wal = options.clone().create_new(true).open(dir)?;
        let log = VectorLog::open(Arc::new(wal), None)?;
        let begun = Instant::now();
        self.write(&log, points)?;
        log.wal().close()?;
        let written = begun.elapsed();
        let (bytes, syncs) = (log.wal().live_bytes(), log.wal().stats().syncs);
        drop(log);

        let begun = Instant::now();
        let wal: Wal = options.clone().create(false).open(dir)?;
        let log = VectorLog::open(Arc::new(wal), None)?;
        let opened = begun.elapsed();
        let begun = Instant::now();
        verify(&log, points)?;
        let replayed = begun.elapsed();
        log.wal().close()?;

        let rates = |took: Duration| {
            let seconds = took.as_secs_f64();
            let (points, mib) = (self.points as f64 / seconds, bytes as f64 / MIB / seconds);
            format!("{seconds:8.3} s {points:10.0} points/s {mib:8.1} MiB/s")
        };
        let mib = bytes as f64 / MIB;
        writeln!(out, "{what}: {mib:.1} MiB of log, {syncs} syncs")?;
        writeln!(out, "  write, durable   {}", rates(written))?;
        writeln!(out, "  open, check all  {}", rates(opened))?;
        writeln!(out, "  replay, verify   {}", rates(replayed))?;
        Ok(())
    }

    fn write(&self, log: &VectorLog, points: &[Points]) -> vector_log::Result<()> {
        thread::scope(|scope| {
            let threads = points.iter().map(|points| scope.spawn(move || self.fill(log, points)));
            let threads: Vec<_> = threads.collect();
            let mut ended = threads.into_iter().map(thread::ScopedJoinHandle::join);
            ended.try_for_each(|ended| ended.unwrap_or_else(|panic| resume_unwind(panic)))
        })
    }

    fn fill(&self, log: &VectorLog, points: &Points) -> vector_log::Result<()> {
        let collection = points.collection;
        log.create(collection, self.dims, &format!("collection {collection}"))?;
        let mut batch = Batch::new(collection);
        let mut numbered = (0_u64..).zip(points.floats.chunks_exact(self.dims as usize)).peekable();
        while numbered.peek().is_some() {
            batch.clear();
            for (id, vector) in numbered.by_ref().take(self.batch) {
                batch.push(id, vector, workload::payload(collection, id).as_bytes());
            }
            log.upsert_many(&batch)?;
        }
        Ok(())
    }
}

/// Every vector is there once, in order, as it was.
fn verify(log: &VectorLog, points: &[Points]) -> AnyResult<()> {
    let mut next = vec![0_usize; points.len()];
    let mut wrong = None;
    log.replay(|lsn, change| {
        if let Change::Upsert { collection, id, vector, .. } = *change {
            let right = usize::try_from(collection).ok().and_then(|place| {
                let number = next.get_mut(place)?;
                let checksum_of_it = points[place].checksums.get(*number)?;
                let right = *number as u64 == id && *checksum_of_it == checksum(vector);
                *number += 1;
                Some(right)
            });
            if right != Some(true) {
                wrong.get_or_insert(lsn);
            }
        }
    })?;
    if let Some(lsn) = wrong {
        return Err(format!("the point at LSN {lsn} is not the one that was written").into());
    }
    if next.iter().zip(points).any(|(next, points)| *next != points.checksums.len()) {
        return Err("points are missing".into());
    }
    Ok(())
}

/// Depends on every bit of every float, and on their order.
fn checksum(vector: Vector<'_>) -> u64 {
    let mut sum = 0_u64;
    vector.for_each(|float| {
        sum =
            (sum ^ u64::from(float.to_bits())).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(29);
    });
    sum
}
