//! `vector-log`: the encrypted log of a vector database in a directory.
//!
//! Results go to stdout, errors to stderr. Exit codes: 0 done, 1 failed, 2 usage; and of opening:
//! 3 wrong key, 4 tampered with, 5 the tail was torn and has been cut (`replay` alone), 6 the
//! manifest is older than the log's, 7 damaged.

mod demo;

use std::error::Error as StdError;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use cohort_wal::{Lsn, Wal, WalError};
use vector_log::{Collections, Error, KeyRing, VectorLog, workload};

type AnyResult<T> = Result<T, Box<dyn StdError>>;

const TORN: u8 = 5;

#[derive(Debug, Parser)]
#[command(about = "The encrypted log of a vector database")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key ring with one key, in a directory that has none.
    Keygen { keys: PathBuf },
    /// Add a key to the ring, and begin a new epoch of the log with it.
    Rotate { log: PathBuf, keys: PathBuf },
    /// Upsert points in batches, each batch printed once it is durable: its collection and number.
    Write {
        log: PathBuf,
        keys: PathBuf,
        /// Collections, each with a thread that writes into it.
        #[arg(long, default_value_t = 4)]
        threads: usize,
        #[arg(long, default_value_t = 128)]
        dims: u32,
        /// Batches in each collection at the end, those included that are there.
        #[arg(long, default_value_t = 64)]
        batches: u64,
        /// Rotate the key after so many batches of the first collection.
        #[arg(long)]
        rotate_every: Option<u64>,
    },
    /// Say how the log opens, replay it, and say what is in it.
    Replay {
        log: PathBuf,
        keys: PathBuf,
        /// Version of the manifest that the database has.
        #[arg(long)]
        manifest: Option<u64>,
    },
    /// Say that the files of the database have everything up to a record, and forget that.
    Checkpoint {
        log: PathBuf,
        keys: PathBuf,
        /// Version of the manifest that names those files.
        #[arg(long)]
        manifest: u64,
        /// That record; the newest one if it is not given.
        #[arg(long)]
        captured: Option<u64>,
    },
    /// Write points, plain and encrypted, open and replay them, and check each; print the rates.
    Demo(demo::Demo),
}

fn main() -> ExitCode {
    match execute(Cli::parse().command, &mut io::stdout()) {
        Ok(code) => code,
        Err(error) => {
            let (code, outcome) = outcome(error.downcast_ref());
            // Nothing is left to do when nobody reads errors.
            writeln!(io::stderr(), "vector-log: {outcome}: {error}").ok();
            ExitCode::from(code)
        }
    }
}

/// The exit code of an error, and what it is in two words.
fn outcome(error: Option<&Error>) -> (u8, &'static str) {
    match error {
        Some(Error::Wal(WalError::WrongKey)) => (3, "wrong key"),
        Some(Error::Wal(WalError::Tampered { .. })) => (4, "tampered with"),
        Some(Error::OldManifest { .. }) => (6, "old manifest"),
        Some(Error::Wal(error)) if error.is_corruption() => (7, "damaged"),
        _ => (1, "failed"),
    }
}

