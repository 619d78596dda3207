//! The tables: shards of a map, each behind a lock, and the log that says how they came about.
//!
//! One transaction, be it a single SET or an EXEC, does this in [`Db::execute`]:
//!
//! 1. lock the shards of all its keys, in the order of their numbers, so that no two
//!    transactions wait for each other;
//! 2. run its operations on a stage over the tables, which makes answers and records;
//! 3. append the records as one batch, which a crash keeps or loses as a whole;
//! 4. bring the stage to the tables, unlock.
//!
//! I1. Records and tables agree on the order: whoever appends a change of a key holds the lock of
//!     its shard from before the append until the table has the change.
//! I2. A table never has what the log has refused: the stage is dropped when the append fails.
//! I3. Nobody waits for a sync with a lock held. An answer comes with the LSN that it depends on,
//!     and must not be shown before [`Db::wait`] for that LSN has returned. A value knows the LSN
//!     of the record that set it; that there is no value may depend on any change of the shard.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::sync::Arc;

use cohort_wal::{FileStore, Lsn, Result, Wal, WalStore};
use parking_lot::{Mutex, MutexGuard};

use crate::change::Change;

/// A key or a value, shared by the tables, images and replies.
pub type Bytes = Arc<[u8]>;

/// More than threads that are in the tables at once.
const SHARDS: usize = 64;

/// What a client can ask of the tables.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named after its command")]
pub enum Operation {
    Get(Bytes),
    Set(Bytes, Bytes),
    Del(Vec<Bytes>),
    Exists(Vec<Bytes>),
    DbSize,
    FlushAll,
}

/// What an operation has to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is done.
    Done,
    /// The value, if there is one.
    Value(Option<Bytes>),
    /// So many keys.
    Count(usize),
}

/// The answers of a transaction; what must be durable before they are shown.
pub type Answers = (Vec<Answer>, Option<Lsn>);

/// The database.
#[derive(Debug)]
pub struct Db<S: WalStore = FileStore> {
    pub(crate) wal: Arc<Wal<S>>,
    pub(crate) shards: Vec<Mutex<Shard>>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
pub(crate) struct Shard {
    pub(crate) entries: HashMap<Bytes, Entry>,
    /// The last record that changed something here.
    changed: Option<Lsn>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) value: Bytes,
    /// The record that set it; none for what recovery has found, which is durable.
    lsn: Option<Lsn>,
}

impl Shard {
    pub(crate) fn put(&mut self, key: Bytes, value: Option<Bytes>, lsn: Option<Lsn>) {
        match value {
            Some(value) => drop(self.entries.insert(key, Entry { value, lsn })),
            None => drop(self.entries.remove(&key)),
        }
        self.changed = lsn;
    }

    fn clear(&mut self, lsn: Option<Lsn>) {
        self.entries.clear();
        self.changed = lsn;
    }
}

impl<S: WalStore> Db<S> {
    /// The database that a log holds: the image of its last checkpoint and the records behind it.
    ///
    /// # Errors
    /// Those of the log; `InvalidData` for a record that is not ours.
    pub fn open(wal: Arc<Wal<S>>) -> io::Result<Self> {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let db = Self { wal, shards, hasher: RandomState::new() };
        let mut records = match db.wal.snapshots()?.latest()? {
            Some(mut image) => {
                let from = image.lsn();
                db.read_image(&mut image)?;
                db.wal.iter_from(from)?
            }
            None => db.wal.iter()?,
        };
        while let Some(record) = records.read_next() {
            match Change::decode(record?.data())? {
                Change::Set(key, value) => db.restore(key, Some(value)),
                Change::Delete(key) => db.restore(key, None),
                Change::Clear => db.shards.iter().for_each(|shard| shard.lock().clear(None)),
            }
        }
        Ok(db)
    }

    /// A key as recovery finds it.
    pub(crate) fn restore(&self, key: &[u8], value: Option<&[u8]>) {
        self.shards[self.shard_of(key)].lock().put(key.into(), value.map(Bytes::from), None);
    }

    /// The log of the database.
    #[must_use]
    pub fn wal(&self) -> &Wal<S> {
        &self.wal
    }

    /// Runs operations as one transaction. They are in the order of the log, and not durable yet:
    /// [`wait`](Self::wait) before their answers are shown.
    ///
    /// # Errors
    /// Those of [`Wal::append_batch`]: nothing was changed.
    pub fn execute(&self, operations: &[Operation]) -> Result<Answers> {
        let mut stage = Stage {
            db: self,
            shards: self.lock(operations),
            staged: HashMap::new(),
            cleared: false,
            keys: None,
            records: Vec::new(),
            depends_on: None,
        };
        let answers = operations.iter().map(|operation| stage.run(operation)).collect();
        let depends_on = stage.commit()?;
        Ok((answers, depends_on))
    }

    /// Waits until what an answer depends on is durable, together with everybody else who waits.
    ///
    /// # Errors
    /// Those of [`Wal::wait_durable`]: the answer must not be shown.
    pub fn wait(&self, depends_on: Option<Lsn>) -> Result<()> {
        depends_on.map_or(Ok(()), |lsn| self.wal.wait_durable(lsn))
    }

    fn shard_of(&self, key: &[u8]) -> usize {
        // Below the number of shards, which is small.
        usize::try_from(self.hasher.hash_one(key) % SHARDS as u64).unwrap_or_default()
    }

