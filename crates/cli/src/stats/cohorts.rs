//! [`Cohorts`]: what the watermarks of the frames say about the syncs of a log.
//!
//! A watermark is a place up to which the log was durable when a frame was appended, and durability
//! moves from the end of one sync to the end of another. So every watermark is the end of a cohort,
//! and what lies between two neighbours is a cohort, or several: of a sync that ended while nobody
//! appended before the next one did, no frame tells.
//!
//! A frame states a watermark that lies less than [`WINDOW`] bytes below it, or none. So two bits
//! for every place in a window of that size are all there is to remember, whatever the size of the
//! log: whether a record starts there, and whether a cohort ends there.

use std::ops::Range;

use crate::histogram::Histogram;

/// Bytes of the log that may still turn out to hold the end of a cohort.
const WINDOW: u64 = 1 << 27;
/// Records start, and cohorts end, at multiples of so many bytes.
const STEP: u64 = 8;
const WORD: u64 = u64::BITS as u64 * STEP;

/// Cohorts, as the frames of a log are passed in order.
#[derive(Debug)]
pub(super) struct Cohorts {
    /// One bit for each place of the window, by its LSN modulo the window.
    records: Vec<u64>,
    ends: Vec<u64>,
    /// All below is counted.
    settled: u64,
    /// Where the last cohort ended; none before the first end.
    last_end: Option<u64>,
    /// Where the log begins.
    start: u64,
    /// Records since the last end.
    since: u64,
    syncs: u64,
    records_each: Histogram,
    bytes_each: Histogram,
}

/// What all cohorts come to.
#[derive(Debug, Default)]
pub(super) struct Counted {
    /// Ends of cohorts above the start: at least so many syncs there were.
    pub(super) syncs: u64,
    /// Of each cohort that is there as a whole.
    pub(super) records: Histogram,
    /// Of its frames.
    pub(super) bytes: Histogram,
}

impl Cohorts {
    /// Cohorts of a log that begins at `start`.
    pub(super) fn from(start: u64) -> Self {
        let words = usize::try_from(WINDOW / WORD).unwrap_or(0);
        Self {
            records: vec![0; words],
            ends: vec![0; words],
            settled: start,
            last_end: None,
            start,
            since: 0,
            syncs: 0,
            records_each: Histogram::default(),
            bytes_each: Histogram::default(),
        }
    }

    /// A frame starts at `lsn`: a record, or nothing.
    pub(super) fn frame(&mut self, lsn: u64, is_record: bool) {
        self.settle((lsn + STEP).saturating_sub(WINDOW));
        if is_record {
            set(&mut self.records, lsn);
        }
    }

    /// All below `lsn` was durable at some time: the last frame says so, or what stands behind it.
    pub(super) fn witness(&mut self, lsn: u64) {
        self.settle((lsn + STEP).saturating_sub(WINDOW));
        if lsn >= self.settled {
            set(&mut self.ends, lsn);
        }
    }

    /// Counts what is left, up to the `end` of what was read.
    pub(super) fn finish(mut self, end: u64) -> Counted {
        self.settle(end + STEP);
        Counted { syncs: self.syncs, records: self.records_each, bytes: self.bytes_each }
    }

    /// Counts all below `floor`, of which nothing more can become known.
    fn settle(&mut self, floor: u64) {
        while self.settled < floor {
            let at = self.settled;
            let next = ((at / WORD + 1) * WORD).min(floor);
            let (index, bits) = place(at..next);
            let records = self.records[index] & bits;
            let mut ends = self.ends[index] & bits;
            self.records[index] &= !bits;
            self.ends[index] &= !bits;
            let mut counted = 0;
            while ends != 0 {
                let bit = ends.trailing_zeros();
                ends &= ends - 1;
                let below = records & ((1 << bit) - 1);
                self.since += u64::from((below & !counted).count_ones());
                counted = below;
                self.end(at / WORD * WORD + u64::from(bit) * STEP);
            }
            self.since += u64::from((records & !counted).count_ones());
            self.settled = next;
        }
    }

