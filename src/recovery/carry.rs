//! Carrying: what no witness speaks for goes into the first segment of the new epoch.
//!
//! The same frames at the same places, sealed for the new epoch. Frames of one epoch alone are
//! carried, because all that lies before an epoch was durable when it began; so they are all
//! encrypted or all plain. Plain ones stay so, because a tag would move what is behind it; then the
//! epoch that carries them is plain, and another one begins behind it.

use std::path::PathBuf;

use super::extent;
use super::plan::Plan;
use crate::codec;
use crate::crypt::{Cipher, Keys, Place, TAG_BYTES};
use crate::error::{Result, WalError};
use crate::format::frame::{self, Header, Kind};
use crate::format::name;
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;
use crate::scan::{BLOCK, Scanner, Step, to_u64};
use crate::segments::{self, Epoch};
use crate::store::{StoreFile, WalStore};

/// Whether there is something to carry into the segment with this header that is not encrypted.
pub(super) fn is_plain(plan: &Plan, header: &SegmentHeader) -> bool {
    let mut pieces = plan.survey.chain.pieces(header.base, plan.end);
    pieces.any(|(segment, ..)| segment.cipher == 0)
}

/// Fails where what is to be carried was tampered with.
pub(super) fn check<S: WalStore>(
    store: &S,
    keys: &Keys,
    plan: &Plan,
    header: &SegmentHeader,
) -> Result<()> {
    if keys.is_on() && !is_plain(plan, header) {
        each(store, keys, plan, header, |_, _, _| Ok(()))?;
    }
    Ok(())
}

/// Copies `[header.base, end)` into the new segment. Each frame is verified in the very read that
/// copies it; false when one no longer is what it was.
pub(super) fn carry<S: WalStore>(
    store: &S,
    keys: &Keys,
    plan: &Plan,
    (header, epoch): (&SegmentHeader, &Epoch),
    active: &S::File,
) -> Result<bool> {
    let mut sink = Sink {
        file: active,
        path: store.locate(&name::segment(header.seq)),
        epoch,
        durable: header.base,
        at: FIRST_FRAME,
        buffer: Vec::new(),
    };
    let whole = each(store, keys, plan, header, |lsn, frame, body| sink.frame(lsn, frame, body))?;
    sink.flush()?;
    Ok(whole)
}

