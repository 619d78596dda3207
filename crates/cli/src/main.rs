//! `cohort-wal`: measures, inspects and verifies write-ahead logs.
//!
//! Results go to stdout, progress and errors to stderr. Every command but `bench` and `repair`
//! leaves the log as it is, and is safe beside a live writer; `repair` takes the lock, and changes
//! something only with `--yes`. Exit codes: 0 clean, 1 damage or loss found, 2 usage (also: no log
//! there), 3 locked, 4 I/O.

mod bench;
mod clock;
mod dump;
mod explain;
mod failure;
mod gone;
mod histogram;
mod info;
mod ls;
mod map;
mod output;
mod payload;
mod progress;
mod record;
mod repair;
mod salvage;
mod stats;
mod tail;
mod terminal;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

const EXIT_CODES: &str = "Exit codes: 0 clean, 1 damage or loss found, 2 usage (also: no log \
                          there), 3 locked, 4 I/O.";

#[derive(Debug, Parser)]
#[command(name = "cohort-wal", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine on real files, then reopen, replay and check every record.
    Bench(bench::BenchArgs),
    /// Show where a log begins and ends and which segments it has. Changes nothing.
    Info(info::InfoArgs),
    /// Read every record of a log and check it. Changes nothing.
    Verify(verify::VerifyArgs),
    /// Say what is wrong with a log and what a repair would cost; with --yes, do it.
    Repair(repair::RepairArgs),
    /// Copy what is intact of a damaged log into a new one; say what is lost.
    Salvage(salvage::SalvageArgs),
    /// List every file of a log and what it says, of a damaged log too. Changes nothing.
    Ls(ls::LsArgs),
    /// Print the records that are witnessed as durable, up to the first damage. Changes nothing.
    Dump(dump::DumpArgs),
    /// Print the last records; with --follow, go on with those to come. Changes nothing.
    Tail(tail::TailArgs),
    /// Explain the bytes at an LSN: the frame there, field by field. Changes nothing.
    Explain(explain::ExplainArgs),
    /// Draw what the bytes of every segment are, one strip for each. Changes nothing.
    Map(map::MapArgs),
    /// Sum up a log: sizes, cohorts, and with --live how fast it grows. Changes nothing.
    Stats(stats::StatsArgs),
}

/// What a command that ran to its end found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Clean,
    Damage,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Bench(args) => bench::execute(&args),
        Command::Info(args) => info::execute(&args),
        Command::Verify(args) => verify::execute(&args),
        Command::Repair(args) => repair::execute(&args),
        Command::Salvage(args) => salvage::execute(&args),
        Command::Ls(args) => ls::execute(&args),
        Command::Dump(args) => dump::execute(&args),
        Command::Tail(args) => tail::execute(&args),
        Command::Explain(args) => explain::execute(&args),
        Command::Map(args) => map::execute(&args),
        Command::Stats(args) => stats::execute(&args),
    };
    match outcome {
        Ok(Verdict::Clean) => ExitCode::SUCCESS,
        Ok(Verdict::Damage) => ExitCode::from(failure::DAMAGE),
        Err(failure) => {
            output::complain(&failure);
            ExitCode::from(failure.exit_code())
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
