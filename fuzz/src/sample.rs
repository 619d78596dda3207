//! Small healthy logs, made once: each of a few segments and two sessions, every record known.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::sync::{Arc, OnceLock};

use cohort_wal::{Lsn, Preallocate, Wal, WalOptions};
use simulation::oracle::image;
use simulation::record::payload;

use crate::layout::Layout;
use crate::seal::{BLOCK, COPIES, HEADER_AREA, Seed, fits_body, sealed_block};
use crate::shown::Shown;
use crate::store::{CowStore, Files};

pub(crate) const CONTROL: &str = "CONTROL";

/// How a sample is written.
struct Plan {
    /// `s` appends a record, `b` a batch of three, `f` flushes, `y` syncs, `r` rotates, `t` forgets
    /// the older half, `c` makes a snapshot of it, `u` cuts off the last unit, and at `k` the
    /// process dies and the log is opened again. Nothing is left unflushed then.
    steps: &'static str,
    closes: bool,
    /// Bounds so close that a frame far behind a lost one proves damage.
    tight: bool,
    zeroed: bool,
}

/// One closed cleanly, and others whose process died with records that no sync covers.
const PLANS: [Plan; 5] = [
    Plan { steps: "ysbyryssysfkbyssrsbyss", closes: true, tight: false, zeroed: false },
    Plan { steps: "sybrssyssfkysbyrsysysbyssf", closes: false, tight: true, zeroed: false },
    Plan { steps: "sbyssrysbsfkysrybysssysbf", closes: false, tight: false, zeroed: true },
    Plan { steps: "sbsrbsytssubsrcsbysutksbcrssbuyssf", closes: false, tight: true, zeroed: false },
    Plan { steps: "sbysscrsbutksbsursyss", closes: true, tight: false, zeroed: true },
];

/// How many samples there are.
pub(crate) const SAMPLES: usize = PLANS.len();

/// The longest unit of a log with tight bounds, and as much may be unsynced.
const TIGHT_BYTES: u32 = 1024;

/// A healthy log.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) files: Files,
    /// The files as they were after each step, oldest first.
    pub(crate) older: Vec<Files>,
    /// Those that no cut has taken, below the head as well.
    pub(crate) records: Shown,
    /// What they were before each cut.
    before: Vec<Shown>,
    pub(crate) layout: Layout,
    pub(crate) options: WalOptions,
    /// Names of the segments, and where the frames of each begin.
    pub(crate) segments: Vec<(String, BTreeSet<usize>)>,
    /// Every block that ever was in a file of this log.
    blocks: BTreeSet<Vec<u8>>,
}

/// The sample with this number.
pub(crate) fn sample(number: usize) -> &'static Sample {
    static ALL: OnceLock<Vec<Sample>> = OnceLock::new();
    let make = |(plan, seed)| Sample::new(plan, seed);
    &ALL.get_or_init(|| PLANS.iter().zip(1..).map(make).collect())[number % SAMPLES]
}

