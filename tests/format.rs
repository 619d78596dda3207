//! The format, read by a reader of its own that was written from `docs/FORMAT.md` and shares no
//! code with the crate.

#[path = "independent/mod.rs"]
mod independent;

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use cohort_wal::{Lsn, MemSnapshot, MemStore, Preallocate, Wal, WalError, WalOptions, WalStore};

use independent::block::control;
use independent::frame::{Found, Frame, walk};
use independent::{Files, Keys, Verdict, chain, image, index, read};

type Outcome = Result<(), Box<dyn std::error::Error>>;

/// The records that the reader of its own shows.
fn records(files: &Files) -> Option<Vec<(u64, Vec<u8>)>> {
    read(files, &Keys::new()).ok().map(|log| log.records())
}

/// Every frame of the log from its head on, up to the first position that is none.
fn frames(files: &Files) -> Option<Vec<Frame<'_>>> {
    let control = control(files).ok()?;
    let live = chain::live(files, &control).ok()?;
    let frames = walk(&live, control.head()).into_iter().map_while(|found| match found {
        Found::Frame(frame, _) => Some(frame),
        Found::Hole(..) => None,
    });
    Some(frames.collect())
}

/// What the snapshot that counts says, if there is one and it is whole.
fn image(files: &Files) -> Option<Vec<u8>> {
    let image = image::image(files, &Keys::new(), &control(files).ok()?, false);
    image.ok()?.map(|(_, image)| image)
}

fn files_in(dir: &Path) -> io::Result<Files> {
    let mut files = Files::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        files.insert(entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?);
    }
    Ok(files)
}

fn store_of(files: &Files) -> MemStore {
    let mut snapshot = MemSnapshot::default();
    snapshot.files_mut().clone_from(files);
    MemStore::from_snapshot(snapshot)
}

fn records_of<S: WalStore>(wal: &Wal<S>) -> cohort_wal::Result<Vec<(u64, Vec<u8>)>> {
    wal.iter()?.map(|record| record.map(|r| (r.lsn().get(), r.into_data()))).collect()
}

/// Small in every respect, so that a few kilobytes use every part of the format.
fn options() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10)
}

/// The log that the document shows.
fn example() -> cohort_wal::Result<Files> {
    let store = MemStore::new();
    let wal = WalOptions::new().open_store(store.clone())?;
    wal.append_and_sync(b"hello")?;
    wal.append_batch_and_sync(&["debit 7", "credit 7"])?;
    wal.rotate()?;
    wal.append(b"after rotation")?;
    wal.append(b"")?;
    wal.checkpoint(Lsn::new(24), |image| image.write_all(b"greeted"))?;
    wal.close()?;
    Ok(store.snapshot().files().clone())
}

/// The log in the document, rebuilt from its dump.
fn dumped() -> Option<Files> {
    let (_, rest) = include_str!("../docs/FORMAT.md").split_once("<!-- dump:begin -->")?;
    let (dump, _) = rest.split_once("<!-- dump:end -->")?;
    let mut files = Files::new();
    let mut name = String::new();
    for line in dump.lines() {
        if let Some((title, _)) = line.split_once(',').filter(|_| line.ends_with(" bytes")) {
            name = title.to_owned();
            files.insert(name.clone(), Vec::new());
        }
        let Some((offset, bytes)) = line.split_once("  ").filter(|(at, _)| !at.is_empty()) else {
            continue;
        };
        let file = files.get_mut(&name)?;
        assert_eq!(usize::from_str_radix(offset, 16), Ok(file.len()), "{line}");
        let bytes = bytes.split("  ").next()?;
        if let Some(count) = bytes.strip_prefix("00 x ") {
            file.resize(file.len() + count.parse::<usize>().ok()?, 0);
        } else if let Some(count) = bytes.strip_prefix("copy of 0000, ") {
            let count = count.strip_suffix(" bytes")?.parse::<usize>().ok()?;
            file.extend_from_within(..count);
        } else {
            for byte in bytes.split(' ') {
                file.push(u8::from_str_radix(byte, 16).ok()?);
            }
        }
    }
    Some(files)
}

