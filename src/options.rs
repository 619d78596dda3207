//! [`WalOptions`]: limits and policies of a log, validated when it is opened.

mod form;

use std::time::Duration;

#[cfg(feature = "lz4")]
use crate::compress::Compression;
use crate::crypt::Keys;
use crate::error::{Result, WalError};
use crate::format::frame::frame_bytes;
use crate::lsn::{ALIGNMENT, LSN_LIMIT, Lsn};

pub(crate) use form::Form;

const MIN_SEGMENT_BYTES: u64 = 16 << 10;
const MAX_SEGMENT_BYTES: u64 = 1 << 40;
const MIN_RING_BYTES: usize = 64 << 10;
const MAX_RING_BYTES: usize = 1 << 36;
const MAX_BATCH_BYTES: u64 = 1 << 40;

/// Whether a commit leader waits a moment for the committers it just released, so that they share
/// the next sync instead of splitting into two halves that take turns. With more than one core a
/// leader that waits yields for up to a millisecond before it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gather {
    /// Wait at most a small fraction of the measured sync time, and only while that pays.
    #[default]
    Adaptive,
    /// Never wait.
    Off,
    /// Wait at most this long whenever company is expected.
    Window(Duration),
}

/// Whether segments are zero-filled a little ahead of the write position, so that a sync of
/// small commits overwrites bytes the file already has and commits no file-system metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Preallocate {
    /// Where the store says that it pays.
    #[default]
    Auto,
    /// Always.
    Zeroed,
    /// Never.
    Off,
}

/// Options of a log: an owned builder, checked by the method that opens the log.
///
/// Sizes are in bytes. Limits apply to what this handle appends; a log written with other limits
/// is read all the same.
///
/// ```
/// use cohort_wal::{MemStore, WalError, WalOptions};
///
/// # fn main() -> cohort_wal::Result<()> {
/// let wal = WalOptions::new().segment_bytes(1 << 20).open_store(MemStore::new())?;
/// assert!(wal.is_empty());
///
/// let refused = WalOptions::new().ring_bytes(100_000).open_store(MemStore::new());
/// assert!(matches!(refused, Err(WalError::InvalidOption { name: "ring_bytes", .. })));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use = "options do nothing until a log is opened with them"]
pub struct WalOptions {
    pub(crate) segment_bytes: u64,
    pub(crate) ring_bytes: usize,
    pub(crate) max_record_bytes: u32,
    pub(crate) max_batch_bytes: u64,
    max_unsynced_bytes: Option<u64>,
    pub(crate) gather: Gather,
    pub(crate) preallocate: Preallocate,
    pub(crate) heartbeat: Option<Duration>,
    pub(crate) sync_interval: Option<Duration>,
    pub(crate) flush_interval: Option<Duration>,
    pub(crate) min_durable_lsn: Option<Lsn>,
    pub(crate) initial_lsn: Lsn,
    pub(crate) create: bool,
    pub(crate) create_new: bool,
    pub(crate) keys: Keys,
    #[cfg(feature = "lz4")]
    pub(crate) compression: Compression,
}

impl Default for WalOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl WalOptions {
    /// The defaults, as each method states them.
    pub fn new() -> Self {
        Self {
            segment_bytes: 64 << 20,
            ring_bytes: 16 << 20,
            max_record_bytes: 64 << 20,
            max_batch_bytes: 256 << 20,
            max_unsynced_bytes: None,
            gather: Gather::Adaptive,
            preallocate: Preallocate::Auto,
            heartbeat: None,
            sync_interval: None,
            flush_interval: None,
            min_durable_lsn: None,
            initial_lsn: Lsn::new(0),
            create: true,
            create_new: false,
            keys: Keys::default(),
            #[cfg(feature = "lz4")]
            compression: Compression::None,
        }
    }

    /// Size at which a new segment is begun. A soft limit: a larger record or batch gets a
    /// segment of its own. Default 64 MiB, minimum 16 KiB, maximum 1 TiB.
    pub fn segment_bytes(mut self, bytes: u64) -> Self {
        self.segment_bytes = bytes;
        self
    }

    /// Size of the ring that appended records wait in until they are written. A power of two;
    /// default 16 MiB, minimum 64 KiB. Records and batches above a small fraction of it bypass
    /// the ring and briefly hold up other appenders.
    pub fn ring_bytes(mut self, bytes: usize) -> Self {
        self.ring_bytes = bytes;
        self
    }

    /// The longest record that may be appended. Default 64 MiB, minimum 1.
    pub fn max_record_bytes(mut self, bytes: u32) -> Self {
        self.max_record_bytes = bytes;
        self
    }

    /// The largest batch that may be appended, frame headers and padding included. Default
    /// 256 MiB, minimum one empty record (16 bytes).
    pub fn max_batch_bytes(mut self, bytes: u64) -> Self {
        self.max_batch_bytes = bytes;
        self
    }

    /// Bound on bytes handed to the operating system but not yet durable, besides one record or
    /// batch. At the bound appenders and flushes wait for a sync. Default two segments.
    pub fn max_unsynced_bytes(mut self, bytes: u64) -> Self {
        self.max_unsynced_bytes = Some(bytes);
        self
    }

    /// Whether commit leaders wait for company. Default [`Gather::Adaptive`].
    pub fn gather(mut self, gather: Gather) -> Self {
        self.gather = gather;
        self
    }

    /// Once nothing was synced for this long, `CONTROL` is told how far the log is durable, by one
    /// write and one sync. Default off; a `close` always says so.
    ///
    /// It narrows what damage can pass for a torn tail: without a witness, what the last two
    /// cohorts wrote; behind a heartbeat, nothing below it. A thread sleeps for it from the first
    /// sync on, and wakes only after syncs.
    pub fn heartbeat(mut self, idle: Duration) -> Self {
        self.heartbeat = Some(idle);
        self
    }

