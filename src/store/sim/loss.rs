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

use super::disk::{Disk, Id, Names};
use super::open::{File, Sector};
use super::profile::Rules;
use super::rng::Rng;
use crate::sync::Arc;

/// Name changes beyond this many are not combined freely, but patterns and random choices apply.
const FREE_NAMES: usize = 10;
/// Sectors up to which all pairs of them are tried.
const PAIRS: usize = 24;

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
        let files = open.map(|(id, inode)| File::new(*id, inode, rules, &disk.freed, &mut noise));
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
            let bytes = file.build(len, self.rules, |sector, first, _| {
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
            let bytes = file.build(len, self.rules, |sector, first, _| {
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
        let kept: Vec<_> = names.values().copied().collect();
        let files = names.into_iter().filter_map(|(name, id)| Some((name, bytes(&id)?)));
        let mut left = Disk::settled(files);
        left.freed.clone_from(&disk.freed);
        // What was under way may have reached blocks that no file has now.
        for (id, inode) in &disk.inodes {
            if !inode.pending.is_empty() || !kept.contains(id) {
                left.free(Arc::clone(&inode.cached));
            }
        }
        left
    }
}
