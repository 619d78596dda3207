//! A write-ahead log for database engines: many threads share one [`Wal`], append without locks,
//! and share fsyncs.
//!
//! The log is an endless sequence of bytes; an [`Lsn`] is a position in it. Appenders reserve
//! byte ranges with one atomic `fetch_add` and copy frames they have encoded beforehand into a
//! ring. A *cohort* is the set of commits that one fsync makes durable: committers lead or join
//! one, so that N threads that commit at once pay for one sync, not for N.
//!
//! ```
//! use std::sync::Arc;
//! use std::thread;
//!
//! use cohort_wal::Wal;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path().join("log");
//! let wal = Arc::new(Wal::open(&dir)?);
//! let committers = (0..4).map(|account| {
//!     let wal = Arc::clone(&wal);
//!     thread::spawn(move || wal.append_and_sync(format!("credit {account}").as_bytes()))
//! });
//! for committer in committers.collect::<Vec<_>>() {
//!     committer.join().unwrap()?;
//! }
//! wal.close()?;
//!
//! let mut records = 0;
//! for record in Wal::open(&dir)?.iter()? {
//!     assert!(record?.starts_with(b"credit "));
//!     records += 1;
//! }
//! assert_eq!(records, 4);
//! # Ok(())
//! # }
//! ```
//!
//! # Guarantees
//!
//! | promise | given by | survives |
//! |---|---|---|
//! | buffered | `append`, `append_vectored`, `append_batch` | nothing yet; the order is fixed |
//! | flushed | `flush`, `rotate`; `iter`, unless the log is poisoned | death of the process |
//! | durable | `sync`, `wait_durable`, `append_and_sync`, `append_batch_and_sync`, `close`; `durable` when it is ready, `on_durable` when it calls, `follow` for what it yields | power loss |
//!
//! Records come back in LSN order, a batch whole or not at all, and nothing that was not
//! appended. Damage to what was acknowledged is refused with [`WalError::Corruption`], never cut
//! away; the one limit is that damage confined to what the last two cohorts wrote can look like a
//! torn tail. What is refused can be read past its damage ([`WalOptions::salvage`]) and made to
//! open again ([`repair`](repair())). A failed write or sync poisons the log: nothing is
//! acknowledged afterwards, nobody waits for ever, nothing is retried.
//!
//! # Progress
//!
//! | operation | progress | system calls | waits for |
//! |---|---|---|---|
//! | `append`, `append_vectored`, `append_batch`, ring has room | lock-free | none | nothing |
//! | the same, ring full | blocking | write | the write stage; at the bound on unsynced bytes, a sync |
//! | the same, above the ring's limit | blocking | write | open reservations, the write stage |
//! | `flush`, `iter`, `iter_from`, `rotate` | blocking | write | the write stage; at the bound on unsynced bytes or segments, a sync |
//! | `sync`, `wait_durable`, `append_and_sync` | blocking | write, fdatasync | one sync, two if one was under way |
//! | the same, already durable | lock-free | none | nothing |
//! | `durable`, `on_durable`, polling a [`Durable`] | blocking for a few instructions | none, the first time a thread's start; a wake-up where nobody syncs | a lock that is held for no I/O |
//! | a [`Follow`] that has records to read | blocking | read | nothing |
//! | `end_lsn`, `durable_lsn`, `stats` | lock-free | none | nothing |
//! | `truncate_before` | blocking | read, fdatasync, unlink | one sync, two of CONTROL |
//! | `checkpoint` | blocking | read, write, fdatasync, unlink | one sync, one of the image, two of CONTROL |
//! | `truncate_after`, `truncate_from`, `rotate_key` | blocking, and appends wait for it | read, write, fdatasync, unlink | a sync, three of the new segment, two of CONTROL |
//! | `close`, drop | blocking | write, fdatasync | open reservations, a sync |
//!
//! # What a call returns in which state
//!
//! | method | poisoned | disk full | closed |
//! |---|---|---|---|
//! | `append` and its kin | `Poisoned` | `Ok` until the ring is full, then `StorageFull` | `Closed` |
//! | `flush`, `sync`, `rotate`, `checkpoint`, truncations | `Poisoned` | `StorageFull`, once per call | `Closed` |
//! | `wait_durable` | `Ok` if durable, else `Poisoned` | `Ok` if durable, else `StorageFull` | `Closed` |
//! | a [`Durable`] made before, a callback registered before | `Ok` if durable, else `Poisoned` | `Ok` if durable, else `StorageFull` | `Ok` if durable, else `Closed` |
//! | `durable`, `on_durable` | the same | the same | `Closed` |
//! | a [`Follow`] | what is durable, then `Poisoned` | goes on when there is space | what is durable, then `Closed` |
//! | `iter`, `iter_from` | what is durable | `StorageFull` while appended bytes cannot be written | `Closed` |
//! | `head_lsn`, `end_lsn`, `durable_lsn`, `last_lsn`, `stats`, `recovery`, `poisoned` | a value | a value | a value |
//! | `close` | `Poisoned`, and the lock is released | `StorageFull`, call again | `Ok` |
//!
//! # Cargo features
//!
//! None is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `aead` | `WalOptions::encryption`, `require_encryption`, `Wal::rotate_key`: encryption at rest |
//! | `bytes` | `Record::into_bytes`, `RecordRef::to_bytes`: payloads as `bytes::Bytes`, not copied |
//! | `crc-fast` | another implementation of the same checksums: faster replay |
//! | `lz4` | `WalOptions::compression`: records are stored compressed where that saves space |
//! | `metrics` | counters and histograms of writes, syncs and commits, `cohort_wal.*` |
//! | `postcard` | `Wal::append_typed`, `Record::decode`: records of any type with `serde` |
//! | `stream` | a [`Follow`] is a `futures_core::Stream` |
//! | `sim` | `SimStore`: a simulated disk, to crash-test what is built on a log |
//! | `tracing` | spans of opening, writing, syncing and rotating; events when closed or poisoned |
//!
//! Subscribers and recorders are told nothing per append. They may panic; what they ask of the log
//! that they are told of fails with [`WalError::Reentrant`], and while they hold a lock of their
//! own they must call no log.
//!
//! `append_typed` promises what `append` does and is of its kin in the tables above. The value's
//! `Serialize` implementation runs before anything is reserved.
//!
//! # What it is not
//!
//! No database, no replication, no index over records. Without encryption, no protection against
//! somebody who can write to its files. One process at a time has a log open for writing.

