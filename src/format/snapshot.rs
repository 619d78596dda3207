//! Snapshot files: a header, chunks, an end.

use super::segment::CHECK_BYTES;
use super::{
    BLOCK_BYTES, BlockError, LogId, Salt, array, check_block, close_block, open_block, put, u32_at,
    u64_at,
};
use crate::checksum;

pub(crate) const MAGIC: [u8; 8] = *b"COHRTSNP";

/// Where the first chunk starts: behind the header, a block.
pub(crate) const FIRST_CHUNK: u64 = 512;
/// Bytes before those of a chunk: their number u32, a checksum u32.
pub(crate) const CHUNK_HEADER_BYTES: usize = 8;
/// The most bytes in a chunk; a chunk of a writer is full unless it is the last one.
pub(crate) const CHUNK_BYTES: usize = 256 << 10;
/// The end: a chunk header that says 0, then two numbers u64.
pub(crate) const END_BYTES: usize = CHUNK_HEADER_BYTES + 16;

/// Whose snapshot it is, and of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SnapshotHeader {
    pub(crate) log_id: LogId,
    /// It stands for everything below.
    pub(crate) lsn: u64,
    /// Zero, as what follows, where it is not encrypted.
    pub(crate) salt: Salt,
    pub(crate) cipher: u8,
    pub(crate) key_id: u32,
    /// Proves that who made this header had the key.
    pub(crate) key_check: [u8; CHECK_BYTES],
}

/// Where that proof stands: it is about everything before.
pub(crate) const CHECK_AT: usize = 72;
/// What is sealed.
pub(crate) const CHUNK: u8 = 1;
pub(crate) const END: u8 = 2;

impl SnapshotHeader {
    /// Of one that is not encrypted.
    pub(crate) fn plain(log_id: LogId, lsn: u64) -> Self {
        let (salt, key_check) = ([0; _], [0; _]);
        Self { log_id, lsn, salt, cipher: 0, key_id: 0, key_check }
    }

    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = open_block(MAGIC);
        put(&mut block, 24, &self.log_id);
        put(&mut block, 40, &self.lsn.to_le_bytes());
        put(&mut block, 48, &self.salt);
        put(&mut block, 64, &[self.cipher]);
        put(&mut block, 68, &self.key_id.to_le_bytes());
        put(&mut block, CHECK_AT, &self.key_check);
        close_block(&mut block);
        block
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        check_block(bytes, MAGIC)?;
        Ok(Self {
            log_id: array(bytes, 24),
            lsn: u64_at(bytes, 40),
            salt: array(bytes, 48),
            cipher: array::<1>(bytes, 64)[0],
            key_id: u32_at(bytes, 68),
            key_check: array(bytes, CHECK_AT),
        })
    }

    /// The checksum of chunk `number`, from 0: of the header's fields, the number, the length and
    /// the bytes, so that it fits no other place and no other snapshot.
    pub(crate) fn checksum(&self, number: u64, len: u32, bytes: &[u8]) -> u32 {
        let mut crc = checksum::of(&self.log_id);
        for field in [self.lsn, number] {
            crc = checksum::append(crc, &field.to_le_bytes());
        }
        crc = checksum::append(crc, &len.to_le_bytes());
        checksum::append(crc, bytes)
    }

    /// What stands before the bytes of a chunk.
    pub(crate) fn chunk_header(&self, number: u64, bytes: &[u8]) -> [u8; CHUNK_HEADER_BYTES] {
        let len = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let mut header = [0; CHUNK_HEADER_BYTES];
        put(&mut header, 0, &len.to_le_bytes());
        put(&mut header, 4, &self.checksum(number, len, bytes).to_le_bytes());
        header
    }

    /// What stands behind `chunks` chunks with `total` bytes, before `tag`, which its checksum
    /// covers.
    pub(crate) fn end(&self, chunks: u64, total: u64, tag: &[u8]) -> [u8; END_BYTES] {
        let mut end = [0; END_BYTES];
        put(&mut end, 8, &total.to_le_bytes());
        put(&mut end, 16, &chunks.to_le_bytes());
        let crc = self.checksum(chunks, 0, end.get(8..).unwrap_or_default());
        let crc = checksum::append(crc, tag);
        put(&mut end, 4, &crc.to_le_bytes());
        end
    }

    /// How many chunks and bytes stand before an end; `None` where these bytes are none.
    pub(crate) fn decode_end(&self, bytes: &[u8], tag: &[u8]) -> Option<(u64, u64)> {
        let (total, chunks) = (u64_at(bytes, 8), u64_at(bytes, 16));
        (bytes == self.end(chunks, total, tag)).then_some((chunks, total))
    }
}

/// Bytes of a snapshot file with so many chunks and bytes.
pub(crate) fn file_bytes(chunks: u64, total: u64) -> Option<u64> {
    let headers = chunks.checked_mul(CHUNK_HEADER_BYTES as u64)?;
    FIRST_CHUNK.checked_add(END_BYTES as u64)?.checked_add(total)?.checked_add(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SnapshotHeader = SnapshotHeader {
        log_id: [7; 16],
        lsn: 4096,
        salt: [8; 16],
        cipher: 1,
        key_id: 9,
        key_check: [10; 16],
    };

    #[test]
    fn a_header_says_what_was_put_in_and_every_bit_counts() {
        let block = HEADER.encode();
        assert_eq!(SnapshotHeader::decode(&block), Ok(HEADER));
        for bit in 0..BLOCK_BYTES * 8 {
            let mut damaged = block;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(SnapshotHeader::decode(&damaged).is_err(), "{bit}");
        }
        assert_eq!(SnapshotHeader::decode(&block[..511]), Err(BlockError::Damaged));
    }

    #[test]
    fn a_chunk_fits_its_place_and_no_other() {
        let chunk = HEADER.chunk_header(3, b"bytes");
        assert_ne!(chunk, HEADER.chunk_header(4, b"bytes"));
        assert_ne!(chunk, SnapshotHeader { lsn: 4104, ..HEADER }.chunk_header(3, b"bytes"));
        assert_ne!(chunk, SnapshotHeader { log_id: [8; 16], ..HEADER }.chunk_header(3, b"bytes"));
    }

    #[test]
    fn an_end_is_told_from_everything_else() {
        let end = HEADER.end(3, 600_000, b"tag");
        assert_eq!(HEADER.decode_end(&end, b"tag"), Some((3, 600_000)));
        for bit in 0..END_BYTES * 8 {
            let mut damaged = end;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(HEADER.decode_end(&damaged, b"tag"), None, "{bit}");
        }
        assert_eq!(HEADER.decode_end(&end[1..], b"tag"), None);
        assert_eq!(HEADER.decode_end(&end, b"gat"), None);
        assert_eq!(file_bytes(3, 600_000), Some(512 + 24 + 24 + 600_000));
        assert_eq!(file_bytes(u64::MAX, 1), None);
    }
}
