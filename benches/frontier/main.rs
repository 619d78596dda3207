//! What does it cost to know which records are complete? In-flight slots, as in `src/ring/`,
//! beside a link buffer, as in the redo log of MySQL 8.0, over the same ring, and nothing else.
//!
//! `cargo bench --bench frontier` takes under four minutes and prints tables of ratios. Protocols
//! take turns within a round, and a ratio is of two neighbours; compare nothing else. The consumer
//! checks every word that it is told is complete. With `-- --test` all runs are short, and the
//! ratios mean nothing.

#![allow(missing_docs, clippy::expect_used, reason = "a bench has no callers")]
#![allow(clippy::disallowed_methods, reason = "benches measure time")]
#![allow(clippy::print_stdout, reason = "a report is all that this makes")]

#[path = "../common/mod.rs"]
mod common;
mod links;
mod ring;
mod slots;

use std::cell::Cell;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cohort_wal::{MemStore, WalOptions};

use common::median;
use links::Links;
use ring::{PAYLOAD, Protocol, Ring};
use slots::Slots;

const WORD: usize = 8;
/// 16 MiB, the default of the log, and the 16 slots that it has on up to four cores.
const RING: usize = (16 << 20) / WORD;
const SLOTS: usize = 16;
/// What links cover 1 MiB of the log.
const WINDOW: usize = (1 << 20) / WORD;

const BURST: usize = (256 << 10) / WORD;

/// How long the consumer rests when it found little.
const REST: Duration = Duration::from_micros(50);
const LITTLE: usize = (64 << 10) / WORD;
/// How long the reservation is held up in which a thread is stopped, and the time until the next.
const STOP: Duration = Duration::from_millis(2);

#[derive(Clone, Copy)]
struct Load {
    threads: usize,
    /// The lengths of the records, in turn.
    words: &'static [usize],
    time: Duration,
    /// Whether one more thread is stopped again and again while its reservation is open.
    stops: bool,
}

/// Writes out what is complete behind `written` until all is over; returns how far it came.
fn consume(log: &impl Protocol, mut written: usize, over: &AtomicBool) -> usize {
    loop {
        // ORDERING: Acquire; pairs with the end of `appends`: the last pass sees everything.
        let last = over.load(Ordering::Acquire);
        let frontier = log.frontier().unwrap_or(written);
        log.ring().check(written, frontier);
        log.set_written(frontier);
        if last {
            return frontier;
        }
        if frontier - written < LITTLE {
            thread::sleep(REST);
        }
        written = frontier;
    }
}

/// Appends until told to stop; returns the number of records and of words.
fn append(log: &impl Protocol, load: Load, first: usize, stop: &AtomicBool) -> [usize; 2] {
    let longest = load.words.iter().copied().max().unwrap_or(0);
    let (record, hint) = (vec![PAYLOAD; longest], Cell::new(first));
    let (mut records, mut words) = (0, 0);
    let mut lengths = load.words.iter().cycle().skip(first % load.words.len());
    // ORDERING: Relaxed; it hands over nothing.
    while !stop.load(Ordering::Relaxed) {
        let length = lengths.next().copied().unwrap_or(0);
        log.append(&hint, &record[..length], || ());
        records += 1;
        words += length;
    }
    [records, words]
}

/// The thread that is stopped; returns the number of words.
fn stumble(log: &impl Protocol, load: Load, stop: &AtomicBool) -> usize {
    let (record, hint) = (vec![PAYLOAD; load.words[0]], Cell::new(load.threads));
    let mut words = 0;
    // ORDERING: Relaxed; it hands over nothing.
    while load.stops && !stop.load(Ordering::Relaxed) {
        log.append(&hint, &record, || thread::sleep(STOP));
        words += record.len();
        thread::sleep(STOP);
    }
    words
}

/// The time per append, from when all threads are ready until they are told to stop.
fn appends(log: &impl Protocol, load: Load) -> f64 {
    let (stop, over, ready) =
        (AtomicBool::new(false), AtomicBool::new(false), Barrier::new(load.threads + 1));
    let from = log.frontier().expect("nobody appends");
    thread::scope(|scope| {
        let consumer = scope.spawn(|| consume(log, from, &over));
        let stumbler = scope.spawn(|| stumble(log, load, &stop));
        let (ready, stop) = (&ready, &stop);
        let appender = |first| {
            scope.spawn(move || {
                ready.wait();
                append(log, load, first, stop)
            })
        };
        let appenders: Vec<_> = (0..load.threads).map(appender).collect();
        ready.wait();
        let begun = Instant::now();
        thread::sleep(load.time);
        let spent = begun.elapsed();
        // ORDERING: Relaxed; it hands over nothing.
        stop.store(true, Ordering::Relaxed);
        let mut words = stumbler.join().expect("appends");
        let mut records = 0;
        for appender in appenders {
            let [its_records, its_words] = appender.join().expect("appends");
            records += its_records;
            words += its_words;
        }
        // ORDERING: Release; pairs with `consume`.
        over.store(true, Ordering::Release);
        let end = consumer.join().expect("consumes");
        assert_eq!(end - from, words, "all that was appended is complete");
        spent.as_secs_f64() / f64::from(u32::try_from(records.max(1)).expect("a short run"))
    })
}

