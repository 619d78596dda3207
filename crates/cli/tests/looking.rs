//! `ls`, `dump`, `explain` and `map`: what they say of whole and of damaged logs, and that they
//! change nothing.

mod common;

use std::fs;
use std::process::Stdio;

use cohort_wal::Wal;
use serde_json::{Value, json};

use common::{
    FIRST_FRAME, FRAME, FRAME_HEADER, all_exit, command, contents, damage, dumped, every_command,
    line, look, look_json, overwrite, run, segment_path, stderr, text, write_log,
};

const RECORDS: usize = 1000;
const END: usize = RECORDS * FRAME;

#[test]
fn a_whole_log_is_listed_file_by_file() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    fs::write(dir.path().join("notes"), b"mine").unwrap();
    let leftover = format!(".cohort-{:032x}.tmp", 7);
    fs::write(dir.path().join(&leftover), b"unfinished").unwrap();
    fs::write(dir.path().join(format!("{:020}.snap", 240)), b"left over").unwrap();
    all_exit(dir.path(), 0);

    let listing = look_json(dir.path(), &["ls", "--records"], 0);
    assert_eq!((&listing["head"], &listing["end"]), (&json!(0), &json!(END)));
    assert_eq!(listing["cleanly_closed"], true);
    assert_eq!(listing["refusal"], Value::Null);
    assert_eq!(listing["leftovers"], json!([leftover]));
    assert_eq!(listing["unknown_files"], json!(["notes"]));
    assert_eq!(listing["snapshots"][0]["lsn"], 240);
    assert_eq!(listing["snapshots"][0]["counts"], false);
    let slots = listing["control"].as_array().unwrap();
    assert_eq!(slots.iter().filter(|slot| slot["counts"] == true).count(), 1);
    let newest = slots.iter().find(|slot| slot["counts"] == true).unwrap();
    let other = slots.iter().find(|slot| slot["counts"] == false).unwrap();
    assert!(newest["generation"].as_u64() > other["generation"].as_u64());
    assert_eq!((&newest["clean"], &newest["durable"]), (&json!(true), &json!(END)));
    let segments = listing["segments"].as_array().unwrap();
    assert_eq!(segments.len(), 4);
    for (index, segment) in segments.iter().enumerate() {
        assert_eq!(segment["seq"], index + 1);
        assert_eq!(segment["base"], index * 300 * FRAME);
        assert_eq!(segment["end"], END.min((index + 1) * 300 * FRAME));
        assert_eq!(segment["records"], if index < 3 { 300 } else { 100 });
        assert_eq!(segment["state"], if index < 3 { "live" } else { "active" });
        assert_eq!((&segment["damaged"], &segment["note"]), (&json!(false), &Value::Null));
        assert_eq!(segment["epoch"], 1);
    }
    assert_eq!(look_json(dir.path(), &["ls"], 0)["segments"][0]["records"], Value::Null);
    let (tables, _) = look(dir.path(), &["ls"], 0);
    for shown in ["counts", "active", "notes", &leftover, "00000000000000000004.wal"] {
        assert!(tables.contains(shown), "{shown} is missing from {tables}");
    }
}

#[test]
fn an_empty_log_has_nothing_to_show() {
    let dir = tempfile::tempdir().unwrap();
    Wal::open(dir.path()).unwrap().close().unwrap();
    all_exit(dir.path(), 0);
    assert_eq!(look(dir.path(), &["dump"], 0).0, "");
    assert_eq!(look_json(dir.path(), &["explain", "0"], 0)["damaged"], false);
    assert_eq!(look_json(dir.path(), &["ls", "--records"], 0)["segments"][0]["records"], 0);
}

#[test]
fn directories_without_a_log_exit_2_and_stay_as_they_are() {
    let outer = tempfile::tempdir().unwrap();
    all_exit(outer.path(), 2);
    let absent = outer.path().join("absent");
    for args in every_command() {
        assert!(look(&absent, &args, 2).0.is_empty());
    }
    assert!(!absent.exists());
}

#[test]
fn a_log_that_is_written_is_looked_at_without_a_trace() {
    let outer = tempfile::tempdir().unwrap();
    let dir = outer.path().join("log");
    let wal = Wal::open(&dir).unwrap();
    for _ in 0..10 {
        wal.append_and_sync(b"acknowledged").unwrap();
    }
    wal.append(b"flushed and not synced").unwrap();
    wal.flush().unwrap();
    all_exit(&dir, 0);
    assert_eq!(look_json(&dir, &["ls"], 0)["cleanly_closed"], false);
    let records = dumped(&dir, &[]);
    assert!(records.len() >= 9, "{records:?}");
    assert!(records.iter().all(|record| record["utf8"] == "acknowledged"));
    let flushed = look_json(&dir, &["explain", "320"], 0);
    assert_eq!(
        (&flushed["content"], &flushed["standing"]),
        (&json!("record"), &json!("unwitnessed"))
    );
    let map = look_json(&dir, &["map"], 0);
    assert!(map["segments"][0]["bytes_by_kind"]["unwitnessed"].as_u64().unwrap() >= 40);
    wal.append_and_sync(b"the writer goes on").unwrap();
    wal.close().unwrap();
    assert_eq!(dumped(&dir, &[]).len(), 12);
}

