//! The demo: writes points, reads them back, checks each, and prints the rates.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use common::program;

#[test]
fn the_demo_checks_every_point_and_prints_rates() {
    // A collection that is shorter than the others, and batches that do not come out even.
    let size = ["--points", "999", "--dims", "33", "--batch", "16"];
    let output = program().arg("demo").args(size).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{said}");
    assert!(said.starts_with("999 points of 33 floats, batches of 16, 4 collections"), "{said}");
    for what in ["plain: ", "encrypted: ", "  write, durable ", "  open, check all ", "  replay, "]
    {
        let times = if what.starts_with(' ') { 2 } else { 1 };
        assert_eq!(said.lines().filter(|line| line.starts_with(what)).count(), times, "{said}");
    }
    assert_eq!((said.matches(" points/s ").count(), said.matches(" MiB/s\n").count()), (6, 6));
    assert!(said.ends_with("with another key: refused, wrong key\n"), "{said}");
    let none = program().args(["demo", "--points", "0"]).output().unwrap();
    assert_eq!(none.status.code(), Some(1));
}
