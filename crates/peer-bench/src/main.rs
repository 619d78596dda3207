//! The same load on cohort-wal and on its peers, alternating, in one run.
//!
//! A figure means nothing without the promise behind it. wal-db's `append` is a pwrite: its record
//! is in the page cache when it returns, which we call *flushed*; ours is *buffered*. So there is
//! a row for each way of comparing, and the row says what each side has promised.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use serde::Serialize;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

const ROUNDS: usize = 5;
const RECORD: [u8; 64] = [0x5a; 64];

const NOTES: &str = "\
Each log with its own defaults on the same file system: cohort-wal zero-fills segments ahead,
wal-db grows one file. Records of 64 bytes. Medians of 5 runs each, alternating; (min to max).
buffered        cohort-wal: order only; wal-db: page cache, since its append is a pwrite.
buffered+flush  as above, and the window ends when all of it is in the page cache: equal by then.
flushed         each record in the page cache before the next: equal for every record.
durable         each record on stable storage before the next: equal for every record.
";

#[derive(Debug, Parser)]
#[command(about = "The same load on cohort-wal and on its peers", after_help = NOTES)]
struct Cli {
    /// How long each of the runs takes.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// A log under test, shared by all threads of a run.
trait Peer: Send + Sync + Sized {
    const NAME: &'static str;
    /// Opens a new log with the peer's defaults in an empty directory.
    fn open(dir: &Path) -> Fallible<Self>;
    /// Appends with the weakest promise that the peer has.
    fn append(&self, record: &[u8]) -> Fallible<()>;
    /// Hands all that was appended to the operating system.
    fn flush(&self) -> Fallible<()>;
    /// Appends and waits until the record is durable.
    fn commit(&self, record: &[u8]) -> Fallible<()>;
    /// Device syncs so far, where the peer tells.
    fn syncs(&self) -> Option<u64>;
}

impl Peer for cohort_wal::Wal {
    const NAME: &'static str = "cohort-wal";
    fn open(dir: &Path) -> Fallible<Self> {
        Ok(cohort_wal::Wal::open(dir)?)
    }
    fn append(&self, record: &[u8]) -> Fallible<()> {
        self.append(record).map(drop).map_err(Into::into)
    }
    fn flush(&self) -> Fallible<()> {
        Ok(self.flush()?)
    }
    fn commit(&self, record: &[u8]) -> Fallible<()> {
        self.append_and_sync(record).map(drop).map_err(Into::into)
    }
    fn syncs(&self) -> Option<u64> {
        Some(self.stats().syncs)
    }
}

impl Peer for wal_db::Wal {
    const NAME: &'static str = "wal-db";
    fn open(dir: &Path) -> Fallible<Self> {
        Ok(wal_db::Wal::open(dir.join("log.wal"))?)
    }
    fn append(&self, record: &[u8]) -> Fallible<()> {
        self.append(record).map(drop).map_err(Into::into)
    }
    /// Nothing to do: `append` is a pwrite.
    fn flush(&self) -> Fallible<()> {
        Ok(())
    }
    fn commit(&self, record: &[u8]) -> Fallible<()> {
        self.append_and_sync(record).map(drop).map_err(Into::into)
    }
    fn syncs(&self) -> Option<u64> {
        None
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Load {
    Buffered,
    BufferedThenFlush,
    Flushed,
    Durable,
}

impl Load {
    fn name(self) -> &'static str {
        match self {
            Self::Buffered => "buffered",
            Self::BufferedThenFlush => "buffered+flush",
            Self::Flushed => "flushed",
            Self::Durable => "durable",
        }
    }

    /// What a record is promised at the end of the window: by us, by wal-db.
    fn promises(self) -> [&'static str; 2] {
        match self {
            Self::Buffered => ["buffered", "flushed"],
            Self::BufferedThenFlush | Self::Flushed => ["flushed", "flushed"],
            Self::Durable => ["durable", "durable"],
        }
    }

    fn put<P: Peer>(self, peer: &P) -> Fallible<()> {
        match self {
            Self::Buffered | Self::BufferedThenFlush => peer.append(&RECORD),
            Self::Flushed => peer.append(&RECORD).and_then(|()| peer.flush()),
            Self::Durable => peer.commit(&RECORD),
        }
    }
}

const MATRIX: [(Load, usize); 9] = [
    (Load::Buffered, 1),
    (Load::Buffered, 4),
    (Load::BufferedThenFlush, 1),
    (Load::BufferedThenFlush, 4),
    (Load::Flushed, 1),
    (Load::Flushed, 4),
    (Load::Durable, 1),
    (Load::Durable, 8),
    (Load::Durable, 32),
];

/// All runs of one peer under one load.
#[derive(Debug, Default, Serialize)]
struct Runs {
    peer: &'static str,
    promise: &'static str,
    median_per_s: f64,
    all_per_s: Vec<f64>,
    /// Records per device sync in the last run, where the peer tells.
    records_per_sync: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    load: &'static str,
    threads: usize,
    peers: [Runs; 2],
    /// Median of cohort-wal over median of the peer.
    ratio: f64,
}

/// One run in a directory of its own, removed afterwards.
fn run<P: Peer>(
    base: &Path,
    load: Load,
    threads: usize,
    window: Duration,
    runs: &mut Runs,
) -> Fallible<()> {
    let dir = tempfile::tempdir_in(base)?;
    let peer = P::open(dir.path())?;
    let syncs = peer.syncs();
    let stop = AtomicBool::new(false);
    let start = Barrier::new(threads + 1);
    let worker = || -> Fallible<u64> {
        let mut records = 0;
        start.wait();
        // ORDERING: Relaxed, the flag carries no data.
        while !stop.load(Ordering::Relaxed) {
            load.put(&peer)?;
            records += 1;
        }
        Ok(records)
    };
    let (records, elapsed) = thread::scope(|scope| -> Fallible<_> {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        start.wait();
        let started = now();
        thread::sleep(window);
        // ORDERING: Relaxed, as above.
        stop.store(true, Ordering::Relaxed);
        let mut records = 0;
        for worker in workers {
            records += worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        if load == Load::BufferedThenFlush {
            peer.flush()?;
        }
        Ok((records, started.elapsed()))
    })?;
    runs.all_per_s.push(records as f64 / elapsed.as_secs_f64());
    let synced = peer.syncs().zip(syncs).map(|(after, before)| after - before);
    runs.records_per_sync =
        synced.filter(|&syncs| syncs > 0).map(|syncs| records as f64 / syncs as f64);
    Ok(())
}

fn compare<A: Peer, B: Peer>(
    base: &Path,
    load: Load,
    threads: usize,
    window: Duration,
) -> Fallible<Row> {
    let [ours, theirs] = load.promises();
    let mut first = Runs { peer: A::NAME, promise: ours, ..Runs::default() };
    let mut second = Runs { peer: B::NAME, promise: theirs, ..Runs::default() };
    for round in 0..ROUNDS {
        if round % 2 == 0 {
            run::<A>(base, load, threads, window, &mut first)?;
            run::<B>(base, load, threads, window, &mut second)?;
        } else {
            run::<B>(base, load, threads, window, &mut second)?;
            run::<A>(base, load, threads, window, &mut first)?;
        }
    }
    for runs in [&mut first, &mut second] {
        let mut sorted = runs.all_per_s.clone();
        sorted.sort_by(f64::total_cmp);
        runs.median_per_s = sorted[ROUNDS / 2];
    }
    let ratio = first.median_per_s / second.median_per_s;
    Ok(Row { load: load.name(), threads, peers: [first, second], ratio })
}

fn print_row(out: &mut impl Write, row: &Row) -> io::Result<()> {
    write!(out, "{:<15}{:>3}", row.load, row.threads)?;
    for runs in &row.peers {
        let min = runs.all_per_s.iter().copied().fold(f64::INFINITY, f64::min);
        let max = runs.all_per_s.iter().copied().fold(0.0, f64::max);
        write!(
            out,
            "  {:>11.0} ({min:>9.0} to {max:>9.0}) {:<8}",
            runs.median_per_s, runs.promise
        )?;
    }
    let per_sync = match row.peers[0].records_per_sync {
        Some(records) if row.peers[0].promise == "durable" => format!("{records:.1} / n/a"),
        _ => String::new(),
    };
    writeln!(out, "  {:>7.2}  {per_sync}", row.ratio)?;
    out.flush()
}

fn measure(cli: &Cli) -> Fallible<()> {
    let window = Duration::try_from_secs_f64(cli.seconds)?;
    let base = tempfile::Builder::new().prefix("peer-bench-").tempdir_in(".")?;
    let mut out = io::stdout().lock();
    if !cli.json {
        writeln!(
            out,
            "{NOTES}\n{:<18}  {:<45}  {:<45}  {:>7}  records per sync",
            "load, threads", "cohort-wal /s, promise", "wal-db /s, promise", "ratio"
        )?;
    }
    let mut rows = Vec::new();
    for (load, threads) in MATRIX {
        let row = compare::<cohort_wal::Wal, wal_db::Wal>(base.path(), load, threads, window)?;
        if !cli.json {
            print_row(&mut out, &row)?;
        }
        rows.push(row);
    }
    if cli.json {
        let notes: Vec<_> = NOTES.lines().collect();
        let all = serde_json::json!({ "seconds": cli.seconds, "notes": notes, "rows": rows });
        writeln!(out, "{all}")?;
    }
    Ok(())
}

fn main() -> ExitCode {
    match measure(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            writeln!(io::stderr(), "peer-bench: {error}").ok();
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
fn now() -> Instant {
    Instant::now()
}
