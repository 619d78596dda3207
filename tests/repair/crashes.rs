//! Power is lost, and calls fail, at every step of a repair.

use std::collections::BTreeSet;

use cohort_wal::sim::{Profile, SimCall, SimFault, SimFaultKind, SimStore};
use cohort_wal::{Lsn, Repair, WalError, repair_store};

use super::canon::{logs, options};
use super::layout::{COPIES, Files, Log, is_segment, snapshot_of};
use super::{REBUILD, Records, assert_keeps, below, lose_control, shown};

/// A damaged log, its repair, and what it shows afterwards.
struct Case {
    what: &'static str,
    files: Files,
    repair: Repair,
    records: Records,
}

fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for log in &logs() {
        cut_cases(log, &mut cases);
        for way in [0, 1, 4] {
            let mut files = log.files.clone();
            lose_control(&mut files, way);
            let records = log.history.records.clone();
            cases.push(Case { what: "no CONTROL", files, repair: REBUILD, records });
        }
        let mut files = log.files.clone();
        let segments: Vec<_> = files.keys().filter(|name| is_segment(name)).cloned().collect();
        files.remove(&segments[1]);
        files.extend([(format!("{:020}.snap", log.history.end), b"COHRTSNP".to_vec())]);
        let base = log.frames.iter().find(|frame| frame.file == segments[2]).unwrap().lsn;
        let records = below(log, base, u64::MAX);
        cases.push(Case { what: "a hole, the newer half", files, repair: REBUILD, records });
    }
    cases
}

fn cut_cases(log: &Log, cases: &mut Vec<Case>) {
    let mut cut = |what, files: &Files, at: u64| {
        let repair = Repair::CutAt(Lsn::new(at));
        let records = below(log, 0, at);
        cases.push(Case { what, files: files.clone(), repair, records });
    };
    let segments: Vec<_> = log.files.keys().filter(|name| is_segment(name)).cloned().collect();
    let start = |name: &str| log.frames.iter().find(|frame| frame.file == name).unwrap().lsn;
    let mut files = log.files.clone();
    let hit = log.frames.iter().find(|frame| frame.file == segments[1]).unwrap();
    files.get_mut(&hit.file).unwrap()[hit.offset + 1] ^= 1;
    cut("a frame in the middle", &files, hit.lsn);
    let mut files = log.files.clone();
    let inside = log.history.bounds.range(start(&segments[2]) + 1..).nth(1).unwrap();
    cut("nothing wrong", &files, *inside);
    files.remove(&segments[1]);
    cut("a segment missing", &files, start(&segments[1]));
    let mut files = log.files.clone();
    for at in COPIES {
        files.get_mut(&segments[2]).unwrap()[at + 100] ^= 1;
    }
    cut("the newest header", &files, start(&segments[2]));
    let mut files = log.files.clone();
    files.remove(&segments[0]);
    cut("all of it", &files, 0);
}

/// What the log shows when the next process opens it; nothing where it refuses or cannot read.
fn opened(state: &SimStore, what: &str) -> Option<Records> {
    let wal = match options().create(false).open_store(state.clone()) {
        Ok(wal) => wal,
        Err(WalError::Corruption { .. } | WalError::NotALog { .. }) => return None,
        Err(other) => panic!("{what}: {other}"),
    };
    let records = wal.iter().unwrap().map(|record| {
        record.map(|record| (record.lsn().get(), record.into_data())).map_err(|error| {
            assert!(error.is_corruption(), "{what}: {error}");
        })
    });
    records.collect::<Result<_, _>>().ok()
}

/// A state is repaired, or the same repair ends it; true if that was needed.
fn assert_recovers(state: &SimStore, case: &Case, what: &str) -> bool {
    assert_keeps(&case.files, state.snapshot().files(), what);
    let probe = state.kill();
    match opened(&probe, what) {
        Some(records) if records == case.records => {
            assert_keeps(&case.files, probe.snapshot().files(), &format!("{what}, opened"));
            return false;
        }
        Some(_) => assert_eq!(case.what, "nothing wrong", "{what}: other records"),
        None => {}
    }
    let again = repair_store(state, case.repair);
    let again = again.unwrap_or_else(|error| panic!("{what}, again: {error}"));
    assert!(again.still_refused.is_none(), "{what}, again: {again}");
    let wal = options().create(false).open_store(state.clone()).unwrap();
    assert_eq!(shown(&wal), case.records, "{what}, again");
    drop(wal);
    assert_keeps(&case.files, state.snapshot().files(), &format!("{what}, again"));
    true
}

