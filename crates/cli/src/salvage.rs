//! `salvage`: copies what is intact of a damaged log into a new one, and says what is not.

use std::path::PathBuf;

use clap::Args;
use cohort_wal::{WalError, WalOptions};
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::output::{self, Facts, grouped};
use crate::progress::Progress;

const RECORDS_PER_LOOK: u64 = 1024;
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
    records: u64,
    bytes: u64,
    /// Of the new log, whose places are its own.
    head: u64,
    end: u64,
    lost: Vec<Lost>,
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

/// Copies record by record; the new log is durable when this returns.
pub(crate) fn execute(args: &SalvageArgs) -> Result<Verdict, Failure> {
    // First what can be read, so that nothing is made of nothing.
    let mut salvage = WalOptions::new().salvage(&args.dir)?;
    let options = WalOptions::new().create_new(true).max_record_bytes(u32::MAX);
    let wal = options.open(&args.into)?;
    let progress = Progress::message();
    let (mut records, mut bytes, mut lost) = (0_u64, 0, Vec::new());
    for record in &mut salvage {
        match record {
            Ok(record) => {
                wal.append(record.data())?;
                records += 1;
                bytes += record.len() as u64;
                if records.is_multiple_of(RECORDS_PER_LOOK) {
                    progress.say(|| format!("{} records", grouped(records)));
                }
            }
            Err(WalError::Corruption { path, offset, start, end, why }) => lost.push(Lost {
                start: start.get(),
                end: end.get(),
                path: path.display().to_string(),
                offset,
                why,
            }),
            // What cannot be read now may be there all the same: no copy without it.
            Err(error) => return Err(error.into()),
        }
    }
    let (head, end) = (wal.head_lsn().get(), wal.end_lsn().get());
    wal.close()?;
    drop(progress);
    let [path, into] = [&args.dir, &args.into].map(|dir| dir.display().to_string());
    let copied = Copied { path, into, records, bytes, head, end, lost };
    match args.json {
        true => output::print_json(&copied)?,
        false => output::print(&copied.table())?,
    }
    Ok(if copied.lost.is_empty() { Verdict::Clean } else { Verdict::Damage })
}

impl Copied {
    fn table(&self) -> String {
        let mut facts = Facts::default();
        facts.add("log", self.path.as_str());
        facts.add("into", self.into.as_str());
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
