//! Drives `repair` of the built binary: a dry run unless told otherwise, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cohort_wal::Wal;
use serde_json::Value;

fn run(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohort-wal"));
    command.arg("repair").arg(dir).args(args).output().unwrap()
}

fn json(dir: &Path, args: &[&str], code: i32) -> Value {
    let output = run(dir, &[args, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn code(dir: &Path, args: &[&str]) -> Option<i32> {
    run(dir, args).status.code()
}

fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// A closed log of three records, the last of which is damaged, and where that begins.
fn damaged() -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    wal.append(b"one").unwrap();
    wal.append(b"two").unwrap();
    let lost = wal.append(b"damaged").unwrap();
    wal.close().unwrap();
    let segment = dir.path().join("00000000000000000001.wal");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(7).position(|window| window == b"damaged").unwrap();
    bytes[at] ^= 1;
    fs::write(segment, bytes).unwrap();
    (dir, lost.get())
}

#[test]
fn repair_changes_nothing_unless_told_and_then_does_what_it_said() {
    let (dir, lost) = damaged();
    let before = contents(dir.path());
    let planned = json(dir.path(), &[], 1);
    assert_eq!(planned["recommended"], format!("--cut-at {lost}"));
    assert_eq!((&planned["cut"]["kept_records"], &planned["done"]), (&2.into(), &Value::Null));
    let lost = lost.to_string();
    let cut = ["--cut-at", lost.as_str()];
    json(dir.path(), &cut, 1);
    assert_eq!(contents(dir.path()), before);
    let done = json(dir.path(), &[&cut[..], &["--yes"]].concat(), 0);
    assert_eq!((&done["cut"], &done["still_refused"]), (&planned["cut"], &Value::Null));
    assert_eq!(Wal::open(dir.path()).unwrap().iter().unwrap().count(), 2);
    let clean = json(dir.path(), &[], 0);
    assert_eq!((&clean["damaged"], &clean["recommended"]), (&false.into(), &Value::Null));
}

#[test]
fn a_control_that_is_lost_is_rebuilt_and_damage_behind_it_is_told() {
    let (dir, _) = damaged();
    fs::remove_file(dir.path().join("CONTROL")).unwrap();
    let planned = json(dir.path(), &[], 1);
    assert_eq!(planned["recommended"], "--rebuild-control");
    let done = json(dir.path(), &["--rebuild-control", "--yes"], 0);
    assert_eq!(done["rebuild"], planned["rebuild"]);
    // Without CONTROL's witness damage to the last record looks like tearing; it is in a copy.
    assert_eq!(done["rebuild"]["copies"].as_array().unwrap().len(), 1);
    assert!(Wal::open(dir.path()).is_ok());
}

#[test]
fn usage_locks_and_missing_logs_have_exit_codes_of_their_own() {
    let (dir, lost) = damaged();
    let before = contents(dir.path());
    let inside = (lost - 8).to_string();
    for wrong in [
        &["--yes"][..],
        &["--cut-at", "0", "--rebuild-control"],
        &["--snapshot", "0"],
        &["--cut-at", &inside, "--yes"],
        &["--rebuild-control", "--snapshot", "0", "--yes"],
    ] {
        assert_eq!(code(dir.path(), wrong), Some(2), "{wrong:?}");
    }
    assert_eq!(code(&dir.path().join("missing"), &[]), Some(2));
    let above = (lost + 24).to_string();
    assert_eq!(code(dir.path(), &["--cut-at", &above, "--yes"]), Some(1));
    assert_eq!(contents(dir.path()), before);
    let live = tempfile::tempdir().unwrap();
    let _wal = Wal::open(live.path()).unwrap();
    assert_eq!(code(live.path(), &[]), Some(3));
}

#[test]
fn what_is_intact_behind_damage_is_salvaged_into_a_new_log() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    for number in 0..200_u32 {
        wal.append(format!("record {number:03}").as_bytes()).unwrap();
    }
    wal.close().unwrap();
    let segment = dir.path().join("00000000000000000001.wal");
    let mut bytes = fs::read(&segment).unwrap();
    let at = bytes.windows(10).position(|window| window == b"record 077").unwrap();
    bytes[at] ^= 1;
    fs::write(segment, bytes).unwrap();
    let before = contents(dir.path());
    let new = tempfile::tempdir().unwrap();
    let into = new.path().join("healthy");
    let salvage = |into: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort-wal"));
        let command = command.arg("salvage").arg(dir.path()).arg("--into").arg(into);
        command.arg("--json").output().unwrap()
    };
    let output = salvage(&into);
    assert_eq!(output.status.code(), Some(1), "something is lost");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["records"], told["lost"].as_array().unwrap().len()), (&199.into(), 1));
    let healthy: Vec<_> = Wal::open(&into).unwrap().iter().unwrap().map(Result::unwrap).collect();
    let expected = (0..200).filter(|number| *number != 77).map(|n| format!("record {n:03}"));
    assert!(healthy.iter().map(|record| record.data()).eq(expected.map(String::into_bytes)));
    assert_eq!(salvage(&into).status.code(), Some(2), "a log that is there is not touched");
    assert_eq!(contents(dir.path()), before);
    let mut verify = Command::new(env!("CARGO_BIN_EXE_cohort-wal"));
    assert_eq!(verify.arg("verify").arg(&into).output().unwrap().status.code(), Some(0));
}
