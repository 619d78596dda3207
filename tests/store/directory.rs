//! What only `FileStore` promises, on every system.

use std::io::{self, ErrorKind};

use cohort_wal::{FileStore, StoreFile, WalStore};

use super::{failure, publish};

#[test]
fn opening_a_directory_store_creates_missing_ancestors() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("a/b/log");
    assert_eq!(failure(FileStore::existing(&path)), Some(ErrorKind::NotFound));
    assert!(!dir.path().join("a").exists());
    let store = FileStore::open(&path)?;
    assert_eq!(store.path(), path);
    store.sync_place()?;
    FileStore::existing(&path)?;
    Ok(())
}

#[test]
fn a_plain_file_is_no_directory_store() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let path = dir.path().join("plain");
    std::fs::write(&path, "bytes")?;
    assert_eq!(failure(FileStore::existing(&path)), Some(ErrorKind::NotADirectory));
    assert_eq!(failure(FileStore::open(&path)), Some(ErrorKind::NotADirectory));
    assert_eq!(failure(FileStore::open(path.join("log"))), Some(ErrorKind::NotADirectory));
    assert_eq!(std::fs::read(&path)?, b"bytes");
    Ok(())
}

#[test]
fn the_lock_excludes_other_stores_on_the_same_directory() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let (one, other) = (FileStore::open(dir.path())?, FileStore::open(dir.path())?);
    let file = publish(&one, "a", b"")?;
    assert!(one.lock(&file)?);
    assert!(!other.lock(&other.open("a")?)?);
    drop((file, one));
    assert!(other.lock(&other.open("a")?)?);
    Ok(())
}

#[test]
fn what_a_crash_left_is_swept_by_the_next_store() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let store = FileStore::open(dir.path())?;
    Box::leak(Box::new(store.create(0)?)).write_at(0, b"half")?;
    Box::leak(Box::new(store.create(0)?));
    drop(store);
    let store = FileStore::existing(dir.path())?;
    assert!(store.list()?.is_empty());
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 2);
    assert_eq!(store.sweep()?, 2);
    assert_eq!(std::fs::read_dir(dir.path())?.count(), 0);
    Ok(())
}

#[test]
fn foreign_files_are_listed_and_never_swept() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let digits = "0123456789abcdef0123456789abcdef";
    let foreign = [
        "notes.txt".to_owned(),
        ".hidden".to_owned(),
        "segment.tmp".to_owned(),
        format!("{digits}.tmp"),
        format!(".cohort-{digits}"),
        format!(".cohort-{digits}0.tmp"),
        format!(".cohort-{}.tmp", &digits[1..]),
        format!(".cohort-{}.tmp", digits.replace('a', "g")),
        format!(".cohort-{}.tmp", digits.to_uppercase()),
        format!("x.cohort-{digits}.tmp"),
        format!(".cohort-{digits}.tmp~"),
    ];
    for name in &foreign {
        std::fs::write(dir.path().join(name), "theirs")?;
    }
    std::fs::create_dir(dir.path().join("folder"))?;
    std::fs::create_dir(dir.path().join(format!(".cohort-{digits}.tmp")))?;

    let store = FileStore::open(dir.path())?;
    assert_eq!(store.sweep()?, 0);
    let listed = store.list()?;
    for name in &foreign {
        assert!(listed.contains(name), "{name} is listed");
        assert_eq!(std::fs::read(dir.path().join(name))?, b"theirs");
    }
    assert!(listed.contains(&"folder".to_owned()));
    assert_eq!(std::fs::read_dir(dir.path())?.count(), foreign.len() + 2);
    Ok(())
}

#[test]
fn a_directory_named_like_a_file_is_refused() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    std::fs::create_dir(dir.path().join("a"))?;
    let store = FileStore::open(dir.path())?;
    assert_eq!(failure(store.open("a")), Some(ErrorKind::InvalidData));
    assert_eq!(failure(publish(&store, "a", b"")), Some(ErrorKind::AlreadyExists));
    assert!(store.remove("a").is_err());
    assert!(dir.path().join("a").is_dir());
    Ok(())
}
