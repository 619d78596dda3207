//! What the tests of the binary share: running it, logs to run it on, and damage to them.

#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use cohort_wal::Wal;
use serde_json::Value;

pub(crate) const FIRST_FRAME: usize = 8192;
pub(crate) const FRAME_HEADER: usize = 16;
/// A frame with 100 bytes of payload.
pub(crate) const FRAME: usize = FRAME_HEADER + 104;

pub(crate) fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohort-wal"));
    command.args(args);
    command
}

pub(crate) fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

/// Runs with `--json` and expects one object on one line and this exit code.
pub(crate) fn run_json(args: &[&str], code: i32) -> Value {
    let output = command(args).arg("--json").output().unwrap();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {}", stderr(&output));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    let value: Value = serde_json::from_str(&text).unwrap();
    assert!(value.is_object());
    value
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

/// A cleanly closed log of 1000 records of 100 bytes, `per_segment` of them in each file.
pub(crate) fn write_log(dir: &Path, per_segment: usize) {
    let wal = Wal::open(dir).unwrap();
    for index in 0..1000 {
        if index > 0 && index % per_segment == 0 {
            wal.rotate().unwrap();
        }
        wal.append(&payload(index)).unwrap();
    }
    wal.close().unwrap();
}

pub(crate) fn payload(index: usize) -> [u8; 100] {
    [u8::try_from(index % 251).unwrap(); 100]
}

/// Flips a bit in the payload of record `index`, found by what it holds. Names the file, and the
/// offset of the frame.
pub(crate) fn damage(dir: &Path, index: usize, per_segment: usize) -> (PathBuf, usize) {
    let offset = FIRST_FRAME + index % per_segment * FRAME;
    let first = payload(index - index % per_segment);
    let (path, mut bytes) = contents(dir)
        .into_iter()
        .find(|(_, bytes)| {
            bytes.get(FIRST_FRAME + FRAME_HEADER..).is_some_and(|b| b.starts_with(&first))
        })
        .unwrap();
    let body = offset + FRAME_HEADER;
    assert_eq!(bytes[body..body + 100], payload(index), "the layout is as expected");
    bytes[body + 50] ^= 0x10;
    fs::write(&path, bytes).unwrap();
    (path, offset)
}

/// A command line with the log's directory behind the command.
pub(crate) fn line<'a>(dir: &'a Path, args: &[&'a str]) -> Vec<&'a str> {
    let (name, rest) = args.split_first().unwrap();
    [&[*name, text(dir)], rest].concat()
}

/// The results of a command that exits like this, and what it complains about.
pub(crate) fn look(dir: &Path, args: &[&str], code: i32) -> (String, String) {
    let output = run(&line(dir, args));
    let complaint = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {complaint}");
    (String::from_utf8(output.stdout).unwrap(), complaint)
}

pub(crate) fn look_json(dir: &Path, args: &[&str], code: i32) -> Value {
    run_json(&line(dir, args), code)
}

/// Every way to look at a whole log.
pub(crate) fn every_command() -> [Vec<&'static str>; 10] {
    [
        vec!["ls"],
        vec!["ls", "--records"],
        vec!["dump"],
        vec!["dump", "--json"],
        vec!["explain", "0"],
        vec!["explain", "0", "--full", "--json"],
        vec!["map"],
        vec!["map", "--json"],
        vec!["stats"],
        vec!["stats", "--json"],
    ]
}

/// Every command exits like this, panics never, and changes nothing.
pub(crate) fn all_exit(dir: &Path, code: i32) {
    let before = contents(dir);
    for args in every_command() {
        let (_, complaint) = look(dir, &args, code);
        assert!(!complaint.contains("panicked"), "{complaint}");
        assert_eq!(complaint.is_empty(), code == 0, "{args:?}: {complaint}");
    }
    assert_eq!(contents(dir), before);
}

pub(crate) fn segment_path(dir: &Path, seq: u64) -> PathBuf {
    dir.join(format!("{seq:020}.wal"))
}

pub(crate) fn overwrite(path: &Path, offset: usize, with: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset..offset + with.len()].copy_from_slice(with);
    fs::write(path, bytes).unwrap();
}

pub(crate) fn dumped(dir: &Path, args: &[&str]) -> Vec<Value> {
    let (lines, _) = look(dir, &[&["dump", "--json"], args].concat(), 0);
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

pub(crate) fn lsns(records: &[Value]) -> Vec<usize> {
    let lsn = |record: &Value| usize::try_from(record["lsn"].as_u64().unwrap()).unwrap();
    records.iter().map(lsn).collect()
}

/// Stops a writer, when a check fails too.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs `look` while another thread writes, and stops that when it is done.
pub(crate) fn beside(write: impl Fn() + Send + Sync, look: impl FnOnce()) {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                write();
            }
        });
        let stop = Stop(&done);
        look();
        drop(stop);
    });
}
