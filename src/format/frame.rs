//! Frames: a record or a pad, with its header, checksums and padding.
//!
//! | off | field | |
//! |---|---|---|
//! | 0 | `header_crc` u32 | CRC32C of salt, epoch, LSN, then bytes 4..16 |
//! | 4 | `len` u32 | body bytes |
//! | 8 | `body_crc` u32 | CRC32C of body and padding |
//! | 12 | kind (low 4 bits), flags (high 4 bits) | |
//! | 13 | `lag` u24 | (LSN - durable) / 8; all ones: no information |
//!
//! A frame is valid iff its header CRC matches, its kind and flags are known, its length fits and
//! its body CRC matches. The header CRC is checked before any other field is believed. It is
//! seeded with salt, epoch and LSN, so a valid frame is valid at one place of one log only.

use super::{Salt, array, u32_at, u64_at};
use crate::checksum;
use crate::lsn::ALIGNMENT;

/// Bytes of a frame header.
pub(crate) const HEADER_BYTES: usize = 16;
/// The same, in the unit of LSNs.
pub(crate) const HEADER: u64 = 16;
/// What compression and encryption may add to a record's body.
pub(crate) const BODY_OVERHEAD: u64 = 64;

/// The frame is not the last of its batch.
pub(crate) const MORE: u8 = 0x10;
/// The body is a raw length and an LZ4 block.
pub(crate) const COMPRESSED: u8 = 0x20;
/// The body is ciphertext and a tag.
pub(crate) const ENCRYPTED: u8 = 0x40;
const KNOWN_FLAGS: u8 = MORE | COMPRESSED | ENCRYPTED;

const RECORD: u8 = 1;
const PAD: u8 = 2;
const LAG_UNKNOWN: u32 = 0x00FF_FFFF;

/// What a frame carries. Zero is no kind, so zeros are never a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A record of the caller's.
    Record,
    /// Nothing: a reservation whose appender failed, or a range the log owes.
    Pad,
}

impl Kind {
    fn number(self) -> u8 {
        match self {
            Self::Record => RECORD,
            Self::Pad => PAD,
        }
    }
}

/// The checksum state that every header CRC of one epoch starts from: salt and epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seed(pub(crate) u32);

impl Seed {
    pub(crate) fn new(salt: &Salt, epoch: u64) -> Self {
        Self(checksum::append(checksum::of(salt), &epoch.to_le_bytes()))
    }
}

/// A decoded frame header whose checksum matched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) flags: u8,
    /// Body bytes, padding excluded.
    pub(crate) len: u32,
    pub(crate) body_crc: u32,
    /// All below this LSN was durable when the frame was written; `None`: no information.
    pub(crate) watermark: Option<u64>,
}

impl Header {
    /// Bytes of the whole frame: header, body, padding.
    #[inline]
    pub(crate) fn frame_bytes(&self) -> u64 {
        frame_bytes(u64::from(self.len))
    }

    /// Bytes of body and padding.
    #[inline]
    pub(crate) fn padded_bytes(&self) -> u64 {
        padded(u64::from(self.len))
    }

    /// Kind and flags, as they are stored.
    pub(crate) fn kind_byte(&self) -> u8 {
        self.kind.number() | self.flags
    }

    /// True where a cipher opens the body.
    #[inline]
    pub(crate) fn is_sealed(&self) -> bool {
        self.flags & ENCRYPTED != 0
    }

    /// True for a frame that is not the last of its batch.
    #[inline]
    pub(crate) fn more(&self) -> bool {
        self.flags & MORE != 0
    }

    /// True when `body`, padding included, is the one this header was made for.
    #[inline]
    pub(crate) fn body_matches(&self, body: &[u8]) -> bool {
        checksum::of(body) == self.body_crc
    }
}

/// `len` rounded up to the alignment of frames.
#[inline]
pub(crate) fn padded(len: u64) -> u64 {
    len.saturating_add(ALIGNMENT - 1) & !(ALIGNMENT - 1)
}

/// Bytes of a frame with a body of `len` bytes.
#[inline]
pub(crate) fn frame_bytes(len: u64) -> u64 {
    padded(len).saturating_add(HEADER)
}

/// The part of a header that is known before the LSN is: everything but lag and header CRC.
#[inline]
pub(crate) fn open_header(kind: Kind, flags: u8, len: u32, body_crc: u32) -> [u8; HEADER_BYTES] {
    let [l0, l1, l2, l3] = len.to_le_bytes();
    let [c0, c1, c2, c3] = body_crc.to_le_bytes();
    [0, 0, 0, 0, l0, l1, l2, l3, c0, c1, c2, c3, kind.number() | flags, 0, 0, 0]
}

/// Completes a header: binds it to its LSN and states how far the log was durable.
#[inline]
pub(crate) fn seal_header(
    header: &mut [u8; HEADER_BYTES],
    seed: Seed,
    lsn: u64,
    durable: Option<u64>,
) {
    let lag = durable
        .map(|durable| lsn.saturating_sub(durable) >> 3)
        .and_then(|lag| u32::try_from(lag).ok())
        .map_or(LAG_UNKNOWN, |lag| lag.min(LAG_UNKNOWN));
    // Whole words, so that what reads them does not wait for bytes to come together.
    let (middle, last) = (u64_at(header, 4), u32::from(header[12]) | lag << 8);
    let crc = header_crc(seed, lsn, middle, last);
    header[..4].copy_from_slice(&crc.to_le_bytes());
    header[12..].copy_from_slice(&last.to_le_bytes());
}

/// What a header's checksum covers, aligned for words.
#[repr(align(8))]
struct Covered([u8; 20]);

