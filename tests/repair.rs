//! Repair: what a dry run says is what a cut then does, nothing is lost, and the log opens.
//!
//! Method: the log of `damage/canon.rs`, damaged in every way that `tests/damage.rs` knows. A dry
//! run must recommend something that leads, in a step or two, to a log that opens and shows exactly
//! the records below its end; every file of the damaged log must still be there, under its name or
//! as a copy. `repair/crashes.rs` loses power and fails calls at every step of it.
//!
//! All cases: `COHORT_WAL_EXHAUSTIVE=1 cargo test --release --test repair`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

#[path = "damage/canon.rs"]
mod canon;
#[cfg(feature = "sim")]
#[path = "repair/crashes.rs"]
mod crashes;
#[path = "damage/layout.rs"]
#[allow(dead_code, reason = "tests/damage.rs uses the rest")]
mod layout;
#[path = "repair/refusals.rs"]
mod refusals;

use std::path::Path;

use cohort_wal::{
    Lsn, MemStore, Repair, RepairReport, Wal, WalError, WalOptions, WalStore, repair_store,
};

use canon::{logs, options};
use common::Dice;
use layout::{CONTROL, COPIES, Files, HEADER_AREA, Log, snapshot_of};

type Records = Vec<(u64, Vec<u8>)>;

const REBUILD: Repair = Repair::RebuildControl { snapshot: None };

fn store_of(files: &Files) -> MemStore {
    MemStore::from_snapshot(snapshot_of(files))
}

fn shown<S: WalStore>(wal: &Wal<S>) -> Records {
    let records = wal.iter().unwrap().map(Result::unwrap);
    records.map(|record| (record.lsn().get(), record.into_data())).collect()
}

/// Opens what a repair left, which must work, and returns all that the log shows.
fn opened<S: WalStore>(store: S, what: &str) -> Records {
    let wal = options().create(false).open_store(store);
    shown(&wal.unwrap_or_else(|error| panic!("{what}: {error}")))
}

/// Every file of `before` is in `after`, under its name or as a copy.
fn assert_keeps(before: &Files, after: &Files, what: &str) {
    for (name, bytes) in before {
        let copies = after.iter().filter(|(copy, _)| {
            *copy == name || copy.strip_prefix(name.as_str()).is_some_and(is_copy_suffix)
        });
        let kept = copies.into_iter().any(|(_, copy)| copy == bytes);
        assert!(kept, "{what}: the bytes of {name} are gone, of {:?}", after.keys());
    }
}

fn is_copy_suffix(suffix: &str) -> bool {
    suffix.strip_prefix(".repair-").is_some_and(|number| number.parse::<u64>().is_ok())
}

/// What became of the cases of a sweep.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    sound: usize,
    cut: usize,
    rebuilt: usize,
    hopeless: usize,
}

fn sweep(log: &Log, (count, stride): (usize, usize), damage: impl Fn(usize, &mut Files)) -> Tally {
    let stride = if std::env::var_os("COHORT_WAL_EXHAUSTIVE").is_some() { 1 } else { stride };
    let mut tally = Tally::default();
    for case in (0..count).step_by(stride) {
        let mut files = log.files.clone();
        damage(case, &mut files);
        tally.cases += 1;
        assert_repairs(log, &files, &format!("case {case}"), &mut tally);
    }
    tally
}

