//! Blows: what can happen to the bytes of files that nobody wrote to.

use std::fmt;

use super::layout::{CONTROL, Files, HEADER_AREA, IMAGE_HEADER, is_image};
use crate::dice::Dice;

/// A place in a file.
#[derive(Debug, Clone)]
struct Place {
    file: String,
    at: usize,
}

/// What happens to some bytes.
#[derive(Debug, Clone)]
enum Harm {
    /// Bits change.
    Flips(Vec<usize>),
    /// A sector is zeros.
    Zeros(usize),
    /// Two sectors change places.
    Swap(usize, Place),
    /// A sector is what it once was: so many steps ago.
    Lost(usize, usize),
    /// The bytes of another sector are written over one.
    Misdirected(usize, Place),
    /// A run of bytes stands elsewhere in the same file as well.
    Twice(usize, usize),
    /// The file ends here.
    Ends,
    /// A run of garbage, beyond the end of the file as well.
    Garbage(Vec<u8>),
    /// The file is gone.
    Gone,
    /// None but that the file is there again, if the log had removed it.
    Back,
}

/// What the files were before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Past<'a> {
    /// What they once were, step by step, oldest first.
    pub(super) older: &'a [Files],
    /// Those that the log has removed, as they were last. A blow to one of them brings it back
    /// first: the removal has not reached the disk.
    pub(super) removed: &'a Files,
}

impl Past<'_> {
    /// A file, or else what it was when it was removed.
    fn file<'a>(&'a self, files: &'a Files, name: &str) -> &'a [u8] {
        files.get(name).or_else(|| self.removed.get(name)).map_or(&[][..], Vec::as_slice)
    }
}

/// One blow.
#[derive(Debug, Clone)]
pub(super) struct Blow {
    place: Place,
    harm: Harm,
}

impl fmt::Display for Blow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { file, at } = &self.place;
        match &self.harm {
            Harm::Flips(bits) => write!(f, "bits {bits:?} from {at} of {file}"),
            Harm::Zeros(sector) => write!(f, "{sector} zeros at {at} of {file}"),
            Harm::Swap(sector, other) => {
                write!(f, "{sector} bytes at {at} of {file} and at {} of {}", other.at, other.file)
            }
            Harm::Lost(sector, ago) => {
                write!(f, "{sector} bytes at {at} of {file} as they were {ago} steps ago")
            }
            Harm::Misdirected(sector, from) => {
                let Place { file: other, at: source } = from;
                write!(f, "{sector} bytes at {at} of {file} from {source} of {other}")
            }
            Harm::Twice(len, from) => write!(f, "{len} bytes at {at} of {file} from {from}"),
            Harm::Ends => write!(f, "{file} ends at {at}"),
            Harm::Garbage(bytes) => write!(f, "{} bytes of garbage at {at} of {file}", bytes.len()),
            Harm::Gone => write!(f, "{file} is gone"),
            Harm::Back => write!(f, "{file} is back if it was removed"),
        }
    }
}

/// A place: in headers and slots, behind them, or anywhere.
fn place(dice: &mut Dice, files: &Files, past: Past<'_>) -> Place {
    let control = dice.one_in(5);
    let those = if dice.one_in(5) && !past.removed.is_empty() { past.removed } else { files };
    let index = dice.below(those.len());
    let name = match those.keys().nth(index) {
        Some(name) if !control => name.clone(),
        _ => CONTROL.to_owned(),
    };
    let len = past.file(files, &name).len();
    let (header, copies) = match is_image(&name) {
        true => (IMAGE_HEADER, [0, 0]),
        false => (HEADER_AREA, [0, 4096]),
    };
    let at = match dice.below(4) {
        0 => dice.pick(&copies) + dice.below(512),
        1 => dice.below(len),
        _ => header + dice.below(len.saturating_sub(header)),
    };
    Place { file: name, at: at.min(len.saturating_sub(1)) }
}

