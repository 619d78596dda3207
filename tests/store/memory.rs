//! What only `MemStore` promises.

use std::io::{self, ErrorKind};

use cohort_wal::{MemStore, StoreFile, WalStore};

use super::{contents, failure, publish};

#[test]
fn clones_of_a_memory_store_share_files_and_locks() -> io::Result<()> {
    let store = MemStore::new();
    let clone = store.clone();
    let file = publish(&store, "a", b"one")?;
    assert_eq!(contents(&clone.open("a")?)?, b"one");
    assert!(store.lock(&file)?);
    assert!(!clone.lock(&clone.open("a")?)?);
    Ok(())
}

#[test]
fn a_snapshot_is_a_copy_of_what_is_published() -> io::Result<()> {
    let store = MemStore::new();
    let file = publish(&store, "a", b"one")?;
    assert!(store.lock(&file)?);
    let unpublished = store.create(0)?;
    let snapshot = store.snapshot();
    file.write_at(0, b"ONE")?;
    store.publish(&unpublished, "b")?;

    let copy = MemStore::from_snapshot(snapshot.clone());
    assert_eq!(copy.list()?, ["a"]);
    assert_eq!(contents(&copy.open("a")?)?, b"one");
    assert!(copy.lock(&copy.open("a")?)?, "locks are not copied");
    assert_eq!(copy.snapshot(), snapshot);
    assert_ne!(store.snapshot(), snapshot);
    Ok(())
}

#[test]
fn debug_output_never_shows_bytes() -> io::Result<()> {
    let store = MemStore::new();
    let file = publish(&store, "a", &[77; 3])?;
    assert_eq!(format!("{:?}", store.snapshot()), r#"{"a": 3}"#);
    assert!(!format!("{store:?} {file:?}").contains("77"));
    Ok(())
}

#[test]
fn memory_that_cannot_be_had_is_an_error() -> io::Result<()> {
    let file = MemStore::new().create(u64::MAX)?;
    assert_eq!(failure(file.set_len(1 << 62)), Some(ErrorKind::OutOfMemory));
    assert_eq!(failure(file.write_at(u64::MAX, b"ab")), Some(ErrorKind::InvalidInput));
    assert!(file.is_empty()?);
    Ok(())
}
