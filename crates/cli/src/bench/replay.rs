//! The replay: reopens the log and audits every record it yields.

use std::path::Path;
use std::time::Duration;

use cohort_wal::WalOptions;

use super::audit::{Audit, Findings};
use super::records::Shape;
use crate::clock;
use crate::failure::Failure;
use crate::output::grouped;
use crate::progress::Progress;

const RECORDS_PER_LOOK: u64 = 65_536;

/// What the replay found and how long it took.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) findings: Findings,
    /// Opening the log, recovery included.
    pub(crate) opened_in: Duration,
    /// Reading and auditing every record.
    pub(crate) elapsed: Duration,
}

/// Reopens the log in `dir` and audits it against what each thread was promised.
pub(crate) fn run(
    dir: &Path,
    options: WalOptions,
    shape: Shape,
    acknowledged: &[u64],
) -> Result<Replay, Failure> {
    let began = clock::now();
    let wal = options.open(dir).map_err(Failure::Replay)?;
    let opened_in = began.elapsed();

    let progress = Progress::message();
    let mut audit = Audit::new(shape, acknowledged);
    let began = clock::now();
    let mut records = wal.iter().map_err(Failure::Replay)?;
    let mut replayed = 0_u64;
    while let Some(record) = records.read_next() {
        let record = record.map_err(Failure::Replay)?;
        audit.observe(record.lsn(), record.data());
        replayed += 1;
        if replayed.is_multiple_of(RECORDS_PER_LOOK) {
            progress.say(|| format!("{:>12} records replayed", grouped(replayed)));
        }
    }
    let elapsed = began.elapsed();
    drop(records);
    wal.close()?;
    Ok(Replay { findings: audit.finish(), opened_in, elapsed })
}
