//! No bit of an encrypted, compressed log changes unnoticed: its checksums notice, and where they
//! are made right, its tags.

use cohort_wal::WalError;

use super::fixed::{Golden, golden};
use super::independent::block::control;
use super::independent::chain::live;
use super::independent::frame::{Content, Found, Frame, walk};
use super::independent::{Files, Verdict, index, number, read};
use super::{forge, store_of, test_keys};

const SEGMENT: &str = "00000000000000000001.wal";

/// Where the frames of the log stand: LSN, kind and flags, length of the body, and of the frame.
fn frames(golden: &Golden) -> Vec<(u64, u8, usize, usize)> {
    let control = control(&golden.files).unwrap();
    let live = live(&golden.files, &control).unwrap();
    let frames = walk(&live, 0).into_iter().map(|found| match found {
        Found::Frame(frame, 0) => {
            (frame.lsn, frame.kind | frame.flags, frame.body.len(), index(frame.bytes))
        }
        other => panic!("{other:?}"),
    });
    frames.collect()
}

/// What the reader of its own sees at a place.
fn content(files: &Files, lsn: u64) -> Option<Content> {
    let control = control(files).unwrap();
    let live = live(files, &control).unwrap();
    let sealer = live[0].sealer(&test_keys()).unwrap();
    let frame = Frame::at(&live[0], lsn)?;
    Some(frame.content(sealer.as_ref(), live[0].max_record()))
}

/// Bits of a frame: all, but of the zeros of a pad those of its first bytes.
fn bits(bytes: usize) -> impl Iterator<Item = usize> {
    (0..bytes.min(512) * 8).chain((512..bytes).step_by(97).map(|byte| byte * 8))
}

#[test]
fn checksums_notice_every_flipped_bit_of_an_encrypted_log() {
    let golden = golden("tiny");
    let frames = frames(&golden);
    assert_eq!(
        frames.iter().map(|frame| frame.1).collect::<Vec<_>>(),
        [0x51, 0x71, 0x41, 0x42, 0x41]
    );
    for (lsn, _, _, bytes) in frames {
        let mut files = golden.files.clone();
        for bit in bits(bytes) {
            let at = 8192 + index(lsn) + bit / 8;
            files.get_mut(SEGMENT).unwrap()[at] ^= 1 << (bit % 8);
            assert_eq!(content(&files, lsn), None, "{lsn}, bit {bit}");
            files.get_mut(SEGMENT).unwrap()[at] ^= 1 << (bit % 8);
        }
    }
}

#[test]
fn tags_notice_every_flipped_bit_where_the_checksums_are_made_right() {
    let golden = golden("tiny");
    let mut noticed = 0;
    for (lsn, kind, len, _) in frames(&golden) {
        // The tag of a pad is about nothing.
        let body = if kind & 0x0f == 2 { 16 } else { len };
        let bits = (4 * 8..8 * 8).chain(12 * 8..13 * 8).chain(16 * 8..(16 + body) * 8);
        for bit in bits {
            let mut files = golden.files.clone();
            let file = files.get_mut(SEGMENT).unwrap();
            file[8192 + index(lsn) + bit / 8] ^= 1 << (bit % 8);
            forge::sum_frame(file, lsn);
            // Of another length it may be no frame any more.
            let seen = content(&files, lsn);
            assert!(matches!(seen, None | Some(Content::Tampered)), "{lsn}, {bit}: {seen:?}");
            noticed += usize::from(seen.is_some());
            if bit % 7 == 0 {
                check_crate(&golden, &files);
            }
        }
    }
    assert!(noticed > 1000, "{noticed}");
}

/// The crate shows what the reader of its own shows, or refuses what that one refuses.
fn check_crate(golden: &Golden, files: &Files) {
    let shown = read(files, &test_keys()).unwrap();
    if !golden.is_readable() {
        return;
    }
    match (shown.verdict, golden.options().open_store(store_of(files))) {
        (Verdict::Flawed(at), Ok(wal)) => {
            let (records, flaw) = super::expected::records(&wal).unwrap();
            assert_eq!((records, flaw.map(|lsn| lsn.get())), (shown.records(), Some(at)));
        }
        (Verdict::Refused(at), Err(WalError::Corruption { start, .. })) => {
            assert_eq!(start.get(), at);
        }
        (verdict, opened) => panic!("{verdict:?}, {opened:?}"),
    }
}

