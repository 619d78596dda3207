//! Segment headers: 8192 bytes before the first frame, the same block at 0 and at 4096.

use super::{
    BLOCK_BYTES, BlockError, LogId, MINOR, Salt, array, check_block, close_block, open_block, put,
    u16_at, u32_at, u64_at,
};
use crate::format::frame::Seed;
use crate::lsn::{ALIGNMENT, LSN_LIMIT};

/// Bytes before the first frame.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 8192;
/// The same, in the unit of file offsets.
pub(crate) const FIRST_FRAME: u64 = 8192;
/// Offset of the second copy.
pub(crate) const SECOND_COPY: usize = 4096;

const MAGIC: [u8; 8] = *b"COHRTWAL";

/// The fields of a segment header. See `docs/FORMAT.md` for what each one promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log_id: LogId,
    /// Creation order, strictly rising; part of the file's name.
    pub(crate) seq: u64,
    /// Rises at every writable open.
    pub(crate) epoch: u64,
    pub(crate) salt: Salt,
    /// LSN of the first frame; cuts older segments there.
    pub(crate) base: u64,
    /// Nearest live segment with a smaller base; 0: none.
    pub(crate) prev_seq: u64,
    /// Head of the log when the segment was made.
    pub(crate) head: u64,
    /// All below was durable when the segment was published.
    pub(crate) durable: u64,
    /// The bound on written but not durable bytes, besides one unit.
    pub(crate) max_unsynced: u64,
    /// The largest unit, in encoded bytes.
    pub(crate) max_unit: u64,
    /// The largest record, in bytes.
    pub(crate) max_record: u32,
    /// 0: not encrypted; 1: [`AES_256_GCM`].
    pub(crate) cipher: u8,
    /// With [`ENTIRE`]: nothing of the log before this segment is plain.
    pub(crate) extent: u8,
    pub(crate) key_id: u32,
    /// Proves that who made this header had the key.
    pub(crate) key_check: [u8; CHECK_BYTES],
    /// What a later minor version may say before that proof, which is about it too.
    pub(crate) ignored: Ignored,
}

/// Bytes that mean nothing to this version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ignored {
    minor: u16,
    compat: u32,
    reserved: [u8; 2],
}

impl Ignored {
    /// What this version writes there.
    pub(crate) const NONE: Self = Self { minor: MINOR, compat: 0, reserved: [0; 2] };
}

/// No live segment before it, and no snapshot that counts.
pub(crate) const ENTIRE: u8 = 1;
/// The only cipher.
pub(crate) const AES_256_GCM: u8 = 1;
/// Bytes of that proof, and where it stands: it is about everything before.
pub(crate) const CHECK_BYTES: usize = 16;
pub(crate) const CHECK_AT: usize = 132;

impl SegmentHeader {
    /// Whether it is proven, with its other fields, that nothing before it is plain.
    pub(crate) fn is_entire(&self) -> bool {
        self.cipher != 0 && self.extent & ENTIRE != 0
    }

    pub(crate) fn seed(&self) -> Seed {
        Seed::new(&self.salt, self.epoch)
    }

    /// Where `bytes` bytes of frames end in the log, rounded up to where a frame could start.
    pub(crate) fn end_after(&self, bytes: u64) -> u64 {
        let end = self.base.saturating_add(bytes).min(LSN_LIMIT);
        end.checked_next_multiple_of(ALIGNMENT).unwrap_or(LSN_LIMIT)
    }

    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = open_block(MAGIC);
        put(&mut block, 10, &self.ignored.minor.to_le_bytes());
        put(&mut block, 16, &self.ignored.compat.to_le_bytes());
        put(&mut block, 126, &self.ignored.reserved);
        put(&mut block, 20, &8192_u32.to_le_bytes());
        put(&mut block, 24, &self.log_id);
        put(&mut block, 40, &self.seq.to_le_bytes());
        put(&mut block, 48, &self.epoch.to_le_bytes());
        put(&mut block, 56, &self.salt);
        put(&mut block, 72, &self.base.to_le_bytes());
        put(&mut block, 80, &self.prev_seq.to_le_bytes());
        put(&mut block, 88, &self.head.to_le_bytes());
        put(&mut block, 96, &self.durable.to_le_bytes());
        put(&mut block, 104, &self.max_unsynced.to_le_bytes());
        put(&mut block, 112, &self.max_unit.to_le_bytes());
        put(&mut block, 120, &self.max_record.to_le_bytes());
        put(&mut block, 124, &[self.cipher, self.extent]);
        put(&mut block, 128, &self.key_id.to_le_bytes());
        put(&mut block, CHECK_AT, &self.key_check);
        close_block(&mut block);
        block
    }

    /// The whole header area, both copies.
    pub(crate) fn encode_area(&self) -> Vec<u8> {
        let block = self.encode();
        let mut area = vec![0; SEGMENT_HEADER_BYTES];
        put(&mut area, 0, &block);
        put(&mut area, SECOND_COPY, &block);
        area
    }

    /// Decodes one copy.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        check_block(bytes, MAGIC)?;
        // Nobody has ever written another; who will needs a version of its own for that.
        if u64::from(u32_at(bytes, 20)) != FIRST_FRAME {
            let (major, incompat) = (u16_at(bytes, 8), u32_at(bytes, 12));
            return Err(BlockError::Unsupported { major, incompat });
        }
        Ok(Self {
            log_id: array(bytes, 24),
            seq: u64_at(bytes, 40),
            epoch: u64_at(bytes, 48),
            salt: array(bytes, 56),
            base: u64_at(bytes, 72),
            prev_seq: u64_at(bytes, 80),
            head: u64_at(bytes, 88),
            durable: u64_at(bytes, 96),
            max_unsynced: u64_at(bytes, 104),
            max_unit: u64_at(bytes, 112),
            max_record: u32_at(bytes, 120),
            cipher: array::<1>(bytes, 124)[0],
            extent: array::<1>(bytes, 125)[0],
            key_id: u32_at(bytes, 128),
            key_check: array(bytes, CHECK_AT),
            ignored: Ignored {
                minor: u16_at(bytes, 10),
                compat: u32_at(bytes, 16),
                reserved: array(bytes, 126),
            },
        })
    }
}

