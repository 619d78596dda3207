//! [`Frame`]: one frame, field by field, whether it is valid or not.

use std::fmt;
use std::path::PathBuf;

use super::{Opened, Standing};
use crate::checksum;
use crate::error::{Result, WalError};
use crate::format::frame::{
    COMPRESSED, ENCRYPTED, HEADER, HEADER_BYTES, MORE, crc_of_header, frame_bytes, padded, stored,
};
use crate::format::segment::FIRST_FRAME;
use crate::lsn::Lsn;
use crate::scan::{Step, read_full};

/// One frame as it is in the file. Its payload does not show in `Debug`.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// Where it starts.
    pub lsn: Lsn,
    /// The file.
    pub path: PathBuf,
    /// Where it starts in the file, in bytes.
    pub offset: u64,
    /// What the log says of this place.
    pub standing: Standing,
    /// Why it is no valid frame, if it is none.
    pub flaw: Option<&'static str>,
    /// The header's sixteen bytes.
    pub header: [u8; 16],
    /// What they say.
    pub fields: Fields,
    /// The checksum of body and padding; none where the file or the segment ends before them.
    pub body_crc_computed: Option<u32>,
    /// Body and padding, as far as they are there.
    bytes: Vec<u8>,
    len: usize,
}

/// What a frame's header says. Of a frame that is not valid, none of it can be believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fields {
    /// Checksum of the segment's salt and epoch, the LSN, and the rest of the header, as stored.
    pub header_crc: u32,
    /// The same, as it should be.
    pub header_crc_computed: u32,
    /// Bytes of the body.
    pub len: u32,
    /// Checksum of body and padding, as stored.
    pub body_crc: u32,
    /// 1: a record, 2: a pad; anything else is none.
    pub kind: u8,
    /// Others of the same batch follow.
    pub more: bool,
    /// The body is compressed.
    pub compressed: bool,
    /// The body is encrypted.
    pub encrypted: bool,
    /// The four flag bits, known or not, in the high half.
    pub flags: u8,
    /// How far below its LSN the log was durable, in units of eight bytes; none: no information.
    pub lag: Option<u32>,
    /// What the lag proves: all below was durable when the frame was appended.
    pub watermark: Option<Lsn>,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Frame");
        f.field("lsn", &self.lsn).field("standing", &self.standing).field("flaw", &self.flaw);
        f.field("fields", &self.fields).finish_non_exhaustive()
    }
}

impl Frame {
    pub(super) fn read(
        opened: Opened,
        path: PathBuf,
        standing: Standing,
        lsn: u64,
    ) -> Result<Option<Self>> {
        let base = opened.header.base;
        let seed = opened.header.seed();
        let offset = lsn.saturating_sub(base).saturating_add(FIRST_FRAME);
        let mut header = [0; HEADER_BYTES];
        if lsn < base || read_full(&opened.file, &path, offset, &mut header)? < HEADER_BYTES {
            return Ok(None);
        }
        // A frame ends at the cut, unless it is one that the cut made none of the log's.
        let end = opened.cut.filter(|cut| lsn < *cut).unwrap_or(opened.limit);
        let stored = stored(&header);
        let len = u64::from(stored.len);
        let fits = frame_bytes(len) <= end.min(opened.limit).saturating_sub(lsn);
        let mut bytes = Vec::new();
        if fits {
            let wanted = usize::try_from(padded(len)).map_err(|_| WalError::OutOfMemory)?;
            bytes.try_reserve_exact(wanted).map_err(|_| WalError::OutOfMemory)?;
            bytes.resize(wanted, 0);
            let read = read_full(&opened.file, &path, offset.saturating_add(HEADER), &mut bytes)?;
            bytes.truncate(read);
        }
        let whole = fits && u64::try_from(bytes.len()).is_ok_and(|read| read == padded(len));
        let flaw = match opened.scanner(&path, lsn, end)?.next()? {
            Step::Frame { .. } => None,
            Step::Invalid { why, .. } => Some(why),
            Step::End => Some("the segment ends here"),
        };
        let watermark = stored.lag.and_then(|lag| lsn.checked_sub(u64::from(lag) << 3));
        Ok(Some(Self {
            lsn: Lsn::new(lsn),
            path,
            offset,
            standing,
            flaw,
            header,
            fields: Fields {
                header_crc: stored.header_crc,
                header_crc_computed: crc_of_header(seed, lsn, &header),
                len: stored.len,
                body_crc: stored.body_crc,
                kind: stored.kind,
                more: stored.flags & MORE != 0,
                compressed: stored.flags & COMPRESSED != 0,
                encrypted: stored.flags & ENCRYPTED != 0,
                flags: stored.flags,
                lag: stored.lag,
                watermark: watermark.map(Lsn::new),
            },
            body_crc_computed: whole.then(|| checksum::of(&bytes)),
            len: usize::try_from(len).unwrap_or(usize::MAX).min(bytes.len()),
            bytes,
        }))
    }

    /// The body, as far as it is there: what the caller appended, unless it is encoded.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    /// What fills the frame up to a multiple of eight bytes.
    #[must_use]
    pub fn padding(&self) -> &[u8] {
        self.bytes.get(self.len..).unwrap_or_default()
    }

    /// Exclusive end, if its length can be believed.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn::new(self.lsn.get().saturating_add(frame_bytes(u64::from(self.fields.len))))
    }
}
