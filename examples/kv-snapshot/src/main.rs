//! `kv-snapshot`: a key-value state in a directory, one subcommand per operation.
//!
//! Results go to stdout, once they are durable; what opening found, and errors, go to stderr. Exit
//! codes: 0 done, 1 failed, 2 usage, 3 the log is damaged.

mod demo;

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use cohort_wal::Wal;
use kv_snapshot::{Store, Token, workload};

type AnyResult<T> = Result<T, Box<dyn Error>>;

#[derive(Debug, Parser)]
#[command(about = "A key-value state whose log is compacted into snapshots")]
struct Cli {
    /// Compact once the log is longer than so many bytes.
    #[arg(long, global = true, default_value_t = 256 << 10)]
    compact_above: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put an entry.
    Put { dir: PathBuf, key: String, token: String, value: String },
    /// Delete an entry if it has this version.
    Delete { dir: PathBuf, key: String, token: String },
    /// Purge an entry, or with --listing all that a fresh listing lacks or has otherwise.
    Purge {
        dir: PathBuf,
        #[arg(required_unless_present = "listing", conflicts_with = "listing")]
        key: Option<String>,
        /// A file of lines `KEY TOKEN`; - for standard input. What was put since it was made is
        /// stale as well if it lacks it.
        #[arg(long)]
        listing: Option<PathBuf>,
    },
    /// Move the cursor; without one, print it.
    Cursor { dir: PathBuf, cursor: Option<String> },
    /// Print the live entries.
    List { dir: PathBuf },
    /// Have a snapshot take the place of the log.
    Compact { dir: PathBuf },
    /// Write from several threads until killed; each commit is printed once it is durable.
    Churn {
        dir: PathBuf,
        #[arg(long, default_value_t = 4)]
        writers: usize,
    },
    /// Write from several threads beside compaction, open again, and check everything.
    Demo {
        /// Where to; a directory that goes away afterwards without one.
        dir: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli.command, cli.compact_above, &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nothing is left to do when nobody reads errors.
            writeln!(io::stderr(), "kv-snapshot: {error}").ok();
            let damaged = error.downcast_ref::<kv_snapshot::Error>();
            ExitCode::from(if damaged.is_some_and(|e| e.is_corruption()) { 3 } else { 1 })
        }
    }
}

fn execute(command: Command, compact_above: u64, out: &mut impl Write) -> AnyResult<()> {
    let open = |dir| open(dir, compact_above, false);
    let create = |dir| self::open(dir, compact_above, true);
    match command {
        Command::Put { dir, key, token, value } => {
            // Before the log is opened, let alone appended to.
            let token = Token::new(token.as_bytes())?;
            let store = create(dir)?;
            store.put(&key, token, value.as_bytes())?;
            finish(&store)
        }
        Command::Delete { dir, key, token } => {
            let token = Token::new(token.as_bytes())?;
            let store = open(dir)?;
            store.delete(&key, token)?;
            if let Some(entry) = store.get(&key)? {
                writeln!(out, "kept: {key} has version {}", entry.token())?;
            }
            finish(&store)
        }
        Command::Purge { dir, key: Some(key), .. } => {
            let store = open(dir)?;
            store.purge(&key)?;
            finish(&store)
        }
        Command::Purge { dir, listing, .. } => purge_stale(&open(dir)?, listing, out),
        Command::Cursor { dir, cursor: Some(cursor) } => {
            let store = create(dir)?;
            store.set_cursor(cursor.as_bytes())?;
            finish(&store)
        }
        Command::Cursor { dir, cursor: None } => {
            let store = open(dir)?;
            if let Some(cursor) = store.view()?.cursor() {
                writeln!(out, "{}", String::from_utf8_lossy(cursor))?;
            }
            Ok(store.close()?)
        }
        Command::List { dir } => {
            let store = open(dir)?;
            for (key, entry) in store.view()?.entries() {
                let value = String::from_utf8_lossy(entry.value());
                writeln!(out, "{key}\t{}\t{value}", entry.token())?;
            }
            Ok(store.close()?)
        }
        Command::Compact { dir } => {
            let store = open(dir)?;
            let done = store.compact()?;
            let (entries, freed, lsn) = (done.entries, done.freed_bytes, done.lsn);
            writeln!(out, "{entries} entries in the snapshot at {lsn}, {freed} bytes freed")?;
            Ok(store.close()?)
        }
        Command::Churn { dir, writers } => churn(&create(dir)?, writers),
        Command::Demo { dir: Some(dir) } => demo::run(&dir, compact_above, out),
        Command::Demo { dir: None } => demo::run(tempfile::tempdir()?.path(), compact_above, out),
    }
}

fn open(dir: PathBuf, compact_above: u64, create: bool) -> AnyResult<Store> {
    let wal = Wal::options().create(create).open(dir).map_err(kv_snapshot::Error::from)?;
    let store = Store::load(Arc::new(wal), compact_above)?;
    let found = store.recovery();
    if let Some(torn) = found.torn_at {
        let cut = found.cut_bytes;
        writeln!(io::stderr(), "kv-snapshot: the end was torn at LSN {torn}, {cut} bytes cut")?;
    }
    Ok(store)
}

/// The end of a command that writes: its caller has the time to compact.
fn finish(store: &Store) -> AnyResult<()> {
    if store.needs_compaction() {
        store.compact()?;
    }
    Ok(store.close()?)
}

fn purge_stale(store: &Store, listing: Option<PathBuf>, out: &mut impl Write) -> AnyResult<()> {
    let asked = store.mark();
    let mut text = String::new();
    match listing.filter(|path| path.as_os_str() != "-") {
        Some(path) => text = std::fs::read_to_string(path)?,
        None => drop(io::stdin().read_to_string(&mut text)?),
    }
    let mut listing = BTreeMap::new();
    for line in text.lines() {
        let (key, token) = line.rsplit_once(' ').ok_or("a line is `KEY TOKEN`")?;
        listing.insert(key.to_owned(), Token::new(token.as_bytes())?);
    }
    let stale = store.stale(&listing, asked)?;
    store.purge_stale(&stale, asked)?;
    stale.iter().try_for_each(|key| writeln!(out, "{key}"))?;
    finish(store)
}

fn churn(store: &Store, writers: usize) -> AnyResult<()> {
    let held = workload::held(&*store.view()?, writers)?;
    workload::run(store, &held, u64::MAX, |writer, n| {
        // One write of one line, so that whoever reads sees all of it or nothing. Nobody is owed
        // anything once nobody reads.
        io::stdout().write_all(format!("{writer} {n}\n").as_bytes()).ok();
    })?;
    Ok(())
}
