//! Crashes, faults and damage for cohort-wal on a simulated disk, and the oracles that judge
//! them.

#![allow(clippy::cast_possible_truncation, reason = "a 64-bit machine simulates")]

pub mod calls;
pub mod damage;
pub mod dice;
pub mod enumerate;
pub mod history;
pub mod oracle;
pub mod record;
mod sealed;
pub mod workload;
