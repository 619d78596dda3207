//! `verify`: reads every record of a log and checks it. Changes nothing.

use std::path::PathBuf;

use clap::Args;
use cohort_wal::{WalError, WalOptions};
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::output::{self, Facts, grouped};
use crate::progress::Progress;

const RECORDS_PER_LOOK: u64 = 4096;
const ADVICE: &str = "copy the directory as it is, then restore the log from a backup or salvage \
                      what is readable; until then it refuses to open for writing";

/// Arguments of `verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Directory of the log.
    dir: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
}

/// What `verify` found. Field names are the JSON interface.
#[derive(Debug, Default, Serialize)]
struct Verification {
    path: String,
    verdict: &'static str,
    head: Option<u64>,
    end: Option<u64>,
    cleanly_closed: bool,
    /// Intact records read from the head on; none when the damage kept the log from opening.
    records: u64,
    /// Their payload.
    bytes: u64,
    damage: Option<Damage>,
}

/// Where the damage is, and what to do about it.
#[derive(Debug, Serialize)]
struct Damage {
    path: String,
    offset: u64,
    start: u64,
    end: u64,
    why: &'static str,
    advice: &'static str,
}

/// Reads every record from head to end.
pub(crate) fn execute(args: &VerifyArgs) -> Result<Verdict, Failure> {
    let path = args.dir.display().to_string();
    let mut found = Verification { path, verdict: "clean", ..Verification::default() };
    let verdict = match found.read_all(args) {
        Ok(()) => Verdict::Clean,
        Err(WalError::Corruption { path, offset, start, end, why }) => {
            found.verdict = "damaged";
            found.damage = Some(Damage {
                path: path.display().to_string(),
                offset,
                start: start.get(),
                end: end.get(),
                why,
                advice: ADVICE,
            });
            Verdict::Damage
        }
        Err(error) => return Err(error.into()),
    };
    if args.json {
        output::print_json(&found)?;
    } else {
        output::print(&found.table())?;
    }
    Ok(verdict)
}

impl Verification {
    fn read_all(&mut self, args: &VerifyArgs) -> Result<(), WalError> {
        let reader = WalOptions::new().open_read_only(&args.dir)?;
        let (head, end) = (reader.head_lsn().get(), reader.end_lsn().get());
        self.head = Some(head);
        self.end = Some(end);
        self.cleanly_closed = reader.is_clean();
        let progress = Progress::bytes(end.saturating_sub(head));
        let mut records = reader.iter()?;
        while let Some(record) = records.read_next() {
            let record = record?;
            self.records += 1;
            self.bytes += record.len() as u64;
            if self.records.is_multiple_of(RECORDS_PER_LOOK) {
                progress.set_position(record.lsn().get().saturating_sub(head));
                progress.say(|| format!("{} records", grouped(self.records)));
            }
        }
        Ok(())
    }

    fn table(&self) -> String {
        let mut facts = Facts::default();
        facts.add("log", self.path.as_str());
        facts.add("verdict", self.verdict);
        if let (Some(head), Some(end)) = (self.head, self.end) {
            facts.add("records", grouped(self.records));
            facts.add("bytes", grouped(self.bytes));
            facts.add("range", format!("LSN {head} to {end}"));
            if !self.cleanly_closed {
                let note = "in use, or its writer died; what lies above was not read: nothing \
                            there is known to have been acknowledged";
                facts.add("not closed", note);
            }
        } else {
            facts.add("records", "none read: the damage is where opening the log looks first");
        }
        if let Some(damage) = &self.damage {
            facts.add("damage", damage.why);
            facts.add("file", format!("{}, offset {}", damage.path, damage.offset));
            facts.add("damaged", format!("LSN {} to {}", damage.start, damage.end));
            facts.add("what to do", damage.advice);
        }
        facts.render()
    }
}
