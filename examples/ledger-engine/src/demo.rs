//! `demo`: everybody at once, a rollback, and a rescue from damage.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use cohort_wal::WalOptions;
use ledger_engine::auditor::Auditor;
use ledger_engine::book::Book;
use ledger_engine::engine::Engine;
use ledger_engine::rescue::rescue;
use ledger_engine::transaction::Posted;
use ledger_engine::workload::{self, ACCOUNTS, MISTAKEN, WRITERS};

use crate::{AnyError, clock};

const READERS: usize = 2;
const AUDITORS: usize = 2;
/// The log is kept about as short as this.
const LOG_BYTES: u64 = 512 << 10;

pub(crate) fn run(each: u64, out: &mut impl Write) -> Result<(), AnyError> {
    let home = tempfile::tempdir()?;
    let dir = home.path().join("ledger");
    let engine = Arc::new(open(&dir)?);
    let seen = together(&engine, each)?;
    report(&engine, each, &seen, out)?;
    roll_back(&engine, out)?;
    let posted = engine.history(engine.wal().head_lsn())?.collect::<Result<Vec<_>, _>>()?;
    let book = engine.book()?;
    engine.wal().close()?;
    let again = open(&dir)?;
    ensure(again.book()? == book, "opened again, the ledger is another one")?;
    again.wal().close()?;
    writeln!(out, "opened again: the same {} balances", book.accounts().len())?;
    damage_and_rescue(&dir, &home.path().join("copy"), &posted, out)
}

fn open(dir: &Path) -> Result<Engine, AnyError> {
    let options = WalOptions::new().segment_bytes(128 << 10);
    Ok(Engine::open(options.open(dir)?, ACCOUNTS)?)
}

fn ensure(holds: bool, otherwise: &str) -> Result<(), AnyError> {
    if holds { Ok(()) } else { Err(otherwise.into()) }
}

/// What everybody has seen.
struct Seen {
    seconds: f64,
    checkpoints: u64,
    /// How often each reader has read everything.
    readers: Vec<u64>,
    auditors: Vec<Audited>,
}

/// How many transactions, how often overtaken, and the ledger at the end.
type Audited = (u64, u64, Book);

/// Writers, readers, auditors and a checkpointer share the engine.
fn together(engine: &Arc<Engine>, each: u64) -> Result<Seen, AnyError> {
    let start = clock::now();
    let done = &AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS).map(|_| scope.spawn(|| read(engine, done))).collect();
        let auditors = (0..AUDITORS).map(|_| scope.spawn(|| follow(engine)));
        let auditors: Vec<_> = auditors.collect();
        let (tell, told) = mpsc::channel();
        let checkpointer = scope.spawn(move || {
            let mut made = 0_u64;
            for () in told {
                made += u64::from(engine.checkpoint_if_longer(LOG_BYTES)?);
            }
            Ok::<_, AnyError>(made)
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| (writer, tell.clone()))
            .map(|(writer, tell)| scope.spawn(move || write(engine, writer, each, &tell)))
            .collect();
        drop(tell);
        let written = writers.into_iter().try_for_each(|writer| joined(writer.join()));
        let seconds = start.elapsed().as_secs_f64();
        let checkpoints = joined(checkpointer.join());
        done.store(true, Ordering::Relaxed);
        // Ends the auditors, which may be waiting. No checkpoint can take it away from them.
        engine.post(&workload::closing()?)?;
        written?;
        Ok(Seen {
            seconds,
            checkpoints: checkpoints?,
            readers: readers.into_iter().map(|r| joined(r.join())).collect::<Result<_, _>>()?,
            auditors: auditors.into_iter().map(|a| joined(a.join())).collect::<Result<_, _>>()?,
        })
    })
}

/// Checks what everybody has seen, and says it.
fn report(engine: &Engine, each: u64, seen: &Seen, out: &mut impl Write) -> Result<(), AnyError> {
    let book = engine.book()?;
    let counts = workload::check(&book)?;
    ensure(counts[..usize::from(WRITERS)].iter().all(|count| *count == each), "one is lost")?;
    let (total, stats) = (u64::from(WRITERS) * each, engine.wal().stats());
    writeln!(out, "{WRITERS} writers: {total} transactions, {} records, durable", stats.appends)?;
    let per_s = |count| per(count, seen.seconds);
    writeln!(out, "  {:.0} transactions/s, {:.0} records/s", per_s(total), per_s(stats.appends))?;
    let each = per(stats.commits, per(stats.syncs.max(1), 1.0));
    writeln!(out, "  {} commits by {} syncs: {each:.1} each", stats.commits, stats.syncs)?;
    let kib = engine.wal().live_bytes() >> 10;
    writeln!(out, "checkpointer: {} snapshots; the log is {kib} KiB long", seen.checkpoints)?;
    for times in &seen.readers {
        writeln!(out, "reader: {times} times the whole ledger, its sum 0")?;
    }
    for (transactions, restarts, audited) in &seen.auditors {
        ensure(*audited == book, "an auditor has another ledger")?;
        writeln!(
            out,
            "auditor: {transactions} transactions, overtaken {restarts} times, same balances"
        )?;
    }
    Ok(())
}

