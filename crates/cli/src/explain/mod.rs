//! `explain`: what the bytes at an LSN are, each one by name. Changes nothing.
//!
//! The place is looked for in the segment that holds it for the log; where none does, in any other
//! that has bytes for it. Frames are walked from the base of that segment, so that what looks like
//! a frame inside a payload is not taken for one.

mod fields;

use std::path::PathBuf;

use clap::Args;
use cohort_wal::Lsn;
use cohort_wal::inspect::{Content, Frame, Inspection, Segment, Span, Standing};
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::ls::state;
use crate::output::{self, Facts, grouped};
use crate::progress::Progress;
use fields::Fields;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(crate) struct ExplainArgs {
    /// Directory of the log.
    dir: PathBuf,
    /// The place: where a frame starts, or anywhere in one.
    lsn: u64,
    /// Look into this segment, whether it is part of the log or not.
    #[arg(long, value_name = "SEQ")]
    segment: Option<u64>,
    /// Show the whole body, however long it is.
    #[arg(long)]
    full: bool,
    /// Print one JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// What `explain` tells. Field names are the JSON interface.
#[derive(Debug, Serialize)]
struct Explanation {
    lsn: u64,
    /// The answer in one sentence.
    summary: String,
    /// `record`, `pad`, `zeros`, `invalid`, `missing`, or `nowhere` in any segment.
    content: &'static str,
    damaged: bool,
    /// What is wrong with the bytes, if they are no valid frame.
    why: Option<&'static str>,
    #[serde(flatten)]
    place: Option<Place>,
    /// The frame, or what stands where one should start.
    frame: Option<Fields>,
}

/// The frame that holds the LSN, or the range without one.
#[derive(Debug, Serialize)]
struct Place {
    start: u64,
    end: u64,
    offset: u64,
    path: String,
    segment: u64,
    /// `live`, `active`, `dead` or `unknown`.
    state: &'static str,
    /// `durable`, `unwitnessed`, `below head`, `dead` or `unknown`.
    standing: &'static str,
    /// Other segments that have bytes for this LSN.
    also_in: Vec<u64>,
}

/// Explains one place.
pub(crate) fn execute(args: &ExplainArgs) -> Result<Verdict, Failure> {
    let inspection = Inspection::open(&args.dir)?;
    let explanation = args.explain(&inspection)?;
    if args.json {
        output::print_json(&explanation)?;
    } else {
        output::print(&explanation.text())?;
    }
    match inspection.refusal() {
        Some(refusal) => Err(refusal.clone().into()),
        None if explanation.damaged => Ok(Verdict::Damage),
        None => Ok(Verdict::Clean),
    }
}

impl ExplainArgs {
    fn explain(&self, inspection: &Inspection) -> Result<Explanation, Failure> {
        let lsn = Lsn::new(self.lsn);
        let mut holding = inspection.holding(lsn);
        if let Some(seq) = self.segment {
            let listed = inspection.segments().iter().find(|segment| segment.seq == seq);
            if listed.is_none() {
                return Err(Failure::Usage(format!("the log has no segment {seq}")));
            }
            holding.retain(|segment| segment.seq == seq);
        }
        if let Some((segment, others)) = holding.split_first()
            && let Some(span) = find(inspection, segment, lsn)?
        {
            let also_in = others.iter().map(|segment| segment.seq).collect();
            return self.explain_span(inspection, segment, &span, also_in);
        }
        Ok(nowhere(inspection, lsn, self.segment))
    }

    fn explain_span(
        &self,
        inspection: &Inspection,
        segment: &Segment,
        span: &Span,
        also_in: Vec<u64>,
    ) -> Result<Explanation, Failure> {
        let frame = match span.content {
            Content::Zeros | Content::Missing => None,
            _ => inspection.frame_at(segment.seq, span.start)?,
        };
        let why = match span.content {
            Content::Invalid { why } => Some(why),
            _ => None,
        };
        Ok(Explanation {
            lsn: self.lsn,
            summary: summary(self.lsn, span, frame.as_ref(), inspection.end_lsn()),
            content: content(span.content),
            damaged: span.is_damage(),
            why,
            place: Some(Place {
                start: span.start.get(),
                end: span.end.get(),
                offset: span.offset,
                path: segment.path.display().to_string(),
                segment: segment.seq,
                state: state(segment.state),
                standing: standing(span.standing),
                also_in,
            }),
            frame: frame.map(|frame| Fields::of(&frame, self.full)),
        })
    }
}

/// The span of a segment that holds `lsn`.
fn find(inspection: &Inspection, segment: &Segment, lsn: Lsn) -> Result<Option<Span>, Failure> {
    let progress = Progress::bytes(segment.bytes);
    for (index, span) in inspection.frames(segment.seq)?.enumerate() {
        let span = span?;
        if lsn < span.end {
            return Ok(Some(span));
        }
        if index.is_multiple_of(4096) {
            progress.set_position(span.offset);
        }
    }
    Ok(None)
}

fn summary(lsn: u64, span: &Span, frame: Option<&Frame>, log_end: Option<Lsn>) -> String {
    let (start, end) = (span.start.get(), span.end.get());
    let what = match span.content {
        Content::Record => "a record",
        Content::Pad => "a pad, which carries nothing",
        Content::Zeros => "zeros and no frame",
        Content::Missing => "nothing: the file ends before",
        _ => "bytes that are no valid frame",
    };
    let is_frame = matches!(span.content, Content::Record | Content::Pad);
    let place = match (lsn == start, is_frame) {
        (true, true) => format!("at LSN {lsn} starts {what}"),
        (true, false) => format!("at LSN {lsn} start {what}"),
        (false, true) => format!("no frame starts at LSN {lsn}; it is inside {what}, from {start}"),
        (false, false) => format!("at LSN {lsn} are {what}, from {start}"),
    };
    let bytes = frame.filter(|_| is_frame).map_or(end - start, |frame| frame.body().len() as u64);
    let bytes = format!("{} bytes", grouped(bytes));
    let beyond = log_end.is_some_and(|end| end.get() <= lsn);
    let standing = match span.standing {
        Standing::Durable if span.is_damage() => "damage: these bytes were durable",
        Standing::Durable => "witnessed as durable",
        Standing::Unwitnessed if is_frame => "not witnessed as durable; recovery decides",
        Standing::Unwitnessed | Standing::Dead if beyond && !is_frame => {
            "beyond the end of the log, so no damage"
        }
        Standing::BelowHead => "below the head, so not part of the log any more",
        Standing::Dead => "not part of the log any more",
        _ => "whether it is part of the log is not known",
    };
    format!("{place}, {bytes}; {standing}")
}

/// No segment has bytes for this LSN.
fn nowhere(inspection: &Inspection, lsn: Lsn, segment: Option<u64>) -> Explanation {
    let why = match (segment, inspection.head_lsn(), inspection.end_lsn()) {
        (Some(seq), ..) => format!("segment {seq} has no bytes for it"),
        (None, Some(head), _) if lsn < head => {
            format!("it was truncated: the log begins at LSN {head}")
        }
        (None, _, Some(end)) => {
            format!("it is beyond the end: what is witnessed as durable ends at LSN {end}")
        }
        _ => "no segment that can be read has bytes for it".to_owned(),
    };
    Explanation {
        lsn: lsn.get(),
        summary: format!("nothing is at LSN {lsn}: {why}"),
        content: "nowhere",
        damaged: false,
        why: None,
        place: None,
        frame: None,
    }
}

fn content(content: Content) -> &'static str {
    match content {
        Content::Record => "record",
        Content::Pad => "pad",
        Content::Zeros => "zeros",
        Content::Missing => "missing",
        _ => "invalid",
    }
}

fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Durable => "durable",
        Standing::Unwitnessed => "unwitnessed",
        Standing::BelowHead => "below head",
        Standing::Dead => "dead",
        _ => "unknown",
    }
}

impl Explanation {
    fn text(&self) -> String {
        let Some(place) = &self.place else { return format!("{}\n", self.summary) };
        let mut facts = Facts::default();
        facts.add("segment", format!("{}, {}, {}", place.segment, place.state, place.path));
        let bytes = grouped(place.end - place.start);
        let (start, end) = (place.start, place.end);
        facts.add("range", format!("LSN {start} to {end}, {bytes} bytes, offset {}", place.offset));
        if let Some(why) = self.why {
            facts.add("why", why);
        }
        let also: Vec<_> = place.also_in.iter().map(u64::to_string).collect();
        if !also.is_empty() {
            let also = also.join(", ");
            facts.add("also in", format!("segment {also}; --segment shows what is there"));
        }
        let frame =
            self.frame.as_ref().map_or(String::new(), |frame| format!("\n{}", frame.text()));
        format!("{}\n\n{}{frame}", self.summary, facts.render())
    }
}
