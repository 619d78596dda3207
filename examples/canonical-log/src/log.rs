//! [`CanonicalLog`]: entries that many threads append, and checkpoints that commit them.
//!
//! I1. The count in a checkpoint is the count of the entries before it: both kinds of records are
//!     appended under the lock that counts.
//! I2. Nobody waits for a sync with that lock in hand: checkpoints of many threads share syncs.
//! I3. What is shown as committed has a durable checkpoint behind it.
//!
//! After a failure for good (the log is poisoned) every call fails. Open it again: what that finds
//! is what counts.

use std::path::Path;
use std::sync::Arc;

use cohort_wal::{Durable, FileStore, Lsn, Record, Salvage, Wal, WalError, WalOptions, WalStore};
use parking_lot::Mutex;

use crate::record::Kind;
use crate::{Error, Result};

/// A checkpoint record: where it is, and how many entries there were before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where it is.
    pub lsn: Lsn,
    /// The count of all entries before it, which is the index of the one behind it.
    pub entries: u64,
}

/// A log of entries. Share it as `Arc<CanonicalLog>`.
#[derive(Debug)]
pub struct CanonicalLog<S: WalStore = FileStore> {
    wal: Arc<Wal<S>>,
    state: Mutex<State>,
    orphans: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// Entries that were appended, committed or not.
    entries: u64,
    /// The newest checkpoint that is durable.
    committed: Option<Checkpoint>,
    /// How often the log was cut. What was known of it before does not hold behind a cut.
    cuts: u64,
}

impl CanonicalLog<FileStore> {
    /// Opens the log in `dir`, or creates it, and cuts what no checkpoint has committed.
    ///
    /// Other files in `dir` are left alone.
    ///
    /// # Errors
    /// [`Error::Foreign`] for the log of another program, and [`WalError::NotALog`] for files that
    /// only look like a log: both stay as they are, byte for byte. Otherwise as
    /// [`WalOptions::open`].
    pub fn open(options: WalOptions, dir: impl AsRef<Path>) -> Result<Self> {
        // Opening the log of another program would change it: look first.
        refuse_foreign(options.clone().salvage(dir.as_ref()))?;
        Self::recover(options.open(dir)?)
    }
}

impl<S: WalStore> CanonicalLog<S> {
    /// The same, in a store of any kind whose clones share their files.
    ///
    /// # Errors
    /// As [`open`](CanonicalLog::open).
    pub fn open_store(options: WalOptions, store: S) -> Result<Self>
    where
        S: Clone,
    {
        refuse_foreign(options.clone().salvage_store(store.clone()))?;
        Self::recover(options.open_store(store)?)
    }

    /// Finds the last checkpoint and cuts what is behind it; everything, if there is none.
    fn recover(wal: Wal<S>) -> Result<Self> {
        let (mut state, mut begun) = (State::default(), false);
        let mut records = wal.iter()?;
        while let Some(record) = records.read_next() {
            let record = record?;
            match Kind::decode(record.lsn(), record.data())? {
                Kind::Entry(_) => state.entries += 1,
                Kind::Checkpoint(says) => {
                    let (lsn, found) = (record.lsn(), state.entries);
                    // The first one says how many were forgotten.
                    if begun && says != found {
                        return Err(Error::Miscounted { lsn, says, found });
                    }
                    state.entries = says;
                    state.committed = Some(Checkpoint { lsn, entries: says });
                }
            }
            begun = true;
        }
        drop(records);
        let committed = state.committed.map_or(0, |checkpoint| checkpoint.entries);
        let orphans = state.entries - committed;
        state.entries = committed;
        match state.committed {
            Some(last) if wal.last_lsn() != Some(last.lsn) => wal.truncate_after(last.lsn)?,
            None if !wal.is_empty() => wal.truncate_from(wal.head_lsn())?,
            _ => {}
        }
        Ok(Self { wal: Arc::new(wal), state: Mutex::new(state), orphans })
    }

    /// The log below: its positions, its statistics, to close it.
    #[must_use]
    pub fn wal(&self) -> &Wal<S> {
        &self.wal
    }

    /// How many entries opening has cut, because no checkpoint had committed them.
    #[must_use]
    pub fn orphans(&self) -> u64 {
        self.orphans
    }

    /// The newest checkpoint that is durable.
    #[must_use]
    pub fn committed(&self) -> Option<Checkpoint> {
        self.state.lock().committed
    }

    /// Appends an entry and returns its index. It counts when a [`checkpoint`](Self::checkpoint)
    /// that was called later has returned, whoever called it.
    ///
    /// # Errors
    /// As [`Wal::append`].
    pub fn append(&self, entry: &[u8]) -> Result<u64> {
        let [magic, kind] = Kind::ENTRY_PREFIX;
        let mut state = self.state.lock();
        self.wal.append_vectored(&[magic, kind, entry])?;
        state.entries += 1;
        Ok(state.entries - 1)
    }

