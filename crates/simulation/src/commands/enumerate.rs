//! `enumerate` and `replay`: every crash of every short workload.

#![allow(clippy::print_stdout, reason = "results go to standard output")]
#![allow(clippy::print_stderr, reason = "failures and progress go to standard error")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use cohort_wal::sim::Profile;
use indicatif::{ProgressBar, ProgressStyle};
use simulation::enumerate::{Address, Failure, Tally, replay, shrink, visit};
use simulation::workload::{Op, Workload};

#[derive(clap::Args)]
pub(crate) struct Enumerate {
    /// Operations of the longest workloads.
    #[arg(long, default_value_t = 4)]
    longest: usize,
    /// The operations of the workloads, a letter each; all of them by default.
    #[arg(long)]
    operations: Option<Workload>,
    /// States of a moment up to which all of them are visited; patterns and random ones beyond.
    #[arg(long, default_value_t = 4096)]
    limit: u64,
    /// The same for workloads of the greatest length.
    #[arg(long)]
    last_limit: Option<u64>,
    /// Goes on with other seeds until so many states were visited.
    #[arg(long, default_value_t = 0)]
    states: u64,
    /// Where everything random begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One profile alone.
    #[arg(long, value_parser = profile)]
    profile: Option<Profile>,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
}

fn profile(name: &str) -> Result<Profile, String> {
    let names = || Profile::ALL.map(Profile::name).join(", ");
    Profile::named(name).ok_or_else(|| format!("one of {}", names()))
}

pub(crate) fn run(arguments: &Enumerate) -> ExitCode {
    let Enumerate { longest, limit, last_limit, states, seed, profile, json, .. } = *arguments;
    let operations = arguments.operations.as_ref().map_or(&Op::ALL[..], |named| &named.0);
    let last_limit = last_limit.unwrap_or(limit);
    let tasks = |seed| {
        let profiles = Profile::ALL.into_iter().filter(move |p| profile.is_none_or(|q| *p == q));
        let profiles: Vec<_> = profiles.collect();
        let workloads = Workload::all(longest, operations).into_iter();
        let tasks = workloads.flat_map(move |workload| {
            let limit = if workload.0.len() < longest { limit } else { last_limit };
            profiles.clone().into_iter().map(move |p| (workload.clone(), p, seed, limit))
        });
        tasks.collect::<Vec<_>>()
    };
    enumerate(tasks, states, seed, json)
}

pub(crate) fn run_one(address: &Address) -> ExitCode {
    match replay(address) {
        Ok(Tally { states: 0, .. }) if !address.falls.is_empty() => {
            eprintln!("{address} names no state of this version");
            ExitCode::from(2)
        }
        Ok(_) => {
            println!("{address} keeps all promises");
            ExitCode::SUCCESS
        }
        Err(failure) => report(&failure),
    }
}

type Task = (Workload, Profile, u64, u64);

/// Visits all tasks of a seed on all cores, then those of the next one until there are enough
/// states.
fn enumerate(tasks: impl Fn(u64) -> Vec<Task>, states: u64, seed: u64, json: bool) -> ExitCode {
    let start = SystemTime::now();
    let elapsed = || start.elapsed().unwrap_or(Duration::ZERO);
    let mut total = Tally::default();
    let mut seeds = 0;
    while seeds == 0 || total.states < states {
        let tasks = tasks(seed + seeds);
        seeds += 1;
        let bar = ProgressBar::new(tasks.len() as u64);
        let style = "{elapsed_precise} {bar:40} {pos}/{len} workloads, {msg}, {eta} to go";
        bar.set_style(
            ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()),
        );
        let (next, tally) = (AtomicUsize::new(0), Mutex::new(total));
        let failure: Mutex<Option<Box<Failure>>> = Mutex::new(None);
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    loop {
                        let Some((workload, profile, seed, limit)) =
                            tasks.get(next.fetch_add(1, Ordering::Relaxed))
                        else {
                            return;
                        };
                        match visit(workload, *profile, *seed, *limit) {
                            Ok(visited) => {
                                let Ok(mut tally) = tally.lock() else { return };
                                tally.add(&visited);
                                bar.set_message(format!("{} states", tally.states));
                                bar.inc(1);
                                if seeds > 1 && tally.states >= states {
                                    next.store(tasks.len(), Ordering::Relaxed);
                                }
                            }
                            Err(found) => {
                                next.store(tasks.len(), Ordering::Relaxed);
                                let Ok(mut failure) = failure.lock() else { return };
                                failure.get_or_insert(found);
                            }
                        }
                    }
                });
            }
        });
        bar.finish_and_clear();
        total = tally.into_inner().unwrap_or_default();
        if let Some(failure) = failure.into_inner().ok().flatten() {
            return report(&failure);
        }
    }
    let seconds = elapsed().as_secs_f64();
    let per_s = total.states as f64 / seconds;
    if json {
        let mut object = serde_json::to_value(total).unwrap_or_default();
        object["seconds"] = seconds.into();
        object["states_per_s"] = per_s.into();
        object["seeds"] = seeds.into();
        println!("{object}");
    } else {
        let Tally { workloads, moments, exhausted, states, nested, repeated } = total;
        println!(
            "{states} states, no promise broken: {seconds:.0} s, {per_s:.0} states/s\n\
             {workloads} workloads, {moments} moments, {exhausted} with every state there is; \
             {nested} states by a crash in a recovery; {repeated} states reached again"
        );
    }
    ExitCode::SUCCESS
}

fn report(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    if !failure.address.falls.is_empty() {
        eprintln!("shrinking");
        let small = shrink(failure);
        if small.address != failure.address {
            eprintln!("{small}");
        }
    }
    ExitCode::FAILURE
}
