//! Old bytes never come back: not those that a crash cut away, not copies of the log's own bytes,
//! not what lies behind the end of a file, not segments of another log or of an earlier time.
//!
//! Method: stores in memory are copied at a crash, changed as a disk or an operator could change
//! them, and opened again; what is shown is compared with a model of the log's history. Records
//! have the same sizes in every generation, so that old frames stand exactly where new ones would.
//!
//! All combinations are tried in every run; `-- --nocapture` prints the counts.
//!
//! Each test was seen to fail with a fault in the crate: three crashes deep, with one salt and
//! epoch for all; payloads, with no LSN in the checksum of headers; behind the end, with a search
//! in blocks of 4 KiB (and with no LSN); another log, with no look at the log id; an earlier time,
//! with CONTROL's watermark ignored.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

#[path = "stale/generations.rs"]
mod generations;
#[path = "stale/payloads.rs"]
mod payloads;

use std::collections::BTreeMap;

use cohort_wal::{Lsn, MemSnapshot, MemStore, Preallocate, Result, Wal, WalError, WalOptions};

use common::{Dice, Id, base, deadline, payload, read_ids};
use faulty::{FaultyStore, Op};

type Files = BTreeMap<String, Vec<u8>>;
/// What a log must show.
type Model = Vec<(Lsn, Id)>;

const CONTROL: &str = "CONTROL";
/// Bytes of every record, of its frame, and of the header area of a segment.
const RECORD: usize = 56;
const FRAME: usize = 72;
const HEADER_AREA: usize = 8192;

fn options(preallocate: Preallocate) -> WalOptions {
    let options = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
    options.preallocate(preallocate)
}

fn store(files: &Files) -> MemStore {
    let mut snapshot = MemSnapshot::default();
    *snapshot.files_mut() = files.clone();
    MemStore::from_snapshot(snapshot)
}

fn newest(files: &Files) -> String {
    files.keys().rfind(|name| *name != CONTROL).unwrap().clone()
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap()
}

/// Where in a segment's file an LSN is.
fn offset(segment: &[u8], lsn: Lsn) -> usize {
    HEADER_AREA + index(lsn.get()) - index(base(segment))
}

fn append(wal: &Wal<MemStore>, model: &mut Model, owner: u64, count: u64) {
    for _ in 0..count {
        let id = Id { owner, number: model.len() as u64 };
        model.push((wal.append(&payload(id, RECORD)).unwrap(), id));
    }
}

/// Whether bytes that were never written show what an older file had there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leak {
    /// They are as the writer left them.
    None,
    /// The same positions in the log.
    SameLsn,
    /// The same offsets in the file.
    SameOffset,
}

/// What stands in an older file where `target` has position `at`.
fn old_bytes(target: &[u8], old: &[u8], at: usize, leak: Leak) -> Vec<u8> {
    let from = match leak {
        Leak::None => old.len(),
        Leak::SameLsn => at + index(base(target)) - index(base(old)),
        Leak::SameOffset => at,
    };
    old.get(from..).unwrap_or_default().to_vec()
}

/// Records that each generation appends after its one durable record.
const LOOSE: usize = 5;

/// One generation: opens the log, checks it, appends one durable and five loose records, and
/// crashes. Of the loose ones `kept` survive. The next is torn, with those behind it whole; or
/// all from there on were never written, and what the generation before wrote into its newest
/// file stands in their place. Returns how many bytes of that there are.
fn generation(
    (files, model, written): &mut (Files, Model, Vec<u8>),
    (round, kept): (u64, usize),
    preallocate: Preallocate,
    leak: Leak,
) -> usize {
    let memory = store(files);
    let wal = options(preallocate).open_store(memory.clone()).unwrap();
    assert!(read_ids(&wal) == *model, "round {round}");
    append(&wal, model, round, 1);
    wal.sync().unwrap();
    append(&wal, model, round, LOOSE as u64);
    wal.flush().unwrap();
    *files = memory.snapshot().files().clone();
    let name = newest(files);
    let file = files.get_mut(&name).unwrap();
    let end = offset(file, wal.end_lsn());
    assert_eq!(file.len() > end, preallocate == Preallocate::Zeroed);
    let torn = end - (LOOSE - kept) * FRAME;
    model.truncate(model.len() - (LOOSE - kept));
    let old = std::mem::replace(written, file.clone());
    if leak == Leak::None || old.is_empty() {
        if torn < end {
            // The first byte of a body.
            file[torn + 16] ^= 1;
        }
        return 0;
    }
    let old = old_bytes(file, &old, torn, leak);
    file.truncate(torn);
    file.extend_from_slice(&old);
    old.iter().filter(|byte| **byte != 0).count()
}

