//! `work`: threads that append and commit in one directory, until killed.
//!
//! What it says, one line each: `committed WRITER COUNT` when that many entries of a writer are
//! committed. An entry is the text `WRITER NUMBER`, and numbers go up without a gap.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::thread;

use canonical_log::CanonicalLog;
use cohort_wal::WalOptions;
use parking_lot::Mutex;

use crate::AnyError;

const WRITERS: u64 = 4;
/// Beyond so many committed entries the older ones are forgotten, but for each writer's last one.
const KEPT: u64 = 300;

pub(crate) fn work(dir: &Path) -> Result<(), AnyError> {
    let options = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
    let log = CanonicalLog::open(options, dir)?;
    let mut next: BTreeMap<u64, u64> = (0..WRITERS).map(|writer| (writer, 0)).collect();
    let mut last = next.clone();
    for entry in log.entries()? {
        let (index, entry) = entry?;
        let text = String::from_utf8(entry)?;
        let (writer, number) = text.split_once(' ').ok_or("not an entry of a worker")?;
        let writer = writer.parse()?;
        next.insert(writer, number.parse::<u64>()? + 1);
        last.insert(writer, index);
    }
    let last = Mutex::new(last);
    thread::scope(|scope| {
        let writers = next.into_iter().map(|(writer, number)| {
            let (log, last) = (&log, &last);
            scope.spawn(move || write(log, last, writer, number))
        });
        let writers: Vec<_> = writers.collect();
        writers.into_iter().try_for_each(|writer| match writer.join() {
            Ok(result) => result,
            Err(_) => Err("a writer panicked".into()),
        })
    })
}

/// Appends and commits. Where each writer's last committed entry is, all of them know.
fn write(
    log: &CanonicalLog,
    last: &Mutex<BTreeMap<u64, u64>>,
    writer: u64,
    first: u64,
) -> Result<(), AnyError> {
    let mut old = None;
    let mut number = first;
    loop {
        let mut index = 0;
        for _ in 0..=number % 3 {
            index = log.append(format!("{writer} {number}").as_bytes())?;
            number += 1;
        }
        if number.is_multiple_of(4) {
            // With the operating system, and not committed: a kill now leaves orphans.
            log.wal().flush()?;
        }
        let checkpoint = log.checkpoint()?;
        let oldest = {
            let mut last = last.lock();
            last.insert(writer, index);
            last.values().copied().min().unwrap_or(0)
        };
        say(&format!("committed {writer} {number}"));
        // One of them keeps the log short.
        match old {
            _ if writer != 0 => {}
            None => old = Some(checkpoint),
            Some(place) if checkpoint.entries > place.entries + KEPT && oldest >= place.entries => {
                log.forget_before(place.lsn)?;
                old = Some(checkpoint);
            }
            Some(_) => {}
        }
    }
}

/// Says a line in one write, so that a kill leaves whole lines or a last one without an end.
fn say(what: &str) {
    let line = format!("{what}\n");
    // Whoever listened may be gone: then nobody is owed anything.
    std::io::stdout().lock().write_all(line.as_bytes()).ok();
}
