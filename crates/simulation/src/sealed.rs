//! What simulated logs are opened with, plain or sealed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cohort_wal::{Compression, Key, KeyProvider, WalOptions};

static SEALED: AtomicBool = AtomicBool::new(false);

/// From here on every log is compressed and encrypted, and rotates its key where others begin a
/// segment.
pub fn seal() {
    SEALED.store(true, Ordering::Relaxed);
}

pub(crate) fn is_sealed() -> bool {
    SEALED.load(Ordering::Relaxed)
}

/// What runs this again.
pub(crate) fn command() -> &'static str {
    match is_sealed() {
        true => "cargo run --release -p simulation -- --sealed",
        false => "cargo run --release -p simulation --",
    }
}

struct OneKey;

impl KeyProvider for OneKey {
    fn active(&self) -> u32 {
        1
    }

    fn get(&self, id: u32) -> Option<Key> {
        (id == 1).then(|| Key::new([7; 32]))
    }
}

/// The options of every simulated log: the smallest ring and segments there are.
pub fn options() -> WalOptions {
    let options = WalOptions::new().ring_bytes(64 << 10).segment_bytes(16 << 10);
    match is_sealed() {
        true => options.compression(Compression::Lz4).encryption(Arc::new(OneKey)),
        false => options,
    }
}
