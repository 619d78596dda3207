//! Loop devices and file systems, made for one run and removed with it.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Kind {
    /// ext4 with a journal.
    Ext4,
    /// ext4 without one.
    Ext4Nojournal,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl Kind {
    /// The command that makes it.
    fn mkfs(self) -> &'static [&'static str] {
        match self {
            Self::Ext4 => &["mkfs.ext4", "-q", "-F"],
            Self::Ext4Nojournal => &["mkfs.ext4", "-q", "-F", "-O", "^has_journal"],
            Self::Xfs => &["mkfs.xfs", "-q", "-f"],
            Self::Btrfs => &["mkfs.btrfs", "-q", "-f"],
        }
    }

    /// The smallest image that it works on, in bytes.
    #[must_use]
    pub fn image_bytes(self) -> u64 {
        match self {
            Self::Ext4 | Self::Ext4Nojournal => 64 << 20,
            Self::Xfs => 320 << 20,
            Self::Btrfs => 256 << 20,
        }
    }

    /// Tries to make and mount it; otherwise says what is missing on this machine.
    #[must_use]
    pub fn missing(self) -> Option<String> {
        let tried = || {
            let mut device = Device::new(self)?;
            device.format()?;
            device.mount()?;
            device.unmount()
        };
        tried().err().map(|error| format!("no file system of this kind here: {error}"))
    }
}

/// Runs a command to its end.
///
/// # Errors
/// What it wrote to standard error, if it failed.
pub fn run(words: &[&str]) -> io::Result<Output> {
    let output = Command::new(words[0]).args(&words[1..]).output();
    let output = output.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", words[0])))?;
    if output.status.success() {
        return Ok(output);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{}: {said}", words.join(" "))))
}

/// A folder in memory where there is one.
///
/// # Errors
/// What the system says.
pub fn folder() -> io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }
}

/// A file behind a loop device, with a place to mount it. Detached when dropped.
#[derive(Debug)]
pub struct Device {
    kind: Kind,
    folder: tempfile::TempDir,
    device: String,
    mounted: bool,
}

impl Device {
    /// Makes a sparse image and a loop device on it.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(kind: Kind) -> io::Result<Self> {
        let folder = folder()?;
        let image = folder.path().join("image");
        std::fs::File::create(&image)?.set_len(kind.image_bytes())?;
        Self::attach(kind, folder, &image)
    }

    /// Makes a loop device on a file that is there.
    ///
    /// # Errors
    /// What the system says.
    pub fn on(kind: Kind, image: &Path) -> io::Result<Self> {
        Self::attach(kind, folder()?, image)
    }

    fn attach(kind: Kind, folder: tempfile::TempDir, image: &Path) -> io::Result<Self> {
        std::fs::create_dir(folder.path().join("mount"))?;
        let output = run(&["losetup", "--find", "--show", &image.to_string_lossy()])?;
        let device = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok(Self { kind, folder, device, mounted: false })
    }

    /// Puts an empty file system on the device.
    ///
    /// # Errors
    /// What the system says.
    pub fn format(&mut self) -> io::Result<()> {
        self.unmount()?;
        let words: Vec<_> =
            self.kind.mkfs().iter().copied().chain([self.device.as_str()]).collect();
        run(&words).map(drop)
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }

    /// Mounts it.
    ///
    /// # Errors
    /// What the system says.
    pub fn mount(&mut self) -> io::Result<()> {
        if !self.mounted {
            run(&["mount", &self.device, &self.path().to_string_lossy()])?;
            self.mounted = true;
        }
        Ok(())
    }

    /// Unmounts it.
    ///
    /// # Errors
    /// What the system says; a file may still be open.
    pub fn unmount(&mut self) -> io::Result<()> {
        if self.mounted {
            run(&["umount", &self.path().to_string_lossy()])?;
            self.mounted = false;
        }
        Ok(())
    }

    /// Cuts the file system off its device: what was not written by now never will be, the log of
    /// the file system included, and every later call fails.
    ///
    /// # Errors
    /// What the system says.
    pub fn cut(&self) -> io::Result<()> {
        shutdown(&self.path())
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        if self.mounted {
            run(&["umount", "-l", &self.path().to_string_lossy()]).ok();
        }
        run(&["losetup", "-d", &self.device]).ok();
    }
}

/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`, which are the same, without flushing the log.
#[allow(unsafe_code, reason = "there is no safe wrapper of this request")]
fn shutdown(mount: &Path) -> io::Result<()> {
    const SHUTDOWN: rustix::ioctl::Opcode = rustix::ioctl::opcode::read::<u32>(b'X', 125);
    const NO_LOG_FLUSH: u32 = 2;
    let folder = std::fs::File::open(mount)?;
    // SAFETY: this request takes a pointer to a u32, and `Setter` is told so.
    let request = unsafe { rustix::ioctl::Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH) };
    // SAFETY: the kernel reads one u32 through the pointer, which `request` owns for the call.
    unsafe { rustix::ioctl::ioctl(folder.as_fd(), request)? };
    Ok(())
}
