//! Checkpoints: an image takes the place of the beginning of the log.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "common/faulty.rs"]
mod faulty;

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;

use cohort_wal::{Lsn, MemStore, Wal, WalError, WalOptions, WalStore};

use common::{deadline, deadline_of, join_all, names, read_all, smallest as options};
use faulty::{EIO, ENOSPC, FaultyStore, Op};

fn fill(wal: &Wal<impl WalStore>, count: u8) -> Vec<Lsn> {
    (0..count).map(|number| wal.append(&[number; 1000]).unwrap()).collect()
}

/// An image of so many bytes that differ from place to place.
fn image(bytes: usize, seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    (0..bytes).map(move |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
}

fn latest(wal: &Wal<impl WalStore>) -> Option<(Lsn, Vec<u8>)> {
    let mut snapshot = wal.snapshots().unwrap().latest().unwrap()?;
    let mut bytes = Vec::new();
    snapshot.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes.len() as u64, snapshot.len());
    Some((snapshot.lsn(), bytes))
}

#[test]
fn an_image_takes_the_place_of_what_it_stands_for() {
    let memory = MemStore::new();
    let mut wal = options().open_store(memory.clone()).unwrap();
    assert!(latest(&wal).is_none());
    let lsns = fill(&wal, 60);
    for (round, keep) in [10, 10, 40, 59].into_iter().enumerate() {
        // Less than a chunk, exactly one, some, none.
        let bytes: Vec<u8> = image([5, 256 << 10, 700_000, 0][round], round as u64).collect();
        let mut called = false;
        wal.checkpoint(lsns[keep], |out| {
            called = true;
            bytes.chunks(100_001).try_for_each(|part| out.write_all(part))
        })
        .unwrap();
        assert_eq!(called, round != 1, "the same place twice is nothing to do");
        let expected = if round == 1 { image(5, 0).collect() } else { bytes };
        for _ in 0..2 {
            assert_eq!(wal.head_lsn(), lsns[keep]);
            assert_eq!(latest(&wal), Some((lsns[keep], expected.clone())));
            assert_eq!(read_all(&wal).len(), 60 - keep);
            assert_eq!(names(&memory, ".snap").len(), 1, "the one before is gone");
            assert!(names(&memory, ".wal").len() <= (60 - keep) / 8 + 3);
            drop(wal);
            wal = options().open_store(memory.clone()).unwrap();
        }
    }
    let end = wal.end_lsn();
    wal.checkpoint(end, |out| out.write_all(b"all")).unwrap();
    assert!(wal.is_empty());
    assert_eq!(latest(&wal), Some((end, b"all".to_vec())));
}

#[test]
fn a_writer_that_fails_leaves_everything_as_it_was() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 30);
    wal.checkpoint(lsns[5], |out| out.write_all(b"first")).unwrap();
    let before = memory.snapshot();
    let failed = wal.checkpoint(lsns[20], |out| {
        out.write_all(&[1; 600_000])?;
        Err(io::Error::other("no more"))
    });
    let text = failed.unwrap_err().to_string();
    assert!(text.contains("checkpoint") && text.contains("no more"), "{text}");
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wal.checkpoint(lsns[20], |_| panic!("the image panics"))
    }));
    assert!(panicked.is_err());
    assert_eq!(memory.snapshot(), before);
    assert_eq!(latest(&wal), Some((lsns[5], b"first".to_vec())));
    wal.append_and_sync(b"on").unwrap();
    wal.checkpoint(lsns[20], |out| out.write_all(b"second")).unwrap();
    assert_eq!(latest(&wal), Some((lsns[20], b"second".to_vec())));
}

#[test]
fn a_place_that_is_none_is_refused_before_anything_is_written() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 20);
    wal.truncate_before(lsns[5]).unwrap();
    let never = |_: &mut dyn Write| -> io::Result<()> { panic!("nothing is to be written") };
    for bad in [Lsn::new(lsns[9].get() + 8), Lsn::new(wal.end_lsn().get() + 8)] {
        let refused = wal.checkpoint(bad, never);
        assert!(matches!(refused, Err(WalError::NotARecord { lsn }) if lsn == bad), "{refused:?}");
    }
    assert!(matches!(wal.checkpoint(lsns[4], never), Err(WalError::Truncated { .. })));
    assert!(names(&memory, ".snap").is_empty());
    let snapshots = wal.snapshots().unwrap();
    wal.close().unwrap();
    assert!(matches!(wal.checkpoint(lsns[9], never), Err(WalError::Closed)));
    assert!(matches!(snapshots.latest(), Err(WalError::Closed)), "others may have it open now");
    assert!(matches!(wal.snapshots(), Err(WalError::Closed)));
}

