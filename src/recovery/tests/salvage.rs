//! What salvage does with bytes that no engine writes.

use super::*;
use crate::error::WalError;
use crate::recovery::walk::Found;
use crate::recovery::{Route, route};

/// What a walk shows: LSN and body of each record, and each range that it skips.
type Shown = (Vec<(u64, Vec<u8>)>, Vec<(u64, u64)>);

fn shown<S: WalStore>(store: &S) -> Shown {
    let Route { mut walk, troubles, .. } = route(store).unwrap();
    assert!(troubles.is_empty(), "{troubles:?}");
    let (mut records, mut skipped) = (Vec::new(), Vec::new());
    loop {
        match walk.next(store).unwrap() {
            Found::Frame { lsn, header } if header.kind == Kind::Record => {
                records.push((lsn, walk.body().to_vec()));
            }
            Found::Frame { .. } => {}
            Found::Skipped { start, end, error } => {
                assert!(matches!(error, WalError::Corruption { .. }), "{error}");
                skipped.push((start, end));
            }
            Found::End => return (records, skipped),
        }
    }
}

/// One segment whose claim says that all of it was durable.
fn sealed(frames: &[Frame]) -> Files {
    let mut files = Files::default();
    let limits = SegmentHeader { max_record: u32::MAX, ..header(1, 0, 0) };
    files.segment(&limits, frames);
    let end = u64::try_from(files.seg(1).len()).unwrap() - 8192;
    files.control(claim(1, end));
    files
}

#[test]
fn frames_inside_the_body_of_a_damaged_record_are_not_salvaged() {
    // The body of the second record holds a frame that is valid where it stands.
    let inner = encode(&SegmentHeader { base: 40, ..header(1, 0, 0) }, &[record(b"inside!!", 0)]);
    let mut body = inner[8192..].to_vec();
    body.resize(40, 7);
    let mut files = sealed(&[record(b"before!!", 0), record(&body, 0), record(b"behind!!", 0)]);
    let last = 8192 + 24 + 16 + body.len() - 1;
    files.seg(1)[last] ^= 1;
    let (records, skipped) = shown(&files.store());
    assert_eq!(records, [(0, b"before!!".to_vec()), (80, b"behind!!".to_vec())]);
    assert_eq!(skipped, [(24, 80)], "the header of the damaged record tells how long it is");
}

#[test]
fn a_record_behind_a_damaged_header_is_salvaged_wherever_it_begins() {
    let block = crate::scan::BLOCK;
    for len in [0, 8, block - 40, block - 32, block - 24, block - 16, block, 3 * block + 8] {
        let mut files = sealed(&[record(&vec![3; len], 0), record(b"found", 0)]);
        files.seg(1)[8192] ^= 1;
        let (records, skipped) = shown(&files.store());
        let at = u64::try_from(16 + len).unwrap();
        assert_eq!((records, skipped), (vec![(at, b"found".to_vec())], vec![(0, at)]), "{len}");
    }
}

#[test]
fn headers_of_another_place_and_lengths_that_do_not_fit_are_not_believed() {
    let mut files = sealed(&[record(&[1; 64], 0), record(b"found", 0)]);
    let seed = header(1, 0, 0).seed();
    let mut place = |at: usize, lsn: u64, len: u32| {
        let mut forged = open_header(Kind::Record, 0, len, 1);
        seal_header(&mut forged, seed, lsn, None);
        files.seg(1)[8192 + at..8192 + at + 16].copy_from_slice(&forged);
    };
    place(0, 8, 1000);
    place(24, 24, 1_000_000);
    let (records, skipped) = shown(&files.store());
    assert_eq!((records, skipped), (vec![(80, b"found".to_vec())], vec![(0, 80)]));
}

#[cfg(feature = "sim")]
#[test]
fn work_is_linear_in_what_a_hostile_log_holds() {
    use crate::sim::{Profile, SimStore};

    // Headers whose bodies do not match: each the rest of the file long, or none of them so.
    for far in [true, false] {
        let bytes = 1_u64 << 20;
        let mut files = sealed(&[record(&vec![0; 1 << 20], 0), record(b"behind!!", 0)]);
        files.seg(1)[8192] ^= 1;
        let seed = header(1, 0, 0).seed();
        for lsn in (16..bytes).step_by(16) {
            let len = if far { u32::try_from(bytes - lsn).unwrap() } else { 24 };
            let mut forged = open_header(Kind::Record, 0, len, 1);
            seal_header(&mut forged, seed, lsn, None);
            let at = 8192 + usize::try_from(lsn).unwrap();
            files.seg(1)[at..at + 16].copy_from_slice(&forged);
        }
        let snapshot = files.0.clone().into_iter().collect();
        let disk = SimStore::from_snapshot(snapshot, Profile::Ext4, 1);
        let Route { mut walk, .. } = route(&disk).unwrap();
        // Looking at it is recovery's work, which has a budget of its own.
        let before = disk.bytes_read();
        while !matches!(walk.next(&disk).unwrap(), Found::End) {}
        let read = disk.bytes_read() - before;
        assert!(read < 4 * bytes, "{far}: {read} bytes read of {bytes}");
    }
}
