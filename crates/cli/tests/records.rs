//! `dump` and `explain`: every record, every byte of a frame, and the parts that are asked for.

mod common;

use std::fs;

use cohort_wal::Wal;
use serde_json::{Value, json};

use common::{
    FIRST_FRAME, FRAME, contents, dumped, look, look_json, lsns, overwrite, payload, segment_path,
    write_log,
};

const RECORDS: usize = 1000;

#[test]
fn dump_prints_every_record_in_order() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    let records = dumped(dir.path(), &[]);
    assert_eq!(records.len(), RECORDS);
    for (index, record) in records.iter().enumerate() {
        let data = payload(index);
        let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(record["lsn"], index * FRAME);
        assert_eq!((&record["len"], &record["hex"]), (&json!(100), &json!(hex)));
        assert_eq!(record["utf8"].as_str(), str::from_utf8(&data).ok());
    }
    let (listing, _) = look(dir.path(), &["dump"], 0);
    assert_eq!(listing.lines().count(), RECORDS);
    let line = listing.lines().nth(65).unwrap();
    let expected = ["7800", "100", &"A".repeat(100)];
    assert!(line.split_whitespace().eq(expected), "whole where there is no terminal: {line}");
}

#[test]
fn dump_prints_the_part_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    let all: Vec<_> = (0..RECORDS).map(|index| index * FRAME).collect();
    let dump = |args: &[&str]| lsns(&dumped(dir.path(), args));
    assert_eq!(dump(&["--from", "36000"]), all[300..]);
    assert_eq!(dump(&["--from", "35999"]), all[300..], "in the last record of a segment");
    assert_eq!(dump(&["--from", "121"]), all[2..]);
    assert_eq!(dump(&["--from", "120", "--to", "360"]), all[1..3]);
    assert_eq!(dump(&["--to", "361"]), all[..4]);
    assert_eq!(dump(&["--from", "240", "--limit", "2"]), all[2..4]);
    assert!(dump(&["--limit", "0"]).is_empty());
    assert!(dump(&["--from", "119999"]).is_empty());
    assert!(dump(&["--from", "99999999"]).is_empty());
    for senseless in [["--from", "x"], ["--limit", "-1"], ["--format", "xml"]] {
        look(dir.path(), &[&["dump"][..], &senseless].concat(), 2);
    }
    look(dir.path(), &["dump", "--json", "--format", "hex"], 2);
}

#[test]
fn dump_prints_payloads_alone_in_the_format_that_is_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    for record in [&b"{\"debit\":\n 7.50}"[..], b"[]", b"", b"\x1b[31m\xff"] {
        wal.append(record).unwrap();
    }
    wal.close().unwrap();
    let dump = |args: &[&str], code| look(dir.path(), &[&["dump"], args].concat(), code);
    let (hex, _) = dump(&["--format", "hex"], 0);
    assert_eq!(hex.lines().collect::<Vec<_>>()[1..], ["5b5d", "", "1b5b33316dff"]);
    let (utf8, _) = dump(&["--format", "utf8"], 0);
    let lines = ["{\"debit\":\\n 7.50}", "[]", "", "\\u{1b}[31m\\xff"];
    assert!(utf8.lines().eq(lines), "{utf8}");
    let (json, complaint) = dump(&["--format", "json", "--limit", "2"], 0);
    assert_eq!((json.as_str(), complaint.as_str()), ("{\"debit\":  7.50}\n[]\n", ""));
    let (json, complaint) = dump(&["--format", "json"], 2);
    assert_eq!(json.lines().count(), 2, "what is JSON comes first");
    assert!(complaint.contains("LSN 56 is not JSON"), "{complaint}");
}

#[test]
fn damage_in_a_frame_header_is_told_from_damage_in_a_body() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    overwrite(&segment_path(dir.path(), 1), FIRST_FRAME + 7 * FRAME + 4, &[0xFF; 4]);
    let found = look_json(dir.path(), &["explain", "845"], 1);
    assert_eq!((&found["start"], &found["end"]), (&json!(840), &json!(960)));
    assert_eq!(found["frame"]["header_crc"]["matches"], false);
    assert_eq!(found["frame"]["len"]["value"], u32::MAX);
    assert_eq!(found["frame"]["body_crc"]["computed"], Value::Null);
    let (text_form, _) = look(dir.path(), &["explain", "845"], 1);
    assert!(text_form.contains("these bytes were durable"), "{text_form}");
    assert!(text_form.contains("no valid frame header"), "{text_form}");
    assert_eq!(look(dir.path(), &["dump"], 1).0.lines().count(), 7);
    assert_eq!(look_json(dir.path(), &["explain", "960"], 0)["content"], "record");
}

