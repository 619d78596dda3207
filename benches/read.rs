//! How fast is a log read again: by recovery after a crash, and by an iterator? And what is the
//! floor: pread and CRC-32C of the same bytes in the same blocks?
//!
//! `cargo bench --bench read`. Files are in the page cache; set `TMPDIR` to choose the file system.

#![allow(missing_docs, clippy::expect_used, reason = "a bench has no callers")]

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read;

use cohort_wal::{FileStore, MemStore, Wal, WalOptions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const SIZES: [usize; 3] = [64, 256, 1024];
const LOG_BYTES: usize = 32 << 20;

fn fill(wal: &Wal<impl cohort_wal::WalStore>, size: usize) -> u64 {
    let record = vec![7; size];
    let records = LOG_BYTES / (size + 16);
    for _ in 0..records {
        wal.append(&record).expect("appends");
    }
    records as u64
}

fn replay(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("replay");
    group.sample_size(20);
    for size in SIZES {
        let dir = tempfile::tempdir().expect("makes a directory");
        let wal = Wal::open(dir.path()).expect("opens");
        let records = fill(&wal, size);
        wal.close().expect("closes");
        let wal = Wal::<FileStore>::options().open_read_only(dir.path()).expect("opens");
        group.throughput(Throughput::Elements(records));
        group.bench_function(BenchmarkId::new("floor_read_and_crc32c", size), |bencher| {
            let mut block = vec![0; 256 << 10];
            bencher.iter(|| {
                for entry in fs::read_dir(dir.path()).expect("lists") {
                    let mut file = File::open(entry.expect("lists").path()).expect("opens");
                    loop {
                        let read = file.read(&mut block).expect("reads");
                        if read == 0 {
                            break;
                        }
                        black_box(crc32c::crc32c(&block[..read]));
                    }
                }
            });
        });
        group.bench_function(BenchmarkId::new("lent_records", size), |bencher| {
            bencher.iter(|| {
                let (mut iter, mut count) = (wal.iter().expect("iterates"), 0);
                while let Some(record) = iter.read_next() {
                    count += u64::from(!record.expect("reads").is_empty());
                }
                assert_eq!(count, records);
            });
        });
        group.bench_function(BenchmarkId::new("owned_records", size), |bencher| {
            bencher.iter(|| {
                assert_eq!(wal.iter().expect("iterates").map(black_box).count() as u64, records);
            });
        });
    }
    group.finish();
}

/// Opening after a crash that left a tail of 32 MiB which nothing witnesses: scan and carry.
fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("recovery");
    group.sample_size(20);
    for size in SIZES {
        let store = MemStore::new();
        let options = WalOptions::new().max_unsynced_bytes(1 << 30);
        let wal = options.clone().open_store(store.clone()).expect("opens");
        fill(&wal, size);
        wal.flush().expect("flushes");
        let crashed = store.snapshot();
        group.throughput(Throughput::Bytes(LOG_BYTES as u64));
        group.bench_function(BenchmarkId::new("open_unwitnessed_tail", size), |bencher| {
            let open = |store| options.clone().open_store(store).expect("recovers");
            let again = || MemStore::from_snapshot(crashed.clone());
            bencher.iter_batched(again, open, criterion::BatchSize::LargeInput);
        });
        wal.sync().expect("syncs");
        wal.append_and_sync(b"witness").expect("commits");
        let crashed = store.snapshot();
        group.bench_function(BenchmarkId::new("open_witnessed_tail", size), |bencher| {
            let open = |store| options.clone().open_store(store).expect("recovers");
            let again = || MemStore::from_snapshot(crashed.clone());
            bencher.iter_batched(again, open, criterion::BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, replay, recovery);
criterion_main!(benches);