#[test]
fn truncations_and_snapshots_know_of_each_other() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 40);
    wal.checkpoint(lsns[10], |out| out.write_all(b"ten")).unwrap();
    // What it stands for may not be undone.
    wal.truncate_from(lsns[10]).unwrap();
    assert_eq!(latest(&wal), Some((lsns[10], b"ten".to_vec())));
    assert!(matches!(wal.truncate_from(lsns[9]), Err(WalError::Truncated { .. })));
    let lsns = fill(&wal, 10);
    // A truncation past it leaves it without a use.
    wal.truncate_before(lsns[3]).unwrap();
    assert!(latest(&wal).is_none());
    assert!(names(&memory, ".snap").is_empty(), "space comes back at once");
    // A cut or a truncation while the image is made.
    let cut = wal.checkpoint(lsns[8], |_| wal.truncate_from(lsns[6]).map_err(io::Error::from));
    assert!(matches!(cut, Err(WalError::Truncated { .. })), "{cut:?}");
    let passed = wal
        .checkpoint(lsns[4], |_| wal.truncate_before(lsns[5]).map(drop).map_err(io::Error::from));
    assert!(matches!(passed, Err(WalError::Truncated { .. })), "{passed:?}");
    assert!(names(&memory, ".snap").is_empty());
    let twice = wal.checkpoint(lsns[5], |out| {
        wal.checkpoint(lsns[5], |inner| inner.write_all(b"inner")).map_err(io::Error::from)?;
        out.write_all(b"outer")
    });
    twice.unwrap();
    assert_eq!(latest(&wal), Some((lsns[5], b"inner".to_vec())), "the first one counts");
}

#[test]
fn everybody_goes_on_while_an_image_is_made() {
    deadline_of(60, || {
        let wal = Arc::new(options().open_store(MemStore::new()).unwrap());
        let over = Arc::new(AtomicBool::new(false));
        let threads: Vec<_> = (0..3)
            .map(|_| {
                let (wal, over) = (Arc::clone(&wal), Arc::clone(&over));
                thread::spawn(move || {
                    while !over.load(Relaxed) {
                        wal.append_and_sync(&[1; 300]).unwrap();
                        wal.iter().unwrap().for_each(|record| drop(record.unwrap()));
                        if let Some(mut snapshot) = wal.snapshots().unwrap().latest().unwrap() {
                            io::copy(&mut snapshot, &mut io::sink()).unwrap();
                        }
                    }
                })
            })
            .collect();
        for round in 0..60_u64 {
            let mark = wal.append(b"mark").unwrap();
            wal.checkpoint(mark, |out| {
                wal.append_and_sync(b"from inside").map_err(io::Error::from)?;
                out.write_all(&round.to_le_bytes())
            })
            .unwrap();
            assert_eq!(latest(&wal).unwrap(), (mark, round.to_le_bytes().to_vec()));
        }
        over.store(true, Relaxed);
        join_all(threads);
    });
}

#[test]
fn every_failure_leaves_the_old_snapshot_or_the_new_one() {
    for op in [Op::Create, Op::Write, Op::Sync, Op::Publish, Op::Remove] {
        for k in 0..6 {
            for fault in [EIO, ENOSPC] {
                deadline(move || {
                    let memory = MemStore::new();
                    let (store, script) = FaultyStore::over(memory.clone());
                    let wal = options().open_store(store).unwrap();
                    let lsns = fill(&wal, 30);
                    wal.sync().unwrap();
                    wal.checkpoint(lsns[5], |out| out.write_all(b"old")).unwrap();
                    script.fail_once(op, k, fault);
                    let done = wal.checkpoint(lsns[20], |out| out.write_all(&[7; 300_000]));
                    script.heal();
                    let name = format!("{op:?} {k} {fault:?}: {done:?}");
                    let new = Some((lsns[20], vec![7; 300_000]));
                    let old = Some((lsns[5], b"old".to_vec()));
                    let poisoned = wal.append(b"alive?").is_err();
                    if done.is_ok() {
                        assert_eq!(latest(&wal), new, "{name}");
                    }
                    if !poisoned && done.is_err() {
                        // Again, without a fault.
                        wal.checkpoint(lsns[20], |out| out.write_all(&[7; 300_000])).unwrap();
                        assert_eq!(latest(&wal), new, "{name}");
                        assert_eq!(wal.head_lsn(), lsns[20], "{name}");
                    }
                    drop(wal);
                    let again = options().open_store(memory.clone()).unwrap();
                    let found = latest(&again);
                    assert!(
                        found == new || poisoned && found == old,
                        "{name}: {:?}",
                        found.is_some()
                    );
                    assert_eq!(Some(again.head_lsn()), found.map(|(lsn, _)| lsn), "{name}");
                    assert_eq!(names(&memory, ".snap").len(), 1, "{name}");
                });
            }
        }
    }
}