/// Overwrites what is random in a log, and the checksums that cover it.
fn without_randomness(mut files: Files) -> Option<Files> {
    let control = control(&files).ok()?;
    let live: Vec<_> = chain::live(&files, &control).ok()?;
    // Below the head as well.
    let mut headers = Vec::new();
    for found in walk(&live, live.first()?.base()) {
        let Found::Frame(frame, nth) = found else { return None };
        headers.push((live[nth].name(), 8192 + index(frame.lsn - live[nth].base())));
    }
    for (name, at) in headers {
        files.get_mut(&name)?[at..at + 4].fill(0);
    }
    for (name, file) in &mut files {
        if name.ends_with(".snap") {
            let end = file.len() - 24;
            // Identity, and the checksums of the header, of the one chunk and of the end.
            for random in [24..40, 508..512, 516..520, end + 4..end + 8] {
                file[random].fill(0);
            }
            continue;
        }
        for at in [0, 4096] {
            file[at + 24..at + 40].fill(0);
            file[at + 508..at + 512].fill(0);
            if name != "CONTROL" {
                file[at + 56..at + 72].fill(0);
            }
        }
    }
    Some(files)
}

#[test]
fn an_independent_reader_sees_what_was_appended() -> Outcome {
    let dir = tempfile::tempdir()?;
    let dir = dir.path().join("log");
    let mut appended = Vec::new();
    for (round, preallocate) in [Preallocate::Zeroed, Preallocate::Off].into_iter().enumerate() {
        let wal = options().preallocate(preallocate).open(&dir)?;
        for number in 0..200_usize {
            let body = vec![b'a' + u8::try_from(number % 26)?; number * 7 % 500];
            let lsn =
                if number % 16 == 0 { wal.append_and_sync(&body)? } else { wal.append(&body)? };
            appended.push((lsn.get(), body));
        }
        let batch = ["one", "", "three"];
        let lsns = wal.append_batch(&batch)?;
        appended.extend(lsns.iter().zip(batch).map(|(lsn, body)| (lsn.get(), body.into())));
        let larger_than_a_segment = vec![7; 40_000];
        let lsn = wal.append(&larger_than_a_segment)?;
        appended.push((lsn.get(), larger_than_a_segment));
        wal.append(b"last")?;
        appended.push((wal.last_lsn().ok_or("no record")?.get(), b"last".to_vec()));
        assert_eq!(records_of(&wal)?, appended, "round {round}");
        assert_eq!(records(&files_in(&dir)?), Some(appended.clone()), "round {round}, open");
        wal.close()?;
        assert_eq!(records(&files_in(&dir)?), Some(appended.clone()), "round {round}, closed");
    }
    let files = files_in(&dir)?;
    let slot = control(&files).map_err(|_| "no slot")?;
    let live = chain::live(&files, &slot).map_err(|_| "no chain")?;
    assert!(live.len() > 6, "the log has many segments");
    assert_ne!(live[0].salt(), live[live.len() - 1].salt(), "every epoch has its own salt");
    let log = read(&files, &Keys::new()).map_err(|_| "no log")?;
    let end = frames(&files).and_then(|frames| frames.last().map(Frame::end));
    assert_eq!((Some(slot.durable()), slot.is_closed()), (end, true), "closed cleanly");
    assert_eq!((log.verdict, log.is_closed, Some(log.end)), (Verdict::Whole, true, end));
    Ok(())
}

#[test]
fn every_lag_tells_the_truth() -> Outcome {
    let files = example()?;
    let frames = frames(&files).ok_or("no frames")?;
    let told: Vec<_> = frames.iter().map(|f| (f.lsn, f.more(), f.watermark())).collect();
    // What is below the head is not shown.
    let expected = [(24, true, 24), (48, false, 24), (72, false, 72), (104, false, 72)];
    let expected = expected.map(|(lsn, more, watermark)| (lsn, more, Some(watermark)));
    assert_eq!(told, expected);
    Ok(())
}

