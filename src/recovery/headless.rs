//! Segments whose header is lost, both copies of it, taken for what their frames say. Changes
//! nothing.
//!
//! All segments of an epoch share its salt, so a neighbour's header opens the frames of this one;
//! and a segment begins where a frame of the one before it ends. So every such place is tried, with
//! the salts of both neighbours: a frame whose header and body match at one of them tells where the
//! segment begins. Nothing is guessed: each of its frames is checked like any other.
//!
//! A segment that began an epoch and has no younger one of it beside it keeps its frames closed.

use std::path::{Path, PathBuf};

use super::remains::{Piece, Reading, Remains};
use super::tolerant::Tolerant;
use super::walk::{Found, OPEN_END, Walk};
use crate::error::Result;
use crate::format::frame::{self, HEADER_BYTES};
use crate::format::name;
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::scan::{Scanner, Step, read_full};
use crate::store::{StoreFile, WalStore};

/// Puts segments without a header into the gaps that they left, as far as their frames tell.
///
/// The first one of a gap that does not fit ends the attempt there, so that each segment is walked
/// once, however many files there are.
pub(super) fn fill<S: WalStore>(store: &S, remains: &mut Remains) -> Result<()> {
    let mut filled: Vec<Piece> = Vec::new();
    for mut piece in std::mem::take(&mut remains.pieces) {
        if let Some(gap) = &piece.gap {
            let told = gap.path.clone();
            fill_gap(store, remains, &mut filled, Some(&piece.header), &told)?;
            let linked = filled.last().is_some_and(|last| last.header.seq == piece.header.prev_seq);
            piece.gap = piece.gap.filter(|_| !linked);
        }
        filled.push(piece);
    }
    if let Some(tail) = remains.tail.as_ref().filter(|_| !filled.is_empty()) {
        let told = tail.path.clone();
        fill_gap(store, remains, &mut filled, None, &told)?;
        let last = filled.last().map(|piece| store.locate(&piece.name));
        remains.tail = remains.tail.take().filter(|tail| Some(&tail.path) != last.as_ref());
    }
    remains.pieces = filled;
    Ok(())
}

/// Adds what lies between the last of `filled` and `next`. `told` is the file that the gap blames;
/// the others are among the troubles.
fn fill_gap<S: WalStore>(
    store: &S,
    remains: &mut Remains,
    filled: &mut Vec<Piece>,
    next: Option<&SegmentHeader>,
    told: &Path,
) -> Result<()> {
    let from = filled.last().map_or(0, |piece| piece.header.seq);
    let to = next.map_or(u64::MAX, |next| next.seq);
    let lost = remains.headless.iter().filter(|(seq, _)| (from..to).contains(*seq));
    for (seq, error) in lost {
        let Some(piece) = open_by_frames(store, filled.last(), next, *seq, remains.head)? else {
            return Ok(());
        };
        if store.locate(&piece.name) == told {
            remains.troubles.push(error.clone());
        }
        filled.push(piece);
    }
    Ok(())
}

/// The segment with this number, if its first frame fits behind a frame of the one before it.
fn open_by_frames<S: WalStore>(
    store: &S,
    before: Option<&Piece>,
    next: Option<&SegmentHeader>,
    seq: u64,
    head: u64,
) -> Result<Option<Piece>> {
    let name = name::segment(seq);
    let path = store.locate(&name);
    let Ok(file) = store.open(&name) else { return Ok(None) };
    let file = Tolerant::new(file, true);
    let mut first = [0; HEADER_BYTES];
    if read_full(&file, &path, FIRST_FRAME, &mut first)? < HEADER_BYTES {
        return Ok(None);
    }
    let known = before.map(|piece| &piece.header);
    let fits = |base: u64| {
        let templates = known.into_iter().chain(next);
        let mut opened =
            templates.filter(|t| frame::decode_header(t.seed(), base, &first).is_some());
        opened.next().copied()
    };
    let limit = next.map_or(OPEN_END, |next| next.base);
    let Some(before) = before else {
        return checked(file, path, fits(head), head, limit, seq, 0);
    };
    let (base, pieces) = (before.header.base, vec![Piece { gap: None, ..before.clone() }]);
    let mut walk: Walk<S> = Walk::new(pieces, None, base, limit, Reading::Tolerant);
    loop {
        match walk.next(store)? {
            Found::Frame { .. } => {
                let end = walk.position();
                if let Some(template) = fits(end) {
                    let prev = before.header.seq;
                    return checked(file, path, Some(template), end, limit, seq, prev);
                }
            }
            Found::Skipped { .. } => {}
            Found::End => return Ok(None),
        }
    }
}

/// The segment, if its first frame is valid as a whole.
fn checked<F: StoreFile>(
    file: Tolerant<F>,
    path: PathBuf,
    template: Option<SegmentHeader>,
    base: u64,
    limit: u64,
    seq: u64,
    prev_seq: u64,
) -> Result<Option<Piece>> {
    let Some(template) = template else { return Ok(None) };
    // What the lost header promised is not known.
    let header = SegmentHeader { seq, base, prev_seq, durable: 0, ..template };
    let (seed, max) = (header.seed(), header.max_record);
    let mut scanner = Scanner::new(file, path, seed, base, max, base, limit)?;
    let valid = matches!(scanner.next()?, Step::Frame { .. });
    Ok(valid.then(|| Piece { header, name: name::segment(seq), gap: None, guessed: true }))
}
