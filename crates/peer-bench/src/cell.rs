//! One run of one log: threads that share it for a window of time.
//!
//! The closed loop starts a record when the last one is acknowledged, so that its latency is what
//! a caller sees at saturation. The open loop starts records at moments that were settled before:
//! a log that stalls is late for all that come behind, and the latency says so.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crate::Fallible;
use crate::clock::{self, Duration, Instant};
use crate::records::{Records, Tally, mix};
use crate::stats::{Latency, Waits};

/// What a run is: who appends what, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Cell {
    pub(crate) threads: usize,
    pub(crate) size: usize,
    pub(crate) window: Duration,
}

/// What came of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Records acknowledged within the window, or begun in it and acknowledged behind.
    pub(crate) tally: Tally,
    pub(crate) elapsed: Duration,
    pub(crate) latency: Option<Latency>,
}

impl Outcome {
    pub(crate) fn per_s(&self) -> f64 {
        self.tally.records as f64 / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }
}

/// How the threads of a closed loop behave.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Manner {
    /// Look at the clock around every record.
    pub(crate) timed: bool,
    /// How long a thread does something else between records, on average.
    pub(crate) think: Duration,
}

struct Worker {
    records: Records,
    waits: Waits,
}

impl Worker {
    fn new(thread: usize, size: usize) -> Fallible<Self> {
        Ok(Self { records: Records::new(thread, size), waits: Waits::new()? })
    }
}

impl Cell {
    /// Every thread puts its next record when the last is acknowledged. `finish` belongs to the
    /// window: what was promised only then is not counted without the time that it took.
    pub(crate) fn closed_loop(
        self,
        manner: Manner,
        put: impl Fn(&[u8]) -> Fallible<()> + Sync,
        finish: impl FnOnce() -> Fallible<()>,
    ) -> Fallible<Outcome> {
        let stop = AtomicBool::new(false);
        let body = |worker: &mut Worker, thread: usize, started: Instant| -> Fallible<()> {
            let mut dice = mix(clock::nanos(started.elapsed()) ^ thread as u64);
            // ORDERING: Relaxed, the flag carries no data.
            while !stop.load(Ordering::Relaxed) {
                if !manner.think.is_zero() {
                    dice = mix(dice.wrapping_add(1));
                    thread::sleep(manner.think.mul_f64(2.0 * fraction(dice)));
                }
                let began = manner.timed.then(clock::now);
                put(worker.records.current())?;
                worker.records.acknowledged();
                if let Some(began) = began {
                    worker.waits.record(began.elapsed());
                }
            }
            Ok(())
        };
        let end_of_window = || {
            thread::sleep(self.window);
            // ORDERING: Relaxed, as above.
            stop.store(true, Ordering::Relaxed);
        };
        self.run(body, end_of_window, finish)
    }

    /// Records begin at moments of a Poisson process with `per_s` of them a second, dealt to the
    /// threads at random. Latency is from the intended moment, however late the thread gets to it.
    pub(crate) fn open_loop(
        self,
        per_s: f64,
        put: impl Fn(&[u8]) -> Fallible<()> + Sync,
    ) -> Fallible<Outcome> {
        let mean_gap_s = self.threads as f64 / per_s.max(f64::MIN_POSITIVE);
        let body = |worker: &mut Worker, thread: usize, started: Instant| -> Fallible<()> {
            let mut dice = mix(thread as u64 + 1);
            let mut at_s = 0.0;
            loop {
                dice = mix(dice.wrapping_add(0x9e37_79b9_7f4a_7c15));
                at_s += mean_gap_s * -(1.0 - fraction(dice)).ln();
                if at_s >= self.window.as_secs_f64() {
                    return Ok(());
                }
                let intended = started + Duration::from_secs_f64(at_s);
                clock::sleep_until(intended);
                put(worker.records.current())?;
                worker.records.acknowledged();
                worker.waits.record(clock::now().saturating_duration_since(intended));
            }
        };
        self.run(body, || {}, || Ok(()))
    }

    fn run(
        self,
        body: impl Fn(&mut Worker, usize, Instant) -> Fallible<()> + Sync,
        meanwhile: impl FnOnce(),
        finish: impl FnOnce() -> Fallible<()>,
    ) -> Fallible<Outcome> {
        let start = Barrier::new(self.threads + 1);
        let (start, body) = (&start, &body);
        thread::scope(|scope| {
            let work = move |thread: usize| -> Fallible<Worker> {
                let worker = Worker::new(thread, self.size);
                start.wait();
                let mut worker = worker?;
                body(&mut worker, thread, clock::now())?;
                Ok(worker)
            };
            let workers: Vec<_> =
                (0..self.threads).map(|thread| scope.spawn(move || work(thread))).collect();
            start.wait();
            let started = clock::now();
            meanwhile();
            let mut tally = Tally::default();
            let mut waits = Waits::new()?;
            for worker in workers {
                let worker = worker.join().map_err(|_| "a thread of the load panicked")??;
                tally.merge(worker.records.tally());
                waits.merge(&worker.waits)?;
            }
            finish()?;
            let elapsed = started.elapsed();
            Ok(Outcome { tally, elapsed, latency: Latency::of(&waits) })
        })
    }

