//! [`MemStore`]: files in memory, for tests and for logs that need not outlive the process.
//!
//! Owns nothing outside the process and never blocks on anything but its own mutexes. It keeps
//! every promise of [`WalStore`] except durability, and it runs out of space only when memory
//! does. To lose power on purpose, damage a [`MemSnapshot`].
//!
//! I1. Mutexes are taken in the order handle, names, inode; only a snapshot holds several inodes,
//!     and then it holds the names as well.
//! I2. An inode is published under one name at most.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;

use super::file::check_name;
use super::{StoreFile, WalStore};
use crate::sync::{Arc, Mutex};

/// Files in memory. Clones share the files, so that a log can be opened again on a clone.
///
/// Methods block only while another thread is inside one. Names are refused as in
/// [`FileStore`](crate::FileStore). Nothing is durable: syncing does nothing and succeeds.
///
/// ```
/// use cohort_wal::{MemStore, StoreFile, WalStore};
///
/// # fn main() -> std::io::Result<()> {
/// let store = MemStore::new();
/// let file = store.create(5)?;
/// file.write_at(0, b"hello")?;
/// store.publish(&file, "greeting")?;
///
/// let mut bytes = [0; 8];
/// assert_eq!(store.clone().open("greeting")?.read_at(1, &mut bytes)?, 4);
/// assert_eq!(&bytes[..4], b"ello");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemStore {
    names: Arc<Mutex<Names>>,
}

type Names = BTreeMap<String, Arc<Mutex<Inode>>>;

struct Inode {
    bytes: Vec<u8>,
    locked: bool,
}

impl Inode {
    fn new(bytes: Vec<u8>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self { bytes, locked: false }))
    }
}

impl MemStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::from_snapshot(MemSnapshot::default())
    }

    /// A store of its own that holds copies of these files, none of them locked.
    #[must_use]
    pub fn from_snapshot(snapshot: MemSnapshot) -> Self {
        let names = snapshot.files.into_iter().map(|(name, bytes)| (name, Inode::new(bytes)));
        Self { names: Arc::new(Mutex::new(names.collect())) }
    }

    /// Copies all published files at one moment: a write that is in the copy has every write that
    /// returned before it began there as well.
    ///
    /// Blocks writers while it copies.
    ///
    /// ```
    /// use cohort_wal::{MemStore, WalStore};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let store = MemStore::new();
    /// store.publish(&store.create(0)?, "segment")?;
    /// let mut snapshot = store.snapshot();
    /// store.remove("segment")?;
    ///
    /// snapshot.files_mut().insert("segment".to_owned(), b"damaged".to_vec());
    /// let damaged = MemStore::from_snapshot(snapshot);
    /// assert_eq!(damaged.list()?, ["segment"]);
    /// assert_eq!(damaged.snapshot().files()["segment"], b"damaged");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn snapshot(&self) -> MemSnapshot {
        let names = self.names.lock();
        let inodes: Vec<_> = names.iter().map(|(name, inode)| (name, inode.lock())).collect();
        let files = inodes.iter().map(|(name, inode)| ((*name).clone(), inode.bytes.clone()));
        MemSnapshot { files: files.collect() }
    }
}

impl Default for MemStore {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemStore").finish_non_exhaustive()
    }
}

