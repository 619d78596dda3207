//! Power loss: a crash at any moment leaves whole transactions, every acknowledged one among them,
//! and none that was rolled back.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "figures for the cookbook")]

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;

use cohort_wal::sim::{Profile, SimStore};
use ledger_engine::engine::Engine;
use ledger_engine::workload;

use common::{Owed, open, recovered, script, stride};

/// States that are tried of each moment.
const LOSSES: u64 = 2;

#[test]
fn a_power_loss_at_any_moment_leaves_the_state_before_a_step_or_behind_it() {
    let mut states = 0_u64;
    for (offset, profile) in Profile::ALL.into_iter().enumerate() {
        let mut until_next = offset;
        let disk = SimStore::new(profile, 11);
        let engine = open(disk.clone()).unwrap();
        let mut owed = Owed::new();
        disk.record();
        for step in script() {
            let allowed_in = owed.allowed_in(step);
            owed.take(&engine, step).unwrap();
            for moment in disk.moments() {
                let skipped = until_next > 0;
                until_next = if skipped { until_next - 1 } else { stride(13) - 1 };
                if skipped {
                    continue;
                }
                for left in moment.power_losses(LOSSES) {
                    let counts = recovered(left);
                    assert!(allowed_in.contains(&counts), "in {step:?}: {counts:?}");
                    states += 1;
                }
            }
            let (allowed, counts) = (owed.allowed(), recovered(disk.power_loss()));
            assert!(allowed.contains(&counts), "behind {step:?}: {counts:?} of {allowed:?}");
            states += 1;
        }
    }
    eprintln!("{states} states after power losses, each of them the one before a step or behind");
    assert!(states > 1_000);
}

#[test]
fn what_a_book_has_shown_survives_even_if_nobody_has_waited_for_it() {
    for profile in Profile::ALL {
        let disk = SimStore::new(profile, 7);
        let engine = open(disk.clone()).unwrap();
        engine.post(&workload::transaction(0, 0).unwrap()).unwrap();
        let pending = engine.begin(&workload::transaction(1, 0).unwrap()).unwrap();
        assert_eq!(recovered(disk.kill())[..2], [1, 0], "nobody has waited for it");
        let shown = workload::check(&engine.book().unwrap()).unwrap();
        assert_eq!(shown[..2], [1, 1]);
        assert_eq!(recovered(disk.power_loss()), shown, "{profile:?}");
        pending.wait().unwrap();
    }
}

/// Posts until told to stop, and keeps the log short. `begun` and `durable` say how far it is.
fn write(
    engine: &Engine<SimStore>,
    writer: u16,
    [begun, durable]: &[AtomicU64; 2],
    stop: &AtomicBool,
    tell: &mpsc::Sender<()>,
) {
    for number in 0.. {
        if stop.load(SeqCst) {
            break;
        }
        begun.store(number + 1, SeqCst);
        engine.post(&workload::transaction(writer, number).unwrap()).unwrap();
        durable.store(number + 1, SeqCst);
        engine.checkpoint_if_longer(12 << 10).unwrap();
        tell.send(()).ok();
    }
}

#[test]
fn a_power_loss_beside_concurrent_writers_takes_nothing_acknowledged_and_splits_nothing() {
    const WRITERS: u16 = 4;
    const PICTURES: u64 = 30;
    let (mut posted, mut shown) = (0, 0);
    for profile in Profile::ALL {
        let disk = SimStore::new(profile, 5);
        let engine = open(disk.clone()).unwrap();
        let progress: [[AtomicU64; 2]; WRITERS as usize] = Default::default();
        let stop = AtomicBool::new(false);
        let seen = |which: usize| progress.each_ref().map(|both| both[which].load(SeqCst));
        let pictures = thread::scope(|scope| {
            let (tell, told) = mpsc::channel();
            for (writer, progress) in (0..).zip(&progress) {
                let (engine, stop, tell) = (&engine, &stop, tell.clone());
                scope.spawn(move || write(engine, writer, progress, stop, &tell));
            }
            drop(tell);
            let mut pictures = Vec::new();
            for picture in 0..PICTURES {
                // Some progress between two pictures; all of them told, so that none comes early.
                (0..=picture % 9).for_each(|_| told.recv().expect("the writers go on"));
                let low = seen(1);
                let left = if picture % 5 == 0 { disk.kill() } else { disk.power_loss() };
                pictures.push((low, left, seen(0)));
            }
            stop.store(true, SeqCst);
            pictures
        });
        for (low, left, high) in pictures {
            let counts = recovered(left);
            for writer in 0..usize::from(WRITERS) {
                let range = low[writer]..=high[writer];
                assert!(range.contains(&counts[writer]), "{profile:?}: {counts:?}, {low:?}");
            }
            shown += 1;
            posted += counts.iter().sum::<u64>();
        }
    }
    eprintln!("{shown} power losses beside {WRITERS} writers: {posted} transactions, none short");
}
