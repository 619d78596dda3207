//! Snapshots: files that stand for everything below an LSN.
//!
//! Owns how one is written and read; which one counts is CONTROL's business. Both sides hold one
//! chunk in memory, however large the snapshot. The bytes that are read are hostile: a length is
//! believed only up to the bound, and no byte is shown before the checksum of its chunk matched.

#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

mod writer;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::crypt::{Cipher, Context, Keys, Place, Purpose, TAG_BYTES};
use crate::error::{Result, WalError, discard};
use crate::format::segment::AES_256_GCM;
use crate::format::snapshot::{
    CHECK_AT, CHUNK, CHUNK_BYTES, CHUNK_HEADER_BYTES, END, END_BYTES, FIRST_CHUNK, MAGIC,
    SnapshotHeader, file_bytes,
};
use crate::format::{BLOCK_BYTES, BlockError, LogId, MAJOR, name, u32_at};
use crate::lsn::Lsn;
use crate::store::{FileStore, StoreFile, WalStore, read_full, remove_if_there};
use crate::sync::Arc;

pub(crate) use writer::Writer;

/// A snapshot: what a checkpoint has written, as an [`io::Read`].
///
/// Every chunk is verified before a byte of it is shown; damage is an [`io::Error`] of the kind
/// `InvalidData` with a [`WalError`] in it. Reading goes on to the end whatever the log does
/// meanwhile, a newer checkpoint included.
pub struct Snapshot<S: WalStore = FileStore> {
    file: Arc<S::File>,
    path: PathBuf,
    header: SnapshotHeader,
    /// The block it was read from.
    block: [u8; BLOCK_BYTES],
    cipher: Option<Arc<Cipher>>,
    /// What proves that there are so many chunks.
    end_tag: Vec<u8>,
    /// Bytes of the image.
    total: u64,
    count: u64,
    at: u64,
    /// Where the last chunk ends.
    end_at: u64,
    chunks: u64,
    /// The chunk that is being shown, and how much of it was.
    buffer: Vec<u8>,
    shown: usize,
}

impl<S: WalStore> fmt::Debug for Snapshot<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Snapshot");
        f.field("lsn", &self.lsn()).field("bytes", &self.total).finish_non_exhaustive()
    }
}