mod checksum;
mod codec;
mod commit;
mod compress;
mod control;
mod crypt;
mod error;
mod flush;
mod format;
pub mod inspect;
mod lsn;
mod observe;
mod options;
mod reader;
mod recovery;
mod ring;
mod scan;
mod segments;
mod snapshot;
mod stats;
mod store;
mod sync;
mod wal;

#[cfg(all(loom, feature = "loom"))]
#[doc(hidden)]
pub mod __loom {
    pub use crate::flush::model::{Fault, Model, Notice};
    pub use crate::ring::TailModel;
}

#[cfg(feature = "lz4")]
pub use compress::Compression;
#[cfg(feature = "aead")]
pub use crypt::{Key, KeyProvider};
pub use error::{Result, WalError};
pub use lsn::Lsn;
pub use options::{Gather, Preallocate, WalOptions};
pub use reader::{Follow, Record, RecordRef, Salvage, SegmentInfo, Stopper, WalIter, WalReader};
pub use recovery::{
    RecoveryReport, Repair, RepairCopy, RepairEffect, RepairReport, repair, repair_store,
};
pub use snapshot::{Snapshot, Snapshots};
pub use stats::{Histogram, WalStats};
pub use store::{FileHandle, FileStore, MemFile, MemSnapshot, MemStore, StoreFile, WalStore};
pub use wal::{Durable, Wal};

#[cfg(feature = "sim")]
pub use sim::SimStore;

/// A simulated disk, to crash-test what keeps its data in a log: feature `sim`.
#[cfg(feature = "sim")]
pub mod sim {
    pub use crate::store::sim::{
        PowerLosses, Profile, SimCall, SimFault, SimFaultKind, SimFile, SimStore,
    };
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
