//! What is cached and what is durable: the state of a simulated disk, without faults.
//!
//! I1. `cached` is what reading shows; `durable` is what is on the device. Nothing but a sync, or
//!     a power loss that happens to keep it, moves bytes from one to the other.
//! I2. `pending` holds, in order, what was handed over since the last sync. Applied to `durable`
//!     it gives `cached`, except where a failed sync or a lying device came between.
//! I3. A clone shares all bytes and costs a few allocations per file.

use std::collections::BTreeMap;
use std::io;

use super::rng::Rng;
use crate::sync::Arc;

/// A page of the cache: what a write makes dirty once cache and device differ.
const PAGE: usize = 4096;

/// Files that are gone and not forgotten.
const FREED: usize = 2;

pub(super) type Id = u64;

/// A change of a file's bytes that the device may have or not.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: usize, bytes: Arc<[u8]> },
    Length(usize),
}

impl Change {
    pub(super) fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => {
                let end = offset + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*offset..end].copy_from_slice(bytes);
            }
            Self::Length(len) => to.resize(*len, 0),
        }
    }
}

/// What becomes of a write on its way to the device. The cache gets it in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Landing {
    Faithful,
    /// One bit of it is flipped.
    Flipped(usize),
    Lost,
    /// It goes to another place of the same file.
    Misdirected(usize),
}

#[derive(Clone, Debug, Default)]
pub(super) struct Inode {
    pub(super) cached: Arc<Vec<u8>>,
    pub(super) durable: Arc<Vec<u8>>,
    pub(super) pending: Vec<Change>,
    /// How many changes left `pending` before the first that is in it.
    settled: u64,
    /// The cache holds clean pages that the device never got.
    diverged: bool,
    /// It has or had a name.
    pub(super) published: bool,
}

impl Inode {
    pub(super) fn settled(bytes: Arc<Vec<u8>>) -> Self {
        Self { cached: Arc::clone(&bytes), durable: bytes, published: true, ..Self::default() }
    }

    fn write(&mut self, offset: usize, bytes: &[u8], landing: Landing) {
        let end = offset + bytes.len();
        let grown = self.cached.len() < end;
        let write = Change::Write { offset, bytes: bytes.into() };
        write.apply(Arc::make_mut(&mut self.cached));
        match landing {
            Landing::Faithful if self.diverged => {
                // The page goes out as a whole, with what an earlier sync failed to write.
                let (from, to) = (offset / PAGE * PAGE, end.next_multiple_of(PAGE));
                let page = &self.cached[from..to.min(self.cached.len())];
                self.pending.push(Change::Write { offset: from, bytes: page.into() });
            }
            Landing::Faithful => self.pending.push(write),
            Landing::Flipped(bit) => {
                let mut bytes = bytes.to_vec();
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
                self.pending.push(Change::Write { offset, bytes: bytes.into() });
            }
            Landing::Misdirected(to) => {
                let to = to.min(self.cached.len().saturating_sub(bytes.len()));
                self.pending.push(Change::Write { offset: to, bytes: bytes.into() });
            }
            Landing::Lost => {}
        }
        if landing != Landing::Faithful {
            self.diverged = true;
            if grown {
                self.pending.push(Change::Length(end));
            }
        }
    }

    fn set_len(&mut self, len: usize) {
        let change = Change::Length(len);
        change.apply(Arc::make_mut(&mut self.cached));
        self.pending.push(change);
    }

    /// Makes the changes durable that came before the `mark`-th, and no later one.
    fn sync(&mut self, mark: u64) {
        let count = usize::try_from(mark.saturating_sub(self.settled)).unwrap_or(usize::MAX);
        let count = count.min(self.pending.len());
        if count > 0 {
            let durable = Arc::make_mut(&mut self.durable);
            self.pending.drain(..count).for_each(|change| change.apply(durable));
            self.settled += count as u64;
        }
    }

    /// A sync fails: some of what was pending is on the device, and none of it is dirty any more.
    fn fail_sync(&mut self, rng: &mut Rng, reverts: bool, sector: usize) {
        let durable = Arc::make_mut(&mut self.durable);
        self.settled += self.pending.len() as u64;
        for change in self.pending.drain(..) {
            match change {
                Change::Write { offset, bytes } => {
                    let mut at = 0;
                    while at < bytes.len() {
                        let end = ((offset + at) / sector + 1) * sector - offset;
                        let piece = &bytes[at..end.min(bytes.len())];
                        if rng.coin() {
                            let write = Change::Write { offset: offset + at, bytes: piece.into() };
                            write.apply(durable);
                        }
                        at = end;
                    }
                }
                Change::Length(_) if rng.coin() => change.apply(durable),
                Change::Length(_) => {}
            }
        }
        if reverts {
            self.cached = Arc::clone(&self.durable);
        }
        self.diverged = self.cached != self.durable;
    }

    /// The cache lets go of what is clean: reading shows the device and what is pending.
    fn evict(&mut self) {
        if self.diverged {
            self.cached = Arc::clone(&self.durable);
            let cached = Arc::make_mut(&mut self.cached);
            self.pending.iter().for_each(|change| change.apply(cached));
            self.diverged = false;
        }
    }
}

/// A change of the names that the device may have or not.
#[derive(Clone, Debug)]
pub(super) struct NameChange {
    pub(super) name: Arc<str>,
    /// What it names; `None`: nothing any more.
    pub(super) to: Option<Id>,
}

