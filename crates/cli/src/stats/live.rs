//! [`Live`]: how fast a log grows, seen by reading beside its writer for a while.
//!
//! The frames of a cohort are written when its sync begins, and tell where the one before ended. So
//! the time from one look that shows a new watermark to the next is the time between cohorts, to
//! within the time between two looks. Where one look shows several, they share the time evenly:
//! which of them took how long, nobody saw.

use std::thread;
use std::time::Duration;

use cohort_wal::Lsn;
use cohort_wal::inspect::{Content, Span, Watch};
use serde::Serialize;

use crate::clock::{self, Instant};
use crate::failure::Failure;
use crate::histogram::{Histogram, Summary, Unit};
use crate::output::{Facts, grouped, grouped_rate};
use crate::progress::Progress;

/// From one look to the next, besides the time that it takes.
const PAUSE: Duration = Duration::from_micros(200);
const EXACTNESS: &str =
    "  As exact as looks are frequent: cohorts that one look shows share its time.\n";
/// A rate is that of so long.
const WINDOW: Duration = Duration::from_millis(100);

/// What was seen. Field names are the JSON interface.
#[derive(Debug, Serialize)]
pub(super) struct Live {
    seconds: f64,
    /// Times from one look to the next: nothing shorter was seen.
    looks_us: Summary,
    records: u64,
    /// Of their frames.
    bytes: u64,
    records_per_s: f64,
    bytes_per_s: f64,
    /// At least so many syncs ended meanwhile.
    syncs: u64,
    /// Times between the ends of cohorts.
    cohorts_us: Summary,
    /// Rates of the single tenths of a second.
    records_per_s_each: Summary,
    bytes_per_s_each: Summary,
}

/// Records and the bytes of their frames.
#[derive(Debug, Default, Clone, Copy)]
struct Amount {
    records: u64,
    bytes: u64,
}

/// A watch under way.
struct Observer {
    watch: Watch,
    /// The newest watermark seen.
    newest: u64,
    /// When it was seen; none for what was there before.
    ended: Option<Instant>,
    seen: Amount,
    syncs: u64,
    looks: Histogram,
    cohorts: Histogram,
    /// The tenth of a second under way: when it began, and what had been seen by then.
    window: (Instant, Amount),
    records_each: Histogram,
    bytes_each: Histogram,
}

/// Watches a log for so long. What is durable now is known.
pub(super) fn observe(mut watch: Watch, durable: Lsn, seconds: f64) -> Result<Live, Failure> {
    let mut newest = durable.get();
    let duration = Duration::from_secs_f64(seconds);
    let asked = clock::now();
    // What is there already says nothing about time.
    while let Some(span) = watch.next_frame()?
        && asked.elapsed() < duration
    {
        newest = newest.max(watermark(&span));
    }
    let started = clock::now();
    let mut observer = Observer {
        watch,
        newest,
        ended: None,
        seen: Amount::default(),
        syncs: 0,
        looks: Histogram::default(),
        cohorts: Histogram::default(),
        window: (started, Amount::default()),
        records_each: Histogram::default(),
        bytes_each: Histogram::default(),
    };
    let progress = Progress::message();
    let mut last = started;
    while let Some(left) = duration.checked_sub(started.elapsed()) {
        thread::sleep(left.min(PAUSE));
        let looked = observer.look(started + duration)?;
        observer.looks.record(micros(last, looked));
        last = looked;
        if observer.is_window_over(looked) {
            let Amount { records, bytes } = observer.seen;
            let (records, bytes, syncs) = (grouped(records), grouped(bytes), observer.syncs);
            progress.say(|| format!("{records} records, {bytes} bytes, {} syncs", grouped(syncs)));
        }
    }
    Ok(observer.result(last.saturating_duration_since(started)))
}

impl Observer {
    /// Reads what is new, and says when that was.
    fn look(&mut self, until: Instant) -> Result<Instant, Failure> {
        let mut ends = Vec::new();
        let mut now = clock::now();
        while let Some(span) = self.watch.next_frame()? {
            self.seen.records += u64::from(span.content == Content::Record);
            self.seen.bytes += span.bytes();
            let watermark = watermark(&span);
            if watermark > self.newest && ends.last() != Some(&watermark) {
                ends.push(watermark);
                now = clock::now();
                // A writer that is faster than we are is not followed for ever.
                if now > until {
                    break;
                }
            }
        }
        ends.sort_unstable();
        ends.dedup();
        if let Some(newest) = ends.last() {
            let count = u64::try_from(ends.len()).unwrap_or(u64::MAX);
            if let Some(before) = self.ended {
                self.cohorts.record_times(micros(before, now) / count, count);
            }
            (self.newest, self.ended) = (*newest, Some(now));
            self.syncs += count;
        }
        Ok(now)
    }

    /// True at the end of each tenth of a second.
    fn is_window_over(&mut self, now: Instant) -> bool {
        let (began, before) = self.window;
        let elapsed = now.saturating_duration_since(began);
        if elapsed < WINDOW {
            return false;
        }
        let per_s = |count: u64| per_s(count, elapsed);
        self.records_each.record(whole(per_s(self.seen.records - before.records)));
        self.bytes_each.record(whole(per_s(self.seen.bytes - before.bytes)));
        self.window = (now, self.seen);
        true
    }

    fn result(self, elapsed: Duration) -> Live {
        let Amount { records, bytes } = self.seen;
        Live {
            seconds: elapsed.as_secs_f64(),
            looks_us: self.looks.summary(),
            records,
            bytes,
            records_per_s: per_s(records, elapsed),
            bytes_per_s: per_s(bytes, elapsed),
            syncs: self.syncs,
            cohorts_us: self.cohorts.summary(),
            records_per_s_each: self.records_each.summary(),
            bytes_per_s_each: self.bytes_each.summary(),
        }
    }
}

impl Live {
    pub(super) fn text(&self) -> String {
        let mut facts = Facts::default();
        facts.add("watched", format!("{:.1} s", self.seconds));
        if self.bytes == 0 {
            facts.add("seen", "nothing: nobody wrote to the log meanwhile");
            return facts.render();
        }
        let [records, bytes, syncs] = [self.records, self.bytes, self.syncs].map(grouped);
        facts.add("seen", format!("{records} records, {bytes} bytes, at least {syncs} syncs"));
        let (records, bytes) = (grouped_rate(self.records_per_s), self.bytes_per_s / 1e6);
        facts.add("rate", format!("{records} records/s, {bytes:.1} MB/s"));
        facts.add("us per look", self.looks_us.words());
        let times = self.cohorts_us.bars("us between cohorts", Unit::Count, "cohorts") + EXACTNESS;
        let title = "records/s, by tenths of a second";
        let records = self.records_per_s_each.bars(title, Unit::Count, "tenths");
        let title = "bytes/s, by tenths of a second";
        let bytes = self.bytes_per_s_each.bars(title, Unit::Bytes, "tenths");
        format!("{}\n{times}\n{records}\n{bytes}", facts.render())
    }
}

/// What a frame says is durable.
fn watermark(span: &Span) -> u64 {
    let watermark = span.header.and_then(|header| header.watermark);
    watermark.unwrap_or_default().get()
}

fn micros(from: Instant, to: Instant) -> u64 {
    u64::try_from(to.saturating_duration_since(from).as_micros()).unwrap_or(u64::MAX)
}

fn per_s(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and a rate is neither negative nor beyond u64"
)]
fn whole(rate: f64) -> u64 {
    rate.round() as u64
}
