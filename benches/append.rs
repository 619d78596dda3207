//! What does one append into the ring cost, by record size and threads, with nothing to sync? And
//! what is the floor: a checksum and a copy of the same bytes?
//!
//! `cargo bench --bench append`. Compare only with the floor of the same run.

#![allow(missing_docs, clippy::expect_used, reason = "a bench has no callers")]
#![allow(clippy::disallowed_methods, reason = "benches measure time")]

use std::hint::black_box;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use cohort_wal::{MemStore, Wal, WalOptions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [usize; 4] = [16, 64, 256, 1024];
const THREADS: [usize; 3] = [1, 2, 4];
/// Of the ring of 16 MiB; above that, appends would wait for room.
const BURST_BYTES: u64 = 8 << 20;

/// Appends that fit into an empty ring.
fn burst(size: usize) -> u64 {
    BURST_BYTES / (size as u64 + 24)
}

fn log() -> Wal<MemStore> {
    let wal = WalOptions::new().open_store(MemStore::new()).expect("opens");
    // The first use of a page of the ring costs a page fault, which is not the append's.
    for _ in 0..4 {
        for _ in 0..burst(1000) {
            wal.append(&[0; 1000]).expect("appends");
        }
        wal.sync().expect("syncs");
    }
    wal
}

/// The work that no log can save.
fn floor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("floor");
    for size in SIZES {
        let record = vec![7_u8; size];
        let mut ring = vec![1_u8; 16 << 20];
        let mut at = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("crc32c_and_copy", size), |bencher| {
            bencher.iter(|| {
                at = (at + size) & (ring.len() / 2 - 1);
                ring[at..at + size].copy_from_slice(&record);
                black_box(crc32c::crc32c(black_box(&record)))
            });
        });
    }
    group.finish();
}

/// The time of so many calls, at most `most` at a time; the ring is emptied between them.
fn bursts(wal: &Wal<MemStore>, most: u64, mut left: u64, mut call: impl FnMut()) -> Duration {
    let mut spent = Duration::ZERO;
    while left > 0 {
        let now = left.min(most);
        let begun = Instant::now();
        (0..now).for_each(|_| call());
        spent += begun.elapsed();
        left -= now;
        wal.sync().expect("syncs");
    }
    spent
}

/// Encode, reserve, copy, publish; one thread.
fn alone(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    let wal = log();
    for size in SIZES {
        let (record, most) = (vec![7_u8; size], burst(size));
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new("burst", size), |bencher| {
            bencher.iter_custom(|count| {
                bursts(&wal, most, count, || {
                    black_box(wal.append(black_box(&record)).expect("appends"));
                })
            });
        });
        // Eight to a reservation.
        let batch = vec![record.clone(); 8];
        group.throughput(Throughput::Elements(8));
        group.bench_function(BenchmarkId::new("batch_of_8", size), |bencher| {
            bencher.iter_custom(|count| {
                bursts(&wal, most / 8, count, || {
                    black_box(wal.append_batch(black_box(&batch)).expect("appends"));
                })
            });
        });
        // What a builder of batches could save at most: the records are made when they are
        // appended, into a buffer that is used again.
        let mut buffer = Vec::new();
        group.bench_function(BenchmarkId::new("batch_of_8_built", size), |bencher| {
            bencher.iter_custom(|count| {
                bursts(&wal, most / 8, count, || {
                    buffer.clear();
                    (0..8).for_each(|_| buffer.extend_from_slice(black_box(&record)));
                    let records: [&[u8]; 8] =
                        std::array::from_fn(|at| &buffer[at * size..(at + 1) * size]);
                    black_box(wal.append_batch(black_box(&records)).expect("appends"));
                })
            });
        });
    }
    group.finish();
}

/// All threads append at once; the time is that of the slowest.
fn together(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append_by_threads");
    let wal = log();
    for threads in THREADS {
        group.throughput(Throughput::Elements(threads as u64));
        group.bench_function(BenchmarkId::new("burst_64", threads), |bencher| {
            bencher.iter_custom(|mut left| {
                let mut spent = Duration::ZERO;
                while left > 0 {
                    let now = left.min(burst(64) / threads as u64);
                    let barrier = Barrier::new(threads + 1);
                    spent += thread::scope(|scope| {
                        for _ in 0..threads {
                            scope.spawn(|| {
                                barrier.wait();
                                for _ in 0..now {
                                    black_box(wal.append(black_box(&[7; 64])).expect("appends"));
                                }
                                barrier.wait();
                            });
                        }
                        barrier.wait();
                        let begun = Instant::now();
                        barrier.wait();
                        begun.elapsed()
                    });
                    left -= now;
                    wal.sync().expect("syncs");
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, floor, alone, together);
criterion_main!(benches);
