//! The command line: every command's change is there for the next one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::Command;

use cohort_wal::Wal;
use knowledge_graph::Envelope;

/// Runs a command; returns whether it succeeded, and what it said on both streams.
fn run(arguments: &[&str]) -> (bool, String, String) {
    let program = env!("CARGO_BIN_EXE_knowledge-graph");
    let output = Command::new(program).args(arguments).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

fn says(arguments: &[&str], expected: &str) {
    let (succeeded, said, complained) = run(arguments);
    assert!(succeeded, "{complained}");
    assert_eq!(said, expected);
    assert_eq!(complained, "");
}

fn fails(arguments: &[&str], expected: &str) {
    assert_eq!(run(arguments), (false, String::new(), format!("error: {expected}\n")));
}

#[test]
fn commands_change_one_graph() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    says(&["create", at, "Ada", "person"], "created \"Ada\"\n");
    says(&["create", at, "A. L.", "person"], "created \"A. L.\"\n");
    says(&["create", at, "Engine", "machine"], "created \"Engine\"\n");
    says(&["add", at, "A. L.", "wrote Note G", "x"], "added 2 observations to \"A. L.\"\n");
    says(&["delete", at, "A. L.", "--observation", "x"], "deleted an observation of \"A. L.\"\n");
    says(&["relate", at, "A. L.", "studied", "Engine"], "related \"A. L.\" studied \"Engine\"\n");
    says(&["merge", at, "A. L.", "Ada"], "merged \"A. L.\" into \"Ada\"\n");
    let (succeeded, said, _) = run(&["compact", at]);
    assert!(succeeded && said.starts_with("an image stands for everything below LSN "), "{said}");
    let ada = "Ada (person)\n    wrote Note G\n    studied -> Engine\n";
    says(&["show", at, "Ada"], ada);
    says(&["show", at], &format!("{ada}Engine (machine)\n    studied <- Ada\n"));
    fails(&["create", at, "Ada", "person"], "there is an entity \"Ada\" already");
    fails(&["show", at, "Bob"], "there is no entity \"Bob\"");
    let long = "n".repeat(300);
    fails(&["create", at, &long, "person"], "the name has 300 bytes, more than 256");
    says(
        &["delete", at, "Ada", "--relation", "studied", "Engine"],
        "deleted a relation of \"Ada\"\n",
    );
    says(&["delete", at, "Ada"], "deleted \"Ada\"\n");
    says(&["show", at], "Engine (machine)\n");
    warns_of_a_newer_program(dir.path());
}

fn warns_of_a_newer_program(dir: &Path) {
    let log = Wal::open(dir).unwrap();
    let lsn = log.append_typed(&Envelope { kind: 900, body: b"?" }).unwrap();
    log.close().unwrap();
    let (succeeded, said, complained) = run(&["show", dir.to_str().unwrap()]);
    assert_eq!((succeeded, said.as_str()), (true, "Engine (machine)\n"));
    let warning = format!("skipped a record of kind 900 at LSN {lsn}, from a newer program");
    assert_eq!(complained, format!("warning: {warning}\n"));
}

#[test]
fn the_demonstration_checks_what_it_says() {
    let (succeeded, said, complained) = run(&["demo"]);
    assert!(succeeded, "{complained}");
    assert!(said.contains("1601 entities, 1600 merges: all as before"), "{said}");
    assert!(said.contains("a record of kind 900"), "{said}");
}
