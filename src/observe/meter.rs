//! Counters and histograms for `metrics` recorders. Nothing in here says which log it was.

use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};

use super::guarded;
use crate::sync::Instant;

pub(super) use crate::sync::now;

pub(super) fn opened() {
    guarded(describe);
    add(|| counter!("cohort_wal.opened"), 1);
}

/// A recorder may have been installed since the last log was opened.
fn describe() {
    describe_counter!("cohort_wal.opened", "logs opened");
    describe_counter!("cohort_wal.closed", "logs closed");
    describe_counter!("cohort_wal.poisoned", "logs poisoned");
    describe_counter!("cohort_wal.flushes", "writes of appended bytes to the operating system");
    describe_counter!("cohort_wal.bytes_written", Unit::Bytes, "bytes of these writes");
    describe_counter!("cohort_wal.rotations", "segments begun");
    describe_counter!("cohort_wal.syncs", "syncs of a cohort, however many files each covers");
    describe_counter!("cohort_wal.commits", "commits made durable by these syncs");
    describe_histogram!("cohort_wal.flush_bytes", Unit::Bytes, "bytes of one write");
    describe_histogram!("cohort_wal.sync_seconds", Unit::Seconds, "duration of one sync");
    describe_histogram!(
        "cohort_wal.cohort_commits",
        Unit::Count,
        "commits of one sync that had any"
    );
}

pub(super) fn flushed(bytes: u64) {
    add(|| counter!("cohort_wal.flushes"), 1);
    add(|| counter!("cohort_wal.bytes_written"), bytes);
    record(|| histogram!("cohort_wal.flush_bytes"), value(bytes));
}

pub(super) fn rotated() {
    add(|| counter!("cohort_wal.rotations"), 1);
}

pub(super) fn synced(begun: Instant) {
    let took = begun.elapsed();
    add(|| counter!("cohort_wal.syncs"), 1);
    record(|| histogram!("cohort_wal.sync_seconds"), took.as_secs_f64());
}

pub(super) fn committed(commits: u64) {
    if commits > 0 {
        add(|| counter!("cohort_wal.commits"), commits);
        record(|| histogram!("cohort_wal.cohort_commits"), value(commits));
    }
}

pub(super) fn poisoned() {
    add(|| counter!("cohort_wal.poisoned"), 1);
}

pub(super) fn closed() {
    add(|| counter!("cohort_wal.closed"), 1);
}

/// Adds to a counter, and drops it apart from that: one that panics both times is no abort.
fn add(counter: impl FnOnce() -> Counter, value: u64) {
    let Some(counter) = guarded(counter) else { return };
    guarded(|| counter.increment(value));
    guarded(|| drop(counter));
}

fn record(histogram: impl FnOnce() -> Histogram, value: f64) {
    let Some(histogram) = guarded(histogram) else { return };
    guarded(|| histogram.record(value));
    guarded(|| drop(histogram));
}

#[expect(clippy::cast_precision_loss, reason = "a statistic")]
fn value(count: u64) -> f64 {
    count as f64
}