    /// What is appended is durable within this time and that of one sync, or of two where a sync
    /// takes longer than this, though nobody asks. Default off.
    ///
    /// A thread sleeps for it from the first append on, syncs as long as there are appends, and is
    /// woken by the next one after that. [`WalError::StorageFull`] is returned by the next append,
    /// flush or sync, once, and the append after that starts the interval anew; every other failure
    /// poisons the log.
    pub fn sync_interval(mut self, interval: Duration) -> Self {
        self.sync_interval = Some(interval);
        self
    }

    /// What is appended is handed to the operating system within this time and that of a write.
    /// Default off. Otherwise as [`sync_interval`](Self::sync_interval).
    pub fn flush_interval(mut self, interval: Duration) -> Self {
        self.flush_interval = Some(interval);
        self
    }

    /// Whether segments are zero-filled ahead. Default [`Preallocate::Auto`].
    pub fn preallocate(mut self, preallocate: Preallocate) -> Self {
        self.preallocate = preallocate;
        self
    }

    /// An external witness: the record that starts at this LSN was acknowledged as durable, so a
    /// log without it is damaged and fails to open.
    pub fn min_durable_lsn(mut self, lsn: Lsn) -> Self {
        self.min_durable_lsn = Some(lsn);
        self
    }

    /// LSN of the first record of a new log; without effect on an existing one. A multiple of 8.
    /// Default 0.
    pub fn initial_lsn(mut self, lsn: Lsn) -> Self {
        self.initial_lsn = lsn;
        self
    }

    /// Whether a log is created where there is none. Default true; with false, opening fails
    /// with [`WalError::NotFound`].
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Whether the log must be new. Default false; with true, an existing log makes opening fail
    /// with [`WalError::AlreadyExists`].
    pub fn create_new(mut self, create_new: bool) -> Self {
        self.create_new = create_new;
        self
    }

    /// The bound on written but not durable bytes.
    pub(crate) fn max_unsynced(&self) -> u64 {
        self.max_unsynced_bytes.unwrap_or_else(|| self.segment_bytes.saturating_mul(2))
    }

    /// The largest unit of one reservation, in encoded bytes.
    pub(crate) fn max_unit(&self) -> u64 {
        self.max_batch_bytes.max(self.form().frame_bytes(u64::from(self.max_record_bytes)))
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |name, why| Err(WalError::InvalidOption { name, why });
        if !(MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes) {
            return refuse("segment_bytes", "must be between 16 KiB and 1 TiB");
        }
        if !self.ring_bytes.is_power_of_two()
            || !(MIN_RING_BYTES..=MAX_RING_BYTES).contains(&self.ring_bytes)
        {
            return refuse("ring_bytes", "must be a power of two between 64 KiB and 64 GiB");
        }
        if self.max_record_bytes == 0 {
            return refuse("max_record_bytes", "must be at least 1");
        }
        if !(frame_bytes(0)..=MAX_BATCH_BYTES).contains(&self.max_batch_bytes) {
            return refuse("max_batch_bytes", "must be between 16 bytes and 1 TiB");
        }
        if self.max_unsynced() == 0 || self.max_unsynced() >= LSN_LIMIT {
            return refuse("max_unsynced_bytes", "must be at least 1 and below 2^62");
        }
        if let Gather::Window(window) = self.gather
            && window > Duration::from_secs(1)
        {
            return refuse("gather", "window must be at most one second");
        }
        let times = [
            ("heartbeat", self.heartbeat),
            ("sync_interval", self.sync_interval),
            ("flush_interval", self.flush_interval),
        ];
        let zero = times.into_iter().find(|(_, time)| time.is_some_and(|t| t.is_zero()));
        if let Some((name, _)) = zero {
            return refuse(name, "must be longer than nothing");
        }
        let initial = self.initial_lsn.get();
        if !initial.is_multiple_of(ALIGNMENT) || initial >= LSN_LIMIT {
            return refuse("initial_lsn", "must be a multiple of 8 below 2^62");
        }
        if self.create_new && !self.create {
            return refuse("create_new", "contradicts create(false)");
        }
        if self.keys.are_required() && !self.keys.is_on() {
            return refuse("require_encryption", "needs the keys of `encryption`");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: &WalOptions) -> &'static str {
        match options.validate() {
            Err(WalError::InvalidOption { name, .. }) => name,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn senseless_options_are_refused_by_name() {
        let new = WalOptions::new;
        assert!(new().validate().is_ok());
        assert_eq!(refused(&new().segment_bytes(100)), "segment_bytes");
        assert_eq!(refused(&new().ring_bytes(65_537)), "ring_bytes");
        assert_eq!(refused(&new().ring_bytes(1024)), "ring_bytes");
        assert_eq!(refused(&new().max_record_bytes(0)), "max_record_bytes");
        assert_eq!(refused(&new().max_batch_bytes(8)), "max_batch_bytes");
        assert_eq!(refused(&new().max_unsynced_bytes(0)), "max_unsynced_bytes");
        assert_eq!(refused(&new().initial_lsn(Lsn::new(4))), "initial_lsn");
        assert_eq!(refused(&new().heartbeat(Duration::ZERO)), "heartbeat");
        assert_eq!(refused(&new().sync_interval(Duration::ZERO)), "sync_interval");
        assert_eq!(refused(&new().flush_interval(Duration::ZERO)), "flush_interval");
        assert_eq!(refused(&new().create(false).create_new(true)), "create_new");
        assert_eq!(refused(&new().gather(Gather::Window(Duration::from_secs(9)))), "gather");
    }
}