#[test]
fn a_frame_at_another_place_or_of_another_epoch_is_tampered_with() {
    let golden = golden("tiny");
    let [first, .., last] = &frames(&golden)[..] else { panic!("two records") };
    assert_eq!(first.3, last.3, "as long");
    let mut files = golden.files.clone();
    let file = files.get_mut(SEGMENT).unwrap();
    let (from, to) = (8192 + index(first.0), 8192 + index(last.0));
    file.copy_within(from..from + first.3, to);
    // It was part of a batch.
    for kind in [file[to + 12], last.1] {
        let file = files.get_mut(SEGMENT).unwrap();
        file[to + 12] = kind;
        forge::sum_frame(file, last.0);
        assert_eq!(content(&files, last.0), Some(Content::Tampered));
    }
    check_crate(&golden, &files);
    // Another epoch, or salt, makes other keys: who has none of them cannot prove the header.
    for at in [48, 56, 24] {
        let mut files = golden.files.clone();
        for copy in [0, 4096] {
            forge::block(&mut files, &(SEGMENT.to_owned(), copy), |block| block[at] ^= 1);
        }
        let read = read(&files, &test_keys());
        assert!(read.is_err(), "{at}: {read:?}");
        if golden.is_readable() {
            let opened = golden.options().open_store(store_of(&files));
            assert!(opened.is_err(), "{at}");
        }
    }
}

#[test]
fn every_flipped_bit_of_a_header_is_noticed_by_its_proof() {
    let golden = golden("tiny");
    // Magic, version and the offset of the first frame are told by themselves.
    for bit in (10 * 8..12 * 8).chain(16 * 8..20 * 8).chain(24 * 8..148 * 8) {
        let mut files = golden.files.clone();
        for copy in [0, 4096] {
            let place = (SEGMENT.to_owned(), copy);
            forge::block(&mut files, &place, |block| block[bit / 8] ^= 1 << (bit % 8));
        }
        if bit == 124 * 8 {
            // A segment that says it is plain, and has frames that are not.
            check_crate(&golden, &files);
            assert_eq!(read(&files, &test_keys()).unwrap().verdict, Verdict::Flawed(0));
            continue;
        }
        assert!(read(&files, &test_keys()).is_err(), "bit {bit}");
        if golden.is_readable() {
            let store = store_of(&files);
            let opened = golden.options().open_store(store.clone());
            assert!(opened.is_err(), "bit {bit}");
            assert!(*store.snapshot().files() == files, "bit {bit}: changed");
        }
    }
}

#[test]
fn every_flipped_bit_of_an_encrypted_snapshot_is_noticed() {
    let golden = golden("snapshot-encrypted");
    let name = golden.files.keys().find(|name| name.ends_with(".snap")).unwrap();
    let whole = &golden.files[name];
    let ends = (0..512 + 8 + 40).chain(whole.len() - 24 - 16 - 40..whole.len());
    for bit in ends.flat_map(|byte| (0..8).map(move |bit| byte * 8 + bit)).step_by(13) {
        let mut files = golden.files.clone();
        files.get_mut(name).unwrap()[bit / 8] ^= 1 << (bit % 8);
        let log = read(&files, &test_keys()).unwrap();
        assert!(log.image.is_err(), "bit {bit}");
        if golden.is_readable() && bit % 2 == 0 {
            let wal = golden.options().open_store(store_of(&files));
            let image = wal.and_then(|wal| wal.snapshots()?.latest().map(drop));
            assert!(image.unwrap_err().is_corruption(), "bit {bit}");
        }
    }
    // A chunk that was changed, with a good checksum.
    let mut files = golden.files.clone();
    let file = files.get_mut(name).unwrap();
    file[512 + 8 + 100] ^= 1;
    let end = 520 + index(number(file, 512, 4));
    let (header, chunk) = (file[24..48].to_vec(), &file[520..end]);
    let parts = [&header[..], &[0; 8], &file[512..516], chunk].concat();
    let sum = crc32c::crc32c(&parts);
    file[516..520].copy_from_slice(&sum.to_le_bytes());
    let image = read(&files, &test_keys()).unwrap().image;
    assert!(matches!(image, Err(super::independent::Refusal::Tampered(_))), "{image:?}");
    if golden.is_readable() {
        let wal = golden.options().open_store(store_of(&files)).unwrap();
        let image = wal.snapshots().unwrap().latest().map(drop);
        assert!(matches!(image, Err(WalError::Tampered { .. })), "{image:?}");
    }
}
