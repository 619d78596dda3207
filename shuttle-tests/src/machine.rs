//! A computer that dies at a store call.
//!
//! Owns nothing of the disk but the moment at which it is taken away. From then on every call
//! fails without touching it, as the threads of a dead process do nothing any more; the calls that
//! were under way may still reach it, as they may in a process that dies a little later.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use cohort_wal::sim::{SimCall, SimFile, SimStore};
use cohort_wal::{StoreFile, WalStore};

use crate::ledger::Ledger;

/// A simulated disk in a computer that may die.
#[derive(Debug, Clone)]
pub struct Machine {
    disk: SimStore,
    ledger: Arc<Ledger>,
    harmless: bool,
}

impl Machine {
    /// A computer with this disk, which dies when the ledger says so. `harmless`: what is wrong
    /// with the disk makes calls fail and loses nothing.
    #[must_use]
    pub fn new(disk: SimStore, ledger: Arc<Ledger>, harmless: bool) -> Self {
        Self { disk, ledger, harmless }
    }

    /// Whether no fault has lost anything. Overwriting CONTROL needs no space, so for a log that
    /// cannot even do that the disk is broken.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        let control = |(_, name): &(SimCall, String)| name == "CONTROL";
        self.harmless && !self.disk.injected().iter().any(control)
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &SimStore {
        &self.disk
    }

    /// Counts a call, and fails once the computer is dead. Nothing that is acknowledged after the
    /// death counts, and nothing is attempted, so the disk may be taken a little later.
    fn alive(&self) -> io::Result<()> {
        if self.ledger.call() {
            self.ledger.keep(self.disk.kill());
        }
        match self.ledger.is_dead() {
            true => Err(io::Error::other("the computer is dead")),
            false => Ok(()),
        }
    }

    fn file(&self, file: SimFile) -> MachineFile {
        MachineFile { machine: self.clone(), file }
    }
}

impl WalStore for Machine {
    type File = MachineFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.alive()?;
        self.disk.list()
    }

    fn create(&self, bytes: u64) -> io::Result<MachineFile> {
        self.alive()?;
        self.disk.create(bytes).map(|file| self.file(file))
    }

    fn publish(&self, file: &MachineFile, name: &str) -> io::Result<()> {
        self.alive()?;
        self.disk.publish(&file.file, name)
    }

    fn open(&self, name: &str) -> io::Result<MachineFile> {
        self.alive()?;
        self.disk.open(name).map(|file| self.file(file))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.alive()?;
        self.disk.remove(name)
    }

    fn lock(&self, file: &MachineFile) -> io::Result<bool> {
        self.alive()?;
        self.disk.lock(&file.file)
    }

    fn unlock(&self, file: &MachineFile) -> io::Result<()> {
        self.alive()?;
        self.disk.unlock(&file.file)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.alive()?;
        self.disk.sync_names()
    }

    fn sync_place(&self) -> io::Result<()> {
        self.alive()?;
        self.disk.sync_place()
    }

    fn sweep(&self) -> io::Result<usize> {
        self.alive()?;
        self.disk.sweep()
    }

    fn locate(&self, name: &str) -> PathBuf {
        self.disk.locate(name)
    }

    fn overwriting_is_cheaper(&self) -> bool {
        self.disk.overwriting_is_cheaper()
    }

    fn random(&self, bytes: &mut [u8]) -> io::Result<()> {
        self.disk.random(bytes)
    }
}

/// An open file of a [`Machine`].
#[derive(Debug)]
pub struct MachineFile {
    machine: Machine,
    file: SimFile,
}

impl StoreFile for MachineFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.machine.alive()?;
        self.file.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.machine.alive()?;
        self.file.read_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.machine.alive()?;
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.machine.alive()?;
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.machine.alive()?;
        self.file.set_len(len)
    }
}
