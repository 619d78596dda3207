//! `demo`: commits, orphans, cuts, and directories of others.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::thread;

use canonical_log::{CanonicalLog, Error};
use cohort_wal::{Wal, WalError, WalOptions};

use crate::AnyError;

const WRITERS: u64 = 8;
const COMMITS: u64 = 100;

pub(crate) fn run(out: &mut impl Write) -> Result<(), AnyError> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("log");
    commit_together(&dir, out)?;
    leave_orphans(&dir, out)?;
    cut(&dir, out)?;
    forget(&dir, out)?;
    meet_others(home.path(), out)
}

fn open(dir: &Path) -> Result<CanonicalLog, Error> {
    CanonicalLog::open(WalOptions::new(), dir)
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), AnyError> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

fn count(log: &CanonicalLog) -> Result<usize, AnyError> {
    Ok(log.entries()?.collect::<Result<Vec<_>, _>>()?.len())
}

/// Threads append and commit; their checkpoints share syncs.
fn commit_together(dir: &Path, out: &mut impl Write) -> Result<(), AnyError> {
    let log = open(dir)?;
    thread::scope(|scope| {
        let writer = |writer| {
            let log = &log;
            scope.spawn(move || {
                for number in 0..COMMITS {
                    for part in 0..3 {
                        log.append(format!("{writer}.{number}.{part}").as_bytes())?;
                    }
                    log.checkpoint()?;
                }
                Ok::<_, Error>(())
            })
        };
        let writers: Vec<_> = (0..WRITERS).map(writer).collect();
        writers.into_iter().try_for_each(|writer| match writer.join() {
            Ok(result) => Ok(result?),
            Err(_) => Err(AnyError::from("a writer panicked")),
        })
    })?;
    let (entries, syncs) = (count(&log)?, log.wal().stats().syncs);
    writeln!(
        out,
        "{WRITERS} writers: {entries} entries, {} checkpoints, {syncs} syncs",
        WRITERS * COMMITS
    )?;
    ensure(entries as u64 == WRITERS * COMMITS * 3, "an entry is lost")?;
    Ok(log.wal().close()?)
}

/// What is durable and not committed does not count.
fn leave_orphans(dir: &Path, out: &mut impl Write) -> Result<(), AnyError> {
    let log = open(dir)?;
    let before = count(&log)?;
    log.append(b"durable, and nobody's business")?;
    log.append(b"another one")?;
    log.wal().close()?;
    let log = open(dir)?;
    writeln!(out, "two entries without a checkpoint: {} orphans cut on opening", log.orphans())?;
    ensure(log.orphans() == 2 && count(&log)? == before, "an orphan counts")?;
    Ok(log.wal().close()?)
}

/// Back to an earlier checkpoint, and not to where there is none.
fn cut(dir: &Path, out: &mut impl Write) -> Result<(), AnyError> {
    let log = open(dir)?;
    let good = log.committed().ok_or("nothing is committed")?;
    log.append(b"a mistake")?;
    log.checkpoint()?;
    let end = log.wal().end_lsn();
    match log.cut_to(end) {
        Err(error @ Error::BeyondEnd { .. }) => writeln!(out, "cutting at the end: {error}")?,
        _ => return Err("a cut beyond the end did something".into()),
    }
    ensure(log.wal().end_lsn() == end, "the refused cut moved the end")?;
    log.cut_to(good.lsn)?;
    writeln!(out, "cut to the checkpoint at LSN {}: {} entries", good.lsn, count(&log)?)?;
    ensure(count(&log)? as u64 == good.entries, "the mistake is there")?;
    Ok(log.wal().close()?)
}

/// The beginning goes, and the indices stay.
fn forget(dir: &Path, out: &mut impl Write) -> Result<(), AnyError> {
    let log = open(dir)?;
    let place = log.committed().ok_or("nothing is committed")?;
    log.append(b"after it")?;
    log.checkpoint()?;
    log.forget_before(place.lsn)?;
    log.wal().close()?;
    let log = open(dir)?;
    let left = log.entries()?.collect::<Result<Vec<_>, _>>()?;
    writeln!(out, "forgotten before LSN {}: the first entry is number {}", place.lsn, left[0].0)?;
    ensure(left == [(place.entries, b"after it".to_vec())], "not that one entry is left")?;
    Ok(log.wal().close()?)
}

/// Files of other programs stay as they are.
fn meet_others(home: &Path, out: &mut impl Write) -> Result<(), AnyError> {
    let dir = home.join("looks-like-a-log");
    fs::create_dir(&dir)?;
    fs::write(dir.join("CONTROL"), "of another program")?;
    match open(&dir) {
        Err(Error::Wal(error @ WalError::NotALog { .. })) => writeln!(out, "refused: {error}")?,
        _ => return Err("a foreign CONTROL was taken".into()),
    }
    ensure(fs::read(dir.join("CONTROL"))? == b"of another program", "it was changed")?;

    let dir = home.join("log-of-another-program");
    let wal = Wal::open(&dir)?;
    wal.append(b"no entry, and no checkpoint")?;
    wal.close()?;
    match open(&dir) {
        Err(error @ Error::Foreign(_)) => writeln!(out, "refused: {error}")?,
        _ => return Err("the log of another program was taken".into()),
    }
    ensure(Wal::open(&dir)?.iter()?.count() == 1, "its record is gone")?;

    let dir = home.join("with-notes");
    fs::create_dir(&dir)?;
    fs::write(dir.join("notes.txt"), "mine")?;
    let log = open(&dir)?;
    log.append(b"beside the notes")?;
    log.checkpoint()?;
    log.wal().close()?;
    writeln!(out, "beside a file of another name: {} entry", count(&open(&dir)?)?)?;
    ensure(fs::read(dir.join("notes.txt"))? == b"mine", "the notes were changed")
}
