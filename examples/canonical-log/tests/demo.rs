//! The program: the demo checks itself, and says what it has found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

use canonical_log::CanonicalLog;
use cohort_wal::WalOptions;

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_canonical-log")).args(arguments).output().unwrap()
}

#[test]
fn the_demo_shows_everything_and_checks_it() {
    let output = run(&["demo"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    for what in [
        "8 writers: 2400 entries, 800 checkpoints, ",
        "two entries without a checkpoint: 2 orphans cut",
        "cutting at the end: ",
        "the first entry is number 2400\n",
        "CONTROL is not a log",
        "another program's; its log was left alone",
        "beside a file of another name: 1 entry\n",
    ] {
        assert!(said.contains(what), "{what}: {said}");
    }
}

#[test]
fn a_log_is_shown_and_one_that_is_not_there_is_not_made() {
    let home = tempfile::tempdir().unwrap();
    let (dir, none) = (home.path().join("log"), home.path().join("none"));
    let log = CanonicalLog::open(WalOptions::new(), &dir).unwrap();
    log.append(b"12345").unwrap();
    log.checkpoint().unwrap();
    log.append(b"an orphan").unwrap();
    log.wal().close().unwrap();
    let shown = run(&["show", dir.to_str().unwrap()]);
    let expected = "1 entries committed, 1 of them kept, 5 bytes\n1 orphans cut\n";
    assert_eq!(String::from_utf8(shown.stdout).unwrap(), expected);
    assert_eq!(run(&["show", none.to_str().unwrap()]).status.code(), Some(1));
    assert!(!none.exists());
    assert_eq!(run(&["show"]).status.code(), Some(2));
}
