//! [`SimStore`]: a disk in memory that loses power, tears, reorders, fails and lies on demand.
//!
//! Owns a [`Disk`] and the faults that wait for it. Everything random comes from one seed, so that
//! a run on one thread can be repeated exactly.
//!
//! I1. What a crash leaves is a store of its own: handles of the store before it reach nothing in
//!     it, and what was locked is free.
//! I2. The mutex is held for the length of a call and never while other code runs, except in a
//!     call that panics on purpose.

mod disk;
mod fault;
mod handle;
mod loss;
mod losses;
mod open;
mod profile;
mod rng;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::PathBuf;

use self::disk::{Disk, Id, Landing};
use self::loss::Outcomes;
use self::profile::Rules;
use self::rng::{Fingerprint, Rng};
use super::MemSnapshot;
use crate::sync::{Arc, Mutex};

pub use fault::{SimCall, SimFault, SimFaultKind};
pub use handle::SimFile;
pub use losses::PowerLosses;
pub use profile::Profile;

/// A simulated disk: a [`WalStore`](super::WalStore) with separate cached and durable bytes.
///
/// Clones share the disk. Ordinary use shows nothing of the simulation: what was written is read
/// back. What is durable shows after [`power_loss`](Self::power_loss), which keeps everything that
/// was synced and any reachable part of the rest, as the [`Profile`] allows;
/// [`kill`](Self::kill) is the death of the process alone and keeps the cache.
/// [`inject`](Self::inject) makes calls fail, or lie.
///
/// Use it to crash-test a program that keeps its data in a log: run the program once while
/// [`record`](Self::record)ing, and let it recover from every state that a power loss could have
/// left at any of the recorded moments.
///
/// ```
/// use cohort_wal::sim::{Profile, SimStore};
/// use cohort_wal::WalOptions;
///
/// # fn main() -> cohort_wal::Result<()> {
/// let options = WalOptions::new().ring_bytes(64 << 10).segment_bytes(16 << 10);
/// let disk = SimStore::new(Profile::Ext4, 42);
/// let wal = options.clone().open_store(disk.clone())?;
/// wal.append_and_sync(b"paid")?;
///
/// disk.record();
/// wal.append(b"asked for")?;
/// wal.sync()?;
///
/// let mut states = 0;
/// for moment in disk.moments() {
///     for after in moment.power_losses(100) {
///         let recovered = options.clone().open_store(after)?;
///         let records: Vec<_> = recovered.iter()?.collect::<Result<_, _>>()?;
///         // What was acknowledged is there; what was not may be, or may not.
///         assert_eq!(records[0].data(), b"paid");
///         assert!(records.len() == 1 || records[1].data() == b"asked for");
///         states += 1;
///     }
/// }
/// assert!(states > 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SimStore(Arc<Mutex<State>>);

struct State {
    disk: Disk,
    profile: Profile,
    rules: Rules,
    rng: Rng,
    faults: Vec<SimFault>,
    injected: Vec<(SimCall, String)>,
    calls: BTreeMap<SimCall, u64>,
    bytes_read: u64,
    moments: Option<Vec<Disk>>,
    /// Open handles of each file.
    handles: BTreeMap<Id, usize>,
    locked: BTreeSet<Id>,
    /// Files that a crash left without a name.
    leftovers: usize,
    capacity: Option<u64>,
}

impl State {
    fn new(disk: Disk, profile: Profile, rules: Rules, rng: Rng) -> Self {
        Self {
            disk,
            profile,
            rules,
            rng,
            faults: Vec::new(),
            injected: Vec::new(),
            calls: BTreeMap::new(),
            bytes_read: 0,
            moments: None,
            handles: BTreeMap::new(),
            locked: BTreeSet::new(),
            leftovers: 0,
            capacity: None,
        }
    }

    /// Something has changed that a power loss could show.
    fn moment(&mut self) {
        if let Some(moments) = &mut self.moments {
            moments.push(self.disk.clone());
        }
    }