#[test]
fn a_snapshot_that_is_damaged_or_missing_is_never_taken_for_none() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 30);
    wal.checkpoint(lsns[20], |out| out.write_all(&[7; 600_000])).unwrap();
    wal.close().unwrap();
    drop(wal);
    let name = names(&memory, ".snap").remove(0);
    let whole = memory.snapshot();
    let len = whole.files()[&name].len();
    let damaged = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut snapshot = whole.clone();
        change(snapshot.files_mut().get_mut(&name).unwrap());
        MemStore::from_snapshot(snapshot)
    };
    // Header and end are looked at when the log is opened, the chunks when they are asked for.
    let places = [0, 20, 44, 508, 512, 516, 520, 300_000, 262_664, len - 24, len - 20, len - 1];
    for place in places {
        let store = damaged(&|bytes| bytes[place] ^= 1);
        let before = store.snapshot();
        match options().open_store(store.clone()) {
            Err(error) => {
                assert!(error.is_corruption(), "{place}: {error}");
                assert_eq!(store.snapshot(), before, "{place}");
            }
            Ok(wal) => {
                let found = wal.snapshots().unwrap().latest();
                assert!(found.as_ref().is_err_and(WalError::is_corruption), "{place}: {found:?}");
            }
        }
    }
    for keep in [0, 100, 512, 600_000, len - 1] {
        let store = damaged(&|bytes| bytes.truncate(keep));
        let refused = options().open_store(store).unwrap_err();
        assert!(refused.is_corruption(), "{keep}: {refused}");
    }
    let mut missing = whole.clone();
    missing.files_mut().remove(&name);
    let refused = options().open_store(MemStore::from_snapshot(missing)).unwrap_err();
    assert!(refused.to_string().contains("snapshot"), "{refused}");
}

#[test]
fn what_a_crash_left_does_not_count_and_goes() {
    let memory = MemStore::new();
    let wal = options().open_store(memory.clone()).unwrap();
    let lsns = fill(&wal, 30);
    wal.checkpoint(lsns[5], |out| out.write_all(b"old")).unwrap();
    let old = memory.snapshot();
    let old_name = names(&memory, ".snap").remove(0);
    wal.checkpoint(lsns[20], |out| out.write_all(b"new")).unwrap();
    let new_name = names(&memory, ".snap").remove(0);
    let new_file = memory.snapshot().files()[&new_name].clone();
    drop(wal);
    // Published, and CONTROL never heard of it.
    let mut crashed = old.clone();
    crashed.files_mut().insert(new_name.clone(), new_file.clone());
    let store = MemStore::from_snapshot(crashed.clone());
    let wal = options().open_store(store.clone()).unwrap();
    assert_eq!(latest(&wal), Some((lsns[5], b"old".to_vec())));
    assert_eq!(names(&store, ".snap"), [old_name]);
    drop(wal);
    // The same while the log is open: a checkpoint at that place makes way for itself.
    let store = MemStore::from_snapshot(old);
    let wal = options().open_store(store.clone()).unwrap();
    let mut files = store.snapshot();
    files.files_mut().insert(new_name.clone(), new_file);
    let again = store.create(0).unwrap();
    cohort_wal::StoreFile::write_at(&again, 0, &files.files()[&new_name]).unwrap();
    store.publish(&again, &new_name).unwrap();
    wal.checkpoint(lsns[20], |out| out.write_all(b"newer")).unwrap();
    assert_eq!(latest(&wal), Some((lsns[20], b"newer".to_vec())));
}

#[test]
fn readers_of_a_snapshot_finish_it() {
    let dir = tempfile::tempdir().unwrap();
    let wal = options().open(dir.path()).unwrap();
    let lsns = fill(&wal, 30);
    wal.checkpoint(lsns[5], |out| out.write_all(&[5; 600_000])).unwrap();
    let reader = WalOptions::new().open_read_only(dir.path()).unwrap();
    let mut inside = wal.snapshots().unwrap().latest().unwrap().unwrap();
    let mut beside = reader.snapshots().latest().unwrap().unwrap();
    let mut first = [0; 10];
    inside.read_exact(&mut first).unwrap();
    wal.checkpoint(lsns[20], |out| out.write_all(b"new")).unwrap();
    let mut rest = Vec::new();
    inside.read_to_end(&mut rest).unwrap();
    assert_eq!((first, rest), ([5; 10], vec![5; 599_990]));
    assert_eq!(io::copy(&mut beside, &mut io::sink()).unwrap(), 600_000);
    assert_eq!(reader.snapshots().latest().unwrap().unwrap().lsn(), lsns[20]);
}

#[test]
fn a_claim_that_reached_one_slot_is_finished_by_the_next_call() {
    deadline(|| {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let wal = options().open_store(store).unwrap();
        let lsns = fill(&wal, 5);
        wal.sync().unwrap();
        let slots = || {
            let bytes = memory.snapshot().files()["CONTROL"].clone();
            [bytes[20..96].to_vec(), bytes[4116..4192].to_vec()]
        };
        // Writes of a checkpoint: header, chunk header, chunk, end, slot, slot.
        script.fail_once(Op::Write, 5, ENOSPC);
        let made = wal.checkpoint(lsns[2], |out| out.write_all(b"image"));
        assert!(matches!(made, Err(WalError::StorageFull { .. })), "{made:?}");
        script.heal();
        let [one, other] = slots();
        assert_ne!(one, other, "one slot alone knows");
        wal.checkpoint(lsns[2], |_| panic!("it counts already")).unwrap();
        let [one, other] = slots();
        assert_eq!(one, other);
    });
}
