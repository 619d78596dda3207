//! Failing stores: whichever call fails, once or from then on, nothing acknowledged is lost and
//! nothing is half there; and an engine that goes on is right.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "figures for the cookbook")]

mod common;

use std::io::ErrorKind;

use cohort_wal::WalError;
use cohort_wal::sim::{Profile, SimFault, SimFaultKind, SimStore};
use ledger_engine::Error;
use ledger_engine::engine::Engine;
use ledger_engine::workload;

use common::{Counts, Owed, open, recovered, script, stride};

/// What a run with a fault has come to.
struct Run {
    disk: SimStore,
    allowed: Vec<Counts>,
    /// The fault has struck.
    struck: bool,
}

/// Runs the script until a step fails for good. A full disk is nothing for good: the step is left
/// out, and the engine must be right without it.
fn run(fault: SimFault) -> Run {
    let disk = SimStore::new(Profile::Ext4, 3);
    let engine = open(disk.clone()).unwrap();
    disk.inject(fault);
    let mut owed = Owed::new();
    let mut allowed = owed.allowed();
    for step in script() {
        allowed = owed.allowed_in(step);
        match owed.take(&engine, step) {
            Ok(()) => allowed = owed.allowed(),
            Err(Error::Wal(WalError::StorageFull { .. })) => {
                allowed = owed.allowed();
                check_what_goes_on(&engine, &allowed, fault);
            }
            Err(_) => break,
        }
    }
    let struck = !disk.injected().is_empty();
    disk.heal();
    Run { disk, allowed, struck }
}

/// A full disk has left out a step: what the log says is what the steps before it say.
fn check_what_goes_on(engine: &Engine<SimStore>, allowed: &[Counts], fault: SimFault) {
    match engine.audit() {
        Ok(book) => {
            let counts = workload::check(&book).unwrap();
            assert!(allowed.contains(&counts), "{fault:?}: {counts:?}");
            // Of a poisoned log it is what is durable.
            let whole = engine.wal().flush().is_err() || allowed.last() == Some(&counts);
            assert!(whole, "{fault:?}: {counts:?}");
        }
        Err(Error::Half { .. } | Error::Record { .. }) => panic!("{fault:?}"),
        // The disk is still full.
        Err(_) => {}
    }
}

#[test]
fn an_error_of_any_store_call_loses_nothing_acknowledged_and_splits_nothing() {
    let kinds = [
        SimFaultKind::Error(ErrorKind::Other),
        SimFaultKind::Short(ErrorKind::Other),
        SimFaultKind::Late(ErrorKind::Other),
        SimFaultKind::Error(ErrorKind::StorageFull),
    ];
    let mut runs = 0_u64;
    for kind in kinds {
        for sticky in [false, true] {
            for call in (0..).step_by(stride(8)) {
                let fault = SimFault::new(kind).after(call);
                let fault = if sticky { fault.sticky() } else { fault };
                let run = run(fault);
                for left in [run.disk.kill(), run.disk.power_loss()] {
                    let counts = recovered(left);
                    assert!(run.allowed.contains(&counts), "{fault:?}: {counts:?}");
                }
                runs += 1;
                if !run.struck {
                    break;
                }
            }
        }
    }
    eprintln!("{runs} runs with a failing call, nothing lost");
    assert!(runs > 100);
}
