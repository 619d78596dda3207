//! `stats`: the shape of a log: sizes, cohorts, and how fast it grows. Changes nothing.
//!
//! 1. [`shape`]: one pass over all frames, in constant memory.
//! 2. [`cohorts`]: what their watermarks say about syncs.
//! 3. [`live`]: on request, what is seen beside a writer. A log holds no times.

mod cohorts;
mod live;
mod shape;

use std::path::{Path, PathBuf};

use clap::Args;
use cohort_wal::WalError;
use cohort_wal::inspect::Inspection;
use serde::Serialize;

use crate::Verdict;
use crate::bench::seconds;
use crate::failure::Failure;
use crate::histogram::{Summary, Unit};
use crate::output::{self, Facts, grouped};
use live::Live;
use shape::{Damage, Shape};

/// How often a log is looked at that is cut under the hands of whoever reads it.
const ATTEMPTS: usize = 16;
const NO_TIMES: &str = "latency: a log holds no times; watch its writer with --live SECONDS\n";

const WITNESSES: &str = "  \
  Every frame says what was durable when it was appended, and each such place is
  the end of a cohort. A sync is not seen when nobody appended between its end
  and that of the next one, and the newest are not where the log was not closed.
  So there may be more cohorts, and smaller ones. `Wal::stats` counts all syncs.
";

/// Arguments of `stats`.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {
    /// Directory of the log.
    dir: PathBuf,
    /// Then watch the log for so long, and show how fast it grows and how often it is synced.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    live: Option<f64>,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What `stats` tells. Field names are the JSON interface.
#[derive(Debug, Serialize)]
struct Report {
    path: String,
    /// What was summed up: from here to `end`, or to where the damage begins. Above the head of
    /// before where the log was truncated meanwhile.
    head: Option<u64>,
    end: Option<u64>,
    cleanly_closed: bool,
    records: u64,
    payload_bytes: u64,
    /// Of records and pads, headers and padding included.
    frame_bytes: u64,
    /// What of the frames is no payload. Null without frames.
    overhead_percent: Option<f64>,
    pads: u64,
    pad_bytes: u64,
    batches: u64,
    batched_records: u64,
    /// Payload bytes of a record.
    record_bytes: Summary,
    /// Bytes of the file of a live segment.
    segment_bytes: Summary,
    /// Records above `end`, which are not among the others.
    unwitnessed_records: u64,
    cohorts: Cohorts,
    /// Null without `--live`.
    live: Option<Live>,
    /// Where the pass ended early.
    damage: Option<Damage>,
    /// Why the log does not open, if it does not.
    refusal: Option<String>,
}

#[derive(Debug, Serialize)]
struct Cohorts {
    /// At least so many syncs ended above the head.
    syncs: u64,
    /// Of each cohort that is there as a whole.
    records: Summary,
    /// Bytes of its frames.
    bytes: Summary,
}

/// Sums up a log.
pub(crate) fn execute(args: &StatsArgs) -> Result<Verdict, Failure> {
    let (inspection, shape) = inspect(&args.dir)?;
    let live = match args.live.filter(|_| inspection.refusal().is_none()) {
        Some(seconds) => {
            let now = Inspection::open(&args.dir)?;
            Some(live::observe(now.watch()?, now.end_lsn().unwrap_or_default(), seconds)?)
        }
        None => None,
    };
    let report = Report::new(&inspection, shape, live);
    if args.json {
        output::print_json(&report)?;
    } else {
        output::print(&report.text())?;
    }
    match inspection.refusal() {
        Some(refusal) => Err(refusal.clone().into()),
        None if report.damage.is_some() => Ok(Verdict::Damage),
        None => Ok(Verdict::Clean),
    }
}

/// Looks at a log and sums it up, anew where what was seen is not the log any more.
fn inspect(dir: &Path) -> Result<(Inspection, Shape), WalError> {
    let mut attempts = 1..ATTEMPTS;
    loop {
        let inspection = Inspection::open(dir)?;
        match shape::sum_up(&inspection) {
            Err(WalError::Truncated { .. }) if attempts.next().is_some() => {}
            shape => return Ok((inspection, shape?)),
        }
    }
}

