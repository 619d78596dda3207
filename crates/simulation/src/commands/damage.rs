//! `damage`: logs that are damaged in several places at once.

#![allow(clippy::print_stdout, reason = "results go to standard output")]
#![allow(clippy::print_stderr, reason = "failures and progress go to standard error")]

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use simulation::damage::{Address, CASES_OF_A_LOG, Failure, Tally, cases, replay, shrink};

use super::work::{cores, work};

#[derive(clap::Args)]
pub(crate) struct Damage {
    /// How many logs are damaged.
    #[arg(long, default_value_t = 1_000_000)]
    cases: u64,
    /// Where everything random begins.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints one JSON object.
    #[arg(long)]
    json: bool,
    /// The one case that a failure named.
    #[arg(long)]
    replay: Option<Address>,
}

/// Cases that are done between two looks at the progress.
const CHUNK: u64 = 32 * CASES_OF_A_LOG;

pub(crate) fn run(arguments: &Damage) -> ExitCode {
    let Damage { cases: count, seed, json, replay: address } = *arguments;
    if let Some(address) = address {
        return match replay(address) {
            Ok((tally, damage)) => {
                println!("{}\n{tally:?}", damage.join("\n"));
                ExitCode::SUCCESS
            }
            Err(failure) => report(&failure),
        };
    }
    let start = SystemTime::now();
    let mut total = Tally::default();
    let done = work(
        (count.div_ceil(CHUNK), "x 4096 cases"),
        cores(),
        |chunk| cases(seed, chunk * CHUNK, count.min((chunk + 1) * CHUNK)),
        |tally| {
            total.add(&tally);
            format!("{} refused", total.refused_at_open + total.refused_on_reading)
        },
    );
    if let Err(failure) = done {
        return report(&failure);
    }
    let seconds = start.elapsed().unwrap_or(Duration::ZERO).as_secs_f64();
    let per_s = total.cases as f64 / seconds;
    if json {
        let mut object = serde_json::to_value(total).unwrap_or_default();
        object["seconds"] = seconds.into();
        object["cases_per_s"] = per_s.into();
        println!("{object}");
    } else {
        let Tally { cases, lied, refused_at_open, refused_on_reading, .. } = total;
        let Tally { unharmed, last_cohorts, image_refused, older_head, silent, .. } = total;
        println!(
            "{cases} cases, {lied} of them by a device that lied: {seconds:.0} s, {per_s:.0} \
             cases/s\n{refused_at_open} refused at open, {refused_on_reading} on reading, \
             {unharmed} unharmed, {last_cohorts} last cohorts only, {image_refused} but for the \
             snapshot, {older_head} from an older head, {silent} silent"
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
