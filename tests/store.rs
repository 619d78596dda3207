//! The contract of `WalStore` and `StoreFile`, one test per promise, run against every store that
//! ships; then what only a directory promises, and only memory.

use std::io::{self, ErrorKind};

use cohort_wal::{StoreFile, WalStore};

#[path = "store/contract.rs"]
mod contract;
#[path = "store/directory.rs"]
mod directory;
#[path = "store/memory.rs"]
mod memory;
#[cfg(unix)]
#[path = "store/unix.rs"]
mod unix;

/// The error a call ended with, if it did.
fn failure<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

fn contents(file: &impl StoreFile) -> io::Result<Vec<u8>> {
    let len = usize::try_from(file.len()?).map_err(io::Error::other)?;
    let mut bytes = vec![0xee; len + 1];
    let read = file.read_at(0, &mut bytes)?;
    assert_eq!(read, len, "a whole read returns the length");
    bytes.truncate(read);
    Ok(bytes)
}

/// Publishes a file with these bytes.
fn publish<S: WalStore>(store: &S, name: &str, bytes: &[u8]) -> io::Result<S::File> {
    let file = store.create(0)?;
    file.write_at(0, bytes)?;
    file.sync()?;
    store.publish(&file, name)?;
    Ok(file)
}
