//! Segments: making a file, and the files that hold written bytes.
//!
//! Owns which file takes the next frames and which files still have bytes that no sync covered.
//! A segment has its name only once its header is durable.

use std::io;
use std::path::{Path, PathBuf};

use crate::crypt::{ActiveKey, Cipher, Context, Keys, Purpose};
use crate::error::{Result, WalError};
use crate::format::frame::Seed;
use crate::format::name;
use crate::format::segment::{AES_256_GCM, CHECK_AT, FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;
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

/// What the frames of an epoch are sealed with.
#[derive(Debug, Clone)]
pub(crate) struct Epoch {
    pub(crate) seed: Seed,
    pub(crate) cipher: Option<Arc<Cipher>>,
}

/// What the frames of the epoch that begins with `header` are sealed with, by this key; makes it
/// the header's. All else in the header is said already.
pub(crate) fn begin_epoch(key: Option<&ActiveKey>, header: &mut SegmentHeader) -> Epoch {
    header.cipher = if key.is_some() { AES_256_GCM } else { 0 };
    header.extent = if key.is_some() { header.extent } else { 0 };
    header.key_id = key.map_or(0, ActiveKey::id);
    let cipher = key.map(|key| key.cipher(&context(header)));
    prove(header, cipher.as_deref());
    Epoch { seed: header.seed(), cipher }
}

/// Proves a header of the epoch of this cipher.
pub(crate) fn prove(header: &mut SegmentHeader, cipher: Option<&Cipher>) {
    let proof = |cipher: &Cipher| cipher.prove(&header.encode()[..CHECK_AT]);
    header.key_check = cipher.map_or([0; _], proof);
}

/// The cipher of a segment, if it is encrypted; fails without the key that made its header.
pub(crate) fn cipher_of(keys: &Keys, header: &SegmentHeader) -> Result<Option<Arc<Cipher>>> {
    if header.cipher == 0 {
        return Ok(None);
    }
    let cipher = keys.cipher(header.key_id, &context(header))?;
    if cipher.prove(&header.encode()[..CHECK_AT]) != header.key_check {
        return Err(WalError::WrongKey);
    }
    Ok(Some(cipher))
}

fn context(header: &SegmentHeader) -> Context {
    let SegmentHeader { salt, log_id, epoch, .. } = *header;
    Context { purpose: Purpose::Frames, salt, log_id, number: epoch }
}

/// Fails without the keys of every segment of a live chain, in ascending order, and where one of
/// them was forged.
pub(crate) fn admit(keys: &Keys, live: &[SegmentHeader]) -> Result<()> {
    live.iter().try_for_each(|header| cipher_of(keys, header).map(drop))?;
    match live.iter().enumerate().find(|(at, _)| is_forged(keys, live, *at)) {
        Some((_, forged)) => Err(WalError::Tampered { lsn: Lsn::new(forged.base) }),
        None => Ok(()),
    }
}

/// Whether the segment at an index of a chain is plain where there can be none: in a log that never
/// was; behind an encrypted one, because no writer goes back to plain ones while it lives; and
/// before one that says so.
pub(crate) fn is_forged(keys: &Keys, live: &[SegmentHeader], at: usize) -> bool {
    let (before, from) = live.split_at(at.min(live.len()));
    from.first().is_some_and(|header| header.cipher == 0)
        && (keys.are_required()
            || before.iter().any(|header| header.cipher != 0)
            || from.iter().any(SegmentHeader::is_entire))
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
