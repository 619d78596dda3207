//! `calls`: every store call of long workloads fails in every way.

#![allow(clippy::print_stdout, reason = "results go to standard output")]
#![allow(clippy::print_stderr, reason = "failures and progress go to standard error")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use simulation::calls::{Address, Failure, Tally, replay, shrink, sweep};

use super::work::{cores, work};

#[derive(clap::Args)]
pub(crate) struct Calls {
    /// Workloads of 10 to 40 operations.
    #[arg(long, default_value_t = 200)]
    workloads: u64,
    /// One of so many runs of each workload.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    stride: u64,
    /// Where everything random begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// The one run that a failure named.
    #[arg(long)]
    replay: Option<Address>,
}

pub(crate) fn run(arguments: &Calls) -> ExitCode {
    let Calls { workloads, stride, seed, json, replay: address } = arguments;
    if let Some(address) = address {
        return match replay(address) {
            Ok(_) => {
                println!("{address} keeps all promises");
                ExitCode::SUCCESS
            }
            Err(failure) => report(&failure),
        };
    }
    let start = SystemTime::now();
    let mut total = Tally::default();
    let swept = work(
        (*workloads, "workloads"),
        cores(),
        |workload| sweep(workload, *seed, *stride),
        |tally| {
            total.add(&tally);
            format!("{} runs", total.runs)
        },
    );
    if let Err(failure) = swept {
        return report(&failure);
    }
    let seconds = start.elapsed().unwrap_or(Duration::ZERO).as_secs_f64();
    if *json {
        let mut object = serde_json::to_value(total).unwrap_or_default();
        object["seconds"] = seconds.into();
        println!("{object}");
    } else {
        let Tally { workloads, runs, struck, calls, poisoned, full, reads, opens, states } = total;
        println!(
            "{runs} runs of {workloads} workloads, no promise broken: {seconds:.0} s\n\
             {struck} struck, {calls} calls failed; {poisoned} logs poisoned, {full} operations \
             without space, {reads} reads and {opens} openings failed; {states} states judged"
        );
    }
    ExitCode::SUCCESS
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("{failure}\nshrinking");
    let small = shrink(failure);
    if small.address != failure.address {
        eprintln!("{small}");
    }
    ExitCode::FAILURE
}
