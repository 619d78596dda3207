//! `tail`: the last records, and those to come while a writer is at work.
//!
//! Method: the writer is this process, the command a child; what it prints is waited for.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

mod common;

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use cohort_wal::{Lsn, Wal, WalOptions};
use serde_json::{Value, json};

use common::{
    FRAME, command, contents, damage, dumped, line, look, lsns, overwrite, segment_path, stderr,
    write_log,
};

const RECORDS: usize = 1000;
/// Longer than any of this takes: a child that says nothing fails the test.
const PATIENCE: Duration = Duration::from_secs(120);

fn tailed(dir: &Path, args: &[&str]) -> Vec<Value> {
    let (lines, complaint) = look(dir, &[&["tail", "--json"], args].concat(), 0);
    assert_eq!(complaint, "");
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn places(records: std::ops::Range<usize>) -> Vec<usize> {
    records.map(|index| index * FRAME).collect()
}

/// `tail` as a child that runs on, and the lines that it prints.
struct Tail {
    child: Child,
    lines: Receiver<String>,
    complaints: Receiver<String>,
}

fn read_lines(from: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    let lines = BufReader::new(from).lines().map_while(Result::ok);
    thread::spawn(move || lines.map(|line| tell.send(line)).take_while(Result::is_ok).count());
    told
}

fn spawn(dir: &Path, args: &[&str]) -> Child {
    let mut child = command(&line(dir, &[&["tail"], args].concat()));
    child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

impl Tail {
    fn begin(dir: &Path, args: &[&str]) -> Self {
        let mut child = spawn(dir, &[&["--follow"], args].concat());
        let lines = read_lines(child.stdout.take().unwrap());
        let complaints = read_lines(child.stderr.take().unwrap());
        Self { child, lines, complaints }
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).unwrap()
    }

    fn complaint(&self) -> String {
        self.complaints.recv_timeout(PATIENCE).unwrap()
    }

    /// Everything up to its own end.
    fn rest(&mut self, code: i32) -> (Vec<String>, Vec<String>) {
        let rest = (self.lines.iter().collect(), self.complaints.iter().collect());
        assert_eq!(self.child.wait().unwrap().code(), Some(code), "{rest:?}");
        rest
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn the_last_records_are_shown_in_order_whatever_segments_they_are_in() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    let before = contents(dir.path());
    assert_eq!(tailed(dir.path(), &[]), dumped(dir.path(), &["--from", "118800"]));
    for count in [0, 1, 99, 100, 101, 400, 750, 1000, 5000] {
        let shown = tailed(dir.path(), &["-n", &count.to_string()]);
        assert_eq!(lsns(&shown), places(RECORDS.saturating_sub(count)..RECORDS), "{count}");
    }
    assert_eq!(lsns(&tailed(dir.path(), &["-n", "50", "--limit", "2"])), places(950..952));
    assert_eq!(contents(dir.path()), before, "tail changes nothing");
}

#[test]
fn from_begins_at_or_above_a_place() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    let from = |lsn: &str| lsns(&tailed(dir.path(), &["--from", lsn]));
    assert_eq!(from("0"), places(0..RECORDS));
    assert_eq!(from("36000"), places(300..RECORDS));
    assert_eq!(from("35999"), places(300..RECORDS), "in the last record of a segment");
    assert_eq!(from("119880"), places(999..RECORDS));
    for end in ["119881", "120000", "120001", "99999999"] {
        assert!(from(end).is_empty());
    }
}

#[test]
fn the_last_records_are_those_that_pass_the_filters() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    for index in 0..RECORDS {
        if index % 300 == 299 {
            wal.rotate().unwrap();
        }
        let kind = if index % 100 == 0 { "rare" } else { "usual" };
        wal.append(format!("{kind} {index}").as_bytes()).unwrap();
    }
    wal.close().unwrap();
    let texts = |args: &[&str]| {
        let texts = tailed(dir.path(), args).into_iter().map(|record| record["utf8"].clone());
        texts.collect::<Vec<_>>()
    };
    assert_eq!(texts(&["-n", "3", "--contains", "rare"]), ["rare 700", "rare 800", "rare 900"]);
    assert_eq!(texts(&["--contains", "rare"]).len(), 10);
    assert_eq!(texts(&["--contains", "rare", "--limit", "1"]), ["rare 0"]);
    assert!(texts(&["--contains", "RARE"]).is_empty());
    assert_eq!(texts(&["-n", "2", "--max-bytes", "8"]), ["rare 800", "rare 900"]);
    assert_eq!(texts(&["-n", "1", "--min-bytes", "8", "--contains", "usual 9"]), ["usual 999"]);
    assert_eq!(
        texts(&["--from", "0", "--min-bytes", "7", "--max-bytes", "7", "--limit", "2"]),
        ["usual 1", "usual 2"]
    );
}