#[test]
fn damage_in_a_body_is_shown_where_it_is() {
    for per_segment in [300, RECORDS] {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), per_segment);
        let (path, offset) = damage(dir.path(), 500, per_segment);
        let before = contents(dir.path());
        let (start, end) = (500 * FRAME, 501 * FRAME);

        let (records, complaint) = look(dir.path(), &["dump"], 1);
        assert_eq!(records.lines().count(), 500, "what is below the damage");
        for told in [text(&path), &format!("offset {offset}"), &format!("LSN {start}")] {
            assert!(complaint.contains(told), "{told} is missing from {complaint}");
        }
        let found = look_json(dir.path(), &["explain", &start.to_string()], 1);
        assert_eq!((&found["content"], &found["damaged"]), (&json!("invalid"), &json!(true)));
        assert_eq!((&found["start"], &found["end"]), (&json!(start), &json!(end)));
        assert_eq!((&found["path"], &found["offset"]), (&json!(text(&path)), &json!(offset)));
        assert_eq!(found["frame"]["header_crc"]["matches"], true);
        assert_eq!(found["frame"]["body_crc"]["matches"], false);
        assert!(found["why"].as_str().unwrap().contains("body"), "{found}");
        let (text_form, _) = look(dir.path(), &["explain", &start.to_string()], 1);
        assert!(text_form.contains("but computed"), "{text_form}");

        let map = look_json(dir.path(), &["map"], 1);
        let strips = map["segments"].as_array().unwrap();
        let damaged: Vec<_> = strips.iter().filter(|strip| strip["path"] == text(&path)).collect();
        assert_eq!(damaged[0]["bytes_by_kind"]["damaged"], FRAME);
        assert_eq!(damaged[0]["damage"][0]["start"], start);
        let signs = damaged[0]["strip"].as_str().unwrap();
        // A frame is smaller than a cell, but may lie in two of them.
        assert!(matches!(signs.matches('!').count(), 1 | 2) && !signs.contains("!#!"), "{signs}");
        let others = strips.iter().filter(|strip| strip["path"] != text(&path));
        assert!(others.into_iter().all(|strip| strip["damage"] == json!([])));

        let listing = look_json(dir.path(), &["ls", "--records"], 1);
        let flagged = listing["segments"].as_array().unwrap().iter();
        let flagged: Vec<_> = flagged.filter(|segment| segment["damaged"] == true).collect();
        assert_eq!((flagged.len(), &flagged[0]["path"]), (1, &json!(text(&path))));
        assert_eq!(contents(dir.path()), before);
    }
}

#[test]
fn ls_without_records_reads_no_older_segment() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    damage(dir.path(), 500, 300);
    assert_eq!(look_json(dir.path(), &["ls"], 0)["segments"][1]["damaged"], false);
}

#[test]
fn a_segment_without_a_header_or_without_a_file_is_named() {
    for missing in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        write_log(dir.path(), 300);
        let path = segment_path(dir.path(), 2);
        if missing {
            fs::remove_file(&path).unwrap();
        } else {
            overwrite(&path, 40, &[9]);
            all_exit(dir.path(), 0);
            let note = &look_json(dir.path(), &["ls"], 0)["segments"][1]["note"];
            assert_eq!(*note, "one copy of its header is bad");
            overwrite(&path, 4096 + 40, &[9]);
        }
        all_exit(dir.path(), 1);
        let listing = look_json(dir.path(), &["ls"], 1);
        assert!(listing["refusal"].as_str().unwrap().contains("000002.wal"), "{listing}");
        let segments = listing["segments"].as_array().unwrap();
        assert_eq!(segments.len(), if missing { 3 } else { 4 });
        if !missing {
            assert_eq!(
                (&segments[1]["damaged"], &segments[1]["base"]),
                (&json!(true), &Value::Null)
            );
            let map = look_json(dir.path(), &["map"], 1);
            let strip = map["segments"][1]["strip"].as_str().unwrap();
            assert!(strip.chars().all(|sign| sign == '!'), "{strip}");
        }
        let (records, complaint) = look(dir.path(), &["dump"], 1);
        assert!(records.is_empty() && complaint.contains("000002.wal"), "{complaint}");
        assert_eq!(look_json(dir.path(), &["explain", "120"], 1)["content"], "record");
        let gone = look_json(dir.path(), &["explain", "36000"], 1);
        assert_eq!((&gone["content"], &gone["damaged"]), (&json!("nowhere"), &json!(false)));
    }
}

