//! Every input that a fuzzer has kept, and many that are made from them, without a fuzzer.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use cohort_wal_fuzz::{TARGETS, Target};
use simulation::dice::Dice;

/// Inputs of one target in a folder, by name; none when there is no such folder.
fn inputs(folder: &str, target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

fn try_one(target: Target, data: &[u8], name: &str) {
    let tried = catch_unwind(|| target(data));
    assert!(tried.is_ok(), "{name} fails on {data:?}");
}

#[test]
fn what_the_fuzzer_kept_breaks_no_promise() {
    for (name, target) in TARGETS {
        let corpus = inputs("corpus", name);
        assert!(!corpus.is_empty(), "{name} has no corpus: nothing is replayed");
        for (path, data) in corpus.into_iter().chain(inputs("regressions", name)) {
            try_one(target, &data, &path.display().to_string());
        }
    }
}

/// An input of the corpus with a few of its bytes changed, left out or repeated.
fn mutated(dice: &mut Dice, corpus: &[(PathBuf, Vec<u8>)]) -> Vec<u8> {
    let mut data = corpus[dice.below(corpus.len())].1.clone();
    for _ in 0..1 + dice.below(4) {
        let at = dice.below(data.len());
        match dice.below(4) {
            0 if !data.is_empty() => drop(data.remove(at)),
            1 => data.insert(at, dice.number().to_le_bytes()[0]),
            2 => data.extend_from_within(at..),
            _ => {
                if let Some(byte) = data.get_mut(at) {
                    *byte = dice.number().to_le_bytes()[0];
                }
            }
        }
        data.truncate(2048);
    }
    data
}

#[test]
fn what_is_close_to_the_corpus_breaks_no_promise() {
    for (number, (name, target)) in (0..).zip(TARGETS) {
        let corpus = inputs("corpus", name);
        let mut dice = Dice::new(&[number]);
        let count = if name == "operations" { 150 } else { 1500 };
        for _ in 0..count {
            try_one(target, &mutated(&mut dice, &corpus), name);
        }
    }
}
