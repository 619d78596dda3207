//! What the log holds: one record for each key that a command changed.
//!
//! A record says what became of a key, never what was asked for: to apply it twice is to apply it
//! once. The checkpoint relies on that.

use std::fmt;
use std::io;

/// One change, as a record of the log.
///
/// | byte 0 | then |
/// |---|---|
/// | `S` | length of the key as a little-endian `u32`, key, value |
/// | `D` | key |
/// | `C` | nothing: every key is gone |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// The key has this value now.
    Set(&'a [u8], &'a [u8]),
    /// The key is gone.
    Delete(&'a [u8]),
    /// Every key is gone.
    Clear,
}

/// A record that this program has not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAChange;

impl fmt::Display for NotAChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a record is no change of a key: the log is of another program")
    }
}

impl std::error::Error for NotAChange {}

impl From<NotAChange> for io::Error {
    fn from(error: NotAChange) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl<'a> Change<'a> {
    /// The record.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::Set(key, value) => [b"S", &key_bytes(key).to_le_bytes()[..], key, value].concat(),
            Self::Delete(key) => [b"D", key].concat(),
            Self::Clear => b"C".to_vec(),
        }
    }

    /// The change that a record stands for.
    ///
    /// # Errors
    /// [`NotAChange`].
    pub fn decode(record: &'a [u8]) -> Result<Self, NotAChange> {
        match record.split_first().ok_or(NotAChange)? {
            (b'S', rest) => {
                let (length, rest) = rest.split_first_chunk().ok_or(NotAChange)?;
                let length = u32::from_le_bytes(*length) as usize;
                let (key, value) = rest.split_at_checked(length).ok_or(NotAChange)?;
                Ok(Self::Set(key, value))
            }
            (b'D', key) => Ok(Self::Delete(key)),
            (b'C', []) => Ok(Self::Clear),
            _ => Err(NotAChange),
        }
    }
}

/// The length of a key or a value, which the protocol keeps far below 4 GiB.
pub(crate) fn key_bytes(bytes: &[u8]) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_its_encoding_and_nothing_else_passes_for_one() {
        for change in [Change::Set(b"k", b""), Change::Set(b"", b"v"), Change::Delete(b"k")] {
            assert_eq!(Change::decode(&change.encode()), Ok(change));
        }
        for record in [&b""[..], b"S", b"S\x09\0\0\0short", b"C more", b"X"] {
            assert_eq!(Change::decode(record), Err(NotAChange), "{record:?}");
        }
    }
}
