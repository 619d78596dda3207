//! Opening: what options do, what is refused, and that a refusal changes nothing.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use cohort_wal::{Lsn, MemStore, StoreFile, Wal, WalError, WalOptions, WalStore};

use crate::common::{deadline, deadline_of, directory, join_all, read_all, segment_names};
use crate::faulty::{EIO, FaultyStore, Op};

/// Opening fails, and every file is as it was.
fn refused(options: WalOptions, dir: &Path) -> WalError {
    let before = directory(dir);
    let error = options.open(dir).expect_err("opening is refused");
    assert_eq!(directory(dir), before, "a refused open changes nothing: {error}");
    error
}

/// A closed log with these records.
fn log_with(dir: &Path, records: &[&[u8]]) -> Vec<Lsn> {
    let wal = Wal::open(dir).unwrap();
    let lsns = records.iter().map(|record| wal.append(record).unwrap()).collect();
    wal.close().unwrap();
    lsns
}

#[test]
fn opening_creates_the_directory_with_its_ancestors() {
    let dir = tempfile::tempdir().unwrap();
    let deep = dir.path().join("a/b/c");
    let wal = Wal::open(&deep).unwrap();
    assert_eq!(wal.path(), deep);
    wal.append_and_sync(b"deep").unwrap();
}

#[test]
fn without_create_a_missing_log_is_not_found_and_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let options = WalOptions::new().create(false);
    match options.clone().open(&missing) {
        Err(WalError::NotFound { path }) => assert_eq!(path, missing),
        other => panic!("{other:?}"),
    }
    assert!(!missing.exists());
    assert!(matches!(refused(options.clone(), dir.path()), WalError::NotFound { .. }));
    fs::write(dir.path().join("notes.txt"), "mine").unwrap();
    assert!(matches!(refused(options.clone(), dir.path()), WalError::NotFound { .. }));
    log_with(dir.path(), &[b"one"]);
    assert_eq!(read_all(&options.open(dir.path()).unwrap()), [b"one"]);
}

#[test]
fn create_new_refuses_a_log_that_exists() {
    let dir = tempfile::tempdir().unwrap();
    let options = WalOptions::new().create_new(true);
    let wal = options.clone().open(dir.path()).unwrap();
    wal.append(b"one").unwrap();
    wal.close().unwrap();
    assert!(matches!(refused(options, dir.path()), WalError::AlreadyExists { .. }));
    assert_eq!(read_all(&Wal::open(dir.path()).unwrap()), [b"one"]);
}

#[test]
fn create_new_refuses_a_log_that_exists_and_never_held_a_record() {
    let dir = tempfile::tempdir().unwrap();
    log_with(dir.path(), &[]);
    let options = WalOptions::new().create_new(true);
    assert!(matches!(refused(options, dir.path()), WalError::AlreadyExists { .. }));
}

#[test]
fn initial_lsn_is_where_a_new_log_begins_and_means_nothing_to_an_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let begin = Lsn::new(1 << 40);
    let wal = WalOptions::new().initial_lsn(begin).open(dir.path()).unwrap();
    assert_eq!((wal.head_lsn(), wal.end_lsn(), wal.durable_lsn()), (begin, begin, begin));
    assert!(wal.is_empty() && wal.last_lsn().is_none());
    assert_eq!(wal.append(b"one").unwrap(), begin);
    assert_eq!(wal.live_bytes(), 24);
    wal.close().unwrap();
    let wal = WalOptions::new().initial_lsn(Lsn::new(8)).open(dir.path()).unwrap();
    assert_eq!((wal.head_lsn(), wal.last_lsn()), (begin, Some(begin)));
    assert_eq!(read_all(&wal), [b"one"]);
}

#[test]
fn the_lsn_space_ends_with_an_error() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let begin = Lsn::new((1 << 62) - (1 << 20));
        let options = WalOptions::new().ring_bytes(64 << 10).initial_lsn(begin);
        let wal = options.open(dir.path()).unwrap();
        let mut appended = 0;
        let refused = loop {
            match wal.append(&[7; 1_000]) {
                Ok(_) => appended += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, WalError::LsnExhausted), "{refused}");
        assert!(appended > 900, "{appended}");
        assert!(matches!(wal.append(&vec![0; 2 << 20]), Err(WalError::LsnExhausted)));
        wal.close().unwrap();
        assert_eq!(Wal::open(dir.path()).unwrap().iter().unwrap().count(), appended);
    });
}

#[test]
fn a_witnessed_record_that_is_missing_makes_opening_fail() {
    let dir = tempfile::tempdir().unwrap();
    let demanding = |lsn| WalOptions::new().min_durable_lsn(lsn);
    assert!(refused(demanding(Lsn::new(0)), dir.path()).is_corruption());
    let lsns = log_with(dir.path(), &[b"one", b"two"]);
    for lsn in &lsns {
        assert_eq!(demanding(*lsn).open(dir.path()).unwrap().iter().unwrap().count(), 2);
    }
    for beyond in [lsns[1].get() + 24, lsns[1].get() + 4_096] {
        assert!(refused(demanding(Lsn::new(beyond)), dir.path()).is_corruption());
    }
    assert_eq!(Wal::open(dir.path()).unwrap().iter().unwrap().count(), 2);
}