/// What the two copies of a header area amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HeaderArea {
    /// Usable; `intact` is false when one copy is bad.
    Valid { header: SegmentHeader, intact: bool },
    /// Both copies are valid and differ.
    Conflict,
    /// No usable copy.
    Unusable(BlockError),
}

/// Decodes a header area, however short it is.
pub(crate) fn decode_area(area: &[u8]) -> HeaderArea {
    let first = SegmentHeader::decode(area.get(..BLOCK_BYTES).unwrap_or(area));
    let second = SegmentHeader::decode(area.get(SECOND_COPY..).unwrap_or_default());
    let copy = |from: usize| area.get(from..from.saturating_add(BLOCK_BYTES));
    match (first, second) {
        (Ok(a), Ok(_)) if copy(0) == copy(SECOND_COPY) => {
            HeaderArea::Valid { header: a, intact: true }
        }
        (Ok(_), Ok(_)) => HeaderArea::Conflict,
        (Err(e @ BlockError::Unsupported { .. }), _)
        | (_, Err(e @ BlockError::Unsupported { .. })) => HeaderArea::Unusable(e),
        (Ok(header), Err(_)) | (Err(_), Ok(header)) => HeaderArea::Valid { header, intact: false },
        (Err(BlockError::Foreign), Err(BlockError::Foreign)) => {
            HeaderArea::Unusable(BlockError::Foreign)
        }
        (Err(_), Err(_)) => HeaderArea::Unusable(BlockError::Damaged),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        SegmentHeader {
            log_id: [1; 16],
            seq: 2,
            epoch: 3,
            salt: [4; 16],
            base: 8,
            prev_seq: 1,
            head: 0,
            durable: 8,
            max_unsynced: 1 << 27,
            max_unit: 1 << 28,
            max_record: 1 << 26,
            cipher: 0,
            extent: 0,
            key_id: 0,
            key_check: [0; CHECK_BYTES],
            ignored: Ignored::NONE,
        }
    }

    #[test]
    fn a_header_survives_the_loss_of_either_copy_but_not_of_both() {
        let area = header().encode_area();
        assert_eq!(decode_area(&area), HeaderArea::Valid { header: header(), intact: true });
        for copy in [0, SECOND_COPY] {
            let mut one = area.clone();
            one[copy + 100] ^= 1;
            assert_eq!(decode_area(&one), HeaderArea::Valid { header: header(), intact: false });
            one[SECOND_COPY - copy + 41] ^= 1;
            assert_eq!(decode_area(&one), HeaderArea::Unusable(BlockError::Damaged));
        }
        assert_eq!(decode_area(&area[..100]), HeaderArea::Unusable(BlockError::Damaged));
        assert_eq!(decode_area(b"PK"), HeaderArea::Unusable(BlockError::Foreign));
    }

    #[test]
    fn a_newer_version_or_feature_is_refused_only_when_intact() {
        for (offset, major, incompat) in [(8, 3, 0), (12, 1, 2)] {
            let mut block = header().encode();
            block[offset] ^= 2;
            assert_eq!(SegmentHeader::decode(&block), Err(BlockError::Damaged));
            close_block(&mut block);
            let unsupported = Err(BlockError::Unsupported { major, incompat });
            assert_eq!(SegmentHeader::decode(&block), unsupported);
        }
    }

    #[test]
    fn two_valid_copies_that_differ_are_a_conflict() {
        let mut area = header().encode_area();
        let other = SegmentHeader { seq: 9, ..header() }.encode();
        area[SECOND_COPY..SECOND_COPY + BLOCK_BYTES].copy_from_slice(&other);
        assert_eq!(decode_area(&area), HeaderArea::Conflict);
    }
}
