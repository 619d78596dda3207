//! What somebody can do who can write to the files of a log and has no key: change a record and
//! make its checksums match. By `docs/FORMAT.md`.

use std::ops::Range;
use std::path::Path;

/// The first frame of a segment.
const FIRST: usize = 8192;

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn crc(parts: &[&[u8]]) -> [u8; 4] {
    parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part)).to_le_bytes()
}

fn end_of(file: &[u8], at: usize) -> usize {
    let body = usize::try_from(number(file, at + 4, 4)).unwrap();
    at + 16 + body.next_multiple_of(8)
}

/// The places of the records in the file of a segment, headers included.
pub(crate) fn frames(file: &[u8]) -> Vec<Range<usize>> {
    let (mut frames, mut at) = (Vec::new(), FIRST);
    while at + 16 <= file.len() && file[at + 12] != 0 {
        let end = end_of(file, at);
        frames.push(at..end);
        at = end;
    }
    frames
}

/// The LSN of a record in the file of a segment.
pub(crate) fn lsn(file: &[u8], frame: &Range<usize>) -> u64 {
    number(file, 72, 8) + (frame.start - FIRST) as u64
}

/// Makes the checksums of the record at `at` match what it holds there.
fn seal(file: &mut [u8], at: usize) {
    let end = end_of(file, at);
    let body = crc(&[&file[at + 16..end]]);
    file[at + 8..at + 12].copy_from_slice(&body);
    let lsn = lsn(file, &(at..end));
    let header = crc(&[&file[56..72], &file[48..56], &lsn.to_le_bytes(), &file[at + 4..at + 16]]);
    file[at..at + 4].copy_from_slice(&header);
}

/// Flips a bit of the record at `place`, counted from the end if negative; with `sealed` its
/// checksums match that afterwards. Returns its LSN.
pub(crate) fn flip(segment: &Path, place: isize, sealed: bool) -> u64 {
    let mut file = std::fs::read(segment).unwrap();
    let frames = frames(&file);
    let place = place.rem_euclid(isize::try_from(frames.len()).unwrap()).unsigned_abs();
    let frame = frames[place].clone();
    file[frame.start + 16 + 3] ^= 4;
    if sealed {
        seal(&mut file, frame.start);
    }
    std::fs::write(segment, &file).unwrap();
    lsn(&file, &frame)
}

/// Makes a segment a plain one, which needs no key, with these bytes at the beginning of each
/// record and `A` behind them.
pub(crate) fn make_plain(segment: &Path, beginning: &[u8]) {
    let mut file = std::fs::read(segment).unwrap();
    for frame in frames(&file) {
        file[frame.start + 12] &= !0x40;
        let body = usize::try_from(number(&file, frame.start + 4, 4)).unwrap();
        let body = &mut file[frame.start + 16..frame.start + 16 + body];
        body.fill(b'A');
        body[..beginning.len()].copy_from_slice(beginning);
        seal(&mut file, frame.start);
    }
    file[124..148].fill(0);
    let sum = crc(&[&file[..508]]);
    file[508..512].copy_from_slice(&sum);
    file.copy_within(..512, 4096);
    std::fs::write(segment, &file).unwrap();
}