/// Follows what dry runs recommend until the log opens.
fn assert_repairs(log: &Log, files: &Files, what: &str, tally: &mut Tally) {
    let store = store_of(files);
    let opens = options().create(false).open_store(store_of(files)).map(drop);
    let mut head = 0;
    for round in 0.. {
        assert!(round < 3, "{what}: still damaged after two repairs");
        let before = store.snapshot();
        let planned = match repair_store(&store, Repair::DryRun) {
            Ok(planned) => planned,
            Err(error) => {
                assert!(no_header_is_left(files), "{what}: {error}");
                tally.hopeless += 1;
                return;
            }
        };
        assert_eq!(store.snapshot(), before, "{what}: a dry run changes nothing");
        assert!(round > 0 || planned.refused.is_some() == opens.is_err(), "{what}: {planned}");
        let Some(recommended) = planned.recommended else {
            assert!(!planned.is_damaged(), "{what}: nothing is recommended: {planned}");
            tally.sound += usize::from(round == 0);
            break;
        };
        let done = repair_store(&store, recommended).unwrap_or_else(|e| panic!("{what}: {e}"));
        assert_keeps(before.files(), store.snapshot().files(), what);
        match recommended {
            Repair::CutAt(lsn) => {
                assert_eq!((&done.cut, done.rebuild.is_none()), (&planned.cut, true), "{what}");
                let effect = done.cut.unwrap();
                let expected = below(log, head, lsn.get());
                assert_eq!(effect.kept_records, expected.len() as u64, "{what}");
                assert_eq!(effect.end, lsn, "{what}");
                assert!(done.still_refused.is_none(), "{what}: {:?}", done.still_refused);
                tally.cut += 1;
            }
            _ => {
                assert_eq!((&done.rebuild, done.cut.is_none()), (&planned.rebuild, true), "{what}");
                head = done.rebuild.unwrap().head.get();
                tally.rebuilt += 1;
            }
        }
    }
    // The last word of a dry run is that nothing is wrong: so the log opens, and shows all of it.
    let records = opened(store.clone(), what);
    let end = records.last().map_or(head, |(lsn, _)| lsn + 8);
    assert_eq!(records, below(log, head, end), "{what}");
    if opens.is_err() {
        assert_keeps(files, store.snapshot().files(), &format!("{what}, reopened"));
    }
}

fn no_header_is_left(files: &Files) -> bool {
    let segments = files.iter().filter(|(name, _)| layout::is_segment(name));
    segments.into_iter().all(|(_, file)| {
        file.len() < HEADER_AREA
            || COPIES
                .iter()
                .all(|at| !file[*at..].starts_with(b"COHRTWAL") || file.len() < at + 512)
    }) || files.is_empty()
}

/// What was appended from `head` on and below `end`.
fn below(log: &Log, head: u64, end: u64) -> Records {
    let records = log.history.records.iter().filter(|(lsn, _)| (head..end).contains(lsn));
    records.cloned().collect()
}

fn places(log: &Log, step: usize) -> Vec<(String, usize)> {
    let places = |(name, file): (&String, &Vec<u8>)| {
        (0..file.len()).step_by(step).map(|at| (name.clone(), at)).collect::<Vec<_>>()
    };
    log.files.iter().flat_map(places).collect()
}

#[test]
fn what_a_flipped_bit_damages_is_repaired_as_the_dry_run_said() {
    for log in &logs() {
        let bytes = places(log, 1);
        let tally = sweep(log, (bytes.len() * 8, 97), |case, files| {
            let (name, at) = &bytes[case / 8];
            files.get_mut(name).unwrap()[*at] ^= 1 << (case % 8);
        });
        assert!(tally.sound > 50 && tally.cut > 50, "{tally:?}");
    }
}

#[test]
fn what_lost_sectors_damage_is_repaired_as_the_dry_run_said() {
    for log in &logs() {
        for bytes in [512, 4096] {
            let sectors = places(log, bytes);
            let tally = sweep(log, (sectors.len() * 3, 1), |case, files| {
                let mut dice = Dice::new(case as u64);
                let hits = if case < sectors.len() { 1 } else { 2 + dice.below(6) };
                for hit in 0..hits {
                    let random = usize::try_from(dice.below(sectors.len() as u64)).unwrap();
                    let (name, at) = &sectors[if hit == 0 { case % sectors.len() } else { random }];
                    let file = files.get_mut(name).unwrap();
                    let end = file.len().min(at + bytes);
                    file[*at..end].fill(u8::try_from(hit).unwrap());
                }
            });
            assert!(tally.cut > 0 && tally.rebuilt > 0, "{tally:?}");
        }
    }
}

