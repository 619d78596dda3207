//! Arbitrary sets of files: those of a log, as they are or once were, damaged, renamed, missing,
//! and mixed with those of another log and with files of nobody.

use std::sync::Arc;

use crate::input::Input;
use crate::judge::{May, judge_as};
use crate::layout::Right;
use crate::sample::{CONTROL, SAMPLES, Sample, is_numbered, plain, sample};
use crate::store::Files;

/// So many changes are made, at most.
const MAX_CHANGES: usize = 12;

/// Where files came from, besides those of the log as it is.
#[derive(Default)]
struct Origin {
    older: bool,
    other: bool,
}

/// A name: one that is there, a sequence number or an LSN nearby, or something else.
fn name(files: &Files, input: &mut Input<'_>) -> String {
    let (kind, number) = (input.below(8), input.byte());
    let present = usize::from(number) % files.len().max(1);
    match kind {
        0..=3 => files.keys().nth(present).cloned().unwrap_or_default(),
        4 => format!("{:020}.wal", number % 16),
        5 => format!("{:020}.snap", u64::from(number) * 8),
        6 => format!(".cohort-{number:032x}.tmp"),
        _ => ["CONTROL", "control", "1.wal", "CONTROL.bak", "00000000000000000001.WAL", "x"]
            [usize::from(number) % 6]
            .to_owned(),
    }
}

fn change(sample: &Sample, files: &mut Files, input: &mut Input<'_>, origin: &mut Origin) {
    let kind = input.below(9);
    let source = name(files, input);
    let bytes = files.get(&source).cloned();
    match kind {
        0 => drop(files.remove(&source)),
        1 => {
            let target = name(files, input);
            files.remove(&source);
            bytes.and_then(|bytes| files.insert(target, bytes));
        }
        2 => {
            let target = name(files, input);
            bytes.and_then(|bytes| files.insert(target, bytes));
        }
        3 => {
            let mut bytes = bytes.unwrap_or_default().to_vec();
            bytes.truncate(input.short());
            files.insert(source, Arc::new(bytes));
        }
        4 | 5 => {
            let mut bytes = bytes.unwrap_or_default().to_vec();
            let at = input.short() % (bytes.len() + 1);
            let len = input.below(64);
            let written = if kind == 4 { input.bytes(len) } else { &[0; 64][..len] };
            bytes.resize(bytes.len().max(at + written.len()), 0);
            bytes[at..at + written.len()].copy_from_slice(written);
            files.insert(source, Arc::new(bytes));
        }
        6 => {
            let number = input.below(sample.older.len());
            let old = sample.older.get(number).and_then(|old| old.get(&source));
            origin.older |= old.is_some();
            old.and_then(|old| files.insert(source, Arc::clone(old)));
        }
        7 => {
            let other = self::sample(input.below(SAMPLES));
            let theirs = other.files.get(&source);
            origin.other |= theirs.is_some();
            theirs.and_then(|theirs| files.insert(source, Arc::clone(theirs)));
        }
        _ => {
            let len = input.below(64);
            files.insert(source, Arc::new(input.bytes(len).to_vec()));
        }
    }
    files.remove("");
}

/// The files that an input describes, and what may become of them.
pub(crate) fn directory(data: &[u8]) {
    let mut input = Input::new(data);
    let number = input.below(SAMPLES);
    let sample = sample(number);
    let mut files = sample.files.clone();
    let mut origin = Origin::default();
    for _ in 0..MAX_CHANGES {
        if input.is_empty() {
            break;
        }
        change(sample, &mut files, &mut input, &mut origin);
    }
    let samples: Vec<_> = (0..SAMPLES).map(self::sample).collect();
    if genuine(&samples, sample, &files) {
        judge_as(sample, &files, verdict(&samples, &[sample], &files, &origin));
    } else {
        judge_as(sample, &files, May::ShowAnything);
    }
}

/// What may become of files of which none is forged; `own` is the log that they are of.
fn verdict<'a>(
    samples: &'a [&'a Sample],
    own: &'a [&'a Sample; 1],
    files: &Files,
    origin: &Origin,
) -> May<'a> {
    let before = &own[0].files;
    let missing = before.keys().any(|name| !files.contains_key(name));
    let one_more = files.keys().any(|name| is_numbered(name, ".wal") && !before.contains_key(name));
    if origin.other {
        return May::Begin(samples);
    }
    let control_lost = files.get(CONTROL) != before.get(CONTROL);
    if missing && control_lost || origin.older && (missing || one_more) {
        // A log as it once was, as a whole, is that log, and a segment that was replaced is dead;
        // nothing says otherwise. And a slot of CONTROL that is lost may be the only one that
        // knew of a lost segment.
        return May::Begin(own);
    }
    if missing || one_more {
        return May::Be(Right::Refused);
    }
    let known = files.iter().filter(|(name, _)| before.contains_key(*name));
    let known = known.map(|(name, bytes)| (name.clone(), Arc::clone(bytes))).collect();
    May::Be(own[0].layout.rule(&plain(&known)).right)
}

/// No block or frame is forged: each file is genuine for one of the logs.
fn genuine(samples: &[&Sample], sample: &Sample, files: &Files) -> bool {
    let alone = |name: &String, bytes: &Arc<Vec<u8>>| {
        let file = Files::from([(name.clone(), Arc::clone(bytes))]);
        samples.iter().any(|other| other.is_genuine(&file))
    };
    sample.is_genuine(files) || files.iter().all(|(name, bytes)| alone(name, bytes))
}
