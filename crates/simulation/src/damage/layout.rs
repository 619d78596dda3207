//! A log whose every frame is known, and what must become of it when bytes of it change.
//!
//! Shares no code with the engine. Which frames lie where is read from the undamaged files, of
//! those that the log has removed as well, for a removal may never reach the disk. A frame, a
//! header or a slot survives damage if its bytes are still the same at the same place. From what
//! survives follow, by the rules of `docs/FORMAT.md` alone: the slot that counts, the chain, the
//! newest witness, the first position that is lost, and so the one right outcome;
//! `tests/damage/layout.rs` of the engine does the same for a single blow.

use std::collections::{BTreeMap, BTreeSet};

/// Published files and their bytes.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

pub(super) const CONTROL: &str = "CONTROL";
pub(super) const HEADER_AREA: usize = 8192;
/// Where a snapshot has its first chunk.
pub(super) const IMAGE_HEADER: usize = 512;
const IMAGE_END: usize = 24;
const BLOCK: usize = 512;
/// In CONTROL: no snapshot counts.
const NO_IMAGE: u64 = u64::MAX;

/// The little-endian number of `len` bytes at an offset.
fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// The copies of a block that have the magic and the right checksum.
fn blocks<'a>(file: &'a [u8], magic: &[u8]) -> impl Iterator<Item = &'a [u8]> {
    let block = move |at: usize| {
        let block = file.get(at..at + BLOCK).filter(|block| block.starts_with(magic))?;
        let crc = u64::from(crc32c::crc32c(&block[..508]));
        (crc == number(block, 508, 4)).then_some(block)
    };
    let found = [block(0), block(4096)];
    found.into_iter().flatten()
}

pub(super) fn is_segment(name: &str) -> bool {
    name.ends_with(".wal")
}

pub(super) fn is_image(name: &str) -> bool {
    name.ends_with(".snap")
}

fn segment_name(seq: u64) -> String {
    format!("{seq:020}.wal")
}

pub(super) fn image_name(lsn: u64) -> String {
    format!("{lsn:020}.snap")
}

/// What the slot of CONTROL says that counts.
struct Claim {
    newest_seq: u64,
    head: u64,
    image: u64,
    durable: u64,
}

impl Claim {
    fn counting(control: &[u8]) -> Option<Self> {
        let slot = blocks(control, b"COHRTCTL").max_by_key(|slot| number(slot, 16, 8))?;
        let field = |at| number(slot, at, 8);
        Some(Self { newest_seq: field(40), head: field(48), image: field(56), durable: field(64) })
    }
}

/// Where a frame lies.
#[derive(Debug, Clone)]
struct Frame {
    offset: usize,
    bytes: usize,
    lsn: u64,
    /// All below was durable when the frame was made.
    watermark: u64,
    /// Others of its batch follow.
    more: bool,
    /// What the first bytes of the record say.
    key: u64,
}

impl Frame {
    fn end(&self) -> u64 {
        self.lsn + self.bytes as u64
    }

    fn survives(&self, undamaged: &[u8], file: &[u8]) -> bool {
        let place = self.offset..self.offset + self.bytes;
        file.get(place.clone()) == undamaged.get(place)
    }
}

/// A segment as it was last seen.
#[derive(Debug, Clone)]
struct Segment {
    bytes: Vec<u8>,
    seq: u64,
    base: u64,
    prev_seq: u64,
    durable: u64,
    /// Ascending; also those that a successor cuts off.
    frames: Vec<Frame>,
}

impl Segment {
    fn new(bytes: &[u8]) -> Option<Self> {
        let header = blocks(bytes, b"COHRTWAL").next()?;
        let field = |at| number(header, at, 8);
        let (base, mut frames, mut offset) = (field(72), Vec::new(), HEADER_AREA);
        while bytes.get(offset + 12).is_some_and(|kind| kind & 0x0F != 0) {
            let len = 16 + (number(bytes, offset + 4, 4) as usize).next_multiple_of(8);
            let lsn = base + (offset - HEADER_AREA) as u64;
            // All ones say nothing.
            let lag = Some(number(bytes, offset + 13, 3)).filter(|lag| *lag != 0x00FF_FFFF);
            let watermark = lag.map_or(0, |lag| lsn - 8 * lag);
            let (more, key) = (bytes[offset + 12] & 0x10 != 0, number(bytes, offset + 16, 8));
            frames.push(Frame { offset, bytes: len, lsn, watermark, more, key });
            offset += len;
        }
        let bytes = bytes.to_vec();
        let (seq, prev_seq, durable) = (field(40), field(80), field(96));
        Some(Self { bytes, seq, base, prev_seq, durable, frames })
    }

