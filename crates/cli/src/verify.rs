//! `verify`: reads every record of a log and checks it. Changes nothing.

use std::num::NonZero;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::thread;

use clap::Args;
use cohort_wal::inspect::Inspection;
use cohort_wal::{SegmentInfo, WalError, WalOptions, WalReader};
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::gone::{Gone, is_gone};
use crate::output::{self, Facts, grouped};
use crate::progress::Progress;

const RECORDS_PER_LOOK: u64 = 4096;
/// How often a log is read that is cut, or truncated as a whole, under the hands of its reader.
const ATTEMPTS: usize = 16;
const ADVICE: &str = "copy the directory as it is, then restore the log from a backup, `salvage` \
                      what is readable into a new one, or see what `repair` would do";
const REFUSES: &str = "; until then it refuses to open for writing";
const OPENS: &str = "; it opens for writing, but whoever reads it comes to the damage";

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
    /// Above the head of before where the log was truncated meanwhile.
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
    advice: String,
    /// Whether the log opens for writing as it is.
    opens: bool,
}

/// One pass over all segments by several threads.
struct Sweep<'a> {
    reader: &'a WalReader,
    progress: Progress,
    /// The first segment that nobody has taken: all before it are read to their end or damage.
    next: AtomicUsize,
    /// Up to where the log was truncated meanwhile.
    gone: Gone,
    /// Somebody met damage: what nobody has taken comes behind it.
    stop: AtomicBool,
    records: AtomicU64,
    /// LSNs passed.
    done: AtomicU64,
}

/// What one segment holds.
struct Part {
    index: usize,
    records: u64,
    bytes: u64,
    result: Result<(), WalError>,
}

impl Sweep<'_> {
    fn read(&self, segments: &[SegmentInfo]) -> Vec<Part> {
        let mut parts = Vec::new();
        while !self.stop.load(Relaxed) {
            let index = self.next.fetch_add(1, Relaxed);
            let Some(segment) = segments.get(index) else { break };
            let mut part = Part { index, records: 0, bytes: 0, result: Ok(()) };
            let read = || self.read_one(segment, &mut part);
            let result = self.gone.read(segment.base, Some(segment.end), read);
            let stops = result.as_ref().is_err_and(|error| !is_gone(error, segment.end));
            self.stop.fetch_or(stops, Relaxed);
            part.result = result;
            parts.push(part);
        }
        parts
    }

    fn read_one(&self, segment: &SegmentInfo, part: &mut Part) -> Result<(), WalError> {
        let mut records = self.reader.iter_segment(segment)?;
        let mut from = segment.base.max(self.reader.head_lsn()).get();
        while let Some(record) = records.read_next() {
            let record = record?;
            part.records += 1;
            part.bytes += record.len() as u64;
            if part.records.is_multiple_of(RECORDS_PER_LOOK) {
                let lsn = record.lsn().get();
                let done = self.done.fetch_add(lsn - from, Relaxed) + lsn - from;
                from = lsn;
                let records = self.records.fetch_add(RECORDS_PER_LOOK, Relaxed) + RECORDS_PER_LOOK;
                self.progress.set_position(done);
                self.progress.say(|| format!("{} records", grouped(records)));
            }
        }
        Ok(())
    }
}

/// Reads every record from head to end.
pub(crate) fn execute(args: &VerifyArgs) -> Result<Verdict, Failure> {
    let path = args.dir.display().to_string();
    let mut found = Verification { path, verdict: "clean", ..Verification::default() };
    let verdict = match found.read_all(args) {
        Ok(()) => Verdict::Clean,
        Err(WalError::Corruption { path, offset, start, end, why }) => {
            let opens = Inspection::open(&args.dir).is_ok_and(|log| log.refusal().is_none());
            found.verdict = "damaged";
            found.damage = Some(Damage {
                path: path.display().to_string(),
                offset,
                start: start.get(),
                end: end.get(),
                why,
                advice: format!("{ADVICE}{}", if opens { OPENS } else { REFUSES }),
                opens,
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
    /// Reads the segments, several at once; what counts is the first damage in the log's order,
    /// and what is below it. What a writer truncates meanwhile counts for nothing.
    fn read_all(&mut self, args: &VerifyArgs) -> Result<(), WalError> {
        let mut attempts = 1..ATTEMPTS;
        loop {
            match self.read_once(args) {
                Err(WalError::Truncated { .. }) if attempts.next().is_some() => {}
                read => return read,
            }
        }
    }

    /// Fails with [`WalError::Truncated`] where nothing is left of what was there, and where only
    /// another look can tell.
    fn read_once(&mut self, args: &VerifyArgs) -> Result<(), WalError> {
        let reader = WalOptions::new().open_read_only(&args.dir)?;
        let (head, end) = (reader.head_lsn().get(), reader.end_lsn().get());
        self.head = Some(head);
        self.end = Some(end);
        self.cleanly_closed = reader.is_clean();
        let segments = reader.segments();
        let progress = Progress::bytes(end.saturating_sub(head));
        let sweep = Sweep {
            reader: &reader,
            progress,
            next: AtomicUsize::new(0),
            gone: Gone::default(),
            stop: AtomicBool::new(false),
            records: AtomicU64::new(0),
            done: AtomicU64::new(0),
        };
        let threads = thread::available_parallelism().map_or(1, NonZero::get).min(segments.len());
        let mut parts = thread::scope(|scope| {
            let others = (1..threads).map(|_| scope.spawn(|| sweep.read(&segments)));
            let others: Vec<_> = others.collect();
            let mut parts = sweep.read(&segments);
            for other in others {
                parts.extend(other.join().unwrap_or_else(|panic| resume_unwind(panic)));
            }
            parts
        });
        parts.sort_by_key(|part| part.index);
        (self.records, self.bytes) = (0, 0);
        for part in parts {
            let is_last = part.index + 1 == segments.len();
            let end = segments[part.index].end;
            if !is_last && part.result.as_ref().is_err_and(|error| is_gone(error, end)) {
                self.head = self.head.max(Some(end.get()));
                (self.records, self.bytes) = (0, 0);
                continue;
            }
            self.records += part.records;
            self.bytes += part.bytes;
            part.result?;
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
            facts.add("what to do", damage.advice.as_str());
        }
        facts.render()
    }
}
