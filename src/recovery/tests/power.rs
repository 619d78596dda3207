//! A store that loses power: bytes are durable after a sync, names after `publish` or
//! `sync_names`, and every call can be the last one.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use crate::store::{StoreFile, WalStore};
use crate::sync::{Arc, Mutex};

/// What a power loss does to what was not durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Loss {
    Everything,
    Nothing,
    /// The first half of each unsynced write is there.
    Tears,
    /// Files and removals are there, other bytes are not.
    BytesOnly,
}

#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Bytes {
    pub(super) cached: Vec<u8>,
    durable: Vec<u8>,
    /// Ranges written since the last sync.
    dirty: Vec<(usize, usize)>,
}

type Inode = Arc<Mutex<Bytes>>;

#[derive(Default)]
struct State {
    names: BTreeMap<String, Inode>,
    /// Removed, not durably.
    removed: BTreeMap<String, Inode>,
    locked: bool,
    /// Calls that are left before the power goes.
    left: u64,
    calls: u64,
    /// The power does not go; one call fails, and all others work.
    once: bool,
}

#[derive(Clone)]
pub(super) struct PowerStore(Arc<Mutex<State>>);

pub(super) struct PowerFile {
    store: PowerStore,
    bytes: Inode,
    locks: Mutex<bool>,
}

fn cut() -> io::Error {
    io::Error::other("the power is gone")
}

impl PowerStore {
    pub(super) fn new(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let names = files.iter().map(|(name, bytes)| {
            let (cached, durable) = (bytes.clone(), bytes.clone());
            (name.clone(), Arc::new(Mutex::new(Bytes { cached, durable, dirty: Vec::new() })))
        });
        let state = State { names: names.collect(), left: u64::MAX, ..State::default() };
        Self(Arc::new(Mutex::new(state)))
    }

    pub(super) fn fail_after(&self, calls: u64, once: bool) {
        let mut state = self.0.lock();
        state.left = calls;
        state.once = once;
        state.calls = 0;
    }

    /// Calls that changed something or made it durable.
    pub(super) fn calls(&self) -> u64 {
        self.0.lock().calls
    }

    pub(super) fn cached(&self) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.lock();
        let files = state.names.iter();
        files.map(|(name, inode)| (name.clone(), inode.lock().cached.clone())).collect()
    }

    /// What is there when the power is back.
    pub(super) fn after(&self, loss: Loss) -> BTreeMap<String, Vec<u8>> {
        let state = self.0.lock();
        let mut files = BTreeMap::new();
        let back = state.removed.iter().filter(|_| loss == Loss::Everything);
        for (name, inode) in back.chain(&state.names) {
            let inode = inode.lock();
            let mut bytes = inode.durable.clone();
            match loss {
                Loss::Nothing => bytes.clone_from(&inode.cached),
                Loss::Everything | Loss::BytesOnly => {}
                Loss::Tears => {
                    for &(start, end) in &inode.dirty {
                        let half = start + (end - start) / 2;
                        bytes.resize(bytes.len().max(end), 0);
                        bytes[start..half].copy_from_slice(&inode.cached[start..half]);
                    }
                }
            }
            files.insert(name.clone(), bytes);
        }
        files
    }

    fn step(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        state.calls += 1;
        if state.left == 0 {
            if state.once {
                state.left = u64::MAX;
            }
            return Err(cut());
        }
        state.left -= 1;
        Ok(())
    }
}

impl WalStore for PowerStore {
    type File = PowerFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.0.lock().names.keys().cloned().collect())
    }

    fn create(&self, _bytes: u64) -> io::Result<PowerFile> {
        self.step()?;
        let locks = Mutex::new(false);
        Ok(PowerFile { store: self.clone(), bytes: Inode::default(), locks })
    }

    fn publish(&self, file: &PowerFile, name: &str) -> io::Result<()> {
        self.step()?;
        let mut state = self.0.lock();
        if state.names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        state.names.insert(name.to_owned(), Arc::clone(&file.bytes));
        state.removed.clear();
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<PowerFile> {
        let bytes = self.0.lock().names.get(name).cloned().ok_or(io::ErrorKind::NotFound)?;
        Ok(PowerFile { store: self.clone(), bytes, locks: Mutex::new(false) })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.step()?;
        let mut state = self.0.lock();
        let inode = state.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        state.removed.insert(name.to_owned(), inode);
        Ok(())
    }

    fn lock(&self, file: &PowerFile) -> io::Result<bool> {
        self.step()?;
        let mut state = self.0.lock();
        let free = !state.locked;
        state.locked = true;
        *file.locks.lock() |= free;
        Ok(free)
    }

    fn unlock(&self, file: &PowerFile) -> io::Result<()> {
        if std::mem::take(&mut *file.locks.lock()) {
            self.0.lock().locked = false;
        }
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        self.step()?;
        self.0.lock().removed.clear();
        Ok(())
    }

    fn sync_place(&self) -> io::Result<()> {
        self.step()
    }

    fn sweep(&self) -> io::Result<usize> {
        self.step().map(|()| 0)
    }

    fn locate(&self, name: &str) -> PathBuf {
        PathBuf::from("power").join(name)
    }
}

impl Drop for PowerFile {
    fn drop(&mut self) {
        if *self.locks.lock() {
            self.store.0.lock().locked = false;
        }
    }
}

impl StoreFile for PowerFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let failed = self.store.step();
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        // A write that fails may have left a part.
        let bytes = if failed.is_ok() { bytes } else { &bytes[..bytes.len() / 2] };
        let end = start + bytes.len();
        let mut file = self.bytes.lock();
        let len = file.cached.len().max(end);
        file.cached.resize(len, 0);
        file.cached[start..end].copy_from_slice(bytes);
        file.dirty.push((start, end));
        failed
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let file = self.bytes.lock();
        let rest = file.cached.get(usize::try_from(offset).unwrap()..).unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        let failed = self.store.step();
        let mut file = self.bytes.lock();
        if failed.is_ok() {
            file.durable = file.cached.clone();
        }
        // After a failed sync the pages are clean, and no later sync writes them.
        file.dirty.clear();
        failed
    }

    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.bytes.lock().cached.len()).map_err(io::Error::other)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.store.step()?;
        self.bytes.lock().cached.resize(usize::try_from(len).unwrap(), 0);
        Ok(())
    }
}
