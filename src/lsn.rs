//! [`Lsn`]: a byte position in the endless logical log.

use std::fmt;

/// The first value an LSN may not reach. Three low bits stay free for flags, two high bits for
/// arithmetic that cannot wrap.
pub(crate) const LSN_LIMIT: u64 = 1 << 62;

/// Every LSN and every encoded length is a multiple of this.
pub(crate) const ALIGNMENT: u64 = 8;

/// A place in the log as it was in one era: eras end when the log is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) lsn: u64,
    pub(crate) era: u64,
}

impl Place {
    /// Another place in the same era.
    pub(crate) fn at(self, lsn: u64) -> Self {
        Self { lsn, ..self }
    }
}

/// A log sequence number: the position, in bytes, of a frame in the endless logical log.
///
/// An LSN is a multiple of 8 below 2^62. Where an LSN bounds a range it is an *exclusive end*:
/// the first byte that is not covered. LSNs are ordered as their records are.
///
/// An `Lsn` names a place in the log as it is now. It does not remember the log it came from.
///
/// ```
/// use cohort_wal::Lsn;
///
/// let lsn = Lsn::new(4096);
/// assert_eq!(lsn.get(), 4096);
/// assert!(Lsn::default() < lsn);
/// assert_eq!(lsn.to_string(), "4096");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(u64);

impl Lsn {
    /// Wraps a byte position. Any value can be wrapped; operations that take an LSN report one
    /// that names no record as [`WalError::NotARecord`](crate::WalError::NotARecord).
    #[must_use]
    pub const fn new(position: u64) -> Self {
        Self(position)
    }

    /// The byte position.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lsn({})", self.0)
    }
}
