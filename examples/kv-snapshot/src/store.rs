//! [`Store`]: a state behind a log.
//!
//! A commit locks the state, appends its records as one batch, applies them, unlocks, and only then
//! waits for the disk. Appending under the lock makes the order of the log the order in which
//! changes are applied. Waiting outside it lets commits share syncs.
//!
//! I1. The state is the fold of all records below an end of the log that is kept beside it under
//!     the same lock, so that whoever takes both has what a snapshot needs.
//! I2. Nobody is told of what is not durable: commits are acknowledged, and reads return, once all
//!     that they have seen survives power loss.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cohort_wal::{FileStore, Lsn, RecoveryReport, Wal, WalStore};

use crate::error::Result;
use crate::record::{Change, Key, Token};
use crate::state::{Entry, State};

/// A key-value state whose changes are in a log first. Share it as `Arc<Store>`.
///
/// After a commit has failed it is unknown whether the change counts. Where the error
/// [can be retried](crate::Error::is_retryable) the same changes may be committed again, which
/// leads to the same state. Where it [is poison](crate::Error::is_poisoned) the log must be opened
/// and the store be loaded anew.
#[derive(Debug)]
pub struct Store<S: WalStore = FileStore> {
    wal: Arc<Wal<S>>,
    current: Mutex<Current>,
    /// Held by the one compaction at a time.
    compacting: Mutex<()>,
    compact_above: u64,
}

#[derive(Debug, Clone)]
struct Current {
    /// Whoever looks at the state for longer shares it, and the next change copies it first.
    state: Arc<State>,
    /// The state is the fold of all records below.
    end: Lsn,
    /// The last record that was applied since loading; what was loaded is durable.
    last: Option<Lsn>,
}

/// What a compaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Compaction {
    /// The snapshot stands for all records below.
    pub lsn: Lsn,
    /// Entries in the snapshot.
    pub entries: usize,
    /// Bytes that left the log.
    pub freed_bytes: u64,
}

impl<S: WalStore> Store<S> {
    /// Loads what is in a log: the newest snapshot and the records behind it. From here on nobody
    /// else may append to the log. It asks for compaction above `compact_above` bytes of log.
    ///
    /// # Errors
    /// [`Error::Wal`](crate::Error::Wal), which [is corruption](crate::Error::is_corruption) where
    /// acknowledged bytes are damaged; a torn end is none, see [`recovery`](Self::recovery).
    /// [`Error::UnknownKind`](crate::Error::UnknownKind) and
    /// [`Error::Malformed`](crate::Error::Malformed) for records of another program.
    pub fn load(wal: Arc<Wal<S>>, compact_above: u64) -> Result<Self> {
        let mut state = match wal.snapshots()?.latest()? {
            Some(snapshot) => State::read_image(snapshot.lsn(), snapshot)?,
            None => State::default(),
        };
        let mut records = wal.iter()?;
        while let Some(record) = records.read_next() {
            let record = record?;
            state.apply(record.lsn(), Change::decode(record.lsn(), record.data())?);
        }
        let current = Current { state: Arc::new(state), end: wal.end_lsn(), last: None };
        Ok(Self { wal, current: Mutex::new(current), compacting: Mutex::new(()), compact_above })
    }