impl<S: WalStore> Snapshot<S> {
    /// The snapshot of `log_id` at `lsn`: its header and its end are whole, and nothing is missing
    /// between them; the chunks are not looked at.
    pub(crate) fn open(store: &S, log_id: LogId, lsn: u64) -> Result<Self> {
        let name = name::snapshot(lsn);
        let path = store.locate(&name);
        let missing = || damaged(&path, lsn, 0, "the snapshot that CONTROL names is missing");
        let file = store.open(&name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::InvalidData => missing(),
            _ => WalError::io("open", &path, error),
        })?;
        let length = file.len().map_err(|e| WalError::io("read", &path, e))?;
        let mut block = [0; BLOCK_BYTES];
        let got = read(&file, &path, 0, &mut block)?;
        let header = SnapshotHeader::decode(block.get(..got).unwrap_or_default());
        let header = match header {
            Ok(header) => header,
            Err(BlockError::Unsupported { major, incompat }) => {
                return Err(WalError::UnsupportedVersion { path, major, incompat });
            }
            Err(_) => return Err(damaged(&path, lsn, 0, "the header of the snapshot is damaged")),
        };
        if (header.log_id, header.lsn) != (log_id, lsn) {
            let why = "the snapshot is of another log, or of another place";
            return Err(damaged(&path, lsn, 0, why));
        }
        if header.cipher > AES_256_GCM {
            return Err(WalError::UnsupportedVersion { path, major: MAJOR, incompat: 0 });
        }
        let tag_bytes = if header.cipher == 0 { 0 } else { TAG_BYTES };
        let whole = length.saturating_sub(tag_bytes as u64);
        let end_at = whole.saturating_sub(END_BYTES as u64);
        let mut end = [0; END_BYTES];
        let got = read(&file, &path, end_at, &mut end)?;
        let mut end_tag = vec![0; tag_bytes];
        read(&file, &path, whole, &mut end_tag)?;
        let end = header.decode_end(end.get(..got).unwrap_or_default(), &end_tag);
        let end = end.filter(|(chunks, total)| file_bytes(*chunks, *total) == Some(whole));
        let tags = |count: u64| count.saturating_mul(tag_bytes as u64);
        let Some((count, total)) = end.filter(|(count, total)| *total >= tags(*count)) else {
            return Err(damaged(&path, lsn, end_at, "the end of the snapshot is damaged"));
        };
        Ok(Self {
            file: Arc::new(file),
            path,
            header,
            block,
            cipher: None,
            end_tag,
            total: total.saturating_sub(tags(count)),
            count,
            at: FIRST_CHUNK,
            end_at,
            chunks: 0,
            buffer: Vec::new(),
            shown: 0,
        })
    }

    /// Whether it is not encrypted.
    pub(crate) fn is_plain(&self) -> bool {
        self.header.cipher == 0
    }

    /// Makes ready to show it; fails without its key, if it is encrypted, and if it is not where it
    /// must be.
    fn unlock(mut self, keys: &Keys, must_be: bool) -> Result<Self> {
        if self.is_plain() {
            let forged = WalError::Tampered { lsn: self.lsn() };
            return if must_be || keys.are_required() { Err(forged) } else { Ok(self) };
        }
        let cipher = keys.cipher(self.header.key_id, &context(&self.header))?;
        if cipher.prove(proven(&self.block)) != self.header.key_check {
            return Err(WalError::WrongKey);
        }
        if !cipher.open(end_place(self.count), &mut [], &self.end_tag) {
            return Err(WalError::Tampered { lsn: self.lsn() });
        }
        self.cipher = Some(cipher);
        Ok(self)
    }

    /// The LSN it was made at: it stands for everything below, and the log goes on from there.
    #[must_use]
    pub fn lsn(&self) -> Lsn {
        Lsn::new(self.header.lsn)
    }

    /// Bytes of the image.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.total
    }

    /// True for an image without bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// Reads all of it and begins again.
    pub(crate) fn verify(mut self) -> Result<Self> {
        while self.next_chunk()? {}
        (self.at, self.chunks) = (FIRST_CHUNK, 0);
        Ok(self)
    }

    /// Reads the next chunk; false at the end.
    fn next_chunk(&mut self) -> Result<bool> {
        self.buffer.clear();
        self.shown = 0;
        let damage = |at| damaged(&self.path, self.header.lsn, at, "a chunk is damaged");
        if self.chunks == self.count {
            // Or there would be bytes that nobody shows, and a length that is none.
            return if self.at == self.end_at { Ok(false) } else { Err(damage(self.at)) };
        }
        let mut header = [0; CHUNK_HEADER_BYTES];
        let got = read(&*self.file, &self.path, self.at, &mut header)?;
        let (len, crc) = (u32_at(&header, 0), u32_at(&header, 4));
        let bytes = usize::try_from(len).unwrap_or(usize::MAX);
        if got < header.len() || bytes == 0 || bytes > CHUNK_BYTES {
            return Err(damage(self.at));
        }
        self.buffer.try_reserve_exact(bytes).map_err(|_| WalError::OutOfMemory)?;
        self.buffer.resize(bytes, 0);
        let at = self.at.saturating_add(CHUNK_HEADER_BYTES as u64);
        let got = read(&*self.file, &self.path, at, &mut self.buffer)?;
        if got < bytes || self.header.checksum(self.chunks, len, &self.buffer) != crc {
            self.buffer.clear();
            return Err(damage(self.at));
        }
        if let Some(cipher) = &self.cipher {
            let plain = bytes.saturating_sub(TAG_BYTES);
            let (body, tag) = self.buffer.split_at_mut(plain);
            if !cipher.open(chunk_place(self.chunks, plain), body, tag) {
                self.buffer.clear();
                return Err(WalError::Tampered { lsn: self.lsn() });
            }
            self.buffer.truncate(plain);
        }
        self.at = at.saturating_add(bytes as u64);
        self.chunks = self.chunks.saturating_add(1);
        Ok(true)
    }
}

impl<S: WalStore> io::Read for Snapshot<S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.shown == self.buffer.len() && !self.next_chunk()? {
            return Ok(0);
        }
        let left = self.buffer.get(self.shown..).unwrap_or_default();
        let count = left.len().min(into.len());
        if let (Some(to), Some(from)) = (into.get_mut(..count), left.get(..count)) {
            to.copy_from_slice(from);
        }
        self.shown = self.shown.saturating_add(count);
        Ok(count)
    }
}

/// Which snapshot counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counting {
    pub(crate) log_id: LogId,
    /// `u64::MAX`: none.
    pub(crate) lsn: u64,
    /// None but an encrypted one can.
    pub(crate) encrypted: bool,
}

/// Says which snapshot counts now.
type Ask = dyn Fn() -> Result<Counting> + Send + Sync;

/// The snapshots of a log.
pub struct Snapshots<S: WalStore = FileStore> {
    store: Arc<S>,
    keys: Keys,
    ask: Arc<Ask>,
}

impl<S: WalStore> fmt::Debug for Snapshots<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshots").finish_non_exhaustive()
    }
}

impl<S: WalStore> Snapshots<S> {
    pub(crate) fn new(store: Arc<S>, keys: Keys, ask: Arc<Ask>) -> Self {
        Self { store, keys, ask }
    }