#[test]
fn lines_look_as_those_of_dump() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    let layouts = [&[][..], &["--full"], &["--json"], &["--format", "hex"], &["--format", "utf8"]];
    for layout in layouts {
        let (tail, _) = look(dir.path(), &[&["tail", "-n", "2000"], layout].concat(), 0);
        let (dump, _) = look(dir.path(), &[&["dump"], layout].concat(), 0);
        assert_eq!(tail, dump, "{layout:?}");
    }
    let (_, complaint) = look(dir.path(), &["tail", "--format", "json"], 2);
    assert!(complaint.contains("is not JSON"), "{complaint}");
}

#[test]
fn senseless_arguments_and_directories_without_a_log_exit_2() {
    let dir = tempfile::tempdir().unwrap();
    look(dir.path(), &["tail"], 2);
    look(dir.path(), &["tail", "--follow"], 2);
    write_log(dir.path(), 1000);
    for senseless in [
        &["-n", "-1"][..],
        &["-n", "1", "--from", "0"],
        &["--from", "x"],
        &["--min-bytes", "x"],
        &["--json", "--format", "hex"],
    ] {
        look(dir.path(), &[&["tail"], senseless].concat(), 2);
    }
}

#[test]
fn an_empty_log_has_no_last_record() {
    let dir = tempfile::tempdir().unwrap();
    Wal::open(dir.path()).unwrap().close().unwrap();
    assert!(tailed(dir.path(), &[]).is_empty());
    assert!(tailed(dir.path(), &["--from", "8"]).is_empty());
}

#[test]
fn what_damage_hides_is_not_shown_and_the_rest_is() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    let (path, _) = damage(dir.path(), 500, 300);
    assert_eq!(tailed(dir.path(), &["-n", "400"]).len(), 400, "of segments without damage");
    for follow in [&[][..], &["--follow"]] {
        let args = [&["tail", "-n", "401", "--format", "hex"], follow].concat();
        let (lines, complaint) = look(dir.path(), &args, 1);
        assert_eq!(lines.lines().count(), 400);
        assert!(complaint.contains(path.to_str().unwrap()), "{complaint}");
        let args = [&["tail", "--from", "24000", "--format", "hex"], follow].concat();
        let (lines, complaint) = look(dir.path(), &args, 1);
        assert_eq!(lines.lines().count(), 300, "up to the damage");
        assert!(complaint.contains("LSN 60000"), "{complaint}");
    }
    overwrite(&dir.path().join("CONTROL"), 0, &[0xFF; 8192]);
    look(dir.path(), &["tail", "--follow"], 1);
}

#[test]
fn following_shows_every_record_once_across_rotations_and_openings() {
    let dir = tempfile::tempdir().unwrap();
    drop(Wal::open(dir.path()).unwrap());
    let mut tail = Tail::begin(dir.path(), &["--format", "utf8", "--limit", "1000"]);
    for round in 0..5 {
        let wal = WalOptions::new().segment_bytes(16 << 10).open(dir.path()).unwrap();
        for index in 0..200 {
            let record = format!("{} {}", round * 200 + index, "x".repeat(300));
            match index % 50 {
                0 => wal.append_and_sync(record.as_bytes()).unwrap(),
                _ => wal.append(record.as_bytes()).unwrap(),
            };
        }
        // The next opening carries over what only the drop flushed.
        if round % 2 == 0 {
            wal.close().unwrap();
        }
    }
    let (lines, complaints) = tail.rest(0);
    let numbers =
        lines.iter().map(|line| line.split(' ').next().unwrap().parse::<usize>().unwrap());
    assert!(numbers.eq(0..RECORDS));
    assert!(complaints.is_empty(), "{complaints:?}");
}

#[test]
fn a_record_shows_as_soon_as_a_later_one_witnesses_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let tail = Tail::begin(dir.path(), &["--format", "utf8", "--contains", "credit"]);
    for number in 0..10 {
        wal.append_and_sync(format!("credit {number}").as_bytes()).unwrap();
        wal.append_and_sync(b"debit").unwrap();
        wal.append_and_sync(b"debit").unwrap();
        assert_eq!(tail.line(), format!("credit {number}"));
    }
}

#[test]
fn from_beyond_the_end_waits_for_the_place() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let tail = Tail::begin(dir.path(), &["--json", "--from", "100"]);
    for record in [b"LSN 0 to", b"LSN 24 t", b"LSN 48 t", b"LSN 72 t", b"LSN 96 t", b"LSN 120 "] {
        wal.append(record).unwrap();
    }
    wal.close().unwrap();
    assert_eq!(serde_json::from_str::<Value>(&tail.line()).unwrap()["lsn"], 120);
}

