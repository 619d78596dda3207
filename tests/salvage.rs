//! Salvage: every record whose frame is intact, every hole named, and nothing else.
//!
//! Method: the log of `damage/canon.rs`, damaged in every way that `tests/damage.rs` knows, read by
//! salvage and compared with an oracle that shares no code with the crate: a frame survives if its
//! bytes are still there and its segment's header can be read. What is healthy must look as
//! recovery shows it.
//!
//! All cases: `COHORT_WAL_EXHAUSTIVE=1 cargo test --release --test salvage`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

#[path = "damage/canon.rs"]
mod canon;
#[path = "damage/layout.rs"]
#[allow(dead_code, reason = "tests/damage.rs uses the rest")]
mod layout;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;

#[cfg(feature = "sim")]
use cohort_wal::WalStore;
use cohort_wal::{Lsn, MemStore, Salvage, WalError, WalOptions};

use canon::{logs, options};
use common::{Dice, directory};
use layout::{BLOCK, CONTROL, COPIES, Files, HEADER_AREA, Log, Right, is_segment, snapshot_of};

type Records = Vec<(u64, Vec<u8>)>;

/// What salvage showed of files.
#[derive(Debug)]
struct Salvaged {
    records: Records,
    /// The ranges it named, and the errors that have none.
    skipped: Vec<(u64, u64)>,
    others: Vec<WalError>,
    end: u64,
}

fn salvage(store: &MemStore, torn: bool) -> Result<Salvaged, WalError> {
    let before = store.snapshot();
    let mut salvage = options().salvage_store(store.clone())?;
    let end = salvage.end_lsn().get();
    if torn {
        salvage = salvage.with_torn_tail();
    }
    let mut salvaged =
        Salvaged { records: Vec::new(), skipped: Vec::new(), others: Vec::new(), end };
    for item in salvage {
        match item {
            Ok(record) => salvaged.records.push((record.lsn().get(), record.into_data())),
            Err(WalError::Corruption { start, end, .. }) => {
                assert!(start <= end);
                salvaged.skipped.push((start.get(), end.get()));
            }
            Err(other) => salvaged.others.push(other),
        }
    }
    assert_eq!(store.snapshot(), before, "salvage changes nothing");
    Ok(salvaged)
}

fn store_of(files: &Files) -> MemStore {
    MemStore::from_snapshot(snapshot_of(files))
}

/// The records whose frames are where they were, in segments whose header says what it said.
fn intact(log: &Log, files: &Files) -> BTreeSet<u64> {
    let readable = |name: &str| {
        let (Some(now), then) = (files.get(name), &log.files[name]) else { return false };
        let same = |at: usize| now.get(at..at + BLOCK) == then.get(at..at + BLOCK);
        // A good copy of another segment's header is known by its number.
        let own = |block: &[u8]| block[40..48] == then[40..48];
        let good = |at: usize| now.get(at..at + BLOCK).is_some_and(|b| is_sealed(b) && own(b));
        let copies = COPIES.into_iter().filter(|at| good(*at)).collect::<Vec<_>>();
        now.len() >= HEADER_AREA && !copies.is_empty() && copies.into_iter().all(same)
    };
    let starts: BTreeSet<_> = log.history.records.iter().map(|(lsn, _)| *lsn).collect();
    let frames = log.frames.iter().filter(|frame| {
        let place = frame.offset..frame.offset + frame.bytes;
        readable(&frame.file)
            && files[&frame.file].get(place.clone()) == log.files[&frame.file].get(place)
    });
    frames.map(|frame| frame.lsn).filter(|lsn| starts.contains(lsn)).collect()
}

/// A block with the magic of a segment and the right checksum.
fn is_sealed(block: &[u8]) -> bool {
    let crc = u64::from(crc32c::crc32c(&block[..BLOCK - 4]));
    block.starts_with(b"COHRTWAL") && crc == layout::number(block, BLOCK - 4, 4)
}

/// What became of the cases of a sweep.
#[derive(Debug, Default)]
struct Tally {
    cases: usize,
    whole: usize,
    holes: usize,
    refused: usize,
}