    /// Puts an entry.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn put(&self, key: &str, token: Token, value: &[u8]) -> Result<()> {
        self.commit(vec![Change::Put { key: key.into(), token, value: value.to_vec() }])
    }

    /// Deletes an entry if it has this version.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn delete(&self, key: &str, token: Token) -> Result<()> {
        self.commit(vec![Change::Delete { key: key.into(), token }])
    }

    /// Forgets an entry, whatever its version.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn purge(&self, key: &str) -> Result<()> {
        self.commit(vec![Change::Purge { key: key.into() }])
    }

    /// Moves the cursor.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn set_cursor(&self, cursor: &[u8]) -> Result<()> {
        self.commit(vec![Change::Cursor { cursor: cursor.to_vec() }])
    }

    /// Makes changes, all of them or none, and does not wait. They are durable with the next
    /// commit, read, [`sync`](Self::sync) or compaction. Returns the last record that was applied,
    /// for who waits for it in another way.
    ///
    /// # Errors
    /// [`Error::Wal`](crate::Error::Wal), and nothing has changed.
    pub fn append(&self, changes: Vec<Change>) -> Result<Option<Lsn>> {
        let records: Vec<_> = changes.iter().map(Change::encode).collect();
        self.append_to(&mut self.current(), &records, changes)
    }

    /// Waits until everything that was appended is durable.
    ///
    /// # Errors
    /// [`Error::Wal`](crate::Error::Wal).
    pub fn sync(&self) -> Result<()> {
        Ok(self.wal.sync()?)
    }

    /// Makes changes, all of them or none, and waits until they are durable.
    ///
    /// # Errors
    /// [`Error::Wal`](crate::Error::Wal).
    pub fn commit(&self, changes: Vec<Change>) -> Result<()> {
        let last = self.append(changes)?;
        self.settle(last)
    }

    /// The same for async callers: no thread waits. It may block for a moment while the log's ring
    /// is full.
    ///
    /// # Errors
    /// [`Error::Wal`](crate::Error::Wal).
    pub async fn commit_async(&self, changes: Vec<Change>) -> Result<()> {
        if let Some(last) = self.append(changes)? {
            self.wal.durable(last).await?;
        }
        Ok(())
    }

    /// The entry with this key.
    ///
    /// # Errors
    /// [`Error::Wal`](crate::Error::Wal) when what it would show can not be made durable.
    pub fn get(&self, key: &str) -> Result<Option<Arc<Entry>>> {
        let (entry, last) = {
            let current = self.current();
            (current.state.get(key).cloned(), current.last)
        };
        self.settle(last)?;
        Ok(entry)
    }

    /// The state as it is now. While it is held the next change copies the maps, not the values.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn view(&self) -> Result<Arc<State>> {
        let Current { state, last, .. } = self.current().clone();
        self.settle(last)?;
        Ok(state)
    }

    /// A mark to take before the outside world is asked for a listing: what is put behind it may
    /// be newer than the listing. It means something to this store, not to one loaded later.
    #[must_use]
    pub fn mark(&self) -> Lsn {
        self.wal.end_lsn()
    }

    /// The keys that the state has and `listing`, which was asked for at `asked`, has not, or has
    /// in another version. [`purge_stale`](Self::purge_stale) purges them.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub fn stale(&self, listing: &BTreeMap<String, Token>, asked: Lsn) -> Result<Vec<Key>> {
        Ok(self.view()?.stale(listing, asked))
    }

    /// Purges stale keys, all of them or none, except those that were put again since `asked`.
    ///
    /// Finding and purging are two calls, so that who has to call again after an error still knows
    /// the keys.
    ///
    /// # Errors
    /// As [`commit`](Self::commit).
    pub fn purge_stale(&self, stale: &[Key], asked: Lsn) -> Result<()> {
        let last = {
            let mut current = self.current();
            let stale = stale.iter().filter(|key| current.state.has_since_before(key, asked));
            let purges: Vec<_> = stale.map(|key| Change::Purge { key: Key::clone(key) }).collect();
            let records: Vec<_> = purges.iter().map(Change::encode).collect();
            self.append_to(&mut current, &records, purges)?
        };
        self.settle(last)
    }

    /// Whether the log has grown past the threshold, so that [`compact`](Self::compact) pays.
    #[must_use]
    pub fn needs_compaction(&self) -> bool {
        self.wal.live_bytes() > self.compact_above
    }

    /// Has a snapshot of the state take the place of the log so far.
    ///
    /// Blocks for some syncs and for writing the state, and only other compactions wait meanwhile:
    /// call it from a thread that has the time, as a blocking pool of an async runtime. Whatever is
    /// committed while it runs stays in the log.
    ///
    /// # Errors
    /// [`Error::Wal`](crate::Error::Wal): nothing is lost. Unless that is poison the store goes on,
    /// and compaction can be tried again.
    pub fn compact(&self) -> Result<Compaction> {
        let _turn = lock(&self.compacting);
        let Current { state, end: lsn, .. } = self.current().clone();
        let head = self.wal.head_lsn();
        self.wal.checkpoint(lsn, |out| state.write_image(out))?;
        let freed_bytes = lsn.get().saturating_sub(head.get());
        Ok(Compaction { lsn, entries: state.len(), freed_bytes })
    }

    /// What opening the log found: where its end was torn, and how much was cut.
    #[must_use]
    pub fn recovery(&self) -> &RecoveryReport {
        self.wal.recovery()
    }

    /// The log, for its figures and for those who follow it.
    #[must_use]
    pub fn wal(&self) -> &Arc<Wal<S>> {
        &self.wal
    }

    /// Closes the log; everything is durable then.
    ///
    /// # Errors
    /// [`Error::Wal`](crate::Error::Wal).
    pub fn close(&self) -> Result<()> {
        Ok(self.wal.close()?)
    }

    fn append_to(
        &self,
        current: &mut Current,
        records: &[Vec<u8>],
        changes: Vec<Change>,
    ) -> Result<Option<Lsn>> {
        let appended = self.wal.append_batch(records);
        // Also when it failed: a large record that found the disk full leaves a gap in the log,
        // and a snapshot can not be made in there.
        current.end = self.wal.end_lsn();
        let lsns = appended?;
        if let Some(last) = lsns.last() {
            let state = Arc::make_mut(&mut current.state);
            lsns.iter().zip(changes).for_each(|(lsn, change)| state.apply(*lsn, change));
            current.last = Some(*last);
        }
        // Without changes too: the caller may have found that somebody else has just made them.
        Ok(current.last)
    }

    /// Waits until what was applied up to `last` is durable, and with it all before it.
    fn settle(&self, last: Option<Lsn>) -> Result<()> {
        last.map_or(Ok(()), |last| Ok(self.wal.wait_durable(last)?))
    }

    fn current(&self) -> MutexGuard<'_, Current> {
        lock(&self.current)
    }
}

/// Nothing that is done under a lock leaves its work half done when it panics: changes are applied
/// after everything that could.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
