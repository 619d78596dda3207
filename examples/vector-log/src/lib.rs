//! The log of a vector database, encrypted: what happened to its collections and points since its
//! segment files and its index were last brought up to date.
//!
//! [`VectorLog`] appends [`Change`]s to one [`Wal`](cohort_wal::Wal) that many threads share, and
//! acknowledges each when it is durable. [`VectorLog::replay`] gives them back. A checkpoint record
//! says how far the files of the database have come, and with which manifest. [`KeyRing`] holds the
//! keys, [`Collections`] is what the changes lead to.

mod collections;
mod error;
mod keys;
mod log;
mod record;
pub mod workload;

pub use collections::{Collection, Collections, Point};
pub use error::{Error, Result};
pub use keys::KeyRing;
pub use log::{Checkpoint, Opening, Torn, VectorLog};
pub use record::{Batch, Change, Vector};
