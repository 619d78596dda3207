//! CONTROL: two slots, at 0 and at 4096; the valid one with the higher generation counts.

use super::{
    BLOCK_BYTES, BlockError, LogId, array, check_block, close_block, open_block, put, u32_at,
    u64_at,
};

/// Bytes of the whole file.
pub(crate) const CONTROL_BYTES: usize = 8192;
/// Offsets of the two slots.
pub(crate) const SLOT_OFFSETS: [u64; 2] = [0, 4096];
/// The log was closed with everything durable.
pub(crate) const CLEAN: u32 = 1;

const MAGIC: [u8; 8] = *b"COHRTCTL";

/// What a slot says. Every field is a true statement when it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) log_id: LogId,
    /// Newest segment that may hold an acknowledged record; 0: none yet.
    pub(crate) newest_seq: u64,
    /// Oldest LSN still kept.
    pub(crate) head: u64,
    /// LSN of the snapshot that counts; `u64::MAX`: none.
    pub(crate) snapshot: u64,
    /// All below is durable; at least `head`.
    pub(crate) durable: u64,
    /// The log was closed with everything durable.
    pub(crate) clean: bool,
}

/// One decoded slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    pub(crate) generation: u64,
    pub(crate) claim: Claim,
}

impl Slot {
    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let flags = if self.claim.clean { CLEAN } else { 0 };
        let mut block = open_block(MAGIC);
        put(&mut block, 16, &self.generation.to_le_bytes());
        put(&mut block, 24, &self.claim.log_id);
        put(&mut block, 40, &self.claim.newest_seq.to_le_bytes());
        put(&mut block, 48, &self.claim.head.to_le_bytes());
        put(&mut block, 56, &self.claim.snapshot.to_le_bytes());
        put(&mut block, 64, &self.claim.durable.to_le_bytes());
        put(&mut block, 72, &flags.to_le_bytes());
        close_block(&mut block);
        block
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BlockError> {
        check_block(bytes, MAGIC)?;
        Ok(Self {
            generation: u64_at(bytes, 16),
            claim: Claim {
                log_id: array(bytes, 24),
                newest_seq: u64_at(bytes, 40),
                head: u64_at(bytes, 48),
                snapshot: u64_at(bytes, 56),
                durable: u64_at(bytes, 64),
                clean: u32_at(bytes, 72) & CLEAN != 0,
            },
        })
    }
}

/// Decodes both slots of a CONTROL file, however short it is.
pub(crate) fn decode_slots(bytes: &[u8]) -> [Result<Slot, BlockError>; 2] {
    let first = Slot::decode(bytes.get(..BLOCK_BYTES).unwrap_or(bytes));
    [first, Slot::decode(bytes.get(4096..).unwrap_or_default())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_a_slot_is_noticed() {
        let claim = Claim {
            log_id: [9; 16],
            newest_seq: 4,
            head: 8,
            snapshot: u64::MAX,
            durable: 16,
            clean: true,
        };
        let slot = Slot { generation: 5, claim };
        let block = slot.encode();
        assert_eq!(Slot::decode(&block), Ok(slot));
        for bit in 0..BLOCK_BYTES * 8 {
            let mut damaged = block;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(Slot::decode(&damaged).is_err(), "bit {bit}");
        }
    }
}
