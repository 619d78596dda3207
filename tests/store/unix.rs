//! What `FileStore` promises about links, pipes, modes and moved directories.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use cohort_wal::{FileStore, StoreFile, WalStore};

use super::{contents, failure, publish};

fn mode(path: impl AsRef<Path>) -> io::Result<u32> {
    Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
}

#[test]
fn what_a_store_creates_only_its_owner_can_read() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = FileStore::open(dir.path().join("parent/log"))?;
    publish(&store, "a", b"secret")?;
    assert_eq!(mode(dir.path().join("parent"))?, 0o700);
    assert_eq!(mode(store.path())?, 0o700);
    assert_eq!(mode(store.locate("a"))?, 0o600);
    Ok(())
}

#[test]
fn a_symbolic_link_is_neither_followed_nor_replaced() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = FileStore::open(dir.path().join("log"))?;
    let target = dir.path().join("target");
    fs::write(&target, "theirs")?;
    symlink(&target, store.locate("a"))?;
    symlink(dir.path().join("nothing"), store.locate("dangling"))?;
    for name in ["a", "dangling"] {
        assert_eq!(failure(store.open(name)), Some(ErrorKind::InvalidData));
        assert_eq!(failure(publish(&store, name, b"")), Some(ErrorKind::AlreadyExists));
        assert!(store.locate(name).is_symlink());
    }
    store.remove("a")?;
    assert_eq!(fs::read(&target)?, b"theirs");
    assert!(!dir.path().join("nothing").exists());
    Ok(())
}

#[test]
fn a_symbolic_link_named_like_a_leftover_is_not_swept() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = FileStore::open(dir.path())?;
    symlink("/nowhere", store.locate(&format!(".cohort-{:032x}.tmp", 1)))?;
    assert_eq!(store.sweep()?, 0);
    assert_eq!(fs::read_dir(dir.path())?.count(), 1);
    Ok(())
}

#[test]
fn a_pipe_named_like_a_segment_is_refused_without_waiting() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = FileStore::open(dir.path())?;
    let made = Command::new("mkfifo").arg(store.locate("a")).status()?;
    assert!(made.success());
    assert_eq!(failure(store.open("a")), Some(ErrorKind::InvalidData));
    Ok(())
}

#[test]
fn a_read_only_file_can_be_opened_and_read() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = FileStore::open(dir.path())?;
    publish(&store, "a", b"one")?;
    fs::set_permissions(store.locate("a"), Permissions::from_mode(0o400))?;
    let file = store.open("a")?;
    assert_eq!(contents(&file)?, b"one");
    // Only a privileged process may write to it all the same.
    let writable = fs::OpenOptions::new().write(true).open(store.locate("a")).is_ok();
    assert_eq!(file.write_at(0, b"ONE").is_ok(), writable);
    Ok(())
}

#[test]
fn a_store_stays_with_its_directory_when_that_is_moved() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let (here, there) = (dir.path().join("here"), dir.path().join("there"));
    let store = FileStore::open(&here)?;
    fs::rename(&here, &there)?;
    fs::create_dir(&here)?;
    publish(&store, "a", b"one")?;
    assert_eq!(store.list()?, ["a"]);
    assert_eq!(fs::read(there.join("a"))?, b"one");
    assert_eq!(fs::read_dir(&here)?.count(), 0);
    Ok(())
}

#[test]
fn listing_a_directory_that_is_gone_is_not_found() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = FileStore::open(dir.path().join("log"))?;
    fs::remove_dir(store.path())?;
    assert_eq!(failure(store.list()), Some(ErrorKind::NotFound));
    Ok(())
}

#[test]
fn an_ancestor_that_may_not_be_read_is_no_obstacle() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let parent = dir.path().join("parent");
    let store = FileStore::open(parent.join("log"))?;
    fs::set_permissions(&parent, Permissions::from_mode(0o300))?;
    let synced = store.sync_place();
    fs::set_permissions(&parent, Permissions::from_mode(0o700))?;
    synced
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf_8_is_listed_lossily() -> io::Result<()> {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let dir = tempfile::tempdir()?;
    fs::write(dir.path().join(OsStr::from_bytes(b"a\xff")), "theirs")?;
    assert_eq!(FileStore::open(dir.path())?.list()?, ["a\u{fffd}"]);
    Ok(())
}
