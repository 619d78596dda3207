//! Storage: a flat namespace of files with positioned bytes and a durability barrier.
//!
//! A store knows nothing of frames, and the engine knows nothing of directories. What the engine
//! relies on is written at each method; a store that breaks it breaks the log's promises.
//!
//! Every method may block. None may call back into the log it serves, and neither may the `Drop`
//! of a file. Errors are reported, never retried or hidden, except that a read or a write that a
//! signal interrupts is continued.

mod file;
mod mem;
#[cfg(feature = "sim")]
pub(crate) mod sim;

use std::io;
use std::path::PathBuf;

use crate::sync::Arc;

pub use file::{FileHandle, FileStore};
pub use mem::{MemFile, MemSnapshot, MemStore};

/// A flat namespace of files.
///
/// Names are short ASCII strings without separators. A file under construction has no name; it
/// gets one by [`publish`](Self::publish) and keeps it until [`remove`](Self::remove).
pub trait WalStore: Send + Sync + 'static {
    /// An open file of this store. Dropping it closes the file, releases its lock, and discards
    /// the file if it was never published.
    type File: StoreFile;

    /// The names of all published files, in any order, files of others included. Unpublished
    /// files are not listed. Changes nothing.
    ///
    /// # Errors
    /// `NotFound` when the place itself does not exist; otherwise what the system says.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Makes an empty file that has no name yet. `bytes` is the size the caller expects it to
    /// reach, a hint.
    ///
    /// # Errors
    /// `StorageFull` and `QuotaExceeded` mean that nothing was made.
    fn create(&self, bytes: u64) -> io::Result<Self::File>;

    /// Gives a finished and synced file its name, without ever replacing another file, and makes
    /// the name and every earlier one durable before it returns.
    ///
    /// # Errors
    /// `AlreadyExists` when the name is taken. `StorageFull` and `QuotaExceeded` only if the name
    /// certainly does not exist. After any other error the name may or may not be there.
    fn publish(&self, file: &Self::File, name: &str) -> io::Result<()>;

    /// Opens a published regular file for reading, and for writing where permitted. Follows no
    /// symbolic link and never blocks on a special file.
    ///
    /// # Errors
    /// `NotFound` when there is none; `InvalidData` when it is no regular file.
    fn open(&self, name: &str) -> io::Result<Self::File>;

    /// Removes a name. Open handles of the file stay readable. Need not be durable.
    ///
    /// # Errors
    /// What the system says; `NotFound` when there is none.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Takes the exclusive lock of an open file, held until the handle is dropped or
    /// [`unlock`](Self::unlock)ed. Never blocks: false when another handle holds it, in this
    /// process or another.
    ///
    /// # Errors
    /// What the system says.
    fn lock(&self, file: &Self::File) -> io::Result<bool>;

    /// Gives the lock back before the handle is dropped.
    ///
    /// # Errors
    /// What the system says.
    fn unlock(&self, file: &Self::File) -> io::Result<()>;

    /// Makes every name, present or removed, durable.
    ///
    /// # Errors
    /// What the system says; the durability of every name is then unknown.
    fn sync_names(&self) -> io::Result<()>;

    /// Makes the place itself durable: the directory that holds the files and each of its
    /// ancestors. Called once, while a log is being created.
    ///
    /// # Errors
    /// What the system says.
    fn sync_place(&self) -> io::Result<()>;

    /// Discards what a crash left unpublished, and nothing else. Called only by the holder of the
    /// log's lock. Returns how many files it removed.
    ///
    /// # Errors
    /// What the system says.
    fn sweep(&self) -> io::Result<usize>;

    /// How error messages name a file, or with an empty name the place itself.
    fn locate(&self, name: &str) -> PathBuf;

    /// True when overwriting bytes that were written before is cheaper to sync than growing a
    /// file, as on file systems that journal metadata in place.
    fn overwriting_is_cheaper(&self) -> bool {
        false
    }

    /// Fills `bytes` with random ones: a log's id, and the salt of each epoch, which tells frames
    /// from those of another epoch. Only a store made for tests has a reason to give other bytes
    /// than the system's generator, and it must never give the same ones twice.
    ///
    /// # Errors
    /// What the system says.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        getrandom::fill(bytes).map_err(io::Error::other)
    }
}

/// Positioned bytes with a durability barrier.
///
/// All methods take `&self` and may be called from several threads at once; the engine never
/// writes overlapping ranges concurrently.
pub trait StoreFile: Send + Sync + 'static {
    /// Writes all of `bytes` at `offset`, growing the file as needed; a gap reads as zeros. The
    /// bytes are visible to `read_at` at once and survive the death of the process, not a power
    /// loss.
    ///
    /// # Errors
    /// After an error any part of the range may hold old or new bytes. `StorageFull` and
    /// `QuotaExceeded` mean that the same call may succeed later.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Reads into `bytes` from `offset`; returns how many bytes were read, fewer than asked only
    /// at the end of the file, and 0 at or past it.
    ///
    /// # Errors
    /// What the system says. An error is never reported as a short read.
    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Makes every byte written through this handle before the call durable, the file's length
    /// included. After `Ok` the bytes survive power loss.
    ///
    /// # Errors
    /// Any error is final: which bytes are durable is unknown, and the engine never retries.
    fn sync(&self) -> io::Result<()>;

    /// A hint: what is durable of this file will hardly be read soon, so caches need not keep it.
    /// Changes nothing that `read_at` returns, and cannot fail.
    fn release_cache(&self) {}

    /// The file's length in bytes.
    ///
    /// # Errors
    /// What the system says.
    fn len(&self) -> io::Result<u64>;

    /// True when the file has no bytes.
    ///
    /// # Errors
    /// What the system says.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts or grows the file to `len` bytes; what it grows by reads as zeros.
    ///
    /// # Errors
    /// What the system says.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// A file that several hold.
impl<F: StoreFile> StoreFile for Arc<F> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        (**self).write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        (**self).read_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        (**self).sync()
    }

    fn release_cache(&self) {
        (**self).release_cache();
    }

    fn len(&self) -> io::Result<u64> {
        (**self).len()
    }

    fn is_empty(&self) -> io::Result<bool> {
        (**self).is_empty()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        (**self).set_len(len)
    }
}

/// Removes a name that may be gone already.
pub(crate) fn remove_if_there<S: WalStore>(store: &S, name: &str) -> io::Result<()> {
    match store.remove(name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Fills `target` from `offset`, or as much of it as the file has.
pub(crate) fn read_full<F: StoreFile>(
    file: &F,
    offset: u64,
    target: &mut [u8],
) -> io::Result<usize> {
    let mut done = 0;
    while let Some(rest) = target.get_mut(done..).filter(|rest| !rest.is_empty()) {
        match file.read_at(offset.saturating_add(done as u64), rest)? {
            0 => break,
            read => done = done.saturating_add(read),
        }
    }
    Ok(done)
}
