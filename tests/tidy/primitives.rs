//! Things that one place owns: unsafe code, concurrency primitives, the clock, syncs.

use super::source::{File, files};
use super::{Finding, Rule};

fn library() -> Vec<File> {
    files(&["src"], &[".rs"])
}

/// Findings for words in code that no test module owns.
fn words(file: &File, words: &[&str]) -> Vec<Finding> {
    let code = file.production();
    let found = words
        .iter()
        .flat_map(|word| File::lines_with(&code, word).into_iter().map(move |line| (*word, line)));
    found.map(|(word, line)| Finding::new(file, line, format!("`{word}`"))).collect()
}

#[test]
fn unsafe_code_is_in_one_file() {
    let find = |file: &File| match file.path.as_str() {
        // A companion that asks the kernel for what no safe wrapper offers.
        "src/ring/buffer.rs" | "crates/torture/src/device.rs" => Vec::new(),
        _ => words(file, &["unsafe", "unsafe_code", "UnsafeCell", "transmute"])
            .into_iter()
            // Loom's cells are safe to hold, and one file may know loom.
            .filter(|f| f.path != "src/sync.rs" || f.what != "`UnsafeCell`")
            .collect(),
    };
    let advice = "Unsafe code lives in src/ring/buffer.rs alone, where types carry the argument. \
                  Find a safe way, or a type in that file that makes this one safe.";
    let broken = [
        ("src/a.rs", "fn f() { unsafe { g() } }"),
        ("src/a.rs", "#![allow(unsafe_code, reason = \"fast\")]"),
    ];
    let kept =
        [("src/a.rs", "// unsafe\nlet s = \"unsafe\";"), ("src/ring/buffer.rs", "unsafe {}")];
    let tree = files(&["src", "crates"], &[".rs"]);
    Rule { advice, find }.proven(&broken, &kept).holds_in(&tree);
}

/// What only `sync.rs` and its parts may name.
const PRIMITIVES: [&str; 12] = [
    "std::sync",
    "core::sync",
    "std::thread",
    "std::thread_local!",
    "std::time::Instant",
    "std::time::SystemTime",
    "Instant::now",
    "SystemTime::now",
    "parking_lot",
    "crossbeam_utils",
    "loom::",
    "shuttle::",
];

#[test]
fn concurrency_primitives_and_the_clock_come_from_one_file() {
    let find = |file: &File| match file.path.as_str() {
        "src/sync.rs" | "src/sync/time.rs" => Vec::new(),
        _ => words(file, &PRIMITIVES),
    };
    let advice = "Import it from crate::sync, which stands for a checker's types in the models. \
                  What is missing there is added there.";
    let broken = PRIMITIVES.map(|word| format!("use {word};\n"));
    let broken = broken.each_ref().map(|sample| ("src/a.rs", sample.as_str()));
    let kept = [
        ("src/a.rs", "use crate::sync::{Arc, Instant};\n#[cfg(loom)]\nuse std::time::Duration;"),
        ("src/a.rs", "#[cfg(test)]\nmod tests {\n    use std::thread;\n}\n"),
    ];
    Rule { advice, find }.proven(&broken, &kept).holds_in(&library());
}

#[test]
fn syncs_are_in_the_file_store() {
    let find = |file: &File| match file.path.starts_with("src/store/file") {
        true => Vec::new(),
        false => words(file, &["sync_data", "sync_all", "fsync", "fdatasync", "syncfs"]),
    };
    let advice = "A sync goes through StoreFile::sync or WalStore, so that every store has it, \
                  errors poison, and simulated disks see it. System calls are in src/store/file*.";
    let broken = [("src/flush/a.rs", "file.sync_data()?;"), ("src/a.rs", "file.sync_all()")];
    let kept = [("src/store/file.rs", "file.sync_data()"), ("src/a.rs", "// sync_data\nx.sync();")];
    Rule { advice, find }.proven(&broken, &kept).holds_in(&library());
}

#[test]
fn checksums_are_computed_in_one_file() {
    let find = |file: &File| match file.path.as_str() {
        "src/checksum.rs" => Vec::new(),
        _ => words(file, &["crc32c", "crc_fast"]),
    };
    let advice = "Call crate::checksum: a feature decides which crate computes it, and what one \
                  build writes every other build must read.";
    let broken = [("src/a.rs", "crc32c::crc32c(b)"), ("src/a.rs", "crc_fast::crc32_iscsi(b)")];
    let kept =
        [("src/checksum.rs", "crc32c::crc32c(b)"), ("src/a.rs", "checksum::of(b) // crc32c")];
    Rule { advice, find }.proven(&broken, &kept).holds_in(&library());
}

#[test]
fn random_numbers_and_process_ids_decide_nothing_but_names_and_forks() {
    fn known(path: &str) -> bool {
        ["src/store/mod.rs", "src/flush/storage.rs", "src/store/file.rs"].contains(&path)
    }
    let find = |file: &File| match known(&file.path) {
        true => Vec::new(),
        false => words(file, &["getrandom", "process::id", "std::env"]),
    };
    assert!(files(&["src"], &[".rs"]).iter().filter(|file| known(&file.path)).count() == 3);
    let advice = "What the log does depends on its calls and its files alone, so that a failure \
                  can be replayed. Salts, names and the check for forks are where they are.";
    let broken = [("src/a.rs", "std::process::id()"), ("src/a.rs", "getrandom::fill(&mut x)")];
    let kept = [("src/a.rs", "// getrandom\n"), ("src/store/mod.rs", "getrandom::fill(x)")];
    Rule { advice, find }.proven(&broken, &kept).holds_in(&library());
}
