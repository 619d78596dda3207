//! A computer that dies at a store call.
//!
//! Owns the moment at which its disk is taken away, and the image of it. From then on every call
//! fails without touching the disk, as the threads of a dead process do nothing any more; the
//! calls that were under way may still reach it, as they may in a process that dies a little later.
//!
//! A simulated disk fails and lets others run by itself. For the other disks the machine does both
//! in its place: around every call, and in the middle of a write, which a death then tears.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use cohort_wal::sim::{SimCall, SimFaultKind};
use cohort_wal::{StoreFile, Wal, WalOptions, WalStore};
use shuttle::rand::{RngCore, thread_rng};
use shuttle::thread;
use simulation::history::History as Promises;
use simulation::oracle::{self, Crash, Violation};

use crate::disk::Disk;
use crate::fault::{Fault, Faults, error};
use crate::ledger::Ledger;

/// A disk in a computer that may die.
#[derive(Debug, Clone)]
pub struct Machine<D>(Arc<Parts<D>>);

#[derive(Debug)]
struct Parts<D> {
    disk: D,
    ledger: Arc<Ledger>,
    harmless: bool,
    /// Of a disk that has none of its own.
    faults: Faults,
    /// The disk as it was at the death.
    image: Mutex<Option<D>>,
    bytes_read: AtomicU64,
}

/// Lets others run: a scheduler with priorities makes them run first at a yield, and nothing of a
/// sleep; a call is sometimes the one and sometimes the other.
fn pause() {
    match thread_rng().next_u32() % 2 {
        0 => thread::yield_now(),
        _ => thread::sleep(Duration::ZERO),
    }
}

/// A call that takes its time.
fn slow() {
    (0..8).for_each(|_| pause());
}

impl<D: Disk> Machine<D> {
    /// A computer with this disk, which dies when the ledger says so. `harmless`: what is wrong
    /// with the disk makes calls fail and loses nothing.
    #[must_use]
    pub fn new(disk: D, ledger: Arc<Ledger>, harmless: bool) -> Self {
        Self(Arc::new(Parts {
            disk,
            ledger,
            harmless,
            faults: Faults::default(),
            image: Mutex::new(None),
            bytes_read: AtomicU64::new(0),
        }))
    }

    /// A computer that nothing is wrong with.
    #[must_use]
    pub fn sound(disk: D) -> Self {
        Self::new(disk, Arc::default(), true)
    }

    /// Whether no fault has lost anything. Overwriting CONTROL needs no space, so for a log that
    /// cannot even do that the disk is broken.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        let control = |(_, name): &(SimCall, String)| name == "CONTROL";
        self.0.harmless && !self.injected().iter().any(control)
    }

    /// Whether a fault has struck a sync, after which the page cache may have less than before.
    #[must_use]
    pub fn sync_failed(&self) -> bool {
        !self.0.harmless && self.injected().iter().any(|(call, _)| *call == SimCall::Sync)
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &D {
        &self.0.disk
    }

    /// A fault that waits for its call.
    pub fn inject(&self, fault: Fault) {
        match self.0.disk.sim() {
            Some(sim) => sim.inject(fault.into()),
            None => self.0.faults.inject(fault),
        }
    }

    /// No fault waits any more.
    pub fn heal(&self) {
        match self.0.disk.sim() {
            Some(sim) => sim.heal(),
            None => self.0.faults.heal(),
        }
    }

    /// The calls that faults have struck, and the file each concerned.
    #[must_use]
    pub fn injected(&self) -> Vec<(SimCall, String)> {
        match self.0.disk.sim() {
            Some(sim) => sim.injected(),
            None => self.0.faults.injected(),
        }
    }

    /// What was promised until the death and the disk as it was then. Waits for a call that is
    /// taking it away.
    #[must_use]
    pub fn remains(&self) -> Option<(Promises, D)> {
        while self.0.ledger.is_dead() {
            let image = self.image().take();
            if let Some(image) = image {
                return self.0.ledger.frozen().map(|promises| (promises, image));
            }
            thread::yield_now();
        }
        None
    }

    /// Opens the log, holds it against what was promised, and recovery to what it may read.
    ///
    /// # Errors
    /// The first broken promise.
    pub fn recover(
        &self,
        options: &WalOptions,
        promises: &mut Promises,
        crash: Crash,
    ) -> Result<Wal<Self>, Violation> {
        let wal = oracle::recover(self.clone(), options, promises, crash)?;
        let read = self.0.bytes_read.load(Ordering::Relaxed);
        oracle::read_in_bounds(read, self.0.disk.bytes())?;
        Ok(wal)
    }

    fn image(&self) -> MutexGuard<'_, Option<D>> {
        self.0.image.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call, and fails once the computer is dead. Nothing that is acknowledged after the
    /// death counts, and nothing is attempted, so the disk may be taken a little later.
    fn alive(&self) -> io::Result<()> {
        if self.0.ledger.call() {
            let image = self.0.disk.kill();
            *self.image() = Some(image);
        }
        match self.0.ledger.is_dead() {
            true => Err(io::Error::other("the computer is dead")),
            false => Ok(()),
        }
    }

    /// A call on this file. `half`: what one that a fault cuts short has done.
    fn call<T>(
        &self,
        call: SimCall,
        name: &str,
        whole: impl FnOnce(&D::Store) -> io::Result<T>,
        half: impl FnOnce(&D::Store, io::ErrorKind),
    ) -> io::Result<T> {
        self.alive()?;
        let store = self.0.disk.store();
        if self.0.disk.sim().is_some() {
            return whole(store);
        }
        pause();
        let fault = self.0.faults.strike(call, name);
        match fault {
            Some(SimFaultKind::Panic) => panic!("a simulated panic in {call:?}"),
            Some(SimFaultKind::Slow) => slow(),
            Some(SimFaultKind::Late(_)) | None => {}
            Some(kind) => {
                if let SimFaultKind::Short(kind) = kind {
                    half(store, kind);
                }
                return Err(error(kind).expect("silent faults are for simulated disks"));
            }
        }
        let value = whole(store)?;
        match fault {
            Some(SimFaultKind::Slow) => slow(),
            _ => pause(),
        }
        fault.and_then(error).map_or(Ok(value), Err)
    }

    /// A call that does nothing when it is cut short.
    fn plain<T>(
        &self,
        call: SimCall,
        name: &str,
        whole: impl FnOnce(&D::Store) -> io::Result<T>,
    ) -> io::Result<T> {
        self.call(call, name, whole, |_, _| {})
    }

    fn file(&self, file: <D::Store as WalStore>::File, name: OnceLock<String>) -> MachineFile<D> {
        MachineFile { machine: self.clone(), file, name }
    }
}

