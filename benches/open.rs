//! Does it take longer to open a long log?
//!
//! Logs of 128 MiB and of 4 GiB are opened in turns, each time by a process of its own that says
//! how long it took and how much memory it had at most. Then it closes the log; or, for the other
//! half of the report, it appends 8 MiB and dies, so that the next one has them to read. Ratios are
//! those of one round. Needs 9 GiB of disk.
//!
//! `cargo bench --bench open -- DIR`

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]
#![allow(clippy::print_stdout, reason = "its only output is a report")]
#![allow(missing_docs, clippy::expect_used, reason = "a bench has no callers")]

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;
use std::{env, fs, process};

use cohort_wal::Wal;

use common::median;

const ROUNDS: usize = 21;
const SHORT: u64 = 128 << 20;
const LONG: u64 = 4 << 30;
const TAIL: u64 = 8 << 20;
/// With its frame a KiB.
const RECORD: [u8; 1008] = [7; 1008];

/// How long an opening took, in microseconds, and the most memory it had, in KiB.
type Sample = (f64, f64);

/// Appends so many bytes, and closes the log or dies.
fn leave(wal: &Wal, bytes: u64, close: bool) {
    for _ in 0..bytes / 1024 {
        wal.append(&RECORD).expect("appends");
    }
    wal.sync().expect("syncs");
    if close {
        wal.close().expect("closes");
    } else {
        process::abort();
    }
}

/// The part of a child: opens a log and says what that took.
fn open(dir: &Path, close: bool) {
    let begun = Instant::now();
    let wal = Wal::open(dir).expect("opens");
    let took = begun.elapsed();
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("nan");
    let most = most.split_whitespace().next().unwrap_or("nan");
    println!("{} {most}", took.as_secs_f64() * 1e6);
    leave(&wal, if close { 0 } else { TAIL }, close);
}

fn child(words: &[&str]) -> String {
    let me = env::current_exe().expect("runs from a file");
    let output = Command::new(me).args(words).output().expect("starts");
    String::from_utf8(output.stdout).expect("is text")
}

fn sample(dir: &Path, how: &str) -> Sample {
    let said = child(&["child-open", &dir.to_string_lossy(), how]);
    let mut words = said.split_whitespace().map(|word| word.parse().expect("a number"));
    (words.next().expect("a time"), words.next().expect("a size"))
}

fn compare(base: &Path, (short, long): (u64, u64), rounds: usize, close: bool) {
    let how = if close { "close" } else { "die" };
    let dirs = [short, long].map(|bytes| {
        let dir = base.join(format!("{bytes}-{how}"));
        child(&["child-fill", &dir.to_string_lossy(), &bytes.to_string(), how]);
        sample(&dir, how);
        dir
    });
    let pair = |_| dirs.each_ref().map(|dir| sample(dir, how));
    let pairs: Vec<[Sample; 2]> = (0..rounds).map(pair).collect();
    let of =
        |value: fn(&[Sample; 2]) -> f64| median(&mut pairs.iter().map(value).collect::<Vec<_>>());
    let how = if close { "closed" } else { "left by a process that died" };
    println!("{how}: {} MiB against {} MiB", long >> 20, short >> 20);
    println!(
        "  time    {:.2}  ({:.0} us and {:.0} us)",
        of(|[short, long]| long.0 / short.0),
        of(|pair| pair[1].0),
        of(|pair| pair[0].0)
    );
    println!(
        "  memory  {:.2}  ({:.0} KiB and {:.0} KiB)",
        of(|[short, long]| long.1 / short.1),
        of(|pair| pair[1].1),
        of(|pair| pair[0].1)
    );
}

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["child-fill", dir, bytes, how] => {
            let wal = Wal::open(dir).expect("opens");
            leave(&wal, bytes.parse().expect("a number"), how == "close");
        }
        ["child-open", dir, how] => open(Path::new(dir), how == "close"),
        _ => {
            let quick = words.iter().any(|word| word == "--test");
            let (sizes, rounds) =
                if quick { ((1 << 20, 2 << 20), 1) } else { ((SHORT, LONG), ROUNDS) };
            let named = words.iter().find(|word| !word.starts_with('-')).map(PathBuf::from);
            let Some(base) = named.or_else(|| quick.then(env::temp_dir)) else {
                println!("needs 9 GiB: name a directory, cargo bench --bench open -- DIR");
                return;
            };
            let base = tempfile::tempdir_in(base).expect("makes a directory");
            compare(base.path(), sizes, rounds, true);
            compare(base.path(), sizes, rounds, false);
        }
    }
}
