//! Spans and events for `tracing` subscribers: target `cohort_wal`.

use std::path::Path;

use tracing::field::Empty;
use tracing::span::Entered;
use tracing::{Level, event, span};

use super::{Found, guarded};
use crate::error::WalError;

const TARGET: &str = "cohort_wal";

/// A span of work, as far as the subscriber made one.
#[derive(Debug, Default)]
pub(super) struct Span(Option<tracing::Span>);

/// What leaves a span when the work is over, unwinding or not.
struct Inside<'a>(Option<Entered<'a>>);

impl Span {
    pub(super) fn open(path: &Path) -> Self {
        Self(guarded(|| {
            span!(
                target: TARGET,
                Level::INFO,
                "open",
                path = %path.display(),
                head = Empty,
                end = Empty,
                segments = Empty,
                records = Empty,
                carried_bytes = Empty,
                cut_bytes = Empty,
                clean = Empty,
                error = Empty
            )
        }))
    }

    pub(super) fn flush(start: u64, end: u64) -> Self {
        let bytes = end - start;
        Self(guarded(|| span!(target: TARGET, Level::DEBUG, "flush", start, end, bytes)))
    }

    pub(super) fn sync(start: u64, end: u64) -> Self {
        let bytes = end - start;
        let commits = Empty;
        Self(guarded(|| span!(target: TARGET, Level::DEBUG, "sync", start, end, bytes, commits)))
    }

    pub(super) fn rotate(at: u64) -> Self {
        Self(guarded(|| span!(target: TARGET, Level::DEBUG, "rotate", at)))
    }

    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
        let _inside = Inside(self.0.as_ref().and_then(|span| guarded(|| span.enter())));
        work()
    }

    pub(super) fn found(&self, found: &Found) {
        self.record(|span| {
            span.record("head", found.head)
                .record("end", found.end)
                .record("segments", found.segments)
                .record("records", found.records)
                .record("carried_bytes", found.carried_bytes)
                .record("cut_bytes", found.cut_bytes)
                .record("clean", found.clean);
        });
    }

    pub(super) fn failed(&self, error: &WalError) {
        self.record(|span| {
            span.record("error", tracing::field::display(error));
        });
    }

    pub(super) fn commits(&self, commits: u64) {
        self.record(|span| {
            span.record("commits", commits);
        });
    }

    fn record(&self, record: impl FnOnce(&tracing::Span)) {
        if let Some(span) = &self.0 {
            guarded(|| record(span));
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let span = self.0.take();
        guarded(|| drop(span));
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let entered = self.0.take();
        guarded(|| drop(entered));
    }
}

pub(super) fn poisoned(cause: &WalError) {
    guarded(|| event!(target: TARGET, Level::ERROR, %cause, "log is poisoned"));
}

pub(super) fn closed(durable: u64, clean: bool) {
    guarded(|| event!(target: TARGET, Level::INFO, durable, clean, "log is closed"));
}
