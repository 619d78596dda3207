//! The load: threads that share one log and append as fast as it lets them.
//!
//! A closed loop: a thread appends its next record when the last one is acknowledged, so latency is
//! what a waiting caller sees at saturation, not at a given arrival rate.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cohort_wal::{Wal, WalError};
use hdrhistogram::Histogram;

use super::Mode;
use super::records::{Records, Shape};
use crate::clock::{self, Instant};
use crate::failure::Failure;
use crate::output::grouped_rate;
use crate::progress::Progress;

const TICK: Duration = Duration::from_millis(100);
const MAX_LATENCY_NS: u64 = 600_000_000_000;
const LATENCY_DIGITS: u8 = 3;
/// One of so many buffered appends is timed: two looks at the clock take about as long as one.
const BUFFERED_SAMPLED_EVERY: u64 = 64;

/// What the threads did.
#[derive(Debug)]
pub(crate) struct Loaded {
    /// Records acknowledged, by thread.
    pub(crate) acknowledged: Vec<u64>,
    /// Over all rounds, from the common start until the last thread was done.
    pub(crate) elapsed: Duration,
    /// Of one record, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// One of so many records was timed.
    pub(crate) sampled_every: u64,
    /// No record took longer: the longest timed one, or stretch of records between two that were.
    pub(crate) longest: Duration,
}

/// One thread's part.
#[derive(Debug)]
struct Worker<'a> {
    wal: &'a Wal,
    mode: Mode,
    sampled_every: u64,
    records: Records,
    counter: u64,
    latency: Histogram<u64>,
    longest: Duration,
}

/// Threads that append to a log in rounds, each going on where it stopped.
#[derive(Debug)]
pub(crate) struct Load<'a> {
    wal: &'a Wal,
    workers: Vec<Worker<'a>>,
    sampled_every: u64,
    elapsed: Duration,
}

impl<'a> Load<'a> {
    pub(crate) fn new(wal: &'a Wal, shape: Shape, mode: Mode) -> Result<Self, Failure> {
        let sampled_every = if mode == Mode::Buffered { BUFFERED_SAMPLED_EVERY } else { 1 };
        let mut workers = Vec::new();
        for thread in 0..shape.threads() {
            let records = Records::new(shape, thread);
            let (latency, longest) = (histogram()?, Duration::ZERO);
            workers.push(Worker {
                wal,
                mode,
                sampled_every,
                records,
                counter: 0,
                latency,
                longest,
            });
        }
        Ok(Self { wal, workers, sampled_every, elapsed: Duration::ZERO })
    }

    /// Appends with all threads for `duration`.
    pub(crate) fn round(&mut self, duration: Duration) -> Result<(), Failure> {
        let stop = AtomicBool::new(false);
        let start = Barrier::new(self.workers.len() + 1);
        let (started, outcomes) = thread::scope(|scope| {
            let workers = self.workers.iter_mut();
            let spawned: Vec<_> =
                workers.map(|worker| scope.spawn(|| worker.run(&start, &stop))).collect();
            start.wait();
            let started = clock::now();
            watch(self.wal, started, duration, &stop);
            let join = |thread: thread::ScopedJoinHandle<'_, _>| {
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            };
            (started, spawned.into_iter().map(join).collect::<Vec<Result<Instant, WalError>>>())
        });
        let mut longest = Duration::ZERO;
        for ended in outcomes {
            longest = longest.max(ended?.saturating_duration_since(started));
        }
        self.elapsed += longest;
        Ok(())
    }

    /// What all rounds came to.
    pub(crate) fn done(self) -> Result<Loaded, Failure> {
        let mut loaded = Loaded {
            acknowledged: Vec::new(),
            elapsed: self.elapsed,
            latency: histogram()?,
            sampled_every: self.sampled_every,
            longest: Duration::ZERO,
        };
        for worker in self.workers {
            loaded.acknowledged.push(worker.counter);
            loaded.longest = loaded.longest.max(worker.longest);
            // Histograms of one shape add without fail.
            loaded.latency.add(&worker.latency).ok();
        }
        Ok(loaded)
    }
}

/// Shows how it goes until the time is up or a thread has failed, then stops all.
fn watch(wal: &Wal, started: Instant, duration: Duration, stop: &AtomicBool) {
    let progress = Progress::message();
    let mut last = (started, wal.stats().appends);
    while let Some(left) = duration.checked_sub(started.elapsed())
        && !left.is_zero()
        // ORDERING: Relaxed, the flag carries no data; a late look costs one tick.
        && !stop.load(Ordering::Relaxed)
    {
        thread::sleep(left.min(TICK));
        progress.say(|| {
            let stats = wal.stats();
            let now = clock::now();
            let elapsed = now.saturating_duration_since(last.0).as_secs_f64();
            let rate = (stats.appends - last.1) as f64 / elapsed.max(f64::MIN_POSITIVE);
            last = (now, stats.appends);
            let cohort = stats.commits as f64 / stats.syncs.max(1) as f64;
            format!("{:>12} records/s  {cohort:.1} commits per sync", grouped_rate(rate))
        });
    }
    // ORDERING: Relaxed, as above; a thread that looks late appends one record more.
    stop.store(true, Ordering::Relaxed);
}

impl Worker<'_> {
    /// One round; returns when it ended.
    fn run(&mut self, start: &Barrier, stop: &AtomicBool) -> Result<Instant, WalError> {
        start.wait();
        let mut last_look = clock::now();
        // ORDERING: Relaxed, see `watch`.
        while !stop.load(Ordering::Relaxed) {
            let record = self.records.record(self.counter);
            let timed = self.counter.is_multiple_of(self.sampled_every).then(clock::now);
            if let Err(error) = put(self.wal, self.mode, record) {
                // ORDERING: Relaxed, see `watch`: the others need not go on.
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
            if let Some(began) = timed {
                let ended = clock::now();
                let took = ended.saturating_duration_since(began);
                self.latency.saturating_record(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
                self.longest = self.longest.max(took).max(self.untimed(last_look, began));
                last_look = ended;
            }
            self.counter += 1;
        }
        let ended = clock::now();
        self.longest = self.longest.max(self.untimed(last_look, ended));
        Ok(ended)
    }

    /// How long the records between two looks at the clock took, if there were any.
    fn untimed(&self, earlier: Instant, later: Instant) -> Duration {
        match self.sampled_every {
            1 => Duration::ZERO,
            _ => later.saturating_duration_since(earlier),
        }
    }
}

fn put(wal: &Wal, mode: Mode, record: &[u8]) -> Result<(), WalError> {
    match mode {
        Mode::Durable => wal.append_and_sync(record).map(drop),
        Mode::Flushed => {
            wal.append(record)?;
            wal.flush()
        }
        Mode::Buffered => wal.append(record).map(drop),
    }
}

fn histogram() -> Result<Histogram<u64>, Failure> {
    Histogram::new_with_bounds(1, MAX_LATENCY_NS, LATENCY_DIGITS)
        .map_err(|error| Failure::Usage(format!("latency bounds are senseless: {error}")))
}
