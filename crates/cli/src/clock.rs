//! The one place of this program that reads the clock.

pub(crate) use std::time::Instant;

/// Reads the monotonic clock.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