#[test]
fn a_second_handle_is_locked_out_until_the_first_is_closed_or_dropped() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        for by_close in [true, false] {
            let first = Wal::open(dir.path()).unwrap();
            first.append(b"one").unwrap();
            first.flush().unwrap();
            for options in [WalOptions::new(), WalOptions::new().create(false)] {
                assert!(matches!(refused(options, dir.path()), WalError::Locked { .. }));
            }
            first.append(b"unharmed").unwrap();
            if by_close {
                first.close().unwrap();
                drop(Wal::open(dir.path()).unwrap());
            }
            drop(first);
            drop(Wal::open(dir.path()).unwrap());
        }
        assert_eq!(Wal::open(dir.path()).unwrap().iter().unwrap().count(), 4);
    });
}

#[test]
fn of_many_that_create_a_log_at_once_one_wins_and_the_others_are_locked_out() {
    deadline_of(60, || {
        for create_new in [false, true] {
            for _ in 0..40 {
                let dir = tempfile::tempdir().unwrap();
                let start = Arc::new(Barrier::new(8));
                let rivals = (0..8).map(|_| {
                    let (start, path) = (Arc::clone(&start), dir.path().join("log"));
                    thread::spawn(move || {
                        start.wait();
                        WalOptions::new().create_new(create_new).open(path)
                    })
                });
                let results = join_all(rivals.collect());
                let winners = results.iter().filter(|result| result.is_ok()).count();
                for error in results.iter().filter_map(|result| result.as_ref().err()) {
                    let exists = create_new && matches!(error, WalError::AlreadyExists { .. });
                    assert!(exists || matches!(error, WalError::Locked { .. }), "{error:?}");
                }
                assert_eq!(winners, 1);
            }
        }
    });
}

#[test]
fn a_log_that_was_finished_before_the_lock_was_taken_is_not_new() {
    let memory = MemStore::new();
    // A creation that nobody finished.
    let (store, script) = FaultyStore::over(memory.clone());
    script.fail_once(Op::Publish, 1, EIO);
    assert!(WalOptions::new().open_store(store).is_err());

    // One who wants a new log looks at it; another one completes it, commits and closes; only then
    // the first one has the lock.
    let (store, script) = FaultyStore::over(memory.clone());
    let (rival, once) = (memory.clone(), Mutex::new(true));
    script.hook(move |op, _| {
        if op == Op::Lock && std::mem::take(&mut *once.lock().unwrap()) {
            let wal = WalOptions::new().open_store(rival.clone()).unwrap();
            wal.append_and_sync(b"theirs").unwrap();
            wal.close().unwrap();
        }
    });
    let late = WalOptions::new().create_new(true).open_store(store);
    assert!(matches!(late, Err(WalError::AlreadyExists { .. })), "{late:?}");
    // It has given the lock back and changed nothing.
    let theirs = WalOptions::new().create(false).open_store(memory.clone()).unwrap();
    assert_eq!(read_all(&theirs), [b"theirs"]);
    assert!(theirs.recovery().clean);
}

#[test]
fn a_control_that_is_being_written_is_locked_and_not_damaged() {
    let memory = MemStore::new();
    let wal = WalOptions::new().open_store(memory.clone()).unwrap();
    wal.append_and_sync(b"kept").unwrap();
    let control = memory.open("CONTROL").unwrap();
    let mut whole = vec![0; 8192];
    assert_eq!(control.read_at(0, &mut whole).unwrap(), whole.len());
    // What another process may see in the middle of two writes.
    let torn: Vec<_> = whole.iter().map(|byte| byte ^ 1).collect();
    control.write_at(20, &torn[20..40]).unwrap();
    control.write_at(4096 + 20, &torn[4096 + 20..4096 + 40]).unwrap();
    let second = WalOptions::new().open_store(memory.clone());
    assert!(matches!(second, Err(WalError::Locked { .. })), "{second:?}");
    // Without a writer it is what it looks like.
    let dead = MemStore::from_snapshot(memory.snapshot());
    let damaged = WalOptions::new().open_store(dead.clone());
    assert!(damaged.is_err_and(|error| error.is_corruption()));
    control.write_at(0, &whole).unwrap();
    drop(wal);
    assert_eq!(read_all(&WalOptions::new().open_store(memory).unwrap()), [b"kept"]);
}