/// The child cannot be at the end of the log: its pipe does not hold so much, and nobody reads it.
#[test]
fn a_truncation_that_overtakes_is_told_and_the_new_head_comes_next() {
    const LARGE: usize = 8_000;
    let dir = tempfile::tempdir().unwrap();
    let options = || WalOptions::new().segment_bytes(64 << 10);
    let wal = options().open(dir.path()).unwrap();
    for _ in 0..RECORDS {
        wal.append(&[b'o'; LARGE]).unwrap();
    }
    wal.close().unwrap();
    let wal = options().open(dir.path()).unwrap();
    let mut child =
        spawn(dir.path(), &["--follow", "--from", "0", "--json", "--max-bytes", "8000"]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    stdout.read_line(&mut first).unwrap();
    let head = wal.truncate_before(wal.end_lsn()).unwrap();
    let new = wal.append_and_sync(b"new").unwrap();
    wal.close().unwrap();

    let (lines, complaints) = (read_lines(stdout), read_lines(child.stderr.take().unwrap()));
    let mut tail = Tail { child, lines, complaints };
    let complaint = tail.complaint();
    let lsn = |line: &str| serde_json::from_str::<Value>(line).unwrap()["lsn"].as_u64().unwrap();
    let (mut shown, mut last) = (1, lsn(&first));
    loop {
        let next = lsn(&tail.line());
        assert!(next > last);
        if next == new.get() {
            break;
        }
        (shown, last) = (shown + 1, next);
    }
    assert!(shown < RECORDS, "{shown} of them were still shown");
    assert!(complaint.contains(&format!("truncated before LSN {head}")), "{complaint}");
    assert!(complaint.contains("from LSN "), "{complaint}");
    tail.child.kill().unwrap();
    tail.child.wait().unwrap();
    assert_eq!(tail.complaints.iter().count(), 0, "it is said once");
}

#[test]
fn a_place_that_is_truncated_already_is_told_and_exits_0() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    let wal = Wal::open(dir.path()).unwrap();
    let head = wal.truncate_before(Lsn::new(990 * FRAME as u64)).unwrap();
    wal.close().unwrap();
    let (lines, complaint) = look(dir.path(), &["tail", "--from", "8", "--json"], 0);
    let lines: Vec<_> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lsns(&lines), places(990..RECORDS));
    for place in ["LSN 8", &format!("LSN {head}")] {
        assert!(complaint.contains(place), "{complaint}");
    }
}

#[test]
fn a_cut_of_what_was_shown_is_told_and_the_end_comes_next() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    let lsns = ["one", "two", "3rd"].map(|record| wal.append(record.as_bytes()).unwrap());
    wal.close().unwrap();
    let tail = Tail::begin(dir.path(), &["--format", "utf8"]);
    assert_eq!([tail.line(), tail.line(), tail.line()], ["one", "two", "3rd"]);
    let wal = Wal::open(dir.path()).unwrap();
    wal.truncate_after(lsns[0]).unwrap();
    let end = wal.end_lsn();
    wal.close().unwrap();
    let complaint = tail.complaint();
    assert!(complaint.contains("cut off below LSN 72"), "{complaint}");
    assert!(complaint.contains(&format!("at LSN {end}")), "{complaint}");
    let wal = Wal::open(dir.path()).unwrap();
    wal.append(b"instead").unwrap();
    wal.close().unwrap();
    assert_eq!(tail.line(), "instead");
}

#[test]
fn damage_ends_a_follower_with_1() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 1000);
    let mut tail = Tail::begin(dir.path(), &["-n", "1"]);
    tail.line();
    overwrite(&segment_path(dir.path(), 1), 8192 + 999 * FRAME + 20, &[0xFF; 4]);
    let (_, complaints) = tail.rest(1);
    assert_eq!(complaints.len(), 1, "{complaints:?}");
}

#[test]
fn a_reader_that_goes_away_ends_it_quietly() {
    let dir = tempfile::tempdir().unwrap();
    write_log(dir.path(), 300);
    for args in [&[][..], &["-n", "1000"], &["--follow"], &["--json", "--from", "0"]] {
        let mut child = spawn(dir.path(), args);
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        assert!(output.stderr.is_empty(), "{}", stderr(&output));
    }
    let mut child = spawn(dir.path(), &["--follow", "-n", "1", "--json"]);
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut last = String::new();
    stdout.read_line(&mut last).unwrap();
    assert_eq!(serde_json::from_str::<Value>(&last).unwrap()["lsn"], json!(999 * FRAME));
    drop(stdout);
    let wal = Wal::open(dir.path()).unwrap();
    wal.append(b"nobody reads this").unwrap();
    wal.close().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}
