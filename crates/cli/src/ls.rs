//! `ls`: every file of a log and what it says, of a damaged log too. Changes nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use cohort_wal::WalError;
use cohort_wal::inspect::{self, Content, ControlSlot, Inspection, SegmentState, Standing};
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::gone::{Gone, bounds};
use crate::output::{self, Facts, columns, grouped};
use crate::payload;
use crate::progress::Progress;

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub(crate) struct LsArgs {
    /// Directory of the log.
    dir: PathBuf,
    /// Read every segment: count its records and look for damage.
    #[arg(long)]
    records: bool,
    /// Print one JSON object instead of tables.
    #[arg(long)]
    json: bool,
}

/// What `ls` tells. Field names are the JSON interface.
#[derive(Debug, Serialize)]
struct Listing {
    path: String,
    head: Option<u64>,
    end: Option<u64>,
    cleanly_closed: bool,
    /// The two slots; null without CONTROL.
    control: Option<Vec<Slot>>,
    segments: Vec<Segment>,
    snapshots: Vec<Snapshot>,
    leftovers: Vec<String>,
    unknown_files: Vec<String>,
    /// Why the log does not open, if it does not.
    refusal: Option<String>,
}

#[derive(Debug, Serialize)]
struct Slot {
    offset: u64,
    counts: bool,
    #[serde(flatten)]
    claim: Option<Claim>,
    damage: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct Claim {
    generation: u64,
    log_id: String,
    newest_seq: u64,
    head: u64,
    durable: u64,
    snapshot: Option<u64>,
    clean: bool,
}

#[derive(Debug, Serialize)]
struct Segment {
    seq: u64,
    epoch: Option<u64>,
    base: Option<u64>,
    end: Option<u64>,
    bytes: u64,
    /// `live`, `active`, `dead` or `unknown`.
    state: &'static str,
    /// Null unless the segment was read; also where its writer removed it before.
    records: Option<u64>,
    damaged: bool,
    /// What is damaged, or what else there is to say.
    note: Option<String>,
    path: String,
}

#[derive(Debug, Serialize)]
struct Snapshot {
    lsn: u64,
    bytes: u64,
    counts: bool,
    path: String,
}

/// Lists a log.
pub(crate) fn execute(args: &LsArgs) -> Result<Verdict, Failure> {
    let inspection = Inspection::open(&args.dir)?;
    let segments = segments(&inspection, args.records)?;
    let lsn = |lsn: Option<cohort_wal::Lsn>| lsn.map(cohort_wal::Lsn::get);
    let snapshot = |snapshot: &inspect::SnapshotFile| Snapshot {
        lsn: snapshot.lsn.get(),
        bytes: snapshot.bytes,
        counts: snapshot.counts,
        path: snapshot.path.display().to_string(),
    };
    let listing = Listing {
        path: args.dir.display().to_string(),
        head: lsn(inspection.head_lsn()),
        end: lsn(inspection.end_lsn()),
        cleanly_closed: inspection.is_clean(),
        control: inspection.control().map(|slots| slots.iter().map(Slot::from).collect()),
        segments,
        snapshots: inspection.snapshots().iter().map(snapshot).collect(),
        leftovers: inspection.leftovers().to_vec(),
        unknown_files: inspection.unknown_files().to_vec(),
        refusal: inspection.refusal().map(ToString::to_string),
    };
    if args.json {
        output::print_json(&listing)?;
    } else {
        output::print(&listing.tables(args.records))?;
    }
    if let Some(refusal) = inspection.refusal() {
        return Err(refusal.clone().into());
    }
    let damaged = listing.segments.iter().any(|segment| segment.damaged);
    Ok(if damaged { Verdict::Damage } else { Verdict::Clean })
}

fn segments(inspection: &Inspection, read: bool) -> Result<Vec<Segment>, Failure> {
    let total = inspection.segments().iter().map(|segment| segment.bytes).sum();
    let progress = read.then(|| Progress::bytes(total));
    let gone = Gone::default();
    let mut done = 0;
    let mut segments = Vec::new();
    for segment in inspection.segments() {
        let mut listed = Segment::from(segment);
        if let Some(WalError::Corruption { path, why, .. }) = inspection.refusal()
            && *path == segment.path
        {
            listed.damaged = true;
            listed.note = Some((*why).to_owned());
        }
        if let Some(progress) = &progress
            && segment.header.is_ok()
        {
            let (base, end) = bounds(segment);
            match gone.read(base, end, || listed.count(inspection)) {
                Err(gone @ WalError::Truncated { .. }) => listed.note = Some(gone.to_string()),
                counted => counted?,
            }
            done += segment.bytes;
            progress.set_position(done);
        }
        segments.push(listed);
    }
    Ok(segments)
}

impl From<&inspect::Segment> for Segment {
    fn from(segment: &inspect::Segment) -> Self {
        let header = segment.header.as_ref().ok();
        let one_copy = header.is_some_and(|header| !header.intact);
        let note = segment.header.err().or(one_copy.then_some("one copy of its header is bad"));
        Self {
            seq: segment.seq,
            epoch: header.map(|header| header.epoch),
            base: header.map(|header| header.base.get()),
            end: segment.end.map(cohort_wal::Lsn::get),
            bytes: segment.bytes,
            state: state(segment.state),
            records: None,
            damaged: segment.header.is_err(),
            note: note.map(str::to_owned),
            path: segment.path.display().to_string(),
        }
    }
}

/// A state in one word.
pub(crate) fn state(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Live => "live",
        SegmentState::Active => "active",
        SegmentState::Dead => "dead",
        _ => "unknown",
    }
}

