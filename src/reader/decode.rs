//! From what a frame holds to the record that was appended: opened and decompressed.
//!
//! A plain record is lent from the block that it was read into; any other from memory of the
//! decoder's, which it uses again.

use std::path::Path;

use crate::compress::{self, Malformed};
use crate::crypt::{Cipher, Place, TAG_BYTES};
use crate::error::{Result, WalError};
use crate::format::frame::{COMPRESSED, Header, Kind};
use crate::format::segment::FIRST_FRAME;
use crate::lsn::Lsn;
use crate::scan::{Block, Body};
use crate::sync::Arc;

/// Why a body is not a record.
#[derive(Debug)]
pub(super) enum Flaw {
    /// It was not sealed at this place.
    Tampered,
    Malformed(&'static str),
    Other(WalError),
}

impl From<WalError> for Flaw {
    fn from(error: WalError) -> Self {
        Self::Other(error)
    }
}

impl From<Malformed> for Flaw {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed.0)
    }
}

/// The error of a frame at `lsn`, in a segment that begins at `base`, that holds no record.
pub(super) fn flaw_at(path: &Path, base: u64, lsn: u64, header: &Header, flaw: Flaw) -> WalError {
    let start = Lsn::new(lsn);
    match flaw {
        Flaw::Tampered => WalError::Tampered { lsn: start },
        Flaw::Other(error) => error,
        Flaw::Malformed(why) => WalError::Corruption {
            path: path.to_path_buf(),
            offset: FIRST_FRAME.saturating_add(lsn.saturating_sub(base)),
            start,
            end: Lsn::new(lsn.saturating_add(header.frame_bytes())),
            why,
        },
    }
}

/// What decodes the records of one segment.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    cipher: Option<Arc<Cipher>>,
    max_record: u32,
    /// Nothing of the segment was written by the log.
    forged: bool,
    opened: Block,
    raw: Block,
}

impl Decoder {
    /// Goes on with another segment.
    pub(super) fn begin(&mut self, cipher: Option<Arc<Cipher>>, max_record: u32) {
        (self.cipher, self.max_record, self.forged) = (cipher, max_record, false);
    }

    /// Goes on with a segment that was forged.
    pub(super) fn begin_forged(&mut self) {
        (self.cipher, self.forged) = (None, true);
    }

    /// Fails where a pad was not sealed as the segment's frames are.
    #[inline]
    pub(super) fn check_pad(&self, lsn: u64, header: &Header, tag: &[u8]) -> Result<(), Flaw> {
        if self.cipher.is_none() && !header.is_sealed() {
            return Ok(());
        }
        let place = Place { number: lsn, len: header.len, kind: header.kind_byte() };
        let opened = |cipher: &Arc<Cipher>| cipher.open(place, &mut [], tag);
        let opens = self.cipher.as_ref().is_some_and(opened);
        if opens && header.is_sealed() { Ok(()) } else { Err(Flaw::Tampered) }
    }

    /// The record whose frame holds `body`.
    #[inline]
    pub(super) fn record<'a>(
        &'a mut self,
        lsn: u64,
        header: &Header,
        body: Body<'a>,
    ) -> Result<Body<'a>, Flaw> {
        debug_assert_eq!(header.kind, Kind::Record, "a pad has no record");
        let plain = self.cipher.is_none() && !header.is_sealed() && !self.forged;
        if plain && header.flags & COMPRESSED == 0 {
            return Ok(body);
        }
        self.decode(lsn, header, body)
    }

    // PERF: out of the way of plain records, which are decoded where they are read.
    #[inline(never)]
    fn decode<'a>(
        &'a mut self,
        lsn: u64,
        header: &Header,
        body: Body<'a>,
    ) -> Result<Body<'a>, Flaw> {
        let Self { cipher, max_record, forged, opened, raw } = self;
        if *forged {
            return Err(Flaw::Tampered);
        }
        let body = match cipher {
            Some(cipher) if header.is_sealed() => open(cipher, lsn, header, body, opened)?,
            None if !header.is_sealed() => body,
            // A plain record where all are sealed, or the other way round.
            _ => return Err(Flaw::Tampered),
        };
        if header.flags & COMPRESSED == 0 {
            return Ok(body);
        }
        let len = compress::raw_len(&body, (*max_record).into())?;
        {
            let into = &mut *raw.renew(0..0, len)?;
            decompress(&body, into, len)?;
        }
        Ok(raw.lend(0..len))
    }
}

fn open<'a>(
    cipher: &Cipher,
    lsn: u64,
    header: &Header,
    body: Body<'_>,
    into: &'a mut Block,
) -> Result<Body<'a>, Flaw> {
    let (sealed, tag) = body.split_at(body.len().saturating_sub(TAG_BYTES));
    let place = Place { number: lsn, len: header.len, kind: header.kind_byte() };
    let opened = {
        let memory = &mut *into.renew(0..0, sealed.len())?;
        let plain = memory.get_mut(..sealed.len()).unwrap_or_default();
        plain.copy_from_slice(sealed);
        cipher.open(place, plain, tag)
    };
    if opened { Ok(into.lend(0..sealed.len())) } else { Err(Flaw::Tampered) }
}

#[cfg(feature = "lz4")]
fn decompress(body: &[u8], into: &mut [u8], len: usize) -> Result<(), Flaw> {
    let into = into.get_mut(..len).unwrap_or_default();
    compress::decompress(body, into).map_err(Flaw::from)
}

#[cfg(not(feature = "lz4"))]
fn decompress(_body: &[u8], _into: &mut [u8], _len: usize) -> Result<(), Flaw> {
    Err(Flaw::Other(WalError::FeatureMissing { feature: "lz4" }))
}
