//! A key-value database on one log, for the clients of Redis.
//!
//! Read it from the inside out: [`change`] is what the log holds; [`db`] are the tables, where the
//! order of the log is made the order of the changes; [`image`] is the checkpoint that is written
//! while the writers go on; [`resp`] and [`command`] are the protocol; `worker` is where
//! replies wait for their fsync, and [`server`] is what connections share.
//!
//! What a client may rely on: no reply leaves before all that it says is durable. That goes for
//! the OK to a write, and for what a read has seen, also of somebody else's writes.

pub mod change;
pub mod client;
pub mod command;
mod connection;
pub mod db;
pub mod image;
mod outbox;
pub mod resp;
pub mod server;
pub mod torture;
mod worker;

pub use db::Db;
pub use server::Server;
