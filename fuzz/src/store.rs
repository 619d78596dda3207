//! Files in memory that are copied when they are written, so that each input begins with a whole
//! log and pays only for what it changes.
//!
//! The store never fails. It counts what is read, and stops the process when the engine asks for
//! more than any of these small logs can need. Its random bytes are a counter, so that an input
//! always does the same.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cohort_wal::{StoreFile, WalStore};

/// Published files by name.
pub(crate) type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// No file of these logs grows beyond this.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// No single read asks for more: a block of the engine's and the largest file.
const MAX_READ_BYTES: usize = (256 << 10) + (1 << 20);

/// What error messages call the place.
pub(crate) const PLACE: &str = "memory";

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Inode {
    bytes: Mutex<Arc<Vec<u8>>>,
    locked: AtomicBool,
}

impl Inode {
    fn new(bytes: Arc<Vec<u8>>) -> Arc<Self> {
        Arc::new(Self { bytes: Mutex::new(bytes), locked: AtomicBool::new(false) })
    }
}

#[derive(Debug)]
struct Shared {
    names: Mutex<BTreeMap<String, Arc<Inode>>>,
    bytes_read: AtomicU64,
    drawn: AtomicU64,
}

/// The store. Clones share the files.
#[derive(Debug, Clone)]
pub(crate) struct CowStore(Arc<Shared>);

impl CowStore {
    /// A store with these files; `seed` tells its random bytes from those of others.
    pub(crate) fn new(files: &Files, seed: u64) -> Self {
        let inode = |(name, bytes): (&String, _)| (name.clone(), Inode::new(Arc::clone(bytes)));
        Self(Arc::new(Shared {
            names: Mutex::new(files.iter().map(inode).collect()),
            bytes_read: AtomicU64::new(0),
            drawn: AtomicU64::new(seed << 32),
        }))
    }

    /// The files as they are.
    pub(crate) fn files(&self) -> Files {
        let names = locked(&self.0.names);
        let bytes = |inode: &Inode| Arc::clone(&locked(&inode.bytes));
        names.iter().map(|(name, inode)| (name.clone(), bytes(inode))).collect()
    }

    /// How many bytes were read.
    pub(crate) fn bytes_read(&self) -> u64 {
        self.0.bytes_read.load(Ordering::Relaxed)
    }
}

impl WalStore for CowStore {
    type File = CowFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(locked(&self.0.names).keys().cloned().collect())
    }

    fn create(&self, _bytes: u64) -> io::Result<CowFile> {
        Ok(CowFile::new(Inode::new(Arc::default()), Arc::clone(&self.0)))
    }

    fn publish(&self, file: &CowFile, name: &str) -> io::Result<()> {
        let mut names = locked(&self.0.names);
        if names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(name.to_owned(), Arc::clone(&file.inode));
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<CowFile> {
        match locked(&self.0.names).get(name) {
            Some(inode) => Ok(CowFile::new(Arc::clone(inode), Arc::clone(&self.0))),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let removed = locked(&self.0.names).remove(name);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn lock(&self, file: &CowFile) -> io::Result<bool> {
        if file.holds.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let taken = !file.inode.locked.swap(true, Ordering::Relaxed);
        file.holds.store(taken, Ordering::Relaxed);
        Ok(taken)
    }

    fn unlock(&self, file: &CowFile) -> io::Result<()> {
        file.unlock();
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_place(&self) -> io::Result<()> {
        Ok(())
    }

    fn sweep(&self) -> io::Result<usize> {
        Ok(0)
    }

    fn locate(&self, name: &str) -> PathBuf {
        if name.is_empty() { PathBuf::from(PLACE) } else { PathBuf::from(PLACE).join(name) }
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        for piece in bytes.chunks_mut(8) {
            let drawn = self.0.drawn.fetch_add(1, Ordering::Relaxed) + 1;
            let word = drawn.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
            piece.copy_from_slice(&word[..piece.len()]);
        }
        Ok(())
    }
}

/// An open file of a [`CowStore`].
#[derive(Debug)]
pub(crate) struct CowFile {
    inode: Arc<Inode>,
    store: Arc<Shared>,
    holds: AtomicBool,
}

impl CowFile {
    fn new(inode: Arc<Inode>, store: Arc<Shared>) -> Self {
        Self { inode, store, holds: AtomicBool::new(false) }
    }

    fn unlock(&self) {
        if self.holds.swap(false, Ordering::Relaxed) {
            self.inode.locked.store(false, Ordering::Relaxed);
        }
    }
}

impl Drop for CowFile {
    fn drop(&mut self) {
        self.unlock();
    }
}

impl StoreFile for CowFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(bytes.len() as u64);
        assert!(end <= MAX_FILE_BYTES, "a write ends at {end}");
        let mut file = locked(&self.inode.bytes);
        let file = Arc::make_mut(&mut *file);
        let (start, end) = (offset as usize, end as usize);
        if file.len() < end {
            file.resize(end, 0);
        }
        file[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        assert!(bytes.len() <= MAX_READ_BYTES, "a read asks for {} bytes", bytes.len());
        let file = locked(&self.inode.bytes);
        let rest = usize::try_from(offset).ok().and_then(|start| file.get(start..));
        let rest = rest.unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        self.store.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.inode.bytes).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        assert!(len <= MAX_FILE_BYTES, "a file is made {len} bytes long");
        Arc::make_mut(&mut *locked(&self.inode.bytes)).resize(len as usize, 0);
        Ok(())
    }
}
