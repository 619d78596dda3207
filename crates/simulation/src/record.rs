//! Payloads that say which record they are, and that no byte of them has changed.

/// The shortest payload that can say who it is.
pub const MIN_BYTES: usize = 8;

/// The payload of record `key`, `len` bytes, at least [`MIN_BYTES`].
#[must_use]
pub fn payload(key: u64, len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len + 8);
    bytes.extend_from_slice(&key.to_le_bytes());
    let mut word = key.rotate_left(32) ^ len as u64 ^ 0x9E37_79B9_7F4A_7C15;
    while bytes.len() < len {
        word = word.wrapping_mul(0xD129_42F0_2C5B_3A65).rotate_left(17) ^ key;
        bytes.extend_from_slice(&word.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// Which record these bytes are, if every one of them is as it should be.
#[must_use]
pub fn identify(bytes: &[u8]) -> Option<u64> {
    let key = u64::from_le_bytes(bytes.get(..MIN_BYTES)?.try_into().ok()?);
    let mut word = key.rotate_left(32) ^ bytes.len() as u64 ^ 0x9E37_79B9_7F4A_7C15;
    let same = bytes.get(MIN_BYTES..)?.chunks(8).all(|piece| {
        word = word.wrapping_mul(0xD129_42F0_2C5B_3A65).rotate_left(17) ^ key;
        piece == &word.to_le_bytes()[..piece.len()]
    });
    same.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_byte_of_a_payload_can_change_unnoticed() {
        for len in [8, 9, 24, 700] {
            let good = payload(7, len);
            assert_eq!((good.len(), identify(&good)), (len, Some(7)));
            for bit in 64..len * 8 {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                assert_eq!(identify(&bad), None, "bit {bit} of {len} bytes");
            }
            // Cut down to its key it is the shortest payload of that key.
            let cut = identify(&good[..len - 1]);
            assert!(cut != Some(7) || len - 1 == MIN_BYTES, "{len} bytes, cut by one");
        }
    }
}
