//! Crashes at every call of recovery and of creation, several deep.

use std::collections::BTreeSet;

use super::*;
use crate::lsn::Lsn;
use crate::sim::{Profile, SimCall, SimFault, SimFaultKind, SimStore};
use crate::store::StoreFile;

const EIO: SimFaultKind = SimFaultKind::Error(std::io::ErrorKind::Other);

fn disk(files: &Files) -> SimStore {
    let snapshot = files.0.clone().into_iter().collect();
    SimStore::from_snapshot(snapshot, Profile::PosixMinimal, 1)
}

fn files_of(disk: &SimStore) -> Files {
    Files(disk.snapshot().into_files())
}

/// Every state that a crash at any call of an open can leave, each once.
fn crashes(disk: &SimStore, options: &WalOptions) -> Vec<SimStore> {
    disk.record();
    drop(open(disk, options).unwrap());
    let moments = disk.moments();
    assert!(!moments.is_empty(), "an open changes something");
    let mut seen = BTreeSet::new();
    let states = moments.iter().flat_map(|moment| moment.power_losses(4096).chain([moment.kill()]));
    states.filter(|state| seen.insert((state.fingerprint(), state.has_pending()))).collect()
}

fn calls_of_an_open(disk: &SimStore, options: &WalOptions) -> u64 {
    let disk = disk.kill();
    drop(open(&disk, options).unwrap());
    SimCall::ALL.into_iter().map(|call| disk.calls(call)).sum()
}

/// A torn log with a dead segment, one below head, and bytes to carry.
fn worn() -> (Files, Vec<Vec<u8>>) {
    let mut files = three_segments();
    files.segment(
        &SegmentHeader { epoch: 2, durable: 240, ..header(4, 240, 3) },
        &[record(&[10; 8], 240), record(&[11; 8], 240), part(&[12; 8], 240)],
    );
    files.control(Claim { head: 120, ..claim(3, 240) });
    files.seg(4).extend_from_slice(&[0xEE; 40]);
    (files, (5..12).map(|n| vec![n; 8]).collect())
}

/// Opens a copy of a disk and reads what is there.
fn kept(disk: &SimStore, context: &str) -> Vec<Vec<u8>> {
    let disk = disk.kill();
    let recovered = open(&disk, &options()).unwrap_or_else(|e| panic!("{context}: {e}"));
    bodies(&disk, &recovered)
}

/// Crashes an open in every way, and the opens that follow, so many deep; counts the states.
fn nested(disk: &SimStore, expected: &[Vec<u8>], depth: usize, context: &str) -> usize {
    assert_eq!(kept(disk, context), expected, "{context}");
    if depth == 0 {
        return 1;
    }
    let states = crashes(disk, &options());
    let deeper = (0..)
        .zip(&states)
        .map(|(number, state)| nested(state, expected, depth - 1, &format!("{context} {number}")));
    deeper.sum()
}

#[test]
fn a_crash_at_any_call_of_recovery_two_deep_keeps_the_log() {
    let (files, expected) = worn();
    let states = nested(&disk(&files), &expected, 2, "");
    assert!(states > 100, "{states}");
}

#[test]
fn a_crash_at_any_call_of_recovery_three_deep_keeps_the_log() {
    // The second crash is drawn from a spread of states; all pairs are tried above.
    let (files, expected) = worn();
    for (number, once) in crashes(&disk(&files), &options()).iter().enumerate() {
        for twice in crashes(once, &options()).iter().skip(number % 5).step_by(5) {
            nested(twice, &expected, 1, &format!("{number}"));
        }
    }
}

#[test]
fn a_crash_never_leaves_control_pointing_at_a_removed_segment() {
    // The newest segment that CONTROL knows is wholly below head, and has a successor.
    let mut files = three_segments();
    files.control(Claim { head: 192, ..claim(2, 192) });
    let expected: Vec<_> = (8..12).map(|n| vec![n; 8]).collect();
    nested(&disk(&files), &expected, 2, "");
}