    /// Commits every entry that was appended so far, by this thread or another. When it has
    /// returned they survive power loss, all of them.
    ///
    /// # Errors
    /// As [`Wal::append`] and [`Wal::wait_durable`]. The entries are then committed or not, all or
    /// none; the next checkpoint that succeeds commits them, unless [`WalError::Truncated`] says
    /// that they were cut off.
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let (checkpoint, durable, cuts) = self.append_checkpoint()?;
        durable.wait()?;
        let mut state = self.state.lock();
        let newer = state.committed.is_none_or(|committed| committed.lsn < checkpoint.lsn);
        if state.cuts == cuts && newer {
            state.committed = Some(checkpoint);
        }
        Ok(checkpoint)
    }

    fn append_checkpoint(&self) -> Result<(Checkpoint, Durable, u64)> {
        let [magic, kind] = Kind::CHECKPOINT_PREFIX;
        let state = self.state.lock();
        let entries = state.entries;
        let lsn = self.wal.append_vectored(&[magic, kind, &entries.to_le_bytes()])?;
        // Under the lock, where the LSN is certain to name this record: behind a cut it is soon
        // another one's.
        Ok((Checkpoint { lsn, entries }, self.wal.durable(lsn), state.cuts))
    }

    /// The committed entries that are kept, each with its index, oldest first.
    ///
    /// # Errors
    /// As [`Wal::iter`]; the iterator's too.
    pub fn entries(&self) -> Result<impl Iterator<Item = Result<(u64, Vec<u8>)>> + use<S>> {
        // Both under the lock: behind a cut other records stand below the same LSN.
        let state = self.state.lock();
        let records = self.wal.iter()?;
        let end = state.committed.map_or(Lsn::new(0), |checkpoint| checkpoint.lsn);
        let within = move |record: &Result<Record, WalError>| {
            record.as_ref().ok().is_none_or(|record| record.lsn() < end)
        };
        drop(state);
        let mut next = 0;
        let decode = move |record: Result<Record, WalError>| {
            let record = record?;
            Ok(match Kind::decode(record.lsn(), record.data())? {
                Kind::Entry(entry) => {
                    next += 1;
                    Some((next - 1, entry.to_vec()))
                }
                Kind::Checkpoint(entries) => {
                    next = entries;
                    None
                }
            })
        };
        Ok(records.take_while(within).map(decode).filter_map(Result::transpose))
    }

    /// Takes back everything behind a checkpoint, which is kept. When it has returned, nothing of
    /// that comes back.
    ///
    /// # Errors
    /// With nothing changed: [`Error::BeyondEnd`], [`Error::NotACheckpoint`],
    /// [`WalError::NotARecord`], [`WalError::Truncated`] where it was forgotten. Otherwise as
    /// [`Wal::truncate_after`].
    pub fn cut_to(&self, lsn: Lsn) -> Result<Checkpoint> {
        let mut state = self.state.lock();
        let checkpoint = self.checkpoint_at(lsn)?;
        let end = self.wal.end_lsn();
        let done = self.wal.truncate_after(lsn);
        // Also with an error: it may be about a file that should be gone, and the log is cut.
        if done.is_ok() || self.wal.end_lsn() != end {
            state.entries = checkpoint.entries;
            state.committed = Some(checkpoint);
            state.cuts += 1;
        }
        done?;
        Ok(checkpoint)
    }

    /// Forgets every entry before a checkpoint, which is kept and goes on counting them.
    ///
    /// # Errors
    /// With nothing changed: [`Error::NotCommitted`], because a log that begins with a record that
    /// a crash can take has lost everything; and as [`cut_to`](Self::cut_to). Otherwise as
    /// [`Wal::truncate_before`].
    pub fn forget_before(&self, lsn: Lsn) -> Result<()> {
        let state = self.state.lock();
        self.checkpoint_at(lsn)?;
        if state.committed.is_none_or(|committed| committed.lsn < lsn) {
            return Err(Error::NotCommitted(lsn));
        }
        self.wal.truncate_before(lsn)?;
        Ok(())
    }

    /// The checkpoint at a place.
    fn checkpoint_at(&self, lsn: Lsn) -> Result<Checkpoint> {
        let end = self.wal.end_lsn();
        // Not left to the log: looking there would hand over what waits in memory.
        if lsn >= end {
            return Err(Error::BeyondEnd { lsn, end });
        }
        match self.wal.iter_from(lsn)?.next().transpose()? {
            None => Err(Error::BeyondEnd { lsn, end }),
            Some(record) => match Kind::decode(record.lsn(), record.data())? {
                Kind::Checkpoint(entries) => Ok(Checkpoint { lsn, entries }),
                Kind::Entry(_) => Err(Error::NotACheckpoint(lsn)),
            },
        }
    }
}

/// Fails if there is something, and it is not a log of this program.
fn refuse_foreign<S: WalStore>(looked: Result<Salvage<S>, WalError>) -> Result<()> {
    let records = match looked {
        Err(WalError::NotFound { .. }) => return Ok(()),
        records => records?,
    };
    // One record tells. Damage before it is for the opening to judge.
    match records.filter_map(Result::ok).next() {
        Some(record) => Kind::decode(record.lsn(), record.data()).map(drop),
        None => Ok(()),
    }
}
