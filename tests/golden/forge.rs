//! Changes that carry good checksums, as a later version or a forger would make them.

use super::independent::chain::Segment;
use super::independent::seal::Sealer;
use super::independent::{Files, Keys, crc, index, number};

fn put(bytes: &mut [u8], at: usize, value: u64, len: usize) {
    bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..len]);
}

/// The places of all blocks: file and offset.
pub(crate) fn blocks(files: &Files) -> Vec<(String, usize)> {
    let places = files.keys().flat_map(|name| {
        let offsets: &[usize] = if name.ends_with(".snap") { &[0] } else { &[0, 4096] };
        offsets.iter().map(move |at| (name.clone(), *at))
    });
    places.collect()
}

/// Changes a block; its checksum is right afterwards.
pub(crate) fn block(files: &mut Files, place: &(String, usize), change: impl FnOnce(&mut [u8])) {
    let file = files.get_mut(&place.0).map(Vec::as_mut_slice).unwrap_or_default();
    let block = &mut file[place.1..place.1 + 512];
    change(block);
    let sum = crc(&[&block[..508]]);
    put(block, 508, sum, 4);
}

/// Proves a block again, if it is one that is proven.
pub(crate) fn prove(block: &mut [u8], keys: &Keys) {
    let is_segment = block.starts_with(b"COHRTWAL");
    let (cipher, key_id, check) = if is_segment { (124, 128, 132) } else { (64, 68, 72) };
    if block.starts_with(b"COHRTCTL") || block[cipher] == 0 {
        return;
    }
    let id = u32::try_from(number(block, key_id, 4)).unwrap_or(u32::MAX);
    let Some(key) = keys.get(&id) else { return };
    let sealer = match is_segment {
        true => Sealer::frames(key, &Segment { file: &[], header: block, cut: None }),
        false => Sealer::chunks(key, block),
    };
    let proof = sealer.proof(&block[..check]);
    block[check..check + 16].copy_from_slice(&proof);
}

/// Makes both checksums of the frame at an LSN right.
pub(crate) fn sum_frame(file: &mut [u8], lsn: u64) {
    let (header, frames) = file.split_at_mut(8192);
    let frame = &mut frames[index(lsn - number(header, 72, 8))..];
    let end = 16 + index(number(frame, 4, 4)).next_multiple_of(8);
    if let Some(body) = frame.get(16..end) {
        let sum = crc(&[body]);
        put(frame, 8, sum, 4);
    }
    let (salt, epoch) = (&header[56..72], &header[48..56]);
    let sum = crc(&[salt, epoch, &lsn.to_le_bytes(), &frame[4..16]]);
    put(frame, 0, sum, 4);
}