#[test]
fn what_truncated_missing_and_strange_files_damage_is_repaired_as_the_dry_run_said() {
    for log in &logs() {
        let cuts = places(log, 8);
        let tally = sweep(log, (cuts.len(), 23), |case, files| {
            files.get_mut(&cuts[case].0).unwrap().truncate(cuts[case].1);
        });
        assert!(tally.cut > 20 && tally.rebuilt > 0, "{tally:?}");
        let names: Vec<_> = log.files.keys().cloned().collect();
        let gone = sweep(log, (15, 1), |case, files| {
            let gone = names.iter().enumerate().filter(|(bit, _)| (case + 1) >> bit & 1 != 0);
            gone.for_each(|(_, name)| drop(files.remove(name)));
        });
        assert!(gone.cut > 0 && gone.rebuilt > 0 && gone.hopeless > 0, "{gone:?}");
        sweep(log, (4, 1), |case, files| {
            let copy = log.files[&names[case]].clone();
            files.insert("00000000000000000004.wal".to_owned(), copy);
        });
        sweep(log, (16, 1), |case, files| {
            files.insert(names[case % 4].clone(), log.files[&names[case / 4]].clone());
        });
        sweep(log, (16, 1), |case, files| {
            files.insert(names[case % 4].clone(), log.files[&names[case / 4]].clone());
            files.insert(names[case / 4].clone(), log.files[&names[case % 4]].clone());
        });
        sweep(log, (names.len(), 1), |case, files| {
            COPIES.iter().for_each(|at| files.get_mut(&names[case]).unwrap()[at + 100] ^= 4);
        });
    }
}

#[test]
fn a_log_can_be_cut_wherever_a_unit_ends_and_goes_on_from_there() {
    for log in &logs() {
        for at in (0..=log.history.end + 8).step_by(8) {
            let store = store_of(&log.files);
            let cut = repair_store(&store, Repair::CutAt(Lsn::new(at)));
            if !log.history.bounds.contains(&at) {
                assert!(
                    matches!(cut, Err(WalError::NotARecord { lsn }) if lsn.get() == at),
                    "{at}"
                );
                assert_eq!(store.snapshot(), snapshot_of(&log.files), "{at}");
                continue;
            }
            let cut = cut.unwrap();
            let effect = cut.cut.unwrap();
            let expected = below(log, 0, at);
            assert_eq!(cut.still_refused.map(|why| why.to_string()), None, "{at}");
            assert_eq!(effect.kept_records, expected.len() as u64, "{at}");
            let lost = log.history.records.len() - expected.len();
            assert_eq!(effect.lost_records, lost as u64, "{at}");
            assert_eq!(effect.lost_bytes, log.history.end - at, "{at}");
            assert_keeps(&log.files, store.snapshot().files(), &at.to_string());
            let wal = options().open_store(store.clone()).unwrap();
            assert_eq!((wal.end_lsn().get(), shown(&wal)), (at, expected.clone()));
            let next = wal.append_and_sync(b"goes on").unwrap();
            drop(wal);
            let after = opened(store, "gone on");
            assert_eq!(after.len(), expected.len() + 1);
            assert_eq!(after.last().unwrap(), &(next.get(), b"goes on".to_vec()));
        }
    }
}

/// Loses or damages CONTROL in one of several ways; true for those that leave its head readable.
fn lose_control(files: &mut Files, way: usize) {
    let control = files.get_mut(CONTROL).unwrap();
    match way {
        0 => drop(files.remove(CONTROL)),
        1 => COPIES.iter().for_each(|at| control[at + 60] ^= 1),
        2 => control.clear(),
        3 => control.fill(0),
        4 => *control = b"not a log's".to_vec(),
        _ => control.truncate(100),
    }
}

#[test]
fn a_lost_control_is_rebuilt_from_the_segments() {
    for log in &logs() {
        for way in 0..6 {
            let mut files = log.files.clone();
            lose_control(&mut files, way);
            let store = store_of(&files);
            assert!(options().create(false).open_store(store.clone()).is_err());
            let planned = repair_store(&store, Repair::DryRun).unwrap();
            assert_eq!(planned.recommended, Some(REBUILD), "{way}");
            let report = repair_store(&store, REBUILD).unwrap();
            assert!(report.still_refused.is_none() && report.is_damaged(), "{way}: {report}");
            assert_eq!(report.rebuild.as_ref().unwrap().lost_records, 0);
            assert_eq!(report.rebuild, planned.rebuild);
            assert_keeps(&files, store.snapshot().files(), "rebuilt");
            assert_eq!(opened(store, "rebuilt"), log.history.records);
        }
    }
}

