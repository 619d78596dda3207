//! Power loss at every moment of a run, keys and log on one disk: what was acknowledged is there,
//! no batch is there in part, and the keys are there before anything that needs them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "a test says how much it has tried")]

mod common;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use cohort_wal::Lsn;
use cohort_wal::sim::{Profile, SimCall, SimFault, SimFaultKind, SimStore};
use vector_log::{Batch, Collections, Error, VectorLog, workload};

use common::{Keys, open, replayed};

const DIMS: u32 = 8;

/// A database: its files, made up, which are durable at once, and what its log is to lead to.
#[derive(Default)]
struct Database {
    files: Collections,
    manifest: u64,
    /// After each step: the newest record, and what there is.
    states: Vec<(Lsn, Collections)>,
}

impl Database {
    fn state(&self) -> Collections {
        self.states.last().map(|(_, state)| state.clone()).unwrap_or_default()
    }

    /// Step `number` of a run, which touches each kind of record.
    fn step(&mut self, number: u64, log: &VectorLog<SimStore>, keys: &Keys) {
        let collection = u32::try_from(number / 20).unwrap();
        let vector = |id| workload::vector(collection, id, DIMS).collect::<Vec<_>>();
        match number % 20 {
            0 => log.create(collection, DIMS, "points").unwrap(),
            4 | 13 => {
                keys.add().unwrap();
                log.wal().rotate_key().unwrap();
            }
            3 | 9 | 15 => {
                log.delete(collection, number - 1).unwrap();
            }
            // There is none before the first.
            17 => log.drop_collection(collection.wrapping_sub(1)).unwrap(),
            6 | 11 | 18 => {
                // The files lag behind the log: what the last two steps did is not in them.
                let (captured, files) = self.states[self.states.len() - 3].clone();
                (self.files, self.manifest) = (files, self.manifest + 1);
                log.checkpoint(captured, self.manifest).unwrap();
            }
            place if place % 2 == 1 => {
                let mut batch = Batch::new(collection);
                (number..number + 6).for_each(|id| batch.push(id, &vector(id), b"of a batch"));
                log.upsert_many(&batch).unwrap();
            }
            _ => drop(log.upsert(collection, number, &vector(number), b"alone").unwrap()),
        }
    }

    /// What the files and the log of a disk lead to.
    fn recover(&self, disk: &SimStore) -> Collections {
        let (log, _) = open(disk, Some(self.manifest)).unwrap();
        replayed(&log, &self.files)
    }
}

#[test]
fn acknowledged_changes_survive_power_loss_at_any_moment() {
    let mut states = 0;
    for profile in Profile::ALL {
        let disk = SimStore::new(profile, 11);
        let (log, keys) = open(&disk, None).unwrap();
        let mut database = Database::default();
        disk.record();
        for number in 0..40 {
            let before = database.state();
            database.step(number, &log, &keys);
            // What a log without a loss leads to, which is what the callers asked for.
            let mut after = database.files.clone();
            log.replay(|_, change| after.apply(change)).unwrap();
            let moments = disk.moments();
            let last = moments.len().saturating_sub(1);
            for (place, moment) in moments.into_iter().enumerate() {
                for crashed in moment.power_losses(2) {
                    let found = database.recover(&crashed);
                    assert!(
                        found == after || place < last && found == before,
                        "{profile:?}, step {number}, moment {place} of {last}"
                    );
                    states += 1;
                }
            }
            database.states.push((log.wal().last_lsn().unwrap(), after));
            if database.manifest > 0 && number % 20 == 18 {
                let older = open(&disk.power_loss(), Some(database.manifest - 1));
                assert!(matches!(older, Err(Error::OldManifest { .. })), "{older:?}");
            }
        }
    }
    println!("{states} states after power loss");
    assert!(states > 1_000, "{states}");
}

#[test]
fn power_loss_beside_threads_takes_nothing_that_was_acknowledged() {
    const THREADS: usize = 3;
    const LAST: u64 = 40;
    for profile in [Profile::Ext4, Profile::Hostile] {
        let disk = SimStore::new(profile, 3);
        let (log, keys) = open(&disk, None).unwrap();
        let held = |disk: &SimStore| {
            let (log, _) = open(disk, None).unwrap();
            workload::held(&replayed(&log, &Collections::default()), THREADS).unwrap()
        };
        let acknowledged: Vec<_> = (0..THREADS).map(|_| AtomicU64::new(0)).collect();
        workload::write(&log, DIMS, &[0; THREADS], LAST, |collection, number| {
            let place = usize::try_from(collection).unwrap();
            acknowledged[place].store(number + 1, SeqCst);
            if collection == 0 && number % 8 == 0 {
                keys.add().unwrap();
                log.wal().rotate_key().unwrap();
            }
            if number % 4 == 3 {
                let owed: Vec<_> = acknowledged.iter().map(|n| n.load(SeqCst)).collect();
                let after = if number % 8 == 3 { disk.power_loss() } else { disk.kill() };
                let found = held(&after);
                assert_eq!(found[place], number + 1, "this thread has nothing under way");
                let kept = owed.iter().zip(&found).all(|(owed, found)| owed <= found);
                assert!(kept, "owed {owed:?}, found {found:?}");
            }
        })
        .unwrap();
        assert_eq!(held(&disk.kill()), [LAST; THREADS]);
    }
}

#[test]
fn what_a_failing_disk_did_not_make_durable_is_not_acknowledged() {
    let (mut failed, mut went_on) = (0, 0);
    for call in [SimCall::Write, SimCall::Sync, SimCall::Publish] {
        for after in 0..12 {
            let disk = SimStore::new(Profile::Hostile, 5 + after);
            let (log, keys) = open(&disk, None).unwrap();
            disk.inject(SimFault::new(SimFaultKind::Errno(5)).on(call).after(after));
            let acknowledged = AtomicU64::new(0);
            let run = workload::write(&log, DIMS, &[0], 20, |_, number| {
                acknowledged.store(number + 1, SeqCst);
                if number % 4 == 0 && keys.add().is_ok() {
                    // What comes next says whether it failed for good.
                    log.wal().rotate_key().ok();
                }
            });
            match run {
                Ok(()) => went_on += 1,
                Err(Error::Wal(error)) => failed += u64::from(error.is_poisoned()),
                Err(error) => panic!("{error}"),
            }
            let owed = acknowledged.into_inner();
            let (log, _) = open(&disk.power_loss(), None).unwrap();
            let found = workload::held(&replayed(&log, &Collections::default()), 1).unwrap();
            assert!((owed..=owed + 1).contains(&found[0]), "owed {owed}, found {found:?}");
        }
    }
    println!("{failed} runs poisoned, {went_on} went on");
    assert!(failed > 5 && went_on > 5, "{failed} {went_on}");
}
