//! The default CRC-32C against that of the feature `crc-fast`, by size: whole buffers, and the
//! continuation by the bytes of a frame header.
//!
//! `cargo bench --bench crc --features crc-fast`. Both alternate within each of many rounds; the
//! ratio is the median over the rounds.

#![allow(clippy::disallowed_methods, reason = "a bench measures time")]
#![allow(clippy::print_stdout, reason = "its only output is a report")]
#![allow(missing_docs, reason = "a bench has no callers")]

mod common;

use std::hint::black_box;
use std::time::Instant;

use crc_fast::{CrcAlgorithm, Digest};

use common::median;

const SIZES: [usize; 7] = [20, 64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10];
const ROUNDS: usize = 101;
/// What one measurement covers, so that the clock costs nothing.
const BYTES: usize = 1 << 20;
const HEADER_BYTES: usize = 20;

/// Nanoseconds of one call.
fn time(calls: usize, mut call: impl FnMut() -> u64) -> f64 {
    let begun = Instant::now();
    for _ in 0..calls {
        black_box(call());
    }
    begun.elapsed().as_secs_f64() * 1e9 / calls as f64
}

/// Prints the medians of two ways to the same value, and of their ratio.
fn compare(
    name: &str,
    rounds: usize,
    calls: usize,
    mut default: impl FnMut() -> u64,
    mut fast: impl FnMut() -> u64,
) {
    assert_eq!(default(), fast(), "the same checksum");
    let (mut of_default, mut of_fast, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (one, other) = (time(calls, &mut default), time(calls, &mut fast));
        of_default.push(one);
        of_fast.push(other);
        ratios.push(one / other);
    }
    let [one, other, ratio] = [of_default, of_fast, ratios].map(|mut all| median(&mut all));
    println!("{name:>16} {one:10.1} {other:10.1} {ratio:7.2}");
}

fn fast_append(crc: u32, bytes: &[u8]) -> u64 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    digest.finalize()
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--test");
    let rounds = if quick { 1 } else { ROUNDS };
    let words: Vec<u64> = (0..8192_u64).map(|n| n.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    println!("{}", crc_fast::get_calculator_target(CrcAlgorithm::Crc32Iscsi));
    println!("{:>16} {:>10} {:>10} {:>7}", "bytes", "crc32c ns", "fast ns", "ratio");
    for size in SIZES {
        let default = || u64::from(crc32c::crc32c(black_box(&bytes[..size])));
        let fast = || u64::from(crc_fast::crc32_iscsi(black_box(&bytes[..size])));
        compare(&size.to_string(), rounds, BYTES / (size + 64), default, fast);
    }
    for size in [HEADER_BYTES, 256, 1 << 10, 4 << 10] {
        let default = || u64::from(crc32c::crc32c_append(black_box(7), black_box(&bytes[..size])));
        let fast = || fast_append(black_box(7), black_box(&bytes[..size]));
        compare(&format!("{size} appended"), rounds, BYTES / (size + 64), default, fast);
    }
}
