//! Checkpoints: an image of all shards, written while everybody goes on.
//!
//! The image is fuzzy. It is made at an LSN, has everything below it, and may have some of what
//! came later, because the shards are copied one after the other. That is no harm on two
//! conditions:
//!
//! I1. Everything below the LSN is in the image: the LSN is read first. Whoever appended below it
//!     held the lock of its shard from then until the table had the change, so that this shard is
//!     copied after that.
//! I2. Nothing is in the image that the log might lose: before the image counts, everything in it
//!     is made durable in the log. Recovery then replays from the LSN on, in order and to an end
//!     that lies behind everything the image has, and a replay sets every key that the image has
//!     too early once more. Without this, a power loss could leave half a transaction: the half in
//!     shards that were copied late.
//!
//! One entry of the image: the lengths of key and value as little-endian `u32`, key, value.

use std::io::{self, Read, Write};
use std::sync::Arc;

use cohort_wal::{Result, WalStore};

use crate::change::key_bytes;
use crate::db::{Bytes, Db};

impl<S: WalStore> Db<S> {
    /// Lets an image take the place of the log up to now; returns its bytes.
    ///
    /// # Errors
    /// Those of [`Wal::checkpoint`](cohort_wal::Wal::checkpoint): the checkpoint before counts.
    pub fn checkpoint(&self) -> Result<u64> {
        let (lsn, mut bytes) = (self.wal.end_lsn(), 0);
        self.wal.checkpoint(lsn, |mut image| {
            bytes = self.write_image(&mut image)?;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Writes all shards, and makes durable what was written; returns the bytes.
    ///
    /// # Errors
    /// Those of the log and of `image`.
    pub fn write_image(&self, image: &mut impl Write) -> io::Result<u64> {
        let mut bytes = 0;
        for shard in &self.shards {
            // Pointers are copied under the lock, bytes without it.
            let entries: Vec<(Bytes, Bytes)> = {
                let shard = shard.lock();
                let entries = shard.entries.iter();
                entries.map(|(key, entry)| (Arc::clone(key), Arc::clone(&entry.value))).collect()
            };
            for (key, value) in entries {
                image.write_all(&key_bytes(&key).to_le_bytes())?;
                image.write_all(&key_bytes(&value).to_le_bytes())?;
                image.write_all(&key)?;
                image.write_all(&value)?;
                bytes += (8 + key.len() + value.len()) as u64;
            }
        }
        // DURABILITY: what the image shows, and the log might still lose.
        self.wal.sync()?;
        Ok(bytes)
    }

    /// Fills the tables from an image.
    pub(crate) fn read_image(&self, image: &mut impl Read) -> io::Result<()> {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        loop {
            let mut lengths = [0; 8];
            let begin = image.read(&mut lengths[..1])?;
            if begin == 0 {
                return Ok(());
            }
            image.read_exact(&mut lengths[1..])?;
            let (key_length, value_length) = lengths.split_at(4);
            read(image, key_length, &mut key)?;
            read(image, value_length, &mut value)?;
            self.restore(&key, Some(&value));
        }
    }
}

fn read(image: &mut impl Read, length: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
    let length = length.try_into().map(u32::from_le_bytes).map_err(io::Error::other)?;
    into.resize(length as usize, 0);
    image.read_exact(into)
}