#[test]
fn either_slot_may_be_lost_after_recovery() {
    let (files, expected) = worn();
    let (store, _recovered) = files.opened();
    for slot in [0, 4096] {
        let mut files = Files::of(&store);
        files.file("CONTROL")[slot + 40] ^= 1;
        let (store, recovered) = files.opened();
        assert_eq!(bodies(&store, &recovered), expected);
        assert_eq!(recovered.report.carried_bytes, 0, "the slot left knows only the old log");
        files.0.retain(|name, _| name != &name::segment(5));
        assert!(files.open(&options()).is_err(), "the slot left does not know the new segment");
    }
}

#[test]
fn either_slot_may_be_lost_after_a_crash_in_recovery() {
    // The newer slot alone has the head, and what is below the head goes.
    let (mut files, expected) = worn();
    let old = Slot { generation: 1, claim: claim(3, 240) };
    let moved = Slot { generation: 2, claim: Claim { head: 120, ..claim(3, 240) } };
    files.0.insert(name::CONTROL.to_owned(), control_bytes(old, moved));
    let disk = disk(&files);
    disk.record();
    drop(open(&disk, &options()).unwrap());
    let mut removed = 0;
    for (number, moment) in disk.moments().iter().enumerate() {
        for slot in [0, 4096] {
            let mut files = files_of(moment);
            if files.0.contains_key(&name::segment(1)) {
                continue;
            }
            files.file("CONTROL")[slot + 40] ^= 1;
            let (store, recovered) = files.opened();
            assert_eq!(bodies(&store, &recovered), expected, "{number} {slot}");
            removed += 1;
        }
    }
    assert!(removed > 0, "the segment below the head was removed");
}

#[test]
fn what_a_crash_left_without_a_name_is_swept() {
    let disk = disk(&worn().0);
    disk.record();
    drop(open(&disk, &options()).unwrap());
    let mut left = 0;
    for moment in disk.moments() {
        let leftovers = moment.unpublished();
        let recovered = open(&moment, &options()).unwrap();
        assert_eq!(recovered.report.swept, u64::try_from(leftovers).unwrap());
        assert_eq!(moment.unpublished(), 0);
        left += leftovers;
    }
    assert!(left > 0, "an open that dies leaves a file without a name");
}

#[test]
fn what_recovery_showed_is_there_after_a_power_loss() {
    let (files, expected) = worn();
    let disk = disk(&files);
    let _recovered = open(&disk, &options()).unwrap();
    for (number, state) in disk.power_losses(4096).enumerate() {
        assert_eq!(kept(&state, "after"), expected, "{number}");
    }
}

#[test]
fn bytes_that_only_the_page_cache_holds_are_made_durable_before_they_are_shown() {
    // The last record is in the cache of a process that was killed, and nowhere else.
    let (files, expected) = worn();
    let disk = disk(&files);
    let segment = disk.open(&name::segment(4)).unwrap();
    let mut whole = Files::default();
    let header = SegmentHeader { epoch: 2, durable: 240, ..header(4, 240, 3) };
    let frames = [10, 11, 12].map(|n| record(&[n; 8], 240));
    let bytes = whole.segment(&header, &frames).seg(4).clone();
    segment.write_at(0, &bytes).unwrap();
    let recovered = open(&disk, &options()).unwrap();
    let shown = bodies(&disk, &recovered);
    assert_eq!(shown.len(), expected.len() + 1);
    for (number, state) in disk.power_losses(4096).enumerate() {
        assert_eq!(kept(&state, "after"), shown, "{number}");
    }
}

