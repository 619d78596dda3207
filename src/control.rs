//! [`Control`]: the CONTROL file of an open log.
//!
//! Owns the descriptor that carries the log's lock, and which slot holds the newest claim. It
//! knows nothing of segments; whoever changes a claim answers for its truth.
//!
//! I1. One lock is held over each slot write *and its sync*, over the whole of
//!     [`witness_both`](Control::witness_both), and over the change in memory of what was
//!     claimed. So at most one slot is ever unsynced, and no claim is stale.
//! I2. A claim is written over the slot that does not hold the newest synced claim. After a
//!     failure the next claim overwrites that same slot.
//! I3. No I/O follows [`unlock`](Control::unlock).
//!
//! Running out of space in a slot write loses nothing and may be retried. Any other failure is
//! final, and a failure to sync always is: the caller poisons the log.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Result, WalError};
use crate::format::control::{CONTROL_BYTES, Claim, SLOT_OFFSETS, Slot, decode_slots};
use crate::format::{BLOCK_BYTES, name, put};
use crate::store::{StoreFile, WalStore};
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The CONTROL file, locked.
pub(crate) struct Control<S: WalStore> {
    path: PathBuf,
    slots: Mutex<Slots<S::File>>,
    /// The newest synced claim, readable while a slot is being written.
    claim: Mutex<Claim>,
    /// The claim's head, which a fork may read whatever lock other threads held.
    head: AtomicU64,
}

struct Slots<F> {
    /// `None` once the log's lock was given back.
    file: Option<F>,
    /// Generation of the newest synced claim, and which slot holds it.
    generation: u64,
    newest: usize,
    /// The other slot may say something that is not so, or not so any more: a write to it failed,
    /// or it was to say the same as the newest and does not.
    stale: bool,
}

impl<S: WalStore> fmt::Debug for Control<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("head", &self.head()).finish_non_exhaustive()
    }
}

impl<S: WalStore> Control<S> {
    /// Takes over a locked CONTROL file whose newest valid slot is `slot`, at index `newest`.
    pub(crate) fn adopt(file: S::File, path: PathBuf, newest: usize, slot: Slot) -> Self {
        let generation = slot.generation;
        let slots = Slots { file: Some(file), generation, newest, stale: false };
        let head = AtomicU64::new(slot.claim.head);
        Self { path, slots: Mutex::new(slots), claim: Mutex::new(slot.claim), head }
    }

    /// The oldest LSN that is kept. Takes no lock.
    pub(crate) fn head(&self) -> u64 {
        // ORDERING: Relaxed; pairs with nothing: the value alone is asked for. The claim's mutex
        // orders what depends on it.
        self.head.load(Ordering::Relaxed)
    }

    /// The newest synced claim.
    pub(crate) fn claim(&self) -> Claim {
        *self.claim.lock()
    }

    /// Changes the claim and makes it durable in one slot.
    pub(crate) fn witness(&self, change: impl FnOnce(&mut Claim)) -> Result<()> {
        let mut slots = self.slots.lock();
        let claim = self.changed(change);
        self.write_older(&mut slots, claim)
    }

    /// Changes the claim and makes it durable in both slots, so that no loss of one slot brings
    /// the old claim back.
    pub(crate) fn witness_both(&self, change: impl FnOnce(&mut Claim)) -> Result<()> {
        let mut slots = self.slots.lock();
        let claim = self.changed(change);
        self.write_older(&mut slots, claim)?;
        slots.stale = true;
        // DURABILITY: the new claim is durable; the other slot still holds the old one, which
        // counts only if the new slot is lost.
        self.write_older(&mut slots, claim)
    }

    /// Makes the other slot say what the newest does, if it may say something else that counts.
    pub(crate) fn complete(&self) -> Result<()> {
        let mut slots = self.slots.lock();
        if !slots.stale {
            return Ok(());
        }
        let claim = self.claim();
        self.write_older(&mut slots, claim)
    }