#[test]
fn a_rebuilt_control_begins_the_log_at_the_oldest_contiguous_base() {
    let [_, log] = logs();
    let segments: Vec<_> = log.files.keys().filter(|n| layout::is_segment(n)).cloned().collect();
    let mut files = log.files.clone();
    files.remove(&segments[1]);
    files.remove(CONTROL);
    let store = store_of(&files);
    let report = repair_store(&store, REBUILD).unwrap();
    let effect = report.rebuild.unwrap();
    let base = log.frames.iter().find(|frame| frame.file == segments[2]).unwrap().lsn;
    assert_eq!(effect.head.get(), base);
    let cut = log.frames.iter().find(|frame| frame.file == segments[1]).unwrap().lsn;
    assert_eq!(effect.lost_records, log.below(cut) as u64, "the segment before the hole");
    assert_eq!(opened(store.clone(), "rebuilt"), below(&log, base, u64::MAX));
    // The opening has removed what is below the new head; its copy is there.
    let after = store.snapshot().into_files();
    assert!(!after.contains_key(&segments[0]));
    assert_keeps(&files, &after, "opened");
}

#[test]
fn a_head_that_control_still_knows_is_kept() {
    let store = MemStore::new();
    let initial = WalOptions::new().initial_lsn(Lsn::new(800));
    let wal = initial.open_store(store.clone()).unwrap();
    let lsn = wal.append_and_sync(b"one").unwrap();
    drop(wal);
    let report = repair_store(&store, REBUILD).unwrap();
    assert_eq!(report.rebuild.unwrap().head.get(), 800);
    assert_eq!(opened(store.clone(), "rebuilt"), [(lsn.get(), b"one".to_vec())]);
    let below = repair_store(&store, Repair::CutAt(Lsn::new(792)));
    assert!(matches!(below, Err(WalError::Truncated { head, .. }) if head.get() == 800));
    repair_store(&store, Repair::CutAt(Lsn::new(800))).unwrap();
    assert!(opened(store, "emptied").is_empty());
}

#[test]
fn a_repair_that_is_repeated_makes_no_second_copy_of_the_same_bytes() {
    let [_, log] = logs();
    let mut files = log.files.clone();
    lose_control(&mut files, 1);
    let store = store_of(&files);
    repair_store(&store, REBUILD).unwrap();
    let copies = |store: &MemStore| {
        let names = store.list().unwrap();
        names.into_iter().filter(|name| name.contains(".repair-")).count()
    };
    assert_eq!(copies(&store), 1);
    let mut again = store.snapshot();
    again.files_mut().insert(CONTROL.to_owned(), files[CONTROL].clone());
    let store = MemStore::from_snapshot(again);
    let report = repair_store(&store, REBUILD).unwrap();
    assert_eq!(copies(&store), 1, "the copy that is there has the same bytes");
    assert_eq!(report.rebuild.unwrap().copies.len(), 1, "and is reported");
    // Other bytes get another name.
    repair_store(&store, REBUILD).unwrap();
    assert_eq!(copies(&store), 2);
}

#[test]
fn a_report_reads_well_and_holds_no_payload() {
    let store = MemStore::new();
    let wal = options().open_store(store.clone()).unwrap();
    wal.append(b"SECRET-ONE").unwrap();
    let lost = wal.append(b"SECRET-TWO").unwrap();
    wal.close().unwrap();
    let mut snapshot = store.snapshot();
    let name = snapshot.files().keys().rfind(|name| layout::is_segment(name)).unwrap().clone();
    snapshot.files_mut().get_mut(&name).unwrap()[HEADER_AREA + 16 + 16 + 16 + 4] ^= 1;
    let report: RepairReport =
        repair_store(&MemStore::from_snapshot(snapshot), Repair::DryRun).unwrap();
    let texts = [report.to_string(), format!("{report:?}")];
    assert!(texts.iter().all(|text| !text.contains("SECRET")));
    assert!(texts[0].contains(&format!("recommended: cut at {lost}")), "{}", texts[0]);
    let effect = report.cut.unwrap();
    assert_eq!((effect.kept_records, effect.lost_records, effect.end), (1, 0, lost));
    let copy = effect.copies.iter().find(|copy| copy.file.ends_with(&name)).unwrap();
    assert!(Path::new(&copy.copy).ends_with(format!("{name}.repair-1")));
}
