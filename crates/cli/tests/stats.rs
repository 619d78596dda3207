//! `stats`: what it counts of logs whose records, batches and cohorts are known, of damaged ones,
//! and beside a writer.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use cohort_wal::{Lsn, Wal};
use serde_json::{Value, json};

use common::{FRAME, beside, contents, damage, look, look_json, segment_path, text, write_log};

/// A log of which each cohort has so many records of 100 bytes; the LSNs of all records.
fn write_cohorts(wal: &Wal, cohorts: &[usize]) -> Vec<Lsn> {
    let mut lsns = Vec::new();
    for records in cohorts {
        for _ in 0..*records {
            lsns.push(wal.append(&[7; 100]).unwrap());
        }
        wal.sync().unwrap();
    }
    lsns
}

/// The buckets of a histogram with something in them, as `[start, end, count]`.
fn filled(histogram: &Value) -> Value {
    let buckets = histogram["buckets"].as_array().unwrap().iter();
    let filled = buckets.filter(|bucket| bucket["count"] != 0);
    filled.map(|bucket| json!([bucket["start"], bucket["end"], bucket["count"]])).collect()
}

fn figures(histogram: &Value) -> [&Value; 6] {
    ["count", "sum", "min", "median", "p99", "max"].map(|key| &histogram[key])
}

#[test]
fn cohorts_are_those_that_were_synced() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    write_cohorts(&wal, &[3, 1, 4]);
    // A segment may end inside a cohort.
    wal.append(&[7; 100]).unwrap();
    wal.rotate().unwrap();
    write_cohorts(&wal, &[4, 9]);
    wal.close().unwrap();

    let stats = look_json(dir.path(), &["stats"], 0);
    assert_eq!(stats["records"], 22);
    let cohorts = &stats["cohorts"];
    assert_eq!(cohorts["syncs"], 5);
    assert_eq!(figures(&cohorts["records"]), [5, 22, 1, 4, 9, 9].map(|n| json!(n)).each_ref());
    assert_eq!(filled(&cohorts["records"]), json!([[1, 2, 1], [2, 4, 1], [4, 8, 2], [8, 16, 1]]));
    let bytes = [5, 22, 1, 4, 9, 9].map(|n| json!(if n == 5 { 5 } else { n * FRAME }));
    assert_eq!(figures(&cohorts["bytes"]), bytes.each_ref());

    let (shown, _) = look(dir.path(), &["stats"], 0);
    assert!(shown.contains("syncs: at least 5\n"), "{shown}");
    assert!(shown.contains("records of a cohort: median 4, p99 9, max 9\n"), "{shown}");
    assert!(shown.contains("--live SECONDS"), "{shown}");
    let rows = shown.lines().filter(|line| !line.contains(text(dir.path())));
    assert!(rows.clone().count() > 20, "{shown}");
    let wide: Vec<_> = rows.filter(|line| line.len() > 80 || !line.is_ascii()).collect();
    assert!(wide.is_empty(), "{wide:?}");
}

#[test]
fn sizes_are_those_of_records_batches_and_files() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    for len in [0, 1, 8, 64, 100, 1000] {
        wal.append(&vec![7; len]).unwrap();
    }
    wal.append_batch(&[[1; 8], [2; 8], [3; 8]]).unwrap();
    wal.append_batch(&[[1; 8]]).unwrap();
    wal.append_batch(&[[1; 8], [2; 8]]).unwrap();
    wal.rotate().unwrap();
    wal.append(b"in the second segment").unwrap();
    wal.close().unwrap();

    let stats = look_json(dir.path(), &["stats"], 0);
    let (payload, frames) = (1173 + 48 + 21, 16 + 24 + 24 + 80 + 120 + 1016 + 6 * 24 + 40);
    assert_eq!((&stats["records"], &stats["payload_bytes"]), (&json!(13), &json!(payload)));
    assert_eq!((&stats["head"], &stats["end"]), (&json!(0), &json!(frames)));
    assert_eq!(stats["frame_bytes"], frames);
    let overhead = f64::from(frames - payload) / f64::from(frames) * 100.0;
    assert_eq!(stats["overhead_percent"], overhead);
    assert_eq!((&stats["batches"], &stats["batched_records"]), (&json!(2), &json!(5)));
    assert_eq!((&stats["pads"], &stats["pad_bytes"]), (&json!(0), &json!(0)));
    assert_eq!(
        filled(&stats["record_bytes"]),
        json!([[0, 1, 1], [1, 2, 1], [8, 16, 7], [16, 32, 1], [64, 128, 2], [512, 1024, 1]])
    );
    let files: u64 =
        [1, 2].map(|seq| segment_path(dir.path(), seq).metadata().unwrap().len()).iter().sum();
    assert_eq!(
        (&stats["segment_bytes"]["count"], &stats["segment_bytes"]["sum"]),
        (&json!(2), &json!(files))
    );
    for none in ["live", "damage", "refusal"] {
        assert_eq!(stats[none], Value::Null, "{none}");
    }
    assert_eq!(
        (&stats["cleanly_closed"], &stats["unwitnessed_records"]),
        (&json!(true), &json!(0))
    );
}

