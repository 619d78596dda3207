//! [`Graph`]: the graph, its log, and the lock that keeps them in step.
//!
//! How a change is made: take the lock; check the change against the graph; append it; apply it;
//! let go. An append that fails leaves the graph as it was.
//!
//! Invariants:
//! I1. Whenever nobody holds the lock for writing, the graph is exactly what the image and the
//!     records below `end_lsn` make of an empty one.
//! I2. Nobody waits for a sync while holding the lock, unless the log's ring is full.

use std::sync::Arc;
use std::time::Duration;

use cohort_wal::{FileStore, Lsn, Snapshot, Wal, WalOptions, WalStore};
use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use crate::error::{GraphError, Result};
use crate::knowledge::{Entity, Knowledge};
use crate::record::{Change, Envelope};
use crate::replay::{Replay, Unknown};

/// The options of a graph's log: what nobody syncs is durable within 50 ms and a sync.
pub fn options() -> WalOptions {
    WalOptions::new().sync_interval(Duration::from_millis(50)).segment_bytes(4 << 20)
}

/// A knowledge graph, shared by threads.
///
/// Changes are durable within the interval that the log was opened with, and when
/// [`sync`](Self::sync) or [`close`](Self::close) returned. What readers see may not be durable
/// yet; once it is, everything that they saw before it is.
#[derive(Debug)]
pub struct Graph<S: WalStore = FileStore> {
    wal: Arc<Wal<S>>,
    known: RwLock<Knowledge>,
    /// Held by the one compaction that is under way.
    compacting: Mutex<()>,
    unknown: Vec<Unknown>,
}

impl<S: WalStore> Graph<S> {
    /// Reads the graph in a log. From here on nobody else may append to that log; waiting for
    /// durability, following and reading are everybody's.
    ///
    /// # Errors
    /// [`GraphError::Wal`]; [`GraphError::Malformed`] and [`GraphError::Image`] for a log that
    /// holds something else.
    pub fn open(wal: Arc<Wal<S>>) -> Result<(Self, Replay)> {
        let image = wal.snapshots()?.latest()?;
        let from = image.as_ref().map_or_else(|| wal.head_lsn(), Snapshot::lsn);
        let (known, replay) = Replay::run(image, wal.iter_from(from)?)?;
        let unknown = replay.unknown.clone();
        let graph = Self { wal, known: RwLock::new(known), compacting: Mutex::new(()), unknown };
        Ok((graph, replay))
    }

