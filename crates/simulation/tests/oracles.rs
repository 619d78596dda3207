//! The oracles notice what they are for: each is shown a log that breaks its promise.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use cohort_wal::sim::{Profile, SimStore};
use cohort_wal::{MemSnapshot, StoreFile, Wal, WalStore};
use simulation::history::{Found, History, Promise};
use simulation::oracle::{
    Crash, Oracle, no_orphans, read, recover, recover_sim, unchanged, unchanged_by_failed_open,
    within_bounds,
};
use simulation::record::payload;
use simulation::workload::options;

/// A record at 0, a batch of two at 40 and 80, and a record at 120, each promised as told.
fn history(promises: [Promise; 3]) -> History {
    let mut history = History::new();
    for (owner, lsns) in [(0, vec![0]), (1, vec![40, 80]), (0, vec![120])] {
        let unit = history.attempt(owner, lsns.len());
        history.appended(unit, lsns);
        history.promise(unit, promises[unit]);
    }
    history
}

fn found(records: &[(u64, u64)], end: u64) -> Found {
    Found { records: records.to_vec(), head: 0, end, durable: end, snapshot: None }
}

/// All of the history above.
const ALL: [(u64, u64); 4] = [(0, 0), (40, 1), (80, 2), (120, 3)];

/// The oracle that objects to what was found after a power loss.
fn objection(history: &History, found: &Found) -> Option<Oracle> {
    history.check(found, Crash::Power).err().map(|violation| violation.oracle)
}

const BUFFERED: [Promise; 3] = [Promise::Buffered; 3];

#[test]
fn a_prefix_that_keeps_what_was_promised_is_accepted() {
    for (count, end) in [(0, 0), (1, 40), (3, 120), (4, 160)] {
        assert_eq!(objection(&history(BUFFERED), &found(&ALL[..count], end)), None, "{count}");
    }
    let promised = history([Promise::Durable, Promise::Flushed, Promise::Flushed]);
    assert_eq!(objection(&promised, &found(&ALL[..1], 40)), None);
    // A record that nobody promised may end a log that is cut in front of it.
    let mut attempted = history(BUFFERED);
    attempted.attempt(0, 1);
    assert_eq!(objection(&attempted, &found(&ALL, 160)), None);
}

#[test]
fn a_durable_record_that_is_missing_breaks_i1() {
    let durable = history([Promise::Durable; 3]);
    assert_eq!(objection(&durable, &found(&ALL[..3], 120)), Some(Oracle::I1));
    let flushed = history([Promise::Flushed; 3]);
    assert_eq!(objection(&flushed, &found(&ALL[..3], 120)), None);
    let after_a_kill = flushed.check(&found(&ALL[..3], 120), Crash::Process);
    assert_eq!(after_a_kill.unwrap_err().oracle, Oracle::I1);
}

#[test]
fn a_gap_an_exchange_or_a_repetition_breaks_i2() {
    let history = history(BUFFERED);
    let gap = [(0, 0), (120, 3)];
    assert_eq!(objection(&history, &found(&gap, 160)), Some(Oracle::I2));
    // The same without a place that is known to be below the end.
    let mut attempted = History::new();
    for (unit, lsn) in [(0, 0), (1, 40)] {
        attempted.attempt(0, 1);
        attempted.appended(unit, vec![lsn]);
    }
    assert_eq!(objection(&attempted, &found(&[(40, 1)], 80)), Some(Oracle::I2));
    for wrong in
        [&[(0, 0), (0, 0)][..], &[(40, 1), (0, 0)], &[(0, 0), (40, 2), (80, 1)], &[(0, 3), (40, 0)]]
    {
        let oracle = objection(&history, &found(wrong, 160));
        assert!(matches!(oracle, Some(Oracle::I2 | Oracle::I3)), "{wrong:?}: {oracle:?}");
    }
    assert_eq!(objection(&history, &found(&ALL, 120)), Some(Oracle::I2), "beyond the end");
}

#[test]
fn what_one_owner_appended_stays_in_its_order() {
    let mut history = History::new();
    for _ in 0..2 {
        history.attempt(7, 1);
    }
    assert_eq!(objection(&history, &found(&[(0, 1), (40, 0)], 80)), Some(Oracle::I2));
    assert_eq!(objection(&history, &found(&[(0, 0), (40, 1)], 80)), None);
}

#[test]
fn a_record_that_nobody_appended_or_that_is_elsewhere_breaks_i3() {
    let promised = history(BUFFERED);
    assert_eq!(objection(&promised, &found(&[(0, 4)], 40)), Some(Oracle::I3));
    assert_eq!(objection(&promised, &found(&[(8, 0)], 48)), Some(Oracle::I3));
    let mut refused = history(BUFFERED);
    let unit = refused.attempt(0, 1);
    refused.refused(unit);
    let all: Vec<_> = ALL.into_iter().chain([(160, 4)]).collect();
    assert_eq!(objection(&refused, &found(&all, 200)), Some(Oracle::I3));
    // What a recovery did not find is cut, and never comes back.
    let mut cut = history(BUFFERED);
    cut.settle(&found(&ALL[..1], 40));
    assert_eq!(objection(&cut, &found(&ALL[..3], 120)), Some(Oracle::I3));
    assert_eq!(objection(&cut, &found(&ALL[..1], 40)), None);
}