#[test]
fn logs_with_nothing_or_next_to_nothing_have_stats() {
    let dir = tempfile::tempdir().unwrap();
    Wal::open(dir.path()).unwrap().close().unwrap();
    let stats = look_json(dir.path(), &["stats"], 0);
    assert_eq!((&stats["records"], &stats["overhead_percent"]), (&json!(0), &Value::Null));
    assert_eq!(
        (&stats["cohorts"]["syncs"], &stats["record_bytes"]["buckets"]),
        (&json!(0), &json!([]))
    );
    assert_eq!(stats["record_bytes"]["median"], Value::Null);
    assert!(look(dir.path(), &["stats"], 0).0.contains("payload bytes of a record: none\n"));

    Wal::open(dir.path()).unwrap().append_and_sync(b"alone").unwrap();
    let stats = look_json(dir.path(), &["stats"], 0);
    assert_eq!((&stats["records"], &stats["cohorts"]["syncs"]), (&json!(1), &json!(1)));
    assert_eq!(stats["cohorts"]["records"]["max"], 1);
}

#[test]
fn the_cohort_that_the_head_cuts_counts_as_a_sync_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let lsns = write_cohorts(&wal, &[4, 3, 2]);
    wal.truncate_before(lsns[2]).unwrap();
    wal.close().unwrap();
    let stats = look_json(dir.path(), &["stats"], 0);
    assert_eq!((&stats["records"], &stats["head"]), (&json!(7), &json!(lsns[2].get())));
    assert_eq!(stats["cohorts"]["syncs"], 3);
    assert_eq!(filled(&stats["cohorts"]["records"]), json!([[2, 4, 2]]));
}

#[test]
fn a_damaged_log_is_summed_up_to_the_damage() {
    for per_segment in [300, 1000] {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), per_segment);
        let (path, offset) = damage(dir.path(), 500, per_segment);
        let before = contents(dir.path());
        let stats = look_json(dir.path(), &["stats"], 1);
        assert_eq!(stats["records"], 500);
        assert_eq!(stats["record_bytes"]["sum"], 50_000);
        assert_eq!(
            (&stats["damage"]["path"], &stats["damage"]["offset"]),
            (&json!(text(&path)), &json!(offset))
        );
        assert_eq!(stats["damage"]["start"], 500 * FRAME);
        assert_eq!(stats["refusal"].is_string(), per_segment == 1000);
        let (shown, _) = look(dir.path(), &["stats"], 1);
        for told in [text(&path), &format!("LSN {}", 500 * FRAME), "`verify`", "`repair`"] {
            assert!(shown.contains(told), "{told} is missing from {shown}");
        }
        assert_eq!(contents(dir.path()), before);
    }
}

#[test]
fn senseless_times_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    Wal::open(dir.path()).unwrap().close().unwrap();
    for seconds in ["0", "-1", "soon", "1e9", "NaN"] {
        look(dir.path(), &["stats", &format!("--live={seconds}")], 2);
    }
    let stats = look_json(dir.path(), &["stats", "--live", "0.01"], 0);
    assert_eq!((&stats["live"]["syncs"], &stats["live"]["records"]), (&json!(0), &json!(0)));
    let (shown, _) = look(dir.path(), &["stats", "--live", "0.01"], 0);
    assert!(shown.contains("nobody wrote to the log"), "{shown}");
}

fn total(histogram: &Value) -> u64 {
    let buckets = histogram["buckets"].as_array().unwrap().iter();
    buckets.map(|bucket| bucket["count"].as_u64().unwrap()).sum()
}

#[test]
fn a_writer_is_watched_at_work() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("log");
    let wal = Wal::open(&dir).unwrap();
    let write = || {
        wal.append_and_sync(&[7; 100]).unwrap();
    };
    beside(write, || {
        // How long it takes until something is seen is up to the machine.
        let stats = loop {
            let stats = look_json(&dir, &["stats", "--live", "0.3"], 0);
            if stats["live"]["cohorts_us"]["count"].as_u64() > Some(0) {
                break stats;
            }
        };
        let live = &stats["live"];
        assert!(live["syncs"].as_u64() > live["cohorts_us"]["count"].as_u64(), "{live}");
        assert_eq!(live["bytes"].as_u64().unwrap(), live["records"].as_u64().unwrap() * 120);
        let histograms = ["cohorts_us", "looks_us", "records_per_s_each", "bytes_per_s_each"];
        for histogram in histograms.map(|key| &live[key]) {
            assert_eq!(total(histogram), histogram["count"], "{live}");
        }
        for rate in ["seconds", "records_per_s", "bytes_per_s"] {
            assert!(live[rate].as_f64().unwrap() > 0.0, "{live}");
        }
        let (shown, complaint) = look(&dir, &["stats", "--live", "0.05"], 0);
        assert!(shown.contains("watched") && complaint.is_empty(), "{shown}{complaint}");
    });
    wal.close().unwrap();
    assert_eq!(look_json(&dir, &["stats"], 0)["cleanly_closed"], true);
}
