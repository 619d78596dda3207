//! Reading what was appended.

use super::Wal;
use crate::error::{Result, WalError};
use crate::flush::{Engine, Storage};
use crate::lsn::{Lsn, Place};
use crate::reader::{Beside, WalIter};
use crate::store::WalStore;
use crate::sync::Arc;

impl<S: WalStore> Beside for Engine<Storage<S>> {
    fn settle(&self, place: Place) -> Result<()> {
        Self::settle(self, place)
    }

    fn lowest_cut_since(&self, era: u64) -> Option<u64> {
        Self::lowest_cut_since(self, era)
    }

    fn cut_off(&self, cut: u64) -> WalError {
        Self::cut_off(self, cut)
    }

    fn has_let_go(&self, _seq: u64) -> Result<bool> {
        // What it lets go of is kept for whoever reads.
        Ok(false)
    }
}

impl<S: WalStore> Wal<S> {
    /// Iterates over everything appended before the call, from the head. Flushes first. On a
    /// poisoned log it covers what is durable; one that was made before the failure may end
    /// with [`WalError::Poisoned`] behind that.
    ///
    /// # Errors
    /// As [`flush`](Self::flush), except for poison; [`WalError::Io`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"one")?;
    /// for record in wal.iter()? {
    ///     assert_eq!(record?.data(), b"one");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter(&self) -> Result<WalIter<S>> {
        self.read(None)
    }

    /// Iterates from the record at `lsn` over everything appended before the call; nothing when
    /// `lsn` is at or past the end.
    ///
    /// # Errors
    /// [`WalError::Truncated`] below the head; [`WalError::NotARecord`] when no record starts at
    /// `lsn`; otherwise as [`iter`](Self::iter).
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append(b"one")?;
    /// let two = wal.append(b"two")?;
    /// assert_eq!(wal.iter_from(two)?.next().unwrap()?.data(), b"two");
    /// # Ok(())
    /// # }
    /// ```
    pub fn iter_from(&self, lsn: Lsn) -> Result<WalIter<S>> {
        self.read(Some(lsn.get()))
    }

    fn read(&self, from: Option<u64>) -> Result<WalIter<S>> {
        self.engine.enter_for_reading()?;
        self.engine.check_process()?;
        loop {
            let end = self.engine.place();
            match self.engine.enter().and_then(|()| self.engine.flush_to(end)) {
                Ok(()) => return self.cursor(from, end),
                // It was cut meanwhile: then what is left is everything.
                Err(WalError::Truncated { .. }) => {}
                Err(WalError::Poisoned { .. }) => {
                    return self.cursor(from, end.at(self.engine.durable()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// A cursor up to `end`, which is written, from an LSN or the head.
    pub(super) fn cursor(&self, from: Option<u64>, end: Place) -> Result<WalIter<S>> {
        let storage = self.engine.backing();
        let store = Arc::clone(storage.store());
        let beside: Arc<dyn Beside> = Arc::clone(&self.engine) as _;
        // The segments first: what is removed after this is kept for whoever holds it, and what
        // was removed before is below the head.
        let live = storage.live();
        let head = storage.control().claim().head;
        let around = (Some((beside, end.era)), storage.keys().clone());
        WalIter::over(store, live, head, from.unwrap_or(head), end.lsn, around)
    }
}
