//! The command line.

#![allow(clippy::print_stdout, reason = "results go to standard output")]
#![allow(clippy::print_stderr, reason = "failures and progress go to standard error")]

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use torture::blocks::{self, failing_disk, images};
use torture::cuts::{Failure, kills, power_cuts};
use torture::device::Kind;
use torture::worker;
use torture::{inject, limits};

/// cohort-wal on the real kernel.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Args)]
struct Rounds {
    /// How often.
    #[arg(long, default_value_t = 100)]
    rounds: u64,
    /// Committing threads.
    #[arg(long, default_value_t = 8)]
    threads: u64,
    /// Where everything random begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kills a committing process (SIGKILL) and checks what it was promised.
    Kill(Rounds),
    /// Cuts a file system off its loop device under a committing process, mounts it again and
    /// checks what the process was promised.
    Powercut {
        /// On which file system.
        #[arg(long, value_enum, default_value_t = Kind::Ext4)]
        fs: Kind,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Stops a committing process on a disk of ours, again and again, and recovers from what the
    /// disk could have held: prefixes and subsets of the block writes since its last flush.
    Images {
        /// On which file system.
        #[arg(long, value_enum, default_value_t = Kind::Ext4)]
        fs: Kind,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Lets a disk fail a write or a flush under a log and recover; then reopens the log, and cuts
    /// the power.
    Fsyncgate {
        /// On which file system.
        #[arg(long, value_enum, default_value_t = Kind::Ext4)]
        fs: Kind,
        #[command(flatten)]
        rounds: Rounds,
    },
    /// Makes system calls of a committing process fail, one by one, by strace; `--rounds` bounds
    /// the calls of each kind.
    Inject(Rounds),
    /// Lets a committing process run out of descriptors, of file size, of space, of a file system
    /// that may be written, of its directory.
    Limits(Rounds),
    /// Commits until something fails. What the other commands start.
    #[command(hide = true)]
    Worker {
        dir: PathBuf,
        #[arg(long)]
        threads: u64,
        #[arg(long)]
        round: u64,
        /// Units of each thread.
        #[arg(long, default_value_t = u64::MAX)]
        units: u64,
    },
}

pub(crate) fn main() -> ExitCode {
    match Arguments::parse().command {
        Command::Kill(rounds) => report(&rounds, &|bar| {
            kills(rounds.rounds, rounds.threads, rounds.seed, |tally| {
                bar.set_position(tally.rounds);
                bar.set_message(format!("{} acknowledged", tally.acknowledged));
            })
        }),
        Command::Powercut { fs, rounds } => unless(fs.missing(), || {
            report(&rounds, &|bar| {
                power_cuts(fs, rounds.rounds, rounds.threads, rounds.seed, |tally| {
                    bar.set_position(tally.rounds);
                    bar.set_message(format!("{} acknowledged", tally.acknowledged));
                })
            })
        }),
        Command::Images { fs, rounds } => unless(blocks::missing(fs), || {
            report(&rounds, &|bar| {
                images(fs, rounds.rounds, rounds.threads, rounds.seed, |tally| {
                    bar.set_position(tally.images);
                    bar.set_message(format!("{} acknowledged", tally.acknowledged));
                })
            })
        }),
        Command::Fsyncgate { fs, rounds } => unless(blocks::missing(fs), || {
            report(&rounds, &|bar| {
                failing_disk(fs, rounds.rounds, rounds.seed, |tally| {
                    bar.set_position(tally.failures);
                    bar.set_message(format!("{} images", tally.images));
                })
            })
        }),
        Command::Worker { dir, threads, round, units } => {
            match worker::work(&dir, threads, round, units) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    println!("opening: {error}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Inject(rounds) => unless(inject::missing(), || {
            report(&rounds, &|bar| {
                inject::errors(rounds.rounds, rounds.threads, |tally| {
                    bar.set_position(tally.runs);
                    bar.set_message(format!("{} injected", tally.injected));
                })
            })
        }),
        Command::Limits(rounds) => unless(limits::missing(), || {
            report(&rounds, &|bar| {
                limits::limits(rounds.threads, |tally| bar.set_position(tally.runs))
            })
        }),
    }
}

/// Runs a rig unless this machine cannot have it.
fn unless(missing: Option<String>, rig: impl FnOnce() -> ExitCode) -> ExitCode {
    match missing {
        None => rig(),
        Some(missing) => {
            eprintln!("skipped: {missing}");
            ExitCode::SUCCESS
        }
    }
}

fn report<T: serde::Serialize>(
    rounds: &Rounds,
    run: &dyn Fn(&ProgressBar) -> Result<T, Failure>,
) -> ExitCode {
    let start = SystemTime::now();
    let bar = ProgressBar::new(rounds.rounds);
    let style = ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos}/{len} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let result = run(&bar);
    bar.finish_and_clear();
    let seconds = start.elapsed().map_or(0.0, |elapsed| elapsed.as_secs_f64());
    let tally = match result {
        Ok(tally) => tally,
        Err(Failure::Log(violation)) => {
            eprintln!("{violation}");
            return ExitCode::FAILURE;
        }
        Err(Failure::Rig(error)) => {
            eprintln!("the rig failed: {error}");
            return ExitCode::from(4);
        }
    };
    let mut object = serde_json::to_value(tally).unwrap_or_default();
    object["seconds"] = seconds.round().into();
    if rounds.json {
        println!("{object}");
    } else if let Some(fields) = object.as_object() {
        let fields: Vec<_> = fields.iter().map(|(name, value)| format!("{name} {value}")).collect();
        println!("{}", fields.join(", "));
    }
    ExitCode::SUCCESS
}
