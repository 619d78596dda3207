//! `info`: where a log begins and ends, and which files it has. Changes nothing.

use std::path::PathBuf;

use clap::Args;
use cohort_wal::{SegmentInfo, WalOptions};
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::output::{self, Facts, columns, grouped};

/// Arguments of `info`.
#[derive(Debug, Args)]
pub(crate) struct InfoArgs {
    /// Directory of the log.
    dir: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What `info` tells. Field names are the JSON interface.
#[derive(Debug, Serialize)]
struct Info {
    path: String,
    head: u64,
    end: u64,
    live_bytes: u64,
    cleanly_closed: bool,
    segments: Vec<Segment>,
    unknown_files: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Segment {
    seq: u64,
    base: u64,
    end: u64,
    epoch: u64,
    bytes: u64,
    path: String,
}

impl From<&SegmentInfo> for Segment {
    fn from(segment: &SegmentInfo) -> Self {
        Self {
            seq: segment.seq,
            base: segment.base.get(),
            end: segment.end.get(),
            epoch: segment.epoch,
            bytes: segment.bytes,
            path: segment.path.display().to_string(),
        }
    }
}

/// Prints what a log consists of.
pub(crate) fn execute(args: &InfoArgs) -> Result<Verdict, Failure> {
    let reader = WalOptions::new().open_read_only(&args.dir)?;
    let (head, end) = (reader.head_lsn().get(), reader.end_lsn().get());
    let info = Info {
        path: args.dir.display().to_string(),
        head,
        end,
        live_bytes: end.saturating_sub(head),
        cleanly_closed: reader.is_clean(),
        segments: reader.segments().iter().map(Segment::from).collect(),
        unknown_files: reader.unknown_files().to_vec(),
    };
    if args.json {
        output::print_json(&info)?;
    } else {
        output::print(&info.table())?;
    }
    Ok(Verdict::Clean)
}

impl Info {
    fn table(&self) -> String {
        let mut facts = Facts::default();
        facts.add("log", self.path.as_str());
        facts.add("head", self.head.to_string());
        facts.add("end", self.end.to_string());
        facts.add("live", format!("{} bytes", grouped(self.live_bytes)));
        let closed = if self.cleanly_closed { "cleanly" } else { "no: in use, or its writer died" };
        facts.add("closed", closed);
        for name in &self.unknown_files {
            facts.add("not ours", name.as_str());
        }
        facts.add("segments", self.segments.len().to_string());
        let cells = |segment: &Segment| {
            let numbers = [segment.seq, segment.base, segment.end, segment.epoch, segment.bytes];
            let mut cells: Vec<String> = numbers.iter().map(u64::to_string).collect();
            cells.push(segment.path.clone());
            cells
        };
        let rows: Vec<_> = self.segments.iter().map(cells).collect();
        facts.render() + &columns(&["seq", "base", "end", "epoch", "bytes", "file"], &rows)
    }
}