impl WalStore for MemStore {
    type File = MemFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.lock().keys().cloned().collect())
    }

    fn create(&self, _bytes: u64) -> io::Result<MemFile> {
        Ok(MemFile::new(Inode::new(Vec::new()), false))
    }

    /// # Errors
    /// `InvalidInput` when the file has a name already.
    fn publish(&self, file: &MemFile, name: &str) -> io::Result<()> {
        check_name(name)?;
        let mut handle = file.handle.lock();
        if handle.published {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has a name already"));
        }
        let mut names = self.names.lock();
        if names.contains_key(name) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        names.insert(name.to_owned(), Arc::clone(&file.inode));
        handle.published = true;
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<MemFile> {
        check_name(name)?;
        match self.names.lock().get(name) {
            Some(inode) => Ok(MemFile::new(Arc::clone(inode), true)),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        let removed = self.names.lock().remove(name);
        removed.map(drop).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn lock(&self, file: &MemFile) -> io::Result<bool> {
        let mut handle = file.handle.lock();
        if !handle.locks {
            let mut inode = file.inode.lock();
            if inode.locked {
                return Ok(false);
            }
            inode.locked = true;
            handle.locks = true;
        }
        Ok(true)
    }

    fn unlock(&self, file: &MemFile) -> io::Result<()> {
        file.unlock();
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn sync_place(&self) -> io::Result<()> {
        Ok(())
    }

    /// Removes nothing: an unpublished file ends with its handle.
    fn sweep(&self) -> io::Result<usize> {
        Ok(0)
    }

    fn locate(&self, name: &str) -> PathBuf {
        if name.is_empty() { PathBuf::from("memory") } else { PathBuf::from("memory").join(name) }
    }
}

/// An open file of a [`MemStore`].
pub struct MemFile {
    inode: Arc<Mutex<Inode>>,
    handle: Mutex<Handle>,
}

#[derive(Debug)]
struct Handle {
    published: bool,
    locks: bool,
}

impl MemFile {
    fn new(inode: Arc<Mutex<Inode>>, published: bool) -> Self {
        Self { inode, handle: Mutex::new(Handle { published, locks: false }) }
    }

    fn unlock(&self) {
        let mut handle = self.handle.lock();
        if handle.locks {
            self.inode.lock().locked = false;
            handle.locks = false;
        }
    }
}

impl fmt::Debug for MemFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemFile").finish_non_exhaustive()
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.unlock();
    }
}

impl StoreFile for MemFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let start = index(offset)?;
        let end = start.checked_add(bytes.len()).ok_or(io::ErrorKind::InvalidInput)?;
        let mut inode = self.inode.lock();
        if inode.bytes.len() < end {
            resize(&mut inode.bytes, end)?;
        }
        inode.bytes[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let inode = self.inode.lock();
        let rest = usize::try_from(offset).ok().and_then(|start| inode.bytes.get(start..));
        let rest = rest.unwrap_or_default();
        let read = rest.len().min(bytes.len());
        bytes[..read].copy_from_slice(&rest[..read]);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        u64::try_from(self.inode.lock().bytes.len()).map_err(io::Error::other)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        resize(&mut self.inode.lock().bytes, index(len)?)
    }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

/// Grows with zeros or cuts, and reports when memory runs out.
fn resize(bytes: &mut Vec<u8>, len: usize) -> io::Result<()> {
    let more = len.saturating_sub(bytes.len());
    bytes.try_reserve(more).map_err(|_| io::ErrorKind::OutOfMemory)?;
    bytes.resize(len, 0);
    Ok(())
}

/// The published files of a [`MemStore`] at one moment, to look at or to damage.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct MemSnapshot {
    files: BTreeMap<String, Vec<u8>>,
}

impl FromIterator<(String, Vec<u8>)> for MemSnapshot {
    fn from_iter<I: IntoIterator<Item = (String, Vec<u8>)>>(files: I) -> Self {
        Self { files: files.into_iter().collect() }
    }
}

impl MemSnapshot {
    /// The same, taken apart.
    #[must_use]
    pub fn into_files(self) -> BTreeMap<String, Vec<u8>> {
        self.files
    }

    /// The bytes of every file, by name.
    #[must_use]
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// The same, to be changed.
    #[must_use]
    pub fn files_mut(&mut self) -> &mut BTreeMap<String, Vec<u8>> {
        &mut self.files
    }
}

/// Shows names and lengths, never bytes.
impl fmt::Debug for MemSnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.files.iter().map(|(name, bytes)| (name, bytes.len()))).finish()
    }
}
