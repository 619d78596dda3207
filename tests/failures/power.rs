//! A disk that can lose power: what was synced is kept apart from what was written.
//!
//! [`PowerStore`] is as pessimistic as [`WalStore`] allows. A write reaches the disk by a
//! successful sync of the handle that wrote it and not otherwise: a sync that fails forgets what
//! was to be written, as Linux marks its pages clean, while readers go on seeing it, and so does
//! closing the handle. A name reaches the disk by a publish or by syncing the names, and goes from
//! it by syncing the names alone.
//!
//! Faults are injected below, so that a call that fails has no effect here either.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cohort_wal::{MemFile, MemSnapshot, MemStore, StoreFile, WalStore};

use crate::common::Dice;
use crate::faulty::{FaultyFile, FaultyStore, Script};

/// What the disk holds of a file.
type Image = Arc<Mutex<Vec<u8>>>;

#[derive(Default)]
struct Names {
    present: BTreeMap<String, Image>,
    durable: BTreeMap<String, Image>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A store that fails on demand, over a disk that can lose power. Clones share it.
#[derive(Clone)]
pub(crate) struct PowerStore {
    inner: FaultyStore<MemStore>,
    memory: MemStore,
    names: Arc<Mutex<Names>>,
}

impl PowerStore {
    pub(crate) fn new() -> (Self, Script) {
        let memory = MemStore::new();
        let (inner, script) = FaultyStore::over(memory.clone());
        (Self { inner, memory, names: Arc::default() }, script)
    }

    /// What the death of the process leaves.
    pub(crate) fn written(&self) -> MemStore {
        MemStore::from_snapshot(self.memory.snapshot())
    }

    /// What a power loss leaves at least.
    pub(crate) fn synced(&self) -> MemStore {
        let names = lock(&self.names);
        let files = names.durable.iter().map(|(name, image)| (name.clone(), lock(image).clone()));
        store_of(files)
    }

    /// What a power loss may leave: of each file and name that is not durable all or nothing.
    pub(crate) fn mixed(&self, dice: &mut Dice) -> MemStore {
        let written = self.memory.snapshot();
        let names = lock(&self.names);
        let durable = |name: &str| names.durable.contains_key(name);
        let all = names.present.iter().chain(names.durable.iter());
        let all: BTreeMap<_, _> = all.collect();
        let mut files = Vec::new();
        for (name, image) in all {
            let certain = durable(name) && names.present.contains_key(name);
            if !certain && dice.below(2) == 0 {
                continue;
            }
            let bytes = written.files().get(name).filter(|_| dice.below(2) == 0);
            files.push((name.clone(), bytes.cloned().unwrap_or_else(|| lock(image).clone())));
        }
        store_of(files.into_iter())
    }

    fn file(&self, inner: FaultyFile<MemFile>, image: Image) -> PowerFile {
        PowerFile { inner, image, dirty: Mutex::default() }
    }

    fn exists(&self, name: &str) -> bool {
        self.memory.open(name).is_ok()
    }
}

fn store_of(files: impl Iterator<Item = (String, Vec<u8>)>) -> MemStore {
    let mut snapshot = MemSnapshot::default();
    snapshot.files_mut().extend(files);
    MemStore::from_snapshot(snapshot)
}

impl fmt::Debug for PowerStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PowerStore").finish_non_exhaustive()
    }
}

impl WalStore for PowerStore {
    type File = PowerFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn create(&self, bytes: u64) -> io::Result<PowerFile> {
        Ok(self.file(self.inner.create(bytes)?, Image::default()))
    }

    fn publish(&self, file: &PowerFile, name: &str) -> io::Result<()> {
        let result = self.inner.publish(&file.inner, name);
        let mut names = lock(&self.names);
        if self.exists(name) {
            names.present.entry(name.to_owned()).or_insert_with(|| Arc::clone(&file.image));
        }
        if result.is_ok() {
            let present = names.present.clone();
            names.durable.extend(present);
        }
        result
    }

    fn open(&self, name: &str) -> io::Result<PowerFile> {
        let inner = self.inner.open(name)?;
        let image = lock(&self.names).present.get(name).cloned();
        Ok(self.file(inner, image.ok_or(io::ErrorKind::NotFound)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let result = self.inner.remove(name);
        if !self.exists(name) {
            lock(&self.names).present.remove(name);
        }
        result
    }

    fn lock(&self, file: &PowerFile) -> io::Result<bool> {
        self.inner.lock(&file.inner)
    }

    fn unlock(&self, file: &PowerFile) -> io::Result<()> {
        self.inner.unlock(&file.inner)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.inner.sync_names()?;
        let mut names = lock(&self.names);
        names.durable = names.present.clone();
        Ok(())
    }

    fn sync_place(&self) -> io::Result<()> {
        self.inner.sync_place()
    }

    fn sweep(&self) -> io::Result<usize> {
        self.inner.sweep()
    }

    fn locate(&self, name: &str) -> PathBuf {
        self.inner.locate(name)
    }

    fn overwriting_is_cheaper(&self) -> bool {
        self.inner.overwriting_is_cheaper()
    }
}

/// A file of a [`PowerStore`].
pub(crate) struct PowerFile {
    inner: FaultyFile<MemFile>,
    image: Image,
    /// Written through this handle and not synced.
    dirty: Mutex<Vec<Range<u64>>>,
}

impl fmt::Debug for PowerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PowerFile").field("inner", &self.inner).finish_non_exhaustive()
    }
}

impl PowerFile {
    fn write_back(&self, dirty: &[Range<u64>]) -> io::Result<()> {
        let file = self.inner.inner();
        let mut image = lock(&self.image);
        image.resize(usize::try_from(file.len()?).unwrap(), 0);
        for range in dirty {
            let from = usize::try_from(range.start).unwrap().min(image.len());
            let to = usize::try_from(range.end).unwrap().min(image.len());
            assert_eq!(file.read_at(range.start, &mut image[from..to])?, to - from);
        }
        Ok(())
    }
}

impl StoreFile for PowerFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        lock(&self.dirty).push(offset..offset + u64::try_from(bytes.len()).unwrap());
        self.inner.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.inner.read_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        // Whatever comes of it, nothing is dirty afterwards.
        let dirty = std::mem::take(&mut *lock(&self.dirty));
        self.inner.sync()?;
        self.write_back(&dirty)
    }

    fn release_cache(&self) {
        self.inner.release_cache();
    }

    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        lock(&self.dirty).push(0..len);
        self.inner.set_len(len)
    }
}
