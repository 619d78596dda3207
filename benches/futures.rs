//! Commits through futures and callbacks against commits of threads, as many at a time.
//!
//! `cargo bench --bench futures -- DIR [OUTSTANDING]`. In each round every way commits for a
//! second, in an order that changes from round to round; what counts are ratios of one round. All
//! ways make the same promise: a record of 64 bytes is durable before the next one is appended.

#![allow(clippy::disallowed_methods, reason = "benches measure time")]
#![allow(clippy::print_stdout, reason = "its only output is a report")]
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench has no callers")]

mod common;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};
use std::{env, fs, process};

use cohort_wal::Wal;
use tokio::runtime::{Builder, Runtime};

use common::median;

const ROUNDS: usize = 15;
const RUN: Duration = Duration::from_secs(1);
const RECORD: [u8; 64] = [7; 64];

/// One run: the log, when to stop, and how many commits there were.
struct Run {
    wal: Wal,
    over: AtomicBool,
    commits: AtomicU64,
}

impl Run {
    fn count(&self) -> bool {
        self.commits.fetch_add(1, Ordering::Relaxed);
        !self.over.load(Ordering::Relaxed)
    }
}

/// Every thread waits for its own commits.
fn threads(run: &Arc<Run>, outstanding: usize, _: &Runtime) {
    let commit = |run: Arc<Run>| {
        thread::spawn(move || while run.wal.append_and_sync(&RECORD).is_ok() && run.count() {})
    };
    let all: Vec<_> = (0..outstanding).map(|_| commit(Arc::clone(run))).collect();
    wait(run);
    all.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Every task awaits its own commits, on two threads.
fn tasks(run: &Arc<Run>, outstanding: usize, runtime: &Runtime) {
    let commit = |run: Arc<Run>| {
        runtime.spawn(async move {
            loop {
                let lsn = run.wal.append(&RECORD).unwrap();
                run.wal.durable(lsn).await.unwrap();
                if !run.count() {
                    break;
                }
            }
        })
    };
    let all: Vec<_> = (0..outstanding).map(|_| commit(Arc::clone(run))).collect();
    wait(run);
    all.into_iter().for_each(|task| runtime.block_on(task).unwrap());
}

/// Every callback appends the next record.
fn callbacks(run: &Arc<Run>, outstanding: usize, _: &Runtime) {
    let left = Arc::new((Mutex::new(outstanding), Condvar::new()));
    for _ in 0..outstanding {
        commit_and_go_on(Arc::clone(run), Arc::clone(&left));
    }
    wait(run);
    let zero = left.1.wait_while(left.0.lock().unwrap(), |left| *left > 0);
    drop(zero.unwrap());
}

fn commit_and_go_on(run: Arc<Run>, left: Arc<(Mutex<usize>, Condvar)>) {
    let lsn = run.wal.append(&RECORD).unwrap();
    let next = Arc::clone(&run);
    run.wal.on_durable(lsn, move |durable| {
        durable.unwrap();
        if next.count() {
            commit_and_go_on(next, left);
        } else {
            *left.0.lock().unwrap() -= 1;
            left.1.notify_one();
        }
    });
}

fn wait(run: &Run) {
    thread::sleep(RUN);
    run.over.store(true, Ordering::Relaxed);
}

type Way = fn(&Arc<Run>, usize, &Runtime);

/// Commits per second, and commits of one sync.
fn measure(dir: &Path, way: Way, outstanding: usize, runtime: &Runtime) -> (f64, f64) {
    let path = dir.join(format!("cohort-wal-futures-{}", process::id()));
    let (over, commits) = (AtomicBool::new(false), AtomicU64::new(0));
    let run = Arc::new(Run { wal: Wal::open(&path).unwrap(), over, commits });
    let begun = Instant::now();
    way(&run, outstanding, runtime);
    let commits = run.commits.load(Ordering::Relaxed) as f64;
    let rate = commits / begun.elapsed().as_secs_f64();
    let each = commits / run.wal.stats().syncs as f64;
    run.wal.close().unwrap();
    fs::remove_dir_all(&path).unwrap();
    (rate, each)
}

fn main() {
    let mut words = env::args().skip(1).filter(|word| !word.starts_with("--"));
    let Some(dir) = words.next().map(PathBuf::from) else {
        println!("usage: cargo bench --bench futures -- DIR [OUTSTANDING]");
        return;
    };
    let outstanding = words.next().and_then(|word| word.parse().ok()).unwrap_or(64);
    let runtime = Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let ways: [(&str, Way); 3] =
        [("threads", threads), ("futures", tasks), ("callbacks", callbacks)];
    let mut rates = vec![Vec::new(); ways.len()];
    let mut sizes = vec![Vec::new(); ways.len()];
    for round in 0..ROUNDS {
        let mut seen = [(0.0, 0.0); 3];
        for step in 0..ways.len() {
            let index = (round + step) % ways.len();
            seen[index] = measure(&dir, ways[index].1, outstanding, &runtime);
        }
        for (index, (rate, size)) in seen.into_iter().enumerate() {
            rates[index].push(rate / seen[0].0);
            sizes[index].push(size);
        }
    }
    println!("{outstanding} outstanding, {ROUNDS} rounds, medians");
    for (index, (name, _)) in ways.iter().enumerate() {
        let (rate, size) = (median(&mut rates[index]), median(&mut sizes[index]));
        let quartiles = (rates[index][ROUNDS / 4], rates[index][ROUNDS * 3 / 4]);
        println!(
            "{name:10} {rate:5.2} of threads ({:.2} to {:.2}), {size:5.1} commits of one sync",
            quartiles.0, quartiles.1
        );
    }
}
