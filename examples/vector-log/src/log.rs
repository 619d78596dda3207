//! [`VectorLog`]: the changes of a vector database, acknowledged when they are durable.
//!
//! Owns the catalog, the collections that there are at the end of the log, so that it can refuse
//! what would mean nothing in a replay.
//!
//! I1. The order of the log is the order of the catalog: who changes the catalog appends under the
//!     lock for writing, who relies on it appends under the lock for reading, and nobody waits for
//!     a disk under either. So no upsert stands behind the drop of its collection.
//! I2. A checkpoint record comes in one batch with a `Create` of every collection of that moment,
//!     so that the catalog outlives the truncation of the records that made it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use cohort_wal::{FileStore, Lsn, Wal, WalError, WalStore};

use crate::error::{Error, Result};
use crate::record::{Batch, Change, Vector};

/// What the newest checkpoint record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// The last record that is in the files of the database.
    pub captured: Lsn,
    /// Version of the manifest that names those files.
    pub manifest: u64,
}

/// A torn tail: bytes that nobody was told are durable. It has been cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Torn {
    /// Where the log ended, and goes on.
    pub at: Lsn,
    /// Bytes that were cut.
    pub bytes: u64,
}

/// What opening has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opening {
    /// The oldest LSN that is kept.
    pub base: Lsn,
    /// The newest record.
    pub highest: Option<Lsn>,
    /// Records between them, every one of them checked.
    pub records: u64,
    /// Where the log was torn.
    pub torn: Option<Torn>,
    /// The newest checkpoint.
    pub checkpoint: Option<Checkpoint>,
}

/// The log of a vector database. Threads share it; every change is durable when its call returns.
#[derive(Debug)]
pub struct VectorLog<S: WalStore = FileStore> {
    wal: Arc<Wal<S>>,
    opening: Opening,
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    catalog: BTreeMap<u32, (u32, String)>,
    newest: Option<Checkpoint>,
}

impl State {
    fn apply(&mut self, change: &Change<'_>) {
        match *change {
            Change::Create { collection, dims, name } => {
                self.catalog.insert(collection, (dims, name.to_owned()));
            }
            Change::Drop { collection } => drop(self.catalog.remove(&collection)),
            Change::Checkpoint { captured, manifest } => {
                self.newest = Some(Checkpoint { captured, manifest });
            }
            Change::Upsert { .. } | Change::Delete { .. } => {}
        }
    }

    /// Refuses vectors that are not of this collection.
    fn accepts(&self, collection: u32, vector_dims: Option<usize>) -> Result<()> {
        let (dims, _) = self.catalog.get(&collection).ok_or(Error::NoCollection { collection })?;
        match vector_dims {
            Some(given) if u32::try_from(given) != Ok(*dims) => {
                Err(Error::WrongDims { collection, dims: *dims })
            }
            _ => Ok(()),
        }
    }
}

impl<S: WalStore> VectorLog<S> {
    /// Reads the whole log once, for the catalog and the newest checkpoint, and so that nothing is
    /// replayed of a log that was tampered with anywhere. `manifest` is the version of the one that
    /// the database has found, if any. The log should have been opened with
    /// [`require_encryption`](cohort_wal::WalOptions::require_encryption), so that a plain one that
    /// somebody has put in its place is not read.
    ///
    /// # Errors
    /// [`Error::Wal`], where [`WalError::WrongKey`] and [`WalError::Tampered`] differ from damage;
    /// [`Error::OldManifest`]; [`Error::UnknownRecord`].
    pub fn open(wal: Arc<Wal<S>>, manifest: Option<u64>) -> Result<Self> {
        let (mut state, mut count) = (State::default(), 0);
        let mut records = wal.iter()?;
        while let Some(record) = records.read_next() {
            let record = record?;
            let lsn = record.lsn();
            let change = Change::decode(record.data()).ok_or(Error::UnknownRecord { lsn })?;
            state.apply(&change);
            count += 1;
        }
        if let (Some(given), Some(Checkpoint { manifest: newest, .. })) = (manifest, state.newest)
            && given < newest
        {
            return Err(Error::OldManifest { given, newest });
        }
        let found = wal.recovery();
        let opening = Opening {
            base: found.head,
            highest: found.last_record,
            records: count,
            torn: found.torn_at.map(|at| Torn { at, bytes: found.cut_bytes }),
            checkpoint: state.newest,
        };
        Ok(Self { wal, opening, state: RwLock::new(state) })
    }

    /// What opening has found.
    #[must_use]
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// The log below.
    #[must_use]
    pub fn wal(&self) -> &Wal<S> {
        &self.wal
    }

