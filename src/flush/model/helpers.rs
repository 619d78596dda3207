//! Models with helpers: they end with the log, so close it.

use std::time::Duration;

use super::{Limits, Model};
use crate::commit::{Demand, Ticket};
use crate::error::Result;
use crate::flush::Notices;
use crate::options::Gather;

/// What [`Model::append_and_notify`] registered.
#[derive(Debug)]
pub struct Notice(Option<Ticket>);

impl Model {
    /// A log that syncs on its own, an interval after an append.
    pub fn syncing(ring_bytes: usize, slots: usize, segment_bytes: u64, max_unsynced: u64) -> Self {
        let limits = Limits::new(max_unsynced, Gather::Off);
        let limits = Limits { sync_interval: Some(Duration::from_millis(1)), ..limits };
        Self::with(ring_bytes, slots, segment_bytes, limits)
    }

    /// Appends one record and has `call` called with its end when it is durable, or never will
    /// be; one that is quiet asks for no sync.
    pub fn append_and_notify(
        &self,
        quiet: bool,
        call: impl FnOnce(u64, Result<()>) + Send + 'static,
    ) -> Result<Notice> {
        let (_, end) = self.append_unit(&[b""])?;
        let demand = if quiet { Demand::Nothing } else { Demand::Sync };
        let call = Box::new(move |verdict| call(end.lsn, verdict));
        Ok(Notice(self.engine.notify(Ok(end), demand, call)))
    }

    /// How many writes found no space.
    pub fn refused(&self) -> usize {
        self.shared.disk.lock().refused
    }

    /// How many hold the log: its handles, and whoever is inside.
    pub fn holders(&self) -> usize {
        crate::sync::Arc::strong_count(&self.engine)
    }

    /// Takes a notice back.
    pub fn cancel(&self, notice: Notice) {
        if let Notice(Some(ticket)) = notice {
            self.engine.cancel(ticket);
        }
    }
}
