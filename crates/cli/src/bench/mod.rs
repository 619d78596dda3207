//! `bench`: floor, load, replay.
//!
//! 1. [`load`]: threads share one log and append for a while, in rounds.
//! 2. [`floor`]: between the rounds, what one thread reaches by doing the same to the same file
//!    system without a log.
//! 3. [`replay`]: close, reopen, and compare every byte with what was acknowledged.
//!
//! A figure is printed only beside the verdict of the replay.

mod audit;
mod floor;
mod load;
mod place;
mod records;
mod replay;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use cohort_wal::{Gather, MemStore, WalOptions};
use serde::Serialize;

use crate::failure::Failure;
use crate::{Verdict, clock, output};
use floor::Gauge;
use load::Load;
use place::Place;
use records::Shape;
use report::{Measured, Report};

const MAX_THREADS: u32 = 1024;
const MAX_RECORD_BYTES: u32 = 64 << 20;
/// Bound on the record buffers of all threads together, in bytes.
const MAX_BUFFER_BYTES: u64 = 1 << 30;
const MAX_SECONDS: f64 = 86_400.0;
/// The load runs in so many rounds, with a slice of the floor before each and after the last.
const ROUNDS: u32 = 8;
/// How long all slices of the floor take at most.
const MAX_FLOOR_TIME: Duration = Duration::from_secs(1);

/// What a thread waits for after each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mode {
    /// Every record is on stable storage before the next (survives power loss).
    Durable,
    /// Every record is with the operating system before the next (survives our death).
    Flushed,
    /// Records are appended only; closing the log makes them durable.
    Buffered,
}

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Directory for the log, absent or empty, and kept. Default: a fresh one below the current
    /// directory, removed at the end.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Threads that share the log.
    #[arg(long, value_name = "N", default_value_t = 8,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_THREADS)))]
    threads: u32,
    /// Bytes per record.
    #[arg(long, value_name = "BYTES", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(0..=i64::from(MAX_RECORD_BYTES)))]
    size: u32,
    /// How long to append, in seconds.
    #[arg(long, default_value_t = 5.0, value_parser = seconds)]
    seconds: f64,
    /// What a thread waits for after each record.
    #[arg(long, value_enum, default_value_t = Mode::Durable)]
    mode: Mode,
    /// Size of the append ring in bytes, a power of two.
    #[arg(long, value_name = "BYTES")]
    ring_bytes: Option<usize>,
    /// Size of a segment file in bytes.
    #[arg(long, value_name = "BYTES")]
    segment_bytes: Option<u64>,
    /// Never let a commit leader wait for company.
    #[arg(long)]
    no_gather: bool,
    /// Let a commit leader that expects company wait for it at most so long, in microseconds.
    #[arg(long, value_name = "MICROS", conflicts_with = "no_gather",
          value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    gather_us: Option<u64>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// Parses how long to go on.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if seconds > 0.0 && seconds <= MAX_SECONDS {
        Ok(seconds)
    } else {
        Err(format!("must be above 0 and at most {MAX_SECONDS}"))
    }
}

impl BenchArgs {
    fn options(&self) -> WalOptions {
        let mut options = WalOptions::new();
        if let Some(bytes) = self.ring_bytes {
            options = options.ring_bytes(bytes);
        }
        if let Some(bytes) = self.segment_bytes {
            options = options.segment_bytes(bytes);
        }
        if self.no_gather {
            options = options.gather(Gather::Off);
        }
        if let Some(micros) = self.gather_us {
            options = options.gather(Gather::Window(Duration::from_micros(micros)));
        }
        options
    }

    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Runs the benchmark. Damage is the verdict when any acknowledged record is missing or wrong, or
/// the log holds anything that nobody appended.
pub(crate) fn execute(args: &BenchArgs) -> Result<Verdict, Failure> {
    if u64::from(args.threads) * u64::from(args.size) > MAX_BUFFER_BYTES {
        return Err(Failure::Usage(format!(
            "{} threads with records of {} bytes need more than 1 GiB of buffers",
            args.threads, args.size
        )));
    }
    // The engine checks its options on a log in memory, before anything is made on disk.
    args.options().open_store(MemStore::new())?.close()?;
    let shape = Shape::new(args.threads, args.size);
    let mut place = Place::prepare(args.dir.as_deref())?;
    let result = measure(args, shape, &place);
    match &result {
        Ok(report) if report.is_clean() => {}
        _ => place.keep_if_written(),
    }
    let report = result?;
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&report.table())?;
    }
    if report.is_clean() {
        return Ok(Verdict::Clean);
    }
    output::complain(&format_args!(
        "lost {} and invented {} records; the log is kept in {}",
        report.lost,
        report.invented,
        place.path().display()
    ));
    Ok(Verdict::Damage)
}

fn measure(args: &BenchArgs, shape: Shape, place: &Place) -> Result<Report, Failure> {
    let mut gauge = Gauge::new(place.path(), args.mode, args.size)?;
    let slice = args.duration().min(MAX_FLOOR_TIME) / (ROUNDS + 1);
    let options = args.options().create_new(true);
    let wal = options.open(place.path())?;
    let mut load = Load::new(&wal, shape, args.mode)?;
    for _ in 0..ROUNDS {
        gauge.slice(place.path(), slice)?;
        load.round(args.duration() / ROUNDS)?;
    }
    gauge.slice(place.path(), slice)?;
    let load = load.done()?;
    let stats = wal.stats();
    let closing = clock::now();
    wal.close()?;
    let closed_in = closing.elapsed();
    drop(wal);
    let replay =
        replay::run(place.path(), args.options().create(false), shape, &load.acknowledged)?;
    Ok(Report::new(
        args,
        place.path(),
        Measured { floor: gauge.floor(), load, stats, closed_in, replay },
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senseless_durations_are_refused() {
        assert_eq!(seconds("0.5"), Ok(0.5));
        for text in ["0", "-1", "NaN", "inf", "1e9", "soon"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