#[test]
fn half_a_batch_breaks_i4() {
    assert_eq!(objection(&history(BUFFERED), &found(&ALL[..2], 80)), Some(Oracle::I4));
}

#[test]
fn a_log_that_ends_below_what_was_durable_breaks_i8() {
    let mut history = history(BUFFERED);
    history.saw_durable(80);
    assert_eq!(objection(&history, &found(&ALL[..1], 40)), Some(Oracle::I8));
    let unsure = Found { durable: 40, ..found(&ALL, 160) };
    assert_eq!(objection(&history, &unsure), Some(Oracle::I8));
    let seen = history.saw(&ALL, &found(&ALL[..3], 120));
    assert_eq!(seen.unwrap_err().oracle, Oracle::I8);
    assert!(history.saw(&ALL[..3], &found(&ALL[..3], 120)).is_ok());
}

fn opened(disk: &SimStore) -> Wal<SimStore> {
    options().open_store(disk.clone()).unwrap()
}

fn filled() -> SimStore {
    let disk = SimStore::new(Profile::Ext4, 1);
    opened(&disk).append_and_sync(&payload(0, 24)).unwrap();
    disk.kill()
}

#[test]
fn bytes_that_are_no_record_of_ours_break_i3_and_a_log_that_cannot_be_read_i7() {
    let disk = filled();
    let wal = opened(&disk);
    assert_eq!(read(&wal).unwrap().records, [(0, 0)]);
    wal.append(b"not a payload").unwrap();
    assert_eq!(read(&wal).unwrap_err().oracle, Oracle::I3);
    drop(wal);
    let names = disk.list().unwrap();
    disk.remove(names.last().unwrap()).unwrap();
    let refused = recover(disk.kill(), &options(), &mut History::new(), Crash::Power);
    assert_eq!(refused.unwrap_err().oracle, Oracle::I7);
}

#[test]
fn a_recovery_that_reads_too_much_breaks_i12() {
    let disk = filled();
    let mut history = History::new();
    history.attempt(0, 1);
    let read_again = || {
        let file = disk.open("CONTROL").unwrap();
        let mut bytes = vec![0; 8192];
        for _ in 0..200 {
            file.read_at(0, &mut bytes).unwrap();
        }
        Ok(())
    };
    assert_eq!(within_bounds(&disk, read_again).unwrap_err().oracle, Oracle::I12);
    // What was read before does not count.
    assert!(recover_sim(&disk, &options(), &mut history, Crash::Process).is_ok());
}

#[test]
fn a_file_too_many_breaks_i11_with_or_without_a_name() {
    let disk = filled();
    let wal = opened(&disk);
    no_orphans(&disk, &wal).unwrap();
    let file = disk.create(0).unwrap();
    assert_eq!(no_orphans(&disk, &wal).unwrap_err().oracle, Oracle::I11);
    disk.publish(&file, "leftover").unwrap();
    assert_eq!(no_orphans(&disk, &wal).unwrap_err().oracle, Oracle::I11);
    disk.remove("leftover").unwrap();
    drop(file);
    no_orphans(&disk, &wal).unwrap();
}

#[test]
fn a_refused_open_that_changes_a_byte_a_name_or_a_length_breaks_i9() {
    let before = filled().snapshot();
    unchanged(&before, &before.clone()).unwrap();
    unchanged_by_failed_open(&before, &before.clone()).unwrap();
    let change = |edit: fn(&mut Vec<(String, Vec<u8>)>)| -> MemSnapshot {
        let mut files: Vec<_> = before.clone().into_files().into_iter().collect();
        edit(&mut files);
        files.into_iter().collect()
    };
    type Files = Vec<(String, Vec<u8>)>;
    let edits: [fn(&mut Files); 3] =
        [|files| files[0].1[700] ^= 1, |files| drop(files.remove(0)), |files| files[0].1.push(0)];
    for after in edits.map(change) {
        assert_eq!(unchanged(&before, &after).unwrap_err().oracle, Oracle::I9);
        let failed = unchanged_by_failed_open(&before, &after);
        assert_eq!(failed.unwrap_err().oracle, Oracle::I9);
    }
    // A new segment is more than a refused open may leave; two are more than a failed one may.
    let one = change(|files| files.push(("a".into(), Vec::new())));
    assert_eq!(unchanged(&before, &one).unwrap_err().oracle, Oracle::I9);
    unchanged_by_failed_open(&before, &one).unwrap();
    let two = change(|files| files.extend([("a".into(), Vec::new()), ("b".into(), Vec::new())]));
    assert_eq!(unchanged_by_failed_open(&before, &two).unwrap_err().oracle, Oracle::I9);
}
