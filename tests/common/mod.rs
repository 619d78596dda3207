//! What the integration tests share: a deadline for everything that could hang, records whose
//! bytes prove which record they are, and directories as values.

#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use cohort_wal::{Lsn, MemStore, Wal, WalOptions, WalStore};

/// The smallest segments and the smallest ring there are, so that both end often.
pub(crate) fn smallest() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

/// The files of a log with this ending.
pub(crate) fn names(store: &MemStore, ending: &str) -> Vec<String> {
    let mut names = store.list().unwrap();
    names.retain(|name| name.ends_with(ending));
    names
}

/// The LSN of the first frame of a segment, from the bytes of its file.
pub(crate) fn base(segment: &[u8]) -> u64 {
    u64::from_le_bytes(segment[72..80].try_into().unwrap())
}

/// Runs a test that could hang; fails it after 10 seconds.
pub(crate) fn deadline<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    deadline_of(10, test)
}

/// Runs a test that moves many bytes; fails it after so many seconds.
pub(crate) fn deadline_of<T: Send + 'static>(
    seconds: u64,
    test: impl FnOnce() -> T + Send + 'static,
) -> T {
    let (done, finished) = mpsc::channel();
    let test = thread::spawn(move || {
        let result = test();
        // The other end is gone only when the deadline has passed.
        done.send(()).ok();
        result
    });
    match finished.recv_timeout(Duration::from_secs(seconds)) {
        Err(RecvTimeoutError::Timeout) => panic!("still running after {seconds} s"),
        Ok(()) | Err(RecvTimeoutError::Disconnected) => {
            test.join().unwrap_or_else(|panic| resume_unwind(panic))
        }
    }
}

/// Joins all threads and collects what they return; a panic of one is a panic here.
pub(crate) fn join_all<T>(threads: Vec<thread::JoinHandle<T>>) -> Vec<T> {
    let join = |thread: thread::JoinHandle<T>| thread.join().unwrap_or_else(|p| resume_unwind(p));
    threads.into_iter().map(join).collect()
}

/// Which record a payload is: who appended it, and their how manieth it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id {
    pub(crate) owner: u64,
    pub(crate) number: u64,
}

pub(crate) const ID_BYTES: usize = 24;

/// A payload of `len` bytes (at least [`ID_BYTES`]), no byte of which can change unnoticed.
pub(crate) fn payload(id: Id, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&id.owner.to_le_bytes());
    bytes.extend_from_slice(&id.number.to_le_bytes());
    bytes.extend_from_slice(&u64::try_from(len).unwrap().to_le_bytes());
    let mut word = id.owner.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ id.number.rotate_left(32) | 1;
    while bytes.len() < len {
        word = word.wrapping_mul(0xD129_42F0_2C5B_3A65).rotate_left(17);
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Which record these bytes are; panics unless every byte is as it was appended.
pub(crate) fn identify(bytes: &[u8]) -> Id {
    let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
    let id = Id { owner: word(0), number: word(8) };
    assert_eq!(word(16), u64::try_from(bytes.len()).unwrap(), "length of {id:?}");
    assert!(bytes == payload(id, bytes.len()), "content of {id:?}");
    id
}

/// All records of a log with their LSNs, every byte checked, in the order they are read.
pub(crate) fn read_ids<S: WalStore>(wal: &Wal<S>) -> Vec<(Lsn, Id)> {
    let mut records = wal.iter().unwrap();
    let mut read = Vec::new();
    while let Some(record) = records.read_next() {
        let record = record.unwrap();
        read.push((record.lsn(), identify(record.data())));
    }
    assert!(read.is_sorted_by(|a, b| a.0 < b.0), "LSNs rise strictly");
    read
}

/// All payloads of a log, in order.
pub(crate) fn read_all<S: WalStore>(wal: &Wal<S>) -> Vec<Vec<u8>> {
    wal.iter().unwrap().map(|record| record.unwrap().into_data()).collect()
}

/// Every file of a directory, by name.
pub(crate) fn directory(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(path).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .collect()
}

/// The names of a directory's segments, oldest first.
pub(crate) fn segment_names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = directory(path).into_keys().collect();
    names.retain(|name| Path::new(name).extension().is_some_and(|e| e == "wal"));
    names
}

/// A small deterministic stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// A payload length: mostly small, now and then some thousand bytes.
    pub(crate) fn len(&mut self) -> usize {
        let len = match self.below(64) {
            0 => 1_500 + self.below(6_000),
            1..=8 => 24 + self.below(900),
            _ => 24 + self.below(120),
        };
        usize::try_from(len).unwrap()
    }
}