impl Report {
    fn new(inspection: &Inspection, shape: Shape, live: Option<Live>) -> Self {
        let lsn = |lsn: Option<cohort_wal::Lsn>| lsn.map(cohort_wal::Lsn::get);
        Self {
            path: inspection.path().display().to_string(),
            head: inspection.head_lsn().map(|_| shape.head),
            end: lsn(inspection.end_lsn()),
            cleanly_closed: inspection.is_clean(),
            records: shape.records,
            payload_bytes: shape.payload_bytes,
            frame_bytes: shape.frame_bytes,
            overhead_percent: shape.overhead_percent(),
            pads: shape.pads,
            pad_bytes: shape.pad_bytes,
            batches: shape.batches,
            batched_records: shape.batched_records,
            record_bytes: shape.record_bytes.summary(),
            segment_bytes: shape.segment_bytes.summary(),
            unwitnessed_records: shape.unwitnessed_records,
            cohorts: Cohorts {
                syncs: shape.cohorts.syncs,
                records: shape.cohorts.records.summary(),
                bytes: shape.cohorts.bytes.summary(),
            },
            live,
            damage: shape.damage,
            refusal: inspection.refusal().map(ToString::to_string),
        }
    }

    fn text(&self) -> String {
        let live = self.live.as_ref().map_or_else(|| NO_TIMES.to_owned(), Live::text);
        format!("{}\n{}\n{}\n{live}", self.facts(), self.sizes(), self.syncs())
    }

    fn facts(&self) -> String {
        let mut facts = Facts::default();
        facts.add("log", self.path.as_str());
        let known = |lsn: Option<u64>| lsn.map_or("not known".to_owned(), |lsn| lsn.to_string());
        let closed = match (self.cleanly_closed, self.unwitnessed_records) {
            (true, _) => ", closed cleanly".to_owned(),
            (false, 0) => ", in use, or its writer died".to_owned(),
            (false, more) => {
                format!(", in use, or its writer died; {} records above", grouped(more))
            }
        };
        facts.add("range", format!("LSN {} to {}{closed}", known(self.head), known(self.end)));
        facts.add("records", grouped(self.records));
        facts.add("payload", format!("{} bytes", grouped(self.payload_bytes)));
        let overhead = self.overhead_percent.map_or(String::new(), |percent| {
            format!(", {percent:.1} % of them headers, padding and pads")
        });
        facts.add("frames", format!("{} bytes{overhead}", grouped(self.frame_bytes)));
        let counted = |count: u64, of: u64, what: &str| match count {
            0 => "none".to_owned(),
            count => format!("{}, {} {what} in all", grouped(count), grouped(of)),
        };
        facts.add("batches", counted(self.batches, self.batched_records, "records"));
        facts.add("pads", counted(self.pads, self.pad_bytes, "bytes"));
        if let Some(damage) = &self.damage {
            facts.add("damage", format!("{}; all behind it is left out", damage.words()));
            facts.add("what to do", "`verify` says more, and `repair` what can be done");
        } else if self.refusal.is_some() {
            facts.add("what to do", "it does not open: see `verify` and `repair`");
        }
        facts.render()
    }

    fn sizes(&self) -> String {
        let records = self.record_bytes.bars("payload bytes of a record", Unit::Bytes, "records");
        let segments = self.segment_bytes.bars("bytes of a segment", Unit::Bytes, "segments");
        format!("{records}\n{segments}")
    }

    fn syncs(&self) -> String {
        let Cohorts { syncs, records, bytes } = &self.cohorts;
        let records = records.bars("records of a cohort", Unit::Count, "cohorts");
        let bytes = bytes.bars("bytes of a cohort's frames", Unit::Bytes, "cohorts");
        format!("syncs: at least {}\n{WITNESSES}\n{records}\n{bytes}", grouped(*syncs))
    }
}
