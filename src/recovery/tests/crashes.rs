//! Crashes at every call of recovery and of creation, several deep.

use super::power::{Loss, PowerStore};
use super::*;
use crate::lsn::Lsn;

const LOSSES: [Loss; 4] = [Loss::Everything, Loss::Nothing, Loss::Tears, Loss::BytesOnly];

/// Opens a store built from `files`, with the power going after `calls` calls. Returns the store
/// and whether the log was opened.
fn interrupted(files: &Files, calls: u64, once: bool, options: &WalOptions) -> (PowerStore, bool) {
    let store = PowerStore::new(&files.0);
    store.fail_after(calls, once);
    let opened = open(&store, options).is_ok();
    (store, opened)
}

fn calls_of_an_open(files: &Files, options: &WalOptions) -> u64 {
    let (store, opened) = interrupted(files, u64::MAX, false, options);
    assert!(opened);
    store.calls()
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

fn assert_whole(files: &Files, expected: &[Vec<u8>], context: &str) {
    let (store, recovered) = files.open(&options()).unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(bodies(&store, &recovered), expected, "{context}");
}

fn nested(files: &Files, expected: &[Vec<u8>], depth: usize, context: &str) {
    assert_whole(files, expected, context);
    if depth == 0 {
        return;
    }
    for calls in 0..calls_of_an_open(files, &options()) {
        let (store, opened) = interrupted(files, calls, false, &options());
        assert!(!opened, "a call that failed went unnoticed: {context} {calls}");
        let mut seen = Vec::new();
        for loss in LOSSES {
            let after = Files(store.after(loss));
            if !seen.contains(&after) {
                nested(&after, expected, depth - 1, &format!("{context} {calls} {loss:?}"));
                seen.push(after);
            }
        }
    }
}

#[test]
fn a_crash_at_any_call_of_recovery_two_deep_keeps_the_log() {
    let (files, expected) = worn();
    nested(&files, &expected, 2, "");
}

#[test]
fn a_crash_at_any_call_of_recovery_three_deep_keeps_the_log() {
    // The third crash is drawn from a spread of calls; the first two are exhaustive above.
    let (files, expected) = worn();
    let calls = calls_of_an_open(&files, &options());
    for first in 0..calls {
        let (store, _) = interrupted(&files, first, false, &options());
        let once = Files(store.after(LOSSES[usize::try_from(first).unwrap() % 4]));
        for second in 0..calls_of_an_open(&once, &options()) {
            let (store, _) = interrupted(&once, second, false, &options());
            let twice = Files(store.after(LOSSES[usize::try_from(second).unwrap() % 4]));
            for third in (second % 3..calls_of_an_open(&twice, &options())).step_by(3) {
                let (store, _) = interrupted(&twice, third, false, &options());
                for loss in LOSSES {
                    let context = format!("{first} {second} {third} {loss:?}");
                    assert_whole(&Files(store.after(loss)), &expected, &context);
                }
            }
        }
    }
}

#[test]
fn a_crash_never_leaves_control_pointing_at_a_removed_segment() {
    // The newest segment that CONTROL knows is wholly below head, and has a successor.
    let mut files = three_segments();
    files.control(Claim { head: 192, ..claim(2, 192) });
    let expected: Vec<_> = (8..12).map(|n| vec![n; 8]).collect();
    nested(&files, &expected, 2, "");
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
fn what_recovery_showed_is_there_after_a_power_loss() {
    let (files, expected) = worn();
    let (store, opened) = interrupted(&files, u64::MAX, false, &options());
    assert!(opened);
    for loss in LOSSES {
        assert_whole(&Files(store.after(loss)), &expected, &format!("{loss:?}"));
    }
}

#[test]
fn bytes_that_only_the_page_cache_holds_are_made_durable_before_they_are_shown() {
    // The last record is in the cache of a process that was killed, and nowhere else.
    let (files, expected) = worn();
    let store = PowerStore::new(&files.0);
    let segment = store.open(&name::segment(4)).unwrap();
    let mut whole = Files::default();
    let header = SegmentHeader { epoch: 2, durable: 240, ..header(4, 240, 3) };
    let frames = [10, 11, 12].map(|n| record(&[n; 8], 240));
    let bytes = whole.segment(&header, &frames).seg(4).clone();
    crate::store::StoreFile::write_at(&segment, 0, &bytes).unwrap();
    let recovered = open(&store, &options()).unwrap();
    let shown = bodies(&store, &recovered);
    assert_eq!(shown.len(), expected.len() + 1);
    for loss in LOSSES {
        assert_whole(&Files(store.after(loss)), &shown, &format!("{loss:?}"));
    }
}

#[test]
fn a_claim_that_only_the_page_cache_holds_is_made_durable_before_it_is_acted_on() {
    let (mut files, expected) = worn();
    files.control(claim(3, 240));
    let moved = Slot { generation: 3, claim: Claim { head: 120, ..claim(3, 240) } };
    let store = || {
        let store = PowerStore::new(&files.0);
        let control = store.open(name::CONTROL).unwrap();
        crate::store::StoreFile::write_at(&control, 0, &moved.encode()).unwrap();
        store
    };
    let whole = store();
    open(&whole, &options()).map(drop).unwrap();
    for calls in 0..=whole.calls() {
        let store = store();
        store.fail_after(calls, false);
        drop(open(&store, &options()));
        for loss in LOSSES {
            let (store, recovered) = Files(store.after(loss)).open(&options()).unwrap();
            let kept = bodies(&store, &recovered);
            // The head may be the old one or the new one, and nothing above it is missing.
            assert!(kept.ends_with(&expected), "{calls} {loss:?}");
        }
    }
}

#[test]
fn an_error_at_any_call_of_recovery_keeps_the_log() {
    let (files, expected) = worn();
    for calls in 0..calls_of_an_open(&files, &options()) {
        let (store, opened) = interrupted(&files, calls, true, &options());
        assert!(!opened, "{calls}");
        assert_whole(&Files(store.cached()), &expected, &format!("{calls}"));
        // The same process tries again on what its page cache shows.
        let recovered = open(&store, &options()).unwrap();
        assert_eq!(bodies(&store, &recovered), expected, "{calls}");
    }
}

#[test]
fn a_creation_that_was_interrupted_anywhere_is_completed_by_any_open() {
    let create = options().create_new(true).initial_lsn(Lsn::new(800));
    let nothing = Files::default();
    for calls in 0..calls_of_an_open(&nothing, &create) {
        for once in [false, true] {
            let (store, opened) = interrupted(&nothing, calls, once, &create);
            assert!(!opened, "{calls}");
            for loss in LOSSES {
                let files = Files(store.after(loss));
                if files.0.is_empty() {
                    continue;
                }
                // The initial LSN is the one that CONTROL holds, not the second caller's.
                let (_, recovered) = files.opened();
                assert_eq!(recovered.end, 800, "{calls} {loss:?}");
                let claim = recovered.control.claim();
                assert_eq!((claim.head, claim.durable), (800, 800));
                assert!(claim.newest_seq > 0 && recovered.report.last_record.is_none());
            }
        }
    }
}

#[test]
fn a_creation_that_was_interrupted_can_be_asked_for_again() {
    let create = options().create_new(true);
    let nothing = Files::default();
    let mut completed = 0;
    for calls in 0..calls_of_an_open(&nothing, &create) {
        let (store, _) = interrupted(&nothing, calls, false, &create);
        let files = Files(store.after(Loss::Nothing));
        match files.open(&create) {
            Ok(_) => completed += 1,
            // CONTROL knows a segment: somebody may have been told that the log is open.
            Err(WalError::AlreadyExists { .. }) => assert!(completed > 0),
            Err(other) => panic!("{other}"),
        }
    }
}
