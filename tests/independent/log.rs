//! A log as a whole: what it shows, and the decision where it ends.

use super::block::{Slot, control};
use super::chain::{Segment, live};
use super::frame::{Content, Found, walk};
use super::image::image;
use super::{Files, Keys, Refusal};

/// What a log shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Log {
    pub(crate) head: u64,
    /// W: all below was durable.
    pub(crate) witness: u64,
    pub(crate) end: u64,
    /// It was closed, and everything in it is witnessed.
    pub(crate) is_closed: bool,
    pub(crate) verdict: Verdict,
    /// From the head to the end.
    pub(crate) items: Vec<Item>,
    pub(crate) image: Result<Option<(u64, Vec<u8>)>, Refusal>,
}

/// What opening the log for writing decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing but zeros lies behind the end.
    Whole,
    /// What lies behind the end was never acknowledged.
    Torn,
    /// Refused: the log is damaged from here on.
    Refused(u64),
    /// The log opens, and reading it comes to damage, or to what was tampered with.
    Flawed(u64),
}

/// What stands at a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item {
    Record(u64, Vec<u8>),
    /// Damage, up to the second position.
    Lost(u64, u64),
    Tampered(u64),
}

impl Item {
    pub(crate) fn lsn(&self) -> u64 {
        match self {
            Self::Record(lsn, _) | Self::Lost(lsn, _) | Self::Tampered(lsn) => *lsn,
        }
    }
}

impl Log {
    /// The records up to the first that is not there, as a reader gets them.
    pub(crate) fn records(&self) -> Vec<(u64, Vec<u8>)> {
        let records = self.items.iter().map_while(|item| match item {
            Item::Record(lsn, payload) => Some((*lsn, payload.clone())),
            Item::Lost(..) | Item::Tampered(_) => None,
        });
        records.collect()
    }
}

/// Reads a log.
pub(crate) fn read(files: &Files, keys: &Keys) -> Result<Log, Refusal> {
    let control = control(files)?;
    let live = live(files, &control)?;
    let head = control.head();
    let plain = |at: &usize| {
        live[*at].cipher() == 0
            && (live[..*at].iter().any(|segment| segment.cipher() != 0)
                || live[*at..].iter().any(Segment::is_entire))
    };
    if let Some(forged) = (0..live.len()).find(plain) {
        return Err(Refusal::Tampered(live[forged].base()));
    }
    let found = walk(&live, head);
    let known = known_witness(&control, &live);
    let frames = found.iter().filter_map(|found| match found {
        Found::Frame(frame, _) => Some(*frame),
        Found::Hole(..) => None,
    });
    let witness = frames.clone().filter_map(|frame| frame.watermark()).fold(known, u64::max);
    if witness < head {
        return Err(Refusal::Damage("CONTROL".to_owned(), "the log was cut below its head"));
    }
    let end = end(&found, witness, head);
    let mut verdict = verdict(&found, &live, (known, witness), end, head);
    let encrypted = live.last().is_some_and(Segment::is_entire);
    let image = image(files, keys, &control, encrypted);
    let refused = match (&image, control.snapshot()) {
        (Err(Refusal::Damage(..)), _) => true,
        (_, snapshot) => snapshot.is_some_and(|lsn| lsn > end),
    };
    if refused && let Some(lsn) = control.snapshot() {
        verdict = Verdict::Refused(lsn);
    }
    let items = items(&found, &live, keys, end)?;
    let flaw = items.iter().find(|item| !matches!(item, Item::Record(..)));
    if let (Verdict::Whole | Verdict::Torn, Some(flaw)) = (verdict, flaw) {
        verdict = Verdict::Flawed(flaw.lsn());
    }
    let is_closed = control.is_closed() && control.durable() == witness;
    Ok(Log { head, witness, end, is_closed, verdict, items, image })
}

/// W as far as CONTROL and headers say.
fn known_witness(control: &Slot<'_>, live: &[Segment<'_>]) -> u64 {
    let newer = live.iter().filter(|segment| segment.seq() > control.newest_seq());
    let lowest = newer.map(Segment::base).min().unwrap_or(u64::MAX);
    live.iter().map(Segment::durable).fold(control.durable().min(lowest), u64::max)
}

/// The last end of a unit before the first hole at or above W; W itself if none is behind it.
fn end(found: &[Found<'_>], witness: u64, head: u64) -> u64 {
    let mut end = head.max(witness);
    for found in found {
        match found {
            Found::Frame(frame, _) if !frame.more() || frame.lsn < witness => {
                end = end.max(frame.end());
            }
            Found::Hole(_, to) if *to > witness => break,
            _ => {}
        }
    }
    end
}

fn verdict(
    found: &[Found<'_>],
    live: &[Segment<'_>],
    (known, witness): (u64, u64),
    end: u64,
    head: u64,
) -> Verdict {
    // What is older than where the walk begins is judged by who reads it.
    let first = live.iter().map(Segment::base).rfind(|base| *base <= known).unwrap_or(0);
    let start = first.max(head);
    let (mut stop, mut unit_ends, mut far, mut is_torn) = (start, vec![start], 0, false);
    for found in found {
        match found {
            Found::Frame(frame, _) if frame.lsn < start => {}
            Found::Frame(frame, _) if !is_torn => {
                stop = frame.end();
                unit_ends.extend((!frame.more()).then_some(stop));
            }
            Found::Frame(frame, _) => far = far.max(frame.end()),
            Found::Hole(from, _) => is_torn |= *from >= start,
        }
    }
    let from = live.iter().rposition(|segment| segment.base() <= stop).unwrap_or(0);
    let behind = || live[from.min(live.len())..].iter();
    let unsynced = behind().map(Segment::max_unsynced).max().unwrap_or(0);
    let reach = stop + unsynced + behind().map(Segment::max_unit).max().unwrap_or(0);
    let boundary = unit_ends.last().copied().unwrap_or(start);
    match () {
        () if stop < witness || !unit_ends.contains(&witness) || far > reach => {
            Verdict::Refused(stop)
        }
        () => {
            assert_eq!(boundary, end, "the log ends with a unit");
            if is_torn || boundary < stop { Verdict::Torn } else { Verdict::Whole }
        }
    }
}

/// What stands below the end.
fn items(
    found: &[Found<'_>],
    live: &[Segment<'_>],
    keys: &Keys,
    end: u64,
) -> Result<Vec<Item>, Refusal> {
    let sealers = live.iter().map(|segment| segment.sealer(keys));
    let sealers = sealers.collect::<Result<Vec<_>, _>>()?;
    let mut items = Vec::new();
    for found in found {
        match found {
            Found::Hole(from, to) if *from < end => items.push(Item::Lost(*from, *to)),
            Found::Frame(frame, nth) if frame.lsn < end => {
                match frame.content(sealers[*nth].as_ref(), live[*nth].max_record()) {
                    Content::Record(payload) => items.push(Item::Record(frame.lsn, payload)),
                    Content::Pad => {}
                    Content::Tampered => items.push(Item::Tampered(frame.lsn)),
                    Content::Malformed => items.push(Item::Lost(frame.lsn, frame.end())),
                }
            }
            _ => {}
        }
    }
    Ok(items)
}
