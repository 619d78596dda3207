//! Every state that a power loss can leave.
//!
//! What was pending decides: each sector of each named file has a list of versions, oldest first,
//! each file a list of lengths, the directory a list of names. A state picks one of each. When
//! there are few, all are visited, each once; when there are many, the patterns that have broken
//! storage engines before are, and then random ones.
//!
//! I1. The states are numbered, and a number names the same state every time.
//! I2. State 0 keeps nothing that was not synced.

use std::collections::BTreeMap;
use std::ops::Range;

use super::disk::{Change, Disk, Id, Inode, Names};
use super::profile::Rules;
use super::rng::Rng;
use crate::sync::Arc;

/// Name changes beyond this many are not combined freely, but patterns and random choices apply.
const FREE_NAMES: usize = 10;
/// Sectors up to which all pairs of them are tried.
const PAIRS: usize = 24;

/// A sector whose content is open.
#[derive(Debug)]
struct Sector {
    /// Distinct; the first is the oldest, `newest` the last that was written.
    versions: Vec<Box<[u8]>>,
    newest: usize,
    /// Which write of its file came last.
    change: usize,
    /// The bytes that were written, from the start of the sector.
    written: Vec<Range<usize>>,
}

/// A file whose content or length is open.
#[derive(Debug)]
struct File {
    id: Id,
    durable: Arc<Vec<u8>>,
    /// Distinct, the durable one first.
    lengths: Vec<usize>,
    newest: usize,
    /// By offset.
    sectors: BTreeMap<usize, Sector>,
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
    fn new(id: Id, inode: &Inode, rules: Rules, rng: &mut Rng) -> Self {
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
            file.add_garbage(rng);
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

    /// Content that nobody wrote there, noise and what is valid elsewhere; where something was
    /// written, and nowhere else.
    fn add_garbage(&mut self, rng: &mut Rng) {
        let newest = |sector: &Sector| sector.versions[sector.newest].clone();
        let elsewhere: Vec<_> = self.sectors.values().map(newest).collect();
        for open in self.sectors.values_mut() {
            let mut noise = newest(open);
            rng.fill(&mut noise);
            for garbage in [noise, elsewhere[rng.below(elsewhere.len())].clone()] {
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
        self.open(len, rules).fold(1, |product: u64, (_, sector, first)| {
            product.saturating_mul((sector.versions.len() - first) as u64)
        })
    }

    fn states(&self, rules: Rules) -> u64 {
        let lengths = self.lengths.iter();
        lengths.fold(0, |sum: u64, len| sum.saturating_add(self.states_at(*len, rules)))
    }

    /// The file with the `index`-th of all its states.
    fn state(&self, mut index: u64, rules: Rules) -> Arc<Vec<u8>> {
        for len in &self.lengths {
            let states = self.states_at(*len, rules);
            if index < states {
                return self.build(*len, rules, |sector, first| {
                    let options = (sector.versions.len() - first) as u64;
                    let choice = index % options;
                    index /= options;
                    first + usize::try_from(choice).unwrap_or(0)
                });
            }
            index -= states;
        }
        Arc::clone(&self.durable)
    }

    /// The file at a length, with the version of each sector that `pick(sector, first)` says.
    fn build(
        &self,
        len: usize,
        rules: Rules,
        mut pick: impl FnMut(&Sector, usize) -> usize,
    ) -> Arc<Vec<u8>> {
        let mut bytes = self.durable.to_vec();
        bytes.resize(len, 0);
        for (at, sector, first) in self.open(len, rules) {
            let version = pick(sector, first).clamp(first, sector.versions.len() - 1);
            let end = len.min(at + rules.sector);
            bytes[at..end].copy_from_slice(&sector.versions[version][..end - at]);
        }
        Arc::new(bytes)
    }
}

impl Sector {
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

/// Which of all sectors get their newest content.
#[derive(Debug, Clone, Copy)]
enum Pattern {
    None,
    All,
    /// New lengths over old bytes.
    Lengths,
    /// New bytes under old names.
    Bytes,
    Only(usize),
    AllBut(usize),
    First(usize),
    Last(usize),
    Even,
    Odd,
    OnlyFile(usize),
    OnlyChange(usize),
    AllButChange(usize),
    WithoutPair(usize, usize),
}

/// What a power loss may leave, see [`PowerLosses`](super::PowerLosses).
#[derive(Debug)]
pub(super) struct Outcomes {
    disk: Disk,
    rules: Rules,
    rng: Rng,
    files: Vec<File>,
    names: u64,
    patterns: Vec<Pattern>,
    /// All states there are, if no more than the limit.
    exhaustive: Option<u64>,
}

impl Outcomes {
    pub(super) fn new(disk: &Disk, rules: Rules, rng: Rng, limit: u64) -> Self {
        let mut noise = rng.stream(0);
        let reachable = |id: &Id| {
            let pending = disk.pending_names.iter().filter_map(|change| change.to);
            disk.durable_names.values().copied().chain(pending).any(|named| named == *id)
        };
        let open =
            disk.inodes.iter().filter(|(id, inode)| !inode.pending.is_empty() && reachable(id));
        let files = open.map(|(id, inode)| File::new(*id, inode, rules, &mut noise));
        let changes = disk.pending_names.len();
        let names = if rules.any_names && changes <= FREE_NAMES {
            1 << changes
        } else {
            changes as u64 + 1
        };
        // A directory that nobody made durable may be gone with all that is in it.
        let names = names + u64::from(!disk.place_is_durable);
        let mut outcomes = Self {
            disk: disk.clone(),
            rules,
            rng,
            files: files.collect(),
            names,
            patterns: Vec::new(),
            exhaustive: None,
        };
        let files = outcomes.files.iter().map(|file| file.states(rules));
        let total = files.fold(names, u64::saturating_mul);
        if total <= limit {
            outcomes.exhaustive = Some(total);
        } else {
            outcomes.patterns = outcomes.list_patterns();
        }
        outcomes
    }

    /// How many states there are, if all of them are visited.
    pub(super) fn exhaustive(&self) -> Option<u64> {
        self.exhaustive
    }

    pub(super) fn patterns(&self) -> u64 {
        self.patterns.len() as u64
    }

    fn sectors(&self) -> impl Iterator<Item = &Sector> {
        self.files.iter().flat_map(|file| file.sectors.values())
    }

    fn list_patterns(&self) -> Vec<Pattern> {
        let n = self.sectors().count();
        let changes = self.sectors().map(|sector| sector.change + 1).max().unwrap_or(0);
        let general = [Pattern::None, Pattern::All, Pattern::Lengths, Pattern::Bytes];
        let single = (0..n).flat_map(|k| {
            [Pattern::Only(k), Pattern::AllBut(k), Pattern::First(k), Pattern::Last(k)]
        });
        let halves = [Pattern::Even, Pattern::Odd];
        let files = (0..self.files.len()).map(Pattern::OnlyFile);
        let groups = (0..changes)
            .flat_map(|change| [Pattern::OnlyChange(change), Pattern::AllButChange(change)]);
        let few = if n <= PAIRS { n } else { 0 };
        let pairs = (0..few).flat_map(|a| (0..a).map(move |b| Pattern::WithoutPair(a, b)));
        let all = general.into_iter().chain(single).chain(halves);
        all.chain(files).chain(groups).chain(pairs).collect()
    }

    /// The state with this number.
    pub(super) fn state(&self, index: u64) -> Disk {
        if self.exhaustive.is_some() {
            return self.numbered(index);
        }
        let pattern = usize::try_from(index).ok().and_then(|index| self.patterns.get(index));
        match pattern {
            Some(pattern) => self.patterned(*pattern),
            None => self.random(index),
        }
    }

    fn numbered(&self, mut index: u64) -> Disk {
        let mut disk = self.names_of(index % self.names);
        index /= self.names;
        for file in &self.files {
            let states = file.states(self.rules);
            let bytes = file.state(index % states, self.rules);
            disk.settle(file.id, bytes);
            index /= states;
        }
        disk.finish()
    }

    fn patterned(&self, pattern: Pattern) -> Disk {
        let old_names = matches!(pattern, Pattern::None | Pattern::Bytes);
        let mut disk = self.names_of(if old_names { 0 } else { self.all_names() });
        let mut index = 0;
        for (position, file) in self.files.iter().enumerate() {
            let len = file.lengths[if matches!(pattern, Pattern::None) { 0 } else { file.newest }];
            let mut numbers = file.sectors.keys().map(|_| {
                index += 1;
                index - 1
            });
            let bytes = file.build(len, self.rules, |sector, first| {
                let k = numbers.next().unwrap_or(0);
                let new = match pattern {
                    Pattern::None | Pattern::Lengths => false,
                    Pattern::All | Pattern::Bytes => true,
                    Pattern::Only(only) => k == only,
                    Pattern::AllBut(missing) => k != missing,
                    Pattern::First(count) => k < count,
                    Pattern::Last(count) => k >= count,
                    Pattern::Even => k % 2 == 0,
                    Pattern::Odd => k % 2 == 1,
                    Pattern::OnlyFile(only) => position == only,
                    Pattern::OnlyChange(only) => sector.change == only,
                    Pattern::AllButChange(missing) => sector.change != missing,
                    Pattern::WithoutPair(a, b) => k != a && k != b,
                };
                if new { sector.newest } else { first }
            });
            // What lies beyond the length was skipped, and keeps its number.
            numbers.for_each(drop);
            disk.settle(file.id, bytes);
        }
        disk.finish()
    }

    pub(super) fn random(&self, index: u64) -> Disk {
        let mut rng = self.rng.stream(index + 1);
        let names = usize::try_from(self.names).unwrap_or(usize::MAX);
        let mut disk = self.names_of(rng.below(names) as u64);
        // Some losses keep almost everything, some almost nothing.
        let newest_of_eight = [0, 1, 4, 7, 8][rng.below(5)];
        for file in &self.files {
            let len = file.lengths[rng.below(file.lengths.len())];
            let bytes = file.build(len, self.rules, |sector, first| {
                if rng.below(8) < newest_of_eight {
                    sector.newest
                } else {
                    first + rng.below(sector.versions.len() - first)
                }
            });
            disk.settle(file.id, bytes);
        }
        disk.finish()
    }

    /// The choice of names that keeps all of them.
    fn all_names(&self) -> u64 {
        self.names - 1 - u64::from(!self.disk.place_is_durable)
    }

    fn names_of(&self, choice: u64) -> Building<'_> {
        let mut names = self.disk.durable_names.clone();
        if choice > self.all_names() {
            names.clear();
        } else {
            let changes = self.disk.pending_names.len();
            let free = self.rules.any_names && changes <= FREE_NAMES;
            for (index, change) in self.disk.pending_names.iter().enumerate() {
                if if free { choice >> index & 1 == 1 } else { (index as u64) < choice } {
                    change.apply(&mut names);
                }
            }
        }
        Building { disk: &self.disk, names, files: BTreeMap::new() }
    }
}

/// A disk whose undecided files are decided one by one.
struct Building<'a> {
    disk: &'a Disk,
    names: Names,
    files: BTreeMap<Id, Arc<Vec<u8>>>,
}

impl Building<'_> {
    fn settle(&mut self, id: Id, bytes: Arc<Vec<u8>>) {
        self.files.insert(id, bytes);
    }

    /// The rest is as it was synced, and what no name leads to is gone.
    fn finish(self) -> Disk {
        let Self { disk, names, mut files } = self;
        let mut bytes = |id: &Id| {
            let decided = files.remove(id);
            decided.or_else(|| disk.inodes.get(id).map(|inode| Arc::clone(&inode.durable)))
        };
        let files = names.into_iter().filter_map(|(name, id)| Some((name, bytes(&id)?)));
        Disk::settled(files)
    }
}
