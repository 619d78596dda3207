//! A block device of ours: one file in a FUSE mount, with a loop device on it.
//!
//! It behaves like a disk with a volatile cache: a write is readable at once and durable after the
//! next flush. Everything since the last flush can be taken as it is, and put together again
//! without some of it, which gives the states that a power loss could have left. Reads, writes and
//! flushes can be made to fail.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use fuser::{
    BackgroundSession, Config, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags,
    Generation, INodeNo, LockOwner, MountOption, OpenFlags, ReplyAttr, ReplyData, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, WriteFlags,
};
use simulation::dice::Dice;

/// What the kernel writes whole or, if the power goes, perhaps not at all.
const SECTOR: usize = 512;
/// How the bytes are kept.
const BLOCK: usize = 4096;
const FILE: INodeNo = INodeNo(2);

type Block = Arc<[u8; BLOCK]>;
type Blocks = BTreeMap<u64, Block>;

/// One write since the last flush.
#[derive(Debug, Clone)]
pub struct Write {
    offset: u64,
    bytes: Arc<[u8]>,
}

/// A disk at one moment.
#[derive(Debug, Clone, Default)]
pub struct State {
    durable: Blocks,
    /// Since the last flush, oldest first.
    pending: Vec<Write>,
}

/// The block of an offset, and where in it.
fn place(offset: u64) -> (u64, usize) {
    let block = BLOCK as u64;
    (offset / block, usize::try_from(offset % block).unwrap_or(0))
}

fn write_blocks(blocks: &mut Blocks, offset: u64, mut bytes: &[u8]) {
    let mut at = offset;
    while !bytes.is_empty() {
        let (number, within) = place(at);
        let count = bytes.len().min(BLOCK - within);
        let block = blocks.entry(number).or_insert_with(|| Arc::new([0; BLOCK]));
        Arc::make_mut(block)[within..within + count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        at += count as u64;
    }
}

impl State {
    /// How many writes no flush has followed.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// The disk with those sectors of the pending writes that `keep(write, sector)` wants, in the
    /// order of the writes.
    fn with(&self, mut keep: impl FnMut(usize, usize) -> bool) -> Blocks {
        let mut blocks = self.durable.clone();
        for (index, write) in self.pending.iter().enumerate() {
            for (sector, piece) in write.bytes.chunks(SECTOR).enumerate() {
                if keep(index, sector) {
                    write_blocks(&mut blocks, write.offset + (sector * SECTOR) as u64, piece);
                }
            }
        }
        blocks
    }

    /// One of the states that a power loss could leave: number 0 has nothing that was not flushed,
    /// 1 has everything; then prefixes, prefixes whose last write is torn, subsets of whole writes,
    /// and subsets of sectors.
    #[must_use]
    pub fn loss(&self, number: u64, seed: u64) -> Image {
        let mut dice = Dice::new(&[seed, number]);
        let cut = dice.below(self.pending.len());
        let blocks = match number {
            0 => self.durable.clone(),
            1 => self.with(|_, _| true),
            _ => match number % 4 {
                0 => self.with(|write, _| write <= cut),
                1 => self.with(|write, _| write < cut || write == cut && dice.one_in(2)),
                2 => {
                    let kept: Vec<_> = self.pending.iter().map(|_| dice.one_in(2)).collect();
                    self.with(|write, _| kept[write])
                }
                _ => self.with(|_, _| dice.one_in(2)),
            },
        };
        Image(blocks)
    }
}

/// The bytes of a disk.
#[derive(Debug, Clone)]
pub struct Image(Blocks);

impl Image {
    /// Makes a file with these bytes, sparse where nothing was ever written.
    ///
    /// # Errors
    /// What the system says.
    pub fn write_to(&self, path: &Path, bytes: u64) -> io::Result<()> {
        let file = std::fs::File::create(path)?;
        file.set_len(bytes)?;
        for (number, block) in &self.0 {
            file.write_all_at(&block[..], number * BLOCK as u64)?;
        }
        Ok(())
    }
}

/// What goes wrong on a disk, and when.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trouble {
    /// So many more writes succeed, and then they fail until this is cleared.
    pub writes_left: Option<u64>,
    /// The same for flushes.
    pub flushes_left: Option<u64>,
}

#[derive(Debug, Default)]
struct Inner {
    state: State,
    current: Blocks,
    trouble: Trouble,
    writes: u64,
    flushes: u64,
    failed: u64,
    /// So many more writes and flushes come before the state is kept.
    keep_after: Option<u64>,
    kept: Option<State>,
}

impl Inner {
    /// A write or a flush has come.
    fn arrival(&mut self) {
        match &mut self.keep_after {
            Some(0) => {
                self.kept = Some(self.state.clone());
                self.keep_after = None;
            }
            Some(left) => *left -= 1,
            None => {}
        }
    }
}