/// Damages copies of a log in `count` ways, each `stride`-th of which is tried.
fn sweep(log: &Log, (count, stride): (usize, usize), damage: impl Fn(usize, &mut Files)) -> Tally {
    let stride = if std::env::var_os("COHORT_WAL_EXHAUSTIVE").is_some() { 1 } else { stride };
    let mut tally = Tally::default();
    for case in (0..count).step_by(stride) {
        let mut files = log.files.clone();
        damage(case, &mut files);
        tally.cases += 1;
        assert_salvages(log, &files, case, &mut tally);
    }
    tally
}

fn assert_salvages(log: &Log, files: &Files, case: usize, tally: &mut Tally) {
    let intact = intact(log, files);
    let store = store_of(files);
    let salvaged = match salvage(&store, true) {
        Ok(salvaged) => salvaged,
        Err(error) => {
            assert!(intact.is_empty(), "case {case}: refused with {error}");
            tally.refused += 1;
            return;
        }
    };
    let is_history = |(lsn, data): &(u64, Vec<u8>)| {
        let found = log.history.records.binary_search_by_key(lsn, |(lsn, _)| *lsn);
        found.is_ok_and(|at| log.history.records[at].1 == *data)
    };
    assert!(salvaged.records.iter().all(is_history), "case {case}: an invented record");
    assert!(salvaged.records.is_sorted_by(|a, b| a.0 < b.0), "case {case}: in order, once");
    let shown: BTreeSet<_> = salvaged.records.iter().map(|(lsn, _)| *lsn).collect();
    let missing: Vec<_> = intact.difference(&shown).collect();
    assert!(missing.is_empty(), "case {case}: intact and not shown: {missing:?}, {salvaged:?}");

    let ending = salvage(&store, false).unwrap();
    let below: Records = salvaged.records.iter().filter(|r| r.0 < ending.end).cloned().collect();
    let at_end = ending.end == ending.records.last().map_or(0, |r| r.0);
    assert!(ending.records == below || at_end, "case {case}: the end changes what is below it");
    for (lsn, _) in log.history.records.iter().filter(|(lsn, _)| *lsn < ending.end) {
        let named = ending.skipped.iter().any(|(start, end)| (*start..*end).contains(lsn));
        let shown = ending.records.binary_search_by_key(lsn, |(lsn, _)| *lsn).is_ok();
        assert!(shown != named, "case {case}: {lsn} is shown {shown}, named {named}: {ending:?}");
    }
    assert_eq!(ending.others.len(), 0, "case {case}");
    match log.survivors(files) {
        Some((Right::Whole, _)) => {
            assert_eq!(ending.records, log.history.records, "case {case}");
            assert_eq!(ending.skipped, [], "case {case}");
            tally.whole += 1;
        }
        Some((Right::EndsAt(end), _)) => {
            assert_eq!(ending.records, log.history.records[..log.below(end)], "case {case}");
            assert_eq!(ending.skipped, [], "case {case}");
        }
        Some((Right::Refused | Right::RefusedOrWhole, witness)) => {
            assert!(ending.end >= witness, "case {case}: {} below {witness}", ending.end);
            assert!(!ending.skipped.is_empty(), "case {case}: damage and nothing is named");
            tally.holes += 1;
        }
        None => tally.holes += 1,
    }
}

/// The places of a log's files at which sectors begin.
fn sectors(log: &Log, bytes: usize) -> Vec<(String, usize)> {
    let sectors = |(name, file): (&String, &Vec<u8>)| {
        (0..file.len()).step_by(bytes).map(|at| (name.clone(), at)).collect::<Vec<_>>()
    };
    log.files.iter().flat_map(sectors).collect()
}

fn sector<'a>(files: &'a mut Files, (name, at): &(String, usize), bytes: usize) -> &'a mut [u8] {
    let file = files.get_mut(name).unwrap();
    let end = file.len().min(at + bytes);
    &mut file[*at..end]
}

#[test]
fn every_record_that_a_flipped_bit_did_not_hit_is_salvaged() {
    for log in &logs() {
        let bytes = sectors(log, 1);
        let tally = sweep(log, (bytes.len() * 8, 61), |case, files| {
            sector(files, &bytes[case / 8], 1)[0] ^= 1 << (case % 8);
        });
        assert!(tally.whole > 100 && tally.holes > 100 && tally.refused == 0, "{tally:?}");
    }
}

