//! Every command that reads a log, beside a writer that truncates it as fast as it can: what is
//! shown was the log a moment ago, and none of it is called damage or an error of the system.
//!
//! Method: whatever a command says of records and bytes must agree with itself. Segments are small,
//! so that most of those that a command has listed are gone when it comes to read them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use cohort_wal::WalOptions;
use serde_json::Value;

use common::{beside, look_json, run, stderr, text};

const LOOKS: usize = 20;
const PAYLOAD: usize = 1000;

/// Runs `look` some times beside a writer that truncates.
fn beside_truncation(look: impl Fn(&Path)) {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("log");
    let options = || WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
    let wal = options().open(&dir).unwrap();
    let append = || wal.append_and_sync(&[7; PAYLOAD]).unwrap();
    let first = append();
    let write = || {
        for _ in 0..20 {
            append();
        }
        wal.truncate_before(append()).unwrap();
    };
    write();
    beside(write, || (0..LOOKS).for_each(|_| look(&dir)));
    let stats = look_json(&dir, &["stats"], 0);
    assert!(number(&stats, "head") > first.get(), "{stats}");
    drop(wal);
}

fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap()
}

#[test]
fn stats_agree_with_themselves() {
    beside_truncation(|dir| {
        let stats = look_json(dir, &["stats", "--live", "0.01"], 0);
        let number = |key| number(&stats, key);
        assert_eq!(number("frame_bytes"), number("end") - number("head"), "{stats}");
        assert_eq!(number("payload_bytes"), number("records") * PAYLOAD as u64, "{stats}");
        assert_eq!(stats["damage"], Value::Null);
    });
}

#[test]
fn verify_reads_what_is_left_and_finds_it_clean() {
    let records = AtomicU64::new(0);
    beside_truncation(|dir| {
        let found = look_json(dir, &["verify"], 0);
        let number = |key| number(&found, key);
        assert_eq!(found["verdict"], "clean");
        records.fetch_add(number("records"), Ordering::Relaxed);
        assert_eq!(number("bytes"), number("records") * PAYLOAD as u64, "{found}");
        // With headers and padding; pads may come in between.
        assert!(number("end") - number("head") >= number("bytes"), "{found}");
    });
    assert!(records.into_inner() > 0, "no look has found a record");
}

#[test]
fn lists_and_maps_show_no_damage() {
    beside_truncation(|dir| {
        let listing = look_json(dir, &["ls", "--records"], 0);
        for segment in listing["segments"].as_array().unwrap() {
            let note = segment["note"].as_str().unwrap_or_default();
            assert_eq!(segment["damaged"], false, "{segment}");
            assert_eq!(segment["records"].is_null(), note.contains("was truncated"), "{segment}");
        }
        let map = look_json(dir, &["map"], 0);
        assert!(!map["segments"].as_array().unwrap().is_empty(), "{map}");
    });
}

#[test]
fn records_that_are_gone_are_named() {
    beside_truncation(|dir| {
        let output = run(&["dump", text(dir), "--json"]);
        let complaint = stderr(&output);
        match output.status.code() {
            Some(0) => {}
            Some(2) => assert!(complaint.contains("was truncated; the log begins"), "{complaint}"),
            other => panic!("{other:?}: {complaint}"),
        }
    });
}
