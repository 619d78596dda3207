//! Every crash of every short workload, and of longer ones that matter; `simulation enumerate`
//! goes deeper. What these tests notice is shown by the seeded bugs in `mutants/`.

use std::panic::resume_unwind;

use cohort_wal::sim::{Profile, SimCall, SimStore};
use simulation::enumerate::{Address, Tally, visit};
use simulation::workload::{Op, Workload, options};

/// Longer than what is visited in full, and each for a reason of its own.
const TELLING: [(&str, &str); 16] = [
    ("sry", "bytes in two segments, of which the older one is not synced yet"),
    ("srsy", "bytes in two segments, none of them synced"),
    ("sysry", "a segment of which only the first part is synced when it is left"),
    ("lly", "two large units, with a rotation between them"),
    ("lrly", "the same, and the rotation is asked for"),
    ("lmmmmbf", "a batch that does not fit behind what its segment holds"),
    ("mmfpmy", "places that what a crash cut had before"),
    ("bfpsmf", "the same, with a batch that might come back in part"),
    ("mfmf", "a frame that was appended when something was written and nothing synced"),
    ("sykcp", "recoveries of recoveries"),
    ("smsx", "a cut where nothing is durable yet"),
    ("smyusmy", "records of the same sizes where others were cut off"),
    ("srsrmyxs", "segments that a cut leaves for dead"),
    ("sbtuexs", "the log truncated from both sides"),
    ("snmrnsn", "a snapshot after the other"),
    ("msnsxtu", "a snapshot that is kept, and one that loses its use"),
];

/// Of so many kinds of disk each workload meets one, in turn: an unoptimized build is slow, and
/// an optimized one visits all.
const SPARSE: usize = if cfg!(debug_assertions) { 3 } else { 1 };

/// Visits the workloads on every kind of disk, one thread for each kind.
fn visit_all(workloads: &[Workload], sparse: usize) -> Tally {
    std::thread::scope(|scope| {
        let visits = Profile::ALL.into_iter().enumerate().map(|(kind, profile)| {
            scope.spawn(move || {
                let mut total = Tally::default();
                for workload in workloads.iter().skip(kind % sparse).step_by(sparse) {
                    let tally = visit(workload, profile, 1, 64);
                    total.add(&tally.unwrap_or_else(|failure| panic!("{failure}")));
                }
                total
            })
        });
        let mut total = Tally::default();
        for visit in visits.collect::<Vec<_>>() {
            match visit.join() {
                Ok(tally) => total.add(&tally),
                Err(failure) => resume_unwind(failure),
            }
        }
        total
    })
}

#[test]
fn no_crash_of_a_short_workload_breaks_a_promise() {
    let workloads = Workload::all(2, &Op::ALL);
    let tally = visit_all(&workloads, SPARSE);
    // The states are there to be visited, or the test proves nothing.
    let at_least = |count| count / SPARSE as u64;
    assert_eq!(tally.workloads, at_least(6 * workloads.len() as u64));
    assert!(tally.states > at_least(18_000), "{tally:?}");
    assert!(tally.nested > at_least(6_000), "{tally:?}");
    assert!(tally.exhausted > at_least(3_500), "{tally:?}");
}

#[test]
fn no_crash_of_a_telling_workload_breaks_a_promise() {
    let workloads = TELLING.map(|(letters, _)| letters.parse().unwrap());
    let tally = visit_all(&workloads, 1);
    assert_eq!(tally.workloads, 6 * TELLING.len() as u64);
    assert!(tally.states > 3_000 && tally.nested > 500, "{tally:?}");
}

#[test]
fn a_visit_is_a_function_of_its_address() {
    let again = || visit(&"bf".parse().unwrap(), Profile::Hostile, 7, 64).unwrap();
    assert_eq!(again(), again());
    for text in ["sry/ext4/1/64", "sp/btrfs/7/64/3:12/0:kill/5:1"] {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
    }
    for bad in ["sry/ext4/1", "sz/ext4/1/64", "sy/fat/1/64", "sy/ext4/1/64/3"] {
        assert!(bad.parse::<Address>().is_err(), "{bad}");
    }
}

#[test]
fn a_commit_syncs_what_it_wrote_through_the_handle_that_wrote_it() {
    // A system may report an error of writing back to nobody but the handles it knew then.
    let disk = SimStore::new(Profile::Ext4, 1);
    let wal = options().open_store(disk.clone()).unwrap();
    let (opened, synced) = (disk.calls(SimCall::Open), disk.calls(SimCall::Sync));
    wal.append_and_sync(b"in the first segment").unwrap();
    wal.append(b"left unsynced").unwrap();
    wal.rotate().unwrap();
    wal.append_and_sync(b"in the second").unwrap();
    assert_eq!(disk.calls(SimCall::Open), opened);
    assert!(disk.calls(SimCall::Sync) >= synced + 4, "two commits, a header and a claim");
}
