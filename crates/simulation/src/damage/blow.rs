//! Blows: what can happen to the bytes of files that nobody wrote to.

use std::fmt;

use super::layout::{CONTROL, Files, HEADER_AREA};
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
        }
    }
}

/// A place: in headers and slots, among frames, or anywhere.
fn place(dice: &mut Dice, files: &Files) -> Place {
    let control = dice.one_in(5);
    let index = dice.below(files.len());
    let name = match files.keys().nth(index) {
        Some(name) if !control => name.clone(),
        _ => CONTROL.to_owned(),
    };
    let len = files.get(&name).map_or(0, Vec::len);
    let at = match dice.below(4) {
        0 => dice.pick(&[0, 4096]) + dice.below(512),
        1 => dice.below(len),
        _ => HEADER_AREA + dice.below(len.saturating_sub(HEADER_AREA)),
    };
    Place { file: name, at: at.min(len.saturating_sub(1)) }
}

impl Blow {
    pub(super) fn random(dice: &mut Dice, files: &Files, steps: usize) -> Self {
        let mut place = place(dice, files);
        let sector = dice.pick(&[512, 512, 4096]);
        let align = |place: &mut Place| place.at = place.at / sector * sector;
        let harm = match dice.below(8) {
            0 => Harm::Flips((0..1 + dice.below(8)).map(|_| dice.below(64)).collect()),
            1 => {
                align(&mut place);
                Harm::Zeros(sector)
            }
            kind @ (2 | 3) => {
                let mut other = self::place(dice, files);
                align(&mut place);
                align(&mut other);
                if kind == 2 { Harm::Swap(sector, other) } else { Harm::Misdirected(sector, other) }
            }
            4 => {
                align(&mut place);
                Harm::Lost(sector, 1 + dice.below(steps))
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

    /// Strikes; `older` is what the files once were, oldest first.
    pub(super) fn strike(&self, files: &mut Files, older: &[Files]) {
        let Place { file: name, at } = &self.place;
        let at = *at;
        let bytes = |files: &Files, place: &Place, len: usize| {
            let file = files.get(&place.file).map_or(&[][..], Vec::as_slice);
            let from = file.get(place.at..).unwrap_or_default();
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
                let once = older.len().checked_sub(*ago).map(|index| &older[index]);
                let mut once = once.map_or(Vec::new(), |once| bytes(once, &self.place, *sector));
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
                let file = files.entry(name.clone()).or_default();
                file.resize(file.len().max(at + garbage.len()), 0);
                put(files, name, at, garbage);
            }
            Harm::Ends => files.entry(name.clone()).or_default().truncate(at),
            Harm::Flips(bits) => {
                let file = files.entry(name.clone()).or_default();
                for bit in bits {
                    if let Some(byte) = file.get_mut(at + bit / 8) {
                        *byte ^= 1 << (bit % 8);
                    }
                }
            }
        }
    }
}

/// Overwrites what is there, and makes no file longer.
fn put(files: &mut Files, name: &str, at: usize, bytes: &[u8]) {
    let Some(target) = files.get_mut(name).and_then(|file| file.get_mut(at..)) else { return };
    let len = bytes.len().min(target.len());
    target[..len].copy_from_slice(&bytes[..len]);
}
