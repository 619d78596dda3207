//! Damage of every kind, to every place of a small log: found, harmless, or within the limit that
//! `docs/FORMAT.md` states; never silent.
//!
//! The log has three segments with records, batches, an empty record, a pad and several commits,
//! and is damaged twice: as a crash left it, and closed. An oracle that shares no code with the
//! crate (`damage/layout.rs`) says what must become of each case, and every case is compared with
//! it: refused where a surviving witness covers what was hit, by an error that names a file that
//! was hit, with no byte changed by a refused open; whole where nothing that counts was hit;
//! ending at the last whole unit where no surviving witness covers what was hit. What is shown
//! once is shown again by the next open.
//!
//! This version takes each n-th case where the table says so. All of them, with the tables:
//!
//! ```text
//! COHORT_WAL_EXHAUSTIVE=1 cargo test --release --test damage -- --nocapture --test-threads 1
//! ```
//!
//! Each test was seen to fail with a fault in the crate: flipped bits, garbage and truncation with
//! body checksums ignored; zeroed sectors with a reader that ends at what is invalid, and with the
//! older slot of CONTROL believed; swapped sectors with the frames behind the first invalid one
//! unread, and with two different headers accepted; truncation and durable tails with CONTROL's
//! watermark ignored; bytes outside blocks with a decoder that wants zeros there; files with names
//! unchecked, the newest segment not demanded, or a file made before refusing; torn tails with a
//! batch split, and with every frame behind the end taken for evidence of damage; the reader with
//! what is valid shown instead of what is witnessed.
//!
//! An empty directory is a new log, so the loss of *all* files is noticed only by who opens with
//! `create(false)`, as these tests do, or `min_durable_lsn`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

#[path = "damage/canon.rs"]
mod canon;
#[path = "damage/crash.rs"]
mod crash;
#[path = "damage/judge.rs"]
mod judge;
#[path = "damage/layout.rs"]
mod layout;
#[path = "damage/reader.rs"]
mod reader;

use cohort_wal::{Lsn, MemStore, WalError};

use canon::{logs, options};
use common::Dice;
use judge::{Table, sample};
use layout::{BLOCK, CONTROL, COPIES, Files, HEADER_AREA, Log, is_segment, snapshot_of};

/// A byte of a file.
type Place = (String, usize);

/// The bytes of all files that a checksum covers, and those that none covers.
fn places(log: &Log) -> (Vec<Place>, Vec<Place>) {
    let all = log.files.iter().flat_map(|(name, bytes)| (0..bytes.len()).map(move |at| (name, at)));
    let all = all.map(|(name, at)| (name.clone(), at));
    let is_covered =
        |at: usize| at >= HEADER_AREA || COPIES.iter().any(|c| (*c..c + BLOCK).contains(&at));
    all.partition(|(_, at)| is_covered(*at))
}

fn flip(files: &mut Files, places: &[Place], case: usize) {
    let (name, at) = &places[case / 8];
    files.get_mut(name).unwrap()[*at] ^= 1 << (case % 8);
}

#[test]
fn every_flipped_bit_is_refused_or_harmless_or_in_the_last_cohorts() {
    let mut table = Table::default();
    let [crashed, closed] = logs();
    let (places, _) = places(&crashed);
    let cases = sample(places.len() * 8, 7);
    let tally = table.sweep(&crashed, "a flipped bit", cases, |c, files| flip(files, &places, c));
    assert!(tally.at_open > 0 && tally.on_reading > 0 && tally.unharmed > 0 && tally.tail > 0);
    // One frame is lost: no more than what was written after the last sync but one.
    let [.., last_but_one, _] = crashed.history.synced[..] else { panic!("too few syncs") };
    assert!(tally.lowest_end.unwrap() >= last_but_one);

    let tally = table.sweep(&closed, "a flipped bit", cases, |c, files| flip(files, &places, c));
    assert!(tally.at_open > 0 && tally.on_reading > 0 && tally.unharmed > 0);
    assert_eq!(tally.tail, 0, "close left a witness of everything");
    table.finish();
}

#[test]
fn bytes_that_no_checksum_covers_do_not_count() {
    let mut table = Table::default();
    for log in &logs() {
        let (_, places) = places(log);
        assert_eq!(places.len(), 4 * (HEADER_AREA - 2 * BLOCK));
        let cases = sample(places.len() * 8, 99);
        let tally =
            table.sweep(log, "a bit outside blocks", cases, |c, files| flip(files, &places, c));
        assert_eq!(tally.unharmed, tally.cases);
        let tally = table.sweep(log, "all bytes outside blocks", (8, 1), |case, files| {
            let mut dice = Dice::new(case as u64);
            for (name, at) in &places {
                files.get_mut(name).unwrap()[*at] = u8::try_from(dice.below(256)).unwrap();
            }
        });
        assert_eq!(tally.unharmed, tally.cases);
    }
    table.finish();
}

/// The sectors of all files, a last one that is not full included.
fn sectors(log: &Log, bytes: usize) -> Vec<Place> {
    let sectors = |(name, file): (&String, &Vec<u8>)| {
        (0..file.len()).step_by(bytes).map(|at| (name.clone(), at)).collect::<Vec<_>>()
    };
    log.files.iter().flat_map(sectors).collect()
}

/// A sector, up to where its file ends.
fn sector<'a>(files: &'a mut Files, (name, at): &Place, bytes: usize) -> &'a mut [u8] {
    let file = files.get_mut(name).unwrap();
    let end = file.len().min(at + bytes);
    &mut file[*at..end]
}

