//! Looking into a log's files: every byte is named, judged as a reader judges it, and whatever the
//! files hold, looking changes nothing and never panics.
//!
//! Method: logs on real files, whole and damaged; what the inspection says is compared with what
//! was appended, with what the reader says, and with itself.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "inspection/watch.rs"]
mod watch;

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cohort_wal::inspect::{Content, Inspection, SegmentState, Span, Standing};
use cohort_wal::{Lsn, Wal, WalError, WalOptions};

use common::{Dice, Id, deadline_of, directory, payload};

const FIRST_FRAME: u64 = 8192;

/// A closed log of several segments; returns the LSN and the payload of every record.
fn write_log(dir: &Path, records: u64) -> Vec<(Lsn, Vec<u8>)> {
    let wal = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10).open(dir).unwrap();
    let mut dice = Dice::new(records);
    let ids = (0..records).map(|number| Id { owner: 0, number });
    let written = ids.map(|id| {
        let data = payload(id, dice.len());
        (wal.append(&data).unwrap(), data)
    });
    let written = written.collect();
    wal.close().unwrap();
    written
}

/// The same with a checkpoint of the older half, and an image of three chunks.
fn write_checkpointed_log(dir: &Path, records: u64) {
    let written = write_log(dir, records);
    let wal = Wal::open(dir).unwrap();
    let (middle, _) = &written[written.len() / 2];
    wal.checkpoint(*middle, |image| image.write_all(&vec![7; 600_000])).unwrap();
    wal.append_and_sync(b"after it").unwrap();
    drop(wal);
}

fn spans(inspection: &Inspection, seq: u64) -> Vec<Span> {
    inspection.frames(seq).unwrap().map(Result::unwrap).collect()
}

/// Spans follow each other without a gap, from the base to where the file ends, or farther.
fn assert_tiled(inspection: &Inspection, seq: u64) -> Vec<Span> {
    let spans = spans(inspection, seq);
    let segment = inspection.segments().iter().find(|segment| segment.seq == seq).unwrap();
    let base = segment.header.as_ref().unwrap().base;
    let mut at = base;
    for span in &spans {
        assert_eq!(span.start, at, "{span:?}");
        assert!(span.bytes() > 0, "{span:?}");
        assert_eq!(span.offset, FIRST_FRAME + at.get() - base.get(), "{span:?}");
        at = span.end;
    }
    assert!(at >= segment.bytes_end().unwrap(), "{at:?} in {segment:?}");
    spans
}