fn execute(command: Command, out: &mut impl Write) -> AnyResult<ExitCode> {
    match command {
        Command::Keygen { keys } => {
            KeyRing::create(&keys)?;
            writeln!(out, "key 1 is in {}", keys.display())?;
        }
        Command::Rotate { log, keys } => {
            let keys = Arc::new(KeyRing::open(&keys)?);
            let log = open(&log, &keys, None, false)?;
            let id = rotate(&log, &keys)?;
            writeln!(out, "key {id} from LSN {} on", log.wal().end_lsn())?;
            log.wal().close()?;
        }
        Command::Write { log, keys, threads, dims, batches, rotate_every } => {
            let keys = Arc::new(KeyRing::open(&keys)?);
            let log = open(&log, &keys, None, true)?;
            write(&log, &keys, threads, dims, batches, rotate_every)?;
            log.wal().close()?;
        }
        Command::Replay { log, keys, manifest } => {
            return replay(&log, &Arc::new(KeyRing::open(&keys)?), manifest, out);
        }
        Command::Checkpoint { log, keys, manifest, captured } => {
            let log = open(&log, &Arc::new(KeyRing::open(&keys)?), Some(manifest), false)?;
            let captured = captured.map(Lsn::new).or(log.opening().highest);
            let captured = captured.ok_or("the log has no records")?;
            log.checkpoint(captured, manifest)?;
            writeln!(out, "manifest {manifest} has all up to LSN {captured}")?;
            writeln!(out, "base (head): LSN {}", log.wal().head_lsn())?;
            log.wal().close()?;
        }
        Command::Demo(demo) => demo.run(out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn open(
    dir: &Path,
    keys: &Arc<KeyRing>,
    manifest: Option<u64>,
    create: bool,
) -> vector_log::Result<VectorLog> {
    let options = Wal::options().create(create).encryption(keys.clone()).require_encryption(true);
    VectorLog::open(Arc::new(options.open(dir)?), manifest)
}

/// The key is durable in the ring before the log is told of it. Should the process die in between,
/// the log begins an epoch with it when it is opened.
fn rotate(log: &VectorLog, keys: &KeyRing) -> vector_log::Result<u32> {
    let id = keys.add()?;
    log.wal().rotate_key()?;
    Ok(id)
}

fn write(
    log: &VectorLog,
    keys: &KeyRing,
    threads: usize,
    dims: u32,
    batches: u64,
    rotate_every: Option<u64>,
) -> AnyResult<()> {
    let mut collections = Collections::default();
    log.replay(|_, change| collections.apply(change))?;
    let first = workload::held(&collections, threads)?;
    let due = |collection, number| {
        collection == 0 && rotate_every.is_some_and(|every| number % every == every - 1)
    };
    Ok(workload::write(log, dims, &first, batches, |collection, number| {
        // One write of one line, so that whoever reads sees all of it or nothing. Nobody is owed
        // anything once nobody reads.
        io::stdout().write_all(format!("{collection} {number}\n").as_bytes()).ok();
        if due(collection, number)
            && let Err(error) = rotate(log, keys)
        {
            writeln!(io::stderr(), "vector-log: the key is the one before: {error}").ok();
        }
    })?)
}

fn replay(
    dir: &Path,
    keys: &Arc<KeyRing>,
    manifest: Option<u64>,
    out: &mut impl Write,
) -> AnyResult<ExitCode> {
    let log = open(dir, keys, manifest, false)?;
    let opening = *log.opening();
    match opening.torn {
        Some(torn) => {
            writeln!(out, "outcome: torn tail at LSN {}, {} bytes cut", torn.at, torn.bytes)?;
            writeln!(out, "nothing of that was acknowledged; all before it is authentic")?;
        }
        None => writeln!(out, "outcome: whole and authentic")?,
    }
    writeln!(out, "base (head): LSN {}", opening.base)?;
    match opening.highest {
        Some(lsn) => writeln!(out, "highest: LSN {lsn}, of {} records", opening.records)?,
        None => writeln!(out, "highest: none")?,
    }
    if let Some(checkpoint) = opening.checkpoint {
        let (captured, manifest) = (checkpoint.captured, checkpoint.manifest);
        writeln!(out, "checkpoint: manifest {manifest} has all up to LSN {captured}")?;
    }
    let mut collections = Collections::default();
    let replayed = log.replay(|_, change| collections.apply(change))?;
    writeln!(out, "replayed: {replayed} changes")?;
    for (number, collection) in collections.iter() {
        let (name, dims, points) = (&collection.name, collection.dims, collection.points.len());
        writeln!(out, "collection {number} ({name}): {points} points of {dims} floats")?;
    }
    log.wal().close()?;
    Ok(if opening.torn.is_some() { ExitCode::from(TORN) } else { ExitCode::SUCCESS })
}