#[test]
fn every_record_outside_lost_sectors_is_salvaged() {
    for log in &logs() {
        for bytes in [512, 4096] {
            let sectors = sectors(log, bytes);
            let zeroed = sweep(log, (sectors.len(), 1), |case, files| {
                sector(files, &sectors[case], bytes).fill(0);
            });
            assert!(zeroed.whole > 0 && zeroed.holes > 0, "{zeroed:?}");
            // Several at once, of zeros and of garbage.
            let several = sweep(log, (300, 1), |case, files| {
                let mut dice = Dice::new(case as u64);
                for _ in 0..1 + dice.below(4) {
                    let at = usize::try_from(dice.below(sectors.len() as u64)).unwrap();
                    let noise = u8::try_from(dice.below(2)).unwrap();
                    let mut fill = || u8::try_from(dice.below(256)).unwrap() * noise;
                    sector(files, &sectors[at], bytes).iter_mut().for_each(|b| *b = fill());
                }
            });
            assert!(several.holes > 50, "{several:?}");
        }
    }
}

#[test]
fn every_record_outside_swapped_sectors_is_salvaged() {
    for log in &logs() {
        let sectors = sectors(log, 512);
        let first = |a: usize| (a + 1..sectors.len()).map(move |b| (a, b));
        let pairs: Vec<_> = (0..sectors.len()).flat_map(first).collect();
        sweep(log, (pairs.len(), 7), |case, files| {
            let [a, b] = [pairs[case].0, pairs[case].1].map(|at| &sectors[at]);
            let (mut from, mut to) =
                (sector(files, a, 512).to_vec(), sector(files, b, 512).to_vec());
            from.resize(512, 0);
            to.resize(512, 0);
            let target = sector(files, a, 512);
            target.copy_from_slice(&to[..target.len()]);
            let target = sector(files, b, 512);
            target.copy_from_slice(&from[..target.len()]);
        });
    }
}

#[test]
fn every_record_before_the_end_of_a_truncated_file_is_salvaged() {
    for log in &logs() {
        let cuts = sectors(log, 8);
        let tally = sweep(log, (cuts.len(), 5), |case, files| {
            let (name, at) = &cuts[case];
            files.get_mut(name).unwrap().truncate(*at);
        });
        assert!(tally.holes > 100, "{tally:?}");
    }
}

#[test]
fn every_record_of_the_segments_that_are_left_is_salvaged() {
    for log in &logs() {
        let names: Vec<_> = log.files.keys().cloned().collect();
        let free = "00000000000000000004.wal";
        sweep(log, (15, 1), |case, files| {
            let gone = names.iter().enumerate().filter(|(bit, _)| (case + 1) >> bit & 1 != 0);
            gone.for_each(|(_, name)| drop(files.remove(name)));
        });
        sweep(log, (4, 1), |case, files| files.get_mut(&names[case]).unwrap().clear());
        sweep(log, (4, 1), |case, files| {
            files.insert(free.to_owned(), log.files[&names[case]].clone());
        });
        sweep(log, (16, 1), |case, files| {
            files.insert(names[case % 4].clone(), log.files[&names[case / 4]].clone());
        });
        // Both copies of a header.
        sweep(log, (names.len(), 1), |case, files| {
            for at in COPIES {
                files.get_mut(&names[case]).unwrap()[at + 100] ^= 4;
            }
        });
    }
}

#[test]
fn a_segment_whose_header_is_lost_is_salvaged_by_its_frames() {
    for log in &logs() {
        let names: Vec<_> = log.files.keys().filter(|name| is_segment(name)).cloned().collect();
        for lost in [&names[..1], &names[1..2], &names[2..], &names[..2], &names[1..]] {
            let mut files = log.files.clone();
            lost.iter().for_each(|name| files.get_mut(name).unwrap()[..HEADER_AREA].fill(0));
            let salvaged = salvage(&store_of(&files), false).unwrap();
            assert_eq!(salvaged.records, log.history.records, "{lost:?}");
            let told = salvaged.skipped.iter().all(|(start, end)| start == end);
            assert!(told && salvaged.skipped.len() == lost.len(), "{:?}", salvaged.skipped);
        }
        // Frames tell where a segment begins only if the first of them is whole.
        let mut files = log.files.clone();
        files.get_mut(&names[1]).unwrap()[..=HEADER_AREA].fill(0);
        let salvaged = salvage(&store_of(&files), false).unwrap();
        assert!(salvaged.skipped.iter().any(|(start, end)| start < end));
    }
}