#[test]
fn senseless_options_are_refused_before_anything_is_touched() {
    deadline(|| {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("log");
        let new = WalOptions::new;
        let senseless = [
            ("segment_bytes", new().segment_bytes((16 << 10) - 1)),
            ("ring_bytes", new().ring_bytes(32 << 10)),
            ("ring_bytes", new().ring_bytes((64 << 10) + 8)),
            ("max_record_bytes", new().max_record_bytes(0)),
            ("max_batch_bytes", new().max_batch_bytes(15)),
            ("max_unsynced_bytes", new().max_unsynced_bytes(0)),
            ("initial_lsn", new().initial_lsn(Lsn::new(12))),
            ("initial_lsn", new().initial_lsn(Lsn::new(1 << 62))),
            ("create_new", new().create(false).create_new(true)),
        ];
        for (wanted, options) in senseless {
            match options.open(&missing) {
                Err(WalError::InvalidOption { name, .. }) => assert_eq!(name, wanted),
                other => panic!("{wanted}: {other:?}"),
            }
        }
        assert!(!missing.exists());
        let smallest = new().segment_bytes(16 << 10).ring_bytes(64 << 10).max_unsynced_bytes(1);
        let wal = smallest.max_record_bytes(1).max_batch_bytes(16).open(&missing).unwrap();
        for _ in 0..3_000 {
            wal.append(b"x").unwrap();
        }
        wal.close().unwrap();
        assert_eq!(Wal::open(&missing).unwrap().iter().unwrap().count(), 3_000);
    });
}

#[test]
fn a_file_is_no_log_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "not a directory").unwrap();
    for path in [file.clone(), file.join("log")] {
        for create in [true, false] {
            let error = WalOptions::new().create(create).open(&path).unwrap_err();
            assert!(matches!(error, WalError::NotALog { .. }), "{error:?}");
        }
        assert!(matches!(WalOptions::new().open_read_only(&path), Err(WalError::NotALog { .. })));
    }
    assert_eq!(fs::read(&file).unwrap(), b"not a directory");
}

#[test]
fn a_foreign_control_file_is_refused() {
    let long = [b'x'; 8192];
    for content in [&b""[..], b"x", b"[settings]\n", &long] {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("CONTROL"), content).unwrap();
        let error = refused(WalOptions::new(), dir.path());
        assert!(matches!(error, WalError::NotALog { .. } | WalError::Corruption { .. }), "{error}");
        let error = WalOptions::new().open_read_only(dir.path()).unwrap_err();
        assert!(matches!(error, WalError::NotALog { .. } | WalError::Corruption { .. }), "{error}");
    }
}

#[test]
fn segments_of_another_library_are_refused() {
    for content in [&b""[..], b"\x01\x02", &[0; 16_384], &[0xAB; 70_000]] {
        let dir = tempfile::tempdir().unwrap();
        for seq in 1..=3 {
            fs::write(dir.path().join(format!("{seq:020}.wal")), content).unwrap();
        }
        let error = refused(WalOptions::new(), dir.path());
        assert!(matches!(error, WalError::NotALog { .. } | WalError::Corruption { .. }), "{error}");
        let error = refused(WalOptions::new().create_new(true), dir.path());
        assert!(!matches!(error, WalError::NotFound { .. }), "{error}");
    }
}

#[test]
fn a_foreign_segment_among_our_own_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    log_with(dir.path(), &[b"one"]);
    fs::write(dir.path().join(format!("{:020}.wal", 77)), [0xAB; 20_000]).unwrap();
    refused(WalOptions::new(), dir.path());
}

#[test]
fn a_segment_of_another_log_is_refused() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    log_with(dir.path(), &[b"ours"]);
    log_with(other.path(), &[b"theirs"]);
    let theirs = other.path().join(&segment_names(other.path())[0]);
    fs::copy(theirs, dir.path().join(format!("{:020}.wal", 9))).unwrap();
    let error = refused(WalOptions::new(), dir.path());
    assert!(matches!(error, WalError::NotALog { .. } | WalError::Corruption { .. }), "{error}");
}

#[test]
fn files_that_are_not_part_of_a_log_are_left_alone_and_reported() {
    let dir = tempfile::tempdir().unwrap();
    let names = ["notes.txt", "1.wal", "000.snap", "CONTROL.old", ".hidden.tmp"];
    for name in names {
        fs::write(dir.path().join(name), name).unwrap();
    }
    fs::create_dir(dir.path().join("sub")).unwrap();
    let wal = Wal::open(dir.path()).unwrap();
    wal.append_and_sync(b"one").unwrap();
    let mut unknown = wal.recovery().unknown_files.clone();
    drop(wal);
    unknown.sort();
    let mut expected: Vec<_> = names.into_iter().chain(["sub"]).collect();
    expected.sort_unstable();
    assert_eq!(unknown, expected);
    for name in names {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), name.as_bytes());
    }
}

#[cfg(unix)]
#[test]
fn a_directory_that_cannot_be_written_is_an_error_and_unchanged() {
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    log_with(dir.path(), &[b"one"]);
    let permit = |mode| fs::set_permissions(dir.path(), fs::Permissions::from_mode(mode)).unwrap();
    permit(0o500);
    if fs::write(dir.path().join("probe"), "").is_ok() {
        permit(0o700);
        let why = "skipped: permissions do not bind this user\n";
        std::io::stderr().write_all(why.as_bytes()).unwrap();
        return;
    }
    let error = refused(WalOptions::new(), dir.path());
    permit(0o700);
    assert!(matches!(error, WalError::Io { .. }), "{error}");
    assert_eq!(read_all(&Wal::open(dir.path()).unwrap()), [b"one"]);
}
