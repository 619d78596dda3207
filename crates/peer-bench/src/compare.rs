//! Two builds of the command line tool under the same load, alternating.
//!
//! A round runs `bench --json` of both builds, and the next one begins with the other. What counts
//! is the ratio within a round, because the machine is another one a minute later; the median of
//! these ratios is printed with the least and the most. Two copies of one build say how much of a
//! difference is none.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use clap::Args;
use serde::Serialize;

use crate::Fallible;
use crate::stats::Spread;

#[derive(Debug, Clone, Args)]
pub(crate) struct Comparison {
    /// The program that is compared with.
    old: PathBuf,
    /// The program that is compared.
    new: PathBuf,
    /// Runs of each.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Options of `bench`: `-- --threads 8 --mode durable`.
    #[arg(last = true)]
    options: Vec<String>,
}

/// What is compared: the name in the JSON of `bench`.
const FIGURES: [&str; 10] = [
    "per_s",
    "floor_per_s",
    "floor_ratio",
    "commits_per_sync",
    "p50_us",
    "p99_us",
    "p999_us",
    "close_ms",
    "open_ms",
    "replay_per_s",
];

/// One figure of both builds.
#[derive(Debug, Serialize)]
struct Compared {
    figure: &'static str,
    old: Spread,
    new: Spread,
    /// New by old, within each round.
    ratio: Spread,
}

type Figures = BTreeMap<&'static str, f64>;

/// One run of a build.
fn run(program: &Path, options: &[String]) -> Fallible<Figures> {
    let mut command = Command::new(program);
    let command = command.arg("bench").arg("--json").args(options).stderr(Stdio::inherit());
    let output = command.output().map_err(|error| format!("{}: {error}", program.display()))?;
    let run = format!("{} bench {}", program.display(), options.join(" "));
    if !output.status.success() {
        return Err(format!("`{run}` ended with {}", output.status).into());
    }
    let said: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    if said["lost"] != 0 || said["invented"] != 0 {
        return Err(format!("`{run}`: not all that was acknowledged was read back").into());
    }
    let figures = FIGURES.iter().filter_map(|name| Some((*name, said[*name].as_f64()?)));
    Ok(figures.collect())
}

fn compared(old: &[Figures], new: &[Figures]) -> Vec<Compared> {
    let of =
        |runs: &[Figures], figure| Spread::of(runs.iter().filter_map(|r| r.get(figure)).copied());
    let rows = FIGURES.iter().filter_map(|&figure| {
        let ratios = old.iter().zip(new).filter_map(|(old, new)| {
            let (old, new) = (old.get(figure)?, new.get(figure)?);
            (*old > 0.0).then_some(new / old)
        });
        let ratio = Spread::of(ratios)?;
        Some(Compared { figure, old: of(old, figure)?, new: of(new, figure)?, ratio })
    });
    rows.collect()
}

pub(crate) fn compare(plan: &Comparison) -> Fallible<()> {
    let (mut old, mut new) = (Vec::new(), Vec::new());
    for round in 0..plan.rounds {
        let mut runs = [(&plan.old, &mut old), (&plan.new, &mut new)];
        if round % 2 == 1 {
            runs.reverse();
        }
        for (program, figures) in runs {
            figures.push(run(program, &plan.options)?);
        }
    }
    let rows = compared(&old, &new);
    let mut out = io::stdout().lock();
    if plan.json {
        serde_json::to_writer(&mut out, &rows)?;
        writeln!(out)?;
        return Ok(());
    }
    let head = ["figure", "old", "new", "new/old", "least", "most"];
    let [figure, old, new, ratio, least, most] = head;
    writeln!(out, "{figure:16} {old:>14} {new:>14} {ratio:>8} {least:>8} {most:>8}")?;
    for Compared { figure, old, new, ratio } in &rows {
        let (old, new) = (old.median, new.median);
        let Spread { median, min, max } = ratio;
        writeln!(out, "{figure:16} {old:14.3} {new:14.3} {median:8.3} {min:8.3} {max:8.3}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_within_a_round() {
        let runs = |values: [f64; 3]| values.map(|value| Figures::from([("per_s", value)]));
        // The machine got ten times slower in the second round, for both.
        let rows = compared(&runs([100.0, 10.0, 100.0]), &runs([110.0, 11.0, 110.0]));
        assert_eq!(rows.len(), 1);
        assert!((rows[0].ratio.median - 1.1).abs() < 1e-9);
        assert!((rows[0].ratio.max - rows[0].ratio.min).abs() < 1e-9);
    }

    #[test]
    fn what_one_build_does_not_say_is_left_out() {
        let old = [Figures::from([("per_s", 1.0)])];
        assert!(compared(&old, &[Figures::new()]).is_empty());
    }
}
