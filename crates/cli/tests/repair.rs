//! Drives `repair` of the built binary: a dry run unless told otherwise, and its exit codes.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use cohort_wal::{Record, Wal};
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

/// Flips a bit of the file that has these bytes.
fn damage(dir: &Path, text: &[u8]) {
    let place = |bytes: &[u8]| bytes.windows(text.len()).position(|window| window == text);
    for (path, mut bytes) in contents(dir) {
        if let Some(at) = place(&bytes) {
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
        }
    }
}

/// A closed log of three records, the last of which is damaged, and where that begins.
fn damaged() -> (tempfile::TempDir, u64) {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    wal.append(b"one").unwrap();
    wal.append(b"two").unwrap();
    let lost = wal.append(b"damaged").unwrap();
    wal.close().unwrap();
    damage(dir.path(), b"damaged");
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
    damage(dir.path(), b"record 077");
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

#[test]
fn salvage_takes_the_snapshot_and_the_batches_along() {
    let dir = tempfile::tempdir().unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    wal.append(b"in the image").unwrap();
    wal.checkpoint(wal.end_lsn(), |image| image.write_all(b"balance: 7")).unwrap();
    wal.append_batch(&["one", "two", "three"]).unwrap();
    wal.append(b"alone").unwrap();
    wal.append_batch(&["four", "damaged", "five"]).unwrap();
    wal.append(b"last").unwrap();
    let all = |wal: &Wal| -> Vec<_> {
        let record = |record: Record| (record.lsn(), record.more(), record.into_data());
        wal.iter().unwrap().map(|next| record(next.unwrap())).collect()
    };
    let before = all(&wal);
    wal.close().unwrap();
    damage(dir.path(), b"damaged");

    let new = tempfile::tempdir().unwrap();
    let salvage = |into: &Path| -> Value {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cohort-wal"));
        let command = command.arg("salvage").arg(dir.path()).arg("--into").arg(into);
        let output = command.arg("--json").output().unwrap();
        assert_eq!(output.status.code(), Some(1), "something is lost");
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let into = new.path().join("healthy");
    let told = salvage(&into);
    assert_eq!((&told["snapshot"]["bytes"], &told["records"]), (&10.into(), &7.into()));
    let healthy = Wal::open(&into).unwrap();
    let mut image = String::new();
    let mut snapshot = healthy.snapshots().unwrap().latest().unwrap().unwrap();
    snapshot.read_to_string(&mut image).unwrap();
    assert_eq!((snapshot.lsn(), image.as_str()), (before[0].0, "balance: 7"));
    let after = all(&healthy);
    assert_eq!(after[..4], before[..4], "up to the damage nothing has moved");
    let rest: Vec<_> = after[4..].iter().map(|(_, more, data)| (*more, data.clone())).collect();
    let expected = [(false, "four"), (false, "five"), (false, "last")];
    assert_eq!(rest, expected.map(|(more, data)| (more, data.as_bytes().to_vec())));

    // A snapshot that is lost is named.
    let name = format!("{:020}.snap", before[0].0.get());
    damage(dir.path(), b"balance: 7");
    let told = salvage(&new.path().join("without"));
    assert_eq!((&told["snapshot"], &told["records"]), (&Value::Null, &7.into()));
    let lost = told["lost"].as_array().unwrap();
    assert!(lost.len() == 2 && lost[0]["path"].as_str().unwrap().ends_with(&name), "{told}");
}
