//! Drives the built binary: what it prints, what it exits with, and what it leaves alone.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::process::Stdio;

use cohort_wal::Wal;
use serde_json::Value;

use common::{FRAME, command, contents, damage, run, run_json, stderr, text, write_log};

const BENCH_FIELDS: [&str; 24] = [
    "threads",
    "size",
    "mode",
    "seconds",
    "records",
    "per_s",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "latency_sampled_every",
    "flushes",
    "syncs",
    "commits_per_sync",
    "floor",
    "floor_per_s",
    "floor_ratio",
    "close_ms",
    "open_ms",
    "replay_per_s",
    "replayed",
    "lost",
    "invented",
    "first_bad",
];

/// Damages record 500 and expects verify to find it and to change nothing. Returns its findings.
fn verify_finds_damage(per_segment: usize) -> Value {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), per_segment);
    let (path, offset) = damage(dir.path(), 500, per_segment);
    let before = contents(dir.path());

    let found = run_json(&["verify", text(dir.path())], 1);
    assert_eq!(found["verdict"], "damaged");
    assert_eq!(found["damage"]["path"], text(&path));
    assert_eq!(found["damage"]["offset"], offset);
    assert_eq!(found["damage"]["start"], 500 * FRAME);

    let output = run(&["verify", text(dir.path())]);
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.contains(text(&path)), "{table}");
    assert!(table.contains("what to do"), "{table}");
    assert_eq!(contents(dir.path()), before, "verify changes nothing");
    found
}

fn bench_loses_nothing(mode: &str, floor: &str) {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("log");
    let args = ["bench", "--dir", text(&dir), "--seconds", "1", "--threads", "4", "--mode", mode];
    let report = run_json(&args, 0);
    for field in BENCH_FIELDS {
        assert!(report.get(field).is_some(), "{field} is missing from {report}");
    }
    assert_eq!(report["lost"], 0);
    assert_eq!(report["invented"], 0);
    assert_eq!(report["records"], report["replayed"]);
    assert_eq!(report["mode"], mode);
    assert_eq!(report["floor"], floor);
    assert!(report["records"].as_u64().unwrap() > 0);
    assert!(report["floor_per_s"].as_f64().unwrap() > 0.0);
    if mode == "durable" {
        assert!(report["syncs"].as_u64().unwrap() > 0);
    }

    let before = contents(&dir);
    let info = run_json(&["info", text(&dir)], 0);
    assert_eq!(info["cleanly_closed"], true);
    assert!(!info["segments"].as_array().unwrap().is_empty());
    let verified = run_json(&["verify", text(&dir)], 0);
    assert_eq!(verified["verdict"], "clean");
    assert_eq!(verified["records"], report["records"]);
    assert_eq!(contents(&dir), before, "read-only commands change no byte");

    let again = run(&args);
    assert_eq!(again.status.code(), Some(2), "an earlier log is not deleted");
    assert!(stderr(&again).starts_with("cohort-wal: "), "{}", stderr(&again));
    assert!(stderr(&again).contains("is not empty"), "{}", stderr(&again));
    assert_eq!(contents(&dir), before, "a refused bench changes nothing");
}

#[test]
fn durable_bench_loses_nothing() {
    bench_loses_nothing("durable", "pwrite_fdatasync");
}

#[test]
fn flushed_bench_loses_nothing() {
    bench_loses_nothing("flushed", "pwrite");
}

#[test]
fn buffered_bench_loses_nothing() {
    bench_loses_nothing("buffered", "memcpy");
}

#[test]
fn records_of_every_layout_survive_the_replay() {
    let outer = tempfile::tempdir().unwrap();
    for size in ["0", "1", "2", "11", "13", "300", "100000"] {
        let dir = outer.path().join(size);
        let args = ["bench", "--dir", text(&dir), "--seconds", "0.1", "--threads", "3"];
        let args = [&args[..], &["--size", size, "--mode", "flushed"]].concat();
        let report = run_json(&args, 0);
        assert_eq!((&report["lost"], &report["invented"]), (&0.into(), &0.into()), "{size} bytes");
    }
}

