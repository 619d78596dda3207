//! Commands of the simulation; `docs/TESTING.md` says what each is for.

mod commands;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{calls, damage, enumerate};

/// Crashes, faults and damage for cohort-wal on a simulated disk.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Logs are compressed and encrypted; not those of `damage`.
    #[arg(long, global = true)]
    sealed: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Visits crash states of all short workloads, on every profile.
    Enumerate(enumerate::Enumerate),
    /// Visits the one state that a failure of `enumerate` named.
    Replay {
        /// WORKLOAD/PROFILE/SEED/LIMIT/MOMENT:STATE/...
        address: simulation::enumerate::Address,
    },
    /// Makes every store call of long workloads fail, in every way.
    Calls(calls::Calls),
    /// Damages logs in several places at once.
    Damage(damage::Damage),
}

fn main() -> ExitCode {
    let Arguments { sealed, command } = Arguments::parse();
    if sealed {
        simulation::workload::seal();
    }
    match command {
        Command::Enumerate(arguments) => enumerate::run(&arguments),
        Command::Replay { address } => enumerate::run_one(&address),
        Command::Calls(arguments) => calls::run(&arguments),
        Command::Damage(arguments) => damage::run(&arguments),
    }
}
