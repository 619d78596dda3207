//! `dump`: the records of a log, in order. Changes nothing.
//!
//! What is shown is what a reader may show: everything that is witnessed as durable. Of a log that
//! does not open, the records below the damage are shown all the same.

use std::path::PathBuf;

use clap::Args;
use cohort_wal::inspect::{Content, Inspection};
use cohort_wal::{Lsn, WalError, WalIter};

use crate::Verdict;
use crate::failure::Failure;
use crate::output::{Stream, grouped};
use crate::progress::Progress;
use crate::record::{Layout, Printer};

const RECORDS_PER_LOOK: u64 = 1024;

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
    #[command(flatten)]
    layout: Layout,
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
        let end = inspection.end_lsn().unwrap_or_default();
        let from = self.from.map_or(head, Lsn::new);
        let mut records = records_from(inspection, from)?;
        let to = self.to.unwrap_or(u64::MAX);
        let total = end.get().min(to).saturating_sub(from.get());
        let printer = Printer::new(&self.layout, end);
        // Where records scroll by, they are the progress.
        let progress = (!printer.scrolls()).then(|| Progress::bytes(total));
        let mut count = 0_u64;
        while count < self.limit.unwrap_or(u64::MAX) {
            let Some(record) = records.read_next() else { break };
            let record = record?;
            let lsn = record.lsn().get();
            if lsn >= to {
                break;
            }
            count += 1;
            if !stream.write(&printer.line(record.lsn(), record.data())?)? {
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
