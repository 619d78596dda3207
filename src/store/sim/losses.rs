//! [`PowerLosses`]: the states a power loss may leave, one after the other.

use std::fmt;

use super::loss::Outcomes;
use super::{SimStore, State};

/// The states that a power loss may leave, each as a disk of its own.
///
/// They are numbered: the same disk, limit and number give the same state.
///
/// ```
/// use cohort_wal::sim::{Profile, SimStore};
/// use cohort_wal::{StoreFile, WalStore};
///
/// # fn main() -> std::io::Result<()> {
/// let disk = SimStore::new(Profile::Ext4NoJournal, 1);
/// let file = disk.create(0)?;
/// disk.publish(&file, "f")?;
/// disk.sync_place()?;
/// file.write_at(0, &[1; 1024])?;
///
/// // No bytes; or 1024, of which each of two sectors is new or zeros.
/// let states = disk.power_losses(100);
/// assert_eq!((states.len(), states.is_exhaustive()), (5, true));
/// assert!(states.state(0).snapshot().files()["f"].is_empty());
/// # Ok(())
/// # }
/// ```
pub struct PowerLosses {
    outcomes: Outcomes,
    origin: State,
    next: u64,
    total: u64,
}

impl PowerLosses {
    pub(super) fn new(outcomes: Outcomes, origin: State, total: u64) -> Self {
        Self { outcomes, origin, next: 0, total }
    }

    /// Whether these are all the states there are.
    #[must_use]
    pub fn is_exhaustive(&self) -> bool {
        self.outcomes.exhaustive().is_some()
    }

    /// How many states there are in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Never: one state is always possible.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The state with this number. Numbers beyond the last one give random states.
    #[must_use]
    pub fn state(&self, number: u64) -> SimStore {
        let index = number.wrapping_add(1);
        self.origin.detached(self.outcomes.state(number), index)
    }
}

impl Iterator for PowerLosses {
    type Item = SimStore;

    fn next(&mut self) -> Option<SimStore> {
        let number = self.next;
        self.next += 1;
        (number < self.total).then(|| self.state(number))
    }
}

impl fmt::Debug for PowerLosses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PowerLosses")
            .field("next", &self.next)
            .field("total", &self.total)
            .finish_non_exhaustive()
    }
}
