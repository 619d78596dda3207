//! The one place that reads the clock.

use std::thread;
pub(crate) use std::time::{Duration, Instant};

#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Sleeps until `moment`, or not at all when it is past.
pub(crate) fn sleep_until(moment: Instant) {
    let ahead = moment.saturating_duration_since(now());
    if !ahead.is_zero() {
        thread::sleep(ahead);
    }
}

/// Nanoseconds, as many as fit.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
