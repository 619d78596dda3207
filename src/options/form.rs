//! Options about how records are encoded: compressed, encrypted.

use super::WalOptions;
#[cfg(feature = "lz4")]
use crate::compress::Compression;
#[cfg(feature = "aead")]
use crate::crypt::KeyProvider;
use crate::crypt::TAG_BYTES;
use crate::format::frame::frame_bytes;
#[cfg(feature = "aead")]
use crate::sync::Arc;

/// How a log encodes records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// The longest record, before it is encoded.
    pub(crate) max_record: u32,
    pub(crate) compressed: bool,
    pub(crate) sealed: bool,
}

impl Form {
    /// Plain records of up to `max_record` bytes.
    #[cfg(any(test, all(loom, feature = "loom")))]
    pub(crate) fn plain(max_record: u32) -> Self {
        Self { max_record, compressed: false, sealed: false }
    }

    /// The most bytes that the frame of a record of `len` bytes takes.
    pub(crate) fn frame_bytes(&self, len: u64) -> u64 {
        frame_bytes(len.saturating_add(if self.sealed { TAG_BYTES as u64 } else { 0 }))
    }
}

impl WalOptions {
    /// How what is appended is compressed. Default [`Compression::None`]. Feature `lz4`.
    ///
    /// Records are compressed one by one, and only where that makes them smaller:
    /// `max_record_bytes` is about what is appended, LSNs and
    /// [`live_bytes`](crate::Wal::live_bytes) are about what is stored. Whatever this says, a log
    /// that holds compressed records is read.
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{Compression, MemStore, WalOptions};
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().compression(Compression::Lz4).open_store(MemStore::new())?;
    /// wal.append(&[b'=' ; 10_000])?;
    /// assert!(wal.live_bytes() < 100);
    /// assert_eq!(wal.iter()?.next().unwrap()?.data(), [b'='; 10_000]);
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "lz4")]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// Encrypts what is appended, and the images of snapshots, and reads what was encrypted, with
    /// keys of this provider. Default none. Feature `aead`.
    ///
    /// A log that was plain is encrypted from here on; what it holds stays plain until it is
    /// truncated. An encrypted one cannot be opened without its keys. `docs/DURABILITY.md` says
    /// what encryption protects from, and what not.
    #[cfg(feature = "aead")]
    pub fn encryption(mut self, keys: Arc<dyn KeyProvider>) -> Self {
        self.keys.provider = Some(keys);
        self
    }

    /// Whether nothing in the log was ever plain, so that a plain segment or snapshot is
    /// [`WalError::Tampered`](crate::WalError::Tampered): opening and reading refuse it with
    /// nothing changed, and salvage shows none of its records. Default false; needs
    /// [`encryption`](Self::encryption). Feature `aead`.
    ///
    /// Without it a plain log opens and is encrypted from there on, as is right for one that was
    /// plain, and somebody who can write to the directory can put a plain log of their own in the
    /// place of the encrypted one.
    ///
    /// # Examples
    /// ```
    /// # use std::sync::Arc;
    /// # use cohort_wal::{Key, KeyProvider, MemStore, WalError, WalOptions};
    /// # struct Ring;
    /// # impl KeyProvider for Ring {
    /// #     fn active(&self) -> u32 { 1 }
    /// #     fn get(&self, id: u32) -> Option<Key> { (id == 1).then(|| Key::new([7; 32])) }
    /// # }
    /// # fn main() -> cohort_wal::Result<()> {
    /// let plain = MemStore::new();
    /// WalOptions::new().open_store(plain.clone())?.append_and_sync(b"of somebody else")?;
    /// let options = WalOptions::new().encryption(Arc::new(Ring)).require_encryption(true);
    /// assert!(matches!(options.open_store(plain), Err(WalError::Tampered { .. })));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "aead")]
    pub fn require_encryption(mut self, required: bool) -> Self {
        self.keys.required = required;
        self
    }

    /// How records are encoded.
    pub(crate) fn form(&self) -> Form {
        Form {
            max_record: self.max_record_bytes,
            #[cfg(feature = "lz4")]
            compressed: self.compression == Compression::Lz4,
            #[cfg(not(feature = "lz4"))]
            compressed: false,
            sealed: self.keys.is_on(),
        }
    }
}
