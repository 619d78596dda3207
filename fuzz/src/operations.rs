//! Operations on a log over a simulated disk: crashes and store calls that fail, judged by the
//! oracles of the `simulation` crate.

use cohort_wal::sim::Profile;
use simulation::calls::{self, Act, Acts, Address, Fault};
use simulation::oracle::{Crash, Violation, recover_sim};
use simulation::workload::{Op, Run, Steps, options};

use crate::input::Input;

/// The longest workload without faults.
const MAX_OPS: usize = 24;
/// The longest workload with one; moments around the fault are crashed, which takes its time.
const MAX_ACTS: usize = 12;
/// States of a moment that are recovered.
const MAX_STATES: u64 = 3;

const ACTS: [Act; 18] = [
    Act::Small,
    Act::Medium,
    Act::Large,
    Act::Batch,
    Act::Commit,
    Act::Flush,
    Act::Sync,
    Act::Wait,
    Act::Rotate,
    Act::Truncate,
    Act::Empty,
    Act::Checkpoint,
    Act::Undo,
    Act::Cut,
    Act::Read,
    Act::Close,
    Act::Kill,
    Act::Power,
];

/// What is done to a log, and what it goes through.
pub(crate) fn operations(data: &[u8]) {
    let mut input = Input::new(data);
    let (profile, mode, seed) = (input.below(Profile::ALL.len()), input.byte(), input.byte());
    let profile = Profile::ALL[profile];
    let result = match mode & 3 {
        0 => with_a_fault(profile, u64::from(seed), mode, &mut input),
        _ => crashes(profile, u64::from(seed), &mut input),
    };
    if let Err(broken) = result {
        panic!("{broken}");
    }
}

fn fault(input: &mut Input<'_>) -> Fault {
    match input.below(13) {
        0 => Fault::Short,
        1 => Fault::ShortFull,
        2 => Fault::Late,
        3 => Fault::Panic,
        4 => Fault::Less,
        5 => Fault::Full(input.short() as u64),
        // EIO, ENOSPC, EDQUOT, EROFS, EMFILE, ENOMEM, EFBIG.
        number => Fault::Errno([5, 28, 122, 30, 24, 12, 27][number - 6]),
    }
}

/// One fault, at one call of a workload.
fn with_a_fault(
    profile: Profile,
    seed: u64,
    mode: u8,
    input: &mut Input<'_>,
) -> Result<(), String> {
    let fault = fault(input);
    let sticky = mode & 4 != 0 || matches!(fault, Fault::Full(_));
    let after = input.short() as u64 % 512;
    let acts = input.bytes(MAX_ACTS).iter().map(|byte| ACTS[usize::from(*byte) % ACTS.len()]);
    let acts = Acts(acts.collect());
    let evict = mode & 8 != 0;
    let address = Address { acts, profile, seed, fault, sticky, evict, after };
    calls::replay(&address).map(drop).map_err(|failure| failure.to_string())
}

/// A workload, and at last the power goes: in the middle of the last operation, and after it.
fn crashes(profile: Profile, seed: u64, input: &mut Input<'_>) -> Result<(), String> {
    let text = |violation: Violation| violation.to_string();
    let which = input.byte();
    let (mut run, _) = Run::new(profile, seed, false).map_err(text)?;
    let ops = input.bytes(MAX_OPS);
    for (index, byte) in ops.iter().enumerate() {
        // One more than there are operations: the cache forgets what is clean.
        let Some(op) = Op::ALL.get(usize::from(*byte) % (Op::ALL.len() + 1)) else {
            run.disk.evict();
            continue;
        };
        let last = index + 1 == ops.len();
        let steps = run.step(*op, last).map_err(text)?;
        run.history.saw_durable(run.durable());
        // What the power has taken, a kill does not bring back.
        let kill = if *op == Op::Power { Crash::Power } else { Crash::Process };
        steps.iter().try_for_each(|steps| moment(steps, which, kill)).map_err(text)?;
    }
    for op in [Op::Power, Op::Small, Op::Close] {
        run.step(op, false).map_err(text)?;
    }
    Ok(())
}

/// Crashes one of the moments of an operation, in some of the ways there are; `kill` is what it
/// means for the promises when only the process dies.
fn moment(steps: &Steps, which: u8, kill: Crash) -> Result<(), Violation> {
    let Some(count) = steps.during.len().checked_sub(1) else { return Ok(()) };
    let disk = &steps.during[usize::from(which) % (count + 1)];
    for state in disk.power_losses(MAX_STATES).take(MAX_STATES as usize) {
        recover_sim(&state, &options(), &mut steps.before.clone(), Crash::Power)?;
    }
    recover_sim(&disk.kill(), &options(), &mut steps.before.clone(), kill).map(drop)
}
