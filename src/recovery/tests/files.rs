//! Missing, foreign, swapped and damaged files.

use super::*;
use crate::format::BLOCK_BYTES;
use crate::format::snapshot::SnapshotHeader;
use crate::lsn::Lsn;

fn refused(files: &Files) -> WalError {
    match files.open(&options()) {
        Err(error) => error,
        Ok((_, recovered)) => panic!("opened with {:?}", recovered.report),
    }
}

fn not_a_log(files: &Files) -> String {
    match refused(files) {
        WalError::NotALog { path, .. } => path.file_name().unwrap().to_string_lossy().into_owned(),
        other => panic!("{other}"),
    }
}

#[test]
fn a_new_log_begins_where_the_options_say_and_leaves_other_files_alone() {
    let mut files = Files::default();
    files.0.insert("notes.txt".to_owned(), b"mine".to_vec());
    files.0.insert("1.wal".to_owned(), b"mine too".to_vec());
    let (store, recovered) = files.open(&options().initial_lsn(Lsn::new(64))).unwrap();
    assert_eq!(recovered.end, 64);
    assert_eq!(recovered.report.unknown_files, ["1.wal", "notes.txt"]);
    let after = Files::of(&store);
    assert_eq!(after.0["notes.txt"], b"mine");
    assert_eq!(after.0.len(), 4);
}

#[test]
fn options_decide_whether_a_log_may_be_or_must_be_new() {
    let nothing = Files::default();
    let missing = nothing.open(&options().create(false));
    assert!(matches!(missing, Err(WalError::NotFound { .. })));
    let there = three_segments().open(&options().create_new(true));
    assert!(matches!(there, Err(WalError::AlreadyExists { .. })));
    assert!(three_segments().open(&options().create(false)).is_ok());
}

#[test]
fn a_second_handle_is_locked_out_until_the_first_lets_go() {
    let (store, recovered) = three_segments().opened();
    assert!(matches!(open(&store, &options()), Err(WalError::Locked { .. })));
    recovered.control.unlock(&store);
    assert!(matches!(recovered.control.witness(|_| ()), Err(WalError::Closed)));
    assert!(open(&store, &options()).is_ok());
}

#[test]
fn every_missing_file_is_noticed() {
    let whole = three_segments();
    for name in whole.0.keys() {
        let mut files = whole.clone();
        files.0.remove(name);
        assert!(refused(&files).is_corruption(), "{name}");
    }
    let mut files = whole;
    files.0.retain(|name, _| name == "CONTROL");
    assert!(refused(&files).is_corruption());
}

#[test]
fn files_that_changed_places_are_noticed() {
    let whole = three_segments();
    for a in 1..=4 {
        for b in (1..=4).filter(|b| *b != a) {
            let mut copied = whole.clone();
            let Some(bytes) = copied.0.get(&name::segment(a)).cloned() else { continue };
            let replaced = copied.0.insert(name::segment(b), bytes);
            assert!(refused(&copied).is_corruption(), "copy of {a} as {b}");
            match replaced {
                Some(replaced) => copied.0.insert(name::segment(a), replaced),
                None => copied.0.remove(&name::segment(a)),
            };
            assert!(refused(&copied).is_corruption(), "{a} and {b} swapped");
        }
    }
}

#[test]
fn a_segment_of_another_log_is_refused_and_kept() {
    let mut files = three_segments();
    files.segment(&SegmentHeader { log_id: [1; 16], ..header(4, 288, 3) }, &[]);
    assert_eq!(files.corrupt(), "a segment belongs to another log");
}

#[test]
fn a_file_that_is_not_ours_is_named() {
    let mut files = three_segments();
    files.0.insert(name::segment(9), b"somebody's".to_vec());
    assert_eq!(not_a_log(&files), name::segment(9));
    // One that the log needs is damage instead.
    for seq in 1..=3 {
        let mut files = three_segments();
        files.seg(seq).fill(0);
        assert_eq!(files.corrupt(), "a segment's header is gone");
    }
    let mut alone = Files::default();
    alone.0.insert(name::segment(1), b"somebody's".to_vec());
    assert_eq!(not_a_log(&alone), name::segment(1));
    alone.0.insert("CONTROL".to_owned(), b"somebody's".to_vec());
    assert_eq!(not_a_log(&alone), "CONTROL");
    alone.0.insert("00000000000000000007.snap".to_owned(), b"COHRTSNP".to_vec());
    alone.0.remove("CONTROL");
    assert_eq!(alone.corrupt(), "CONTROL is missing");
}

