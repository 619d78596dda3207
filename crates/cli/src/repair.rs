//! `repair`: says what is wrong with a log and what a repair would cost; with `--yes`, does it.

use std::path::PathBuf;

use clap::Args;
use cohort_wal::{Lsn, Repair, RepairEffect, RepairReport, repair};
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::output::{self, Facts, grouped};

/// Arguments of `repair`.
#[derive(Debug, Args)]
pub(crate) struct RepairArgs {
    /// Directory of the log.
    dir: PathBuf,
    /// End the log at this LSN; everything below it must be intact.
    #[arg(long, value_name = "LSN", conflicts_with = "rebuild_control")]
    cut_at: Option<u64>,
    /// Write CONTROL anew from the segments.
    #[arg(long)]
    rebuild_control: bool,
    /// The snapshot that a rebuilt CONTROL names; none without it.
    #[arg(long, value_name = "LSN", requires = "rebuild_control")]
    snapshot: Option<u64>,
    /// Do it. Without this the log is only looked at.
    #[arg(long)]
    yes: bool,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What `repair` found and did. Field names are the JSON interface.
#[derive(Debug, Serialize)]
struct Outcome {
    path: String,
    /// The arguments of what was done; none in a dry run.
    done: Option<String>,
    damaged: bool,
    refused: Option<String>,
    findings: Vec<String>,
    more_findings: u64,
    /// The arguments to pass, with `--yes`, for what is recommended.
    recommended: Option<String>,
    cut: Option<Effect>,
    rebuild: Option<Effect>,
    still_refused: Option<String>,
}

#[derive(Debug, Serialize)]
struct Effect {
    head: u64,
    end: u64,
    kept_records: u64,
    lost_records: u64,
    lost_bytes: u64,
    copies: Vec<Copied>,
}

#[derive(Debug, Serialize)]
struct Copied {
    file: String,
    copy: String,
    bytes: u64,
}

impl From<&RepairEffect> for Effect {
    fn from(effect: &RepairEffect) -> Self {
        let copies = effect.copies.iter().map(|copied| Copied {
            file: copied.file.display().to_string(),
            copy: copied.copy.display().to_string(),
            bytes: copied.bytes,
        });
        Self {
            head: effect.head.get(),
            end: effect.end.get(),
            kept_records: effect.kept_records,
            lost_records: effect.lost_records,
            lost_bytes: effect.lost_bytes,
            copies: copies.collect(),
        }
    }
}

/// Looks at a log, and repairs it if told to.
pub(crate) fn execute(args: &RepairArgs) -> Result<Verdict, Failure> {
    let wanted = wanted(args);
    let request = match (wanted, args.yes) {
        (None, true) => {
            let why = "--yes needs --cut-at or --rebuild-control; a dry run recommends one";
            return Err(Failure::Usage(why.to_owned()));
        }
        (Some(wanted), true) => wanted,
        (_, false) => Repair::DryRun,
    };
    let report = repair(&args.dir, request)?;
    let outcome = Outcome::new(args, &report);
    if args.json {
        output::print_json(&outcome)?;
    } else {
        output::print(&outcome.table())?;
    }
    let damage = match report.repair {
        Repair::DryRun => report.is_damaged(),
        _ => report.still_refused.is_some(),
    };
    Ok(if damage { Verdict::Damage } else { Verdict::Clean })
}

fn wanted(args: &RepairArgs) -> Option<Repair> {
    let cut = args.cut_at.map(|lsn| Repair::CutAt(Lsn::new(lsn)));
    let snapshot = args.snapshot.map(Lsn::new);
    cut.or(args.rebuild_control.then_some(Repair::RebuildControl { snapshot }))
}

/// The arguments that ask for a repair.
fn arguments(repair: Repair) -> Option<String> {
    match repair {
        Repair::CutAt(lsn) => Some(format!("--cut-at {lsn}")),
        Repair::RebuildControl { snapshot: Some(lsn) } => {
            Some(format!("--rebuild-control --snapshot {lsn}"))
        }
        Repair::RebuildControl { snapshot: None } => Some("--rebuild-control".to_owned()),
        _ => None,
    }
}

impl Outcome {
    fn new(args: &RepairArgs, report: &RepairReport) -> Self {
        Self {
            path: args.dir.display().to_string(),
            done: arguments(report.repair),
            damaged: report.is_damaged(),
            refused: report.refused.as_ref().map(ToString::to_string),
            findings: report.findings.iter().map(ToString::to_string).collect(),
            more_findings: report.more_findings,
            recommended: report.recommended.and_then(arguments),
            cut: report.cut.as_ref().map(Effect::from),
            rebuild: report.rebuild.as_ref().map(Effect::from),
            still_refused: report.still_refused.as_ref().map(ToString::to_string),
        }
    }

    fn table(&self) -> String {
        let mut facts = Facts::default();
        facts.add("log", self.path.as_str());
        match &self.refused {
            Some(why) => facts.add("refused", why.as_str()),
            None if self.damaged => facts.add("opens", "yes, and it is damaged"),
            None => facts.add("opens", "yes, and nothing is wrong with it"),
        }
        for finding in &self.findings {
            facts.add("found", finding.as_str());
        }
        if self.more_findings > 0 {
            facts.add("found", format!("{} more", grouped(self.more_findings)));
        }
        let effects = [("cut", &self.cut), ("rebuild", &self.rebuild)];
        for (label, effect) in effects {
            if let Some(effect) = effect {
                facts.add(label, effect.line(self.done.is_some()));
                for copied in &effect.copies {
                    facts.add("copy", format!("{} ({} bytes)", copied.copy, grouped(copied.bytes)));
                }
            }
        }
        if let Some(arguments) = &self.recommended {
            facts.add("to do", format!("repair {} {arguments} --yes", self.path));
            let salvage =
                format!("salvage {} --into NEW keeps what is intact behind damage", self.path);
            facts.add("before", salvage);
        }
        match (&self.done, &self.still_refused) {
            (Some(_), Some(why)) => facts.add("still refused", why.as_str()),
            (Some(done), None) => facts.add("done", format!("{done}; the log opens")),
            (None, _) => facts.add("changed", "nothing: this was a dry run"),
        }
        facts.render()
    }
}

impl Effect {
    fn line(&self, done: bool) -> String {
        let [kept, lost, bytes] =
            [self.kept_records, self.lost_records, self.lost_bytes].map(grouped);
        let (keeps, loses) = if done { ("kept", "lost") } else { ("would keep", "lose") };
        format!(
            "{keeps} {kept} records, LSN {} to {}; {loses} {lost} records, {bytes} bytes",
            self.head, self.end
        )
    }
}