#[test]
fn bytes_that_a_failed_sync_left_in_the_page_cache_are_made_durable_before_they_are_shown() {
    // The pages are clean, so that no sync writes them, and the device never got them.
    let (files, _) = worn();
    let disk = disk(&files);
    let segment = disk.open(&name::segment(4)).unwrap();
    let header = SegmentHeader { epoch: 2, durable: 240, ..header(4, 240, 3) };
    let frames = [10, 11, 12].map(|n| record(&[n; 8], 240));
    segment.write_at(0, &encode(&header, &frames)).unwrap();
    disk.inject(SimFault::new(SimFaultKind::Lose).on(SimCall::Sync));
    segment.sync().unwrap();
    let recovered = open(&disk, &options()).unwrap();
    let shown = bodies(&disk, &recovered);
    disk.evict();
    for (number, state) in disk.power_losses(4096).enumerate() {
        assert_eq!(kept(&state, "after"), shown, "{number}");
    }
}

#[test]
fn a_claim_that_only_the_page_cache_holds_is_made_durable_before_it_is_acted_on() {
    let (mut files, expected) = worn();
    files.control(claim(3, 240));
    let moved = Slot { generation: 3, claim: Claim { head: 120, ..claim(3, 240) } };
    let disk = disk(&files);
    disk.open(name::CONTROL).unwrap().write_at(0, &moved.encode()).unwrap();
    for (number, state) in crashes(&disk, &options()).iter().enumerate() {
        // The head may be the old one or the new one, and nothing above it is missing.
        assert!(kept(state, "after").ends_with(&expected), "{number}");
    }
}

#[test]
fn an_error_at_any_call_of_recovery_keeps_the_log() {
    let (files, expected) = worn();
    let whole = disk(&files);
    for call in 0..calls_of_an_open(&whole, &options()) {
        let disk = whole.kill();
        disk.inject(SimFault::new(EIO).after(call));
        let failed = open(&disk, &options()).err();
        let struck = disk.injected();
        // Giving the lock back is the last call of a handle, and is then done by closing it.
        let unlock = struck.first().is_some_and(|(call, _)| *call == SimCall::Unlock);
        assert!(failed.is_some() || struck.is_empty() || unlock, "{struck:?} went unnoticed");
        assert_eq!(kept(&disk, "after"), expected, "{struck:?}");
        // The same process tries again on what its page cache shows.
        let recovered = open(&disk, &options()).unwrap();
        assert_eq!(bodies(&disk, &recovered), expected, "{struck:?}");
    }
}

#[test]
fn a_creation_that_was_interrupted_anywhere_is_completed_by_any_open() {
    let create = options().create_new(true).initial_lsn(Lsn::new(800));
    let new = SimStore::new(Profile::PosixMinimal, 1);
    let mut completed = 0;
    for (number, state) in crashes(&new, &create).iter().enumerate() {
        let files = files_of(state);
        if files.0.is_empty() {
            continue;
        }
        // The initial LSN is the one that CONTROL holds, not the second caller's.
        let (_, recovered) = files.opened();
        assert_eq!(recovered.end, 800, "{number}");
        let claim = recovered.control.claim();
        assert_eq!((claim.head, claim.durable), (800, 800));
        assert!(claim.newest_seq > 0 && recovered.report.last_record.is_none());
        completed += 1;
    }
    assert!(completed > 0);
}

#[test]
fn a_creation_that_failed_anywhere_is_completed_by_the_next_open() {
    let create = options().initial_lsn(Lsn::new(800));
    let new = SimStore::new(Profile::PosixMinimal, 1);
    for call in 0..calls_of_an_open(&new, &create) {
        let disk = new.kill();
        disk.inject(SimFault::new(EIO).after(call));
        drop(open(&disk, &create));
        let recovered = open(&disk, &create).unwrap_or_else(|e| panic!("{call}: {e}"));
        assert_eq!(recovered.end, 800, "{call}");
    }
}

#[test]
fn a_creation_that_was_interrupted_can_be_asked_for_again() {
    let create = options().create_new(true);
    let new = SimStore::new(Profile::PosixMinimal, 1);
    let mut completed = 0;
    for state in crashes(&new, &create) {
        match files_of(&state).open(&create) {
            Ok(_) => completed += 1,
            // CONTROL knows a segment: somebody may have been told that the log is open.
            Err(WalError::AlreadyExists { .. }) => assert!(completed > 0),
            Err(other) => panic!("{other}"),
        }
    }
}