fn flip(path: &Path, offset: u64) {
    let mut bytes = fs::read(path).unwrap();
    bytes[usize::try_from(offset).unwrap()] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_whole_log_is_its_records_and_every_frame_proves_it() {
    let dir = tempfile::tempdir().unwrap();
    let written = write_log(dir.path(), 200);
    let before = directory(dir.path());
    let inspection = Inspection::open(dir.path()).unwrap();
    assert!(inspection.refusal().is_none() && inspection.is_clean());
    assert!(inspection.segments().len() > 5);
    let mut found = Vec::new();
    for segment in inspection.segments() {
        for span in assert_tiled(&inspection, segment.seq) {
            assert!(!span.is_damage(), "{span:?}");
            assert!(inspection.holding(span.start)[0].seq == segment.seq);
            if span.content == Content::Record {
                let frame = inspection.frame_at(segment.seq, span.start).unwrap().unwrap();
                assert_eq!(frame.flaw, None);
                assert_eq!(frame.fields.header_crc, frame.fields.header_crc_computed);
                assert_eq!(Some(frame.fields.body_crc), frame.body_crc_computed);
                assert_eq!(frame.end(), span.end);
                assert!(frame.fields.watermark.is_none_or(|watermark| watermark <= span.start));
                assert!(frame.padding().iter().all(|byte| *byte == 0));
                let (header, fields) = (span.header.unwrap(), frame.fields);
                assert_eq!((header.len, header.more), (fields.len, fields.more));
                assert_eq!(header.watermark, fields.watermark);
                found.push((span.start, frame.body().to_vec()));
            }
        }
    }
    assert_eq!(found, written);
    let records = inspection.iter_from(written[0].0).unwrap().map(Result::unwrap);
    assert!(records.map(|record| (record.lsn(), record.into_data())).eq(written));
    let states: Vec<_> = inspection.segments().iter().map(|segment| segment.state).collect();
    let (last, others) = states.split_last().unwrap();
    assert_eq!(*last, SegmentState::Active);
    assert!(others.iter().all(|state| *state == SegmentState::Live));
    assert_eq!(directory(dir.path()), before, "looking changes nothing");
}

#[test]
fn damage_is_one_span_and_what_follows_it_is_seen() {
    for header in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let written = write_log(dir.path(), 200);
        let whole = Inspection::open(dir.path()).unwrap();
        let (lsn, _) = written[written.len() / 2];
        let segment = whole.holding(lsn)[0].clone();
        let before = spans(&whole, segment.seq);
        let index = before.iter().position(|span| span.start == lsn).unwrap();
        flip(&segment.path, before[index].offset + if header { 4 } else { 16 });

        let inspection = Inspection::open(dir.path()).unwrap();
        assert!(inspection.refusal().is_none(), "an older segment is read when it is read");
        let after = assert_tiled(&inspection, segment.seq);
        assert_eq!(after.len(), before.len());
        assert!(after[index].is_damage());
        assert_eq!((after[index].start, after[index].end), (lsn, before[index].end));
        for (other, (now, then)) in after.iter().zip(&before).enumerate() {
            assert!(other == index || now == then);
        }
        let frame = inspection.frame_at(segment.seq, lsn).unwrap().unwrap();
        assert!(frame.flaw.is_some());
        let header_matches = frame.fields.header_crc == frame.fields.header_crc_computed;
        assert_eq!(header_matches, !header);
        let mut records = inspection.iter_from(written[0].0).unwrap();
        let damage = records.find_map(Result::err).unwrap();
        let WalError::Corruption { start, .. } = damage else { panic!("{damage:?}") };
        assert_eq!(start, lsn);
    }
}

#[test]
fn bytes_that_are_gone_are_missing_and_not_zeros() {
    let dir = tempfile::tempdir().unwrap();
    let written = write_log(dir.path(), 200);
    let whole = Inspection::open(dir.path()).unwrap();
    for segment in [&whole.segments()[1], whole.segments().last().unwrap()] {
        let bytes = fs::read(&segment.path).unwrap();
        let frames = spans(&whole, segment.seq);
        let cut = frames.iter().rfind(|span| span.content == Content::Record).unwrap();
        let keep = usize::try_from(cut.offset).unwrap() + 8;
        fs::write(&segment.path, &bytes[..keep]).unwrap();
        let inspection = Inspection::open(dir.path()).unwrap();
        let last = *assert_tiled(&inspection, segment.seq).last().unwrap();
        assert_eq!((last.content, last.end), (Content::Missing, cut.end));
        assert!(last.is_damage());
        fs::write(&segment.path, bytes).unwrap();
    }
    assert!(Inspection::open(dir.path()).unwrap().end_lsn() > Some(written[199].0));
}

#[test]
fn frames_beyond_a_cut_are_dead_and_a_place_has_one_segment_that_counts() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let kept = wal.append_and_sync(b"kept").unwrap();
    let carried = wal.append(b"carried into the next segment").unwrap();
    wal.flush().unwrap();
    // What a process leaves that dies here; the next one finds the flushed record and carries it.
    let copy = tempfile::tempdir().unwrap();
    for (name, bytes) in directory(dir.path()) {
        fs::write(copy.path().join(name), bytes).unwrap();
    }
    let wal = Wal::open(copy.path()).unwrap();
    wal.close().unwrap();
    let inspection = Inspection::open(copy.path()).unwrap();
    let holders: Vec<_> = inspection.holding(carried).iter().map(|segment| segment.seq).collect();
    assert_eq!(holders, [2, 1]);
    let old = assert_tiled(&inspection, 1);
    assert!(old.iter().all(|span| span.start < carried || span.standing == Standing::Dead));
    let new = assert_tiled(&inspection, 2);
    assert_eq!((new[0].start, new[0].standing), (carried, Standing::Durable));
    assert_eq!(inspection.holding(kept)[0].seq, 1);
}