    /// Makes true on disk what was read: a page cache may show a slot that the disk never got.
    /// `bytes` are the whole file's, as read under the lock.
    ///
    /// DURABILITY: with one bad slot, the good one is not touched until the other is durable.
    /// With two valid ones, the winner's place gets the bytes that it seems to hold already: if
    /// the disk has them, tearing them changes nothing, and if it has not, the other slot is
    /// synced and counts.
    pub(crate) fn make_true(&self, bytes: &[u8]) -> Result<()> {
        let mut slots = self.slots.lock();
        let claim = self.claim();
        if decode_slots(bytes).iter().all(Result::is_ok) {
            let offset = SLOT_OFFSETS.get(slots.newest).copied().unwrap_or_default();
            let from = usize::try_from(offset).unwrap_or_default();
            let own = bytes.get(from..).and_then(|rest| rest.first_chunk::<BLOCK_BYTES>());
            if let Some(own) = own {
                self.write_and_sync(&slots, offset, own)?;
            }
        }
        self.write_older(&mut slots, claim)
    }

    /// Gives the log's lock back. Nothing is written afterwards.
    ///
    /// Explicitly, because a descriptor that a fork has inherited would keep the lock; and where
    /// that fails, closing the descriptor is what is left to do.
    pub(crate) fn unlock(&self, store: &S) {
        let file = self.slots.lock().file.take();
        if let Some(file) = file {
            store.unlock(&file).ok();
        }
    }

    /// Gives the locked file back.
    pub(crate) fn into_file(self) -> Option<S::File> {
        self.slots.lock().file.take()
    }

    fn changed(&self, change: impl FnOnce(&mut Claim)) -> Claim {
        let mut claim = self.claim();
        let known = claim.newest_seq;
        change(&mut claim);
        // Whoever moves the head past `durable` has made everything below it durable first.
        claim.durable = claim.durable.max(claim.head);
        // Sequence numbers only rise, and a segment once acknowledged stays so. A claim that
        // forgot one would have recovery clip `durable` to that segment's base.
        claim.newest_seq = claim.newest_seq.max(known);
        claim
    }

    fn write_older(&self, slots: &mut Slots<S::File>, claim: Claim) -> Result<()> {
        let older = 1 - slots.newest.min(1);
        let generation = slots.generation.saturating_add(1);
        let block = Slot { generation, claim }.encode();
        let offset = SLOT_OFFSETS.get(older).copied().unwrap_or_default();
        // After an error any of the new bytes may be there.
        slots.stale = true;
        self.write_and_sync(slots, offset, &block)?;
        slots.generation = generation;
        slots.newest = older;
        slots.stale = false;
        *self.claim.lock() = claim;
        // ORDERING: Relaxed; pairs with nothing, because who reads it asks for the value alone.
        self.head.store(claim.head, Ordering::Relaxed);
        Ok(())
    }

    fn write_and_sync(&self, slots: &Slots<S::File>, offset: u64, block: &[u8]) -> Result<()> {
        let file = slots.file.as_ref().ok_or(WalError::Closed)?;
        file.write_at(offset, block).map_err(|e| WalError::io_or_full("write", &self.path, e))?;
        // DURABILITY: a crash here tears at most this slot; the other one is synced and whole.
        file.sync().map_err(|e| WalError::io("sync", &self.path, e))
    }
}

/// Makes the CONTROL file of a new log, locks it, and gives it its name. `None` when there is one
/// already: the caller looks again.
///
/// DURABILITY: a crash before the name is durable leaves no log, or a leftover without a name. A
/// crash after it leaves a creation that any open completes.
pub(crate) fn create<S: WalStore>(store: &S, claim: Claim) -> Result<Option<S::File>> {
    let path = store.locate(name::CONTROL);
    let mut bytes = vec![0; CONTROL_BYTES];
    put(&mut bytes, 0, &Slot { generation: 1, claim }.encode());
    put(&mut bytes, CONTROL_BYTES / 2, &Slot { generation: 2, claim }.encode());
    store.sync_place().map_err(|e| WalError::io("sync", &store.locate(""), e))?;
    let length = u64::try_from(bytes.len()).unwrap_or_default();
    let file = store.create(length).map_err(|e| WalError::io_or_full("create", &path, e))?;
    file.write_at(0, &bytes).map_err(|e| WalError::io_or_full("write", &path, e))?;
    lock(store, &file, &path)?;
    file.sync().map_err(|e| WalError::io("sync", &path, e))?;
    match store.publish(&file, name::CONTROL) {
        Ok(()) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
        // The holder of a log's lock sweeps what has no name: there is a log by now.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(WalError::io_or_full("publish", &path, error)),
    }
}

