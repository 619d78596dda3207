//! What a run found: as a table, as JSON, and read again to be drawn.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::peers::Peer;
use crate::stats::{Latency, Spread};

/// One invocation.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) load: String,
    pub(crate) seconds: f64,
    pub(crate) rounds: usize,
    pub(crate) host: Host,
    pub(crate) peers: Vec<About>,
    pub(crate) rows: Vec<Row>,
}

/// Where it ran, as far as figures depend on it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Host {
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) kernel: Option<String>,
    pub(crate) cpu: Option<String>,
    pub(crate) cores: usize,
    pub(crate) file_system: Option<String>,
}

impl Host {
    /// Asks the system; what it does not tell is left out.
    pub(crate) fn of(dir: &Path) -> Self {
        let cpu = fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
            let line = text.lines().find(|line| line.starts_with("model name"))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        });
        Self {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease")
                .ok()
                .map(|text| text.trim().to_owned()),
            cpu,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            file_system: file_system(dir),
        }
    }
}

/// The type of the innermost mount that holds `dir`.
fn file_system(dir: &Path) -> Option<String> {
    let dir = dir.canonicalize().ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = mounts.filter(|(place, _)| dir.starts_with(place));
    holding.max_by_key(|(place, _)| place.len()).map(|(_, kind)| kind.to_owned())
}

/// A peer, as it was set up.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) name: String,
    pub(crate) version: String,
    pub(crate) buffered: Option<String>,
    pub(crate) durable: String,
    pub(crate) settings: String,
}

impl From<&Peer> for About {
    fn from(peer: &Peer) -> Self {
        Self {
            name: peer.name.to_owned(),
            version: peer.version.to_owned(),
            buffered: peer.buffered.map(str::to_owned),
            durable: peer.durable.to_owned(),
            settings: peer.settings.to_owned(),
        }
    }
}

/// What one thread reaches without a log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Floor {
    pub(crate) what: String,
    pub(crate) per_s: f64,
}

/// One peer under one load, over all rounds.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) load: String,
    pub(crate) peer: String,
    pub(crate) threads: usize,
    pub(crate) size: usize,
    /// What a record is promised when the window ends.
    pub(crate) promise: String,
    /// Open loop: the share of the peer's own capacity that was asked for.
    pub(crate) offered_percent: Option<f64>,
    pub(crate) offered_per_s: Option<f64>,
    /// Delay: how long the store's sync was told to take.
    pub(crate) delay_us: Option<u64>,
    /// Delay: how long it takes, as measured.
    pub(crate) sync_us: Option<f64>,
    /// Delay: how long a thread thinks between commits, on average.
    pub(crate) think_us: Option<f64>,
    pub(crate) per_s: Spread,
    pub(crate) per_s_rounds: Vec<f64>,
    pub(crate) per_sync: Option<f64>,
    pub(crate) latency: Option<Latency>,
    pub(crate) floor: Option<Floor>,
    /// Of the median to the floor.
    pub(crate) ratio: Option<f64>,
    /// Whether everything that was acknowledged was read back, where the peer can read.
    pub(crate) verified: Option<bool>,
}

impl Row {
    /// Groups rows that belong in one table or picture.
    pub(crate) fn same_group(&self, other: &Self) -> bool {
        (&self.load, self.size, self.delay_us, self.think_us.is_some())
            == (&other.load, other.size, other.delay_us, other.think_us.is_some())
    }
}

const HEADER: &str = "\
load       peer                                 thr  size        per s  \
(        min to         max)  vs floor  /sync       p50 us       \
p99 us      p99.9 us        max us  read back";

/// The head of the table, with what each peer promises.
pub(crate) fn head(results: &Results) -> String {
    let mut text = String::new();
    let host = &results.host;
    let told = |what: &Option<String>| what.clone().unwrap_or_else(|| "unknown".to_owned());
    // Writing into a string cannot fail.
    writeln!(
        text,
        "{} {}, {} cores of {}, {} on {}",
        host.os,
        told(&host.kernel),
        host.cores,
        told(&host.cpu),
        results.load,
        told(&host.file_system),
    )
    .ok();
    writeln!(
        text,
        "medians of {} rounds of {} s, peers in turn; ratios to the floor of the same rounds\n",
        results.rounds, results.seconds
    )
    .ok();
    for peer in &results.peers {
        let buffered = peer.buffered.as_deref().unwrap_or("none");
        writeln!(text, "{} {}\n  durable: {}", peer.name, peer.version, peer.durable).ok();
        writeln!(text, "  buffered: {buffered}\n  {}", peer.settings).ok();
    }
    writeln!(text, "\n{HEADER}").ok();
    text
}

/// One line of the table.
pub(crate) fn line(row: &Row) -> String {
    let mut name = row.peer.clone();
    if let Some(micros) = row.delay_us {
        write!(name, " {micros}us sync").ok();
    }
    for (value, unit) in [(row.offered_percent, "%"), (row.think_us, "us thought")] {
        if let Some(value) = value {
            write!(name, " {value:.0}{unit}").ok();
        }
    }
    let mut text = format!(
        "{:<10} {:<35} {:>4} {:>5} {:>12.0}  ({:>11.0} to {:>11.0})",
        row.load, name, row.threads, row.size, row.per_s.median, row.per_s.min, row.per_s.max
    );
    let optional = |text: &mut String, value: Option<f64>, width: usize, digits: usize| {
        match value {
            Some(value) => write!(text, " {value:>width$.digits$}"),
            None => write!(text, " {:>width$}", "-"),
        }
        .ok();
    };
    optional(&mut text, row.ratio, 9, 3);
    optional(&mut text, row.per_sync, 6, 1);
    let latency = row.latency.as_ref();
    optional(&mut text, latency.map(|latency| latency.p50_us), 12, 1);
    optional(&mut text, latency.map(|latency| latency.p99_us), 12, 1);
    optional(&mut text, latency.map(|latency| latency.p999_us), 13, 1);
    optional(&mut text, latency.map(|latency| latency.max_us), 13, 1);
    let verified = match row.verified {
        Some(true) => "all",
        Some(false) => "NOT ALL",
        None => "-",
    };
    write!(text, "  {verified}").ok();
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_is_known_and_dashes_what_is_not() {
        let mut row = Row { load: "durable".into(), peer: "naive".into(), ..Row::default() };
        assert!(line(&row).ends_with("-  -"));
        row.verified = Some(false);
        row.ratio = Some(0.5);
        row.offered_percent = Some(75.0);
        let line = line(&row);
        assert!(line.contains("naive 75%") && line.contains("0.500") && line.ends_with("NOT ALL"));
    }

    #[test]
    fn results_survive_json() {
        let row = Row { load: "durable".into(), verified: Some(true), ..Row::default() };
        let host = Host::of(Path::new("."));
        let results = Results {
            load: "durable".into(),
            seconds: 1.0,
            rounds: 5,
            host,
            peers: crate::peers::ALL.iter().map(About::from).collect(),
            rows: vec![row],
        };
        let text = serde_json::to_string(&results).unwrap();
        let again: Results = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&again).unwrap(), text);
        assert!(head(&again).contains("cohort-wal"));
    }

    #[test]
    fn rows_of_one_group_share_load_size_and_delay() {
        let row = |size, delay_us| Row { size, delay_us, ..Row::default() };
        assert!(row(64, Some(1000)).same_group(&row(64, Some(1000))));
        assert!(!row(64, Some(1000)).same_group(&row(64, Some(5000))));
        assert!(!row(64, None).same_group(&row(1024, None)));
    }
}