#[test]
fn segments_under_exchanged_names_are_salvaged_whole() {
    for log in &logs() {
        let mut files = log.files.clone();
        let names: Vec<_> = files.keys().filter(|name| is_segment(name)).cloned().collect();
        let [first, .., last] = &names[..] else { panic!("too few segments") };
        files.insert(first.clone(), log.files[last].clone());
        files.insert(last.clone(), log.files[first].clone());
        let salvaged = salvage(&store_of(&files), false).unwrap();
        assert_eq!(salvaged.records, log.history.records);
        assert_eq!(salvaged.skipped.len(), 2, "both names are told");
    }
}

#[test]
fn a_healthy_log_is_salvaged_as_recovery_shows_it() {
    for log in &logs() {
        let store = store_of(&log.files);
        let salvaged = salvage(&store, false).unwrap();
        let wal = options().open_store(store).unwrap();
        let shown: Records = wal
            .iter()
            .unwrap()
            .map(|r| r.map(|r| (r.lsn().get(), r.into_data())).unwrap())
            .collect();
        assert_eq!((salvaged.records, salvaged.end), (shown, wal.end_lsn().get()));
        assert_eq!((salvaged.skipped.len(), salvaged.others.len()), (0, 0));
    }
}

/// A log whose newest segment was never acknowledged, opened again, with that segment, dead now,
/// back in its place; and what the log shows.
fn with_a_dead_segment() -> (Files, String, Records) {
    let store = MemStore::new();
    let wal = options().open_store(store.clone()).unwrap();
    wal.append_and_sync(b"kept").unwrap();
    wal.rotate().unwrap();
    wal.append(b"torn").unwrap();
    wal.append(b"dead").unwrap();
    wal.flush().unwrap();
    let mut crash = store.snapshot();
    let newest = crash.files().keys().rfind(|name| is_segment(name)).unwrap().clone();
    let dead = crash.files()[&newest].clone();
    crash.files_mut().get_mut(&newest).unwrap()[HEADER_AREA + 16] ^= 1;
    let store = MemStore::from_snapshot(crash);
    let wal = options().open_store(store.clone()).unwrap();
    wal.append_and_sync(b"lives").unwrap();
    wal.close().unwrap();
    let mut files = store.snapshot().into_files();
    assert!(!files.contains_key(&newest), "the next open removes it");
    files.insert(newest.clone(), dead);
    let wal = options().open_store(store_of(&files)).unwrap();
    let shown = wal.iter().unwrap().map(|r| r.map(|r| (r.lsn().get(), r.into_data())).unwrap());
    let shown = shown.collect();
    (files, newest, shown)
}

#[test]
fn what_was_cut_is_never_salvaged() {
    let (files, dead, shown) = with_a_dead_segment();
    assert_eq!(shown.len(), 2);
    let mut lost_control = files.clone();
    lost_control.remove(CONTROL);
    let mut headless = files.clone();
    headless.get_mut(&dead).unwrap()[..HEADER_AREA].fill(0);
    for (files, errors) in [(files, 0), (lost_control, 1), (headless, 1)] {
        for torn in [false, true] {
            let salvaged = salvage(&store_of(&files), torn).unwrap();
            assert_eq!((&salvaged.records, salvaged.skipped.len()), (&shown, errors));
        }
    }
}

#[test]
fn a_damaged_batch_is_shown_without_the_record_that_is_lost() {
    let store = MemStore::new();
    let wal = options().open_store(store.clone()).unwrap();
    let lsns = wal.append_batch(&[b"one", b"two", b"six"]).unwrap();
    wal.close().unwrap();
    let mut snapshot = store.snapshot();
    let newest = snapshot.files().keys().rfind(|name| is_segment(name)).unwrap().clone();
    let file = snapshot.files_mut().get_mut(&newest).unwrap();
    let at = file.windows(3).position(|window| window == b"two").unwrap();
    file[at] ^= 1;
    let salvaged = salvage(&MemStore::from_snapshot(snapshot), false).unwrap();
    let shown: Vec<_> = salvaged.records.iter().map(|(_, data)| data.as_slice()).collect();
    assert_eq!(shown, [b"one", b"six"]);
    assert_eq!(salvaged.skipped, [(lsns[1].get(), lsns[2].get())], "exactly the lost frame");
}

