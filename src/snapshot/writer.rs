//! Writing a snapshot, chunk by chunk.

use std::io;
use std::path::PathBuf;

use super::{chunk_place, context, end_place, guarded, proven};
use crate::crypt::{ActiveKey, Cipher, TAG_BYTES};
use crate::error::{Result, WalError};
use crate::format::segment::AES_256_GCM;
use crate::format::snapshot::{CHUNK_BYTES, SnapshotHeader};
use crate::store::StoreFile;
use crate::sync::Arc;

/// Writes a snapshot file that has no name yet.
pub(crate) struct Writer<'a, F> {
    file: &'a F,
    path: PathBuf,
    header: SnapshotHeader,
    at: u64,
    chunks: u64,
    total: u64,
    /// The bytes of the next chunk.
    buffer: Vec<u8>,
    cipher: Option<Arc<Cipher>>,
    /// Fails where no I/O may be done at all.
    check: &'a dyn Fn() -> Result<()>,
    /// Why it can not be finished, whatever became of what `write` returned.
    failed: Option<WalError>,
}

impl<'a, F: StoreFile> Writer<'a, F> {
    pub(crate) fn begin(
        file: &'a F,
        path: PathBuf,
        mut header: SnapshotHeader,
        key: Option<&ActiveKey>,
        check: &'a dyn Fn() -> Result<()>,
    ) -> Result<Self> {
        let cipher = key.map(|key| key.cipher(&context(&header)));
        if let Some((key, cipher)) = key.zip(cipher.as_ref()) {
            (header.cipher, header.key_id) = (AES_256_GCM, key.id());
            header.key_check = cipher.prove(proven(&header.encode()));
        }
        let mut buffer = Vec::new();
        buffer.try_reserve_exact(CHUNK_BYTES).map_err(|_| WalError::OutOfMemory)?;
        let (at, chunks, total) = (0, 0, 0);
        let mut writer =
            Self { file, path, header, at, chunks, total, buffer, cipher, check, failed: None };
        writer.put(&header.encode())?;
        Ok(writer)
    }

    /// Why the file could not be written, if it could not.
    pub(crate) fn failure(&self) -> Option<WalError> {
        self.failed.clone()
    }

    /// Ends the snapshot and makes it durable.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.end_chunk()?;
        let seal = |cipher: &Arc<Cipher>| cipher.seal(end_place(self.chunks), &mut []);
        let tag = self.cipher.as_ref().map(seal);
        let tag = tag.as_ref().map_or(&[][..], |tag| &tag[..]);
        let end = self.header.end(self.chunks, self.total, tag);
        self.put(&end)?;
        if !tag.is_empty() {
            self.put(tag)?;
        }
        guarded(|| self.file.sync()).map_err(|e| WalError::io("sync", &self.path, e))
    }

    fn end_chunk(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        if !buffer.is_empty() {
            if let Some(cipher) = &self.cipher {
                let tag = cipher.seal(chunk_place(self.chunks, buffer.len()), &mut buffer);
                buffer.extend_from_slice(&tag);
            }
            let header = self.header.chunk_header(self.chunks, &buffer);
            self.put(&header)?;
            self.put(&buffer)?;
            self.chunks = self.chunks.saturating_add(1);
            self.total = self.total.saturating_add(buffer.len() as u64);
        }
        self.buffer = buffer;
        self.buffer.clear();
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        (self.check)()?;
        if let Err(error) = guarded(|| self.file.write_at(self.at, bytes)) {
            let error = WalError::io_or_full("write", &self.path, error);
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.at = self.at.saturating_add(bytes.len() as u64);
        Ok(())
    }
}

impl<F: StoreFile> io::Write for Writer<'_, F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let tag = if self.cipher.is_some() { TAG_BYTES } else { 0 };
        let most = CHUNK_BYTES.saturating_sub(tag);
        let room = most.saturating_sub(self.buffer.len());
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(taken);
        if self.buffer.len() >= most {
            self.end_chunk()?;
        }
        Ok(taken.len())
    }

    /// Nothing to do: what is written counts once all of it is.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
