//! The one place of this program that reads the clock, to say how fast it was.

pub(crate) use std::time::Instant;

#[expect(clippy::disallowed_methods, reason = "rates are measured")]
pub(crate) fn now() -> Instant {
    Instant::now()
}
