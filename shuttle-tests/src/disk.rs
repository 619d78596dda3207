//! Disks that a history can be played over: a simulated one, memory, and a directory.

use std::fmt;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use cohort_wal::sim::{Profile, SimStore};
use cohort_wal::{FileStore, MemStore, WalStore};
use simulation::oracle::Crash;
use tempfile::TempDir;

/// A store that survives the death of the processes that use it.
pub trait Disk: Clone + fmt::Debug + Send + Sync + 'static {
    /// What the engine is given.
    type Store: WalStore<File: fmt::Debug>;

    /// An empty disk. The profile and the seed are a simulated one's.
    fn new(profile: Profile, seed: u64) -> Self;

    /// What the engine is given.
    fn store(&self) -> &Self::Store;

    /// What the next process finds when this one dies now. Nobody reaches it through this one.
    #[must_use]
    fn kill(&self) -> Self;

    /// What is left after a crash, and which one it was: where the power cannot go, the process
    /// dies.
    #[must_use]
    fn fallen(&self, _crash: Crash) -> (Self, Crash) {
        (self.kill(), Crash::Process)
    }

    /// Itself, if it is simulated: then it has faults of its own and pauses in its calls.
    fn sim(&self) -> Option<&SimStore> {
        None
    }

    /// Bytes of all published files.
    fn bytes(&self) -> u64;

    /// Files without a name: under construction, or left behind by a crash.
    fn unpublished(&self) -> usize;
}

impl Disk for SimStore {
    type Store = Self;

    fn new(profile: Profile, seed: u64) -> Self {
        Self::new(profile, seed)
    }

    fn store(&self) -> &Self {
        self
    }

    fn kill(&self) -> Self {
        self.kill()
    }

    fn fallen(&self, crash: Crash) -> (Self, Crash) {
        match crash {
            Crash::Process => (self.kill(), crash),
            Crash::Power => (self.power_loss(), crash),
        }
    }

    fn sim(&self) -> Option<&SimStore> {
        Some(self)
    }

    fn bytes(&self) -> u64 {
        self.bytes()
    }

    fn unpublished(&self) -> usize {
        self.unpublished()
    }
}

impl Disk for MemStore {
    type Store = Self;

    fn new(_profile: Profile, _seed: u64) -> Self {
        Self::new()
    }

    fn store(&self) -> &Self {
        self
    }

    fn kill(&self) -> Self {
        Self::from_snapshot(self.snapshot())
    }

    fn bytes(&self) -> u64 {
        self.snapshot().files().values().map(|bytes| bytes.len() as u64).sum()
    }

    /// They end with their handles.
    fn unpublished(&self) -> usize {
        0
    }
}

/// A directory that is removed with its last clone.
#[derive(Debug, Clone)]
pub struct Files {
    store: Arc<FileStore>,
    dir: Arc<TempDir>,
}

impl Files {
    /// An empty directory, in memory where the system has such a place.
    fn empty() -> TempDir {
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let dir = tempfile::Builder::new().prefix("cohort-wal-shuttle-").tempdir_in(place);
        dir.expect("a directory can be made")
    }

    fn over(dir: TempDir) -> Self {
        let store = FileStore::existing(dir.path()).expect("the directory is there");
        Self { store: Arc::new(store), dir: Arc::new(dir) }
    }

    /// Names and lengths of all files, leftovers included.
    fn entries(&self) -> Vec<(String, u64)> {
        let entries = fs::read_dir(self.dir.path()).expect("the directory is there");
        let entry = |entry: std::io::Result<fs::DirEntry>| {
            let entry = entry.expect("the directory can be read");
            let name = entry.file_name().into_string().expect("names are ASCII");
            (name, entry.metadata().expect("the file is there").len())
        };
        entries.map(entry).collect()
    }
}

/// What `FileStore` calls files that it has not published.
fn is_unpublished(name: &str) -> bool {
    name.starts_with(".cohort-")
}

impl Disk for Files {
    type Store = FileStore;

    fn new(_profile: Profile, _seed: u64) -> Self {
        Self::over(Self::empty())
    }

    fn store(&self) -> &FileStore {
        &self.store
    }

    /// A copy at one moment: no other thread runs meanwhile.
    fn kill(&self) -> Self {
        let copy = Self::empty();
        for (name, _) in self.entries() {
            let copied = fs::copy(self.dir.path().join(&name), copy.path().join(&name));
            copied.expect("a file can be copied");
        }
        Self::over(copy)
    }

    fn bytes(&self) -> u64 {
        let entries = self.entries().into_iter();
        entries.filter(|(name, _)| !is_unpublished(name)).map(|(_, len)| len).sum()
    }

    fn unpublished(&self) -> usize {
        self.entries().iter().filter(|(name, _)| is_unpublished(name)).count()
    }
}