#[test]
fn what_lies_behind_a_torn_place_shows_on_request_alone() {
    let [crashed, _] = logs();
    let mut files = crashed.files.clone();
    // The last frame but two: nothing that survives says that it was durable.
    let [.., torn, _, _] = &crashed.frames[..] else { panic!("too few frames") };
    files.get_mut(&torn.file).unwrap()[torn.offset] ^= 1;
    let ending = salvage(&store_of(&files), false).unwrap();
    assert!(ending.records.iter().all(|(lsn, _)| *lsn < torn.lsn) && ending.skipped.is_empty());
    let beyond = salvage(&store_of(&files), true).unwrap();
    assert_eq!(beyond.records.len(), crashed.history.records.len() - 1);
    assert_eq!(beyond.skipped.len(), 1);
}

#[test]
fn what_is_no_log_is_not_salvaged() {
    let dir = tempfile::tempdir().unwrap();
    let missing = WalOptions::new().salvage(dir.path().join("log")).unwrap_err();
    assert!(matches!(missing, WalError::NotFound { .. }), "{missing}");
    let empty = WalOptions::new().salvage(dir.path()).unwrap_err();
    assert!(matches!(empty, WalError::NotFound { .. }), "{empty}");
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    assert!(matches!(WalOptions::new().salvage(dir.path()), Err(WalError::NotFound { .. })));
    let file = dir.path().join("notes.txt");
    assert!(matches!(WalOptions::new().salvage(file), Err(WalError::NotALog { .. })));
    fs::write(dir.path().join(CONTROL), "mine too").unwrap();
    let before = directory(dir.path());
    let foreign = WalOptions::new().salvage(dir.path()).unwrap_err();
    assert!(matches!(foreign, WalError::NotALog { .. }), "{foreign}");
    assert_eq!(directory(dir.path()), before);
}

#[test]
fn a_segment_of_another_log_is_named_and_not_shown() {
    let [log, other] = [logs(), logs()].map(|[_, closed]| closed);
    let mut files = log.files.clone();
    let newest = log.newest().to_owned();
    files.insert(newest.clone(), other.files[&newest].clone());
    let salvaged = salvage(&store_of(&files), false).unwrap();
    let cut = log.frames.iter().find(|frame| frame.file == newest).unwrap().lsn;
    assert_eq!(salvaged.records, log.history.records[..log.below(cut)]);
    assert_eq!(salvaged.skipped, [(cut, log.history.end)]);
}

#[test]
fn salvage_beside_a_writer_shows_a_prefix_and_never_damage() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().open(dir.path()).unwrap();
    // So many at each look: a writer that has a processor to itself would run away.
    let (go_on, turns) = std::sync::mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut number = 0_u64;
            for () in turns {
                for _ in 0..300 {
                    wal.append(&number.to_le_bytes().repeat(20)).unwrap();
                    number += 1;
                    if number.is_multiple_of(7) {
                        wal.sync().unwrap();
                    }
                }
            }
        });
        let go_on = go_on;
        go_on.send(()).unwrap();
        while wal.durable_lsn() == wal.head_lsn() {
            std::thread::yield_now();
        }
        let mut seen = 0;
        for _ in 0..60 {
            // One that has its next turn already needs no other.
            go_on.try_send(()).unwrap_or_default();
            let durable = wal.durable_lsn();
            let salvage = options().salvage(dir.path()).unwrap();
            assert!(salvage.end_lsn() >= durable);
            let mut expected = 0_u64;
            let mut next = Lsn::new(0);
            for record in salvage {
                let record = record.unwrap_or_else(|error| panic!("{error}"));
                assert_eq!(record.lsn(), next);
                assert_eq!(record.data(), expected.to_le_bytes().repeat(20));
                next = Lsn::new(next.get() + 16 + 160);
                expected += 1;
            }
            assert!(expected >= seen, "an older view comes back");
            seen = expected;
        }
        assert!(seen > 0, "nothing was there to be shown");
    });
    wal.close().unwrap();
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_in_the_place_of_a_segment_is_not_followed() {
    let [_, log] = logs();
    let dir = tempfile::tempdir().unwrap();
    log.files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
    let outside = tempfile::tempdir().unwrap();
    let (newest, target) = (dir.path().join(log.newest()), outside.path().join("target"));
    fs::rename(&newest, &target).unwrap();
    std::os::unix::fs::symlink(&target, &newest).unwrap();
    let (records, errors): (Vec<_>, Vec<_>) =
        options().salvage(dir.path()).unwrap().partition(Result::is_ok);
    let cut = log.frames.iter().find(|frame| frame.file == log.newest()).unwrap().lsn;
    assert_eq!((records.len(), errors.len()), (log.below(cut), 1));
}

