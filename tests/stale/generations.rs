//! Segments of earlier times, put back under their names.

use cohort_wal::{Lsn, MemStore, Preallocate};

use super::{CONTROL, FRAME, Files, Model, append, newest, offset, open, options, store};
use crate::common::identify;

/// A log that crashed and was torn again and again, with all that it was on the way.
struct Past {
    snapshots: Vec<Files>,
    now: Files,
    /// What the log holds now.
    model: Model,
}

fn past(close: bool) -> Past {
    let (mut files, mut model, mut snapshots) = (Files::new(), Model::new(), Vec::new());
    for round in 0..4 {
        let memory = if files.is_empty() { MemStore::new() } else { store(&files) };
        let wal = options(Preallocate::Off).open_store(memory.clone()).unwrap();
        let mut remember = || snapshots.push(memory.snapshot().files().clone());
        remember();
        append(&wal, &mut model, round, 3);
        wal.sync().unwrap();
        remember();
        wal.rotate().unwrap();
        append(&wal, &mut model, round, 2);
        wal.sync().unwrap();
        remember();
        append(&wal, &mut model, round, 3);
        wal.flush().unwrap();
        remember();
        if round < 3 {
            // Two of the three loose records are torn away.
            files = memory.snapshot().files().clone();
            let file = files.get_mut(&newest(&files)).unwrap();
            let torn = offset(file, wal.end_lsn()) - 2 * FRAME;
            file[torn + 16] ^= 1;
            model.truncate(model.len() - 2);
        } else {
            if close {
                wal.close().unwrap();
            }
            files = memory.snapshot().files().clone();
        }
    }
    snapshots.retain(|snapshot| *snapshot != files);
    assert_eq!(snapshots.len(), 15 + usize::from(close));
    Past { snapshots, now: files, model }
}

/// What became of a log with files of an earlier time.
#[derive(Debug, Default)]
struct Count {
    refused: usize,
    whole: usize,
    shorter: usize,
}

/// Opens the log and compares it with the present.
fn look(past: &Past, mixed: &Files, count: &mut Count, what: &str) {
    let (opened, store) = open(mixed);
    let wal = match opened {
        Ok(wal) => wal,
        Err(error) => {
            assert!(error.is_corruption(), "{what}: {error}");
            assert_eq!(*store.snapshot().files(), *mixed, "{what}");
            count.refused += 1;
            return;
        }
    };
    let mut shown = Vec::new();
    for record in wal.iter().unwrap() {
        match record {
            Ok(record) => shown.push((record.lsn(), identify(record.data()))),
            Err(error) => {
                assert!(error.is_corruption(), "{what}: {error}");
                count.refused += 1;
                return;
            }
        }
    }
    assert!(past.model.starts_with(&shown), "{what}: shows what is not in the log");
    if shown.len() == past.model.len() {
        count.whole += 1;
    } else {
        count.shorter += 1;
        // The newest segment is an older one, with the same header: what was written into it
        // since, and no other file witnesses, is gone.
        assert!(wal.end_lsn() >= witnessed(mixed), "{what}");
    }
}

/// What CONTROL says is durable.
fn witnessed(files: &Files) -> Lsn {
    let number = |at: usize| u64::from_le_bytes(files[CONTROL][at..at + 8].try_into().unwrap());
    // The slot with the higher generation counts.
    Lsn::new(number(64 + if number(16) > number(4096 + 16) { 0 } else { 4096 }))
}

#[test]
fn segments_of_an_earlier_time_never_show_a_record_that_the_log_does_not_hold() {
    for close in [false, true] {
        let past = past(close);
        let (mut segments, mut with_control) = (Count::default(), Count::default());
        for (time, snapshot) in past.snapshots.iter().enumerate() {
            let names: Vec<_> = snapshot.keys().collect();
            for set in 1..1_usize << names.len() {
                let mut mixed = past.now.clone();
                let chosen = names.iter().enumerate().filter(|(bit, _)| set >> bit & 1 != 0);
                let chosen: Vec<_> = chosen.map(|(_, name)| name.as_str()).collect();
                for name in &chosen {
                    mixed.insert((*name).to_owned(), snapshot[*name].clone());
                }
                let what = format!("{chosen:?} of time {time}, closed: {close}");
                let old_control = chosen.contains(&CONTROL);
                let count = if old_control { &mut with_control } else { &mut segments };
                look(&past, &mixed, count, &what);
            }
        }
        #[expect(clippy::print_stdout, reason = "the counts go into the documents")]
        {
            println!("closed: {close}; segments {segments:?}; with CONTROL {with_control:?}");
        }
        assert!(segments.refused > 0 && segments.whole > 0);
        if close {
            assert_eq!(segments.shorter, 0, "close left a witness of everything");
        }
    }
}
