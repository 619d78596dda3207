//! A key-value state with a write-ahead log that is kept short by snapshots.
//!
//! The state mirrors something in the outside world: entries with opaque version tokens, and a
//! cursor that says how far the mirror has come. Every [`Change`] is a record of the log before it
//! counts, and a batch of changes counts as a whole or not at all, so that a cursor never runs
//! ahead of the entries that it stands for. When
//! [`Wal::live_bytes`](cohort_wal::Wal::live_bytes) passes a threshold, the caller has a snapshot
//! of the state take the place of the log's beginning.
//!
//! ```
//! use std::sync::Arc;
//!
//! use cohort_wal::{MemStore, WalOptions};
//! use kv_snapshot::{Store, Token};
//!
//! # fn main() -> kv_snapshot::Result<()> {
//! let disk = MemStore::new();
//! let store = Store::load(Arc::new(WalOptions::new().open_store(disk.clone())?), 1 << 20)?;
//! store.put("motd", Token::new(b"v7")?, b"hello")?;
//! store.compact()?;
//! store.set_cursor(b"page 12")?;
//! store.close()?;
//!
//! let store = Store::load(Arc::new(WalOptions::new().open_store(disk)?), 1 << 20)?;
//! assert_eq!(store.get("motd")?.unwrap().value(), b"hello");
//! assert_eq!(store.view()?.cursor(), Some(&b"page 12"[..]));
//! # Ok(())
//! # }
//! ```
//!
//! [`record`] has the bytes of a change, [`State`] is what all of them amount to, [`Store`] puts a
//! log before the state, and [`workload`] is what the demo writes and the tests check.

mod error;
pub mod record;
mod state;
mod store;
pub mod workload;

pub use error::{Error, Result};
pub use record::{Change, Key, Token};
pub use state::{Entry, State};
pub use store::{Compaction, Store};
