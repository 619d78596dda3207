//! The program: the demo checks itself, and says what it has found.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ledger-engine")).args(arguments).output().unwrap()
}

#[test]
fn the_demo_shows_everything_and_checks_it() {
    let output = run(&["demo", "100"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said} {}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("8 writers: 800 transactions, "), "{said}");
    let times = |what: &str| said.lines().filter(|line| line.starts_with(what)).count();
    assert_eq!((times("reader: "), times("auditor: "), times("  skipped: ")), (2, 2, 1), "{said}");
    for what in ["rollback: 30 ", "seek: 10 ", "opened again: ", "damaged copy: ", "rescued "] {
        assert_eq!(times(what), 1, "{said}");
    }
}

#[test]
fn a_ledger_is_checked_and_wrong_arguments_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let checked = run(&["check", dir.path().to_str().unwrap()]);
    assert!(checked.status.success());
    assert!(String::from_utf8_lossy(&checked.stdout).contains("the balances add up to 0"));
    for arguments in [&[][..], &["demo", "many"], &["work"]] {
        assert_eq!(run(arguments).status.code(), Some(2), "{arguments:?}");
    }
}