/// The checksum of a header at `lsn`, of its bytes from 4 to 12 and of those from 12 on.
#[inline]
fn header_crc(seed: Seed, lsn: u64, middle: u64, last: u32) -> u32 {
    let mut covered = Covered([0; 20]);
    covered.0[..8].copy_from_slice(&lsn.to_le_bytes());
    covered.0[8..16].copy_from_slice(&middle.to_le_bytes());
    covered.0[16..].copy_from_slice(&last.to_le_bytes());
    checksum::append(seed.0, &covered.0)
}

/// Decodes the header at `lsn` from the first bytes of `bytes`; `None` when none is valid there.
#[inline]
pub(crate) fn decode_header(seed: Seed, lsn: u64, bytes: &[u8]) -> Option<Header> {
    let header = bytes.first_chunk::<HEADER_BYTES>()?;
    let kind = match header.get(12)? & 0x0F {
        RECORD => Kind::Record,
        PAD => Kind::Pad,
        _ => return None,
    };
    if crc_of_header(seed, lsn, header) != u32_at(header, 0) {
        return None;
    }
    let flags = header.get(12)? & 0xF0;
    if flags & !KNOWN_FLAGS != 0 {
        return None;
    }
    let lag = u32_at(header, 12) >> 8;
    let watermark = match lag {
        LAG_UNKNOWN => None,
        lag => lsn.checked_sub(u64::from(lag) << 3),
    };
    Some(Header { kind, flags, len: u32_at(header, 4), body_crc: u32_at(header, 8), watermark })
}

/// What a header says, whether or not it can be believed: for those who explain bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) header_crc: u32,
    pub(crate) len: u32,
    pub(crate) body_crc: u32,
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    /// In units of eight bytes; `None`: no information.
    pub(crate) lag: Option<u32>,
}

/// Reads the fields of a header and checks none.
pub(crate) fn stored(header: &[u8; HEADER_BYTES]) -> Stored {
    let [kind] = array(header, 12);
    Stored {
        header_crc: u32_at(header, 0),
        len: u32_at(header, 4),
        body_crc: u32_at(header, 8),
        kind: kind & 0x0F,
        flags: kind & 0xF0,
        lag: Some(u32_at(header, 12) >> 8).filter(|lag| *lag != LAG_UNKNOWN),
    }
}

/// The checksum that the fields of a header at `lsn` ask for.
#[inline]
pub(crate) fn crc_of_header(seed: Seed, lsn: u64, header: &[u8; HEADER_BYTES]) -> u32 {
    header_crc(seed, lsn, u64_at(header, 4), u32_at(header, 12))
}

/// True when a frame with this header may stand where `room` bytes follow its start (a file's or
/// a segment's end) and records are limited to `max_record` bytes.
#[inline]
pub(crate) fn length_fits(header: &Header, room: u64, max_record: u32) -> bool {
    let limit = u64::from(max_record).saturating_add(BODY_OVERHEAD);
    let allowed = match header.kind {
        Kind::Record => u64::from(header.len) <= limit,
        Kind::Pad => true,
    };
    allowed && header.frame_bytes() <= room
}

static ZEROS: [u8; 4096] = [0; 4096];

/// `bytes` zeros, in pieces.
pub(crate) fn zeros(bytes: u64) -> impl Iterator<Item = &'static [u8]> {
    let mut left = bytes;
    std::iter::from_fn(move || {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(ZEROS.len());
        left = left.saturating_sub(piece as u64);
        ZEROS.get(..piece).filter(|zeros| !zeros.is_empty())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(lsn: u64, durable: Option<u64>) -> [u8; HEADER_BYTES] {
        let mut header = open_header(Kind::Record, MORE, 5, 77);
        seal_header(&mut header, Seed::new(&[7; 16], 3), lsn, durable);
        header
    }

    #[test]
    fn a_sealed_header_decodes_at_its_lsn_only() {
        let seed = Seed::new(&[7; 16], 3);
        let header = sealed(4096, Some(4000));
        let decoded = decode_header(seed, 4096, &header).unwrap();
        assert_eq!((decoded.kind, decoded.flags, decoded.len), (Kind::Record, MORE, 5));
        assert_eq!((decoded.body_crc, decoded.watermark), (77, Some(4000)));
        assert_eq!(decoded.frame_bytes(), 24);
        assert!(decode_header(seed, 4104, &header).is_none());
        assert!(decode_header(Seed::new(&[7; 16], 4), 4096, &header).is_none());
        assert!(decode_header(Seed::new(&[8; 16], 3), 4096, &header).is_none());
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_noticed() {
        let seed = Seed::new(&[7; 16], 3);
        for bit in 0..128 {
            let mut header = sealed(64, Some(0));
            header[bit / 8] ^= 1 << (bit % 8);
            assert!(decode_header(seed, 64, &header).is_none(), "bit {bit}");
        }
    }

    #[test]
    fn a_lag_that_does_not_fit_is_no_information() {
        let far = u64::from(LAG_UNKNOWN) << 3;
        let seed = Seed::new(&[7; 16], 3);
        let watermark =
            |durable| decode_header(seed, far, &sealed(far, durable)).unwrap().watermark;
        assert_eq!(watermark(Some(0)), None);
        assert_eq!(watermark(None), None);
        assert_eq!(watermark(Some(8)), Some(8));
        assert_eq!(watermark(Some(far)), Some(far));
    }

    #[test]
    fn zeros_are_never_a_frame() {
        for lsn in (0..1 << 16).step_by(8) {
            assert!(decode_header(Seed(0), lsn, &[0; 16]).is_none());
        }
    }
}
