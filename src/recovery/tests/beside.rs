//! What is seen without the lock while a writer commits faster than anybody reads.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use super::*;
use crate::recovery::{survey_read_only, take_inventory};
use crate::store::{MemFile, StoreFile};
use crate::{Preallocate, Wal};

const READ_ONLY: &str = "a look changes nothing, and takes no lock";

/// A log to which its writer has committed two more records after each read of anybody: the second
/// one witnesses the first, behind what was read.
struct Growing {
    store: MemStore,
    wal: Arc<Wal<MemStore>>,
}

struct GrowingFile {
    file: MemFile,
    wal: Arc<Wal<MemStore>>,
}

impl WalStore for Growing {
    type File = GrowingFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.store.list()
    }

    fn create(&self, _: u64) -> io::Result<GrowingFile> {
        unreachable!("{READ_ONLY}")
    }

    fn publish(&self, _: &GrowingFile, _: &str) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn open(&self, name: &str) -> io::Result<GrowingFile> {
        Ok(GrowingFile { file: self.store.open(name)?, wal: Arc::clone(&self.wal) })
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn lock(&self, _: &GrowingFile) -> io::Result<bool> {
        unreachable!("{READ_ONLY}")
    }

    fn unlock(&self, _: &GrowingFile) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn sync_names(&self) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn sync_place(&self) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn sweep(&self) -> io::Result<usize> {
        unreachable!("{READ_ONLY}")
    }

    fn locate(&self, name: &str) -> PathBuf {
        self.store.locate(name)
    }
}

impl StoreFile for GrowingFile {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(offset, bytes);
        for _ in 0..2 {
            self.wal.append_and_sync(&[7; 100]).unwrap();
        }
        read
    }

    fn sync(&self) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }
}

#[test]
fn a_log_that_grows_with_every_read_never_looks_damaged() {
    let store = MemStore::new();
    // Within the length of a file that only grows, nothing changes any more.
    let options = WalOptions::new().preallocate(Preallocate::Zeroed);
    let wal = Arc::new(options.open_store(store.clone()).unwrap());
    let first = wal.append_and_sync(&[7; 100]).unwrap().get();
    let growing = Growing { store, wal };
    assert!(survey_read_only(&growing).unwrap().end > first);
    let inventory = take_inventory(&growing).unwrap();
    assert!(inventory.refusal.is_none(), "{:?}", inventory.refusal);
    assert!(inventory.look.unwrap().end > first);
}
