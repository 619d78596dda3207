//! The log's own bytes as payloads.

use cohort_wal::{Lsn, MemStore, Preallocate, Wal};

use super::{FRAME, Files, HEADER_AREA, RECORD, newest, offset, options, store};
use crate::common::{Id, payload};

fn contents(wal: &Wal<MemStore>) -> Vec<(Lsn, Vec<u8>)> {
    let records = wal.iter().unwrap().map(Result::unwrap);
    records.map(|record| (record.lsn(), record.into_data())).collect()
}

/// A log whose newest segment is full of copies of its own frames and files, none durable.
struct Copies {
    files: Files,
    records: Vec<(Lsn, Vec<u8>)>,
    /// The first record that is not durable.
    loose: usize,
    end: Lsn,
}

fn copies() -> Copies {
    // One segment holds it all.
    let options = options(Preallocate::Off).segment_bytes(1 << 20);
    let memory = MemStore::new();
    let wal = options.clone().open_store(memory.clone()).unwrap();
    for number in 0..4 {
        wal.append(&payload(Id { owner: 1, number }, RECORD)).unwrap();
    }
    wal.sync().unwrap();
    for number in 4..16 {
        wal.append(&payload(Id { owner: 1, number }, RECORD)).unwrap();
    }
    wal.flush().unwrap();
    let mut crashed = memory.snapshot().files().clone();
    let old = crashed[&newest(&crashed)].clone();
    // The first loose record is torn, so the next epoch goes on in its place.
    let torn = HEADER_AREA + 4 * FRAME;
    crashed.get_mut(&newest(&crashed)).unwrap()[torn + 16] ^= 1;

    let memory = store(&crashed);
    let wal = options.open_store(memory.clone()).unwrap();
    let mut records = contents(&wal);
    assert_eq!(records.len(), 4);
    let mut append = |body: &[u8]| records.push((wal.append(body).unwrap(), body.to_vec()));
    // The cut frames of the old epoch, each exactly at its own LSN, as far as it goes.
    append(&old[torn + 16..]);
    // Whole frames, aligned as frames are.
    old[HEADER_AREA..].chunks(FRAME).for_each(&mut append);
    // The same of this epoch, among them frames that hold frames.
    wal.flush().unwrap();
    let own = memory.snapshot().files().clone();
    let own = &own[&newest(&own)];
    own[HEADER_AREA..].chunks(FRAME).for_each(&mut append);
    append(&own[HEADER_AREA..]);
    // Whole files.
    append(&old);
    append(own);
    wal.flush().unwrap();
    let end = wal.end_lsn();
    Copies { files: memory.snapshot().files().clone(), records, loose: 4, end }
}

/// Opens the log; what it shows must be what was appended up to `kept` records.
fn assert_shows(copies: &Copies, files: &Files, kept: usize, what: &str) {
    let wal = options(Preallocate::Off).open_store(store(files)).unwrap();
    let end = copies.records.get(kept).map_or(copies.end, |(lsn, _)| *lsn);
    assert!(contents(&wal) == copies.records[..kept], "{what}: {kept} records expected");
    assert_eq!(wal.end_lsn(), end, "{what}");
}

#[test]
fn a_torn_tail_full_of_copies_of_frames_shows_none_of_them() {
    let copies = copies();
    let name = newest(&copies.files);
    let file = &copies.files[&name];
    let first = offset(file, copies.records[copies.loose].0);
    assert_eq!(offset(file, copies.end), file.len());
    assert!(file.len() - first > 16 << 10);
    for cut in (first..=file.len()).step_by(8) {
        let mut files = copies.files.clone();
        files.get_mut(&name).unwrap().truncate(cut);
        let ends = copies.records.iter().skip(1).map(|(lsn, _)| *lsn).chain([copies.end]);
        let kept = ends.take_while(|end| offset(file, *end) <= cut).count();
        assert_shows(&copies, &files, kept, &format!("cut at {cut}"));
    }
}

#[test]
fn frames_inside_a_payload_witness_nothing_when_its_own_header_is_lost() {
    let copies = copies();
    let name = newest(&copies.files);
    for (kept, (lsn, _)) in copies.records.iter().enumerate().skip(copies.loose) {
        let mut files = copies.files.clone();
        let at = offset(&copies.files[&name], *lsn);
        files.get_mut(&name).unwrap()[at..at + 16].fill(0);
        assert_shows(&copies, &files, kept, &format!("header {kept} lost"));
    }
}