    /// The snapshot that counts, whole: the newest that a checkpoint has made. None before the
    /// first checkpoint, and after a truncation past the snapshot.
    ///
    /// Reads all of it once, to verify it, with one chunk in memory. Snapshots that a crash left
    /// unfinished never count, and the one before counts until the new one is durable.
    ///
    /// # Errors
    /// [`WalError::Corruption`] when it is missing or damaged; [`WalError::WrongKey`] and
    /// [`WalError::Tampered`]; [`WalError::Io`].
    ///
    /// # Examples
    /// ```
    /// # use std::io::Read;
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// assert!(wal.snapshots()?.latest()?.is_none());
    /// wal.append(b"balance 7")?;
    /// let end = wal.end_lsn();
    /// wal.checkpoint(end, |image| image.write_all(b"balance: 7"))?;
    /// let mut image = String::new();
    /// let mut snapshot = wal.snapshots()?.latest()?.unwrap();
    /// snapshot.read_to_string(&mut image)?;
    /// assert_eq!((snapshot.lsn(), image.as_str()), (end, "balance: 7"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn latest(&self) -> Result<Option<Snapshot<S>>> {
        let mut counting = (self.ask)()?;
        loop {
            if counting.lsn == u64::MAX {
                return Ok(None);
            }
            let snapshot = Snapshot::open(&*self.store, counting.log_id, counting.lsn);
            let must_be = counting.encrypted;
            let snapshot = snapshot.and_then(|snapshot| snapshot.unlock(&self.keys, must_be));
            match snapshot.and_then(Snapshot::verify) {
                Ok(snapshot) => return Ok(Some(snapshot)),
                Err(error) => {
                    // A newer one may have taken its place between the two looks.
                    let now = (self.ask)()?;
                    if now == counting {
                        return Err(error);
                    }
                    counting = now;
                }
            }
        }
    }
}

#[cfg(feature = "aead")]
impl<S: WalStore> Snapshots<S> {
    /// What the snapshot that counts is encrypted with.
    pub(crate) fn key_id(&self) -> Result<Option<u32>> {
        let mut counting = (self.ask)()?;
        loop {
            if counting.lsn == u64::MAX {
                return Ok(None);
            }
            let snapshot = Snapshot::open(&*self.store, counting.log_id, counting.lsn);
            let now = (self.ask)()?;
            // A newer one may have taken its place between the two looks.
            if snapshot.is_ok() || now == counting {
                return snapshot.map(|of| (!of.is_plain()).then_some(of.header.key_id));
            }
            counting = now;
        }
    }
}

/// Makes a store call that nothing but an image depends on: a panic is an error of it.
pub(crate) fn guarded<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or_else(|payload| {
        discard(payload);
        Err(io::Error::other("the store panicked"))
    })
}

/// Removes the file of a snapshot that does not count any more.
pub(crate) fn remove<S: WalStore>(store: &S, lsn: u64) -> Result<()> {
    let name = name::snapshot(lsn);
    remove_if_there(store, &name).map_err(|e| WalError::io("remove", &store.locate(&name), e))
}

/// Whether the file of a snapshot at `lsn` begins as one of this crate's; `None` without a file.
pub(crate) fn is_ours<S: WalStore>(store: &S, lsn: u64) -> Result<Option<bool>> {
    let name = name::snapshot(lsn);
    let path = store.locate(&name);
    let file = match store.open(&name) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        // It is no regular file.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return Ok(Some(false)),
        Err(error) => return Err(WalError::io("open", &path, error)),
    };
    let mut magic = [0; MAGIC.len()];
    read(&file, &path, 0, &mut magic)?;
    Ok(Some(magic == MAGIC))
}

/// Removes what a crash left of a snapshot at `lsn`; what somebody else put there is an error.
pub(crate) fn remove_leftover<S: WalStore>(store: &S, lsn: u64) -> Result<()> {
    match is_ours(store, lsn)? {
        Some(true) => remove(store, lsn),
        None => Ok(()),
        Some(false) => {
            let path = store.locate(&name::snapshot(lsn));
            Err(WalError::io("publish", &path, io::ErrorKind::AlreadyExists.into()))
        }
    }
}

fn context(header: &SnapshotHeader) -> Context {
    let SnapshotHeader { salt, log_id, lsn, .. } = *header;
    Context { purpose: Purpose::Snapshot, salt, log_id, number: lsn }
}

/// What the proof of a header is about.
fn proven(block: &[u8; BLOCK_BYTES]) -> &[u8] {
    block.get(..CHECK_AT).unwrap_or_default()
}

/// Where a chunk with so many bytes of the image is sealed.
fn chunk_place(number: u64, bytes: usize) -> Place {
    let len = u32::try_from(bytes.saturating_add(TAG_BYTES)).unwrap_or(u32::MAX);
    Place { number, len, kind: CHUNK }
}

fn end_place(chunks: u64) -> Place {
    Place { number: chunks, len: 0, kind: END }
}

fn damaged(path: &Path, lsn: u64, offset: u64, why: &'static str) -> WalError {
    let (start, end) = (Lsn::new(0), Lsn::new(lsn));
    WalError::Corruption { path: path.to_path_buf(), offset, start, end, why }
}

/// Fills `bytes` from `offset`, or as much as the file has.
fn read<F: StoreFile>(file: &F, path: &Path, offset: u64, bytes: &mut [u8]) -> Result<usize> {
    read_full(file, offset, bytes).map_err(|e| WalError::io("read", path, e))
}
