//! Samples, medians, and the table.

#![allow(clippy::print_stdout, reason = "its only output is a report")]

use std::path::Path;
use std::time::Duration;

use crate::commit::Way;
use crate::common::median;

/// Where it is worth building: that much more throughput, and no worse tail.
const WORTH: (f64, f64) = (1.15, 1.0);
const WORTH_THREADS: usize = 8;
const COLUMNS: [(&str, (bool, usize)); 6] = [
    ("sync 2", (false, 2)),
    ("sync 4", (false, 4)),
    ("direct 1", (true, 1)),
    ("direct 2", (true, 2)),
    ("direct 3", (true, 3)),
    ("direct 4", (true, 4)),
];

/// One way in one round.
#[derive(Debug)]
pub(crate) struct Sample {
    latencies: Vec<Duration>,
    commits: f64,
    rate: f64,
    device_bytes: f64,
    writes: f64,
    log_bytes: f64,
}

impl Sample {
    pub(crate) fn new(latencies: Vec<Duration>, elapsed: Duration) -> Self {
        let commits = latencies.len() as f64;
        let rate = commits / elapsed.as_secs_f64();
        Self { latencies, commits, rate, device_bytes: 0.0, writes: 0.0, log_bytes: 0.0 }
    }

    pub(crate) fn with_writes(self, writes: u64, bytes: u64, device: u64) -> Self {
        Self { writes: writes as f64, log_bytes: bytes as f64, device_bytes: device as f64, ..self }
    }
}

/// All ways of one number of threads and one size of records.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) threads: usize,
    pub(crate) size: usize,
    pub(crate) samples: Vec<(Way, Vec<Sample>)>,
}

fn median_of(samples: &[Sample], value: impl Fn(&Sample) -> f64) -> f64 {
    median(&mut samples.iter().map(value).collect::<Vec<_>>())
}

impl Cell {
    pub(crate) fn new(threads: usize, size: usize, ways: &[Way]) -> Self {
        Self { threads, size, samples: ways.iter().map(|way| (*way, Vec::new())).collect() }
    }

    /// The better of a leader that gathers and one that does not, and which that is.
    fn best(&self, kind: (bool, usize)) -> Option<(bool, &[Sample])> {
        let all = self.samples.iter().filter(|(way, _)| (way.direct, way.depth) == kind);
        let rated = all.map(|(way, samples)| (median_of(samples, |s| s.rate), way, samples));
        let (_, way, samples) = rated.max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some((way.gather, samples))
    }

    /// Ratios to `sync`: of the rate, round by round, with its quartiles, and of p99.
    fn against(&self, base: &[Sample], kind: (bool, usize)) -> Option<Ratios> {
        let (gathers, samples) = self.best(kind)?;
        let mut rates: Vec<f64> = samples.iter().zip(base).map(|(a, b)| a.rate / b.rate).collect();
        rates.sort_by(f64::total_cmp);
        let faster = [1, 2, 3].map(|quarter| rates[rates.len() * quarter / 4]);
        let at_best = rate_at_best(samples) / rate_at_best(base);
        Some(Ratios { gathers, faster, at_best, slower: p99_ms(samples) / p99_ms(base) })
    }
}

struct Ratios {
    gathers: bool,
    faster: [f64; 3],
    /// Of the rates that one round in ten exceeds: what other processes took away counts less.
    at_best: f64,
    slower: f64,
}

fn rate_at_best(samples: &[Sample]) -> f64 {
    let mut rates: Vec<f64> = samples.iter().map(|sample| sample.rate).collect();
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() * 9 / 10).copied().unwrap_or(f64::NAN)
}

/// Of all rounds together.
fn p99_ms(samples: &[Sample]) -> f64 {
    let mut all: Vec<Duration> = samples.iter().flat_map(|s| &s.latencies).copied().collect();
    all.sort_unstable();
    all.get(all.len() * 99 / 100).map_or(f64::NAN, |p99| p99.as_secs_f64() * 1e3)
}

fn mark(gathers: bool) -> char {
    if gathers { 'g' } else { ' ' }
}

/// Prints ratios of throughput and of p99, then bytes, then where direct writes are worth it.
pub(crate) fn print(dir: &Path, cells: &[Cell]) {
    println!("\n{}: commits/s and p99 of `sync`", dir.display());
    println!("others to `sync`: throughput (quartiles) at best/p99; g: the leader gathers");
    let names: String = COLUMNS.iter().map(|(name, _)| format!("{name:>24} ")).collect();
    println!("threads  size       sync   p99 ms{names}");
    let mut worth = Vec::new();
    for cell in cells {
        let Some((gathers, base)) = cell.best((false, 1)) else { continue };
        let (rate, p99) = (median_of(base, |s| s.rate), p99_ms(base));
        let mut row = format!("{:7} {:5}", cell.threads, cell.size);
        row += &format!(" {rate:9.0}{} {p99:8.2}", mark(gathers));
        for (name, kind) in COLUMNS {
            let Some(ratios) = cell.against(base, kind) else {
                row += &format!("{:>24} ", "-");
                continue;
            };
            let ([low, faster, high], slower) = (ratios.faster, ratios.slower);
            let at_best = ratios.at_best;
            let text = format!("{faster:.2} ({low:.1}-{high:.1}) {at_best:.2}/{slower:.2}");
            row += &format!(" {text:>23}{}", mark(ratios.gathers));
            let pays = faster >= WORTH.0 && slower <= WORTH.1;
            if pays && cell.threads >= WORTH_THREADS && name.starts_with("direct") {
                worth.push(format!("{name} at {} x {}", cell.threads, cell.size));
            }
        }
        println!("{row}");
    }
    print_bytes(cells);
    print_same_depth(cells);
    println!("worth it (throughput x{}, p99 x{}): {worth:?}", WORTH.0, WORTH.1);
}

fn print_bytes(cells: &[Cell]) {
    println!("commits of one write | bytes of log | bytes written to the device, for each commit");
    println!("threads  size            sync           direct 1           direct 4");
    for cell in cells {
        let mut row = format!("{:7} {:5}", cell.threads, cell.size);
        for kind in [(false, 1), (true, 1), (true, 4)] {
            let Some((_, samples)) = cell.best(kind) else { continue };
            let cohort = median_of(samples, |s| s.commits / s.writes);
            let log = median_of(samples, |s| s.log_bytes / s.commits);
            let device = median_of(samples, |s| s.device_bytes / s.commits);
            row += &format!(" {cohort:5.1}|{log:5.0}|{device:6.0}");
        }
        println!("{row}");
    }
}

/// What being direct does by itself.
fn print_same_depth(cells: &[Cell]) {
    println!("direct to sync, throughput/p99, at the same depth");
    println!("threads  size           1           2           4");
    for cell in cells {
        let mut row = format!("{:7} {:5}", cell.threads, cell.size);
        for depth in [1, 2, 4] {
            let Some((_, base)) = cell.best((false, depth)) else { continue };
            let Some(ratios) = cell.against(base, (true, depth)) else { continue };
            row += &format!("  {:5.2}/{:4.2}", ratios.faster[1], ratios.slower);
        }
        println!("{row}");
    }
}
