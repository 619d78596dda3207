//! [`Follow`]: a cursor that waits for more.
//!
//! It reads up to what was durable when it looked, then looks again, and waits where there is
//! nothing yet. Where the log is, and how to be told that there is more, is a [`Source`]'s.
//!
//! * I1. What it yields was durable, and in the log, when the source looked last; each record once,
//!   in LSN order, none left out. An open log looks again at each record.
//! * I2. It holds one file, that of the segment it reads, and no lock while it waits or is not
//!   called.

use std::fmt;
use std::time::Duration;

use super::bell::{Bell, Heard, Stopper};
use super::iter::WalIter;
use super::record::Record;
use crate::error::{Result, WalError};
use crate::lsn::Lsn;
use crate::store::{FileStore, WalStore};
use crate::sync::{Arc, Deadline};

/// Where a follower has come to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reached {
    /// The end of the record that was yielded last.
    pub(crate) yielded: u64,
    /// The end of the pads that were read behind it.
    pub(crate) read: u64,
    /// A frame is known to start there.
    pub(crate) sure: bool,
}

/// A log that grows.
pub(crate) trait Source<S: WalStore>: Send {
    /// Has the cursor, or a new one, go on where it has come to, up to what is durable now; false
    /// when there is nothing. Fails with [`WalError::Truncated`] when the place is not in the log
    /// any more.
    fn ahead(&mut self, at: &mut Reached, cursor: &mut Option<WalIter<S>>) -> Result<bool>;

    /// The oldest LSN kept.
    fn head(&self) -> u64;

    /// Has the bell ring when something beyond `at` is durable, or never will be. Without anybody
    /// to ring it: after what time to look again.
    fn listen(&mut self, at: u64, bell: &Arc<Bell>) -> Option<Duration>;

    /// The bell rang.
    fn heard(&mut self);
}

/// Durable records in order, and then those to come: made by [`Wal::follow`](crate::Wal::follow)
/// and [`WalReader::follow`](crate::WalReader::follow).
///
/// As an `Iterator` it waits for the next record, and ends when it is [stopped](Stopper::stop) or
/// behind an error: [`WalError::Closed`] once everything in a log that was closed is yielded,
/// [`WalError::Poisoned`] once everything durable is, [`WalError::Truncated`] when the place it had
/// come to is not in the log any more, [`WalError::Corruption`] and [`WalError::Io`] as for any
/// reader. A slow one holds nobody up.
pub struct Follow<S: WalStore = FileStore> {
    pub(super) source: Box<dyn Source<S>>,
    cursor: Option<WalIter<S>>,
    pub(super) reached: Reached,
    pub(super) bell: Arc<Bell>,
    pub(super) failed: Option<WalError>,
    /// A thread rings the bell when it is time to look again.
    #[cfg(feature = "stream")]
    pub(super) looking: bool,
}

impl<S: WalStore> Follow<S> {
    /// Follows from `from` on; `sure` if a frame will start there whatever is there now.
    pub(crate) fn new(source: Box<dyn Source<S>>, from: u64, sure: bool) -> Result<Self> {
        let bell = Arc::new(Bell::new());
        let mut follow = Self {
            source,
            cursor: None,
            reached: Reached { yielded: from, read: from, sure },
            bell,
            failed: None,
            #[cfg(feature = "stream")]
            looking: false,
        };
        // A place without a record is an error at once, where that is known.
        follow.source.ahead(&mut follow.reached, &mut follow.cursor)?;
        Ok(follow)
    }

    /// Waits at most so long for the next record; `None` when there is none by then, or when the
    /// follower was stopped. With a zero timeout it waits for nothing but reads.
    ///
    /// # Errors
    /// As the iterator; the same again once it has failed.
    ///
    /// # Examples
    /// ```
    /// # use std::time::Duration;
    /// # use cohort_wal::{Lsn, MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// wal.append_and_sync(b"durable")?;
    /// wal.append(b"not yet")?;
    /// let mut follower = wal.follow(Lsn::new(0))?;
    /// let record = follower.next_timeout(Duration::from_secs(1))?;
    /// assert_eq!(record.unwrap().data(), b"durable");
    /// assert!(follower.next_timeout(Duration::ZERO)?.is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record>> {
        let record = self.step(Some(timeout));
        record.inspect_err(|error| self.fail(error))
    }

    pub(super) fn fail(&mut self, error: &WalError) {
        self.cursor = None;
        self.failed = Some(error.clone());
    }

    /// What ends this follower from another thread.
    #[must_use]
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.bell))
    }

    /// Where it has come to: every record below was yielded, or was never to be. Another follower
    /// may go on from here.
    #[must_use]
    pub fn next_lsn(&self) -> Lsn {
        Lsn::new(self.reached.yielded)
    }

    fn step(&mut self, timeout: Option<Duration>) -> Result<Option<Record>> {
        let mut deadline = timeout.map(Deadline::after);
        loop {
            if let Some(record) = self.read()? {
                return Ok(Some(record));
            }
            let look = self.source.listen(self.reached.read, &self.bell);
            let left = deadline.as_mut().map(Deadline::left);
            let most = match (look, left) {
                (Some(look), Some(left)) => Some(look.min(left)),
                (look, left) => look.or(left),
            };
            match self.bell.wait(most) {
                Heard::Stopped => return Ok(None),
                Heard::Rung(verdict) => self.hear(verdict)?,
                Heard::Nothing if left.is_some_and(|left| look.is_none_or(|look| left <= look)) => {
                    return Ok(None);
                }
                Heard::Nothing => {}
            }
        }
    }

    pub(super) fn hear(&mut self, verdict: Result<()>) -> Result<()> {
        self.source.heard();
        #[cfg(feature = "stream")]
        {
            self.looking = false;
        }
        match verdict {
            // What it waits for may be cut off; whether it is, is looked at.
            Err(error) if !error.loses_nothing() && !is_cut(&error) => Err(error),
            _ => Ok(()),
        }
    }

    /// The next record that is durable, without waiting.
    pub(super) fn read(&mut self) -> Result<Option<Record>> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if self.bell.is_stopped() {
            return Ok(None);
        }
        loop {
            if let Some(cursor) = &mut self.cursor {
                let record = cursor.next();
                let reached = cursor.reached();
                match record {
                    Some(Ok(record)) => {
                        self.refuse_truncated(record.lsn().get())?;
                        (self.reached.yielded, self.reached.read) = (reached, reached);
                        return Ok(Some(record));
                    }
                    // It was cut: perhaps behind what was read so far, and then it goes on there.
                    Some(Err(error)) if is_cut(&error) => self.cursor = None,
                    Some(Err(error)) => {
                        self.refuse_truncated(self.reached.yielded)?;
                        return Err(error);
                    }
                    None => self.reached.read = reached,
                }
            }
            if !self.source.ahead(&mut self.reached, &mut self.cursor)? {
                return Ok(None);
            }
        }
    }

    /// Fails when what starts at `lsn` is not kept any more.
    fn refuse_truncated(&self, lsn: u64) -> Result<()> {
        let head = self.source.head();
        if lsn < head {
            return Err(WalError::Truncated { lsn: Lsn::new(lsn), head: Lsn::new(head) });
        }
        Ok(())
    }
}

fn is_cut(error: &WalError) -> bool {
    matches!(error, WalError::Truncated { .. })
}

impl<S: WalStore> Iterator for Follow<S> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed.is_some() {
            return None;
        }
        let record = self.step(None);
        record.inspect_err(|error| self.fail(error)).transpose()
    }
}

impl<S: WalStore> fmt::Debug for Follow<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("reached", &self.reached).finish_non_exhaustive()
    }
}
