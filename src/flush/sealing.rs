//! What frames are sealed with: the epoch that is appended in.
//!
//! It changes where the log is cut and nowhere else, while no reservation is open that could have
//! read it and none can be made.

use crate::crypt::{ActiveKey, Cipher};
use crate::format::frame::Seed;
use crate::segments::Epoch;
use crate::sync::{Arc, AtomicU32, CachePadded, Ordering, RwLock, RwLockReadGuard};

#[derive(Debug)]
pub(super) struct Sealing {
    /// The checksum state of the epoch.
    seed: CachePadded<AtomicU32>,
    /// No append waits for it: it is written while nobody has a reservation, and by one thread. Who
    /// has none, and asks for the key, may wait for that moment.
    cipher: RwLock<Option<Arc<Cipher>>>,
}

impl Sealing {
    pub(super) fn new(epoch: Epoch) -> Self {
        let seed = CachePadded::new(AtomicU32::new(epoch.seed.0));
        Self { seed, cipher: RwLock::new(epoch.cipher) }
    }

    /// The checksum state. From inside a reservation, or holding the pause.
    #[inline]
    pub(super) fn seed(&self) -> Seed {
        // ORDERING: Relaxed; the tail orders it: a cut stores it before it reopens the tail, and
        // waits before that for every reservation that may have read the old one.
        Seed(self.seed.load(Ordering::Relaxed))
    }

    /// The cipher. From inside a reservation, or holding the pause or the write stage.
    pub(super) fn cipher(&self) -> RwLockReadGuard<'_, Option<Arc<Cipher>>> {
        self.cipher.read()
    }

    /// The key of the epoch, if it is encrypted.
    pub(super) fn key(&self) -> Option<ActiveKey> {
        self.cipher.read().as_deref().map(|cipher| cipher.key().clone())
    }

    /// Begins another epoch, before the tail is reopened.
    pub(super) fn begin(&self, epoch: Epoch) {
        // ORDERING: Relaxed; pairs with `seed`, by way of the tail, which is reopened behind it
        // with Release. Otherwise a frame is sealed for the wrong epoch.
        self.seed.store(epoch.seed.0, Ordering::Relaxed);
        *self.cipher.write() = epoch.cipher;
    }
}
