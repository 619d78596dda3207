//! Segments, and which of them are the log.

use super::block::{Slot, either};
use super::seal::Sealer;
use super::{Files, Keys, Refusal, index, number};

/// A live segment: its file, a good copy of its header, and where its successor cuts it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment<'a> {
    pub(crate) file: &'a [u8],
    pub(crate) header: &'a [u8],
    pub(crate) cut: Option<u64>,
}

impl<'a> Segment<'a> {
    pub(crate) fn log_id(&self) -> &'a [u8] {
        &self.header[24..40]
    }

    pub(crate) fn seq(&self) -> u64 {
        number(self.header, 40, 8)
    }

    pub(crate) fn name(&self) -> String {
        format!("{:020}.wal", self.seq())
    }

    pub(crate) fn epoch(&self) -> u64 {
        number(self.header, 48, 8)
    }

    pub(crate) fn salt(&self) -> &'a [u8] {
        &self.header[56..72]
    }

    pub(crate) fn base(&self) -> u64 {
        number(self.header, 72, 8)
    }

    pub(crate) fn prev_seq(&self) -> u64 {
        number(self.header, 80, 8)
    }

    pub(crate) fn head(&self) -> u64 {
        number(self.header, 88, 8)
    }

    /// Clipped to the cut.
    pub(crate) fn durable(&self) -> u64 {
        number(self.header, 96, 8).min(self.cut.unwrap_or(u64::MAX))
    }

    /// How far behind the first invalid position valid frames may end, by these limits.
    pub(crate) fn max_unsynced(&self) -> u64 {
        number(self.header, 104, 8)
    }

    pub(crate) fn max_unit(&self) -> u64 {
        number(self.header, 112, 8)
    }

    pub(crate) fn max_record(&self) -> u64 {
        number(self.header, 120, 4)
    }

    pub(crate) fn cipher(&self) -> u8 {
        self.header[124]
    }

    /// It says that nothing before it is plain.
    pub(crate) fn is_entire(&self) -> bool {
        self.cipher() != 0 && self.header[125] & 1 != 0
    }

    /// Where its frames end at the latest: at the cut, or with the file.
    pub(crate) fn limit(&self) -> u64 {
        let end = self.base() + self.file.len().saturating_sub(8192) as u64;
        end.min(self.cut.unwrap_or(u64::MAX))
    }

    /// The bytes from an LSN on.
    pub(crate) fn from(&self, lsn: u64) -> &'a [u8] {
        self.file.get(8192 + index(lsn - self.base())..).unwrap_or_default()
    }

    /// What opens its frames, if they are encrypted.
    pub(crate) fn sealer(&self, keys: &Keys) -> Result<Option<Sealer>, Refusal> {
        if self.cipher() == 0 {
            return Ok(None);
        }
        let wrong = || Refusal::WrongKey(self.name());
        let id = u32::try_from(number(self.header, 128, 4)).map_err(|_| wrong())?;
        let sealer = Sealer::frames(keys.get(&id).ok_or_else(wrong)?, self);
        let proven = sealer.proof(&self.header[..132]) == self.header[132..148];
        if proven { Ok(Some(sealer)) } else { Err(wrong()) }
    }
}

/// The segment in a file, checked by itself.
fn segment<'a>(name: &str, file: &'a [u8], control: &Slot<'_>) -> Result<Segment<'a>, Refusal> {
    let damage = |why| Err(Refusal::Damage(name.to_owned(), why));
    let copies = either(file, b"COHRTWAL", name)?;
    if let [first, second] = copies[..]
        && first != second
    {
        return damage("two valid copies that differ");
    }
    let segment = Segment { file, header: copies[0], cut: None };
    if file.len() < 8192 {
        return damage("it ends in its header");
    }
    if segment.log_id() != control.log_id() {
        return damage("of another log");
    }
    if segment.name() != name {
        return damage("its name is another");
    }
    if number(segment.header, 20, 4) != 8192 {
        return Err(Refusal::Newer(name.to_owned()));
    }
    let positions = [segment.base(), segment.head(), number(segment.header, 96, 8)];
    let possible = positions.iter().all(|lsn| lsn % 8 == 0 && *lsn < 1 << 62);
    if !possible || segment.head() > segment.base() || segment.prev_seq() >= segment.seq() {
        return damage("it says what cannot be");
    }
    Ok(segment)
}

/// All listed segments, by sequence number.
pub(crate) fn segments<'a>(
    files: &'a Files,
    control: &Slot<'_>,
) -> Result<Vec<Segment<'a>>, Refusal> {
    let is_segment = |name: &&String| {
        let digits = name.strip_suffix(".wal").unwrap_or_default();
        digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let named = files.iter().filter(|(name, _)| is_segment(name));
    named.map(|(name, file)| segment(name, file, control)).collect()
}

/// The live segments, oldest first.
pub(crate) fn live<'a>(files: &'a Files, control: &Slot<'_>) -> Result<Vec<Segment<'a>>, Refusal> {
    let listed = segments(files, control)?;
    let damage = |segment: &Segment<'_>, why| Err(Refusal::Damage(segment.name(), why));
    if control.newest_seq() != 0 && listed.iter().all(|s| s.seq() != control.newest_seq()) {
        let name = format!("{:020}.wal", control.newest_seq());
        return Err(Refusal::Damage(name, "it is missing"));
    }
    let mut live: Vec<Segment<'_>> = Vec::new();
    let mut next = listed.last().copied();
    while let Some(segment) = next {
        let cut = live.last().map(Segment::base);
        if segment.cipher() > 1 {
            return Err(Refusal::Newer(segment.name()));
        }
        live.push(Segment { cut, ..segment });
        next = listed.iter().find(|other| other.seq() == segment.prev_seq()).copied();
        let Some(older) = next else { break };
        let between = |s: &&Segment<'_>| older.seq() < s.seq() && s.seq() < segment.seq();
        if older.base() >= segment.base() || older.epoch() > segment.epoch() {
            return damage(&segment, "it does not follow");
        }
        if listed.iter().filter(between).any(|skipped| skipped.base() < segment.base()) {
            return damage(&segment, "it leaves one out");
        }
    }
    live.reverse();
    match live.first() {
        Some(oldest) if oldest.base() > control.head() => damage(oldest, "none before it"),
        _ => Ok(live),
    }
}