    /// The fault that strikes a call, if one does.
    fn strike(&mut self, call: SimCall, name: impl Fn(&Disk) -> String) -> Option<SimFaultKind> {
        *self.calls.entry(call).or_default() += 1;
        let mut struck = None;
        self.faults.retain_mut(|fault| match struck {
            Some(_) => true,
            None => {
                struck = fault.strikes(call);
                struck.is_none() || fault.is_sticky()
            }
        });
        if struck.is_some() {
            self.injected.push((call, name(&self.disk)));
        }
        struck
    }

    /// The numbers of a lie of the device, which take none from those that the log is given: with
    /// lies and without them the log writes the same.
    fn lie(&self) -> Rng {
        self.rng.stream(self.calls.values().sum())
    }

    /// Files that nobody can reach any more are gone.
    fn collect(&mut self) {
        let Self { disk, handles, .. } = self;
        disk.collect(|id| handles.contains_key(id));
    }

    /// Whether `more` bytes fit.
    fn has_room(&self, more: u64) -> bool {
        self.capacity.is_none_or(|capacity| self.disk.used().saturating_add(more) <= capacity)
    }

    fn kill(&self, index: u64) -> SimStore {
        self.detached(self.disk.clone(), index)
    }

    fn detached(&self, disk: Disk, index: u64) -> SimStore {
        let mut state = Self::new(disk, self.profile, self.rules, self.rng.stream(index));
        // Nothing is open any more.
        let nameless: Vec<_> = state.disk.inodes.iter().filter(|(_, i)| !i.published).collect();
        state.leftovers = nameless.len();
        let nameless: BTreeSet<_> = nameless.into_iter().map(|(id, _)| *id).collect();
        state.disk.collect(|id| nameless.contains(id));
        state.capacity = self.capacity;
        SimStore(Arc::new(Mutex::new(state)))
    }
}

impl SimStore {
    /// An empty disk.
    #[must_use]
    pub fn new(profile: Profile, seed: u64) -> Self {
        Self::from_snapshot(MemSnapshot::default(), profile, seed)
    }

    /// A disk with these files, all of them durable.
    #[must_use]
    pub fn from_snapshot(snapshot: MemSnapshot, profile: Profile, seed: u64) -> Self {
        let files = snapshot.into_files();
        let place_is_durable = !files.is_empty();
        let files = files.into_iter().map(|(name, bytes)| (name.into(), Arc::new(bytes)));
        let mut disk = Disk::settled(files);
        disk.place_is_durable = place_is_durable;
        let state = State::new(disk, profile, profile.rules(), Rng::new(seed));
        Self(Arc::new(Mutex::new(state)))
    }

    /// The same, with sectors of another size: 1 to 4096 bytes, a power of two. A sector is
    /// written whole or not at all, unless the profile tears them.
    ///
    /// # Panics
    /// If `bytes` is no such size.
    #[must_use]
    pub fn with_sector_bytes(self, bytes: usize) -> Self {
        assert!(bytes.is_power_of_two() && bytes <= 4096, "no size of a sector");
        self.0.lock().rules.sector = bytes;
        self
    }

