//! The disk: what was written, and how much of it is synced.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Result, WalError};
use crate::flush::{Backing, Intent};
use crate::format::frame::Seed;
use crate::segments::Epoch;
use crate::sync::{Arc, BookMutex};

/// What the frames of the first epoch are sealed with; every cut adds one.
const SEED: Seed = Seed(0x5EED);

/// What the disk does instead of its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fault {
    #[default]
    None,
    /// Every sync fails.
    Sync,
    /// Every sync panics.
    SyncPanic,
    /// Every write fails.
    Write,
    /// There is no space for any write or new segment.
    Full,
}

#[derive(Debug, Default)]
pub(super) struct File {
    pub(super) base: u64,
    /// Counts the cuts before it.
    pub(super) epoch: u32,
    pub(super) bytes: Vec<u8>,
    synced: usize,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) files: Vec<File>,
    pub(super) fault: Fault,
    pub(super) syncs: usize,
    /// Writes that found no space.
    pub(super) refused: usize,
    /// A sync is under way.
    pub(super) syncing: bool,
    pub(super) closed: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(super) disk: Arc<BookMutex<Disk>>,
    pub(super) segment_bytes: u64,
}

impl Backing for Shared {
    /// Index of the file that takes frames.
    type Stage = usize;
    type Snapshot = std::ops::RangeInclusive<usize>;
    type Image = ();
    type Key = ();

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn limit(&self, stage: &usize) -> u64 {
        self.disk.lock().files[*stage].base + self.segment_bytes
    }

    fn is_fresh(&self, stage: &usize, at: u64) -> bool {
        self.disk.lock().files[*stage].base == at
    }

    fn is_crowded(&self, _stage: &usize, _durable: u64) -> bool {
        false
    }

    fn rotate(&self, stage: &mut usize, at: u64, durable: u64) -> Result<()> {
        let mut disk = self.disk.lock();
        assert!(!disk.closed, "no I/O after close");
        assert!(durable <= disk.synced_end(), "a header claims what is not synced");
        if disk.fault == Fault::Full {
            return Err(WalError::StorageFull { path: PathBuf::new() });
        }
        let epoch = disk.files[*stage].epoch;
        disk.files.push(File { base: at, epoch, ..File::default() });
        *stage += 1;
        Ok(())
    }

    fn write(&self, stage: &mut usize, at: u64, parts: &[&[u8]], _: Intent) -> Result<()> {
        let mut disk = self.disk.lock();
        assert!(!disk.closed, "no I/O after close");
        match disk.fault {
            Fault::Full => {
                disk.refused += 1;
                return Err(WalError::StorageFull { path: PathBuf::new() });
            }
            Fault::Write => return Err(failure("write")),
            _ => {}
        }
        let file = &mut disk.files[*stage];
        let mut offset = (at - file.base) as usize;
        for part in parts {
            let end = offset + part.len();
            file.bytes.resize(file.bytes.len().max(end), 0);
            file.bytes[offset..end].copy_from_slice(part);
            offset = end;
        }
        Ok(())
    }

    fn snapshot(&self, stage: &mut usize, durable: u64) -> Self::Snapshot {
        let disk = self.disk.lock();
        let first = disk.files.iter().rposition(|file| file.base <= durable).unwrap_or(0);
        first..=*stage
    }

    fn sync(&self, snapshot: &Self::Snapshot, _written: u64) -> Result<()> {
        let (fault, lens) = {
            let mut disk = self.disk.lock();
            assert!(!disk.closed, "no I/O after close");
            assert!(!disk.syncing, "one leader at a time");
            disk.syncing = disk.fault == Fault::None;
            (disk.fault, disk.files.iter().map(|file| file.bytes.len()).collect::<Vec<_>>())
        };
        match fault {
            Fault::Sync => return Err(failure("sync")),
            Fault::SyncPanic => panic!("the model's store panics"),
            _ => {}
        }
        // What is written while a sync runs is not covered by it.
        crate::sync::pause_in_io();
        let mut disk = self.disk.lock();
        disk.syncs += 1;
        disk.syncing = false;
        for index in snapshot.clone() {
            let file = &mut disk.files[index];
            file.synced = file.synced.max(lens[index]);
        }
        Ok(())
    }

    fn release(&self, _snapshot: &Self::Snapshot) {}

    fn head(&self) -> u64 {
        self.disk.lock().files[0].base
    }

    fn has_dead(&self, _head: u64) -> bool {
        false
    }

    fn snapshot_lsn(&self) -> Option<u64> {
        None
    }

    fn complete(&self) -> Result<()> {
        Ok(())
    }

    fn make_way(&self, _lsn: u64) -> Result<()> {
        Ok(())
    }

    fn move_head(&self, _head: u64, _durable: u64, _image: Option<&()>) -> Result<Result<()>> {
        Ok(Ok(()))
    }

    fn allows_cut(&self, _at: u64) -> Result<()> {
        Ok(())
    }

    fn cut(&self, stage: &mut usize, at: u64, _key: Option<()>) -> Result<(Epoch, Self::Snapshot)> {
        let mut disk = self.disk.lock();
        assert!(!disk.closed, "no I/O after close");
        assert!(!disk.syncing, "a cut beside a sync");
        assert!(at <= disk.synced_end(), "what is kept is durable");
        match disk.fault {
            Fault::None => {}
            Fault::Full => return Err(WalError::StorageFull { path: PathBuf::new() }),
            _ => return Err(failure("cut")),
        }
        let epoch = disk.files[*stage].epoch + 1;
        // What is beyond does not exist any more; the indexes of files stay what they are.
        for file in &mut disk.files {
            let kept = at.saturating_sub(file.base) as usize;
            file.bytes.truncate(kept);
            file.synced = file.synced.min(kept);
            file.base = file.base.min(at);
        }
        disk.files.push(File { base: at, epoch, ..File::default() });
        *stage += 1;
        Ok((Epoch { seed: seed(epoch), cipher: None }, *stage..=*stage))
    }

    fn show_cut(&self, _stage: &usize) {}

    fn remove_dead(&self) -> Result<()> {
        Ok(())
    }

    fn witness(&self, _durable: u64) -> Result<()> {
        Ok(())
    }

    fn seal(&self, end: u64) -> Result<()> {
        assert_eq!(self.disk.lock().synced_end(), end, "close seals what is synced");
        Ok(())
    }

    fn end(&self) {
        self.disk.lock().closed = true;
    }
}

pub(super) fn seed(epoch: u32) -> Seed {
    Seed(SEED.0 + epoch)
}

fn failure(operation: &'static str) -> WalError {
    WalError::io(operation, Path::new(""), io::Error::other("the model's disk fails"))
}

impl Disk {
    /// Exclusive end of the prefix that survives a power loss.
    pub(super) fn synced_end(&self) -> u64 {
        let mut end = self.files[0].base;
        for (index, file) in self.files.iter().enumerate() {
            end = file.base + file.synced as u64;
            if self.files.get(index + 1).is_some_and(|next| next.base != end) {
                break;
            }
        }
        end
    }
}
