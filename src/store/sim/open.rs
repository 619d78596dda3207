//! One file whose content is open: the versions of its sectors, and its lengths.
//!
//! I1. Versions are distinct, so that every combination of a length and of the versions below it
//!     is another file.
//! I2. Only bytes that were written since the last sync differ between versions, whatever the
//!     profile: writing a part of a sector never harms the rest of it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::disk::{Change, Id, Inode};
use super::profile::Rules;
use super::rng::Rng;
use crate::sync::Arc;

/// A sector whose content is open.
#[derive(Debug)]
pub(super) struct Sector {
    /// Distinct; the first is the oldest, `newest` the last that was written.
    pub(super) versions: Vec<Box<[u8]>>,
    pub(super) newest: usize,
    /// Which write of its file came last.
    pub(super) change: usize,
    /// The bytes that were written, from the start of the sector.
    written: Vec<Range<usize>>,
}

/// A file whose content or length is open.
#[derive(Debug)]
pub(super) struct File {
    pub(super) id: Id,
    durable: Arc<Vec<u8>>,
    /// Distinct, the durable one first.
    pub(super) lengths: Vec<usize>,
    pub(super) newest: usize,
    /// By offset.
    pub(super) sectors: BTreeMap<usize, Sector>,
}

/// The bytes of a sector, zeros where the file does not reach.
fn content(bytes: &[u8], at: usize, sector: usize) -> Box<[u8]> {
    let mut content = vec![0; sector];
    let there = bytes.get(at..).unwrap_or_default();
    let there = &there[..there.len().min(sector)];
    content[..there.len()].copy_from_slice(there);
    content.into()
}

impl File {
    pub(super) fn new(
        id: Id,
        inode: &Inode,
        rules: Rules,
        freed: &[Arc<Vec<u8>>],
        rng: &mut Rng,
    ) -> Self {
        let durable = Arc::clone(&inode.durable);
        let lengths = vec![durable.len()];
        let mut file = Self { id, durable, lengths, newest: 0, sectors: BTreeMap::new() };
        let mut now = file.durable.to_vec();
        for (index, change) in inode.pending.iter().enumerate() {
            let before = now.len();
            change.apply(&mut now);
            let known = file.lengths.iter().position(|len| *len == now.len());
            file.newest = known.unwrap_or_else(|| {
                file.lengths.push(now.len());
                file.lengths.len() - 1
            });
            let (start, end) = match change {
                Change::Write { offset, bytes } => (*offset, offset + bytes.len()),
                Change::Length(len) => (*len, before),
            };
            file.touch(start.min(before), end, &now, rules, index);
        }
        file.sectors.retain(|_, sector| sector.versions.len() > 1);
        if rules.garbage {
            file.add_garbage(freed, rng);
        }
        file
    }

    /// Records what the sectors in a range look like now.
    fn touch(&mut self, start: usize, end: usize, now: &[u8], rules: Rules, change: usize) {
        let size = rules.sector;
        for at in (start / size * size..end).step_by(size) {
            let durable = &self.durable;
            let sector = self.sectors.entry(at).or_insert_with(|| {
                let versions = vec![content(durable, at, size)];
                Sector { versions, newest: 0, change, written: Vec::new() }
            });
            sector.written.push(start.saturating_sub(at)..(end - at).min(size));
            sector.add(content(now, at, size), rules.torn_sectors, change);
        }
    }

    /// Content that nobody wrote there, noise, what is valid elsewhere, and what was there in a
    /// file that is gone; where something was written, and nowhere else.
    fn add_garbage(&mut self, freed: &[Arc<Vec<u8>>], rng: &mut Rng) {
        let newest = |sector: &Sector| sector.versions[sector.newest].clone();
        let elsewhere: Vec<_> = self.sectors.values().map(newest).collect();
        for (at, open) in &mut self.sectors {
            let mut noise = newest(open);
            rng.fill(&mut noise);
            let valid = elsewhere[rng.below(elsewhere.len())].clone();
            // Only a block that is new to the file can have been somebody else's.
            let is_new = content(&self.durable, *at, noise.len()).iter().all(|byte| *byte == 0);
            let stale = freed.iter().filter(|bytes| is_new && bytes.len() > *at);
            let stale = stale.map(|bytes| content(bytes, *at, noise.len()));
            let stale: Vec<_> = stale.collect();
            for garbage in [noise, valid].into_iter().chain(stale) {
                let mut version = newest(open);
                for range in &open.written {
                    version[range.clone()].copy_from_slice(&garbage[range.clone()]);
                }
                if !open.versions.contains(&version) {
                    open.versions.push(version);
                }
            }
        }
    }

