//! What is seen without the lock while a writer commits faster than anybody reads.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::*;
use crate::recovery::{survey_read_only, take_inventory};
use crate::store::{MemFile, StoreFile};
use crate::{Preallocate, Wal};

const READ_ONLY: &str = "a look changes nothing, and takes no lock";

/// What the writer does when somebody has read from a file, or the names of all.
type Deed = Arc<dyn Fn(&str) + Send + Sync>;

/// A log whose writer is at work whenever somebody has read its files or their names.
struct Busy {
    store: MemStore,
    /// Of the segments that are made while names are read, a system may show any.
    one_shows: bool,
    on_list: Deed,
    on_read: Deed,
}

struct BusyFile {
    file: MemFile,
    name: String,
    on_read: Deed,
}

impl WalStore for Busy {
    type File = BusyFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = self.store.list()?;
        (self.on_list)("");
        if self.one_shows {
            let mut all = self.store.list()?;
            all.retain(|name| is_segment(name));
            all.sort();
            names.extend(all.into_iter().nth_back(1));
        }
        Ok(names)
    }

    fn create(&self, _: u64) -> io::Result<BusyFile> {
        unreachable!("{READ_ONLY}")
    }

    fn publish(&self, _: &BusyFile, _: &str) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn open(&self, name: &str) -> io::Result<BusyFile> {
        let on_read = Arc::clone(&self.on_read);
        Ok(BusyFile { file: self.store.open(name)?, name: name.to_owned(), on_read })
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn lock(&self, _: &BusyFile) -> io::Result<bool> {
        unreachable!("{READ_ONLY}")
    }

    fn unlock(&self, _: &BusyFile) -> io::Result<()> {
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

impl StoreFile for BusyFile {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        unreachable!("{READ_ONLY}")
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(offset, bytes);
        (self.on_read)(&self.name);
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

fn is_segment(name: &str) -> bool {
    matches!(name::classify(name), name::Name::Segment(_))
}

fn nothing() -> Deed {
    Arc::new(|_| {})
}

/// A log of a few segments.
fn log(options: WalOptions) -> (MemStore, Arc<Wal<MemStore>>) {
    let store = MemStore::new();
    let options = options.segment_bytes(64 << 10).ring_bytes(64 << 10);
    let wal = Arc::new(options.open_store(store.clone()).unwrap());
    for _ in 0..5 {
        wal.append_and_sync(&[7; 100]).unwrap();
        wal.rotate().unwrap();
    }
    wal.append_and_sync(&[7; 100]).unwrap();
    (store, wal)
}

/// A look finds no damage, and at least what was witnessed when it began.
fn assert_looks_whole(busy: &Busy, wal: &Wal<MemStore>) {
    for _ in 0..10 {
        let witnessed = survey_read_only(&busy.store).unwrap().end;
        let look = survey_read_only(busy).unwrap();
        assert!(look.end >= witnessed && look.head <= wal.head_lsn().get());
        let witnessed = survey_read_only(&busy.store).unwrap().end;
        let inventory = take_inventory(busy).unwrap();
        assert!(inventory.refusal.is_none(), "{:?}", inventory.refusal);
        let look = inventory.look.unwrap();
        assert!(look.end >= witnessed);
        let listed = |seq| inventory.segments.iter().find(|listed| listed.seq == seq);
        assert!(look.live.iter().all(|live| listed(live.seq).is_some()));
        assert!(listed(look.live.last().unwrap().seq).unwrap().kept.is_some());
    }
}

#[test]
fn a_log_that_grows_with_every_read_never_looks_damaged() {
    // Within the length of a file that only grows, nothing changes any more.
    let (store, wal) = log(WalOptions::new().preallocate(Preallocate::Zeroed));
    let writer = Arc::clone(&wal);
    let on_read: Deed = Arc::new(move |_| {
        for _ in 0..2 {
            writer.append_and_sync(&[7; 100]).unwrap();
        }
    });
    assert_looks_whole(&Busy { store, one_shows: false, on_list: nothing(), on_read }, &wal);
}

#[test]
fn a_log_that_gets_segments_meanwhile_never_looks_damaged() {
    let (store, wal) = log(WalOptions::new());
    let writer = Arc::clone(&wal);
    let add: Deed = Arc::new(move |name| {
        // Not with every segment that is read: then who reads all is never done.
        if [name::CONTROL, ""].contains(&name) {
            for _ in 0..3 {
                writer.append_and_sync(&[7; 100]).unwrap();
                writer.rotate().unwrap();
            }
        }
    });
    for one_shows in [false, true] {
        let (store, on_list, on_read) = (store.clone(), Arc::clone(&add), Arc::clone(&add));
        assert_looks_whole(&Busy { store, one_shows, on_list, on_read }, &wal);
    }
}

#[test]
fn a_log_that_is_truncated_when_it_was_listed_never_looks_damaged() {
    let (store, wal) = log(WalOptions::new());
    let writer = Arc::clone(&wal);
    let on_list: Deed = Arc::new(move |_| {
        writer.rotate().unwrap();
        let kept = writer.append_and_sync(&[7; 100]).unwrap();
        writer.truncate_before(kept).unwrap();
    });
    assert_looks_whole(&Busy { store, one_shows: false, on_list, on_read: nothing() }, &wal);
}

#[test]
fn a_log_that_is_truncated_while_its_files_are_read_never_looks_damaged() {
    for step in 0..100 {
        let (store, wal) = log(WalOptions::new());
        let (writer, reads) = (Arc::clone(&wal), AtomicUsize::new(0));
        let on_read: Deed = Arc::new(move |_| {
            if reads.fetch_add(1, Relaxed) == step {
                let kept = writer.append_and_sync(&[7; 100]).unwrap();
                writer.truncate_before(kept).unwrap();
            }
        });
        assert_looks_whole(&Busy { store, one_shows: false, on_list: nothing(), on_read }, &wal);
    }
}

#[test]
fn a_log_that_is_checkpointed_meanwhile_never_looks_damaged() {
    let (store, wal) = log(WalOptions::new());
    let writer = Arc::clone(&wal);
    let checkpoint: Deed = Arc::new(move |name| {
        if [name::CONTROL, ""].contains(&name) {
            let at = writer.append_and_sync(&[7; 100]).unwrap();
            writer.checkpoint(at, |image| image.write_all(b"image")).unwrap();
        }
    });
    checkpoint("");
    for (on_list, on_read) in
        [(Arc::clone(&checkpoint), nothing()), (nothing(), Arc::clone(&checkpoint))]
    {
        assert_looks_whole(
            &Busy { store: store.clone(), one_shows: false, on_list, on_read },
            &wal,
        );
    }
}
