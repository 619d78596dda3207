//! Later versions: what they may add is passed over, what they must not add is refused, and then
//! nothing is changed.

use cohort_wal::WalError;

use super::expected::Said;
use super::fixed::{Golden, all, golden};
use super::independent::{Files, Refusal, number, read};
use super::{common, forge, store_of, test_keys};

/// A change of a block.
type Change = fn(&mut [u8], u32);

/// Every block of a log, changed, with good checksums and proofs.
fn everywhere(golden: &Golden, change: impl Fn(&mut [u8])) -> Files {
    let mut files = golden.files.clone();
    for place in forge::blocks(&golden.files) {
        let bytes = &golden.files[&place.0][place.1..place.1 + 512];
        // What is bad stays so.
        if crc32c::crc32c(&bytes[..508]) != u32::from_le_bytes(bytes[508..].try_into().unwrap()) {
            continue;
        }
        forge::block(&mut files, &place, |block| {
            change(block);
            forge::prove(block, &test_keys());
        });
    }
    files
}

#[test]
fn what_a_later_minor_version_may_add_is_passed_over() {
    for golden in all() {
        let files = everywhere(&golden, |block| {
            block[10..12].copy_from_slice(&7_u16.to_le_bytes());
            if block.starts_with(b"COHRTWAL") {
                block[16..20].copy_from_slice(&0x8000_0001_u32.to_le_bytes());
            }
            // A field that this version does not know.
            block[200..208].fill(0xAB);
        });
        assert_ne!(files, golden.files);
        let log = read(&files, &test_keys()).unwrap();
        assert_eq!(Said::by_reader(&log).unwrap().to_text(), golden.text, "{}", golden.name);
        if golden.is_readable() {
            let dir = golden.copy_of(&files);
            let said = Said::by_crate(&files, dir.path(), &golden.options());
            let said = said.unwrap_or_else(|why| panic!("{}: {why}", golden.name));
            assert_eq!(said.to_text(), golden.text, "{}", golden.name);
            assert!(common::directory(dir.path()) == files, "{}", golden.name);
        }
    }
}

/// Changes one block at a time; all that opens or reads refuses each, and changes nothing.
fn refused_anywhere(name: &str, change: Change, given: u32) -> usize {
    let golden = golden(name);
    let mut refused = 0;
    for place in forge::blocks(&golden.files) {
        let mut files = golden.files.clone();
        forge::block(&mut files, &place, |block| {
            change(block, given);
            forge::prove(block, &test_keys());
        });
        if files == golden.files {
            continue;
        }
        let why = format!("{name}, {place:?}, {given:#x}");
        let of_reader = read(&files, &test_keys()).and_then(|log| log.image.map(drop));
        assert_eq!(of_reader, Err(Refusal::Newer(place.0.clone())), "{why}");
        if !golden.is_readable() {
            continue;
        }
        let store = store_of(&files);
        let opened = golden.options().open_store(store.clone());
        let Err(WalError::UnsupportedVersion { path, major, incompat }) = opened else {
            panic!("{why}: {opened:?}");
        };
        assert!(path.ends_with(&place.0), "{why}: {path:?}");
        let block = &files[&place.0][place.1..];
        let told = (u64::from(major), u64::from(incompat));
        assert_eq!(told, (number(block, 8, 2), number(block, 12, 4)), "{why}");
        assert!(*store.snapshot().files() == files, "{why}: changed");
        refused += 1;
    }
    refused
}

#[test]
fn another_major_version_or_an_unknown_incompatible_bit_is_refused_anywhere() {
    let major = |block: &mut [u8], to: u32| block[8..10].copy_from_slice(&to.to_le_bytes()[..2]);
    let bit = |block: &mut [u8], bit: u32| block[12 + bit as usize / 8] ^= 1 << (bit % 8);
    for name in ["snapshot", "snapshot-encrypted"] {
        for to in [0, 2, 0xFFFF] {
            let refused = refused_anywhere(name, major, to);
            assert!(refused > 5 || !golden(name).is_readable(), "{name}: {refused}");
        }
        for nth in 0..32 {
            refused_anywhere(name, bit, nth);
        }
    }
}

#[test]
fn who_only_reads_refuses_them_too() {
    for (place, name) in [("CONTROL", "plain"), ("00000000000000000001.wal", "plain")] {
        let mut golden = golden(name);
        forge::block(&mut golden.files, &(place.to_owned(), 4096), |block| block[8] = 2);
        let dir = golden.copy();
        let opened = [
            golden.options().open_read_only(dir.path()).map(drop),
            golden.options().salvage(dir.path()).map(drop),
            golden.options().open(dir.path()).map(drop),
        ];
        for opened in opened {
            assert!(matches!(opened, Err(WalError::UnsupportedVersion { .. })), "{opened:?}");
        }
        assert!(common::directory(dir.path()) == golden.files);
    }
}

#[test]
fn an_unknown_cipher_is_refused() {
    let segments = |block: &mut [u8], to: u32| {
        if block.starts_with(b"COHRTWAL") {
            block[124] = to.to_le_bytes()[0];
        }
    };
    let snapshots = |block: &mut [u8], to: u32| {
        if block.starts_with(b"COHRTSNP") {
            block[64] = to.to_le_bytes()[0];
        }
    };
    for name in ["snapshot", "snapshot-encrypted"] {
        for to in [2, 3, 255] {
            let golden = golden(name);
            // Both copies of a header say the same.
            for change in [segments as Change, snapshots] {
                let files = everywhere(&golden, |block| change(block, to));
                let of_reader = read(&files, &test_keys()).and_then(|log| log.image.map(drop));
                assert!(matches!(of_reader, Err(Refusal::Newer(_))), "{name}: {of_reader:?}");
                if !golden.is_readable() {
                    continue;
                }
                let store = store_of(&files);
                let opened = golden.options().open_store(store.clone());
                let newer = matches!(opened, Err(WalError::UnsupportedVersion { .. }));
                assert!(newer, "{name}, {to}: {opened:?}");
                assert!(*store.snapshot().files() == files, "{name}, {to}: changed");
            }
        }
    }
}

#[test]
fn an_unknown_kind_or_flag_is_no_frame() {
    let golden = golden("plain");
    let log = read(&golden.files, &test_keys()).unwrap();
    let lsn = log.items[5].lsn();
    let at = 8192 + usize::try_from(lsn).unwrap();
    // Kind 1 is as it was, and 2 a pad; flag 0x10 and those of bodies are known.
    let unknown = (0..16_u8).filter(|kind| *kind != 1 && *kind != 2).chain([0x81, 0xF1, 0x82]);
    for kind in unknown {
        let mut files = golden.files.clone();
        let file = files.get_mut("00000000000000000001.wal").unwrap();
        file[at + 12] = kind;
        forge::sum_frame(file, lsn);
        let log = read(&files, &test_keys()).unwrap();
        assert_eq!(log.verdict, super::independent::Verdict::Refused(lsn), "{kind:#x}");
        let store = store_of(&files);
        let opened = golden.options().open_store(store.clone());
        let Err(WalError::Corruption { start, .. }) = opened else { panic!("{opened:?}") };
        assert_eq!(start.get(), lsn, "{kind:#x}");
        assert!(*store.snapshot().files() == files, "{kind:#x}: changed");
    }
}