/// The body of a frame with its padding, empty for a pad.
enum Bytes<'a> {
    /// As it is in its segment, and will be.
    Lent(&'a [u8]),
    /// What was sealed, with room for another tag.
    Opened(&'a mut [u8]),
}

/// Calls `with` for each frame that is to be carried, with its body. False when one is not what it
/// was.
fn each<S: WalStore>(
    store: &S,
    keys: &Keys,
    plan: &Plan,
    header: &SegmentHeader,
    mut with: impl FnMut(u64, &Header, Bytes<'_>) -> Result<()>,
) -> Result<bool> {
    let (mut reached, mut body) = (header.base, Vec::new());
    for (segment, from, to) in plan.survey.chain.pieces(header.base, plan.end) {
        let mut scanner = extent::scanner(store, &segment, from, to)?;
        let cipher = segments::cipher_of(keys, &segment)?;
        loop {
            match scanner.next()? {
                Step::Frame { lsn, header: frame } => {
                    let fits = match frame.kind {
                        Kind::Record => frame.len <= header.max_record,
                        Kind::Pad => true,
                    };
                    if lsn != reached || !fits {
                        return Ok(false);
                    }
                    reached = lsn.saturating_add(frame.frame_bytes());
                    let Some(cipher) = &cipher else {
                        with(lsn, &frame, Bytes::Lent(scanner.padded_body()))?;
                        continue;
                    };
                    copy(&scanner, &mut body)?;
                    open(cipher, lsn, &frame, &scanner, &mut body)?;
                    with(lsn, &frame, Bytes::Opened(&mut body))?;
                }
                Step::End => break,
                Step::Invalid { .. } => return Ok(false),
            }
        }
    }
    Ok(reached == plan.end)
}

fn copy<F: StoreFile>(scanner: &Scanner<F>, body: &mut Vec<u8>) -> Result<()> {
    let padded = scanner.padded_body();
    body.clear();
    body.try_reserve(padded.len()).map_err(|_| WalError::OutOfMemory)?;
    body.extend_from_slice(padded);
    Ok(())
}

/// Opens a frame's body in place; fails where it was not sealed there.
fn open<F: StoreFile>(
    cipher: &Cipher,
    lsn: u64,
    frame: &Header,
    scanner: &Scanner<F>,
    body: &mut [u8],
) -> Result<()> {
    let place = Place { number: lsn, len: frame.len, kind: frame.kind_byte() };
    let opened = match frame.kind {
        Kind::Pad => cipher.open(place, &mut [], scanner.pad_tag()),
        Kind::Record => {
            let len = usize::try_from(frame.len).unwrap_or(usize::MAX).min(body.len());
            let (body, _) = body.split_at_mut(len);
            let (plain, tag) = body.split_at_mut(len.saturating_sub(TAG_BYTES));
            cipher.open(place, plain, tag)
        }
    };
    if opened && frame.is_sealed() {
        Ok(())
    } else {
        Err(WalError::Tampered { lsn: Lsn::new(lsn) })
    }
}

/// Writes frames into a segment in large pieces.
struct Sink<'a, F> {
    file: &'a F,
    path: PathBuf,
    epoch: &'a Epoch,
    durable: u64,
    /// File offset of the buffer's first byte.
    at: u64,
    buffer: Vec<u8>,
}

impl<F: StoreFile> Sink<'_, F> {
    fn frame(&mut self, lsn: u64, from: &Header, body: Bytes<'_>) -> Result<()> {
        let (seed, cipher) = (self.epoch.seed, self.epoch.cipher.as_deref());
        // Everything below the new segment's base is durable; what is in it is not, yet.
        let durable = Some(self.durable);
        if from.kind == Kind::Pad {
            let len = from.frame_bytes();
            // The header comes last and stands first.
            let mut header = [0; frame::HEADER_BYTES];
            codec::write_pad((seed, cipher), lsn, len, durable, |offset, piece| {
                if let (0, Ok(piece)) = (offset, piece.try_into()) {
                    header = piece;
                }
                Ok::<(), WalError>(())
            })?;
            self.push(&header)?;
            return codec::write_pad((seed, cipher), lsn, len, durable, |offset, piece| {
                if offset == 0 { Ok(()) } else { self.push(piece) }
            });
        }
        let mut header = frame::open_header(from.kind, from.flags, from.len, from.body_crc);
        let body = match (cipher, body) {
            (Some(cipher), Bytes::Opened(body)) => {
                let crc = codec::seal_body(cipher, lsn, &header, body);
                header = frame::open_header(from.kind, from.flags, from.len, crc);
                &*body
            }
            (None, Bytes::Opened(body)) => &*body,
            (_, Bytes::Lent(body)) => body,
        };
        frame::seal_header(&mut header, seed, lsn, durable);
        self.push(&header)?;
        self.push(body)
    }

    fn push(&mut self, bytes: &[u8]) -> Result<()> {
        if self.buffer.len().saturating_add(bytes.len()) > BLOCK {
            self.flush()?;
        }
        if bytes.len() > BLOCK {
            return self.write(bytes);
        }
        self.buffer.try_reserve(bytes.len()).map_err(|_| WalError::OutOfMemory)?;
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let result = if buffer.is_empty() { Ok(()) } else { self.write(&buffer) };
        buffer.clear();
        self.buffer = buffer;
        result
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let written = self.file.write_at(self.at, bytes);
        written.map_err(|e| WalError::io_or_full("write", &self.path, e))?;
        self.at = self.at.saturating_add(to_u64(bytes.len()));
        Ok(())
    }
}
