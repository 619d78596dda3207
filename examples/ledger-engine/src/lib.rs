//! A ledger on a write-ahead log: accounts, and transactions that move amounts between them.
//!
//! The amounts of a transaction add up to zero, and so do all balances. Whoever sees half of a
//! transaction sees another sum: every reader, every follower and every recovery checks it.
//!
//! * [`transaction`]: what is logged. A leg is a record, a transaction is a batch.
//! * [`book`]: the state, and its image in a snapshot.
//! * [`engine`]: posting, checkpoints, rolling back.
//! * [`auditor`]: a follower that builds the same state from the log.
//! * [`rescue`]: what can be read of a damaged log.
//! * [`workload`]: transactions whose effect can be checked by their number alone.

pub mod auditor;
pub mod book;
pub mod engine;
mod error;
pub mod rescue;
pub mod transaction;
pub mod workload;

pub use error::{Error, Result};