#[test]
fn beside_a_busy_writer_nothing_looks_damaged() {
    deadline_of(60, || {
        let dir = tempfile::tempdir().unwrap();
        let wal = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
        let wal = wal.open(dir.path()).unwrap();
        let busy = AtomicBool::new(true);
        let found = thread::scope(|scope| {
            scope.spawn(|| {
                let mut dice = Dice::new(7);
                for number in (0..).take_while(|_| busy.load(Ordering::Relaxed)) {
                    wal.append(&payload(Id { owner: 0, number }, dice.len())).unwrap();
                    if dice.below(32) == 0 {
                        wal.sync().unwrap();
                    }
                }
            });
            let mut found = (None, Vec::new());
            while wal.stats().rotations < 8 && found == (None, Vec::new()) {
                found = look_at(dir.path());
            }
            // The writer is stopped before a failure is told, so that the test ends.
            busy.store(false, Ordering::Relaxed);
            found
        });
        assert_eq!(found, (None, Vec::new()));
    });
}

/// Why a log is refused, and what in it looks damaged.
fn look_at(dir: &Path) -> (Option<String>, Vec<Span>) {
    let inspection = match Inspection::open(dir) {
        Ok(inspection) => inspection,
        Err(error) => return (Some(error.to_string()), Vec::new()),
    };
    let all = inspection.segments().iter().flat_map(|segment| spans(&inspection, segment.seq));
    let damage = all.filter(Span::is_damage).collect();
    (inspection.refusal().map(ToString::to_string), damage)
}

#[test]
fn what_a_writer_removes_meanwhile_is_told_and_the_last_segment_is_shown() {
    let dir = tempfile::tempdir().unwrap();
    let wal = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
    let wal = wal.open(dir.path()).unwrap();
    let append = || wal.append_and_sync(&[7; 1000]).unwrap();
    for _ in 0..40 {
        append();
    }
    let inspection = Inspection::open(dir.path()).unwrap();
    let [older @ .., last] = inspection.segments() else { panic!("no segments") };
    let expected = spans(&inspection, last.seq);
    for _ in 0..40 {
        append();
    }
    let head = append();
    wal.truncate_before(head).unwrap();

    assert!(older.len() > 1 && inspection.segments().iter().all(|segment| !segment.path.exists()));
    for segment in older {
        let base = segment.header.unwrap().base;
        let gone = WalError::Truncated { lsn: base, head };
        assert_eq!(inspection.frames(segment.seq).unwrap_err().to_string(), gone.to_string());
        assert_eq!(
            inspection.frame_at(segment.seq, base).unwrap_err().to_string(),
            gone.to_string()
        );
    }
    let witnessed = |spans: Vec<Span>| {
        let durable = spans.into_iter().filter(|span| span.standing == Standing::Durable);
        durable.collect::<Vec<_>>()
    };
    let shown = witnessed(spans(&inspection, last.seq));
    assert!(!shown.is_empty());
    assert_eq!(shown, witnessed(expected));
    let mut watch = inspection.watch().unwrap();
    let newest = std::iter::from_fn(|| watch.next_frame().unwrap()).last();
    assert_eq!(newest.map(|span| span.start), Some(head), "the watch goes on behind what is gone");
}

#[test]
fn a_segment_that_is_missing_is_not_taken_for_truncated() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 200);
    let inspection = Inspection::open(dir.path()).unwrap();
    let segment = &inspection.segments()[1];
    fs::remove_file(&segment.path).unwrap();
    let refused = Inspection::open(dir.path()).unwrap();
    let why = refused.refusal().unwrap();
    assert!(why.is_corruption(), "{why}");
    assert_eq!(inspection.frames(segment.seq).unwrap_err().to_string(), why.to_string());
}

