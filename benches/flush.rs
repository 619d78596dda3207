//! What does a flush cost that has little to write: the frontier over all slots, the write stage,
//! and a store that copies? And a sync that has nothing to do?
//!
//! `cargo bench --bench flush`.

#![allow(missing_docs, clippy::expect_used, reason = "a bench has no callers")]

use std::hint::black_box;

use cohort_wal::{MemStore, StoreFile, WalOptions, WalStore};
use criterion::{Criterion, criterion_group, criterion_main};

fn flush(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flush");
    let store = MemStore::new();
    let file = store.create(0).expect("creates");
    let mut at = 0;
    group.bench_function("floor_write_of_80_bytes", |bencher| {
        bencher.iter(|| {
            at = (at + 80) % (1 << 20);
            file.write_at(at, black_box(&[7; 80])).expect("writes");
        });
    });
    let wal = WalOptions::new().open_store(MemStore::new()).expect("opens");
    group.bench_function("append_of_64_bytes", |bencher| {
        bencher.iter(|| {
            wal.append(black_box(&[7; 64])).expect("appends");
            wal.flush().expect("flushes");
        });
    });
    group.bench_function("append_and_sync_of_64_bytes", |bencher| {
        bencher.iter(|| wal.append_and_sync(black_box(&[7; 64])).expect("commits"));
    });
    group.bench_function("sync_of_nothing", |bencher| {
        bencher.iter(|| wal.sync().expect("syncs"));
    });
    group.finish();
}

criterion_group!(benches, flush);
criterion_main!(benches);
