//! What no caller of a `FileStore` can provoke.

use std::io::ErrorKind;

use super::*;

#[test]
fn a_transfer_continues_after_short_steps_and_signals() {
    let mut steps = [Ok(3), Err(ErrorKind::Interrupted.into()), Ok(2), Ok(5)].into_iter();
    let mut positions = Vec::new();
    let done = transfer(100, 10, |position, done| {
        positions.push((position, done));
        steps.next().expect("a step too many")
    });
    assert_eq!(done.unwrap(), 10);
    assert_eq!(positions, [(100, 0), (103, 3), (103, 3), (105, 5)]);
}

#[test]
fn a_transfer_ends_at_a_step_that_does_nothing_and_at_an_error() {
    assert_eq!(transfer(0, 4, |_, done| Ok(1 - done)).unwrap(), 1);
    let error = transfer(0, 4, |_, _| Err(ErrorKind::StorageFull.into())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull);
}

#[test]
fn a_full_disk_after_naming_does_not_look_like_a_full_disk() {
    let wrapped = NamedNonetheless::wrap(ErrorKind::StorageFull.into());
    assert_eq!(wrapped.kind(), ErrorKind::Other);
    let inner = wrapped.get_ref().and_then(|inner| inner.source());
    let source = inner.and_then(|source| source.downcast_ref::<io::Error>());
    assert_eq!(source.expect("the source is kept").kind(), ErrorKind::StorageFull);
}

#[test]
fn a_fork_does_not_discard_its_parents_unpublished_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    let file = store.create(0).unwrap();
    file.unpublished.lock().as_mut().expect("it has no name").maker ^= 1;
    drop(file);
    assert_eq!(store.sweep().unwrap(), 1);
}

#[test]
fn linking_publishes_without_replacing_too() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("source"), "new").unwrap();
    std::fs::write(dir.path().join("taken"), "old").unwrap();
    let directory = Directory::open(dir.path()).unwrap();
    let error = directory.link_file("source", "taken").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    directory.link_file("source", "free").unwrap();
    assert_eq!(std::fs::read(dir.path().join("taken")).unwrap(), b"old");
    assert_eq!(std::fs::read(dir.path().join("free")).unwrap(), b"new");
    assert!(!dir.path().join("source").exists());
}