#[test]
fn every_zeroed_sector_is_refused_or_harmless_or_in_the_last_cohorts() {
    let mut table = Table::default();
    for log in &logs() {
        for bytes in [512, 4096] {
            let sectors = sectors(log, bytes);
            let what = format!("a zeroed sector of {bytes}");
            let tally = table.sweep(log, &what, (sectors.len(), 1), |case, files| {
                sector(files, &sectors[case], bytes).fill(0);
            });
            assert!(tally.refused() > 0 && tally.unharmed > 0);
            assert_eq!(tally.tail > 0, log.name == "crashed" && bytes == 512);
        }
    }
    table.finish();
}

#[test]
fn every_sector_of_garbage_is_refused_or_harmless_or_in_the_last_cohorts() {
    let mut table = Table::default();
    for log in &logs() {
        for bytes in [512, 4096] {
            let sectors = sectors(log, bytes);
            let what = format!("a sector of {bytes} bytes of garbage");
            let tally = table.sweep(log, &what, (sectors.len() * 8, 1), |case, files| {
                let mut dice = Dice::new(case as u64);
                let garbage = |byte: &mut u8| *byte = u8::try_from(dice.below(256)).unwrap();
                sector(files, &sectors[case / 8], bytes).iter_mut().for_each(garbage);
            });
            assert!(tally.refused() > 0 && tally.unharmed > 0);
        }
    }
    table.finish();
}

#[test]
fn every_swapped_pair_of_sectors_is_refused_or_harmless_or_in_the_last_cohorts() {
    let mut table = Table::default();
    for log in &logs() {
        for bytes in [512, 4096] {
            let sectors = sectors(log, bytes);
            let first = |a: usize| (a + 1..sectors.len()).map(move |b| (a, b));
            let pairs: Vec<_> = (0..sectors.len()).flat_map(first).collect();
            let what = format!("two swapped sectors of {bytes}");
            let tally = table.sweep(log, &what, (pairs.len(), 1), |case, files| {
                let (a, b) = pairs[case];
                let mut from = sector(files, &sectors[a], bytes).to_vec();
                let mut to = sector(files, &sectors[b], bytes).to_vec();
                // A sector that is not full has zeros behind the end of its file.
                from.resize(bytes, 0);
                to.resize(bytes, 0);
                let target = sector(files, &sectors[a], bytes);
                target.copy_from_slice(&to[..target.len()]);
                let target = sector(files, &sectors[b], bytes);
                target.copy_from_slice(&from[..target.len()]);
            });
            assert!(tally.at_open > 0 && tally.unharmed > 0);
        }
    }
    table.finish();
}

#[test]
fn every_truncated_file_is_refused_or_harmless_or_ends_at_the_newest_witness_or_later() {
    let mut table = Table::default();
    for log in &logs() {
        let cuts: Vec<_> = sectors(log, 8);
        let tally = table.sweep(log, "a truncated file", sample(cuts.len(), 1), |case, files| {
            let (name, at) = &cuts[case];
            files.get_mut(name).unwrap().truncate(*at);
        });
        assert!(tally.at_open > 0 && tally.on_reading > 0 && tally.unharmed > 0);
        assert_eq!(tally.tail > 0, log.name == "crashed");
    }
    table.finish();
}

/// The name of the segment after the newest.
const FREE: &str = "00000000000000000004.wal";

#[test]
fn missing_duplicated_and_exchanged_files_are_refused() {
    let mut table = Table::default();
    for log in &logs() {
        let names: Vec<_> = log.files.keys().cloned().collect();
        let tally = table.sweep(log, "a set of files removed", (15, 1), |case, files| {
            for (_, name) in names.iter().enumerate().filter(|(bit, _)| (case + 1) >> bit & 1 != 0)
            {
                files.remove(name);
            }
        });
        assert_eq!(tally.at_open, 15);
        let tally = table.sweep(log, "a file under the next name", (names.len(), 1), |case, f| {
            f.insert(FREE.to_owned(), log.files[&names[case]].clone());
        });
        assert_eq!(tally.at_open, names.len());
        let tally = table.sweep(log, "a file under a strange name", (names.len(), 1), |case, f| {
            f.insert(format!("{}.old", names[case]), log.files[&names[case]].clone());
        });
        assert_eq!(tally.unharmed, names.len());
        let tally = table.sweep(log, "a file under another's name", (16, 1), |case, files| {
            files.insert(names[case % 4].clone(), log.files[&names[case / 4]].clone());
        });
        assert_eq!((tally.at_open, tally.unharmed), (12, 4));
        let tally = table.sweep(log, "two files exchanged", (16, 1), |case, files| {
            files.insert(names[case % 4].clone(), log.files[&names[case / 4]].clone());
            files.insert(names[case / 4].clone(), log.files[&names[case % 4]].clone());
        });
        assert_eq!((tally.at_open, tally.unharmed), (12, 4));
        let tally = table.sweep(log, "an emptied file", (names.len(), 1), |case, files| {
            files.get_mut(&names[case]).unwrap().clear();
        });
        assert_eq!(tally.at_open, names.len());
    }
    table.finish();
}

#[test]
fn the_loss_of_all_files_is_noticed_by_who_demands_a_record() {
    let [_, closed] = logs();
    let mut lost = closed.files.clone();
    lost.retain(|name, _| name != CONTROL && !is_segment(name));
    let lost = MemStore::from_snapshot(snapshot_of(&lost));
    let last = Lsn::new(closed.history.records.last().unwrap().0);
    let demanded = options().min_durable_lsn(last).open_store(lost.clone());
    assert!(demanded.map(drop).unwrap_err().is_corruption());
    let expected = options().create(false).open_store(lost.clone());
    assert!(matches!(expected.map(drop), Err(WalError::NotFound { .. })));
    assert_eq!(lost.snapshot().files().len(), 0);
}