    /// Locks what operations need, in order.
    fn lock(&self, operations: &[Operation]) -> Vec<(usize, MutexGuard<'_, Shard>)> {
        let mut numbers = Vec::new();
        for operation in operations {
            match operation {
                Operation::Get(key) | Operation::Set(key, _) => numbers.push(self.shard_of(key)),
                Operation::Del(keys) | Operation::Exists(keys) => {
                    numbers.extend(keys.iter().map(|key| self.shard_of(key)));
                }
                Operation::DbSize | Operation::FlushAll => numbers.extend(0..SHARDS),
            }
        }
        numbers.sort_unstable();
        numbers.dedup();
        numbers.into_iter().map(|number| (number, self.shards[number].lock())).collect()
    }
}

/// A transaction between its first operation and its commit.
struct Stage<'a, S: WalStore> {
    db: &'a Db<S>,
    shards: Vec<(usize, MutexGuard<'a, Shard>)>,
    /// What becomes of each key that is touched.
    staged: HashMap<Bytes, Option<Bytes>>,
    /// Whether everything that is not staged is to go.
    cleared: bool,
    /// How many keys there are, once somebody has asked.
    keys: Option<usize>,
    records: Vec<Vec<u8>>,
    depends_on: Option<Lsn>,
}

impl<S: WalStore> Stage<'_, S> {
    fn run(&mut self, operation: &Operation) -> Answer {
        match operation {
            Operation::Get(key) => Answer::Value(self.get(key)),
            Operation::Set(key, value) => {
                self.records.push(Change::Set(key, value).encode());
                self.put(key, Some(value));
                Answer::Done
            }
            Operation::Del(keys) => Answer::Count(keys.iter().filter(|key| self.del(key)).count()),
            Operation::Exists(keys) => {
                Answer::Count(keys.iter().filter(|key| self.get(key).is_some()).count())
            }
            Operation::DbSize => Answer::Count(self.len()),
            Operation::FlushAll => {
                self.records.push(Change::Clear.encode());
                self.staged.clear();
                self.cleared = true;
                self.keys = Some(0);
                Answer::Done
            }
        }
    }

    fn get(&mut self, key: &Bytes) -> Option<Bytes> {
        if let Some(value) = self.staged.get(key) {
            return value.clone();
        }
        if self.cleared {
            return None;
        }
        let shard = shard(&mut self.shards, self.db.shard_of(key))?;
        let entry = shard.entries.get(key);
        let lsn = entry.map_or(shard.changed, |entry| entry.lsn);
        self.depends_on = self.depends_on.max(lsn);
        entry.map(|entry| Arc::clone(&entry.value))
    }

    fn del(&mut self, key: &Bytes) -> bool {
        let there = self.get(key).is_some();
        if there {
            self.records.push(Change::Delete(key).encode());
            self.put(key, None);
        }
        there
    }

    fn put(&mut self, key: &Bytes, value: Option<&Bytes>) {
        let there = value.is_some();
        let before = self.staged.insert(Arc::clone(key), value.map(Arc::clone));
        if let Some(keys) = self.keys {
            let was_there = before.map_or_else(|| self.is_kept(key), |before| before.is_some());
            self.keys = Some(keys + usize::from(there) - usize::from(was_there));
        }
    }

    /// Whether the tables have a key, and it is not cleared.
    fn is_kept(&self, key: &Bytes) -> bool {
        let number = self.db.shard_of(key);
        let at = self.shards.binary_search_by_key(&number, |(number, _)| *number);
        !self.cleared && at.is_ok_and(|at| self.shards[at].1.entries.contains_key(key))
    }

    fn len(&mut self) -> usize {
        if !self.cleared {
            let changed = self.shards.iter().filter_map(|(_, shard)| shard.changed).max();
            self.depends_on = self.depends_on.max(changed);
        }
        // Counted once: a transaction may ask as often as it likes, with all shards locked.
        let keys = self.keys.unwrap_or_else(|| {
            let kept: usize = self.shards.iter().map(|(_, shard)| shard.entries.len()).sum();
            let touched = self.staged.keys().filter(|key| self.is_kept(key)).count();
            kept - touched + self.staged.values().flatten().count()
        });
        self.keys = Some(keys);
        keys
    }

    /// Appends, then applies, then unlocks; returns what the answers depend on.
    fn commit(mut self) -> Result<Option<Lsn>> {
        // DURABILITY: in the order of the log, and lost in a crash; as a whole, being one batch.
        let lsn = self.db.wal.append_batch(&self.records)?.last().copied();
        if self.cleared {
            self.shards.iter_mut().for_each(|(_, shard)| shard.clear(lsn));
        }
        for (key, value) in self.staged {
            if let Some(shard) = shard(&mut self.shards, self.db.shard_of(&key)) {
                shard.put(key, value, lsn);
            }
        }
        Ok(self.depends_on.max(lsn))
    }
}

/// One of the locked shards, all of which were locked before the first operation.
fn shard<'a>(
    shards: &'a mut [(usize, MutexGuard<'_, Shard>)],
    number: usize,
) -> Option<&'a mut Shard> {
    let at = shards.binary_search_by_key(&number, |(number, _)| *number).ok()?;
    shards.get_mut(at).map(|(_, shard)| &mut **shard)
}
