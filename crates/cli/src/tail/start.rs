//! Where `tail` begins.
//!
//! The last records are looked for from the newest segment backwards. Each segment is read once,
//! and only places are kept of it, of no more records than are wanted.

use std::collections::VecDeque;
use std::path::Path;

use cohort_wal::{Lsn, SegmentInfo, WalError, WalReader};

use super::filter::Filter;
use super::open;
use crate::progress::Progress;

/// Where to begin.
pub(super) struct Start {
    pub(super) lsn: Lsn,
    /// What hides earlier records that are wanted.
    pub(super) damage: Option<WalError>,
}

impl Start {
    fn at(lsn: Lsn) -> Self {
        Self { lsn, damage: None }
    }
}

/// The first record at or above `from`, or the end. Below the head it is `from`: that it is gone
/// is for a follower to find.
pub(super) fn first(reader: &WalReader, from: Lsn) -> Result<Start, WalError> {
    let exact = from <= reader.head_lsn() || from == reader.end_lsn();
    if exact || from < reader.end_lsn() && starts_a_record(reader, from)? {
        return Ok(Start::at(from));
    }
    for segment in reader.segments().iter().filter(|segment| segment.end > from) {
        let mut records = reader.iter_segment(segment)?;
        while let Some(record) = records.read_next() {
            let lsn = record?.lsn();
            if lsn >= from {
                return Ok(Start::at(lsn));
            }
        }
    }
    Ok(Start::at(reader.end_lsn()))
}

fn starts_a_record(reader: &WalReader, lsn: Lsn) -> Result<bool, WalError> {
    match reader.iter_from(lsn) {
        Err(WalError::NotARecord { .. }) => Ok(false),
        records => records.map(|_| true),
    }
}

/// The first of the last `count` records that pass, or of those that there are.
pub(super) fn last(
    dir: &Path,
    reader: &WalReader,
    count: u64,
    filter: &Filter,
) -> Result<Start, WalError> {
    let mut start = Start::at(reader.end_lsn());
    let mut missing = count;
    let segments = reader.segments();
    let progress = Progress::bytes(reader.end_lsn().get() - reader.head_lsn().get());
    for segment in segments.iter().rev() {
        if missing == 0 {
            break;
        }
        progress.set_position(reader.end_lsn().get() - segment.end.get());
        match last_in(reader, segment, missing, filter) {
            Ok(places) => {
                start.lsn = places.front().copied().unwrap_or(start.lsn);
                missing = missing.saturating_sub(u64::try_from(places.len()).unwrap_or(u64::MAX));
            }
            // It is gone, and with it everything before.
            Err(WalError::Truncated { .. }) if open(dir)?.head_lsn() > segment.base => break,
            // Behind damage nobody knows where records start: what is whole begins after it.
            Err(damage) if damage.is_corruption() => {
                start.damage = Some(damage);
                break;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(start)
}

/// Where the last `count` records of a segment start that pass.
fn last_in(
    reader: &WalReader,
    segment: &SegmentInfo,
    count: u64,
    filter: &Filter,
) -> Result<VecDeque<Lsn>, WalError> {
    let mut places = VecDeque::new();
    let mut records = reader.iter_segment(segment)?;
    while let Some(record) = records.read_next() {
        let record = record?;
        if !filter.passes(record.data()) {
            continue;
        }
        if u64::try_from(places.len()).is_ok_and(|len| len >= count) {
            places.pop_front();
        }
        places.push_back(record.lsn());
    }
    Ok(places)
}