#[test]
fn explain_names_every_byte_of_a_frame() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    wal.append_and_sync(b"hello").unwrap();
    wal.append_batch_and_sync(&["debit 7", "credit 7"]).unwrap();
    wal.append(&[b'x'; 1000]).unwrap();
    wal.close().unwrap();
    let explain = |lsn: &str, more: &[&str]| {
        look_json(dir.path(), &[&["explain", lsn][..], more].concat(), 0)
    };
    let found = explain("24", &[]);
    let frame = &found["frame"];
    let mut at = found["offset"].as_u64().unwrap();
    let path = segment_path(dir.path(), 1);
    let bytes = fs::read(&path).unwrap();
    // The fields follow each other without a gap, and their bytes are those of the file.
    for field in ["header_crc", "len", "body_crc", "kind_and_flags", "lag", "body", "padding"] {
        let field = &frame[field];
        assert_eq!(field["offset"], at, "{field}");
        let hex = field["bytes"].as_str().or(field["hex"].as_str()).unwrap().replace(' ', "");
        let from = usize::try_from(at).unwrap();
        let own = &bytes[from..from + hex.len() / 2];
        assert_eq!(hex, own.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        at += u64::try_from(own.len()).unwrap();
    }
    assert_eq!(at, u64::try_from(FIRST_FRAME + 48).unwrap());
    assert_eq!(frame["kind_and_flags"]["value"]["flags"], json!(["MORE"]));
    assert_eq!(frame["body"]["utf8"], "debit 7");
    assert_eq!((&frame["watermark"], &frame["flaw"]), (&json!(24), &Value::Null));
    let inside = explain("61", &[]);
    assert_eq!(
        (&inside["start"], &inside["frame"]["body"]["utf8"]),
        (&json!(48), &json!("credit 7"))
    );
    assert!(inside["summary"].as_str().unwrap().contains("no frame starts at LSN 61"));
    let long = explain("72", &[]);
    assert_eq!(long["frame"]["body"]["shortened"], true);
    assert_eq!(long["frame"]["body"]["hex"].as_str().unwrap().len(), 512);
    let whole = explain("72", &["--full"]);
    assert_eq!(whole["frame"]["body"]["utf8"].as_str().unwrap().len(), 1000);

    let (shown, _) = look(dir.path(), &["explain", "24"], 0);
    for field in ["header_crc", "len 7", "record, MORE", "all below LSN 24", "debit 7", "padding"] {
        assert!(shown.contains(field), "{field} is missing from {shown}");
    }
    let (shown, _) = look(dir.path(), &["explain", "72"], 0);
    assert!(shown.contains("744 bytes more; --full"), "{shown}");
    assert!(look(dir.path(), &["explain", "72", "--full"], 0).0.lines().count() > 60);
    let beyond = explain("1048576000", &[]);
    assert_eq!((&beyond["content"], &beyond["damaged"]), (&json!("nowhere"), &json!(false)));
    assert!(beyond["summary"].as_str().unwrap().contains("beyond the end"), "{beyond}");
    look(dir.path(), &["explain", "24", "--segment", "9"], 2);
    look(dir.path(), &["explain", "minus one"], 2);
}

#[test]
fn explain_finds_a_record_in_the_segment_that_counts_and_in_the_others() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    wal.append_and_sync(b"kept").unwrap();
    wal.append(b"carried").unwrap();
    wal.flush().unwrap();
    // What a process leaves that dies here; the next one carries the flushed record.
    let copy = tempfile::tempdir().unwrap();
    for (path, bytes) in contents(dir.path()) {
        fs::write(copy.path().join(path.file_name().unwrap()), bytes).unwrap();
    }
    Wal::open(copy.path()).unwrap().close().unwrap();
    let found = look_json(copy.path(), &["explain", "24"], 0);
    assert_eq!((&found["segment"], &found["also_in"]), (&json!(2), &json!([1])));
    assert_eq!((&found["state"], &found["standing"]), (&json!("active"), &json!("durable")));
    let old = look_json(copy.path(), &["explain", "24", "--segment", "1"], 0);
    assert_eq!((&old["content"], &old["standing"]), (&json!("record"), &json!("dead")));
    let map = look_json(copy.path(), &["map"], 0);
    assert_eq!(map["segments"][0]["bytes_by_kind"]["dead"], 24);
}
