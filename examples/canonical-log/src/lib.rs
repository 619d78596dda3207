//! A canonical log: entries are appended, and count once a checkpoint record has committed them.
//!
//! Phase one appends entries, which are durable or not, and nobody's business yet. Phase two
//! appends a checkpoint record and waits until it is durable. Since the log comes back as a prefix
//! of what was appended, a checkpoint that is there has all its entries before it: one sync for
//! both phases, and no state in between. What stands behind the last checkpoint when the log is
//! opened is an orphan, and is cut.
//!
//! * [`record`]: what is logged.
//! * [`log`]: [`CanonicalLog`], what is promised.

mod error;
pub mod log;
pub mod record;

pub use error::{Error, Result};
pub use log::{CanonicalLog, Checkpoint};
