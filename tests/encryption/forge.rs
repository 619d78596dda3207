//! What somebody can do who can write to the files and has no key: everything but a tag.

use std::ops::Range;

use cohort_wal::MemStore;

/// The first frame of a segment.
pub(crate) const FIRST: usize = 8192;

pub(crate) fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

pub(crate) fn index(number: u64) -> usize {
    usize::try_from(number).unwrap()
}

fn crc(parts: &[&[u8]]) -> [u8; 4] {
    parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part)).to_le_bytes()
}

/// The places of all frames in the file of a segment, headers included.
pub(crate) fn frames(file: &[u8]) -> Vec<Range<usize>> {
    let mut frames = Vec::new();
    let mut at = FIRST;
    while at + 16 <= file.len() && file[at + 12] != 0 {
        let end = at + 16 + index(number(file, at + 4, 4)).next_multiple_of(8);
        frames.push(at..end);
        at = end;
    }
    frames
}

/// Makes the checksums of the frame at `at` match what it holds there.
pub(crate) fn seal(file: &mut [u8], at: usize) {
    let end = at + 16 + index(number(file, at + 4, 4)).next_multiple_of(8);
    let body = crc(&[&file[at + 16..end]]);
    file[at + 8..at + 12].copy_from_slice(&body);
    let lsn = number(file, 72, 8) + (at - FIRST) as u64;
    let header = crc(&[&file[56..72], &file[48..56], &lsn.to_le_bytes(), &file[at + 4..at + 16]]);
    file[at..at + 4].copy_from_slice(&header);
}

/// Makes the checksums of both copies of a segment's header match the first one.
pub(crate) fn seal_header(file: &mut [u8]) {
    let sum = crc(&[&file[..508]]);
    file[508..512].copy_from_slice(&sum);
    file.copy_within(..512, 4096);
}

/// Makes the checksum of chunk `number` at `at` of a snapshot match what it holds.
pub(crate) fn seal_chunk(file: &mut [u8], at: usize, chunk: u64) {
    let end = at + 8 + index(number(file, at, 4));
    let sum = crc(&[
        &file[24..40],
        &file[40..48],
        &chunk.to_le_bytes(),
        &file[at..at + 4],
        &file[at + 8..end],
    ]);
    file[at + 4..at + 8].copy_from_slice(&sum);
}

/// Makes the checksum of the end of an encrypted snapshot match what it holds.
pub(crate) fn seal_end(file: &mut [u8]) {
    let end = file.len() - 16 - 24;
    let chunks = &file[end + 16..end + 24];
    let sum = crc(&[&file[24..40], &file[40..48], chunks, &file[end..end + 4], &file[end + 8..]]);
    file[end + 4..end + 8].copy_from_slice(&sum);
}

/// A copy of a store with one file changed.
pub(crate) fn with(store: &MemStore, name: &str, change: impl FnOnce(&mut Vec<u8>)) -> MemStore {
    let mut snapshot = store.snapshot();
    change(snapshot.files_mut().get_mut(name).unwrap());
    MemStore::from_snapshot(snapshot)
}