#[test]
fn a_newer_version_is_refused() {
    for (offset, value) in [(8, 2), (12, 1)] {
        for name in ["CONTROL".to_owned(), name::segment(1), name::segment(3)] {
            let mut files = three_segments();
            let bytes = files.file(&name);
            bytes[offset] = value;
            let crc = crc32c::crc32c(&bytes[..BLOCK_BYTES - 4]);
            bytes[BLOCK_BYTES - 4..BLOCK_BYTES].copy_from_slice(&crc.to_le_bytes());
            assert!(matches!(refused(&files), WalError::UnsupportedVersion { .. }), "{name}");
        }
    }
}

#[test]
fn an_encrypted_log_needs_its_feature_and_its_key() {
    let mut files = three_segments();
    files.segment(&SegmentHeader { cipher: 1, ..header(3, 192, 2) }, &[]);
    let missing = WalError::FeatureMissing { feature: "aead" };
    let expected = if cfg!(feature = "aead") { WalError::WrongKey } else { missing };
    assert_eq!(refused(&files).to_string(), expected.to_string());
    files.segment(&SegmentHeader { cipher: 2, ..header(3, 192, 2) }, &[]);
    assert!(matches!(refused(&files), WalError::UnsupportedVersion { .. }));
}

#[test]
fn one_bad_header_copy_is_used_around_and_reported_and_two_are_damage() {
    for (seq, copy) in [(1, 0), (1, 4096), (3, 0), (3, 4096)] {
        let mut files = three_segments();
        files.seg(seq)[copy + 60] ^= 1;
        let (store, recovered) = files.opened();
        let path = store.locate(&name::segment(seq));
        assert_eq!(recovered.report.damaged_copies, [path]);
        assert_eq!(bodies(&store, &recovered).len(), 12);
        files.seg(seq)[4096 - copy + 60] ^= 1;
        assert_eq!(files.corrupt(), "both copies of a segment's header are damaged");
    }
}

#[test]
fn one_bad_control_slot_is_no_damage_and_is_repaired() {
    for slot in [0, 4096] {
        let mut files = three_segments();
        files.file("CONTROL")[slot + 30] ^= 1;
        let (store, recovered) = files.opened();
        assert_eq!(recovered.report.damaged_copies, [store.locate("CONTROL")]);
        drop(recovered);
        let (_, recovered) = Files::of(&store).opened();
        assert!(recovered.report.damaged_copies.is_empty());
        files.file("CONTROL")[4096 - slot + 30] ^= 1;
        assert_eq!(files.corrupt(), "both slots of CONTROL are damaged");
    }
}

#[test]
fn every_truncation_of_control_is_survived_or_refused() {
    for len in 0..CONTROL_BYTES {
        let mut files = three_segments();
        files.file("CONTROL").truncate(len);
        match files.open(&options()) {
            Ok((store, recovered)) => {
                assert!(len >= BLOCK_BYTES);
                assert_eq!(recovered.report.damaged_copies.is_empty(), len >= 4096 + BLOCK_BYTES);
                assert_eq!(bodies(&store, &recovered).len(), 12);
            }
            Err(error) => assert!(error.is_corruption() && len < BLOCK_BYTES, "{len} {error}"),
        }
    }
}

#[test]
fn claims_that_contradict_each_other_or_themselves_are_refused() {
    let good = claim(3, 192);
    let slot = |generation, claim| Slot { generation, claim };
    for (first, second) in [
        (slot(5, good), slot(5, Claim { durable: 216, ..good })),
        (slot(5, good), slot(6, Claim { log_id: [3; 16], ..good })),
        (slot(5, good), slot(6, Claim { head: 240, durable: 216, ..good })),
        (slot(5, good), slot(6, Claim { durable: 193, ..good })),
        (slot(5, good), slot(6, Claim { durable: u64::MAX - 7, ..good })),
        (slot(5, good), slot(u64::MAX, good)),
        (slot(5, good), slot(6, Claim { snapshot: 96, ..good })),
    ] {
        let mut files = three_segments();
        files.0.insert("CONTROL".to_owned(), control_bytes(first, second));
        assert!(refused(&files).is_corruption(), "{second:?}");
    }
}

