//! The checksums of the format, to forge them and to notice forgery. Shares no code with the
//! engine.

/// Where the first frame of a segment is.
pub(crate) const HEADER_AREA: usize = 8192;
/// The length of a block.
pub(crate) const BLOCK: usize = 512;
/// Where the two copies of a block are.
pub(crate) const COPIES: [usize; 2] = [0, 4096];

const FRAME_HEADER: usize = 16;

/// The little-endian number of `N` bytes at an offset, zero beyond the end.
pub(crate) fn number<const N: usize>(bytes: &[u8], at: usize) -> u64 {
    let found = bytes.get(at..at + N).unwrap_or_default();
    found.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The block at an offset, if it has a magic of ours and the right checksum.
pub(crate) fn sealed_block(file: &[u8], at: usize) -> Option<&[u8]> {
    let block = file.get(at..at + BLOCK)?;
    let ours = block.starts_with(b"COHRTCTL") || block.starts_with(b"COHRTWAL");
    let sum = u64::from(crc32c::crc32c(&block[..508]));
    (ours && sum == number::<4>(block, 508)).then_some(block)
}

/// Gives the block at an offset the right checksum.
pub(crate) fn seal_block(file: &mut [u8], at: usize) {
    if let Some(block) = file.get_mut(at..at + BLOCK) {
        let sum = crc32c::crc32c(&block[..508]);
        block[508..].copy_from_slice(&sum.to_le_bytes());
    }
}

/// What the checksums of a segment's frames are bound to.
#[derive(Debug, Clone)]
pub(crate) struct Seed {
    /// Salt and epoch, as they are in the header.
    bound: [u8; 24],
    base: u64,
}

impl Seed {
    /// The seed that a header block states.
    pub(crate) fn of(block: &[u8]) -> Self {
        let mut bound = [0; 24];
        bound[..16].copy_from_slice(&block[56..72]);
        bound[16..].copy_from_slice(&block[48..56]);
        Self { bound, base: number::<8>(block, 72) }
    }

    fn header_sum(&self, file: &[u8], offset: usize) -> u32 {
        let lsn = self.base.wrapping_add((offset - HEADER_AREA) as u64);
        let sum = crc32c::crc32c(&self.bound);
        let sum = crc32c::crc32c_append(sum, &lsn.to_le_bytes());
        crc32c::crc32c_append(sum, &file[offset + 4..offset + FRAME_HEADER])
    }

    /// Whether the 16 bytes at an offset are the header of a frame here.
    pub(crate) fn fits_header(&self, file: &[u8], offset: usize) -> bool {
        let Some(header) = file.get(offset..offset + FRAME_HEADER) else { return false };
        matches!(header[12] & 0x0F, 1 | 2)
            && number::<4>(header, 0) == u64::from(self.header_sum(file, offset))
    }

    /// Gives the frames from one offset to another, as far as they fit into the file, the right
    /// checksums; `tame`: after their kinds and lengths were made ones that fit.
    pub(crate) fn seal(&self, file: &mut [u8], from: usize, to: usize, tame: bool) {
        let mut offset = from.max(HEADER_AREA).next_multiple_of(8);
        while offset < to && offset + FRAME_HEADER <= file.len() {
            if tame {
                let room = file.len() - offset - FRAME_HEADER;
                let len = number::<4>(file, offset + 4) as usize % 256;
                let len = len.min(room & !7) as u32;
                file[offset + 4..offset + 8].copy_from_slice(&len.to_le_bytes());
                let kind = if file[offset + 12] & 2 == 0 { 1 } else { 2 };
                file[offset + 12] = file[offset + 12] & 0x10 | kind;
            }
            let Some(end) = frame_end(file, offset) else { break };
            let sum = crc32c::crc32c(&file[offset + FRAME_HEADER..end]);
            file[offset + 8..offset + 12].copy_from_slice(&sum.to_le_bytes());
            let sum = self.header_sum(file, offset);
            file[offset..offset + 4].copy_from_slice(&sum.to_le_bytes());
            offset = end;
        }
    }
}

/// Where the frame at an offset ends, by its length; `None` when it does not fit into the file.
pub(crate) fn frame_end(file: &[u8], offset: usize) -> Option<usize> {
    let len = usize::try_from(number::<4>(file, offset + 4)).ok()?;
    let end = len.checked_next_multiple_of(8)?.checked_add(offset + FRAME_HEADER)?;
    (end <= file.len()).then_some(end)
}

/// Whether the body of the frame at an offset is as its header says.
pub(crate) fn fits_body(file: &[u8], offset: usize) -> bool {
    frame_end(file, offset).is_some_and(|end| {
        let sum = crc32c::crc32c(&file[offset + FRAME_HEADER..end]);
        number::<4>(file, offset + 8) == u64::from(sum)
    })
}
