//! A watch shows what a writer adds.

use cohort_wal::inspect::{Inspection, Standing, Watch};
use cohort_wal::{Lsn, Wal};

use super::{flip, write_log};

/// What a watch shows until there is nothing more: LSNs, lengths and watermarks.
fn watched(watch: &mut Watch) -> Vec<(Lsn, u32, Option<Lsn>)> {
    std::iter::from_fn(|| watch.next_frame().unwrap())
        .map(|span| {
            assert_eq!(span.standing, Standing::Unwitnessed);
            let header = span.header.unwrap();
            (span.start, header.len, header.watermark)
        })
        .collect()
}

#[test]
fn a_watch_shows_each_frame_once_across_segments_and_goes_on_behind_a_cut() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("log");
    let wal = Wal::open(&dir).unwrap();
    wal.append_and_sync(b"before").unwrap();
    let mut watch = Inspection::open(&dir).unwrap().watch().unwrap();
    let seen: Vec<_> = watched(&mut watch).into_iter().map(|(lsn, ..)| lsn).collect();
    assert!(seen.len() <= 1, "witnessed by no frame, so it may show: {seen:?}");
    let mut lsns = Vec::new();
    for round in 0..5 {
        let durable = wal.durable_lsn();
        let one = wal.append(&[1; 30]).unwrap();
        let two = wal.append_batch_and_sync(&[&[2; 40][..], &[3; 50]]).unwrap()[1];
        lsns.extend([one, two]);
        let frames = watched(&mut watch);
        assert_eq!(frames.len(), 3, "{frames:?}");
        assert_eq!((frames[0].0, frames[0].1), (one, 30));
        assert_eq!((frames[2].0, frames[2].1), (two, 50));
        assert!(frames.iter().all(|(_, _, watermark)| *watermark == Some(durable)));
        assert!(watched(&mut watch).is_empty());
        if round % 2 == 0 {
            wal.rotate().unwrap();
        }
    }
    wal.truncate_after(lsns[3]).unwrap();
    let again = wal.append_and_sync(b"in place of what was cut").unwrap();
    let frames = watched(&mut watch);
    assert_eq!(frames.iter().map(|frame| frame.0).collect::<Vec<_>>(), [again]);
    assert!(again < lsns[5], "the cut took something away");
}

#[test]
fn a_log_that_is_refused_is_not_watched() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 200);
    flip(&dir.path().join("CONTROL"), 100);
    flip(&dir.path().join("CONTROL"), 4096 + 100);
    let inspection = Inspection::open(dir.path()).unwrap();
    assert!(inspection.watch().unwrap_err().is_corruption());
}

#[test]
fn a_log_is_watched_whose_last_segment_holds_nothing_that_is_witnessed() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    for payload in [&b"one"[..], b"two"] {
        wal.append_and_sync(payload).unwrap();
    }
    wal.append(b"three").unwrap();
    wal.rotate().unwrap();
    let inspection = Inspection::open(dir.path()).unwrap();
    let last = inspection.segments().last().unwrap();
    assert!(inspection.end_lsn() < Some(last.header.unwrap().base), "the end is in an older one");
    wal.append_and_sync(b"four").unwrap();
    wal.rotate().unwrap();
    let five = wal.append_and_sync(b"five").unwrap();
    wal.truncate_before(five).unwrap();
    assert!(inspection.segments().iter().all(|segment| !segment.path.exists()));
    let frames = watched(&mut inspection.watch().unwrap());
    assert_eq!(frames.last().map(|frame| frame.0), Some(five));
}

#[test]
fn a_watch_does_not_pass_over_a_segment_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let first = wal.append_and_sync(b"in the first segment").unwrap();
    let mut watch = Inspection::open(dir.path()).unwrap().watch().unwrap();
    for payload in [&b"in the second"[..], b"in the third"] {
        wal.rotate().unwrap();
        wal.append_and_sync(payload).unwrap();
    }
    let segments = Inspection::open(dir.path()).unwrap();
    std::fs::remove_file(&segments.segments()[1].path).unwrap();
    assert!(watched(&mut watch).iter().all(|frame| frame.0 == first));
}