impl Blow {
    pub(super) fn random(dice: &mut Dice, files: &Files, past: Past<'_>) -> Self {
        let mut place = place(dice, files, past);
        let sector = dice.pick(&[512, 512, 4096]);
        let align = |place: &mut Place| place.at = place.at / sector * sector;
        if dice.one_in(24) {
            let back = past.removed.contains_key(&place.file);
            return Self { place, harm: if back { Harm::Back } else { Harm::Gone } };
        }
        let harm = match dice.below(8) {
            0 => Harm::Flips((0..1 + dice.below(8)).map(|_| dice.below(64)).collect()),
            1 => {
                align(&mut place);
                Harm::Zeros(sector)
            }
            kind @ (2 | 3) => {
                let mut other = self::place(dice, files, past);
                align(&mut place);
                align(&mut other);
                if kind == 2 { Harm::Swap(sector, other) } else { Harm::Misdirected(sector, other) }
            }
            4 => {
                align(&mut place);
                Harm::Lost(sector, 1 + dice.below(past.older.len()))
            }
            5 => {
                let len = 8 + dice.below(1500);
                let len = if dice.one_in(2) { len.next_multiple_of(8) } else { len };
                let from = place.at.saturating_sub(dice.below(2000));
                Harm::Twice(len, from)
            }
            6 => Harm::Ends,
            _ => {
                let len = 1 + dice.below(600);
                Harm::Garbage((0..len).map(|_| dice.number() as u8).collect())
            }
        };
        Self { place, harm }
    }

    /// Strikes.
    pub(super) fn strike(&self, files: &mut Files, past: Past<'_>) {
        let Place { file: name, at } = &self.place;
        let at = *at;
        if let Some(removed) = past.removed.get(name) {
            files.entry(name.clone()).or_insert_with(|| removed.clone());
        }
        let bytes = |files: &Files, place: &Place, len: usize| {
            let from = past.file(files, &place.file).get(place.at..).unwrap_or_default();
            from[..len.min(from.len())].to_vec()
        };
        match &self.harm {
            Harm::Swap(sector, other) => {
                let (here, there) =
                    (bytes(files, &self.place, *sector), bytes(files, other, *sector));
                put(files, name, at, &there);
                put(files, &other.file, other.at, &here);
            }
            Harm::Misdirected(sector, from) => {
                let from = bytes(files, from, *sector);
                put(files, name, at, &from);
            }
            Harm::Lost(sector, ago) => {
                let once = past.older.len().checked_sub(*ago).and_then(|i| past.older[i].get(name));
                let mut once = once.and_then(|once| once.get(at..)).unwrap_or_default().to_vec();
                once.resize(*sector, 0);
                put(files, name, at, &once);
            }
            Harm::Twice(len, from) => {
                let from = Place { file: name.clone(), at: *from };
                let from = bytes(files, &from, *len);
                put(files, name, at, &from);
            }
            Harm::Zeros(sector) => put(files, name, at, &vec![0; *sector]),
            Harm::Garbage(garbage) => {
                if let Some(file) = files.get_mut(name) {
                    file.resize(file.len().max(at + garbage.len()), 0);
                    put(files, name, at, garbage);
                }
            }
            Harm::Ends => {
                if let Some(file) = files.get_mut(name) {
                    file.truncate(at);
                }
            }
            Harm::Flips(bits) => {
                for bit in bits {
                    if let Some(byte) = files.get_mut(name).and_then(|f| f.get_mut(at + bit / 8)) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
            }
            Harm::Gone => drop(files.remove(name)),
            Harm::Back => {}
        }
    }
}

/// Overwrites what is there, and makes no file longer.
fn put(files: &mut Files, name: &str, at: usize, bytes: &[u8]) {
    let Some(target) = files.get_mut(name).and_then(|file| file.get_mut(at..)) else { return };
    let len = bytes.len().min(target.len());
    target[..len].copy_from_slice(&bytes[..len]);
}
