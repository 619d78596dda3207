//! The program: what its subcommands print, and how they fail.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn run(words: &[&str], dir: &Path) -> Output {
    // `DIR` stands for the directory.
    let words =
        words.iter().map(|word| if *word == "DIR" { dir.as_os_str() } else { word.as_ref() });
    Command::new(env!("CARGO_BIN_EXE_kv-snapshot")).args(words).output().unwrap()
}

/// What it prints when all goes well.
fn prints(words: &[&str], dir: &Path) -> String {
    let output = run(words, dir);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// Its exit code and what it says when something is wrong.
fn fails(words: &[&str], dir: &Path) -> (i32, String) {
    let output = run(words, dir);
    assert!(output.stdout.is_empty());
    (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn a_state_is_kept_from_command_to_command() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    prints(&["put", "DIR", "a", "1", "first"], dir);
    prints(&["put", "DIR", "b", "1", "second"], dir);
    prints(&["put", "DIR", "b", "2", "third"], dir);
    prints(&["put", "DIR", "c", "1", ""], dir);
    assert_eq!(prints(&["cursor", "DIR"], dir), "");
    prints(&["cursor", "DIR", "page 9"], dir);
    assert_eq!(prints(&["delete", "DIR", "b", "1"], dir), "kept: b has version 2\n");
    assert_eq!(prints(&["delete", "DIR", "a", "1"], dir), "");
    prints(&["purge", "DIR", "c"], dir);
    assert_eq!(prints(&["list", "DIR"], dir), "b\t2\tthird\n");
    assert!(prints(&["compact", "DIR"], dir).starts_with("1 entries in the snapshot at "));
    assert_eq!(prints(&["list", "DIR"], dir), "b\t2\tthird\n");
    assert_eq!(prints(&["cursor", "DIR"], dir), "page 9\n");

    prints(&["put", "DIR", "key with spaces", "v1", "x"], dir);
    let listing = dir.with_extension("listing");
    fs::write(&listing, "b 3\nkey with spaces v1\n").unwrap();
    let listing_name = listing.to_str().unwrap();
    assert_eq!(prints(&["purge", "DIR", "--listing", listing_name], dir), "b\n");
    assert_eq!(prints(&["list", "DIR"], dir), "key with spaces\tv1\tx\n");
    fs::remove_file(listing).unwrap();
}

#[test]
fn commands_that_write_compact_above_the_threshold() {
    let dir = tempfile::tempdir().unwrap();
    let has_snapshot = || {
        let names = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name());
        names.into_iter().any(|name| name.to_string_lossy().ends_with(".snap"))
    };
    let value = "x".repeat(300);
    prints(&["put", "DIR", "a", "1", &value, "--compact-above", "1000"], dir.path());
    assert!(!has_snapshot());
    for _ in 0..4 {
        prints(&["put", "DIR", "a", "1", &value, "--compact-above", "1000"], dir.path());
    }
    assert!(has_snapshot());
    assert_eq!(prints(&["list", "DIR"], dir.path()), format!("a\t1\t{value}\n"));
}

#[test]
fn failures_go_to_stderr_with_a_code() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let (code, said) = fails(&["put", "DIR", "key", "0123456789A", "value"], &log);
    assert!(code == 1 && said.contains("11 bytes") && !log.exists(), "{said}: nothing is appended");
    let (code, said) = fails(&["list", "DIR"], &log);
    assert!(code == 1 && said.contains("no log") && !log.exists(), "{said}");
    assert_eq!(fails(&["purge", "DIR"], &log).0, 2);

    for key in ["a", "b", "c"] {
        prints(&["put", "DIR", key, "0123456789", "value"], &log);
    }
    let mut segments: Vec<_> = fs::read_dir(&log).unwrap().map(|e| e.unwrap().path()).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "wal"));
    segments.sort();
    let mut bytes = fs::read(&segments[0]).unwrap();
    let at = bytes.windows(10).position(|window| window == b"0123456789").unwrap();
    bytes[at] ^= 1;
    fs::write(&segments[0], bytes).unwrap();
    let (code, said) = fails(&["list", "DIR"], &log);
    assert!(code == 3 && said.contains("corruption"), "{said}");
}

#[test]
fn the_demo_checks_itself_and_can_be_run_again_where_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for round in 1..=2 {
        let said = prints(&["demo", "DIR"], dir.path());
        let all = format!("all 4 x {} commits are there", round * 1000);
        assert!(said.contains(&all) && said.contains("purged, compacted, loaded"), "{said}");
    }
}
