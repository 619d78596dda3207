//! Failing stores and power loss: committed entries are all there, orphans are not, and nothing is
//! half committed.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "figures for the cookbook")]

mod common;

use std::io::ErrorKind;

use cohort_wal::sim::{Profile, SimCall, SimFault, SimFaultKind, SimStore};

use common::{Owed, Step, View, goes_on, open, recovered, script, stride, view};

/// What a run with a fault has come to.
struct Run {
    disk: SimStore,
    allowed: Vec<View>,
    struck: bool,
}

/// Runs the script from an empty disk on until a step fails for good. A full disk is nothing for
/// good, except while opening.
fn run(profile: Profile, fault: SimFault) -> Run {
    let disk = SimStore::new(profile, 3);
    disk.inject(fault);
    let mut owed = Owed::new();
    let mut allowed = owed.allowed();
    if let Ok(mut log) = open(disk.clone()) {
        for step in script(1) {
            allowed = owed.allowed_in(step);
            match owed.take(&mut log, &disk, step) {
                Err(error) if !goes_on(&error) || step == Step::Reopen => break,
                _ => allowed = owed.allowed(),
            }
        }
    }
    let struck = !disk.injected().is_empty();
    disk.heal();
    Run { disk, allowed, struck }
}

fn sweep(kind: SimFaultKind, usual: usize) -> u64 {
    let mut runs = 0;
    for sticky in [false, true] {
        for call in (0..).step_by(stride(usual)) {
            let fault = SimFault::new(kind).after(call);
            let fault = if sticky { fault.sticky() } else { fault };
            let run = run(Profile::ALL[usize::try_from(runs % 6).unwrap()], fault);
            for left in [run.disk.kill(), run.disk.power_loss(), run.disk.power_loss()] {
                let found = recovered(left);
                assert!(run.allowed.contains(&found), "{fault:?}: {found:?}");
            }
            runs += 1;
            if !run.struck {
                break;
            }
        }
    }
    runs
}

#[test]
fn an_error_of_any_store_call_loses_nothing_committed_and_commits_nothing_by_half() {
    let mut runs = 0;
    for kind in [SimFaultKind::Error, SimFaultKind::Short, SimFaultKind::Late] {
        runs += sweep(kind(ErrorKind::Other), 5);
    }
    eprintln!("{runs} runs with a failing call, nothing committed lost");
    assert!(runs > 200);
}

#[test]
fn a_disk_that_is_full_at_any_call_loses_nothing_committed_and_the_log_goes_on() {
    let runs = sweep(SimFaultKind::Error(ErrorKind::StorageFull), 4);
    eprintln!("{runs} runs with a full disk, nothing committed lost");
    assert!(runs > 100);
}

#[test]
fn every_write_and_every_sync_fails_once_and_for_good() {
    let mut runs = 0_u64;
    for call in [SimCall::Write, SimCall::Sync] {
        for sticky in [false, true] {
            for number in 0.. {
                let fault = SimFault::new(SimFaultKind::Short(ErrorKind::Other));
                let fault = fault.on(call).after(number);
                let run = run(Profile::Btrfs, if sticky { fault.sticky() } else { fault });
                for left in [run.disk.kill(), run.disk.power_loss()] {
                    let found = recovered(left);
                    assert!(run.allowed.contains(&found), "{fault:?}: {found:?}");
                }
                runs += 1;
                if !run.struck {
                    break;
                }
            }
        }
    }
    eprintln!("{runs} runs with a failing write or sync, nothing committed lost");
    assert!(runs > 100);
}

#[test]
fn a_power_loss_at_any_moment_leaves_the_commits_before_a_step_or_behind_it() {
    let mut states = 0_u64;
    for (offset, profile) in Profile::ALL.into_iter().enumerate() {
        let mut until_next = offset;
        let disk = SimStore::new(profile, 11);
        disk.record();
        let mut log = open(disk.clone()).unwrap();
        let mut owed = Owed::new();
        for step in script(2) {
            let allowed = owed.allowed_in(step);
            owed.take(&mut log, &disk, step).unwrap();
            for moment in disk.moments() {
                let skipped = until_next > 0;
                until_next = if skipped { until_next - 1 } else { stride(37) - 1 };
                if skipped {
                    continue;
                }
                for left in moment.power_losses(2) {
                    let found = recovered(left);
                    assert!(allowed.contains(&found), "in {step:?}: {found:?}");
                    states += 1;
                }
            }
            let found = recovered(disk.power_loss());
            assert!(owed.allowed().contains(&found), "behind {step:?}: {found:?}");
            assert!(owed.allowed().contains(&view(&log)));
            states += 1;
        }
    }
    eprintln!("{states} states after power losses, nothing lost and nothing half committed");
    assert!(states > 800);
}
