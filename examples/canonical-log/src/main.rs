//! `canonical-log demo` shows what counts and what does not. `work` and `show` are for whoever
//! wants to kill a process: `work` commits until it is killed, `show` opens what it left.

#![allow(clippy::print_stderr, reason = "errors")]

mod demo;
mod worker;

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use canonical_log::CanonicalLog;
use cohort_wal::WalOptions;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
usage: canonical-log demo        show commits, orphans, cuts, and directories that are refused
       canonical-log work DIR    append and commit in DIR until killed; say what is committed
       canonical-log show DIR    open the log in DIR and say what is committed";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let out = &mut io::stdout();
    let result = match arguments.as_slice() {
        ["demo"] => demo::run(out),
        ["work", dir] => worker::work(Path::new(dir)),
        ["show", dir] => show(Path::new(dir), out),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("canonical-log: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(dir: &Path, out: &mut impl Write) -> Result<(), AnyError> {
    let log = CanonicalLog::open(WalOptions::new().create(false), dir)?;
    let (mut kept, mut bytes) = (0_u64, 0);
    for entry in log.entries()? {
        (kept, bytes) = (kept + 1, bytes + entry?.1.len());
    }
    let committed = log.committed().map_or(0, |checkpoint| checkpoint.entries);
    writeln!(out, "{committed} entries committed, {kept} of them kept, {bytes} bytes")?;
    writeln!(out, "{} orphans cut", log.orphans())?;
    Ok(log.wal().close()?)
}