#[test]
fn what_does_not_hang_together_is_shown_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 200);
    fs::write(dir.path().join("CONTROL"), [0xA5; 8192]).unwrap();
    fs::write(dir.path().join("notes"), "mine").unwrap();
    let leftover = format!(".cohort-{:032x}.tmp", 7);
    fs::write(dir.path().join(&leftover), "unfinished").unwrap();
    let inspection = Inspection::open(dir.path()).unwrap();
    assert!(inspection.refusal().unwrap().is_corruption());
    let slots = inspection.control().unwrap();
    assert!(slots.iter().all(|slot| slot.claim.is_err() && !slot.counts));
    assert_eq!(inspection.leftovers(), [leftover]);
    assert_eq!(inspection.unknown_files(), ["notes"]);
    assert_eq!((inspection.head_lsn(), inspection.end_lsn()), (None, None));
    for segment in inspection.segments() {
        assert_eq!((segment.state, segment.end), (SegmentState::Unknown, None));
        let spans = assert_tiled(&inspection, segment.seq);
        assert!(spans.iter().any(|span| span.content == Content::Record));
        assert!(spans.iter().all(|span| span.standing == Standing::Unknown));
    }
    assert!(inspection.iter_from(Lsn::new(0)).unwrap_err().is_corruption());

    let last = inspection.segments().last().unwrap();
    fs::write(&last.path, "no header").unwrap();
    let inspection = Inspection::open(dir.path()).unwrap();
    let last = inspection.segments().last().unwrap();
    assert!(last.header.is_err());
    assert!(inspection.frames(last.seq).unwrap_err().is_corruption());
    assert!(matches!(inspection.frames(99), Err(WalError::NotFound { .. })));
}

#[test]
fn directories_without_a_log_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let absent = Inspection::open(dir.path().join("absent"));
    assert!(matches!(absent, Err(WalError::NotFound { .. })));
    assert!(matches!(Inspection::open(dir.path()), Err(WalError::NotFound { .. })));
    fs::write(dir.path().join("CONTROL"), "volume up").unwrap();
    assert!(matches!(Inspection::open(dir.path()), Err(WalError::NotALog { .. })));
}

/// Overwrites, cuts and zeroes parts of files.
fn mangle(dir: &Path, dice: &mut Dice) {
    let files: Vec<_> = directory(dir).into_iter().collect();
    let mut below = |bound: usize| {
        let bound = u64::try_from(bound.max(1)).unwrap();
        usize::try_from(dice.below(bound)).unwrap()
    };
    for _ in 0..=below(2) {
        let (name, bytes) = &files[below(files.len())];
        let mut bytes = bytes.clone();
        let at = below(bytes.len());
        let end = (at + below(64)).min(bytes.len());
        match below(4) {
            0 => bytes.truncate(at),
            1 => bytes[at..end].fill(0),
            2 => bytes[at..].fill(0xFF),
            _ => bytes[at..end].iter_mut().for_each(|byte| *byte ^= 0x5A),
        }
        fs::write(dir.join(name), bytes).unwrap();
    }
}

#[test]
fn whatever_the_files_hold_every_byte_is_named_and_none_is_changed() {
    let logs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    write_log(logs[0].path(), 60);
    write_checkpointed_log(logs[1].path(), 60);
    let (mut dice, mut opened) = (Dice::new(24), [0; 2]);
    for whole in logs.iter().cycle().take(200) {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in directory(whole.path()) {
            fs::write(dir.path().join(name), bytes).unwrap();
        }
        mangle(dir.path(), &mut dice);
        let before = directory(dir.path());
        let mut refused = true;
        if let Ok(inspection) = Inspection::open(dir.path()) {
            refused = inspection.refusal().is_some();
            let read_only = WalOptions::new().open_read_only(dir.path());
            // A reader judges a snapshot when it reads it.
            let of_image = matches!(inspection.refusal(), Some(WalError::Corruption { path, .. })
                if path.extension().is_some_and(|kind| kind == "snap"));
            assert_eq!(read_only.is_err(), refused && !of_image, "{:?}", inspection.refusal());
            for segment in inspection.segments().iter().filter(|s| s.header.is_ok()) {
                for span in assert_tiled(&inspection, segment.seq) {
                    let middle = Lsn::new(span.start.get() + 3);
                    for lsn in [span.start, middle, span.end] {
                        inspection.frame_at(segment.seq, lsn).unwrap();
                    }
                }
            }
        }
        assert_eq!(directory(dir.path()), before);
        // What it says of an opening is what an opening says.
        let opening = WalOptions::new().create(false).open(dir.path());
        assert_eq!(opening.is_err(), refused, "{opening:?}");
        opened[usize::from(opening.is_ok())] += 1;
    }
    assert!(opened.iter().all(|count| *count > 20), "{opened:?}");
}
