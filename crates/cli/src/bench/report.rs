//! [`Report`]: the figures of one benchmark, as JSON and as a table.

use std::path::Path;
use std::time::Duration;

use cohort_wal::WalStats;
use hdrhistogram::Histogram;
use serde::Serialize;

use super::floor::{Floor, FloorKind};
use super::load::Loaded;
use super::replay::Replay;
use super::{BenchArgs, Mode};
use crate::output::{Facts, grouped, grouped_rate};

/// What the three phases measured.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) floor: Floor,
    pub(crate) load: Loaded,
    pub(crate) stats: WalStats,
    pub(crate) closed_in: Duration,
    pub(crate) replay: Replay,
}

/// The figures of one benchmark. Field names are the JSON interface.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) version: &'static str,
    pub(crate) dir: String,
    pub(crate) threads: u32,
    pub(crate) size: u32,
    pub(crate) mode: Mode,
    /// As asked for.
    pub(crate) seconds: f64,
    /// From the common start until the last thread was done.
    pub(crate) elapsed_s: f64,
    /// Acknowledged records.
    pub(crate) records: u64,
    pub(crate) per_s: f64,
    pub(crate) payload_bytes_per_s: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    /// No record took longer. Where only some are timed this bounds the others with them.
    pub(crate) max_us: f64,
    /// One of so many records was timed.
    pub(crate) latency_sampled_every: u64,
    pub(crate) flushes: u64,
    pub(crate) syncs: u64,
    pub(crate) commits_per_sync: f64,
    pub(crate) floor: FloorKind,
    pub(crate) floor_per_s: f64,
    pub(crate) floor_ratio: f64,
    /// Closing the log: in mode buffered, making its end durable.
    pub(crate) close_ms: f64,
    pub(crate) open_ms: f64,
    pub(crate) replay_per_s: f64,
    pub(crate) replayed: u64,
    pub(crate) lost: u64,
    pub(crate) invented: u64,
    pub(crate) first_bad: Option<String>,
}

impl Report {
    pub(crate) fn new(args: &BenchArgs, dir: &Path, measured: Measured) -> Self {
        let Measured { floor, load, stats, closed_in, replay } = measured;
        let records = load.acknowledged.iter().sum();
        let per_s = rate(records, load.elapsed);
        Self {
            version: env!("CARGO_PKG_VERSION"),
            dir: dir.display().to_string(),
            threads: args.threads,
            size: args.size,
            mode: args.mode,
            seconds: args.seconds,
            elapsed_s: load.elapsed.as_secs_f64(),
            records,
            per_s,
            payload_bytes_per_s: per_s * f64::from(args.size),
            p50_us: quantile_us(&load.latency, 0.5),
            p99_us: quantile_us(&load.latency, 0.99),
            p999_us: quantile_us(&load.latency, 0.999),
            max_us: load.longest.as_secs_f64() * 1e6,
            latency_sampled_every: load.sampled_every,
            flushes: stats.flushes,
            syncs: stats.syncs,
            commits_per_sync: ratio(stats.commits as f64, stats.syncs as f64),
            floor: floor.kind,
            floor_per_s: floor.per_s,
            floor_ratio: ratio(per_s, floor.per_s),
            close_ms: closed_in.as_secs_f64() * 1e3,
            open_ms: replay.opened_in.as_secs_f64() * 1e3,
            replay_per_s: rate(replay.findings.replayed, replay.elapsed),
            replayed: replay.findings.replayed,
            lost: replay.findings.lost,
            invented: replay.findings.invented,
            first_bad: replay.findings.first_bad,
        }
    }

    /// True when every acknowledged record came back, and nothing else did.
    pub(crate) fn is_clean(&self) -> bool {
        self.lost == 0 && self.invented == 0
    }

    pub(crate) fn table(&self) -> String {
        let mut facts = Facts::default();
        let mode = match self.mode {
            Mode::Durable => "durable (append_and_sync)",
            Mode::Flushed => "flushed (append, flush)",
            Mode::Buffered => "buffered (append)",
        };
        facts.add("load", format!("{mode}, {} threads, {} bytes", self.threads, self.size));
        facts.add("records", format!("{} in {:.2} s", grouped(self.records), self.elapsed_s));
        facts.add(
            "rate",
            format!("{} /s, {:.1} MB/s", grouped_rate(self.per_s), self.payload_bytes_per_s / 1e6),
        );
        let sampled = match self.latency_sampled_every {
            1 => String::new(),
            every => format!("  (one of {every} timed)"),
        };
        facts.add(
            "latency us",
            format!(
                "p50 {:.1}  p99 {:.1}  p99.9 {:.1}  max {:.1}{sampled}",
                self.p50_us, self.p99_us, self.p999_us, self.max_us
            ),
        );
        facts.add(
            "syncs",
            format!("{}, {:.1} commits each", grouped(self.syncs), self.commits_per_sync),
        );
        facts.add("flushes", grouped(self.flushes));
        facts.add(
            "floor",
            format!(
                "{} /s ({}); the log reaches {:.2} times that",
                grouped_rate(self.floor_per_s),
                self.floor.describe(),
                self.floor_ratio
            ),
        );
        facts.add("close, open", format!("{:.1} ms, {:.1} ms", self.close_ms, self.open_ms));
        facts.add(
            "replay",
            format!("{} records, {} /s", grouped(self.replayed), grouped_rate(self.replay_per_s)),
        );
        facts.add("lost", grouped(self.lost));
        facts.add("invented", grouped(self.invented));
        if let Some(first_bad) = &self.first_bad {
            facts.add("first bad", first_bad.as_str());
        }
        facts.render()
    }
}

fn quantile_us(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1e3
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    ratio(count as f64, elapsed.as_secs_f64())
}

/// Zero where there is nothing to divide by, so that every figure is a JSON number.
fn ratio(numerator: f64, denominator: f64) -> f64 {
    if denominator > 0.0 { numerator / denominator } else { 0.0 }
}