    /// Bursts of `each` records a thread, appended as fast as they go, with a `flush` between
    /// bursts that is not counted: what a log does with the memory that it has.
    pub(crate) fn bursts(
        self,
        each: u64,
        put: impl Fn(&[u8]) -> Fallible<()> + Sync,
        flush: impl Fn() -> Fallible<()>,
    ) -> Fallible<Outcome> {
        let stop = AtomicBool::new(false);
        let gate = Barrier::new(self.threads + 1);
        let (stop, gate, put) = (&stop, &gate, &put);
        thread::scope(|scope| {
            let work = move |thread: usize| -> Fallible<Tally> {
                let mut records = Records::new(thread, self.size);
                let mut result = Ok(());
                loop {
                    gate.wait();
                    // ORDERING: Relaxed, the barrier orders it.
                    if stop.load(Ordering::Relaxed) {
                        return result.map(|()| records.tally());
                    }
                    let burst = |records: &mut Records| -> Fallible<()> {
                        for _ in 0..each {
                            put(records.current())?;
                            records.acknowledged();
                        }
                        Ok(())
                    };
                    result = result.and_then(|()| burst(&mut records));
                    gate.wait();
                }
            };
            let workers: Vec<_> =
                (0..self.threads).map(|thread| scope.spawn(move || work(thread))).collect();
            let began = clock::now();
            let mut elapsed = Duration::ZERO;
            let mut flushed = Ok(());
            while began.elapsed() < self.window && flushed.is_ok() {
                gate.wait();
                let burst = clock::now();
                gate.wait();
                elapsed += burst.elapsed();
                flushed = flush();
            }
            // ORDERING: Relaxed, as above.
            stop.store(true, Ordering::Relaxed);
            gate.wait();
            let mut tally = Tally::default();
            for worker in workers {
                tally.merge(worker.join().map_err(|_| "a thread of the load panicked")??);
            }
            flushed?;
            Ok(Outcome { tally, elapsed, latency: None })
        })
    }
}

/// Evenly distributed in [0, 1).
fn fraction(dice: u64) -> f64 {
    (dice >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn cell(threads: usize, millis: u64) -> Cell {
        Cell { threads, size: 20, window: Duration::from_millis(millis) }
    }

    #[test]
    fn a_closed_loop_counts_what_was_put() {
        let put = Mutex::new(Tally::default());
        let manner = Manner { timed: true, think: Duration::from_micros(10) };
        let outcome = cell(3, 20)
            .closed_loop(
                manner,
                |record| {
                    put.lock().unwrap().take(record);
                    Ok(())
                },
                || Ok(()),
            )
            .unwrap();
        assert_eq!(outcome.tally, *put.lock().unwrap());
        assert!(outcome.per_s() > 0.0 && outcome.latency.is_some());
    }

    #[test]
    fn a_failed_put_fails_the_run() {
        let outcome = cell(2, 1).closed_loop(Manner::default(), |_| Err("full".into()), || Ok(()));
        assert_eq!(outcome.unwrap_err().to_string(), "full");
        assert!(cell(2, 1).bursts(3, |_| Err("full".into()), || Ok(())).is_err());
        assert!(cell(2, 1).bursts(3, |_| Ok(()), || Err("full".into())).is_err());
    }

    #[test]
    fn an_open_loop_begins_as_many_as_intended_and_counts_lateness() {
        let stall = |_: &[u8]| {
            thread::sleep(Duration::from_millis(20));
            Ok(())
        };
        let outcome = cell(1, 100).open_loop(500.0, stall).unwrap();
        assert!((20..100).contains(&outcome.tally.records), "{:?}", outcome.tally);
        let latency = outcome.latency.unwrap();
        assert!(latency.max_us > 100_000.0, "lateness adds up: {latency:?}");
    }

    #[test]
    fn bursts_are_whole() {
        let outcome = cell(2, 5).bursts(7, |_| Ok(()), || Ok(())).unwrap();
        assert_eq!(outcome.tally.records % 14, 0);
        assert!(outcome.tally.records > 0);
    }

    #[test]
    fn fractions_stay_below_one() {
        assert_eq!(fraction(0), 0.0);
        assert!(fraction(u64::MAX) < 1.0);
    }
}
