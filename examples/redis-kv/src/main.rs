//! `redis-kv serve DIR` and `redis-kv torture`.

#![allow(clippy::print_stderr, reason = "errors")]

use std::error::Error;
use std::io::{self, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread;

use cohort_wal::WalOptions;
use redis_kv::db::{Answer, Operation};
use redis_kv::torture::{self, Torture};
use redis_kv::{Db, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};

const USAGE: &str = "\
usage: redis-kv serve DIR [--port N] [--checkpoint-bytes N] [--segment-bytes N]
       redis-kv torture [--kills N] [--writers N] [--seed N] [--dir DIR]";

type AnyResult<T> = Result<T, Box<dyn Error>>;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let rest = Arguments(arguments.collect());
    let done = match command.as_deref() {
        Some("serve") => serve(rest),
        Some("torture") => torture(rest),
        _ => Err(USAGE.into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("redis-kv: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Ends the thread that waits for signals, or a server that panics would wait for it for ever.
struct Close(Handle);

impl Drop for Close {
    fn drop(&mut self) {
        self.0.close();
    }
}

struct Arguments(Vec<String>);

impl Arguments {
    /// Takes `--name VALUE` out of the arguments.
    fn take<T: std::str::FromStr>(&mut self, name: &str) -> AnyResult<Option<T>> {
        let Some(at) = self.0.iter().position(|argument| argument == name) else {
            return Ok(None);
        };
        let value = self.0.drain(at..self.0.len().min(at + 2)).nth(1);
        let value = value.and_then(|value| value.parse().ok());
        value.map(Some).ok_or_else(|| format!("{name} needs a value\n{USAGE}").into())
    }

    fn none_left(&self) -> AnyResult<()> {
        if self.0.is_empty() { Ok(()) } else { Err(USAGE.into()) }
    }
}

fn serve(mut arguments: Arguments) -> AnyResult<()> {
    let port: u16 = arguments.take("--port")?.unwrap_or(6380);
    let checkpoint_bytes = arguments.take("--checkpoint-bytes")?.unwrap_or(64 << 20);
    let segment_bytes = arguments.take("--segment-bytes")?.unwrap_or(64 << 20);
    let dir = PathBuf::from(arguments.0.pop().ok_or(USAGE)?);
    arguments.none_left()?;

    let out = &mut io::stdout();
    // Before anything is promised, so that a signal at any time ends in order.
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    let wal = Arc::new(WalOptions::new().segment_bytes(segment_bytes).open(dir)?);
    let db = Db::open(Arc::clone(&wal))?;
    let (size, _) = db.execute(&[Operation::DbSize])?;
    if let [Answer::Count(keys)] = size[..] {
        let (head, end) = (wal.head_lsn(), wal.end_lsn());
        writeln!(out, "recovered {keys} keys; the log is from {head} to {end}")?;
    }
    writeln!(out, "listening on {}", listener.local_addr()?)?;

    let server = Server::new(db, listener, checkpoint_bytes)?;
    let no_more_signals = Close(signals.handle());
    let ended = thread::scope(|scope| {
        scope.spawn(|| signals.forever().for_each(|_| server.stop()));
        let _at_the_end = no_more_signals;
        server.run()
    });
    let stats = wal.stats();
    // Whoever read what it said may be gone, which is no reason to have ended badly.
    writeln!(out, "stopped after {} records and {} syncs", stats.appends, stats.syncs).ok();
    Ok(ended?)
}

fn torture(mut arguments: Arguments) -> AnyResult<()> {
    let scratch = tempfile::tempdir()?;
    let torture = Torture {
        program: std::env::current_exe()?,
        dir: arguments.take("--dir")?.unwrap_or_else(|| scratch.path().join("log")),
        kills: arguments.take("--kills")?.unwrap_or(200),
        writers: arguments.take("--writers")?.unwrap_or(4),
        seed: arguments.take("--seed")?.unwrap_or(1),
    };
    arguments.none_left()?;
    let report = torture::run(&torture).map_err(|error| error.to_string())?;
    Ok(writeln!(io::stdout(), "{report}")?)
}