#[test]
fn bench_removes_the_directory_it_made() {
    let dir = tempfile::tempdir().unwrap();
    let mut bench = command(&["bench", "--seconds", "0.1", "--segment-bytes", "65536"]);
    let output = bench.current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let table = String::from_utf8_lossy(&output.stdout);
    assert!(table.lines().any(|line| line.split_whitespace().eq(["lost", "0"])), "{table}");
    assert!(output.stderr.is_empty(), "no progress without a terminal: {}", stderr(&output));
    assert_eq!(contents(dir.path()).len(), 0);
}

#[test]
fn senseless_arguments_are_usage_errors() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    for extra in [
        ["--threads", "0"],
        ["--seconds", "0"],
        ["--mode", "careless"],
        ["--size", "-1"],
        ["--ring-bytes", "100000"],
    ] {
        let output = run(&[&["bench", "--dir", text(&log)][..], &extra].concat());
        assert_eq!(output.status.code(), Some(2), "{extra:?}: {}", stderr(&output));
    }
    assert!(!log.exists(), "a usage error makes nothing");
    fs::create_dir_all(&log).unwrap();
    fs::write(log.join("notes"), b"mine").unwrap();
    let output = run(&["bench", "--dir", text(&log)]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(contents(&log), BTreeMap::from([(log.join("notes"), b"mine".to_vec())]));
}

#[test]
fn verify_names_damage_in_an_older_segment_and_counts_what_is_below() {
    let found = verify_finds_damage(300);
    assert_eq!(found["records"], 500);
    assert_eq!(found["bytes"], 500 * 100);
    assert_eq!(found["end"], 1000 * FRAME);
}

#[test]
fn verify_names_damage_in_the_last_segment() {
    verify_finds_damage(1000);
}

#[test]
fn a_directory_without_a_log_exits_2_and_stays_as_it_is() {
    let outer = tempfile::tempdir().unwrap();
    let absent = outer.path().join("absent");
    for command in ["info", "verify"] {
        for dir in [&absent, &outer.path().to_path_buf()] {
            let output = run(&[command, text(dir)]);
            assert_eq!(output.status.code(), Some(2), "{command}: {}", stderr(&output));
            assert!(stderr(&output).starts_with("cohort-wal: "), "{}", stderr(&output));
            assert!(output.stdout.is_empty());
        }
    }
    assert_eq!(contents(outer.path()).len(), 0);
}

#[test]
fn read_only_commands_work_beside_a_live_writer_and_change_nothing() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("log");
    let wal = Wal::open(&dir).unwrap();
    for _ in 0..10 {
        wal.append_and_sync(b"acknowledged").unwrap();
    }
    let before = contents(&dir);
    let info = run_json(&["info", text(&dir)], 0);
    assert_eq!(info["cleanly_closed"], false);
    let verified = run_json(&["verify", text(&dir)], 0);
    assert_eq!(verified["verdict"], "clean");
    // The last commit of a live log is witnessed by the next one only.
    assert!(verified["records"].as_u64().unwrap() >= 8, "{verified}");
    let refused = run(&["bench", "--dir", text(&dir)]);
    assert_eq!(refused.status.code(), Some(2), "{}", stderr(&refused));
    assert_eq!(contents(&dir), before);
    wal.append_and_sync(b"the writer goes on").unwrap();
    wal.close().unwrap();
    assert_eq!(run_json(&["verify", text(&dir)], 0)["records"], 11);
}

#[test]
fn info_names_files_that_are_not_ours() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 1000);
    fs::write(dir.path().join("notes"), b"mine").unwrap();
    let info = run_json(&["info", text(dir.path())], 0);
    assert_eq!(info["unknown_files"], serde_json::json!(["notes"]));
    assert_eq!(info["cleanly_closed"], true);
    assert_eq!(info["head"], 0);
    assert_eq!(info["end"], 1000 * FRAME);
}

#[test]
fn a_closed_stdout_is_no_panic() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 1000);
    for args in [&["info", text(dir.path())][..], &["verify", text(dir.path())], &["--help"]] {
        let mut child =
            command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        assert!(output.stderr.is_empty(), "{}", stderr(&output));
    }
}