#[test]
fn records_of_earlier_generations_never_come_back_three_crashes_deep() {
    const KINDS: usize = LOOSE + 1;
    for preallocate in [Preallocate::Zeroed, Preallocate::Off] {
        for leak in [Leak::None, Leak::SameLsn, Leak::SameOffset] {
            let mut leaked = 0;
            for chain in 0..KINDS.pow(3) {
                let mut log = (Files::new(), Model::new(), Vec::new());
                for (round, place) in (1..).zip([1, KINDS, KINDS * KINDS]) {
                    let kept = chain / place % KINDS;
                    leaked += generation(&mut log, (round, kept), preallocate, leak);
                }
                let wal = options(preallocate).open_store(store(&log.0)).unwrap();
                assert!(read_ids(&wal) == log.1, "{preallocate:?} {leak:?} {chain}");
            }
            assert_eq!(leaked > 10_000, leak != Leak::None, "{leaked} old bytes");
        }
    }
}

/// A log of three segments with five records each; the last two are not durable unless it is
/// closed.
fn three_segments(owner: u64, close: bool) -> (Files, Model) {
    let memory = MemStore::new();
    let wal = options(Preallocate::Off).open_store(memory.clone()).unwrap();
    let mut model = Model::new();
    for segment in 0..3 {
        append(&wal, &mut model, owner, 3);
        wal.sync().unwrap();
        append(&wal, &mut model, owner, 2);
        if segment < 2 {
            wal.rotate().unwrap();
        }
    }
    wal.flush().unwrap();
    if close {
        wal.close().unwrap();
    }
    (memory.snapshot().files().clone(), model)
}

#[test]
fn four_mebibytes_behind_the_end_change_nothing_and_are_read_once() {
    const BYTES: usize = 4 << 20;
    for close in [false, true] {
        let (files, model) = three_segments(1, close);
        let frames = files[&newest(&files)][HEADER_AREA..].to_vec();
        let garbage = |seed| {
            let mut dice = Dice::new(seed);
            (0..BYTES).map(|_| u8::try_from(dice.below(256)).unwrap()).collect::<Vec<_>>()
        };
        let tails = [
            vec![0; BYTES],
            vec![0xFF; BYTES],
            // Every word could be a record's header by its kind.
            vec![1; BYTES + 3],
            frames.iter().copied().cycle().take(BYTES).collect(),
            garbage(1),
            garbage(2),
        ];
        for (index, tail) in tails.into_iter().enumerate() {
            let mut files = files.clone();
            files.get_mut(&newest(&files)).unwrap().extend(tail);
            let model = model.clone();
            deadline(move || {
                let (store, script) = FaultyStore::over(store(&files));
                let wal = options(Preallocate::Off).open_store(store).unwrap();
                // 16 blocks of 256 KiB, and the little that opening always reads.
                let reads = script.calls(Op::Read);
                assert!((16..64).contains(&reads), "{reads} reads");
                assert!(read_ids(&wal) == model, "tail {index}");
                assert_eq!(wal.recovery().torn_at.is_some(), index > 0);
            });
        }
    }
}

fn open(files: &Files) -> (Result<Wal<MemStore>>, MemStore) {
    let store = store(files);
    (options(Preallocate::Off).create(false).open_store(store.clone()), store)
}

#[test]
fn segments_of_another_log_are_refused_by_name_and_nothing_is_changed() {
    let (others, _) = three_segments(2, true);
    for close in [false, true] {
        let (files, _) = three_segments(1, close);
        let free = [4, 5, 99].map(|seq| format!("{seq:020}.wal"));
        let names = free.iter().chain(files.keys().filter(|name| *name != CONTROL));
        for name in names {
            for other in others.keys().filter(|other| *other != CONTROL) {
                let mut mixed = files.clone();
                mixed.insert(name.clone(), others[other].clone());
                let (opened, store) = open(&mixed);
                match opened.map(drop) {
                    Err(WalError::Corruption { path, why, .. }) => {
                        assert!(path.ends_with(name), "{}", path.display());
                        assert_eq!(why, "a segment belongs to another log");
                    }
                    other => panic!("{name}: {other:?}"),
                }
                assert_eq!(*store.snapshot().files(), mixed);
            }
        }
        let mut mixed = files.clone();
        mixed.insert(CONTROL.to_owned(), others[CONTROL].clone());
        let (opened, store) = open(&mixed);
        assert!(opened.map(drop).unwrap_err().is_corruption());
        assert_eq!(*store.snapshot().files(), mixed);
    }
}
