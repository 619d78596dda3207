//! LZ4 blocks.

/// What a block stands for, if it is one of exactly so many bytes.
pub(crate) fn decompress(block: &[u8], raw_len: usize) -> Option<Vec<u8>> {
    let mut rest = block.iter().copied();
    let mut raw = Vec::new();
    loop {
        let token = rest.next()?;
        for _ in 0..length(token >> 4, &mut rest)? {
            raw.push(rest.next()?);
        }
        let Some(low) = rest.next() else { break };
        let offset = usize::from(u16::from_le_bytes([low, rest.next()?]));
        let from = raw.len().checked_sub(offset).filter(|_| offset > 0)?;
        let match_len = length(token & 15, &mut rest)? + 4;
        if raw.len() + match_len > raw_len {
            return None;
        }
        for at in from..from + match_len {
            raw.push(raw[at]);
        }
    }
    (raw.len() == raw_len).then_some(raw)
}

/// A number of four bits, or what follows it.
fn length(bits: u8, rest: &mut impl Iterator<Item = u8>) -> Option<usize> {
    let mut length = usize::from(bits);
    if bits == 15 {
        loop {
            let more = rest.next()?;
            length += usize::from(more);
            if more != 255 {
                break;
            }
        }
    }
    Some(length)
}

#[test]
fn literals_and_matches_come_out_as_the_format_says() {
    assert_eq!(decompress(b"\x30abc", 3).as_deref(), Some(&b"abc"[..]));
    assert_eq!(decompress(b"\x00", 0).as_deref(), Some(&b""[..]));
    // One literal, repeated by a match that overlaps what it writes; then the last sequence.
    assert_eq!(decompress(b"\x10a\x01\x00\x10b", 6).as_deref(), Some(&b"aaaaab"[..]));
    let long = decompress(b"\x1fa\x01\x00\xff\x00\x00", 1 + 15 + 255 + 4);
    assert_eq!(long, Some(vec![b'a'; 275]));
    let mut literals = vec![0xf0, 0xff, 0x02];
    literals.extend([b'x'; 272]);
    assert_eq!(decompress(&literals, 272), Some(vec![b'x'; 272]));
    for (broken, len) in [
        (&b"\x30ab"[..], 3),
        (b"\x30abc", 4),
        (b"\x10a\x00\x00\x10b", 6),
        (b"\x10a\x02\x00\x10b", 6),
        (b"\x10a\x01", 5),
        (b"\x10a\x01\x00", 6),
        (b"", 0),
    ] {
        assert_eq!(decompress(broken, len), None, "{broken:?}");
    }
}