/// The time per append of a thread that nothing else runs beside, in bursts that the ring has room
/// for; the median of some samples.
fn burst(log: &impl Protocol, words: usize, samples: usize) -> f64 {
    let (record, hint) = (vec![PAYLOAD; words], Cell::new(0));
    let records = BURST / words;
    let mut written = log.frontier().expect("nobody appends");
    let mut times: Vec<_> = (0..samples)
        .map(|_| {
            let begun = Instant::now();
            (0..records).for_each(|_| log.append(&hint, black_box(&record), || ()));
            let spent = begun.elapsed();
            let frontier = log.frontier().expect("nobody is in the middle");
            log.ring().check(written, frontier);
            log.set_written(frontier);
            written = frontier;
            spent.as_secs_f64()
        })
        .collect();
    median(&mut times)
}

/// The same of whole appends: checksum, header and all.
fn burst_of_the_log(words: usize, samples: usize) -> f64 {
    let wal = WalOptions::new().open_store(MemStore::new()).expect("opens");
    let record = vec![7; words * WORD];
    let mut times: Vec<_> = (0..samples)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..BURST / words {
                wal.append(black_box(&record)).expect("appends");
            }
            let spent = begun.elapsed();
            wal.sync().expect("syncs");
            spent.as_secs_f64()
        })
        .collect();
    median(&mut times)
}

/// Spins, so that the other thread runs on another core; yields at last, should there be none.
fn wait_for(turn: &AtomicUsize, number: usize) {
    let waits = |_| {
        std::hint::spin_loop();
        // ORDERING: Acquire; turns order the two threads, the log needs nothing of it.
        turn.load(Ordering::Acquire) != number
    };
    while (0..100_000).all(waits) {
        thread::yield_now();
    }
}

/// The time to learn the frontier after another thread has appended some records of 64 bytes as
/// each of `users` in turn; the median of some samples, less what reading the clock takes.
fn frontier(log: &impl Protocol, users: usize, records: usize, samples: usize) -> f64 {
    let turn = AtomicUsize::new(0);
    let record = [PAYLOAD; 8];
    let from = log.frontier().expect("nobody appends");
    thread::scope(|scope| {
        scope.spawn(|| {
            for sample in 0..samples {
                wait_for(&turn, 2 * sample + 1);
                for user in (0..users).cycle().take(records) {
                    log.append(&Cell::new(user), &record, || ());
                }
                // ORDERING: Release; pairs with `wait_for`.
                turn.store(2 * sample + 2, Ordering::Release);
            }
        });
        let mut times: Vec<_> = (0..samples)
            .map(|sample| {
                // ORDERING: Release; pairs with `wait_for`.
                turn.store(2 * sample + 1, Ordering::Release);
                wait_for(&turn, 2 * sample + 2);
                let begun = Instant::now();
                let asked = Instant::now();
                let frontier = log.frontier().expect("nobody is in the middle");
                let spent = asked.elapsed().saturating_sub(asked - begun);
                assert_eq!(frontier - from, (sample + 1) * records * record.len());
                log.set_written(frontier);
                spent.as_secs_f64().max(1e-9)
            })
            .collect();
        median(&mut times)
    })
}

/// The median over rounds of each measurement, divided by the first one of its round, and the
/// quartiles.
fn ratios(rounds: usize, measurements: &[&dyn Fn() -> f64]) -> String {
    let mut found = vec![Vec::new(); measurements.len()];
    for round in 0..rounds {
        let mut times = vec![0.0; measurements.len()];
        for turn in 0..measurements.len() {
            let index = (turn + round) % measurements.len();
            times[index] = measurements[index]();
        }
        found.iter_mut().zip(&times).for_each(|(found, time)| found.push(time / times[0]));
    }
    let cells = found[1..].iter_mut().map(|found| {
        let middle = median(found);
        let [low, high] = [found[rounds / 4], found[rounds - 1 - rounds / 4]];
        format!(" {middle:.2} ({low:.2} - {high:.2}) |")
    });
    cells.collect()
}