    /// The sectors that count at a length, and their first possible version.
    fn open(&self, len: usize, rules: Rules) -> impl Iterator<Item = (usize, &Sector, usize)> {
        let durable = self.durable.len();
        self.sectors.range(..len).map(move |(at, sector)| {
            let grown = len > durable && at + rules.sector > durable;
            (*at, sector, usize::from(rules.ordered_growth && grown))
        })
    }

    fn states_at(&self, len: usize, rules: Rules) -> u64 {
        self.open(len, rules).fold(1, |product: u64, (at, sector, first)| {
            product.saturating_mul(sector.options(first, len - at).count() as u64)
        })
    }

    pub(super) fn states(&self, rules: Rules) -> u64 {
        let lengths = self.lengths.iter();
        lengths.fold(0, |sum: u64, len| sum.saturating_add(self.states_at(*len, rules)))
    }

    /// The file with the `index`-th of all its states.
    pub(super) fn state(&self, mut index: u64, rules: Rules) -> Arc<Vec<u8>> {
        for len in &self.lengths {
            let states = self.states_at(*len, rules);
            if index < states {
                return self.build(*len, rules, |sector, first, room| {
                    let options = sector.options(first, room).count() as u64;
                    let choice = usize::try_from(index % options).unwrap_or(0);
                    index /= options;
                    sector.options(first, room).nth(choice).unwrap_or(first)
                });
            }
            index -= states;
        }
        Arc::clone(&self.durable)
    }

    /// The file at a length, with the version of each sector that `pick(sector, first, room)`
    /// says, of which `room` bytes are below the length.
    pub(super) fn build(
        &self,
        len: usize,
        rules: Rules,
        mut pick: impl FnMut(&Sector, usize, usize) -> usize,
    ) -> Arc<Vec<u8>> {
        let mut bytes = self.durable.to_vec();
        bytes.resize(len, 0);
        for (at, sector, first) in self.open(len, rules) {
            let version = pick(sector, first, len - at).clamp(first, sector.versions.len() - 1);
            let end = len.min(at + rules.sector);
            bytes[at..end].copy_from_slice(&sector.versions[version][..end - at]);
        }
        Arc::new(bytes)
    }
}

impl Sector {
    /// Versions from `first` on whose first `room` bytes differ.
    fn options(&self, first: usize, room: usize) -> impl Iterator<Item = usize> {
        let room = room.min(self.versions.first().map_or(0, |version| version.len()));
        let seen = move |index: usize| {
            let earlier = &self.versions[first..index];
            room == 0 || earlier.iter().any(|v| v[..room] == self.versions[index][..room])
        };
        let whole = room == self.versions.first().map_or(0, |version| version.len());
        (first..self.versions.len()).filter(move |index| whole || !seen(*index))
    }

    fn add(&mut self, content: Box<[u8]>, torn: bool, change: usize) {
        self.change = change;
        let before = self.newest;
        if let Some(known) = self.versions.iter().position(|version| *version == content) {
            self.newest = known;
            return;
        }
        if torn {
            let old = self.versions[before].clone();
            let differs = |at: &usize| old[*at] != content[*at];
            let first = (0..content.len()).find(differs).unwrap_or(0);
            let last = (0..content.len()).rfind(differs).unwrap_or(0);
            // The first bytes of the new version, the rest of the old one; and the reverse.
            for cut in [first + 1, usize::midpoint(first, last), last] {
                for (head, tail) in [(&content, &old), (&old, &content)] {
                    let mixed: Box<[u8]> =
                        head[..cut].iter().chain(&tail[cut..]).copied().collect();
                    if mixed != content && !self.versions.contains(&mixed) {
                        self.versions.push(mixed);
                    }
                }
            }
        }
        self.versions.push(content);
        self.newest = self.versions.len() - 1;
    }
}