#[test]
fn a_crash_at_any_step_of_a_repair_leaves_the_old_log_or_the_repaired_one() {
    for case in cases() {
        let (mut before, mut after) = (0, 0);
        for profile in [Profile::PosixMinimal, Profile::Hostile] {
            let disk = SimStore::from_snapshot(snapshot_of(&case.files), profile, 1);
            disk.record();
            repair_store(&disk, case.repair).unwrap();
            let mut seen = BTreeSet::new();
            for (number, moment) in disk.moments().iter().enumerate() {
                for state in moment.power_losses(24).chain([moment.kill()]) {
                    if !seen.insert((state.fingerprint(), state.has_pending())) {
                        continue;
                    }
                    let what = format!("{}, {profile:?}, moment {number}", case.what);
                    match assert_recovers(&state, &case, &what) {
                        true => before += 1,
                        false => after += 1,
                    }
                }
            }
            for state in disk.power_losses(64) {
                let wal = options().create(false).open_store(state).unwrap();
                assert_eq!(shown(&wal), case.records, "{}: durable when it returned", case.what);
            }
        }
        assert!(before > 0 && after > 0, "{}: {before} before, {after} after", case.what);
    }
}

#[test]
fn a_crash_in_a_repair_that_was_begun_again_loses_nothing() {
    for case in cases().into_iter().step_by(3) {
        let disk = SimStore::from_snapshot(snapshot_of(&case.files), Profile::PosixMinimal, 1);
        disk.record();
        repair_store(&disk, case.repair).unwrap();
        for once in disk.moments().iter().step_by(3) {
            let once = once.power_loss();
            once.record();
            if repair_store(&once, case.repair).is_err() {
                panic!("{}: not again", case.what);
            }
            for twice in once.moments().iter().step_by(2) {
                assert_recovers(&twice.power_loss(), &case, case.what);
            }
        }
    }
}

#[test]
fn an_error_at_any_call_of_a_repair_is_an_error_and_loses_nothing() {
    let kinds = [
        SimFaultKind::Error(std::io::ErrorKind::Other),
        SimFaultKind::Error(std::io::ErrorKind::StorageFull),
        SimFaultKind::Short(std::io::ErrorKind::Other),
        SimFaultKind::Late(std::io::ErrorKind::Other),
    ];
    for case in cases() {
        let whole = SimStore::from_snapshot(snapshot_of(&case.files), Profile::Ext4, 1);
        let counted = whole.kill();
        repair_store(&counted, case.repair).unwrap();
        let calls: u64 = SimCall::ALL.into_iter().map(|call| counted.calls(call)).sum();
        let mut failed = 0;
        for kind in kinds {
            for call in 0..calls {
                let disk = whole.kill();
                disk.inject(SimFault::new(kind).after(call));
                let result = repair_store(&disk, case.repair);
                disk.heal();
                let struck = disk.injected();
                let what = format!("{}, {kind:?} at {struck:?}", case.what);
                // Giving the lock back is then done by closing the file; and a file that is not
                // there is not there, however late the call fails.
                let excused = struck.first().is_some_and(|(call, name)| {
                    let missing = *call == SimCall::Open && !case.files.contains_key(name);
                    *call == SimCall::Unlock || missing
                });
                match result {
                    Ok(_) => assert!(excused || struck.is_empty(), "{what} went unnoticed"),
                    Err(error) => {
                        let told = !error.is_corruption();
                        assert!(told, "{what}: {error}");
                        failed += 1;
                    }
                }
                assert_recovers(&disk, &case, &what);
            }
        }
        assert!(failed > 50, "{}: {failed}", case.what);
    }
}

#[test]
fn a_repair_without_space_changes_nothing_and_works_when_there_is_some() {
    for case in cases() {
        let disk = SimStore::from_snapshot(snapshot_of(&case.files), Profile::Ext4, 1);
        disk.set_capacity(Some(disk.bytes() + 100));
        let full = repair_store(&disk, case.repair);
        if let Ok(report) = &full {
            // Nothing had to be copied.
            assert!(report.rebuild.as_ref().is_some_and(|r| r.copies.is_empty()), "{}", case.what);
            continue;
        }
        let full = full.unwrap_err();
        assert!(matches!(full, WalError::StorageFull { .. }), "{}: {full}", case.what);
        for (name, bytes) in &case.files {
            assert_eq!(&disk.snapshot().files()[name], bytes, "{}", case.what);
        }
        disk.set_capacity(None);
        assert_recovers(&disk, &case, case.what);
    }
}
