//! A pure crash is never called corruption: what no sync covered may be lost in any way.

use std::sync::{Arc, Barrier};
use std::thread;

use cohort_wal::{Lsn, MemStore, Preallocate, Wal};

use super::canon::options;
use super::judge::{Table, exhaustive, sample};
use super::layout::{Files, History, Log};
use crate::common::{Dice, ID_BYTES, Id, join_all, payload};

const SEEDS: u64 = 10;
const WRITERS: u64 = 8;

/// The units that a thread appended: start and payload of each of their records.
type Units = Vec<Vec<(Lsn, Vec<u8>)>>;

fn write(wal: &Wal<MemStore>, owner: u64, seed: u64, may_sync: bool) -> Units {
    let mut dice = Dice::new(seed * 1000 + owner * 2 + u64::from(may_sync));
    let mut number = if may_sync { 0 } else { 1000 };
    let mut body = |dice: &mut Dice| {
        number += 1;
        payload(Id { owner, number }, ID_BYTES + usize::try_from(dice.below(40)).unwrap())
    };
    let mut units = Vec::new();
    for _ in 0..3 {
        let count = if dice.below(3) == 0 { 2 + dice.below(3) } else { 1 };
        let bodies: Vec<_> = (0..count).map(|_| body(&mut dice)).collect();
        let lsns = wal.append_batch(&bodies).unwrap();
        units.push(lsns.into_iter().zip(bodies).collect());
        match dice.below(8) {
            0 if may_sync => wal.sync().unwrap(),
            1 => wal.flush().unwrap(),
            _ => {}
        }
    }
    units
}

/// What eight threads left in memory that a crash may take, and what was durable by then. They
/// sync now and then, and later no more.
fn torn(seed: u64) -> (Log, u64) {
    let ahead = if seed.is_multiple_of(2) { Preallocate::Off } else { Preallocate::Zeroed };
    let store = MemStore::new();
    let wal = Arc::new(options().preallocate(ahead).open_store(store.clone()).unwrap());
    let mut units = write(&wal, WRITERS, seed, true);
    wal.rotate().unwrap();
    units.extend(write(&wal, WRITERS + 1, seed, true));
    // The first sync of a segment writes a witness into CONTROL.
    wal.sync().unwrap();
    let start = Arc::new(Barrier::new(8));
    let writers = (0..WRITERS).map(|owner| {
        let (wal, start) = (Arc::clone(&wal), Arc::clone(&start));
        thread::spawn(move || {
            start.wait();
            let mut units = write(&wal, owner, seed, true);
            start.wait();
            units.extend(write(&wal, owner, seed, false));
            units
        })
    });
    units.extend(join_all(writers.collect()).into_iter().flatten());
    wal.flush().unwrap();
    let durable = wal.durable_lsn().get();
    units.sort_by_key(|unit| unit[0].0);
    let mut history = History { end: wal.end_lsn().get(), ..History::default() };
    history.bounds = units.iter().map(|unit| unit[0].0.get()).chain([history.end]).collect();
    let records = units.into_iter().flatten().map(|(lsn, body)| (lsn.get(), body));
    history.records = records.collect();
    (Log::new("crashed", &store.snapshot(), history), durable)
}

/// Zeroes every byte of the log from `from` on that `lost` says is lost.
fn lose(log: &Log, files: &mut Files, from: u64, mut lost: impl FnMut(&str, usize) -> bool) {
    for frame in log.frames.iter().filter(|frame| frame.lsn + frame.bytes as u64 > from) {
        let bytes = &mut files.get_mut(&frame.file).unwrap()[frame.offset..][..frame.bytes];
        for (at, byte) in bytes.iter_mut().enumerate() {
            if frame.lsn + at as u64 >= from && lost(&frame.file, frame.offset + at) {
                *byte = 0;
            }
        }
    }
}

/// The file offset at which the unsynced part of the newest segment begins, and where it ends.
fn unsynced(log: &Log, durable: u64) -> (usize, usize) {
    let own = || log.frames.iter().filter(|frame| frame.file == log.newest());
    let end = own().map(|frame| frame.offset + frame.bytes).max().unwrap();
    let start = own().find(|frame| frame.lsn >= durable).map_or(end, |frame| frame.offset);
    (start, end)
}

#[test]
fn a_torn_tail_of_many_writers_is_never_called_corruption() {
    let mut table = Table::default();
    for seed in 0..SEEDS {
        let (log, durable) = torn(seed);
        let (start, end) = unsynced(&log, durable);
        assert!(end - start > 24 * 40, "hardly anything was torn");
        let newest = log.newest().to_owned();
        let cases = sample(end + 1 - start, 5);
        for zeroed in [false, true] {
            let what = if zeroed { "a torn tail of zeros" } else { "a torn tail cut off" };
            let tally = table.sweep(&log, what, cases, |case, files| {
                let file = files.get_mut(&newest).unwrap();
                if zeroed {
                    file[start + case..].fill(0);
                } else {
                    file.truncate(start + case);
                }
            });
            assert_eq!(tally.refused(), 0, "seed {seed}: a crash was called damage");
            assert!(tally.lowest_end.is_none_or(|end| end >= durable), "seed {seed}");
            assert!(tally.tail > 0);
        }
        let tries = if exhaustive() { 4000 } else { 100 };
        let tally = table.sweep(&log, "unsynced sectors lost", (tries, 1), |case, files| {
            let mut dice = Dice::new(seed * 10_000 + case as u64);
            let mut sector = (String::new(), 0, false);
            lose(&log, files, durable, |file, at| {
                if (file, at / 512) != (&sector.0, sector.1) || at == 0 {
                    sector = (file.to_owned(), at / 512, dice.below(2) == 0);
                }
                sector.2
            });
        });
        assert_eq!(tally.refused(), 0, "seed {seed}: a crash was called damage");
        assert!(tally.lowest_end.is_none_or(|end| end >= durable), "seed {seed}");
    }
    table.finish();
}

#[test]
fn a_cut_below_what_was_durable_is_refused_or_ends_at_the_newest_witness_or_later() {
    let mut table = Table::default();
    for seed in 0..SEEDS {
        let (log, durable) = torn(seed);
        let (start, _) = unsynced(&log, durable);
        let newest = log.newest().to_owned();
        let cases = sample(start - 8192, 11);
        let tally = table.sweep(&log, "a durable tail cut off", cases, |case, files| {
            files.get_mut(&newest).unwrap().truncate(8192 + case);
        });
        assert!(tally.at_open > 0, "CONTROL witnesses some of it");
    }
    table.finish();
}
