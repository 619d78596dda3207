//! `dump`: the records of a log, in order. Changes nothing.
//!
//! What is shown is what a reader may show: everything that is witnessed as durable. Of a log that
//! does not open, the records below the damage are shown all the same.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use cohort_wal::inspect::{Content, Inspection};
use cohort_wal::{Lsn, RecordRef, WalError, WalIter};
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::output::{self, Stream, grouped};
use crate::payload;
use crate::progress::Progress;
use crate::terminal;

const RECORDS_PER_LOOK: u64 = 1024;
/// A payload gets at least so many columns, however narrow the terminal is.
const MIN_COLUMNS: usize = 16;

/// Arguments of `dump`.
#[derive(Debug, Args)]
pub(crate) struct DumpArgs {
    /// Directory of the log.
    dir: PathBuf,
    /// Begin with the first record at or above this LSN.
    #[arg(long, value_name = "LSN")]
    from: Option<u64>,
    /// End before the first record at or above this LSN.
    #[arg(long, value_name = "LSN")]
    to: Option<u64>,
    /// End after so many records.
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print payloads alone and whole, one on each line.
    #[arg(long, conflicts_with = "json")]
    format: Option<Format>,
    /// Show whole payloads in the listing, however long the lines get.
    #[arg(long, conflicts_with_all = ["format", "json"])]
    full: bool,
    /// Print one JSON object per record: `lsn`, `len`, the payload as `hex`, and as `utf8` or null.
    #[arg(long)]
    json: bool,
}

/// How payloads are written that stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Two digits for each byte.
    Hex,
    /// Text; what does not print, backslashes, and what is no UTF-8 escaped as in Rust.
    Utf8,
    /// JSON as it is, but for line ends; a payload that is none is an error.
    Json,
}

/// One record. Field names are the JSON interface.
#[derive(Debug, Serialize)]
struct Line<'a> {
    lsn: u64,
    len: usize,
    hex: String,
    utf8: Option<&'a str>,
}

/// Prints the records that are asked for.
pub(crate) fn execute(args: &DumpArgs) -> Result<Verdict, Failure> {
    let inspection = Inspection::open(&args.dir)?;
    let mut stream = Stream::new();
    let printed = args.print(&inspection, &mut stream);
    // What was read before an error is part of the answer, and comes first.
    let read = stream.flush()? && printed?;
    match inspection.refusal() {
        Some(refusal) if read => Err(refusal.clone().into()),
        _ => Ok(Verdict::Clean),
    }
}

impl DumpArgs {
    /// Prints records; false when nobody reads any more.
    fn print(&self, inspection: &Inspection, stream: &mut Stream) -> Result<bool, Failure> {
        let head = inspection.head_lsn().unwrap_or_default();
        let end = inspection.end_lsn().unwrap_or_default().get();
        let from = self.from.map_or(head, Lsn::new);
        let mut records = records_from(inspection, from)?;
        let to = self.to.unwrap_or(u64::MAX);
        let total = end.min(to).saturating_sub(from.get());
        let columns = terminal::width();
        // Where records scroll by, they are the progress.
        let progress = columns.is_none().then(|| Progress::bytes(total));
        let lsn_width = end.to_string().len();
        let mut count = 0_u64;
        while count < self.limit.unwrap_or(u64::MAX) {
            let Some(record) = records.read_next() else { break };
            let record = record?;
            let lsn = record.lsn().get();
            if lsn >= to {
                break;
            }
            count += 1;
            if !stream.write(&self.line(&record, lsn_width, columns)?)? {
                return Ok(false);
            }
            if count.is_multiple_of(RECORDS_PER_LOOK)
                && let Some(progress) = &progress
            {
                progress.set_position(lsn.saturating_sub(from.get()));
                progress.say(|| format!("{} records", grouped(count)));
            }
        }
        Ok(true)
    }

    fn line(
        &self,
        record: &RecordRef<'_>,
        lsn_width: usize,
        columns: Option<usize>,
    ) -> Result<String, Failure> {
        let (lsn, data) = (record.lsn().get(), record.data());
        if self.json {
            let (hex, utf8) = (payload::hex(data), str::from_utf8(data).ok());
            return output::json_line(&Line { lsn, len: data.len(), hex, utf8 });
        }
        let text = match self.format {
            Some(Format::Hex) => payload::hex(data),
            Some(Format::Utf8) => payload::escaped(data),
            Some(Format::Json) => payload::json(data).ok_or_else(|| no_json(lsn))?,
            None => {
                let prefix = format!("{lsn:>lsn_width$}  {:>8}  ", data.len());
                let room = columns.filter(|_| !self.full);
                let room = room.map(|columns| columns.saturating_sub(prefix.len()));
                prefix
                    + &room.map_or_else(
                        || payload::escaped(data),
                        |room| payload::shortened(data, room.max(MIN_COLUMNS)),
                    )
            }
        };
        Ok(text + "\n")
    }
}

fn no_json(lsn: u64) -> Failure {
    Failure::Usage(format!("the record at LSN {lsn} is not JSON; leave --format away, or try hex"))
}

/// The records from the first one at or above `from`.
fn records_from(inspection: &Inspection, from: Lsn) -> Result<WalIter, WalError> {
    match inspection.iter_from(from) {
        Err(WalError::NotARecord { .. }) => {
            let end = inspection.end_lsn().unwrap_or(from);
            inspection.iter_from(next_record(inspection, from)?.unwrap_or(end))
        }
        records => records,
    }
}

/// The first record at or above `from`, or damage that hides it.
fn next_record(inspection: &Inspection, from: Lsn) -> Result<Option<Lsn>, WalError> {
    for segment in inspection.segments().iter().filter(|segment| segment.end > Some(from)) {
        for span in inspection.frames(segment.seq)? {
            let span = span?;
            let record = span.content == Content::Record && segment.end > Some(span.start);
            if span.start >= from && (record || span.is_damage()) {
                return Ok(Some(span.start));
            }
        }
    }
    Ok(None)
}