fn joined<T>(result: thread::Result<Result<T, AnyError>>) -> Result<T, AnyError> {
    result.unwrap_or_else(|_| Err("a thread panicked".into()))
}

#[expect(clippy::cast_precision_loss, reason = "figures that are shown")]
fn per(count: u64, whole: f64) -> f64 {
    count as f64 / whole
}

fn write(engine: &Engine, writer: u16, each: u64, tell: &mpsc::Sender<()>) -> Result<(), AnyError> {
    for number in 0..each {
        engine.post(&workload::transaction(writer, number)?)?;
        tell.send(()).ok();
    }
    Ok(())
}

/// Reads the whole ledger, by turns from memory and from the log.
fn read(engine: &Engine, done: &AtomicBool) -> Result<u64, AnyError> {
    let mut times = 0;
    loop {
        let last = done.load(Ordering::Relaxed);
        let book = if times % 2 == 0 { engine.audit()? } else { engine.book()? };
        workload::check(&book)?;
        times += 1;
        if last {
            return Ok(times);
        }
    }
}

/// Follows until the closing memo.
fn follow(engine: &Arc<Engine>) -> Result<Audited, AnyError> {
    let mut auditor = Auditor::new(Arc::clone(engine))?;
    let closing = workload::closing()?;
    let mut seen = 0;
    while let Some(posted) = auditor.advance()? {
        ensure(auditor.book().total() == 0, "an auditor has seen half of a transaction")?;
        seen += 1;
        if posted.transaction == closing {
            break;
        }
    }
    Ok((seen, auditor.restarts(), auditor.book().clone()))
}

/// Undoes what should not have been posted, though it was durable.
fn roll_back(engine: &Engine, out: &mut impl Write) -> Result<(), AnyError> {
    // Some that stay in the log, to look for in what is damaged.
    let begun = workload::posted(&engine.book()?, 0);
    let mut good = Vec::new();
    for number in begun..begun + 100 {
        good.push(engine.post(&workload::transaction(0, number)?)?);
    }
    let before = engine.book()?;
    let mut bad = Vec::new();
    for number in 0..30 {
        bad.push(engine.post(&workload::transaction(MISTAKEN, number)?)?);
    }
    engine.roll_back_from(bad[10].first)?;
    ensure(workload::check(&engine.book()?)?[usize::from(MISTAKEN)] == 10, "not 10 are left")?;
    engine.roll_back_after(good[99].last)?;
    ensure(engine.book()? == before && engine.audit()? == before, "a mistake is left")?;
    let found = engine.history(good[90].first)?.collect::<Result<Vec<_>, _>>()?;
    ensure(found.len() == 10, "not the last ten from the LSN of the first of them")?;
    writeln!(
        out,
        "rollback: 30 durable transactions undone, in two steps; the balances of before"
    )?;
    writeln!(out, "seek: {} transactions from LSN {} on", found.len(), good[90].first)?;
    Ok(())
}

/// Flips one bit in a copy of the log, and reads past it.
fn damage_and_rescue(
    dir: &Path,
    copy: &Path,
    posted: &[Posted],
    out: &mut impl Write,
) -> Result<(), AnyError> {
    fs::create_dir(copy)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    let middle = posted.len() / 2;
    let victim = posted[middle..].iter().find(|posted| posted.transaction.legs().len() > 2);
    let victim = &victim.ok_or("no transaction of three legs")?.transaction;
    flip_a_bit_of(copy, &victim.records()[1])?;
    match open(copy) {
        Ok(_) => return Err("damage went unnoticed".into()),
        Err(refused) => writeln!(out, "damaged copy: {refused}")?,
    }
    let left = rescue(copy, ACCOUNTS)?;
    writeln!(
        out,
        "rescued from it: {} of {} transactions; {} split; the sum of the rest is {}",
        left.whole.len(),
        posted.len(),
        left.split.len(),
        left.book(ACCOUNTS)?.total(),
    )?;
    for skipped in &left.skipped {
        writeln!(out, "  skipped: {skipped}")?;
    }
    let others = || posted.iter().filter(|posted| posted.transaction != *victim);
    ensure(left.whole.iter().eq(others()), "not all the others were rescued")?;
    ensure(left.split.iter().eq([&victim.reference()]), "not the damaged one is split")?;
    ensure(left.skipped.len() == 1 && left.image.is_ok(), "more was lost than a record")?;
    ensure(open(dir).is_ok(), "the original was changed")
}

fn flip_a_bit_of(dir: &Path, record: &[u8]) -> Result<(), AnyError> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let mut bytes = fs::read(&path)?;
        let at = bytes.windows(record.len()).position(|window| window == record);
        if let (Some(at), Some("wal")) = (at, path.extension().and_then(|e| e.to_str())) {
            bytes[at + record.len() - 1] ^= 1;
            return Ok(fs::write(&path, bytes)?);
        }
    }
    Err("the record is not in a segment".into())
}
