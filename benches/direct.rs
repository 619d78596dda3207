//! Would a log commit more with direct writes, and with several of them in flight?
//!
//! A group commit outside the library, the same for all: a committer puts its frame into the open
//! cohort; who finds a place in flight free leads. It writes the cohort and acknowledges it once
//! it and every earlier one are durable. What differs is how a cohort is written:
//!
//! - `sync`: pwrite and fdatasync, one cohort in flight, as the library does; `sync n`: up to n;
//! - `direct n`: one write with `O_DIRECT | O_DSYNC` of the cohort padded to 4 KiB, so that no two
//!   writes share a block, up to n in flight.
//!
//! All write into files that were filled with zeros. Each is measured twice, with a leader that
//! takes what is queued and with one that waits for its share of the committers, at most for one
//! write; the better of the two counts. Slices of all ways follow each other in every round, and
//! ratios are those of one round to `sync` of the same round.
//!
//! `cargo bench --bench direct -- DIR ...`, one directory for each file system to measure.

#![allow(clippy::disallowed_methods, reason = "a bench measures time and syncs")]
#![allow(clippy::print_stdout, reason = "its only output is a report")]
#![allow(missing_docs, clippy::expect_used, reason = "a bench has no callers")]

#[cfg(target_os = "linux")]
#[path = "direct/commit.rs"]
mod commit;
#[cfg(target_os = "linux")]
mod common;
#[cfg(target_os = "linux")]
#[path = "direct/report.rs"]
mod report;

#[cfg(target_os = "linux")]
mod linux {
    use std::os::unix::fs::MetadataExt;
    use std::path::{Path, PathBuf};
    use std::sync::Barrier;
    use std::time::{Duration, Instant};
    use std::{env, fs, thread};

    use rustix::fs::{major, minor};

    use crate::commit::{Area, Group, Way};
    use crate::report::{self, Cell, Sample};

    const THREADS: [usize; 4] = [1, 8, 32, 64];
    const SIZES: [usize; 2] = [64, 1024];
    const ROUNDS: usize = 21;
    const SLICE: Duration = Duration::from_millis(28);
    const HEADER_BYTES: usize = 16;

    /// What may be told apart in one cell.
    fn ways(threads: usize) -> Vec<Way> {
        let way = |direct, depth, gather| Way { direct, depth, gather };
        if threads == 1 {
            return vec![way(false, 1, false), way(true, 1, false)];
        }
        let kinds =
            [(false, 1), (false, 2), (false, 4), (true, 1), (true, 2), (true, 3), (true, 4)];
        let each = |(direct, depth)| [way(direct, depth, false), way(direct, depth, true)];
        kinds.into_iter().flat_map(each).collect()
    }

    /// Where the kernel counts what the device below a directory does, other processes included.
    fn counters(dir: &Path) -> PathBuf {
        let device = fs::metadata(dir).expect("exists").dev();
        format!("/sys/dev/block/{}:{}/stat", major(device), minor(device)).into()
    }

    /// Bytes written to the device so far.
    fn device_bytes(counters: &Path) -> u64 {
        let text = fs::read_to_string(counters).unwrap_or_default();
        let sectors = text.split_whitespace().nth(6).and_then(|sectors| sectors.parse().ok());
        sectors.unwrap_or(0) * 512
    }

    /// One slice: so many threads, records of so many bytes, for so long.
    #[derive(Debug, Clone, Copy)]
    struct Load {
        threads: usize,
        size: usize,
        limit: Duration,
    }

    /// Lets all threads call `commit` for as long as a slice lasts.
    fn slice(load: Load, commit: impl Fn() + Sync, leave: impl Fn() + Sync) -> Sample {
        let barrier = Barrier::new(load.threads + 1);
        let committer = || {
            barrier.wait();
            let (begun, mut spent) = (Instant::now(), Vec::new());
            while begun.elapsed() < load.limit {
                let called = Instant::now();
                commit();
                spent.push(called.elapsed());
            }
            leave();
            spent
        };
        thread::scope(|scope| {
            let handles: Vec<_> = (0..load.threads).map(|_| scope.spawn(committer)).collect();
            barrier.wait();
            let (begun, mut latencies) = (Instant::now(), Vec::new());
            for handle in handles {
                latencies.extend(handle.join().expect("commits"));
            }
            Sample::new(latencies, begun.elapsed())
        })
    }

    fn prototype(area: &Area, way: Way, load: Load, counters: &Path) -> Sample {
        let frame = vec![7; HEADER_BYTES + load.size.next_multiple_of(8)];
        let group = Group::new(area, way, load.threads, frame.len());
        let before = device_bytes(counters);
        let sample = slice(load, || group.commit(&frame), || group.leave());
        let device = device_bytes(counters) - before;
        let (writes, bytes) = group.finish();
        sample.with_writes(writes, bytes, device)
    }

    fn measure(dir: &Path, rounds: usize, limit: Duration) -> Vec<Cell> {
        let areas = [false, true].map(|direct| Area::new(dir, direct));
        let [Ok(buffered), Ok(direct)] = &areas else {
            println!("{}: cannot be written directly: {areas:?}", dir.display());
            return Vec::new();
        };
        let sizes = |threads| SIZES.map(|size| Cell::new(threads, size, &ways(threads)));
        let mut cells: Vec<Cell> = THREADS.into_iter().flat_map(sizes).collect();
        let counters = counters(dir);
        for round in 0..rounds {
            for cell in &mut cells {
                // Nobody comes after the same one every time.
                let first = round % cell.samples.len();
                let (before, after) = cell.samples.split_at_mut(first);
                for (way, samples) in after.iter_mut().chain(before) {
                    let load = Load { threads: cell.threads, size: cell.size, limit };
                    let area = if way.direct { direct } else { buffered };
                    samples.push(prototype(area, *way, load, &counters));
                }
            }
        }
        cells
    }

    pub(super) fn main() {
        let arguments: Vec<String> = env::args().skip(1).collect();
        let quick = arguments.iter().any(|argument| argument == "--test");
        let (rounds, limit) = if quick { (1, SLICE / 10) } else { (ROUNDS, SLICE) };
        let named = arguments.iter().filter(|argument| !argument.starts_with('-'));
        let mut dirs: Vec<PathBuf> = named.map(PathBuf::from).collect();
        if dirs.is_empty() {
            dirs.push(env::temp_dir());
        }
        for dir in dirs {
            report::print(&dir, &measure(&dir, rounds, limit));
        }
    }
}

#[cfg(target_os = "linux")]
fn main() {
    linux::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {}
