//! [`Directory`] by the standard library, for Windows. Compiles; never ran.
//!
//! Differs from Unix in this: names resolve against an absolute path instead of a descriptor,
//! access rights are inherited from the directory, and directories cannot be synced, so that a
//! name is as durable as the file system's journal makes it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::windows::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf, absolute};

use super::{NamedNonetheless, not_regular};

/// `FILE_FLAG_OPEN_REPARSE_POINT`: opens a symbolic link itself, not what it leads to.
const NO_FOLLOW: u32 = 0x0020_0000;

pub(super) fn create_directories(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

pub(super) fn release_cache(_file: &File) {}

pub(super) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    file.seek_write(bytes, offset)
}

pub(super) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek_read(bytes, offset)
}

#[derive(Debug)]
pub(super) struct Directory {
    place: PathBuf,
}

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let place = absolute(path)?;
        if !fs::metadata(&place)?.is_dir() {
            return Err(ErrorKind::NotADirectory.into());
        }
        Ok(Self { place })
    }

    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let entries = fs::read_dir(&self.place)?;
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    }

    pub(super) fn is_regular(&self, name: &str) -> io::Result<bool> {
        Ok(fs::symlink_metadata(self.place.join(name))?.is_file())
    }

    pub(super) fn create_file(&self, name: &str) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(self.place.join(name))
    }

    pub(super) fn open_file(&self, name: &str) -> io::Result<File> {
        if !self.is_regular(name)? {
            return Err(not_regular());
        }
        let path = self.place.join(name);
        let open =
            |write| OpenOptions::new().read(true).write(write).custom_flags(NO_FOLLOW).open(&path);
        let file = match open(true) {
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem
                ) =>
            {
                open(false)?
            }
            opened => opened?,
        };
        if file.metadata()?.is_file() { Ok(file) } else { Err(not_regular()) }
    }

    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.place.join(name))
    }

    pub(super) fn name_file(&self, source: &str, name: &str) -> io::Result<()> {
        self.link_file(source, name)
    }

    /// `fs::rename` would replace.
    pub(super) fn link_file(&self, source: &str, name: &str) -> io::Result<()> {
        fs::hard_link(self.place.join(source), self.place.join(name))?;
        self.remove(source).map_err(NamedNonetheless::wrap)
    }

    /// Does nothing: Windows has no such call.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    /// Does nothing: Windows has no such call.
    pub(super) fn sync_with_ancestors(&self) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn overwriting_is_cheaper(&self) -> io::Result<bool> {
        Ok(false)
    }
}