    fn end(&mut self, lsn: u64) {
        if lsn > self.start {
            self.syncs += 1;
        }
        if let Some(last) = self.last_end {
            self.records_each.record(self.since);
            self.bytes_each.record(lsn - last);
        }
        self.last_end = Some(lsn);
        self.since = 0;
    }
}

/// The word that a range of places within one word belongs to, and its bits there.
fn place(range: Range<u64>) -> (usize, u64) {
    let index = usize::try_from(range.start % WINDOW / WORD).unwrap_or(0);
    let from = range.start % WORD / STEP;
    let bits = (range.end - range.start) / STEP;
    let mask = if bits == u64::from(u64::BITS) { u64::MAX } else { (1 << bits) - 1 };
    (index, mask << from)
}

fn set(words: &mut [u64], lsn: u64) {
    let (index, bit) = place(lsn..lsn + STEP);
    words[index] |= bit;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts frames, `(lsn, watermark)`, one behind the other.
    fn counted(start: u64, frames: &[(u64, Option<u64>)], end: u64) -> Counted {
        let mut cohorts = Cohorts::from(start);
        for (lsn, watermark) in frames {
            cohorts.frame(*lsn, true);
            if let Some(watermark) = watermark {
                cohorts.witness(*watermark);
            }
        }
        cohorts.finish(end)
    }

    fn values(histogram: &Histogram) -> (u64, Option<u64>, Option<u64>) {
        (histogram.count(), histogram.quantile(0.5), histogram.max())
    }

    #[test]
    fn each_distinct_watermark_ends_a_cohort_in_whatever_order_they_come() {
        let frames = [
            (0, Some(0)),
            (24, Some(0)),
            (48, Some(0)),
            // These two waited between finding their place and looking at what is durable.
            (72, Some(72)),
            (96, Some(48)),
            (120, Some(72)),
            (144, None),
        ];
        let counted = counted(0, &frames, 168);
        assert_eq!(counted.syncs, 2);
        assert_eq!(values(&counted.records), (2, Some(1), Some(2)));
        assert_eq!(values(&counted.bytes), (2, Some(24), Some(48)));
    }

    #[test]
    fn a_cohort_whose_start_is_not_there_counts_as_a_sync_alone() {
        let frames = [(240, Some(96)), (264, Some(264)), (288, Some(264)), (312, Some(312))];
        let counted = counted(240, &frames, 336);
        assert_eq!(counted.syncs, 2);
        assert_eq!(values(&counted.records), (1, Some(2), Some(2)));
        assert_eq!(values(&counted.bytes), (1, Some(48), Some(48)));
    }

    #[test]
    fn no_record_is_lost_where_the_window_moves() {
        let (frame, cohort, count) = (1 << 16, 5 << 16, 3 * (WINDOW >> 16));
        let mut cohorts = Cohorts::from(8);
        let mut known = 0;
        for index in 0..count {
            let at = index * frame;
            cohorts.frame(8 + at, true);
            // As far below as a frame can say.
            known = at.saturating_sub(WINDOW - 2 * STEP).div_ceil(cohort);
            cohorts.witness(8 + known * cohort);
        }
        assert!(known > 100);
        let counted = cohorts.finish(8 + count * frame);
        assert_eq!(counted.syncs, known);
        assert_eq!(values(&counted.records), (known, Some(5), Some(5)));
        assert_eq!(counted.bytes.max(), Some(cohort));
    }

    #[test]
    fn a_record_as_large_as_the_window_moves_it_as_a_whole() {
        let far = 3 * WINDOW + 40;
        let frames = [(0, Some(0)), (24, Some(24)), (far, None), (far + 24, Some(far))];
        let counted = counted(0, &frames, far + 48);
        assert_eq!(counted.syncs, 2);
        assert_eq!(values(&counted.records), (2, Some(1), Some(1)));
        assert_eq!(counted.bytes.max(), Some(far - 24));
    }
}
