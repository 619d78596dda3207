//! What does one append into the ring cost, by record size, with nobody else and nothing to sync?
//! And what is the floor: encoding and copying the same bytes?
//!
//! `cargo bench --bench append`. Medians of one run; compare with the floor beside them only.

#![allow(missing_docs, clippy::expect_used, reason = "a bench has no callers")]

use std::hint::black_box;

use cohort_wal::{MemStore, WalOptions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [usize; 3] = [64, 256, 1024];

/// The work that no log can save: a checksum and a copy.
fn floor(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("floor");
    for size in SIZES {
        let record = vec![7_u8; size];
        let mut ring = vec![0_u8; 16 << 20];
        let mut at = 0;
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("crc32c_and_copy", size), |bencher| {
            bencher.iter(|| {
                at = (at + size) & (ring.len() / 2 - 1);
                ring[at..at + size].copy_from_slice(&record);
                black_box(crc32c::crc32c(&record))
            });
        });
    }
    group.finish();
}

/// Bursts of appends into an empty ring; emptying it is not timed.
fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for size in SIZES {
        let record = vec![7_u8; size];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(BenchmarkId::new("burst", size), |bencher| {
            bencher.iter_custom(|iterations| {
                let mut spent = std::time::Duration::ZERO;
                let mut left = iterations;
                while left > 0 {
                    let wal = WalOptions::new().open_store(MemStore::new()).expect("opens");
                    let burst = left.min((4 << 20) / (size as u64 + 24));
                    #[expect(clippy::disallowed_methods, reason = "benches measure time")]
                    let begun = std::time::Instant::now();
                    for _ in 0..burst {
                        black_box(wal.append(black_box(&record)).expect("appends"));
                    }
                    spent += begun.elapsed();
                    left -= burst;
                }
                spent
            });
        });
    }
    group.finish();
}

criterion_group!(benches, floor, append);
criterion_main!(benches);
