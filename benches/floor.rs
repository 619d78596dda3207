//! What does the file system cost by itself: one small write and a sync into a file that grows,
//! that was allocated, that was filled with zeros; a write alone; a read; a copy in memory?
//!
//! `cargo bench --bench floor`; set `TMPDIR` to choose the file system.

#![allow(clippy::disallowed_methods, reason = "a bench measures what syncs cost")]
#![allow(missing_docs, clippy::expect_used, reason = "a bench has no callers")]
#![cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "measures Linux"))]

use criterion::{Criterion, criterion_group, criterion_main};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::hint::black_box;
    use std::os::unix::fs::FileExt;

    use criterion::{BenchmarkId, Criterion, Throughput};
    use rustix::fs::{FallocateFlags, fallocate};

    const FILE_BYTES: u64 = 64 << 20;

    fn file(prepare: impl FnOnce(&File)) -> File {
        let file = tempfile::tempfile().expect("makes a file");
        prepare(&file);
        file.sync_all().expect("syncs");
        file
    }

    pub(super) fn disk(criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("pwrite_fdatasync_80");
        group.sample_size(50);
        let zeroed = |file: &File| {
            for at in (0..FILE_BYTES).step_by(1 << 20) {
                file.write_all_at(&vec![0; 1 << 20], at).expect("writes");
            }
        };
        let files = [
            ("growing", file(|_| ())),
            (
                "fallocated",
                file(|file| {
                    let flags = FallocateFlags::empty();
                    fallocate(file, flags, 0, FILE_BYTES).expect("allocates");
                }),
            ),
            ("zero_filled", file(zeroed)),
        ];
        for (name, file) in &files {
            let mut at = 0;
            group.bench_function(*name, |bencher| {
                bencher.iter(|| {
                    file.write_all_at(&[7; 80], at).expect("writes");
                    file.sync_data().expect("syncs");
                    at = (at + 80) % FILE_BYTES;
                });
            });
        }
        group.finish();
    }

    pub(super) fn bytes(criterion: &mut Criterion) {
        let mut group = criterion.benchmark_group("bytes");
        let area = file(|file| file.write_all_at(&vec![1; 16 << 20], 0).expect("writes"));
        for size in [4 << 10, 256 << 10, 1 << 20] {
            let (from, mut into) = (vec![7_u8; size], vec![1_u8; size]);
            group.throughput(Throughput::Bytes(size as u64));
            group.bench_function(BenchmarkId::new("memcpy", size), |bencher| {
                bencher.iter(|| black_box(&mut into).copy_from_slice(black_box(&from)));
            });
            group.bench_function(BenchmarkId::new("crc32c", size), |bencher| {
                bencher.iter(|| crc32c::crc32c(black_box(&from)));
            });
            let mut at = 0;
            let mut next = move || {
                at = (at + size as u64) % (8 << 20);
                at
            };
            group.bench_function(BenchmarkId::new("pwrite", size), |bencher| {
                bencher.iter(|| area.write_all_at(&from, next()).expect("writes"));
            });
            group.bench_function(BenchmarkId::new("pread", size), |bencher| {
                bencher.iter(|| area.read_exact_at(&mut into, next()).expect("reads"));
            });
        }
        group.finish();
    }
}

#[cfg(target_os = "linux")]
fn floor(criterion: &mut Criterion) {
    linux::disk(criterion);
    linux::bytes(criterion);
}

#[cfg(not(target_os = "linux"))]
fn floor(_: &mut Criterion) {}

criterion_group!(benches, floor);
criterion_main!(benches);