impl Segment {
    /// Counts the records that are part of the log, or that may be where nobody knows.
    fn count(&mut self, inspection: &Inspection) -> Result<(), WalError> {
        let mut records = 0;
        for span in inspection.frames(self.seq)? {
            let span = span?;
            let counts = matches!(span.standing, Standing::Durable | Standing::Unknown);
            records += u64::from(counts && span.content == Content::Record);
            if span.is_damage() && !self.damaged {
                self.damaged = true;
                self.note = Some(format!("damaged from LSN {} to {}", span.start, span.end));
            }
        }
        self.records = Some(records);
        Ok(())
    }

    fn cells(&self, with_records: bool) -> Vec<String> {
        let number = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
        let file = Path::new(&self.path).file_name().unwrap_or_default().to_string_lossy();
        let note = self.note.as_deref().map_or(String::new(), |note| format!("  {note}"));
        let mut cells = vec![
            self.seq.to_string(),
            number(self.epoch),
            number(self.base),
            number(self.end),
            self.bytes.to_string(),
        ];
        cells.extend(with_records.then(|| number(self.records)));
        cells.push(self.state.to_owned());
        cells.push(format!("{file}{note}"));
        cells
    }
}

impl From<&ControlSlot> for Slot {
    fn from(slot: &ControlSlot) -> Self {
        let claim = slot.claim.as_ref().ok().map(|claim| Claim {
            generation: claim.generation,
            log_id: payload::hex(&claim.log_id),
            newest_seq: claim.newest_seq,
            head: claim.head.get(),
            durable: claim.durable.get(),
            snapshot: claim.snapshot.map(cohort_wal::Lsn::get),
            clean: claim.clean,
        });
        Self { offset: slot.offset, counts: slot.counts, claim, damage: slot.claim.err() }
    }
}

impl Slot {
    fn cells(&self) -> Vec<String> {
        let mut cells = vec![self.offset.to_string()];
        if let Some(claim) = &self.claim {
            let numbers = [claim.generation, claim.newest_seq, claim.head, claim.durable];
            cells.extend(numbers.iter().map(u64::to_string));
            cells.push(claim.snapshot.map_or("none".to_owned(), |lsn| lsn.to_string()));
            cells.push(if claim.clean { "clean" } else { "-" }.to_owned());
        } else {
            cells.extend(["-"; 6].map(str::to_owned));
        }
        let damaged = self.damage.map(|why| format!("damaged: {why}"));
        let counts = if self.counts { "counts" } else { "older" };
        cells.push(damaged.unwrap_or_else(|| counts.to_owned()));
        cells
    }
}

impl Listing {
    fn tables(&self, with_records: bool) -> String {
        let mut facts = Facts::default();
        facts.add("log", self.path.as_str());
        let known = |lsn: Option<u64>| lsn.map_or("not known".to_owned(), |lsn| lsn.to_string());
        facts.add("head", known(self.head));
        facts.add("end", known(self.end));
        let opens = if self.refusal.is_some() { "no" } else { "yes" };
        facts.add("opens", opens);
        for snapshot in &self.snapshots {
            let counts = if snapshot.counts { "" } else { ", a leftover" };
            let bytes = grouped(snapshot.bytes);
            facts.add("snapshot", format!("LSN {}, {bytes} bytes{counts}", snapshot.lsn));
        }
        for name in &self.leftovers {
            facts.add("unfinished", payload::escaped(name.as_bytes()));
        }
        for name in &self.unknown_files {
            facts.add("not ours", payload::escaped(name.as_bytes()));
        }
        let slots = match &self.control {
            Some(slots) => {
                let rows: Vec<_> = slots.iter().map(Slot::cells).collect();
                let headings = [
                    "slot",
                    "generation",
                    "newest",
                    "head",
                    "durable",
                    "snapshot",
                    "closed",
                    "state",
                ];
                columns(&headings, &rows)
            }
            None => "  missing\n".to_owned(),
        };
        let mut headings = vec!["seq", "epoch", "base", "end", "bytes"];
        headings.extend(with_records.then_some("records"));
        headings.extend(["state", "file"]);
        let rows: Vec<_> =
            self.segments.iter().map(|segment| segment.cells(with_records)).collect();
        let facts = facts.render();
        format!("{facts}\nCONTROL\n{slots}\nsegments\n{}", columns(&headings, &rows))
    }
}