impl NameChange {
    pub(super) fn apply(&self, names: &mut Names) {
        match self.to {
            Some(id) => drop(names.insert(Arc::clone(&self.name), id)),
            None => drop(names.remove(&self.name)),
        }
    }
}

pub(super) type Names = BTreeMap<Arc<str>, Id>;

/// Files and names, as processes see them and as the device has them.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) inodes: BTreeMap<Id, Inode>,
    pub(super) names: Names,
    pub(super) durable_names: Names,
    pub(super) pending_names: Vec<NameChange>,
    /// The directory itself survives.
    pub(super) place_is_durable: bool,
    /// What files that are gone, or that a crash set back, have left in the blocks that new ones
    /// may get; the newest last.
    pub(super) freed: Vec<Arc<Vec<u8>>>,
    next: Id,
}

impl Disk {
    /// A disk with these files, all durable.
    pub(super) fn settled(files: impl Iterator<Item = (Arc<str>, Arc<Vec<u8>>)>) -> Self {
        let mut disk = Self { place_is_durable: true, ..Self::default() };
        for (name, bytes) in files {
            disk.inodes.insert(disk.next, Inode::settled(bytes));
            disk.names.insert(name, disk.next);
            disk.next += 1;
        }
        disk.durable_names = disk.names.clone();
        disk
    }

    pub(super) fn create(&mut self) -> Id {
        let id = self.next;
        self.next += 1;
        self.inodes.insert(id, Inode::default());
        id
    }

    fn inode(&mut self, id: Id) -> io::Result<&mut Inode> {
        self.inodes.get_mut(&id).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn bytes(&self, id: Id) -> &[u8] {
        self.inodes.get(&id).map_or(&[], |inode| &inode.cached)
    }

    /// The name of a file, if it has one.
    pub(super) fn name_of(&self, id: Id) -> Option<&str> {
        self.names.iter().find(|(_, named)| **named == id).map(|(name, _)| &**name)
    }

    pub(super) fn link(&mut self, id: Id, name: &str) {
        self.change_name(NameChange { name: name.into(), to: Some(id) });
        if let Ok(inode) = self.inode(id) {
            inode.published = true;
        }
    }

    pub(super) fn unlink(&mut self, name: &str) -> io::Result<()> {
        if !self.names.contains_key(name) {
            return Err(io::ErrorKind::NotFound.into());
        }
        self.change_name(NameChange { name: name.into(), to: None });
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.pending_names.push(change);
    }

    pub(super) fn sync_names(&mut self) {
        self.pending_names.clear();
        self.durable_names = self.names.clone();
    }

    pub(super) fn write(
        &mut self,
        id: Id,
        offset: usize,
        bytes: &[u8],
        landing: Landing,
    ) -> io::Result<()> {
        self.inode(id).map(|inode| inode.write(offset, bytes, landing))
    }

    pub(super) fn set_len(&mut self, id: Id, len: usize) -> io::Result<()> {
        self.inode(id).map(|inode| inode.set_len(len))
    }

    /// Where a sync that begins now ends: what is written from now on is none of its business.
    pub(super) fn mark(&self, id: Id) -> u64 {
        self.inodes.get(&id).map_or(0, |inode| inode.settled + inode.pending.len() as u64)
    }

    pub(super) fn sync(&mut self, id: Id, mark: u64) -> io::Result<()> {
        self.inode(id).map(|inode| inode.sync(mark))
    }

    pub(super) fn fail_sync(&mut self, id: Id, rng: &mut Rng, reverts: bool, sector: usize) {
        if let Ok(inode) = self.inode(id) {
            inode.fail_sync(rng, reverts, sector);
        }
    }

    /// Nothing that is pending will ever reach the device, though nobody learns of it.
    pub(super) fn forget_pending(&mut self, id: Id) {
        if let Ok(inode) = self.inode(id) {
            inode.diverged |= !inode.pending.is_empty();
            inode.settled += inode.pending.len() as u64;
            inode.pending.clear();
        }
    }

    pub(super) fn evict(&mut self) {
        self.inodes.values_mut().for_each(Inode::evict);
    }

    /// A file that is not held open is gone if no name, durable or not, leads to it.
    pub(super) fn collect(&mut self, is_open: impl Fn(&Id) -> bool) {
        let pending = self.pending_names.iter().filter_map(|change| change.to);
        let named = self.names.values().chain(self.durable_names.values()).copied();
        let named: Vec<_> = named.chain(pending).collect();
        self.retain(|id, _| named.contains(id) || is_open(id));
    }

    /// Discards the other files.
    pub(super) fn retain(&mut self, keep: impl Fn(&Id, &Inode) -> bool) {
        let gone = self.inodes.iter().filter(|(id, inode)| !keep(id, inode));
        let gone: Vec<_> = gone.map(|(id, _)| *id).collect();
        for inode in gone.iter().filter_map(|id| self.inodes.remove(id)).collect::<Vec<_>>() {
            self.free(inode.cached);
        }
    }

    /// Bytes stay in their blocks when their file goes.
    pub(super) fn free(&mut self, bytes: Arc<Vec<u8>>) {
        if !bytes.is_empty() && !self.freed.contains(&bytes) {
            self.freed.push(bytes);
            let surplus = self.freed.len().saturating_sub(FREED);
            self.freed.drain(..surplus);
        }
    }

    /// Bytes of all files.
    pub(super) fn used(&self) -> u64 {
        self.inodes.values().map(|inode| inode.cached.len() as u64).sum()
    }
}