#[test]
fn the_slot_with_the_higher_generation_counts() {
    let (old, new) = (claim(3, 192), Claim { head: 120, ..claim(3, 192) });
    for slots in [[(1, old), (2, new)], [(2, new), (1, old)]] {
        let [first, second] = slots.map(|(generation, claim)| Slot { generation, claim });
        let mut files = three_segments();
        files.0.insert("CONTROL".to_owned(), control_bytes(first, second));
        assert_eq!(files.opened().1.control.claim().head, 120);
    }
}

#[test]
fn segments_below_head_and_dead_ones_go() {
    let mut files = three_segments();
    files.segment(&SegmentHeader { epoch: 2, durable: 216, ..header(4, 216, 3) }, &[]);
    files.segment(&SegmentHeader { epoch: 3, durable: 216, ..header(5, 216, 3) }, &[]);
    files.control(Claim { head: 96, ..claim(4, 216) });
    let (store, recovered) = files.opened();
    let live: Vec<_> = recovered.live.iter().map(|header| header.seq).collect();
    assert_eq!(live, [2, 3, 6]);
    assert_eq!(Files::of(&store).0.len(), 4);
    assert_eq!(bodies(&store, &recovered).len(), 5);
}

#[test]
fn head_at_the_end_leaves_an_empty_log() {
    let mut files = three_segments();
    files.control(Claim { head: 288, ..claim(3, 288) });
    let (store, recovered) = files.opened();
    assert!(records(&store, &recovered).is_empty());
    assert_eq!((recovered.report.last_record, recovered.end), (None, 288));
    // The newest segment that CONTROL knew is still there: nothing else proves it may go.
    assert_eq!(recovered.live.len(), 2);
}

#[test]
fn leftover_snapshots_of_ours_go_and_those_of_others_stay() {
    let mut files = three_segments();
    files.0.insert("00000000000000000024.snap".to_owned(), b"COHRTSNP and more".to_vec());
    files.0.insert("00000000000000000048.snap".to_owned(), b"somebody's".to_vec());
    let (store, _recovered) = files.opened();
    let after = Files::of(&store);
    assert!(!after.0.contains_key("00000000000000000024.snap"));
    assert!(after.0.contains_key("00000000000000000048.snap"));
}

#[test]
fn the_snapshot_that_counts_must_be_there_and_stays() {
    let mut files = three_segments();
    files.control(Claim { snapshot: 24, ..claim(3, 192) });
    assert_eq!(files.corrupt(), "the snapshot that CONTROL names is missing");
    files.0.insert("00000000000000000024.snap".to_owned(), b"COHRTSNP and more".to_vec());
    assert_eq!(files.corrupt(), "the header of the snapshot is damaged");
    let whole = |header: SnapshotHeader| [&header.encode()[..], &header.end(0, 0, &[])].concat();
    let header = SnapshotHeader::plain(LOG_ID, 24);
    for other in
        [SnapshotHeader { lsn: 32, ..header }, SnapshotHeader { log_id: [1; 16], ..header }]
    {
        files.0.insert("00000000000000000024.snap".to_owned(), whole(other));
        assert_eq!(files.corrupt(), "the snapshot is of another log, or of another place");
    }
    files.0.insert("00000000000000000024.snap".to_owned(), whole(header)[..535].to_vec());
    assert_eq!(files.corrupt(), "the end of the snapshot is damaged");
    files.0.insert("00000000000000000024.snap".to_owned(), whole(header));
    let (store, _recovered) = files.opened();
    assert!(Files::of(&store).0.contains_key("00000000000000000024.snap"));
}

#[test]
fn nothing_is_appended_to_a_log_at_the_end_of_the_lsn_space() {
    let base = (1 << 62) - 24;
    let mut files = Files::default();
    files.segment(&SegmentHeader { durable: base, ..header(1, base, 0) }, &[record(b"a", 0)]);
    files.control(Claim { head: base, ..claim(1, base) });
    assert!(matches!(refused(&files), WalError::LsnExhausted));
}
