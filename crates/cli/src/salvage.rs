//! `salvage`: copies what is intact of a damaged log into a new one, and says what is not.

use std::io;
use std::path::PathBuf;

use clap::Args;
use cohort_wal::{Lsn, Salvage, Snapshot, Wal, WalError, WalOptions};
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::output::{self, Facts, grouped};
use crate::progress::Progress;

const RECORDS_PER_LOOK: u64 = 1024;
/// The longest record and the largest batch that a log can hold.
const MAX_RECORD_BYTES: u32 = u32::MAX;
const MAX_BATCH_BYTES: u64 = 1 << 40;
/// Lost ranges that the table names; JSON names all.
const MAX_LINES: usize = 20;

/// Arguments of `salvage`.
#[derive(Debug, Args)]
pub(crate) struct SalvageArgs {
    /// Directory of the damaged log, which stays as it is.
    dir: PathBuf,
    /// Directory of the new log. It must not have one yet.
    #[arg(long, value_name = "NEW")]
    into: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What was copied and what was lost. Field names are the JSON interface.
#[derive(Debug, Serialize)]
struct Copied {
    path: String,
    into: String,
    snapshot: Option<Image>,
    records: u64,
    bytes: u64,
    /// Of the new log. Up to the first range that is lost, or that held a pad, records have the
    /// places they had.
    head: u64,
    end: u64,
    lost: Vec<Lost>,
}

/// The snapshot, which the records come on top of.
#[derive(Debug, Serialize)]
struct Image {
    lsn: u64,
    bytes: u64,
}

/// A range of the damaged log that could not be read.
#[derive(Debug, Serialize)]
struct Lost {
    start: u64,
    end: u64,
    path: String,
    offset: u64,
    why: &'static str,
}

/// Copies the snapshot and record after record; the new log is durable when this returns.
pub(crate) fn execute(args: &SalvageArgs) -> Result<Verdict, Failure> {
    // First what can be read, so that nothing is made of nothing.
    let mut salvage = WalOptions::new().salvage(&args.dir)?;
    let mut lost = Vec::new();
    let snapshot = match salvage.snapshots().latest() {
        Ok(snapshot) => snapshot,
        Err(error) => {
            lost.push(Lost::by(error)?);
            None
        }
    };
    let begin = snapshot.as_ref().map_or(salvage.head_lsn(), Snapshot::lsn);
    let options = WalOptions::new().create_new(true).initial_lsn(begin);
    let options = options.max_record_bytes(MAX_RECORD_BYTES).max_batch_bytes(MAX_BATCH_BYTES);
    let wal = options.open(&args.into)?;
    let image = snapshot.map(|snapshot| copy_snapshot(&wal, snapshot, begin)).transpose()?;
    let (records, bytes) = copy_records(&wal, &mut salvage, &mut lost)?;
    let (head, end) = (wal.head_lsn().get(), wal.end_lsn().get());
    wal.close()?;
    let [path, into] = [&args.dir, &args.into].map(|dir| dir.display().to_string());
    let copied = Copied { path, into, snapshot: image, records, bytes, head, end, lost };
    match args.json {
        true => output::print_json(&copied)?,
        false => output::print(&copied.table())?,
    }
    Ok(if copied.lost.is_empty() { Verdict::Clean } else { Verdict::Damage })
}

/// Makes the image that of the new log, which begins there.
fn copy_snapshot(wal: &Wal, mut snapshot: Snapshot, begin: Lsn) -> Result<Image, Failure> {
    let bytes = snapshot.len();
    wal.checkpoint(begin, |image| io::copy(&mut snapshot, image).map(drop))?;
    Ok(Image { lsn: begin.get(), bytes })
}

/// Copies what is intact, batches as batches; returns how many records, and their bytes. What is
/// left of a batch that is damaged in part is one as well.
fn copy_records(
    wal: &Wal,
    salvage: &mut Salvage,
    lost: &mut Vec<Lost>,
) -> Result<(u64, u64), Failure> {
    let progress = Progress::message();
    let (mut records, mut bytes, mut batch) = (0_u64, 0, Vec::new());
    for record in salvage {
        let more = match record {
            Ok(record) => {
                let more = record.more();
                records += 1;
                bytes += record.len() as u64;
                batch.push(record.into_data());
                if records.is_multiple_of(RECORDS_PER_LOOK) {
                    progress.say(|| format!("{} records", grouped(records)));
                }
                more
            }
            Err(error) => {
                lost.push(Lost::by(error)?);
                false
            }
        };
        if !more {
            wal.append_batch(&batch)?;
            batch.clear();
        }
    }
    wal.append_batch(&batch)?;
    Ok((records, bytes))
}

impl Lost {
    /// What an error says is lost. What cannot be read now may be there all the same, and is none
    /// of it: there is no copy without it.
    fn by(error: WalError) -> Result<Self, Failure> {
        let WalError::Corruption { path, offset, start, end, why } = error else {
            return Err(error.into());
        };
        let path = path.display().to_string();
        Ok(Self { start: start.get(), end: end.get(), path, offset, why })
    }
}

impl Copied {
    fn table(&self) -> String {
        let mut facts = Facts::default();
        facts.add("log", self.path.as_str());
        facts.add("into", self.into.as_str());
        facts.add(
            "snapshot",
            match &self.snapshot {
                Some(Image { lsn, bytes }) => format!("LSN {lsn}, {} bytes", grouped(*bytes)),
                None => "none".to_owned(),
            },
        );
        facts.add("records", grouped(self.records));
        facts.add("bytes", grouped(self.bytes));
        facts.add("new range", format!("LSN {} to {}", self.head, self.end));
        for lost in self.lost.iter().take(MAX_LINES) {
            let Lost { start, end, path, offset, why } = lost;
            facts.add("lost", format!("LSN {start} to {end}, {path}, offset {offset}: {why}"));
        }
        if let Some(more) = self.lost.len().checked_sub(MAX_LINES).filter(|more| *more > 0) {
            facts.add("lost", format!("{more} ranges more; --json names all"));
        }
        if self.lost.is_empty() {
            facts.add("lost", "nothing");
        }
        facts.render()
    }
}
