//! [`FileStore`]: a directory of files.
//!
//! Owns every system call on the log's directory and is the only place that syncs. It must never
//! follow a symbolic link below the directory, wait on a special file, replace a file, or remove
//! one that is not its own.
//!
//! I1. A file under construction is called `.cohort-<32 hex digits>.tmp`, and no published file
//!     is. A crash leaves it behind; `sweep` finds it by exactly this pattern.
//! I2. Names resolve against a descriptor held since the store was opened, so that moving or
//!     replacing the directory never leads to another one.
//! I3. Only the process that made an unpublished file discards it, not a fork of that process.
//!
//! Errors come out as the system reports them, except where a method says otherwise. On Windows
//! names resolve against the absolute path, directories cannot be synced, a lock also keeps other
//! handles from reading, and nothing of it is tested.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::{error, fmt, io, process};

use self::os::Directory;
use super::{StoreFile, WalStore};
use crate::sync::{Arc, Mutex};

#[cfg(unix)]
#[path = "file/unix.rs"]
mod os;
#[cfg(windows)]
#[path = "file/windows.rs"]
mod os;
#[cfg(test)]
mod tests;

/// A directory as a store, readable by its owner alone: files are created with mode 0600,
/// missing directories with 0700.
///
/// All methods block on the file system. Names that are empty, `.` or `..`, that contain a
/// separator, a colon or NUL, or that have the form of an unpublished file are `InvalidInput`.
///
/// ```
/// use cohort_wal::{FileStore, StoreFile, WalStore};
///
/// # fn main() -> std::io::Result<()> {
/// # let dir = tempfile::tempdir()?;
/// let store = FileStore::open(dir.path().join("log"))?;
/// let file = store.create(5)?;
/// file.write_at(0, b"hello")?;
/// file.sync()?;
/// assert!(store.list()?.is_empty());
///
/// store.publish(&file, "greeting")?;
/// assert_eq!(store.list()?, ["greeting"]);
/// assert_eq!(std::fs::read(store.locate("greeting"))?, b"hello");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct FileStore {
    path: PathBuf,
    directory: Arc<Directory>,
    overwriting_is_cheaper: bool,
}

impl FileStore {
    /// Opens a directory, creating it and its missing ancestors.
    ///
    /// # Durability
    /// What it creates is durable after [`sync_place`](WalStore::sync_place), not before.
    ///
    /// # Errors
    /// `NotADirectory` when the path leads to or through something else; otherwise what the
    /// system says. Directories that were created stay.
    pub fn open(dir: impl AsRef<Path>) -> io::Result<Self> {
        match Self::existing(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                os::create_directories(dir.as_ref())?;
                Self::existing(dir)
            }
            opened => opened,
        }
    }

    /// Opens a directory that exists. Changes nothing.
    ///
    /// # Errors
    /// `NotFound` when there is none, `NotADirectory` when the path leads to something else;
    /// otherwise what the system says.
    ///
    /// ```
    /// use cohort_wal::FileStore;
    ///
    /// # fn main() -> std::io::Result<()> {
    /// # let dir = tempfile::tempdir()?;
    /// let missing = dir.path().join("log");
    /// let error = FileStore::existing(&missing).unwrap_err();
    /// assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    /// assert!(!missing.exists());
    /// # Ok(())
    /// # }
    /// ```
    pub fn existing(dir: impl AsRef<Path>) -> io::Result<Self> {
        let directory = Directory::open(dir.as_ref())?;
        Ok(Self {
            path: dir.as_ref().to_path_buf(),
            overwriting_is_cheaper: directory.overwriting_is_cheaper()?,
            directory: Arc::new(directory),
        })
    }

    /// The names of files under construction, whoever left them.
    pub(crate) fn unpublished(&self) -> io::Result<Vec<String>> {
        let mut names = self.directory.names()?;
        names.retain(|name| is_unpublished(name));
        Ok(names)
    }

    /// The path the store was opened with.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl WalStore for FileStore {
    type File = FileHandle;

    /// Names that are not UTF-8 are listed with replacement characters and cannot be opened.
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.directory.names()?;
        names.retain(|name| !is_unpublished(name));
        Ok(names)
    }

    fn create(&self, _bytes: u64) -> io::Result<FileHandle> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!(".cohort-{:032x}.tmp", u128::from_le_bytes(random));
        let file = self.directory.create_file(&name)?;
        let unpublished = Some(Unpublished { name, maker: process::id() });
        Ok(FileHandle::new(file, unpublished, &self.directory))
    }

    /// # Errors
    /// `InvalidInput` when the file has a name already. An error after the file got its name is
    /// `Other`, with the system's error as its source.
    fn publish(&self, file: &FileHandle, name: &str) -> io::Result<()> {
        check_name(name)?;
        let mut unpublished = file.unpublished.lock();
        let Some(Unpublished { name: source, .. }) = &*unpublished else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file has a name already"));
        };
        // DURABILITY: the bytes are durable already, so a crash in here leaves either a whole
        // file or an unpublished one for the next sweep.
        self.directory.name_file(source, name)?;
        *unpublished = None;
        self.directory.sync().map_err(NamedNonetheless::wrap)
    }

    fn open(&self, name: &str) -> io::Result<FileHandle> {
        check_name(name)?;
        Ok(FileHandle::new(self.directory.open_file(name)?, None, &self.directory))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        check_name(name)?;
        self.directory.remove(name)
    }

    fn lock(&self, file: &FileHandle) -> io::Result<bool> {
        match file.file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    fn unlock(&self, file: &FileHandle) -> io::Result<()> {
        file.file.unlock()
    }

    fn sync_names(&self) -> io::Result<()> {
        self.directory.sync()
    }

    /// Skips an ancestor that this process may not open for reading, because it made no entry
    /// there, and one whose file system cannot sync directories, because a mount point that was
    /// there before lies between it and the log.
    fn sync_place(&self) -> io::Result<()> {
        self.directory.sync_with_ancestors()
    }

    fn sweep(&self) -> io::Result<usize> {
        let mut removed = 0;
        for name in self.directory.names()? {
            if !is_unpublished(&name) {
                continue;
            }
            // Whoever made the file may discard it at the same time.
            let swept = self.directory.is_regular(&name).and_then(|regular| {
                if regular { self.directory.remove(&name).map(|()| 1) } else { Ok(0) }
            });
            match swept {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                swept => removed += swept?,
            }
        }
        Ok(removed)
    }

    fn locate(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.path.clone() } else { self.path.join(name) }
    }

    /// Decided when the store is opened. True on Linux for ext2, ext3, ext4, XFS and for
    /// overlayfs, which mostly lies on one of them; false for every other.
    fn overwriting_is_cheaper(&self) -> bool {
        self.overwriting_is_cheaper
    }
}

