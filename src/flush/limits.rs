//! [`Limits`]: what an engine is built with.

use std::time::Duration;

use crate::options::Gather;

/// What the engine is built with; sizes are in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) max_unsynced: u64,
    pub(crate) gather: Gather,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) flush_interval: Option<Duration>,
    pub(crate) sync_interval: Option<Duration>,
}

#[cfg(any(test, all(loom, feature = "loom")))]
impl Limits {
    pub(super) fn new(max_unsynced: u64, gather: Gather) -> Self {
        let (heartbeat, flush_interval, sync_interval) = (None, None, None);
        Self { max_unsynced, gather, heartbeat, flush_interval, sync_interval }
    }
}
