//! [`Gone`]: what a writer truncates while its log is read. Segments go as a whole, oldest first.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use cohort_wal::inspect::{Segment, SegmentState};
use cohort_wal::{Lsn, WalError};

/// Up to where a log is known to be truncated since it was looked at.
#[derive(Debug, Default)]
pub(crate) struct Gone(AtomicU64);

impl Gone {
    /// Reads a segment of `[base, end)`, unless it is known to be gone; without an end, it can be
    /// read at any time.
    pub(crate) fn read<T>(
        &self,
        base: Lsn,
        end: Option<Lsn>,
        read: impl FnOnce() -> Result<T, WalError>,
    ) -> Result<T, WalError> {
        let head = Lsn::new(self.0.load(Relaxed));
        if base < head && end.is_some_and(|end| end <= head) {
            return Err(WalError::Truncated { lsn: base, head });
        }
        let read = read();
        if let Err(WalError::Truncated { head, .. }) = &read {
            self.0.fetch_max(head.get(), Relaxed);
        }
        read
    }
}

/// Base and end of a segment of an inspection, which keeps the active one open.
pub(crate) fn bounds(segment: &Segment) -> (Lsn, Option<Lsn>) {
    let base = segment.header.map_or(Lsn::default(), |header| header.base);
    (base, segment.end.filter(|_| segment.state != SegmentState::Active))
}

/// Whether all of a segment that ends at `end` was truncated. Otherwise the log may have been cut,
/// or what could not be read may be damage that the head has come to: only another look tells.
pub(crate) fn is_gone(error: &WalError, end: Lsn) -> bool {
    matches!(error, WalError::Truncated { head, .. } if *head >= end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truncated(lsn: u64, head: u64) -> WalError {
        WalError::Truncated { lsn: Lsn::new(lsn), head: Lsn::new(head) }
    }

    #[test]
    fn a_segment_that_the_head_has_come_into_is_not_gone() {
        let end = Lsn::new(12_000);
        assert!(is_gone(&truncated(0, 12_000), end));
        // Read up to damage that lies below the head by now: more of it may lie above.
        assert!(!is_gone(&truncated(2400, 10_800), end));
        assert!(!is_gone(&WalError::Closed, end));
    }

    #[test]
    fn what_lies_below_a_head_that_is_known_is_not_asked_for() {
        let gone = Gone::default();
        let read = |base, end, result: fn() -> Result<u32, WalError>| {
            gone.read(Lsn::new(base), Some(Lsn::new(end)), result)
                .map_err(|error| error.to_string())
        };
        assert_eq!(read(0, 100, || Ok(1)), Ok(1));
        let error = truncated(100, 300).to_string();
        assert_eq!(read(100, 200, || Err(truncated(100, 300))), Err(error));
        assert_eq!(read(200, 300, || Ok(2)), Err(truncated(200, 300).to_string()));
        assert_eq!(read(300, 300, || Ok(3)), Ok(3));
        assert_eq!(read(200, 400, || Ok(4)), Ok(4));
        assert_eq!(gone.read(Lsn::new(200), None, || Ok(5)).ok(), Some(5));
    }
}