    /// Both copies of the header may be used, or one, and none contradicts.
    fn heads(&self, file: &[u8]) -> bool {
        let mut copies = blocks(file, b"COHRTWAL").peekable();
        let usable = copies.peek().is_some() && file.len() >= HEADER_AREA;
        usable && copies.all(|copy| *copy == self.bytes[..BLOCK])
    }
}

/// What became of the snapshot that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Image {
    /// None counts.
    None,
    /// Reads back as it was written.
    Whole(u64),
    /// A chunk is damaged: an error to whoever reads it.
    Damaged(u64),
}

/// A log that opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Opened {
    pub(super) head: u64,
    pub(super) end: u64,
    pub(super) image: Image,
}

/// What must become of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Right {
    /// It opens like this: what is missing, no surviving witness speaks for.
    Opens(Opened),
    /// What was hit lies below a witness that survived, or too far before a frame that did; or
    /// files that count do not hang together, or one of them is gone.
    Refused,
}

/// What must become of damage, and the LSN and key of every record that the surviving chain has
/// from its head on: all that may be shown.
#[derive(Debug, Clone)]
pub(super) struct Ruling {
    pub(super) right: Right,
    pub(super) records: Vec<(u64, u64)>,
}

/// Part of a segment: up to where its successor begins.
struct Live<'a> {
    segment: &'a Segment,
    /// As it is now.
    file: &'a [u8],
    cut: u64,
}

/// An undamaged log.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) files: Files,
    /// What the log has removed, as it was last seen.
    pub(super) removed: Files,
    /// By name, and so by sequence number.
    segments: BTreeMap<String, Segment>,
    /// How far a valid frame may end behind a lost one in a torn tail.
    reach: u64,
}

impl Layout {
    /// The log in `files`, which once had the files of `older`. `None` when one is no segment.
    pub(super) fn new(files: Files, older: &[Files], reach: u64) -> Option<Self> {
        let mut removed = Files::new();
        for (name, bytes) in older.iter().flatten() {
            if !files.contains_key(name) {
                removed.insert(name.clone(), bytes.clone());
            }
        }
        let mut segments = BTreeMap::new();
        for (name, bytes) in files.iter().chain(&removed).filter(|(name, _)| is_segment(name)) {
            segments.insert(name.clone(), Segment::new(bytes)?);
        }
        Some(Self { files, removed, segments, reach })
    }

    /// The names of files that are not as they were.
    pub(super) fn touched<'a>(&'a self, files: &'a Files) -> impl Iterator<Item = &'a str> {
        let came = files.keys().filter(|name| !self.files.contains_key(*name));
        let changed = self.files.keys().filter(|name| self.files.get(*name) != files.get(*name));
        came.chain(changed).map(String::as_str)
    }

    /// Whether the newest segment of all is there: then every cut is known.
    pub(super) fn knows_cuts(&self, files: &Files) -> bool {
        self.files
            .keys()
            .rfind(|name| is_segment(name))
            .is_some_and(|name| files.contains_key(name))
    }

    /// What must become of the log when its files are `files`.
    pub(super) fn rule(&self, files: &Files) -> Ruling {
        let refused = Ruling { right: Right::Refused, records: Vec::new() };
        let Some(claim) = files.get(CONTROL).and_then(|file| Claim::counting(file)) else {
            return refused;
        };
        let Some(live) = self.chain(files, &claim) else { return refused };
        let frames = live.iter().flat_map(Live::frames).filter(|frame| frame.lsn >= claim.head);
        let mut records: Vec<_> = frames.map(|frame| (frame.lsn, frame.key)).collect();
        let end = self.end(&live, &claim);
        let image = end.and_then(|end| self.image(files, &claim, end));
        let Some((end, image)) = end.zip(image) else {
            return Ruling { right: Right::Refused, records };
        };
        records.truncate(records.partition_point(|(lsn, _)| *lsn < end));
        Ruling { right: Right::Opens(Opened { head: claim.head, end, image }), records }
    }

