//! [`Shape`]: what the frames of a log come to, in one pass over them.
//!
//! What counts is what a reader shows: the frames from the head to the newest witness. Those above
//! it are passed for their watermarks alone. Nothing is kept of a frame but counts.

use cohort_wal::WalError;
use cohort_wal::inspect::{Content, FrameHeader, Inspection, Segment, Span, Standing};

use super::cohorts::{Cohorts, Counted};
use crate::gone::{Gone, bounds, is_gone};
use crate::histogram::Histogram;
use crate::map;
use crate::output::grouped;
use crate::progress::Progress;

const SPANS_PER_LOOK: u64 = 4096;

/// What a log holds.
#[derive(Debug)]
pub(super) struct Shape {
    /// Where it begins: the head, or above it where the log was truncated meanwhile.
    pub(super) head: u64,
    pub(super) records: u64,
    pub(super) payload_bytes: u64,
    /// Of records and pads.
    pub(super) frame_bytes: u64,
    pub(super) pads: u64,
    pub(super) pad_bytes: u64,
    /// Of more than one record.
    pub(super) batches: u64,
    pub(super) batched_records: u64,
    /// Payload bytes of each record.
    pub(super) record_bytes: Histogram,
    /// Bytes of each live segment's file.
    pub(super) segment_bytes: Histogram,
    /// Above the newest witness: written, and perhaps durable, but nothing says so.
    pub(super) unwitnessed_records: u64,
    pub(super) cohorts: Counted,
    /// Where the pass ended early.
    pub(super) damage: Option<Damage>,
}

/// The first range without the frame that must be there.
#[derive(Debug, serde::Serialize)]
pub(super) struct Damage {
    path: String,
    offset: u64,
    start: u64,
    end: u64,
    why: &'static str,
}

/// A pass under way.
struct Pass {
    shape: Shape,
    cohorts: Cohorts,
    /// What is witnessed ends here.
    end: u64,
    /// Where what was read ends.
    reached: u64,
    in_batch: bool,
}

/// Sums up a log.
pub(super) fn sum_up(inspection: &Inspection) -> Result<Shape, WalError> {
    let head = inspection.head_lsn().unwrap_or_default().get();
    let end = inspection.end_lsn().unwrap_or_default().get();
    let mut pass = Pass::new(head, end);
    let progress = Progress::bytes(end.saturating_sub(head));
    let gone = Gone::default();
    for segment in inspection.segments().iter().filter(|segment| segment.state.is_live()) {
        let (base, known_end) = bounds(segment);
        let segment_end = segment.end.unwrap_or(base);
        match gone.read(base, known_end, || pass.read(inspection, segment, &progress)) {
            // And everything before it.
            Err(error) if is_gone(&error, segment_end) => {
                pass = Pass::new(segment_end.get().max(pass.shape.head), end);
            }
            whole => {
                if !whole? {
                    break;
                }
            }
        }
    }
    Ok(pass.finish())
}

impl Pass {
    fn new(head: u64, end: u64) -> Self {
        let shape = Shape {
            head,
            records: 0,
            payload_bytes: 0,
            frame_bytes: 0,
            pads: 0,
            pad_bytes: 0,
            batches: 0,
            batched_records: 0,
            record_bytes: Histogram::default(),
            segment_bytes: Histogram::default(),
            unwitnessed_records: 0,
            cohorts: Counted::default(),
            damage: None,
        };
        Self { shape, cohorts: Cohorts::from(head), end, reached: head, in_batch: false }
    }

    /// Passes the frames of one segment; false when damage ended that.
    fn read(
        &mut self,
        inspection: &Inspection,
        segment: &Segment,
        progress: &Progress,
    ) -> Result<bool, WalError> {
        self.shape.segment_bytes.record(segment.bytes);
        if let Ok(header) = segment.header {
            self.witness(header.durable.get());
        }
        for (index, span) in (0_u64..).zip(inspection.frames(segment.seq)?) {
            let span = span?;
            if span.is_damage() {
                self.shape.damage = Some(Damage::new(&span, segment));
                return Ok(false);
            }
            match (span.standing, span.header) {
                (Standing::Durable, Some(header)) => self.count(&span, header),
                (Standing::Unwitnessed, Some(header)) => self.look_at(&span, header),
                _ => {}
            }
            if index.is_multiple_of(SPANS_PER_LOOK) {
                progress.set_position(span.start.get().saturating_sub(self.shape.head));
                progress.say(|| format!("{} records", grouped(self.shape.records)));
            }
        }
        Ok(true)
    }

    fn count(&mut self, span: &Span, header: FrameHeader) {
        let (shape, bytes) = (&mut self.shape, span.bytes());
        let is_record = span.content == Content::Record;
        shape.frame_bytes += bytes;
        if is_record {
            shape.records += 1;
            shape.payload_bytes += u64::from(header.len);
            shape.record_bytes.record(u64::from(header.len));
            shape.batches += u64::from(header.more && !self.in_batch);
            shape.batched_records += u64::from(header.more || self.in_batch);
            self.in_batch = header.more;
        } else {
            shape.pads += 1;
            shape.pad_bytes += bytes;
        }
        self.cohorts.frame(span.start.get(), is_record);
        self.reached = span.end.get();
        if let Some(watermark) = header.watermark {
            self.witness(watermark.get());
        }
    }

    /// A frame above the newest witness may be the one that witnesses a cohort below.
    fn look_at(&mut self, span: &Span, header: FrameHeader) {
        self.shape.unwitnessed_records += u64::from(span.content == Content::Record);
        if let Some(watermark) = header.watermark {
            self.witness(watermark.get());
        }
    }

    fn witness(&mut self, watermark: u64) {
        if watermark <= self.end {
            self.cohorts.witness(watermark);
        }
    }

    fn finish(mut self) -> Shape {
        if self.shape.damage.is_none() {
            self.cohorts.witness(self.end);
        }
        self.shape.cohorts = self.cohorts.finish(self.reached);
        self.shape
    }
}

impl Shape {
    /// How many of the frames' bytes are no payload; none without frames.
    pub(super) fn overhead_percent(&self) -> Option<f64> {
        let overhead = self.frame_bytes.saturating_sub(self.payload_bytes);
        (self.frame_bytes > 0).then(|| overhead as f64 / self.frame_bytes as f64 * 100.0)
    }
}

impl Damage {
    fn new(span: &Span, segment: &Segment) -> Self {
        let (start, end, why) = (span.start.get(), span.end.get(), map::why(span.content));
        Self { path: segment.path.display().to_string(), offset: span.offset, start, end, why }
    }

    pub(super) fn words(&self) -> String {
        let Self { path, offset, start, end, why } = self;
        format!("LSN {start} to {end}, {path}, offset {offset}: {why}")
    }
}
