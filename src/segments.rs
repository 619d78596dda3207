//! Segments: making a file, and the files that hold written bytes.
//!
//! Owns which file takes the next frames and which files still have bytes that no sync covered.
//! A segment has its name only once its header is durable.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Result, WalError};
use crate::format::name;
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::store::{StoreFile, WalStore, remove_if_there};
use crate::sync::{Arc, Mutex};

/// Makes an unpublished file with the header area of a segment; `bytes` is the expected size.
pub(crate) fn construct<S: WalStore>(
    store: &S,
    header: &SegmentHeader,
    bytes: u64,
) -> Result<S::File> {
    let path = store.locate(&name::segment(header.seq));
    let file = store.create(bytes).map_err(|e| create_failed(&path, e))?;
    file.write_at(0, &header.encode_area()).map_err(|e| WalError::io_or_full("write", &path, e))?;
    Ok(file)
}

/// Why a file could not be made.
pub(crate) fn create_failed(path: &Path, error: io::Error) -> WalError {
    match is_out_of_files(&error) {
        true => WalError::TooManyFiles { path: path.to_path_buf() },
        false => WalError::io_or_full("create", path, error),
    }
}

/// True when a file cannot be made because too many are open.
fn is_out_of_files(error: &std::io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
    }
    #[cfg(not(unix))]
    {
        let _: &std::io::Error = error;
        false
    }
}

/// Makes a finished segment durable, then gives it its name, durably.
///
/// DURABILITY: a crash before the name is durable leaves nothing or an unpublished file that the
/// next open sweeps; after it, a segment whose header and frames are whole.
pub(crate) fn publish<S: WalStore>(
    store: &S,
    file: &S::File,
    header: &SegmentHeader,
) -> Result<()> {
    let name = name::segment(header.seq);
    let path = store.locate(&name);
    file.sync().map_err(|e| WalError::io("sync", &path, e))?;
    store.publish(file, &name).map_err(|e| WalError::io_or_full("publish", &path, e))
}

/// 16 bytes that nobody had before.
pub(crate) fn random<S: WalStore>(store: &S) -> Result<[u8; 16]> {
    let mut bytes = [0; 16];
    let filled = store.random(&mut bytes);
    filled.map_err(|e| WalError::io("read", Path::new("the random generator"), e))?;
    Ok(bytes)
}

/// A segment of the live chain, for those who read.
#[derive(Debug)]
pub(crate) struct LiveSegment<F> {
    pub(crate) header: SegmentHeader,
    /// The file, held for readers that had not opened it when its name was removed.
    kept: Mutex<Option<Arc<F>>>,
}

impl<F: StoreFile> LiveSegment<F> {
    pub(crate) fn new(header: SegmentHeader) -> Arc<Self> {
        Arc::new(Self { header, kept: Mutex::new(None) })
    }

    /// Opens the file, also if its name was removed since this was taken from the live chain.
    pub(crate) fn open<S: WalStore<File = F>>(&self, store: &S) -> io::Result<Arc<F>> {
        let kept = || self.kept.lock().clone();
        if let Some(file) = kept() {
            return Ok(file);
        }
        match store.open(&name::segment(self.header.seq)) {
            // Removed between the two looks: then it was kept before.
            Err(error) if error.kind() == io::ErrorKind::NotFound => kept().ok_or(error),
            opened => opened.map(Arc::new),
        }
    }

    /// Removes the name. Readers that hold this go on: the file is opened for them first.
    pub(crate) fn remove<S: WalStore<File = F>>(self: &Arc<Self>, store: &S) -> Result<()> {
        let name = name::segment(self.header.seq);
        // Nobody can take it from the live chain any more, and whoever has it counts.
        if Arc::strong_count(self) > 1 {
            let opened =
                self.open(store).map_err(|e| WalError::io("open", &store.locate(&name), e));
            *self.kept.lock() = Some(opened?);
        }
        remove_if_there(store, &name).map_err(|e| WalError::io("remove", &store.locate(&name), e))
    }
}

/// A segment that takes or took frames of this handle.
pub(crate) struct OpenSegment<F> {
    pub(crate) header: SegmentHeader,
    pub(crate) file: Arc<F>,
    pub(crate) path: PathBuf,
}

impl<F> OpenSegment<F> {
    /// File offset of a position in the log.
    pub(crate) fn offset(&self, lsn: u64) -> u64 {
        FIRST_FRAME + (lsn - self.header.base)
    }
}
