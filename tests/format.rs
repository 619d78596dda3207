//! The format, read by a reader of its own that was written from `docs/FORMAT.md` and shares no
//! code with the crate.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use cohort_wal::{Lsn, MemSnapshot, MemStore, Preallocate, Wal, WalError, WalOptions, WalStore};

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Files = BTreeMap<String, Vec<u8>>;

fn number(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn crc(parts: &[&[u8]]) -> u64 {
    u64::from(parts.iter().fold(0, |crc, part| crc32c::crc32c_append(crc, part)))
}

fn index(position: u64) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

/// The block at an offset, if it is intact and of version 1.
fn block<'a>(file: &'a [u8], at: usize, magic: &[u8]) -> Option<&'a [u8]> {
    let block = file.get(at..at + 512)?;
    let intact = block.starts_with(magic) && crc(&[&block[..508]]) == number(block, 508, 4);
    (intact && number(block, 8, 2) == 1 && number(block, 12, 4) == 0).then_some(block)
}

/// A frame as the document describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    lsn: u64,
    is_record: bool,
    more: bool,
    lag: u64,
    body: Vec<u8>,
    bytes: usize,
}

fn frame(file: &[u8], header: &[u8], lsn: u64, cut: u64) -> Option<Frame> {
    let rest = file.get(index(8192 + (lsn - number(header, 72, 8)))..)?;
    let (salt, epoch) = (&header[56..72], &header[48..56]);
    let start = rest.get(..16)?;
    let (len, kind, flags) = (number(start, 4, 4), start[12] & 0x0f, start[12] & 0xf0);
    let known = (kind == 1 || kind == 2) && flags & !0x70 == 0;
    let own = crc(&[salt, epoch, &lsn.to_le_bytes(), &start[4..]]) == number(start, 0, 4);
    let bytes = 16 + len.next_multiple_of(8);
    let fits = bytes <= cut - lsn && (kind == 2 || len <= number(header, 120, 4) + 64);
    if !(known && own && fits) {
        return None;
    }
    let body = rest.get(16..index(bytes))?;
    (crc(&[body]) == number(start, 8, 4)).then(|| Frame {
        lsn,
        is_record: kind == 1,
        more: flags & 0x10 != 0,
        lag: number(start, 13, 3),
        body: body[..index(len)].to_vec(),
        bytes: index(bytes),
    })
}

/// The slot of CONTROL that counts.
fn control(files: &Files) -> Option<&[u8]> {
    let file = files.get("CONTROL")?;
    let slots = [0, 4096].into_iter().filter_map(|at| block(file, at, b"COHRTCTL"));
    slots.max_by_key(|slot| number(slot, 16, 8))
}

/// The live segments, oldest first: file and header.
fn chain(files: &Files) -> Option<Vec<(&[u8], &[u8])>> {
    let header = |file| [0, 4096].into_iter().find_map(|at| block(file, at, b"COHRTWAL"));
    let segments = files.iter().filter(|(name, _)| name.len() == 24 && name.ends_with(".wal"));
    let mut next = segments.max().map(|(name, _)| name.clone());
    let mut live = Vec::new();
    while let Some(file) = next.as_ref().and_then(|name| files.get(name)) {
        let header = header(file)?;
        assert_eq!(header[24..40], control(files)?[24..40], "of this log");
        assert_eq!(next, Some(format!("{:020}.wal", number(header, 40, 8))));
        next = Some(format!("{:020}.wal", number(header, 80, 8)));
        live.push((file.as_slice(), header));
    }
    live.reverse();
    Some(live)
}

/// Every frame of the log, up to the first position that is none.
fn frames(files: &Files) -> Option<Vec<Frame>> {
    let live = chain(files)?;
    let mut frames = Vec::new();
    for (at, (file, header)) in live.iter().enumerate() {
        let cut = live.get(at + 1).map_or(1 << 62, |(_, next)| number(next, 72, 8));
        let mut lsn = number(header, 72, 8);
        while lsn < cut {
            let Some(frame) = frame(file, header, lsn, cut) else { return Some(frames) };
            lsn += frame.bytes as u64;
            frames.push(frame);
        }
    }
    Some(frames)
}

/// The records at or above head, without a batch that has no end.
fn records(files: &Files) -> Option<Vec<(u64, Vec<u8>)>> {
    let head = number(control(files)?, 48, 8);
    let mut frames = frames(files)?;
    let whole = frames.iter().rposition(|frame| !frame.more).map_or(0, |last| last + 1);
    frames.truncate(whole);
    let kept = frames.into_iter().filter(|frame| frame.is_record && frame.lsn >= head);
    Some(kept.map(|frame| (frame.lsn, frame.body)).collect())
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

/// What the snapshot that counts says, if there is one and it is whole.
fn image(files: &Files) -> Option<Vec<u8>> {
    let lsn = &control(files)?[56..64];
    let file = files.get(&format!("{:020}.snap", number(lsn, 0, 8)))?;
    let header = block(file, 0, b"COHRTSNP")?;
    let of = |header: &[u8]| header[24..40] == control(files).unwrap_or_default()[24..40];
    let (mut at, mut image) = (512, Vec::new());
    for chunk in 0_u64.. {
        let (len, sum) = (number(file.get(at..at + 8)?, 0, 4), number(file, at + 4, 4));
        let bytes = file.get(at + 8..at + 8 + index(if len == 0 { 16 } else { len }))?;
        let number = chunk.to_le_bytes();
        let own = crc(&[&header[24..40], lsn, &number, &file[at..at + 4], bytes]) == sum;
        if !own || !of(header) || header[40..48] != *lsn {
            return None;
        }
        at += 8 + bytes.len();
        if len == 0 {
            let said = [image.len() as u64, chunk].map(u64::to_le_bytes).concat();
            return (bytes == said && at == file.len()).then_some(image);
        }
        image.extend_from_slice(bytes);
    }
    None
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
    let lsns = frames(&files)?;
    let live: Vec<_> = chain(&files)?.iter().map(|(_, h)| (h[40], number(h, 72, 8))).collect();
    for (seq, base) in live {
        let file = files.get_mut(&format!("{seq:020}.wal"))?;
        for frame in lsns.iter().filter(|frame| frame.lsn >= base) {
            if let Some(header) = file.get_mut(8192 + index(frame.lsn - base)..) {
                header.iter_mut().take(4).for_each(|byte| *byte = 0);
            }
        }
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
    let live = chain(&files).ok_or("no chain")?;
    assert!(live.len() > 6, "the log has many segments");
    assert_ne!(live[0].1[56..72], live[live.len() - 1].1[56..72], "every epoch has its own salt");
    let slot = control(&files).ok_or("no slot")?;
    let end = frames(&files).and_then(|f| f.last().map(|f| f.lsn + f.bytes as u64));
    assert_eq!((Some(number(slot, 64, 8)), number(slot, 72, 4)), (end, 1), "closed cleanly");
    Ok(())
}

#[test]
fn every_lag_tells_the_truth() -> Outcome {
    let files = example()?;
    let frames = frames(&files).ok_or("no frames")?;
    let told: Vec<_> = frames.iter().map(|f| (f.lsn, f.more, f.lsn - 8 * f.lag)).collect();
    let expected =
        [(0, false, 0), (24, true, 24), (48, false, 24), (72, false, 72), (104, false, 72)];
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
