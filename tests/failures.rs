//! Every store call failing in every way, crowds on a small ring, and stores that call back.
//!
//! Method: a log over a disk in memory that keeps what was synced apart from what was written
//! ([`power`]), behind a script that makes chosen calls fail ([`faulty`]). The sweep of [`calls`]
//! visits every call of a fixed workload; `COHORT_WAL_EXHAUSTIVE=1` makes it visit each one in each
//! way (`COHORT_WAL_EXHAUSTIVE=1 cargo test --release --test failures`), otherwise it takes every
//! n-th and says so. Nothing may hang: every run has ten seconds.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

#[path = "failures/calls.rs"]
mod calls;
#[path = "failures/crowd.rs"]
mod crowd;
#[path = "failures/drops.rs"]
mod drops;
#[path = "failures/ledger.rs"]
mod ledger;
#[path = "failures/power.rs"]
mod power;
#[path = "failures/reading.rs"]
mod reading;
#[path = "failures/reentrant.rs"]
mod reentrant;
