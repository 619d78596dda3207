//! The same load on cohort-wal and on its peers, alternating, in one run; and pictures of it.
//!
//! A figure means nothing without the promise behind it. The table and the JSON say what each
//! peer has promised, `README.md` what cannot be compared.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::plan::Plan;
use crate::report::{About, Host, Results, Row};

mod cell;
mod clock;
mod compare;
mod delay;
mod draw;
mod floor;
mod loads;
mod peers;
mod plan;
mod records;
mod report;
mod rounds;
mod stats;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Debug, Parser)]
#[command(about = "The same load on cohort-wal and on its peers")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Appends without waiting: sustained, with a flush at the end of the window, and in bursts.
    Buffered(Plan),
    /// Commits in a closed loop: throughput, commits per sync, latency at saturation.
    Durable(Plan),
    /// Every eighth record committed, the others appended, by all threads in a closed loop.
    Mixed(Plan),
    /// Commits at intended moments, at shares of the capacity: latency from the intended moment.
    OpenLoop(Plan),
    /// Opens a log and reads all of it, from the page cache.
    Replay(Plan),
    /// cohort-wal alone, over a store whose sync takes as long as it is told.
    Delay(Plan),
    /// Two builds of the command line tool under the load of its `bench`, by ratio.
    Compare(compare::Comparison),
    /// Draws results as SVG.
    Draw {
        /// What `--json` printed.
        #[arg(required = true)]
        results: Vec<PathBuf>,
        /// Where the pictures go; files of the same name are replaced.
        #[arg(long)]
        into: PathBuf,
    },
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Buffered(_) => "buffered",
            Self::Durable(_) => "durable",
            Self::Mixed(_) => "mixed",
            Self::OpenLoop(_) => "open-loop",
            Self::Replay(_) => "replay",
            Self::Delay(_) => "delay",
            Self::Compare(_) => "compare",
            Self::Draw { .. } => "draw",
        }
    }
}

/// False when something that was acknowledged could not be read back.
fn execute(command: &Command) -> Fallible<bool> {
    let plan = match command {
        Command::Draw { results, into } => {
            for path in draw::draw(results, into)? {
                writeln!(io::stdout(), "{}", path.display())?;
            }
            return Ok(true);
        }
        Command::Compare(comparison) => {
            compare::compare(comparison)?;
            return Ok(true);
        }
        Command::Buffered(plan)
        | Command::Durable(plan)
        | Command::Mixed(plan)
        | Command::OpenLoop(plan)
        | Command::Replay(plan)
        | Command::Delay(plan) => plan,
    };
    let base = tempfile::Builder::new().prefix("peer-bench-").tempdir_in(&plan.dir)?;
    let peers = match command {
        Command::Delay(_) => peers::ALL.iter().take(1).map(About::from).collect(),
        _ => plan.peers()?.iter().map(About::from).collect(),
    };
    let mut results = Results {
        load: command.name().to_owned(),
        seconds: plan.seconds,
        rounds: plan.rounds,
        host: Host::of(base.path()),
        peers,
        rows: Vec::new(),
    };
    let mut out = io::stdout().lock();
    if !plan.json {
        writeln!(out, "{}", report::head(&results))?;
    }
    let mut last: Option<Row> = None;
    let mut emit = |row: Row| -> Fallible<()> {
        if !plan.json {
            if last.as_ref().is_some_and(|last| !last.same_group(&row)) {
                writeln!(out)?;
            }
            writeln!(out, "{}", report::line(&row))?;
            out.flush()?;
        }
        last = Some(row.clone());
        results.rows.push(row);
        Ok(())
    };
    match command {
        Command::Buffered(_) => loads::buffered(plan, base.path(), &mut emit)?,
        Command::Durable(_) => loads::durable(plan, base.path(), &mut emit)?,
        Command::Mixed(_) => loads::mixed(plan, base.path(), &mut emit)?,
        Command::OpenLoop(_) => loads::open_loop(plan, base.path(), &mut emit)?,
        Command::Replay(_) => loads::replay(plan, base.path(), &mut emit)?,
        Command::Delay(_) => delay::measure(plan, &mut emit)?,
        Command::Compare(_) | Command::Draw { .. } => {}
    }
    if plan.json {
        serde_json::to_writer(&mut out, &results)?;
        writeln!(out)?;
    }
    Ok(results.rows.iter().all(|row| row.verified != Some(false)))
}

fn main() -> ExitCode {
    match execute(&Cli::parse().command) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            writeln!(io::stderr(), "peer-bench: not all that was acknowledged was read back").ok();
            ExitCode::FAILURE
        }
        Err(error) => {
            writeln!(io::stderr(), "peer-bench: {error}").ok();
            ExitCode::FAILURE
        }
    }
}
