//! A reader of logs that was written from `docs/FORMAT.md` alone and shares no code with the crate.
//!
//! Takes the files of a log as values, and says what a reader can say of them: the records with
//! their LSNs, the snapshot that counts, the head, the end, and whether the end is torn or the log
//! is damaged. Slow and plain: every file is in memory, every byte is looked at.

#![allow(dead_code, reason = "each test binary uses some of it")]

pub(crate) mod block;
pub(crate) mod chain;
pub(crate) mod frame;
pub(crate) mod image;
pub(crate) mod log;
pub(crate) mod lz4;
pub(crate) mod seal;

use std::collections::BTreeMap;

pub(crate) use log::{Verdict, read};

/// The files of a directory, by name.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

/// The caller's keys, by id.
pub(crate) type Keys = BTreeMap<u32, [u8; 32]>;

/// Why nothing can be said of a log, or of a part of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No file of a log is there.
    NoLog,
    /// Of a newer version: the name of the file that says so.
    Newer(String),
    /// The key of this file is not there, or another one.
    WrongKey(String),
    /// Damage of a file, and why.
    Damage(String, &'static str),
    /// Not made by a holder of the key.
    Tampered(u64),
}

/// The little-endian number of `len` bytes at an offset.
pub(crate) fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// CRC32C of all parts, one after another.
pub(crate) fn crc(parts: &[&[u8]]) -> u64 {
    u64::from(parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part)))
}

pub(crate) fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}