impl<D: Disk> WalStore for Machine<D> {
    type File = MachineFile<D>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.plain(SimCall::List, "", WalStore::list)
    }

    fn create(&self, bytes: u64) -> io::Result<MachineFile<D>> {
        let file = self.plain(SimCall::Create, "", |store| store.create(bytes))?;
        Ok(self.file(file, OnceLock::new()))
    }

    fn publish(&self, file: &MachineFile<D>, name: &str) -> io::Result<()> {
        let publish = |store: &D::Store| {
            store.publish(&file.file, name)?;
            file.name.get_or_init(|| name.to_owned());
            Ok(())
        };
        let half = |store: &D::Store, kind: io::ErrorKind| {
            // No space means that there is no name: the contract of `publish`.
            if !matches!(kind, io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) {
                publish(store).ok();
            }
        };
        self.call(SimCall::Publish, name, publish, half)
    }

    fn open(&self, name: &str) -> io::Result<MachineFile<D>> {
        let file = self.plain(SimCall::Open, name, |store| store.open(name))?;
        Ok(self.file(file, name.to_owned().into()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.plain(SimCall::Remove, name, |store| store.remove(name))
    }

    fn lock(&self, file: &MachineFile<D>) -> io::Result<bool> {
        self.plain(SimCall::Lock, file.name(), |store| store.lock(&file.file))
    }

    fn unlock(&self, file: &MachineFile<D>) -> io::Result<()> {
        self.plain(SimCall::Unlock, file.name(), |store| store.unlock(&file.file))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.plain(SimCall::SyncNames, "", WalStore::sync_names)
    }

    fn sync_place(&self) -> io::Result<()> {
        self.plain(SimCall::SyncPlace, "", WalStore::sync_place)
    }

    fn sweep(&self) -> io::Result<usize> {
        self.plain(SimCall::Sweep, "", WalStore::sweep)
    }

    fn locate(&self, name: &str) -> PathBuf {
        self.0.disk.store().locate(name)
    }

    /// A seed means the same wherever a directory lies.
    fn overwriting_is_cheaper(&self) -> bool {
        self.0.disk.sim().is_some_and(WalStore::overwriting_is_cheaper)
    }

    /// From the seed.
    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        match self.0.disk.sim() {
            Some(sim) => sim.random(bytes),
            None => {
                thread_rng().fill_bytes(bytes);
                Ok(())
            }
        }
    }
}

/// An open file of a [`Machine`].
#[derive(Debug)]
pub struct MachineFile<D: Disk> {
    machine: Machine<D>,
    file: <D::Store as WalStore>::File,
    name: OnceLock<String>,
}

impl<D: Disk> MachineFile<D> {
    fn name(&self) -> &str {
        self.name.get().map_or("unpublished", String::as_str)
    }
}

impl<D: Disk> StoreFile for MachineFile<D> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (start, rest) = bytes.split_at(bytes.len() / 2);
        let whole = |_: &D::Store| {
            if self.machine.0.disk.sim().is_some() {
                return self.file.write_at(offset, bytes);
            }
            self.file.write_at(offset, start)?;
            pause();
            self.file.write_at(offset + start.len() as u64, rest)
        };
        let half = |_: &D::Store, _| drop(self.file.write_at(offset, start));
        self.machine.call(SimCall::Write, self.name(), whole, half)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let read =
            self.machine.plain(SimCall::Read, self.name(), |_| self.file.read_at(offset, bytes))?;
        self.machine.0.bytes_read.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }

    fn sync(&self) -> io::Result<()> {
        self.machine.plain(SimCall::Sync, self.name(), |_| self.file.sync())
    }

    fn len(&self) -> io::Result<u64> {
        self.machine.plain(SimCall::Len, self.name(), |_| self.file.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.machine.plain(SimCall::SetLen, self.name(), |_| self.file.set_len(len))
    }
}