#[test]
fn a_log_whose_control_is_garbage_can_be_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    fs::write(dir.path().join("CONTROL"), [0xA5; 8192]).unwrap();
    all_exit(dir.path(), 1);
    let listing = look_json(dir.path(), &["ls", "--records"], 1);
    assert_eq!(listing["head"], Value::Null);
    for slot in listing["control"].as_array().unwrap() {
        assert_eq!(
            (&slot["counts"], &slot["damage"]),
            (&json!(false), &json!("the magic is missing"))
        );
    }
    for segment in listing["segments"].as_array().unwrap() {
        assert_eq!(segment["state"], "unknown");
        assert!(segment["records"].as_u64().unwrap() >= 100, "{segment}");
    }
    let found = look_json(dir.path(), &["explain", "120"], 1);
    assert_eq!((&found["content"], &found["standing"]), (&json!("record"), &json!("unknown")));
    fs::remove_file(dir.path().join("CONTROL")).unwrap();
    all_exit(dir.path(), 1);
    assert_eq!(look_json(dir.path(), &["ls"], 1)["control"], Value::Null);
}

#[test]
fn a_map_has_a_strip_for_each_segment_and_as_many_cells_as_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    let map = look_json(dir.path(), &["map", "--width", "60"], 0);
    let strips = map["segments"].as_array().unwrap();
    assert_eq!(strips.len(), 4);
    for strip in strips {
        let bytes = strip["bytes_by_kind"].as_object().unwrap().values();
        assert_eq!(bytes.map(|bytes| bytes.as_u64().unwrap()).sum::<u64>(), strip["bytes"]);
        assert_eq!(strip["bytes_by_kind"]["header"], 8192);
        let signs = strip["strip"].as_str().unwrap();
        assert!(signs.starts_with('h') && signs.contains('#'), "{signs}");
    }
    let (drawing, _) = look(dir.path(), &["map", "--width", "60"], 0);
    let widths: Vec<_> = drawing.lines().take(4).map(str::len).collect();
    assert_eq!(widths, [60; 4], "{drawing}");
    assert!(drawing.contains("#  records, witnessed as durable"), "{drawing}");
    assert!(!drawing.contains('\u{1b}'), "colours are for terminals");
    look(dir.path(), &["map", "--width", "0"], 0);

    // A file that ends early misses what must be there.
    let path = segment_path(dir.path(), 2);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..FIRST_FRAME + 100 * FRAME]).unwrap();
    let map = look_json(dir.path(), &["map"], 1);
    assert_eq!(map["segments"][1]["damage"][0]["end"], 600 * FRAME);
    assert!(map["segments"][1]["strip"].as_str().unwrap().ends_with('!'));
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    for args in every_command() {
        let mut child = command(&line(dir.path(), &args));
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        assert!(output.stderr.is_empty(), "{}", stderr(&output));
    }
}

#[test]
fn no_garbage_makes_a_command_panic_or_write() {
    let whole = tempfile::tempdir().unwrap();
    write_log(whole.path(), 300);
    let files = contents(whole.path());
    let mut word = 0x9E37_79B9_7F4A_7C15_u64;
    let mut below = |bound: usize| {
        word = word.wrapping_mul(0xD129_42F0_2C5B_3A65).rotate_left(17);
        usize::try_from(word % u64::try_from(bound).unwrap()).unwrap()
    };
    for _ in 0..12 {
        let dir = tempfile::tempdir().unwrap();
        let chosen = below(files.len());
        for (index, (path, bytes)) in files.iter().enumerate() {
            let mut bytes = bytes.clone();
            let at = below(bytes.len());
            match below(3) {
                _ if index != chosen => {}
                0 => bytes.truncate(at),
                1 => bytes[at..].fill(0xFF),
                _ => bytes[at..].iter_mut().step_by(FRAME_HEADER).for_each(|byte| *byte ^= 3),
            }
            fs::write(dir.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        let before = contents(dir.path());
        for args in every_command().into_iter().chain([vec!["tail", "-n", "2000"]]) {
            let output = run(&line(dir.path(), &args));
            assert!(matches!(output.status.code(), Some(0..=2)), "{args:?}: {}", stderr(&output));
        }
        assert_eq!(contents(dir.path()), before);
    }
}