    /// The graph as it is now. Changes wait for whoever holds this.
    pub fn read(&self) -> RwLockReadGuard<'_, Knowledge> {
        self.known.read()
    }

    /// Creates an entity; returns the LSN of the change, as all that follow do.
    ///
    /// # Errors
    /// [`GraphError::Exists`]; [`GraphError::TooLong`], [`GraphError::Empty`];
    /// [`GraphError::Wal`].
    pub fn create(&self, entity: &str, kind: &str) -> Result<Lsn> {
        self.change(&[Change::Create { entity, kind }], |known| match known.entity(entity) {
            Some(_) => Err(GraphError::Exists { name: entity.to_owned() }),
            None => Ok(()),
        })
    }

    /// Adds observations to an entity, all or none of them. One that it has already is no error.
    ///
    /// # Errors
    /// [`GraphError::NoEntity`]; [`GraphError::TooLong`], [`GraphError::Empty`], also without
    /// observations; [`GraphError::Wal`].
    pub fn observe(&self, entity: &str, texts: &[&str]) -> Result<Lsn> {
        if texts.is_empty() {
            return Err(GraphError::Empty { what: "list of observations" });
        }
        let changes: Vec<_> = texts.iter().map(|text| Change::Observe { entity, text }).collect();
        self.change(&changes, |known| find(known, entity).map(drop))
    }

    /// Relates an entity to another. A relation that is there already is no error.
    ///
    /// # Errors
    /// As [`observe`](Self::observe).
    pub fn relate(&self, from: &str, kind: &str, to: &str) -> Result<Lsn> {
        self.change(&[Change::Relate { from, kind, to }], |known| {
            find(known, from).and(find(known, to)).map(drop)
        })
    }

    /// Takes an observation back.
    ///
    /// # Errors
    /// [`GraphError::NotThere`]; otherwise as [`observe`](Self::observe).
    pub fn forget(&self, entity: &str, text: &str) -> Result<Lsn> {
        self.change(&[Change::Forget { entity, text }], |known| {
            let has = find(known, entity)?.observations.contains(text);
            there(has, "observation", entity)
        })
    }

    /// Takes a relation back.
    ///
    /// # Errors
    /// [`GraphError::NotThere`]; otherwise as [`observe`](Self::observe).
    pub fn unrelate(&self, from: &str, kind: &str, to: &str) -> Result<Lsn> {
        self.change(&[Change::Unrelate { from, kind, to }], |known| {
            let mut relations = find(known, from)?.relations.iter();
            let has = relations.any(|edge| edge.kind == kind && edge.entity == to);
            there(has, "relation", from)
        })
    }

    /// Deletes an entity, with its observations and all relations from and to it.
    ///
    /// # Errors
    /// As [`observe`](Self::observe).
    pub fn delete(&self, entity: &str) -> Result<Lsn> {
        self.change(&[Change::Delete { entity }], |known| find(known, entity).map(drop))
    }

    /// Makes one entity of two: observations and relations of `source` become those of `target`,
    /// and `source` is gone. Relations between the two become none. Nobody sees half of that, and
    /// no crash leaves half of it.
    ///
    /// # Errors
    /// [`GraphError::IntoItself`]; otherwise as [`observe`](Self::observe), a merge larger than
    /// the log's `max_batch_bytes` included.
    pub fn merge(&self, source: &str, target: &str) -> Result<Lsn> {
        if source == target {
            return Err(GraphError::IntoItself { name: source.to_owned() });
        }
        let mut known = self.known.write();
        find(&known, target)?;
        // A copy, because the changes borrow from it what they take from the graph.
        let moved = find(&known, source)?.clone();
        self.commit(&mut known, &Knowledge::merging(source, &moved, target))
    }

    /// Makes every change so far durable. Changes of all threads share syncs.
    ///
    /// # Errors
    /// [`GraphError::Wal`]: what became of changes since the last success is unknown until the log
    /// is opened again.
    pub fn sync(&self) -> Result<()> {
        Ok(self.wal.sync()?)
    }

    /// Puts an image in place of the log so far and returns where. Changes go on meanwhile, but for
    /// the moment in which the image is encoded, in memory.
    ///
    /// # Errors
    /// [`GraphError::WrittenByNewer`] for a log that holds what this program does not understand;
    /// [`GraphError::Wal`], with the old log or the new image in place.
    pub fn compact(&self) -> Result<Lsn> {
        if let Some(first) = self.unknown.first() {
            let records = self.unknown.len();
            return Err(GraphError::WrittenByNewer { records, first: first.lsn });
        }
        let _only_one = self.compacting.lock();
        let (lsn, image) = self.image()?;
        self.wal.checkpoint(lsn, |out| out.write_all(&image))?;
        Ok(lsn)
    }

    /// Closes the log; everything is durable then.
    ///
    /// # Errors
    /// [`GraphError::Wal`].
    pub fn close(&self) -> Result<()> {
        Ok(self.wal.close()?)
    }

    /// An image, and the LSN below which it stands for everything.
    fn image(&self) -> Result<(Lsn, Vec<u8>)> {
        let known = self.known.read();
        // INVARIANT: who appends holds the lock for writing, so the end cannot move here, and I1
        // makes the graph what is below it: nothing more, nothing less.
        let lsn = self.wal.end_lsn();
        let mut image = Vec::new();
        for change in known.changes() {
            image.extend(change.payload()?);
        }
        Ok((lsn, image))
    }

    /// Makes changes, if they are within the limits and `fits` finds them to fit the graph.
    fn change(
        &self,
        changes: &[Change<'_>],
        fits: impl FnOnce(&Knowledge) -> Result<()>,
    ) -> Result<Lsn> {
        for change in changes {
            change.check()?;
        }
        let mut known = self.known.write();
        fits(&known)?;
        self.commit(&mut known, changes)
    }

    /// Appends changes as one unit and applies them; returns the LSN of the last one.
    fn commit(&self, known: &mut Knowledge, changes: &[Change<'_>]) -> Result<Lsn> {
        let encoded: Vec<_> = changes.iter().map(Change::encode).collect::<Result<_>>()?;
        let envelopes: Vec<_> =
            encoded.iter().map(|(kind, body)| Envelope { kind: *kind, body }).collect();
        let lsns = self.wal.append_batch_typed(&envelopes)?;
        let lsn = *lsns.last().ok_or(GraphError::Empty { what: "list of changes" })?;
        // It has its place in the log. The lock is held until all of it is in the graph as well.
        for change in changes {
            let fits = known.apply(change);
            debug_assert!(fits, "what is appended was checked to fit");
        }
        Ok(lsn)
    }
}

fn find<'a>(known: &'a Knowledge, name: &str) -> Result<&'a Entity> {
    known.entity(name).ok_or_else(|| GraphError::NoEntity { name: name.to_owned() })
}

fn there(has: bool, what: &'static str, name: &str) -> Result<()> {
    if has { Ok(()) } else { Err(GraphError::NotThere { what, name: name.to_owned() }) }
}
