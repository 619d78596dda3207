//! Compressed bodies: the length before compression, u32, then an LZ4 block.
//!
//! The bytes that are decompressed are hostile: no memory is taken for a length that they cannot
//! amount to, or beyond what a record may have.

#[cfg(feature = "lz4")]
pub(crate) use imp::{decompress, shorten};

/// How records are compressed. Feature `lz4`.
#[cfg(feature = "lz4")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// One by one with LZ4, where that makes them smaller; never below 256 bytes.
    Lz4,
}

/// What a body is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// Bytes before a compressed body's block.
pub(crate) const PREFIX_BYTES: usize = 4;

/// How many bytes a compressed body stands for, at most `most`.
pub(crate) fn raw_len(body: &[u8], most: u64) -> Result<usize, Malformed> {
    /// What one byte of a block stands for at most.
    const RATIO: u64 = 255;
    let Some((len, block)) = body.split_first_chunk::<PREFIX_BYTES>() else {
        return Err(Malformed("a compressed record is too short"));
    };
    let len = u64::from(u32::from_le_bytes(*len));
    let possible = (block.len() as u64).saturating_mul(RATIO);
    match usize::try_from(len) {
        Ok(raw) if len <= most.min(possible) => Ok(raw),
        _ => Err(Malformed("a compressed record stands for more than it can")),
    }
}

#[cfg(feature = "lz4")]
mod imp {
    use lz4_flex::block::{compress_into, decompress_into, get_maximum_output_size};

    use super::{Malformed, PREFIX_BYTES};

    /// Shorter bodies are not worth it.
    const LEAST_BYTES: usize = 256;

    /// Compresses what stands from `start` on, if that saves at least eight bytes; false if it does
    /// not, or without memory to try, and then nothing has changed.
    pub(crate) fn shorten(bytes: &mut Vec<u8>, start: usize) -> bool {
        let end = bytes.len();
        let raw = end.saturating_sub(start);
        let Some(len) = u32::try_from(raw).ok().filter(|_| raw >= LEAST_BYTES) else {
            return false;
        };
        let room = PREFIX_BYTES + get_maximum_output_size(raw);
        if bytes.try_reserve(room).is_err() {
            return false;
        }
        bytes.resize(end + room, 0);
        let (before, into) = bytes.split_at_mut(end);
        let (prefix, block) = into.split_at_mut(PREFIX_BYTES);
        prefix.copy_from_slice(&len.to_le_bytes());
        let shortened = compress_into(&before[start..], block)
            .map(|block| PREFIX_BYTES + block)
            .ok()
            .filter(|len| len.next_multiple_of(8) < raw.next_multiple_of(8));
        if let Some(len) = shortened {
            bytes.copy_within(end..end + len, start);
        }
        bytes.truncate(shortened.map_or(end, |len| start + len));
        shortened.is_some()
    }

    /// Decompresses a body into memory of the length that it states.
    pub(crate) fn decompress(body: &[u8], into: &mut [u8]) -> Result<(), Malformed> {
        let block = body.get(PREFIX_BYTES..).unwrap_or_default();
        match decompress_into(block, into) {
            Ok(len) if len == into.len() => Ok(()),
            _ => Err(Malformed("a compressed record cannot be decompressed")),
        }
    }

    #[cfg(test)]
    mod tests {
        use proptest::prelude::*;

        use super::super::raw_len;
        use super::*;

        fn round_trip(raw: &[u8]) -> Option<usize> {
            let mut bytes = b"before".to_vec();
            bytes.extend_from_slice(raw);
            let shortened = shorten(&mut bytes, 6);
            assert_eq!(&bytes[..6], b"before");
            if !shortened {
                assert_eq!(&bytes[6..], raw);
                return None;
            }
            let body = &bytes[6..];
            let len = raw_len(body, raw.len() as u64).unwrap();
            assert!(raw_len(body, raw.len() as u64 - 1).is_err(), "longer than allowed");
            let mut back = vec![0; len];
            decompress(body, &mut back).unwrap();
            assert_eq!(back, raw);
            Some(body.len())
        }

        #[test]
        fn what_gets_smaller_is_shortened_and_nothing_else() {
            assert!(round_trip(&[7; 10_000]).is_some_and(|len| len < 100));
            assert_eq!(round_trip(&[7; LEAST_BYTES - 1]), None);
            assert!(round_trip(&[7; LEAST_BYTES]).is_some());
            let mut state = 1_u64;
            let mut random = || {
                state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
                state.to_le_bytes()[7]
            };
            let noise: Vec<u8> = (0..4096).map(|_| random()).collect();
            assert_eq!(round_trip(&noise), None);
        }

        #[test]
        fn a_bomb_is_refused_before_memory_is_taken_for_it() {
            let mut bomb = u32::MAX.to_le_bytes().to_vec();
            bomb.extend_from_slice(&[0xFF; 100]);
            assert!(raw_len(&bomb, u64::MAX).is_err());
            assert!(raw_len(&[1, 0, 0], u64::MAX).is_err());
        }

        proptest! {
            #[test]
            fn every_payload_comes_back(raw in proptest::collection::vec(0_u8..4, 0..2000)) {
                round_trip(&raw);
            }

            #[test]
            fn no_bytes_make_it_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
                if let Ok(len) = raw_len(&body, 1 << 20) {
                    decompress(&body, &mut vec![0; len]).ok();
                }
            }
        }
    }
}