    /// Gives back, in order, every change that the newest checkpoint has not captured. Changes
    /// between what it has captured and its own record are among them. What a change borrows lies
    /// where the log has read it to. Returns how many there were.
    ///
    /// It belongs before the next checkpoint: one that another thread makes meanwhile takes away
    /// what this is about to read.
    ///
    /// # Errors
    /// [`Error::Wal`], [`Error::UnknownRecord`].
    pub fn replay(&self, mut apply: impl FnMut(Lsn, &Change<'_>)) -> Result<u64> {
        let captured = self.read().newest.map(|newest| newest.captured);
        let head = self.wal.head_lsn();
        let mut records = match captured {
            Some(captured) if captured >= head => self.wal.iter_from(captured)?,
            _ => self.wal.iter()?,
        };
        let mut count = 0;
        while let Some(record) = records.read_next() {
            let record = record?;
            let lsn = record.lsn();
            if captured.is_none_or(|captured| lsn > captured) {
                apply(lsn, &Change::decode(record.data()).ok_or(Error::UnknownRecord { lsn })?);
                count += 1;
            }
        }
        Ok(count)
    }

    /// Creates a collection. Where it exists already this waits until that is durable.
    ///
    /// # Errors
    /// [`Error::CollectionExists`] with another name or length of vectors; [`Error::Wal`].
    pub fn create(&self, collection: u32, dims: u32, name: &str) -> Result<()> {
        let mut state = self.write();
        match state.catalog.get(&collection) {
            Some((there, called)) if *there == dims && called == name => {}
            Some(_) => return Err(Error::CollectionExists { collection }),
            None => {
                let change = Change::Create { collection, dims, name };
                self.append(&change)?;
                state.apply(&change);
            }
        }
        drop(state);
        Ok(self.wal.sync()?)
    }

    /// Drops a collection and its points. Where there is none this waits until that is durable.
    ///
    /// # Errors
    /// [`Error::Wal`].
    pub fn drop_collection(&self, collection: u32) -> Result<()> {
        let mut state = self.write();
        if state.catalog.contains_key(&collection) {
            let change = Change::Drop { collection };
            self.append(&change)?;
            state.apply(&change);
        }
        drop(state);
        Ok(self.wal.sync()?)
    }

    /// Upserts a point.
    ///
    /// # Errors
    /// [`Error::NoCollection`], [`Error::WrongDims`], [`Error::Wal`].
    pub fn upsert(&self, collection: u32, id: u64, vector: &[f32], payload: &[u8]) -> Result<Lsn> {
        let state = self.read();
        state.accepts(collection, Some(vector.len()))?;
        let vector = Vector::new(vector);
        let lsn = self.append(&Change::Upsert { collection, id, vector, payload })?;
        drop(state);
        self.durable(lsn)
    }

    /// Upserts all points of a batch or none; returns the LSN of the last one.
    ///
    /// # Errors
    /// As [`upsert`](Self::upsert); [`WalError::BatchTooLarge`].
    pub fn upsert_many(&self, batch: &Batch) -> Result<Option<Lsn>> {
        let state = self.read();
        let collection = batch.collection;
        state.accepts(collection, batch.dims)?;
        if batch.misfits > 0 {
            let (dims, _) = state.catalog[&collection];
            return Err(Error::WrongDims { collection, dims });
        }
        let lsns = self.wal.append_batch(&batch.records())?;
        drop(state);
        lsns.last().map(|lsn| self.durable(*lsn)).transpose()
    }

    /// Deletes a point, which need not exist.
    ///
    /// # Errors
    /// [`Error::NoCollection`], [`Error::Wal`].
    pub fn delete(&self, collection: u32, id: u64) -> Result<Lsn> {
        let state = self.read();
        state.accepts(collection, None)?;
        let lsn = self.append(&Change::Delete { collection, id })?;
        drop(state);
        self.durable(lsn)
    }

    /// Says that everything up to the record at `captured`, which is durable, is in the files that
    /// version `manifest` of the manifest names, durable as well, and forgets those records.
    /// Everybody else goes on meanwhile. Where it fails it may be called again.
    ///
    /// # Errors
    /// [`Error::OldManifest`], [`Error::OldCheckpoint`]; [`WalError::NotARecord`] in
    /// [`Error::Wal`].
    pub fn checkpoint(&self, captured: Lsn, manifest: u64) -> Result<()> {
        // It is one of this log.
        self.record_behind(captured)?;
        let mut state = self.write();
        if let Some(newest) = state.newest {
            if manifest < newest.manifest {
                return Err(Error::OldManifest { given: manifest, newest: newest.manifest });
            }
            if captured < newest.captured {
                return Err(Error::OldCheckpoint { captured: newest.captured });
            }
        }
        let checkpoint = Change::Checkpoint { captured, manifest };
        let restated = state.catalog.iter().map(|(collection, (dims, name))| Change::Create {
            collection: *collection,
            dims: *dims,
            name,
        });
        let records: Vec<_> = [checkpoint].into_iter().chain(restated).map(encoded).collect();
        let lsns = self.wal.append_batch(&records)?;
        state.apply(&checkpoint);
        drop(state);
        if let Some(own) = lsns.first() {
            self.durable(*own)?;
        }
        // The head moves once the record that says why is durable. What was appended between the
        // last captured record and the checkpoint's own stays: its files are yet to be written.
        if let Some(behind) = self.record_behind(captured)? {
            self.wal.truncate_before(behind)?;
        }
        Ok(())
    }

    /// The record behind one that is captured; none if that is the last one.
    fn record_behind(&self, captured: Lsn) -> Result<Option<Lsn>> {
        let head = self.wal.head_lsn();
        if captured < head {
            // It has been truncated by the checkpoint that captured it, or is no record at all.
            let known = self.read().newest.is_some_and(|newest| captured <= newest.captured);
            return if known {
                Ok(Some(head))
            } else {
                Err(WalError::Truncated { lsn: captured, head }.into())
            };
        }
        let mut records = self.wal.iter_from(captured)?;
        let there = records.read_next().ok_or(WalError::NotARecord { lsn: captured })?;
        there?;
        Ok(records.read_next().transpose()?.map(|record| record.lsn()))
    }

    fn append(&self, change: &Change<'_>) -> Result<Lsn> {
        Ok(self.wal.append(&encoded(*change))?)
    }

    fn durable(&self, lsn: Lsn) -> Result<Lsn> {
        self.wal.wait_durable(lsn)?;
        Ok(lsn)
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        // Nobody leaves the state half changed.
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn encoded(change: Change<'_>) -> Vec<u8> {
    let mut record = Vec::new();
    change.encode(&mut record);
    record
}
