//! The on-disk format, version 1: bytes only. No I/O, no atomics, no clocks.
//!
//! Owns the layout of frames, segment headers, CONTROL slots and file names; `docs/FORMAT.md`
//! describes the same bytes in prose. All integers are little-endian, reserved bytes are zero and
//! covered by a checksum. Bytes that are read are hostile: every function here is total.

#![cfg_attr(not(test), deny(clippy::indexing_slicing, clippy::arithmetic_side_effects))]

pub(crate) mod control;
#[cfg(all(test, not(loom)))]
mod dump_tests;
pub(crate) mod frame;
pub(crate) mod name;
pub(crate) mod segment;
pub(crate) mod snapshot;

use crate::checksum;

/// Major version of the format. A reader refuses any other.
pub(crate) const MAJOR: u16 = 1;
/// Minor version of the format. A reader accepts any.
pub(crate) const MINOR: u16 = 0;

/// A salt: random for every epoch, so that frames of one epoch never validate in another.
pub(crate) type Salt = [u8; 16];

/// The identity of a log, random, for its life.
pub(crate) type LogId = [u8; 16];

/// Bytes of a block that carries one checksum: a segment header copy or a CONTROL slot.
pub(crate) const BLOCK_BYTES: usize = 512;

/// Where a block keeps the CRC32C of the bytes before it. The same in every major version, as
/// are the magic and the version fields, so that a newer block is told from a damaged one.
const BLOCK_CRC: usize = BLOCK_BYTES - 4;

/// Why a block is not usable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BlockError {
    /// The magic is missing.
    Foreign,
    /// The magic is there and the checksum is wrong, or the block is cut short.
    Damaged,
    /// Intact and from a newer version.
    Unsupported { major: u16, incompat: u32 },
}

/// Reads `N` bytes at `offset`; zeros when they are not there.
#[inline]
pub(crate) fn array<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    bytes.get(offset..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

#[inline]
pub(crate) fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(array(bytes, offset))
}

#[inline]
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(array(bytes, offset))
}

#[inline]
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(array(bytes, offset))
}

/// Writes `value` at `offset`; a caller's constant offset is always inside.
pub(crate) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    let end = offset.saturating_add(value.len());
    if let Some(place) = bytes.get_mut(offset..end) {
        place.copy_from_slice(value);
    }
}

/// A block of this version, as yet without what it says.
fn open_block(magic: [u8; 8]) -> [u8; BLOCK_BYTES] {
    let mut block = [0; BLOCK_BYTES];
    put(&mut block, 0, &magic);
    put(&mut block, 8, &MAJOR.to_le_bytes());
    put(&mut block, 10, &MINOR.to_le_bytes());
    block
}

/// Finishes a block by its checksum.
fn close_block(block: &mut [u8; BLOCK_BYTES]) {
    let crc = checksum::of(block.get(..BLOCK_CRC).unwrap_or_default());
    put(block, BLOCK_CRC, &crc.to_le_bytes());
}

/// Checks magic, checksum and version of a block before any other field is believed.
fn check_block(bytes: &[u8], magic: [u8; 8]) -> Result<(), BlockError> {
    if array::<8>(bytes, 0) != magic {
        return Err(BlockError::Foreign);
    }
    let covered = bytes.get(..BLOCK_CRC).ok_or(BlockError::Damaged)?;
    if bytes.len() < BLOCK_BYTES || checksum::of(covered) != u32_at(bytes, BLOCK_CRC) {
        return Err(BlockError::Damaged);
    }
    let (major, incompat) = (u16_at(bytes, 8), u32_at(bytes, 12));
    if major != MAJOR || incompat != 0 {
        return Err(BlockError::Unsupported { major, incompat });
    }
    Ok(())
}
