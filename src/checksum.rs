//! CRC-32C, of every byte of a log that is checked: the one place that computes it.
//!
//! With the feature `crc-fast` the crate of that name computes it of all but short continuations,
//! where it gains nothing. It is the same polynomial and the same value for the same bytes, so a
//! log is read by builds with and without. Figures: `docs/adr/0016-a-second-crc.md`.

/// Pieces shorter than this continue a checksum by the default crate: preparing the other one
/// costs more than it saves.
#[cfg(feature = "crc-fast")]
const WORTH_PREPARING_BYTES: usize = 1024;

/// The checksum of `bytes`.
#[cfg(feature = "crc-fast")]
#[inline]
pub(crate) fn of(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of `bytes`.
#[cfg(not(feature = "crc-fast"))]
#[inline]
pub(crate) fn of(bytes: &[u8]) -> u32 {
    crc32c::crc32c(bytes)
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`.
#[cfg(feature = "crc-fast")]
#[inline]
pub(crate) fn append(crc: u32, bytes: &[u8]) -> u32 {
    use crc_fast::{CrcAlgorithm, Digest};

    if bytes.len() < WORTH_PREPARING_BYTES {
        return crc32c::crc32c_append(crc, bytes);
    }
    // Its state is the checksum before the final inversion.
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    let [a, b, c, d, ..] = digest.finalize().to_le_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`.
#[cfg(not(feature = "crc-fast"))]
#[inline]
pub(crate) fn append(crc: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition of CRC-32C, a bit at a time.
    fn by_definition(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(u32::MAX, |crc, byte| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 }
            })
        })
    }

    /// Bytes without a pattern, the same in every run.
    fn noise(bytes: usize, seed: u64) -> Vec<u8> {
        let mut state = seed | 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        };
        (0..bytes).map(|_| next()).collect()
    }

    fn agrees(bytes: &[u8]) {
        let expected = by_definition(bytes);
        assert_eq!(of(bytes), expected, "{} bytes", bytes.len());
        assert_eq!(append(0, bytes), expected, "{} bytes, appended to nothing", bytes.len());
        assert_eq!(crc32c::crc32c(bytes), expected, "{} bytes, by the default", bytes.len());
    }

    #[test]
    fn the_checksum_is_crc_32c() {
        assert_eq!(of(b"123456789"), 0xE306_9283);
        assert_eq!(of(&[]), 0);
        assert_eq!(append(0xE306_9283, &[]), 0xE306_9283);
    }

    #[test]
    fn every_short_length_at_every_alignment_agrees_with_the_definition() {
        let bytes = noise(320, 0x9E37_79B9_7F4A_7C15);
        for len in 0..=300 {
            for start in 0..16 {
                agrees(&bytes[start..start + len]);
            }
        }
    }

    #[test]
    fn long_buffers_agree_with_the_definition() {
        let lens = [1023, 1024, 1025, 4095, 4104, 16_384, 65_543, 200_000];
        for (seed, len) in (77..).zip(lens) {
            agrees(&noise(len, seed));
            agrees(&vec![0; len]);
            agrees(&vec![0xFF; len]);
        }
    }

    #[test]
    fn pieces_in_a_row_have_the_checksum_of_the_whole() {
        let bytes = noise(2200, 5);
        let whole = by_definition(&bytes);
        for cut in 0..=bytes.len() {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(append(of(left), right), whole, "cut at {cut}");
        }
        for piece in [1, 3, 8, 20, 255, 1023, 1024, 1025, 2048] {
            assert_eq!(bytes.chunks(piece).fold(0, append), whole, "pieces of {piece}");
        }
    }
}