#[test]
fn every_flipped_bit_of_a_frame_is_noticed() -> Outcome {
    let files = example()?;
    let whole = records(&files).ok_or("no records")?;
    let lengths: Vec<_> = files.iter().map(|(name, file)| (name.clone(), file.len())).collect();
    let mut flips = 0;
    for (name, len) in lengths.into_iter().filter(|(name, _)| name.ends_with(".wal")) {
        // What is below the head is never read.
        let first = if name.ends_with("1.wal") { 8192 + 24 } else { 8192 };
        for bit in first * 8..len * 8 {
            let mut damaged = files.clone();
            damaged.get_mut(&name).ok_or("no file")?[bit / 8] ^= 1 << (bit % 8);
            let seen = records(&damaged).ok_or("no records")?;
            assert!(seen.len() < whole.len() && whole.starts_with(&seen), "{name}, bit {bit}");
            // Opening reads the newest segment only; older ones are checked as they are read.
            let refused = options().open_store(store_of(&damaged)).and_then(|wal| records_of(&wal));
            assert!(
                matches!(refused, Err(WalError::Corruption { .. })),
                "{name}, bit {bit}: {refused:?}"
            );
            flips += 1;
        }
    }
    assert_eq!(flips, (48 + 48) * 8);
    Ok(())
}

#[test]
fn an_independent_reader_sees_what_a_snapshot_says() -> Outcome {
    assert_eq!(image(&example()?), Some(b"greeted".to_vec()));
    for bytes in [0, 1, 262_144, 600_000] {
        let (store, said) = (MemStore::new(), vec![0xA7; bytes]);
        let wal = WalOptions::new().open_store(store.clone())?;
        let lsn = wal.append(b"one")?;
        wal.checkpoint(lsn, |image| image.write_all(&said))?;
        assert_eq!(image(store.snapshot().files()), Some(said), "{bytes} bytes");
    }
    Ok(())
}

#[test]
fn every_flipped_bit_of_a_snapshot_is_noticed() -> Outcome {
    let files = example()?;
    let (name, whole) = files.iter().find(|(name, _)| name.ends_with(".snap")).ok_or("none")?;
    assert_eq!(whole.len(), 512 + 8 + 7 + 24);
    for bit in 0..whole.len() * 8 {
        let mut damaged = files.clone();
        damaged.get_mut(name).ok_or("no file")?[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(image(&damaged), None, "bit {bit}");
        let wal = options().open_store(store_of(&damaged));
        let refused = wal.and_then(|wal| wal.snapshots()?.latest().map(drop));
        assert!(matches!(refused, Err(WalError::Corruption { .. })), "bit {bit}: {refused:?}");
    }
    Ok(())
}

#[test]
fn the_dump_in_the_document_is_a_log() -> Outcome {
    let files = dumped().ok_or("the dump cannot be read")?;
    let expected: [(u64, &[u8]); 4] =
        [(24, b"debit 7"), (48, b"credit 7"), (72, b"after rotation"), (104, b"")];
    let expected: Vec<_> = expected.into_iter().map(|(lsn, body)| (lsn, body.to_vec())).collect();
    assert_eq!(records(&files), Some(expected.clone()));
    let wal = options().open_store(store_of(&files))?;
    assert!(wal.recovery().clean && wal.recovery().torn_at.is_none());
    assert_eq!(records_of(&wal)?, expected);
    let mut said = String::new();
    wal.snapshots()?.latest()?.ok_or("no snapshot")?.read_to_string(&mut said)?;
    assert_eq!(
        (said.as_bytes(), image(&files).as_deref()),
        (&b"greeted"[..], Some(said.as_bytes()))
    );
    Ok(())
}

#[test]
fn the_dump_differs_from_a_real_log_only_in_what_is_random() -> Outcome {
    let real = without_randomness(example()?).ok_or("not a log")?;
    let shown = without_randomness(dumped().ok_or("the dump cannot be read")?).ok_or("no log")?;
    assert_eq!(real.keys().collect::<Vec<_>>(), shown.keys().collect::<Vec<_>>());
    for (name, bytes) in &real {
        let differ = bytes.iter().zip(&shown[name]).position(|(real, shown)| real != shown);
        let lengths = (bytes.len(), shown[name].len());
        assert_eq!((differ, lengths.0), (None, lengths.1), "{name}");
    }
    Ok(())
}