    /// The live chain; `None` where the files do not hang together. A segment whose header is
    /// gone may be part of it, so each must have one.
    fn chain<'a>(&'a self, files: &'a Files, claim: &Claim) -> Option<Vec<Live<'a>>> {
        for (name, file) in files.iter().filter(|(name, _)| is_segment(name)) {
            self.segments.get(name).filter(|segment| segment.heads(file))?;
        }
        let newest = segment_name(claim.newest_seq);
        if claim.newest_seq != 0 && !files.contains_key(&newest) {
            return None;
        }
        let (mut live, mut cut) = (Vec::new(), u64::MAX);
        let mut next = files.keys().rfind(|name| is_segment(name)).cloned();
        while let Some((name, file)) = next.and_then(|name| files.get_key_value(&name)) {
            let segment = &self.segments[name];
            live.push(Live { segment, file, cut });
            cut = segment.base;
            next = Some(segment_name(segment.prev_seq));
        }
        live.reverse();
        (live.first()?.segment.base <= claim.head).then_some(live)
    }

    /// Where the log ends; `None` when something proves that more was durable.
    fn end(&self, live: &[Live<'_>], claim: &Claim) -> Option<u64> {
        let newer = live.iter().filter(|live| live.segment.seq > claim.newest_seq);
        let cut = newer.map(|live| live.segment.base).min().unwrap_or(u64::MAX);
        let mut witness = claim.durable.min(cut);
        let (mut end, mut unit, mut inside) = (live.first()?.segment.base, 0, false);
        let (mut lost, mut evidence) = (None, 0);
        for part in live {
            let Live { segment, file, cut } = *part;
            witness = witness.max(segment.durable.min(cut));
            let touched = segment.bytes != *file;
            end = segment.base;
            for frame in part.frames() {
                if !inside {
                    unit = frame.lsn;
                }
                (inside, end) = (frame.more, frame.end());
                if !touched || frame.survives(&segment.bytes, file) {
                    witness = witness.max(frame.watermark);
                    evidence = frame.end();
                } else if frame.lsn >= claim.head {
                    // What lies below the head does not count.
                    lost = lost.or(Some((frame.lsn, unit)));
                }
            }
        }
        match lost {
            _ if witness < claim.head => None,
            None => Some(end),
            Some((lost, _)) if lost < witness || evidence > lost + self.reach => None,
            Some((_, unit)) => Some(unit),
        }
    }

    /// What becomes of the snapshot of a log that ends at `end`; `None` where it must be refused.
    fn image(&self, files: &Files, claim: &Claim, end: u64) -> Option<Image> {
        let lsn = claim.image;
        if lsn == NO_IMAGE {
            return Some(Image::None);
        }
        let name = image_name(lsn);
        let undamaged = self.files.get(&name).or(self.removed.get(&name))?;
        let file = files.get(&name).filter(|file| file.len() == undamaged.len() && lsn <= end)?;
        let ends = file.len() - IMAGE_END;
        let is_same = |range: std::ops::Range<usize>| file[range.clone()] == undamaged[range];
        match is_same(0..IMAGE_HEADER) && is_same(ends..file.len()) {
            true if is_same(IMAGE_HEADER..ends) => Some(Image::Whole(lsn)),
            true => Some(Image::Damaged(lsn)),
            false => None,
        }
    }

    /// Where units of the undamaged log begin and end, as the flags of its frames say.
    pub(super) fn bounds(&self) -> BTreeSet<u64> {
        let claim = self.files.get(CONTROL).and_then(|file| Claim::counting(file));
        let live = claim.and_then(|claim| self.chain(&self.files, &claim)).unwrap_or_default();
        let frames = live.iter().flat_map(Live::frames);
        frames.filter(|frame| !frame.more).map(Frame::end).collect()
    }
}

impl<'a> Live<'a> {
    fn frames(&self) -> impl Iterator<Item = &'a Frame> + use<'a> {
        let cut = self.cut;
        self.segment.frames.iter().take_while(move |frame| frame.lsn < cut)
    }
}
