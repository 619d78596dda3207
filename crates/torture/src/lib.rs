//! Rigs that put cohort-wal on the real kernel and take the disk away from it. Linux only.

#![cfg(target_os = "linux")]

pub mod blocks;
pub mod cuts;
pub mod device;
pub mod disk;
pub mod inject;
pub mod ledger;
pub mod limits;
pub mod worker;
