//! Whole logs under schedules that can be repeated: empty unless built with `--cfg shuttle`.
//!
//! A *history* is a few lives of a log: threads at work on a disk, faults, a crash at any store
//! call, and a recovery that the oracles of `simulation` judge. Every choice in it, the
//! schedule included, comes from the history, so that it can be repeated exactly.

#![cfg(shuttle)]
#![allow(clippy::missing_panics_doc, reason = "a test fails by panicking")]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

pub mod disk;
pub mod fault;
pub mod generate;
pub mod history;
pub mod ledger;
pub mod machine;
pub mod notify;
pub mod schedule;
pub mod work;
