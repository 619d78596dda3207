//! `work`: writers, a checkpointer, an auditor and rollbacks on one directory, until killed.
//!
//! What it says, one line each: `posted WRITER COUNT` when that many transactions of a writer are
//! durable; `mistake` before transactions are posted that are to be undone, `undone` when they
//! are, for good.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use cohort_wal::WalOptions;
use ledger_engine::auditor::Auditor;
use ledger_engine::engine::Engine;
use ledger_engine::workload::{self, ACCOUNTS, MISTAKEN, WRITERS};

use crate::AnyError;

/// Transactions of each writer between two mistakes.
const ROUND: u64 = 40;
/// The log is kept about as short as this.
const LOG_BYTES: u64 = 64 << 10;

fn open(dir: &Path) -> Result<Engine, AnyError> {
    let options = WalOptions::new().segment_bytes(32 << 10).ring_bytes(256 << 10);
    Ok(Engine::open(options.open(dir)?, ACCOUNTS)?)
}

/// Opens, checks and says what there is.
pub(crate) fn check(dir: &Path, out: &mut impl Write) -> Result<(), AnyError> {
    let engine = open(dir)?;
    let counts = workload::check(&engine.book()?)?;
    writeln!(out, "{counts:?} transactions of each writer, all whole; the balances add up to 0")?;
    Ok(engine.wal().close()?)
}

pub(crate) fn work(dir: &Path) -> Result<(), AnyError> {
    let engine = Arc::new(open(dir)?);
    workload::check(&engine.book()?)?;
    undo_what_was_left(&engine)?;
    let mut auditor = Auditor::new(Arc::clone(&engine))?;
    thread::spawn(move || {
        loop {
            if let Err(error) = auditor.advance().map(drop) {
                say(&format!("the auditor found: {error}"));
                std::process::exit(3);
            }
        }
    });
    for round in 0_u64.. {
        post_and_compact(&engine)?;
        make_a_mistake(&engine, round)?;
    }
    Ok(())
}

/// Every writer posts a round of transactions, while the log is kept short.
fn post_and_compact(engine: &Engine) -> Result<(), AnyError> {
    let book = engine.book()?;
    thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let mut threads = Vec::new();
        for writer in 0..WRITERS {
            let (tell, begun) = (tell.clone(), workload::posted(&book, writer));
            threads.push(scope.spawn(move || {
                for number in begun..begun + ROUND {
                    engine.post(&workload::transaction(writer, number)?)?;
                    say(&format!("posted {writer} {}", number + 1));
                    tell.send(()).ok();
                }
                Ok::<_, AnyError>(())
            }));
        }
        drop(tell);
        for () in told {
            engine.checkpoint_if_longer(LOG_BYTES)?;
        }
        threads.into_iter().try_for_each(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => Err("a writer panicked".into()),
        })
    })
}

/// Posts a suffix that nobody wanted, and rolls it back.
fn make_a_mistake(engine: &Engine, round: u64) -> Result<(), AnyError> {
    let begun = workload::posted(&engine.book()?, MISTAKEN);
    let kept = engine.wal().last_lsn();
    say("mistake");
    let first = engine.post(&workload::transaction(MISTAKEN, begun)?)?.first;
    engine.post(&workload::transaction(MISTAKEN, begun + 1)?)?;
    // Not durable, and cut off all the same.
    let pending = engine.begin(&workload::transaction(MISTAKEN, begun + 2)?)?;
    // Both ways lead to the same place.
    match kept {
        Some(last) if round.is_multiple_of(2) => engine.roll_back_after(last)?,
        _ => engine.roll_back_from(first)?,
    }
    if pending.wait().is_ok() {
        return Err("a transaction that was rolled back is said to be durable".into());
    }
    say("undone");
    Ok(())
}

/// Undoes what the process before this one was killed over.
fn undo_what_was_left(engine: &Engine) -> Result<(), AnyError> {
    let of_the_mistaken = workload::transaction(MISTAKEN, 0)?.reference();
    for posted in engine.history(engine.wal().head_lsn())? {
        let posted = posted?;
        if posted.transaction.reference() == of_the_mistaken {
            engine.roll_back_from(posted.first)?;
            break;
        }
    }
    say("undone");
    Ok(())
}

/// Says a line in one write, so that a kill leaves whole lines or a last one without an end.
fn say(what: &str) {
    let line = format!("{what}\n");
    // Whoever listened may be gone: then nobody is owed anything.
    std::io::stdout().lock().write_all(line.as_bytes()).ok();
}
