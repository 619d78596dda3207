//! [`KeyRing`]: a directory with a file for each key, `1.key`, `2.key`, and so on: 64 hex digits.
//!
//! A file is made whole and durable before it gets its name, and is never changed or replaced: that
//! is what [`FileStore`] is for, here as below the log. The newest key is the active one. Keep the
//! ring apart from the log, or whoever takes one has both.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cohort_wal::{FileStore, Key, KeyProvider, StoreFile, WalStore};
use zeroize::Zeroizing;

use crate::error::{Error, Result};

const HEX_DIGITS: usize = 64;

/// Keys by number.
#[derive(Debug)]
pub struct KeyRing<S: WalStore = FileStore> {
    store: S,
    keys: Mutex<BTreeMap<u32, Key>>,
}

impl KeyRing<FileStore> {
    /// Makes a ring with one new key in a directory, which is created if absent.
    ///
    /// # Errors
    /// [`Error::Keys`], with `AlreadyExists` where there is a ring.
    pub fn create(dir: &Path) -> Result<Self> {
        let store = FileStore::open(dir).map_err(Error::Keys)?;
        store.sync_place().map_err(Error::Keys)?;
        let ring = Self::load(store)?;
        if !ring.lock().is_empty() {
            return Err(Error::Keys(io::ErrorKind::AlreadyExists.into()));
        }
        ring.add()?;
        Ok(ring)
    }

    /// Reads a ring.
    ///
    /// # Errors
    /// [`Error::Keys`], with `NotFound` where there is none; [`Error::NotAKey`].
    pub fn open(dir: &Path) -> Result<Self> {
        let ring = Self::load(FileStore::existing(dir).map_err(Error::Keys)?)?;
        if ring.lock().is_empty() {
            return Err(Error::Keys(io::ErrorKind::NotFound.into()));
        }
        Ok(ring)
    }
}

impl<S: WalStore> KeyRing<S> {
    /// Reads the keys in a store, which may have none.
    ///
    /// # Errors
    /// [`Error::Keys`], [`Error::NotAKey`].
    pub fn load(store: S) -> Result<Self> {
        let mut keys = BTreeMap::new();
        for name in store.list().map_err(Error::Keys)? {
            let Some(id) = name.strip_suffix(".key").and_then(|id| id.parse().ok()) else {
                continue;
            };
            let mut digits = Zeroizing::new([0; HEX_DIGITS]);
            let file = store.open(&name).map_err(Error::Keys)?;
            let read = file.read_at(0, digits.as_mut()).map_err(Error::Keys)?;
            let key = (read == HEX_DIGITS).then(|| from_hex(&digits)).flatten();
            keys.insert(id, key.ok_or(Error::NotAKey { id })?);
        }
        Ok(Self { store, keys: Mutex::new(keys) })
    }

    /// Draws another key, which is the active one when this returns. It is durable before anything
    /// can be encrypted with it. Returns its number.
    ///
    /// # Errors
    /// [`Error::Keys`]; the key before stays the active one.
    pub fn add(&self) -> Result<u32> {
        let mut keys = self.lock();
        let id = keys.last_key_value().map_or(1, |(id, _)| id + 1);
        let mut bytes = Zeroizing::new([0; 32]);
        self.store.random(bytes.as_mut()).map_err(Error::Keys)?;
        self.write(id, &to_hex(&bytes)).map_err(Error::Keys)?;
        keys.insert(id, Key::new(*bytes));
        Ok(id)
    }

    fn write(&self, id: u32, digits: &[u8; HEX_DIGITS]) -> io::Result<()> {
        let file = self.store.create(HEX_DIGITS as u64)?;
        file.write_at(0, digits)?;
        file.sync()?;
        self.store.publish(&file, &format!("{id}.key"))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Key>> {
        // Nobody leaves the keys half changed.
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: WalStore> KeyProvider for KeyRing<S> {
    fn active(&self) -> u32 {
        self.lock().last_key_value().map_or(0, |(id, _)| *id)
    }

    fn get(&self, id: u32) -> Option<Key> {
        self.lock().get(&id).cloned()
    }
}

fn to_hex(bytes: &[u8; 32]) -> Zeroizing<[u8; HEX_DIGITS]> {
    let digit = |half: u8| b"0123456789abcdef"[usize::from(half)];
    let mut digits = Zeroizing::new([0; HEX_DIGITS]);
    let (pairs, _) = digits.as_chunks_mut();
    for (pair, byte) in pairs.iter_mut().zip(bytes) {
        *pair = [digit(byte >> 4), digit(byte & 15)];
    }
    digits
}

fn from_hex(digits: &[u8; HEX_DIGITS]) -> Option<Key> {
    let half = |digit: u8| char::from(digit).to_digit(16).and_then(|half| u8::try_from(half).ok());
    let mut bytes = Zeroizing::new([0; 32]);
    let (pairs, _) = digits.as_chunks();
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = half(*high)? << 4 | half(*low)?;
    }
    Some(Key::new(*bytes))
}
