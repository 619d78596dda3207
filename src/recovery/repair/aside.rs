//! Copies of what a repair changes or removes, beside the files of the log.
//!
//! A copy is called `<file>.repair-<n>`: no name of a log's, so that openings leave it alone and
//! report it. It gets its name only when it is complete and synced. One that is there already with
//! the same bytes is used again, so that a repair that is repeated after a crash fills no disk.

use std::path::PathBuf;

use super::report::RepairCopy;
use crate::error::{Result, WalError};
use crate::scan::{BLOCK, read_full, to_u64};
use crate::store::{StoreFile, WalStore};

/// A copy that is to be made, or is there.
#[derive(Debug, Clone)]
pub(super) struct Aside {
    file: String,
    copy: String,
    bytes: u64,
    exists: bool,
}

impl Aside {
    /// Finds a name for the copy of a file beside `taken`, which are sorted.
    pub(super) fn plan<S: WalStore>(store: &S, file: &str, taken: &[String]) -> Result<Self> {
        let (source, path) = open(store, file)?;
        let bytes = source.len().map_err(|e| WalError::io("read", &path, e))?;
        for number in 1_u64.. {
            let copy = format!("{file}.repair-{number}");
            let exists = taken.binary_search(&copy).is_ok();
            if !exists || is_same(store, &source, &path, bytes, &copy)? {
                return Ok(Self { file: file.to_owned(), copy, bytes, exists });
            }
        }
        Err(WalError::AlreadyExists { path })
    }

    /// Makes the copy, durably.
    ///
    /// DURABILITY: until it has its name, a crash leaves nothing, or a file without a name that
    /// the next opening sweeps.
    pub(super) fn make<S: WalStore>(&self, store: &S) -> Result<()> {
        let (source, path) = open(store, &self.file)?;
        let copy_path = store.locate(&self.copy);
        if self.exists {
            let (copy, _) = open(store, &self.copy)?;
            return copy.sync().map_err(|e| WalError::io("sync", &copy_path, e));
        }
        let made = store.create(self.bytes);
        let copy = made.map_err(|e| WalError::io_or_full("create", &copy_path, e))?;
        let mut block = buffer()?;
        let mut at = 0_u64;
        while at < self.bytes {
            let read = read_full(&source, &path, at, &mut block)?;
            let Some(piece) = block.get(..read).filter(|piece| !piece.is_empty()) else {
                return Err(changed(path));
            };
            let wrote = copy.write_at(at, piece);
            wrote.map_err(|e| WalError::io_or_full("write", &copy_path, e))?;
            at = at.saturating_add(to_u64(read));
        }
        copy.sync().map_err(|e| WalError::io("sync", &copy_path, e))?;
        let published = store.publish(&copy, &self.copy);
        published.map_err(|e| WalError::io_or_full("publish", &copy_path, e))
    }

    pub(super) fn report<S: WalStore>(&self, store: &S) -> RepairCopy {
        let (file, copy) = (store.locate(&self.file), store.locate(&self.copy));
        RepairCopy { file, copy, bytes: self.bytes }
    }
}

fn open<S: WalStore>(store: &S, name: &str) -> Result<(S::File, PathBuf)> {
    let path = store.locate(name);
    let file = store.open(name).map_err(|e| WalError::io("open", &path, e))?;
    Ok((file, path))
}

fn changed(path: PathBuf) -> WalError {
    super::survey::damaged(path, 0, "bytes changed between two reads")
}

fn buffer() -> Result<Vec<u8>> {
    let mut block = Vec::new();
    block.try_reserve_exact(BLOCK).map_err(|_| WalError::OutOfMemory)?;
    block.resize(BLOCK, 0);
    Ok(block)
}

/// Whether a file with this name is a regular one with the same bytes.
fn is_same<S: WalStore>(
    store: &S,
    source: &S::File,
    path: &std::path::Path,
    bytes: u64,
    name: &str,
) -> Result<bool> {
    let copy_path = store.locate(name);
    let copy = match store.open(name) {
        Ok(copy) => copy,
        Err(error) if error.kind() == std::io::ErrorKind::InvalidData => return Ok(false),
        Err(error) => return Err(WalError::io("open", &copy_path, error)),
    };
    if copy.len().map_err(|e| WalError::io("read", &copy_path, e))? != bytes {
        return Ok(false);
    }
    let (mut left, mut right) = (buffer()?, buffer()?);
    let mut at = 0_u64;
    while at < bytes {
        let read = read_full(source, path, at, &mut left)?;
        if read == 0
            || read_full(&copy, &copy_path, at, &mut right)? != read
            || left.get(..read) != right.get(..read)
        {
            return Ok(false);
        }
        at = at.saturating_add(to_u64(read));
    }
    Ok(true)
}