    /// The profile it was made with.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.0.lock().profile
    }

    /// What the next process finds when this one dies now: cache and device as they are, no
    /// handle open, nothing locked.
    #[must_use]
    pub fn kill(&self) -> Self {
        let mut state = self.0.lock();
        let index = state.rng.next();
        state.kill(index)
    }

    /// What is left when the power goes now: everything that was synced, and one of the reachable
    /// parts of the rest, at random.
    #[must_use]
    pub fn power_loss(&self) -> Self {
        let mut state = self.0.lock();
        let index = state.rng.next();
        let outcomes = Outcomes::new(&state.disk, state.rules, state.rng.stream(index), 0);
        state.detached(outcomes.random(index), index)
    }

    /// What may be left when the power goes now: every reachable state, if there are no more than
    /// `limit`; otherwise the known adversarial patterns and then random states, `limit` of them
    /// or as many as there are patterns.
    #[must_use]
    pub fn power_losses(&self, limit: u64) -> PowerLosses {
        let state = self.0.lock();
        let outcomes = Outcomes::new(&state.disk, state.rules, state.rng.clone(), limit);
        let (disk, rng) = (Disk::default(), state.rng.clone());
        let mut origin = State::new(disk, state.profile, state.rules, rng);
        origin.capacity = state.capacity;
        let total = outcomes.exhaustive().unwrap_or_else(|| limit.max(outcomes.patterns()));
        PowerLosses::new(outcomes, origin, total)
    }

    /// From now on keeps every state that the disk goes through, for [`moments`](Self::moments).
    pub fn record(&self) {
        self.0.lock().moments = Some(Vec::new());
    }

    /// The states since [`record`](Self::record), oldest first, each as [`kill`](Self::kill)
    /// would have left it: one after every call, or step of a call, that changed something or made
    /// something durable. Recording goes on with none.
    #[must_use]
    pub fn moments(&self) -> Vec<Self> {
        let mut state = self.0.lock();
        let moments = state.moments.as_mut().map(std::mem::take).unwrap_or_default();
        let moments = (1..).zip(moments);
        moments.map(|(index, disk)| state.detached(disk, index)).collect()
    }

    /// A fault that waits for its call. Several may wait; one strikes at a time.
    pub fn inject(&self, fault: SimFault) {
        self.0.lock().faults.push(fault);
    }

    /// No fault waits any more.
    pub fn heal(&self) {
        self.0.lock().faults.clear();
    }

    /// The calls that faults have struck, and the file each concerned.
    #[must_use]
    pub fn injected(&self) -> Vec<(SimCall, String)> {
        self.0.lock().injected.clone()
    }

    /// The page cache lets go of everything clean. Where a failed sync, or a device that lied,
    /// left it with bytes that the device never got, reading shows the old ones from now on.
    pub fn evict(&self) {
        self.0.lock().disk.evict();
    }

    /// Writes that would make all files together larger than this fail with `StorageFull`.
    /// `None`, as it is at first: there is no limit. Disks that a crash leaves have the same.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.lock().capacity = bytes;
    }

    /// Calls of one kind so far, failed ones included.
    #[must_use]
    pub fn calls(&self, call: SimCall) -> u64 {
        self.0.lock().calls.get(&call).copied().unwrap_or(0)
    }

    /// Bytes that reads have returned so far.
    #[must_use]
    pub fn bytes_read(&self) -> u64 {
        self.0.lock().bytes_read
    }

    /// Whether anything was written, cut or named that is not durable yet.
    #[must_use]
    pub fn has_pending(&self) -> bool {
        let state = self.0.lock();
        let pending = state.disk.inodes.values().any(|inode| !inode.pending.is_empty());
        pending || !state.disk.pending_names.is_empty()
    }

    /// Files without a name: under construction, or left behind by a crash.
    #[must_use]
    pub fn unpublished(&self) -> usize {
        let state = self.0.lock();
        let named = |id: &&Id| state.disk.names.values().any(|named| named == *id);
        let open = state.handles.keys().filter(|id| !named(id)).count();
        open + state.leftovers
    }

    /// Bytes of all published files.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let state = self.0.lock();
        state.disk.names.values().map(|id| state.disk.bytes(*id).len() as u64).sum()
    }

    /// A hash of the published files, their names and their bytes, as reading shows them: disks
    /// that differ have different ones, with all but certainty.
    #[must_use]
    pub fn fingerprint(&self) -> u64 {
        let state = self.0.lock();
        let mut fingerprint = Fingerprint::new();
        for (name, id) in &state.disk.names {
            fingerprint.add(name.as_bytes());
            fingerprint.add(state.disk.bytes(*id));
        }
        fingerprint.finish()
    }

    /// The published files, as reading shows them.
    #[must_use]
    pub fn snapshot(&self) -> MemSnapshot {
        let state = self.0.lock();
        let names = state.disk.names.iter();
        names.map(|(name, id)| (name.to_string(), state.disk.bytes(*id).to_vec())).collect()
    }
}

impl fmt::Debug for SimStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimStore").finish_non_exhaustive()
    }
}

fn locate(name: &str) -> PathBuf {
    if name.is_empty() { PathBuf::from("simulated") } else { PathBuf::from("simulated").join(name) }
}

fn index(offset: u64) -> io::Result<usize> {
    usize::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput.into())
}

#[cfg(test)]
mod tests;
