//! [`Directory`] by the system calls of Unix.
//!
//! Every call is relative to a descriptor. Nothing below it is opened through a symbolic link,
//! waited for, or inherited by another program. It never syncs by itself: the parent module does.

use std::fs::{DirBuilder, File, canonicalize};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf, absolute};

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, linkat, openat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use super::{NamedNonetheless, not_regular, sync_directory};

const SAFE: OFlags = OFlags::NOFOLLOW.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);

pub(super) fn create_directories(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.write_at(bytes, offset)
}

pub(super) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.read_at(bytes, offset)
}

/// Lets the page cache drop clean pages and begins to write out dirty ones.
pub(super) fn release_cache(file: &File) {
    #[cfg(target_os = "linux")]
    rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed).ok();
    #[cfg(not(target_os = "linux"))]
    let _: &File = file;
}

/// An open directory. The absolute path serves only to find its ancestors.
#[derive(Debug)]
pub(super) struct Directory {
    file: File,
    place: PathBuf,
}

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let place = absolute(path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let file = retry_on_intr(|| openat(CWD, &place, flags, Mode::empty()))?;
        Ok(Self { file: file.into(), place })
    }

    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.file)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy();
            if name != "." && name != ".." {
                names.push(name.into_owned());
            }
        }
        // A removed directory lists as an empty one; what gives it away is that nothing links
        // to it.
        if names.is_empty() && self.file.metadata()?.nlink() == 0 {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(names)
    }

    pub(super) fn is_regular(&self, name: &str) -> io::Result<bool> {
        let stat = statat(&self.file, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    pub(super) fn create_file(&self, name: &str) -> io::Result<File> {
        let flags = SAFE | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
        let mode = Mode::RUSR | Mode::WUSR;
        Ok(retry_on_intr(|| openat(&self.file, name, flags, mode))?.into())
    }

    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        // Opening a device can act on it, so its type is looked at first. What the descriptor
        // says decides.
        if !self.is_regular(name)? {
            return Err(not_regular());
        }
        let open =
            |access| retry_on_intr(|| openat(&self.file, name, SAFE | access, Mode::empty()));
        let file: File = match open(OFlags::RDWR) {
            Err(Errno::ACCESS | Errno::PERM | Errno::ROFS) => open(OFlags::RDONLY)?.into(),
            opened => opened?.into(),
        };
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.file, name, AtFlags::empty())?)
    }

    pub(super) fn name_file(&self, source: &str, name: &str) -> io::Result<()> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        {
            use rustix::fs::{RenameFlags, renameat_with};
            let flags = RenameFlags::NOREPLACE;
            match renameat_with(&self.file, source, &self.file, name, flags) {
                Err(Errno::INVAL | Errno::NOSYS) => {}
                renamed => return Ok(renamed?),
            }
        }
        self.link_file(source, name)
    }

    /// For file systems that cannot rename without replacing.
    pub(super) fn link_file(&self, source: &str, name: &str) -> io::Result<()> {
        linkat(&self.file, source, &self.file, name, AtFlags::empty())?;
        match self.remove(source) {
            // A sweep of another handle was faster; the file has its name.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            removed => removed.map_err(NamedNonetheless::wrap),
        }
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        sync_directory(&self.file)
    }

    pub(super) fn sync_with_ancestors(&self) -> io::Result<()> {
        self.sync()?;
        for ancestor in canonicalize(&self.place)?.ancestors().skip(1) {
            let ancestor = match Self::open(ancestor) {
                Err(error) if error.kind() == ErrorKind::PermissionDenied => continue,
                opened => opened?,
            };
            match ancestor.sync() {
                // EINVAL: a file system that cannot sync directories, such as squashfs.
                Err(error) if error.kind() == ErrorKind::InvalidInput => {}
                synced => synced?,
            }
        }
        Ok(())
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn overwriting_is_cheaper(&self) -> io::Result<bool> {
        const EXT: u64 = 0xef53;
        const XFS: u64 = 0x5846_5342;
        const OVERLAY: u64 = 0x794c_7630;
        let kind = u64::try_from(rustix::fs::fstatfs(&self.file)?.f_type);
        Ok(matches!(kind, Ok(EXT | XFS | OVERLAY)))
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(super) fn overwriting_is_cheaper(&self) -> io::Result<bool> {
        Ok(false)
    }
}
