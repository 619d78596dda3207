//! One file of a healthy log gets other bytes: CONTROL, a segment's header, or its frames.

use std::sync::Arc;

use crate::input::Input;
use crate::judge::judge;
use crate::sample::{CONTROL, SAMPLES, Sample, sample};
use crate::seal::{BLOCK, COPIES, HEADER_AREA, Seed, seal_block};

/// Replaces one file by what `change` makes of it, and judges.
fn replaced(sample: &Sample, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut files = sample.files.clone();
    let Some(original) = files.get(name) else { return };
    let mut bytes = original.to_vec();
    change(&mut bytes);
    if *original.as_slice() != bytes {
        files.insert(name.to_owned(), Arc::new(bytes));
    }
    judge(sample, &files);
}

/// Writes over the bytes of a file, as far as it is long.
fn overwrite(file: &mut [u8], at: usize, bytes: &[u8]) {
    let end = file.len().min(at + bytes.len());
    if let Some(place) = file.get_mut(at..end) {
        place.copy_from_slice(&bytes[..place.len()]);
    }
}

/// Up to four patches of the blocks of a file. Each begins with a byte of bits: 1 and 2 leave the
/// first or the second copy alone, 4 seals what is patched, 8 patches the area behind the blocks
/// instead, and 16 moves the end of the file. Then where, how many bytes, and these.
fn blocks(file: &mut Vec<u8>, input: &mut Input<'_>) {
    for _ in 0..4 {
        if input.is_empty() {
            break;
        }
        let mode = input.byte();
        let at = input.short();
        if mode & 16 != 0 {
            file.resize(at % (file.len() + 64), 0);
            continue;
        }
        let len = input.short() % (BLOCK + 1);
        let bytes = input.bytes(len);
        if mode & 8 != 0 {
            overwrite(file, at % HEADER_AREA, bytes);
        }
        for (copy, start) in COPIES.into_iter().enumerate() {
            if mode >> copy & 1 == 0 {
                if mode & 8 == 0 {
                    overwrite(file, start + at % BLOCK, bytes);
                }
                if mode & 4 != 0 {
                    seal_block(file, start);
                }
            }
        }
    }
}

/// Arbitrary bytes in CONTROL.
pub(crate) fn control(data: &[u8]) {
    let mut input = Input::new(data);
    let sample = sample(input.below(SAMPLES));
    replaced(sample, CONTROL, |file| blocks(file, &mut input));
}

/// Arbitrary bytes in the header of one segment.
pub(crate) fn header(data: &[u8]) {
    let mut input = Input::new(data);
    let sample = sample(input.below(SAMPLES));
    let (name, _) = &sample.segments[input.below(sample.segments.len())];
    replaced(sample, name, |file| blocks(file, &mut input));
}

/// The seed of a segment's frames, from a header that nobody touched.
fn seed(sample: &Sample, name: &str) -> Option<Seed> {
    sample.files.get(name)?.get(..BLOCK).map(Seed::of)
}

/// Arbitrary bytes where a frame begins. A byte of bits: 1 seals what they make, 2 makes lengths
/// fit first, 4 inserts them instead of overwriting, 8 ends the file behind them.
pub(crate) fn frame(data: &[u8]) {
    let mut input = Input::new(data);
    let sample = sample(input.below(SAMPLES));
    let (name, frames) = &sample.segments[input.below(sample.segments.len())];
    let Some(seed) = seed(sample, name) else { return };
    // One place more than there are frames: behind the last one.
    let place = input.below(frames.len() + 1);
    let mode = input.byte();
    let bytes = input.bytes(4096);
    replaced(sample, name, |file| {
        let at = frames.iter().nth(place).copied().unwrap_or(file.len()).min(file.len());
        let end = at + bytes.len();
        let replaced = if mode & 4 == 0 { end.min(file.len()) } else { at };
        file.splice(at..replaced, bytes.iter().copied());
        if mode & 8 != 0 {
            file.truncate(end);
        }
        if mode & 1 != 0 {
            seed.seal(file, at, end, mode & 2 != 0);
        }
    });
}

/// Arbitrary bytes in place of the frames of a segment, from anywhere on. A byte of bits: 1 seals
/// frames from where the bytes begin, 2 makes lengths fit first, 4 keeps what is behind them.
pub(crate) fn segment(data: &[u8]) {
    let mut input = Input::new(data);
    let sample = sample(input.below(SAMPLES));
    let (name, _) = &sample.segments[input.below(sample.segments.len())];
    let Some(seed) = seed(sample, name) else { return };
    let mode = input.byte();
    let place = input.short();
    let bytes = input.rest();
    replaced(sample, name, |file| {
        let room = file.len().saturating_sub(HEADER_AREA);
        let at = HEADER_AREA + place % (room + 1);
        let end = at + bytes.len();
        if mode & 4 == 0 || file.len() < end {
            file.resize(end, 0);
        }
        file[at..end].copy_from_slice(bytes);
        if mode & 1 != 0 {
            seed.seal(file, at, end, mode & 2 != 0);
        }
    });
}