/// Makes both slots of a locked CONTROL file hold `claim`, whatever it held: `bytes`, as read under
/// the lock.
///
/// DURABILITY: the slot that counts is overwritten last. A crash before the first of them is
/// synced leaves what counted before; a crash after it leaves the claim, or what is refused as
/// before because the other slot still contradicts it.
pub(crate) fn rewrite<F: StoreFile>(
    file: &F,
    path: &Path,
    bytes: &[u8],
    claim: Claim,
) -> Result<()> {
    let found = decode_slots(bytes).map(|slot| slot.map_or(0, |slot| slot.generation));
    let [first, second] = found;
    let order = if first <= second { [0, 1] } else { [1, 0] };
    let newest = first.max(second);
    // A generation that no log reaches is no order to keep.
    let mut generation = if newest < u64::MAX >> 2 { newest } else { 0 };
    for index in order {
        generation = generation.saturating_add(1);
        let block = Slot { generation, claim }.encode();
        let offset = SLOT_OFFSETS.get(index).copied().unwrap_or_default();
        file.write_at(offset, &block).map_err(|e| WalError::io_or_full("write", path, e))?;
        file.sync().map_err(|e| WalError::io("sync", path, e))?;
    }
    Ok(())
}

/// Takes the log's lock.
pub(crate) fn lock<S: WalStore>(store: &S, file: &S::File, path: &Path) -> Result<()> {
    match store.lock(file) {
        Ok(true) => Ok(()),
        Ok(false) => Err(WalError::Locked { path: path.to_path_buf() }),
        Err(error) => Err(WalError::io("lock", path, error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemStore;

    fn control() -> (MemStore, Control<MemStore>) {
        let store = MemStore::new();
        let snapshot = u64::MAX;
        let (newest_seq, clean) = (1, false);
        let claim = Claim { log_id: [1; 16], newest_seq, head: 0, snapshot, durable: 8, clean };
        let file = create(&store, claim).unwrap().unwrap();
        let slot = Slot { generation: 2, claim };
        (store.clone(), Control::adopt(file, store.locate(name::CONTROL), 1, slot))
    }

    fn slots(store: &MemStore) -> [Slot; 2] {
        decode_slots(&store.snapshot().files()[name::CONTROL]).map(|slot| slot.unwrap())
    }

    #[test]
    fn a_witness_overwrites_the_older_slot_and_only_that() {
        let (store, control) = control();
        for generation in 3..9 {
            let before = slots(&store);
            control.witness(|claim| claim.durable += 8).unwrap();
            let after = slots(&store);
            let newest = after.iter().position(|slot| slot.generation == generation).unwrap();
            assert_eq!(after[newest].claim, control.claim());
            assert_eq!(after[1 - newest], before[1 - newest]);
            assert_eq!(before[1 - newest].generation, generation - 1);
        }
    }

    #[test]
    fn witnessing_in_both_slots_leaves_no_older_claim() {
        let (store, control) = control();
        control.witness_both(|claim| claim.head = 8).unwrap();
        assert_eq!(slots(&store).map(|slot| slot.claim), [control.claim(); 2]);
    }

    #[test]
    fn a_claim_keeps_durable_at_head_and_never_forgets_a_segment() {
        let (_, control) = control();
        control
            .witness(|claim| {
                claim.head = 800;
                claim.newest_seq = 0;
            })
            .unwrap();
        let claim = control.claim();
        assert_eq!((claim.head, claim.durable, claim.newest_seq), (800, 800, 1));
    }

    #[test]
    fn a_log_that_is_there_is_not_created_again() {
        let (store, control) = control();
        assert!(create(&store, control.claim()).unwrap().is_none());
        assert_eq!(slots(&store).map(|slot| slot.generation), [1, 2]);
    }
}
