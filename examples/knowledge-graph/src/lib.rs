//! A knowledge graph whose only storage is a [`cohort_wal::Wal`].
//!
//! Entities have a kind and observations, and relations to each other. The graph is in memory
//! ([`Knowledge`]); what changes it is in the log ([`Change`]); an image in place of the log's
//! beginning keeps the log short. [`Graph`] holds the three together:
//!
//! * A change is checked, appended and applied under one lock, so that the order of the log is the
//!   order of the graph. Nobody waits for a disk under that lock: appending copies into a ring.
//! * A change is durable within the log's interval, or when [`Graph::sync`] returns.
//! * A merge is one batch in the log and one change of the graph: nobody ever sees half of it.
//! * A record of a kind that this program does not know is skipped and reported ([`Replay`]).
//!
//! ```
//! use std::sync::Arc;
//!
//! use cohort_wal::MemStore;
//! use knowledge_graph::{Graph, options};
//!
//! # fn main() -> knowledge_graph::Result<()> {
//! let disk = MemStore::new();
//! let (graph, _) = Graph::open(Arc::new(options().open_store(disk.clone())?))?;
//! graph.create("Ada Lovelace", "person")?;
//! graph.create("A. Lovelace", "person")?;
//! graph.observe("A. Lovelace", &["wrote Note G"])?;
//! graph.merge("A. Lovelace", "Ada Lovelace")?;
//! graph.close()?;
//!
//! let (graph, replay) = Graph::open(Arc::new(options().open_store(disk)?))?;
//! assert!(replay.unknown.is_empty());
//! let graph = graph.read();
//! assert!(graph.entity("Ada Lovelace").unwrap().observations.contains("wrote Note G"));
//! assert!(graph.entity("A. Lovelace").is_none());
//! # Ok(())
//! # }
//! ```

mod error;
mod graph;
mod knowledge;
mod record;
mod replay;

pub use error::{GraphError, Result};
pub use graph::{Graph, options};
pub use knowledge::{Edge, Entity, Knowledge};
pub use record::{Change, Envelope, MAX_NAME_BYTES, MAX_TEXT_BYTES};
pub use replay::{Replay, Unknown, look};
