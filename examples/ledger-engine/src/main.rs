//! `ledger-engine demo` shows everything at once, and checks it. `work` and `check` are for whoever
//! wants to kill a process: `work` posts until it is killed, `check` opens what it left.

#![allow(clippy::print_stderr, reason = "errors")]

mod clock;
mod demo;
mod worker;

use std::path::Path;
use std::process::ExitCode;

type AnyError = Box<dyn std::error::Error + Send + Sync>;

const USAGE: &str = "\
usage: ledger-engine demo [EACH]   post EACH transactions from each of 8 writers (500)
       ledger-engine work DIR      post to the ledger in DIR until killed; say what is durable
       ledger-engine check DIR     open the ledger in DIR and check it";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let out = &mut std::io::stdout();
    let result = match arguments.as_slice() {
        ["demo"] => demo::run(500, out),
        ["demo", each] if each.parse::<u64>().is_ok() => demo::run(each.parse().unwrap_or(0), out),
        ["work", dir] => worker::work(Path::new(dir)),
        ["check", dir] => worker::check(Path::new(dir), out),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ledger-engine: {error}");
            ExitCode::FAILURE
        }
    }
}