/// What cannot be read is an error, and no reason to give up the rest.
#[cfg(feature = "sim")]
mod unreadable {
    use super::*;
    use cohort_wal::sim::{Profile, SimCall, SimFault, SimFaultKind, SimStore};

    const EIO: SimFaultKind = SimFaultKind::Error(std::io::ErrorKind::Other);

    #[test]
    fn a_read_that_fails_is_an_error_and_never_the_end() {
        let [crashed, closed] = logs();
        let mut damaged = closed.clone();
        damaged.files.get_mut(closed.newest()).unwrap()[HEADER_AREA] ^= 1;
        for log in [&crashed, &closed, &damaged] {
            let disk = SimStore::from_snapshot(snapshot_of(&log.files), Profile::Ext4, 1);
            let whole =
                options().salvage_store(disk.clone()).unwrap().filter(Result::is_ok).count();
            let calls: u64 = SimCall::ALL.into_iter().map(|call| disk.calls(call)).sum();
            let (mut told, mut unharmed) = (0, 0);
            for call in 0..calls {
                for sticky in [false, true] {
                    let disk = disk.kill();
                    let fault = SimFault::new(EIO).after(call);
                    disk.inject(if sticky { fault.sticky() } else { fault });
                    let Ok(salvage) = options().salvage_store(disk.clone()) else {
                        told += 1;
                        continue;
                    };
                    let items: Vec<_> = salvage.take(1000).collect();
                    let shown = items.iter().filter(|item| item.is_ok()).count();
                    let io = items.iter().any(|i| matches!(i, Err(WalError::Io { .. })));
                    assert!(shown == whole || io, "{call} {sticky}: {shown} of {whole}, silently");
                    *(if io { &mut told } else { &mut unharmed }) += 1;
                }
            }
            assert!(told > 0 && unharmed > 0, "{told} {unharmed}");
            assert!(!disk.list().unwrap().is_empty());
        }
    }
}

#[test]
fn the_snapshot_is_shown_beside_damage_and_never_a_damaged_one() {
    let image = |salvage: Salvage<MemStore>| {
        let latest = salvage.snapshots().latest()?;
        let mut bytes = Vec::new();
        latest.unwrap().read_to_end(&mut bytes).unwrap();
        Ok::<_, WalError>(bytes)
    };
    let store = MemStore::new();
    let wal = options().open_store(store.clone()).unwrap();
    wal.append(b"in the image").unwrap();
    wal.checkpoint(wal.end_lsn(), |image| image.write_all(b"balance: 7")).unwrap();
    wal.append_and_sync(b"behind it").unwrap();
    drop(wal);
    let files = store.snapshot();
    let (mut shown, mut refused) = (0, 0);
    for (name, bytes) in files.files() {
        for at in 0..bytes.len().min(HEADER_AREA + 64) {
            let mut files = files.clone();
            files.files_mut().get_mut(name).unwrap()[at] ^= 0x10;
            let Ok(salvage) = options().salvage_store(MemStore::from_snapshot(files)) else {
                continue;
            };
            match image(salvage) {
                Ok(bytes) => {
                    assert_eq!(bytes, b"balance: 7", "{name} {at}");
                    shown += 1;
                }
                Err(error) => {
                    // Only where it is damaged itself, or what points at it.
                    assert!(!name.ends_with(".wal"), "{name} {at}: {error}");
                    refused += 1;
                }
            }
        }
    }
    assert!(shown > HEADER_AREA && refused > 100, "{shown} {refused}");
}