/// An open file of a [`FileStore`]. Its descriptor is closed on `exec`.
#[derive(Debug)]
pub struct FileHandle {
    file: File,
    unpublished: Mutex<Option<Unpublished>>,
    directory: Arc<Directory>,
}

#[derive(Debug)]
struct Unpublished {
    name: String,
    maker: u32,
}

impl FileHandle {
    fn new(file: File, unpublished: Option<Unpublished>, directory: &Arc<Directory>) -> Self {
        Self { file, unpublished: Mutex::new(unpublished), directory: Arc::clone(directory) }
    }
}

impl Drop for FileHandle {
    fn drop(&mut self) {
        let unpublished = self.unpublished.lock().take();
        if let Some(Unpublished { name, maker }) = unpublished
            && maker == process::id()
        {
            // Best effort: nobody is left to tell, and the next sweep gets what stays.
            self.directory.remove(&name).ok();
        }
    }
}

impl StoreFile for FileHandle {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let done =
            transfer(offset, bytes.len(), |at, done| os::write_at(&self.file, &bytes[done..], at))?;
        if done < bytes.len() { Err(io::ErrorKind::WriteZero.into()) } else { Ok(()) }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        transfer(offset, bytes.len(), |at, done| os::read_at(&self.file, &mut bytes[done..], at))
    }

    #[expect(clippy::disallowed_methods, reason = "this file is where syncs live")]
    fn sync(&self) -> io::Result<()> {
        // DURABILITY: fdatasync covers the length, and more metadata than that nobody reads.
        // macOS gets F_FULLFSYNC from std, because its fsync stops short of the medium.
        self.file.sync_data()
    }

    fn release_cache(&self) {
        os::release_cache(&self.file);
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

/// Calls `step(position, bytes done)` until `len` bytes are done or a step does none. Continues
/// after a short step and after a signal.
fn transfer(
    offset: u64,
    len: usize,
    mut step: impl FnMut(u64, usize) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    let mut position = offset;
    while done < len {
        match step(position, done) {
            Ok(0) => break,
            Ok(n) => {
                done += n;
                let n = u64::try_from(n).map_err(io::Error::other)?;
                position = position.checked_add(n).ok_or(io::ErrorKind::InvalidInput)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// Makes the names in a directory durable.
#[cfg(unix)]
#[expect(clippy::disallowed_methods, reason = "this file is where syncs live")]
fn sync_directory(directory: &File) -> io::Result<()> {
    directory.sync_all()
}

fn is_unpublished(name: &str) -> bool {
    let digits = name.strip_prefix(".cohort-").and_then(|rest| rest.strip_suffix(".tmp"));
    digits.is_some_and(|digits| {
        digits.len() == 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Refuses names that lead elsewhere or that a sweep would take for leftovers.
pub(super) fn check_name(name: &str) -> io::Result<()> {
    if matches!(name, "" | "." | "..")
        || name.contains(['/', '\\', ':', '\0'])
        || is_unpublished(name)
    {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name for a published file"));
    }
    Ok(())
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not a regular file")
}

/// Publishing failed after the file got its name. Hides the kind of the source: a caller who saw
/// `StorageFull` here would publish the name a second time.
#[derive(Debug)]
struct NamedNonetheless(io::Error);

impl NamedNonetheless {
    fn wrap(source: io::Error) -> io::Error {
        io::Error::other(Self(source))
    }
}

impl fmt::Display for NamedNonetheless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the file got its name, but the name may not be durable: {}", self.0)
    }
}

impl error::Error for NamedNonetheless {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        Some(&self.0)
    }
}