fn fails(left: &mut Option<u64>) -> bool {
    match left {
        Some(0) => true,
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

/// The remote control of a disk.
#[derive(Debug, Clone)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
    bytes: u64,
}

impl Disk {
    /// An empty disk.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { inner: Arc::default(), bytes }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk as it is now.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner().state.clone()
    }

    /// Keeps the state that the disk has when so many more writes and flushes have come, before
    /// the next one.
    pub fn keep_after(&self, arrivals: u64) {
        let mut inner = self.inner();
        inner.keep_after = Some(arrivals);
        inner.kept = None;
    }

    /// The state that was kept, once it is.
    #[must_use]
    pub fn kept(&self) -> Option<State> {
        self.inner().kept.take()
    }

    /// From now on this goes wrong.
    pub fn trouble(&self, trouble: Trouble) {
        self.inner().trouble = trouble;
    }

    /// Writes, flushes, and how many of both have failed.
    #[must_use]
    pub fn traffic(&self) -> (u64, u64, u64) {
        let inner = self.inner();
        (inner.writes, inner.flushes, inner.failed)
    }

    /// Puts the disk's file into a folder; it is there as long as what this returns.
    ///
    /// # Errors
    /// What the system says.
    pub fn serve(&self, folder: &Path) -> io::Result<Served> {
        let mut config = Config::default();
        config.mount_options = vec![MountOption::FSName("cohort-torture".to_owned())];
        let session = fuser::spawn_mount(self.clone(), folder, &config)?;
        Ok(Served { file: folder.join("disk"), session: Some(session) })
    }

    fn attr(&self, ino: INodeNo) -> FileAttr {
        let (kind, size) = if ino == FILE {
            (FileType::RegularFile, self.bytes)
        } else {
            (FileType::Directory, 0)
        };
        FileAttr {
            ino,
            size,
            blocks: size / 512,
            atime: SystemTime::UNIX_EPOCH,
            mtime: SystemTime::UNIX_EPOCH,
            ctime: SystemTime::UNIX_EPOCH,
            crtime: SystemTime::UNIX_EPOCH,
            kind,
            perm: 0o755,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            flags: 0,
            blksize: 4096,
        }
    }
}

/// A served disk.
#[derive(Debug)]
pub struct Served {
    file: PathBuf,
    session: Option<BackgroundSession>,
}

impl Served {
    /// The file that is the disk.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            // Nothing can be done about a mount that will not go.
            session.umount_and_join().ok();
        }
    }
}

const FOR_EVER: Duration = Duration::from_secs(1 << 20);

impl Filesystem for Disk {
    fn lookup(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match name.to_str() {
            Some("disk") => reply.entry(&FOR_EVER, &self.attr(FILE), Generation(0)),
            _ => reply.error(Errno::ENOENT),
        }
    }

    fn getattr(&self, _: &Request, ino: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        reply.attr(&FOR_EVER, &self.attr(ino));
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let inner = self.inner();
        let end = self.bytes.min(offset + u64::from(size));
        let mut bytes = Vec::with_capacity(size as usize);
        let mut at = offset;
        while at < end {
            let (number, within) = place(at);
            let rest = usize::try_from(end - at).unwrap_or(usize::MAX);
            let count = rest.min(BLOCK - within);
            match inner.current.get(&number) {
                Some(block) => bytes.extend_from_slice(&block[within..within + count]),
                None => bytes.resize(bytes.len() + count, 0),
            }
            at += count as u64;
        }
        drop(inner);
        reply.data(&bytes);
    }

    fn write(
        &self,
        _: &Request,
        _: INodeNo,
        _: FileHandle,
        offset: u64,
        data: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut inner = self.inner();
        inner.arrival();
        if fails(&mut inner.trouble.writes_left) {
            inner.failed += 1;
            drop(inner);
            reply.error(Errno::EIO);
            return;
        }
        inner.writes += 1;
        write_blocks(&mut inner.current, offset, data);
        inner.state.pending.push(Write { offset, bytes: data.into() });
        drop(inner);
        reply.written(u32::try_from(data.len()).unwrap_or(0));
    }

    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        // What `close` causes; it makes nothing durable.
        reply.ok();
    }

    fn fsync(&self, _: &Request, _: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        let mut inner = self.inner();
        inner.arrival();
        if fails(&mut inner.trouble.flushes_left) {
            inner.failed += 1;
            drop(inner);
            reply.error(Errno::EIO);
            return;
        }
        inner.flushes += 1;
        inner.state.pending.clear();
        inner.state.durable = inner.current.clone();
        drop(inner);
        reply.ok();
    }
}