/// Whether a name is 20 digits and this ending.
pub(crate) fn is_numbered(name: &str, ending: &str) -> bool {
    let digits = name.strip_suffix(ending).unwrap_or_default();
    digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// Every file's bytes in a vector of their own.
pub(crate) fn plain(files: &Files) -> BTreeMap<String, Vec<u8>> {
    files.iter().map(|(name, bytes)| (name.clone(), bytes.to_vec())).collect()
}

impl Plan {
    fn options(&self) -> WalOptions {
        let ahead = if self.zeroed { Preallocate::Zeroed } else { Preallocate::Off };
        let options = WalOptions::new().ring_bytes(64 << 10).segment_bytes(16 << 10);
        let options = options.preallocate(ahead);
        if !self.tight {
            return options;
        }
        let unit = u64::from(TIGHT_BYTES);
        options.max_record_bytes(TIGHT_BYTES - 16).max_batch_bytes(unit).max_unsynced_bytes(unit)
    }

    /// Bytes that may be unsynced, and one unit.
    fn reach(&self) -> u64 {
        if self.tight { 2 * u64::from(TIGHT_BYTES) } else { (32 << 10) + (256 << 20) }
    }
}

impl Sample {
    #[expect(clippy::expect_used, reason = "without its samples a rig must stop")]
    fn new(plan: &Plan, seed: u64) -> Self {
        let open = |store: &CowStore| {
            plan.options().open_store(store.clone()).expect("a healthy log opens")
        };
        let mut store = CowStore::new(&Files::new(), seed);
        let mut wal = open(&store);
        let mut made = Made::default();
        let (mut older, mut sessions) = (Vec::new(), 0);
        for step in plan.steps.chars() {
            if step == 'k' {
                sessions += 1;
                // The old handle closes the log on a store that nobody sees any more.
                let next = CowStore::new(&store.files(), seed << 8 | sessions);
                wal = open(&next);
                store = next;
            } else {
                made.step(&wal, step);
            }
            older.push(store.files());
        }
        if plan.closes {
            wal.close().expect("memory closes");
        }
        let files = store.files();
        let once: Vec<_> = older.iter().map(plain).collect();
        let layout = Layout::new(plain(&files), &once, plan.reach());
        let layout = layout.expect("the segments of a healthy log have headers");
        let options = plan.options().create(false);
        let mut sample = Self {
            blocks: blocks_of(&older, &files),
            segments: Vec::new(),
            files,
            older,
            records: made.records,
            before: made.before,
            layout,
            options,
        };
        sample.segments = sample.find_frames();
        sample
    }

    fn find_frames(&self) -> Vec<(String, BTreeSet<usize>)> {
        let segments = self.files.iter().filter(|(name, _)| is_numbered(name, ".wal"));
        let frames = |bytes: &[u8]| {
            let seed = Seed::of(&bytes[..BLOCK]);
            let offsets = (HEADER_AREA..bytes.len()).step_by(8);
            offsets.filter(|at| seed.fits_header(bytes, *at) && fits_body(bytes, *at)).collect()
        };
        segments.map(|(name, bytes)| (name.clone(), frames(bytes))).collect()
    }

    /// Whether this log has ever been as shown, from some head on.
    pub(crate) fn has_shown(&self, shown: &Shown) -> bool {
        self.before.iter().chain([&self.records]).any(|whole| shown.is_prefix_of(whole))
    }

    /// Whether every valid block and frame of these files is one that this log has written, in
    /// its place; damage makes no others, and what opens with one is a forgery.
    pub(crate) fn is_genuine(&self, files: &Files) -> bool {
        files.iter().all(|(name, bytes)| match self.files.get(name) {
            Some(original) if Arc::ptr_eq(original, bytes) => true,
            _ => self.is_genuine_file(name, bytes),
        })
    }

    fn is_genuine_file(&self, name: &str, bytes: &[u8]) -> bool {
        let mut headers = Vec::new();
        for block in COPIES.iter().filter_map(|at| sealed_block(bytes, *at)) {
            if !self.blocks.contains(block) {
                return false;
            }
            headers.push(block);
        }
        headers.retain(|header| header.starts_with(b"COHRTWAL"));
        headers.dedup();
        let nothing = (Arc::default(), BTreeSet::new());
        let known = self.segments.iter().find(|(known, _)| known == name);
        let (original, frames) = match (self.files.get(name), known) {
            (Some(bytes), Some((_, frames))) => (bytes, frames),
            _ => (&nothing.0, &nothing.1),
        };
        headers.iter().map(|header| Seed::of(header)).all(|seed| {
            (HEADER_AREA..bytes.len()).step_by(8).all(|at| {
                let same = bytes.get(at..at + 16) == original.get(at..at + 16);
                if same && !frames.contains(&at) || !seed.fits_header(bytes, at) {
                    return true;
                }
                // A header that fits, and is no forgery if its body is lost or its own.
                let end = crate::seal::frame_end(bytes, at).unwrap_or(at);
                same && bytes.get(at..end) == original.get(at..end) || !fits_body(bytes, at)
            })
        })
    }
}

fn blocks_of(older: &[Files], files: &Files) -> BTreeSet<Vec<u8>> {
    let all = older.iter().chain([files]).flat_map(BTreeMap::values);
    let blocks = all.flat_map(|bytes| COPIES.iter().filter_map(|at| sealed_block(bytes, *at)));
    blocks.map(<[u8]>::to_vec).collect()
}

/// What the steps of a plan have made.
#[derive(Default)]
struct Made {
    records: Shown,
    before: Vec<Shown>,
    /// Where units begin.
    units: Vec<u64>,
    keys: u64,
}

impl Made {
    #[expect(clippy::expect_used, reason = "without its samples a rig must stop")]
    fn step(&mut self, wal: &Wal<CowStore>, step: char) {
        let middle = || {
            let head = wal.head_lsn();
            self.records.middle(head.get()).map_or(head, Lsn::new)
        };
        match step {
            's' => self.append(wal, 1),
            'b' => self.append(wal, 3),
            'f' => wal.flush().expect("memory takes bytes"),
            'y' => wal.sync().expect("memory syncs"),
            'r' => wal.rotate().expect("memory takes segments"),
            't' => drop(wal.truncate_before(middle()).expect("memory truncates")),
            'c' => {
                let lsn = middle();
                let write = |out: &mut dyn Write| out.write_all(&image(lsn.get()));
                wal.checkpoint(lsn, write).expect("memory takes snapshots");
            }
            _ => {
                let unit = self.units.pop().expect("a unit to cut off");
                self.before.push(self.records.clone());
                wal.truncate_from(Lsn::new(unit)).expect("memory cuts");
                self.records.cut(unit);
            }
        }
    }

    /// Appends records of 0 to 90 bytes.
    #[expect(clippy::expect_used, reason = "without its samples a rig must stop")]
    fn append(&mut self, wal: &Wal<CowStore>, count: u64) {
        let bodies: Vec<_> = (self.keys..self.keys + count).map(body).collect();
        self.keys += count;
        let lsns = wal.append_batch(&bodies).expect("memory takes records");
        self.units.extend(lsns.first().map(|lsn| lsn.get()));
        lsns.iter().zip(&bodies).for_each(|(lsn, body)| self.records.push(lsn.get(), body));
    }
}

fn body(key: u64) -> Vec<u8> {
    payload(key, (key * 37 % 91) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_forged_block_or_frame_is_noticed_and_damage_is_genuine() {
        for sample in (0..SAMPLES).map(sample) {
            assert!(sample.segments.len() >= 3, "{:?}", sample.segments);
            let copied = sample.files.iter().map(|(n, bytes)| (n.clone(), bytes.to_vec().into()));
            assert!(sample.is_genuine(&copied.collect()));
            for (name, frames) in &sample.segments {
                let Some(first) = frames.first() else { continue };
                let original = &sample.files[name];
                let replaced = |change: &dyn Fn(&mut Vec<u8>)| {
                    let mut bytes = original.to_vec();
                    change(&mut bytes);
                    let mut files = sample.files.clone();
                    files.insert(name.clone(), Arc::new(bytes));
                    sample.is_genuine(&files)
                };
                let seed = Seed::of(&original[..BLOCK]);
                assert!(replaced(&|bytes| bytes[*first + 13] ^= 1));
                assert!(!replaced(&|bytes| {
                    bytes[*first + 13] ^= 1;
                    seed.seal(bytes, *first, *first + 1, false);
                }));
                assert!(replaced(&|bytes| bytes[100] ^= 1));
                assert!(!replaced(&|bytes| {
                    bytes[100] ^= 1;
                    crate::seal::seal_block(bytes, 0);
                }));
            }
        }
    }
}