fn bursts(rounds: usize, ring: &Ring, words: usize, samples: usize) -> String {
    let (slots, owned) = (Slots::new(ring, SLOTS), Slots::owned(ring, SLOTS));
    let (window, whole) = (Links::new(ring, WINDOW), Links::new(ring, ring.len()));
    ratios(
        rounds,
        &[
            &|| burst(&slots, words, samples),
            &|| burst(&window, words, samples),
            &|| burst(&whole, words, samples),
            &|| burst(&owned, words, samples),
            &|| burst_of_the_log(words, samples),
        ],
    )
}

/// The cells of a row: links that cover 1 MiB, and links that cover the ring.
fn together(rounds: usize, ring: &Ring, load: Load) -> String {
    let slots = Slots::new(ring, SLOTS);
    let (window, whole) = (Links::new(ring, WINDOW), Links::new(ring, ring.len()));
    let measured: [&dyn Fn() -> f64; 3] =
        [&|| appends(&slots, load), &|| appends(&window, load), &|| appends(&whole, load)];
    ratios(rounds, &measured)
}

/// Rings and windows that a few records fill, so that everybody wraps and waits all the time.
fn stress(time: Duration) {
    let load = Load { threads: 4, words: &[1, 2, 3, 5, 8, 13, 21, 34], time, stops: false };
    let (small, larger) = (Ring::new(256), Ring::new(1024));
    for stops in [false, true] {
        let load = Load { stops, ..load };
        appends(&Slots::new(&small, 2), load);
        appends(&Slots::owned(&larger, 8), load);
        appends(&Links::new(&small, 256), load);
        appends(&Links::new(&small, 16), load);
        appends(&Links::new(&small, 1), load);
    }
}

fn report(rounds: usize, time: Duration, samples: usize) {
    let ring = &Ring::new(RING);
    println!("All figures are ratios to slots: median (quartiles) of {rounds} rounds.\n");
    println!(
        "Time per append of one thread, in bursts that nothing runs beside. Last the append of"
    );
    println!("the log itself, of which this is a part.\n");
    println!("| bytes | links for 1 MiB | links for the ring | owned slots | `Wal::append` |");
    for words in [8, 128, 2048] {
        println!("| {} |{}", words * WORD, bursts(rounds, ring, words, samples));
    }
    println!("\nTime per append of all threads together, beside the consumer.\n");
    println!("| bytes | threads | links for 1 MiB | links for the ring |");
    for words in [&[8], &[128], &[2048]] {
        for threads in [1, 2, 4, 8, 16, 32] {
            let load = Load { threads, words, time, stops: false };
            println!("| {} | {threads} |{}", words[0] * WORD, together(rounds, ring, load));
        }
    }
    println!("\nThe same, with one more thread that is stopped again and again for {STOP:?}");
    println!("between its reservation and its publication.\n");
    println!("| bytes | threads | links for 1 MiB | links for the ring |");
    for threads in [1, 2, 8, 32] {
        let load = Load { threads, words: &[8], time, stops: true };
        println!("| 64 | {threads} |{}", together(rounds, ring, load));
    }
    println!("\nTime to learn the frontier, of {SLOTS} slots 1.\n");
    let base = Slots::new(ring, SLOTS);
    let base = || frontier(&base, SLOTS, 256, samples);
    for slots in [1, 2, 4, 8, 16, 32, 64, 256] {
        let log = Slots::new(ring, slots);
        let log = || frontier(&log, slots, 256, samples);
        println!("| {slots} slots |{}", ratios(rounds, &[&base, &log]));
    }
    let log = Links::new(ring, RING);
    for records in [1, 16, 256, 4096] {
        let log = || frontier(&log, 1, records, samples);
        println!("| {records} links |{}", ratios(rounds, &[&base, &log]));
    }
    let log = Slots::new(ring, SLOTS);
    let appends = || burst(&log, 8, samples);
    println!("| the 4096 appends |{}", ratios(rounds, &[&base, &appends]));
    println!("\nMemory: slots {} bytes,", Slots::new(ring, SLOTS).memory());
    println!("links for 1 MiB {} bytes,", Links::new(ring, WINDOW).memory());
    println!("links for the ring {} bytes.", Links::new(ring, RING).memory());
}

fn main() {
    // As criterion does: whole only when cargo says that it is a bench.
    let given = |flag: &str| std::env::args().any(|argument| argument == flag);
    let whole = given("--bench") && !given("--test");
    let (rounds, millis, samples) = if whole { (21, 60, 41) } else { (1, 5, 3) };
    stress(Duration::from_millis(millis));
    report(rounds, Duration::from_millis(millis), samples);
}
