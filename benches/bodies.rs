//! What compressing, encrypting and encoding a record cost, against plain ones of the same run.
//!
//! `cargo bench --bench bodies --features aead,lz4`. In each round every way appends the same
//! payloads into a ring with room and then replays them, in an order that changes from round to
//! round. Times are of one thread; what counts are ratios of one round, and what the floor, the
//! work that no log can save, takes beside them. Nothing is synced inside the times.

#![allow(clippy::disallowed_methods, reason = "benches measure time")]
#![allow(clippy::print_stdout, reason = "its only output is a report")]
#![allow(missing_docs, clippy::unwrap_used, reason = "a bench has no callers")]

mod common;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use aes_gcm::aead::{AeadInPlace, KeyInit};
use aes_gcm::{Aes256Gcm, Nonce};
use cohort_wal::{Compression, Key, KeyProvider, MemStore, Wal, WalOptions};

use common::median;

const ROUNDS: usize = 9;
const SIZES: [usize; 6] = [64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10];
/// Appended in one go; the ring takes it.
const BURST_BYTES: usize = 16 << 20;
const RING_BYTES: usize = 128 << 20;

struct OneKey;

impl KeyProvider for OneKey {
    fn active(&self) -> u32 {
        1
    }

    fn get(&self, _id: u32) -> Option<Key> {
        Some(Key::new([7; 32]))
    }
}

type Way = (&'static str, fn() -> WalOptions, fn(usize) -> Vec<u8>);

fn plain() -> WalOptions {
    WalOptions::new().ring_bytes(RING_BYTES)
}

/// Like rows of a table: words that recur, and numbers that do not.
fn text(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut bytes = Vec::new();
    while bytes.len() < len {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        let (account, amount) = (state >> 52, state >> 40 & 0xFFFF);
        let row = format!("{{\"account\":{account},\"amount\":{amount},\"kind\":\"debit\"}}");
        bytes.extend_from_slice(row.as_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        state.to_le_bytes()[7]
    };
    (0..len).map(|_| next()).collect()
}

/// The first is what the others are compared with.
const WAYS: [Way; 6] = [
    ("plain", plain, text),
    ("lz4, rows", || plain().compression(Compression::Lz4), text),
    ("lz4, noise", || plain().compression(Compression::Lz4), noise),
    ("aead", || plain().encryption(Arc::new(OneKey)), text),
    ("aead and lz4, rows", both, text),
    ("aead and lz4, noise", both, noise),
];

fn both() -> WalOptions {
    plain().compression(Compression::Lz4).encryption(Arc::new(OneKey))
}

/// Nanoseconds per record to append and to replay, and stored bytes per byte appended.
struct Cost {
    append: f64,
    replay: f64,
    stored: f64,
}

fn measure(way: &Way, size: usize) -> Cost {
    let (_, options, payload) = way;
    let (payload, count) = (payload(size), BURST_BYTES / (size + 64));
    let per = |begun: Instant| begun.elapsed().as_nanos() as f64 / count as f64;
    let wal: Wal<MemStore> = options().open_store(MemStore::new()).unwrap();
    // The first use of a page of the ring costs a page fault, which is not the append's.
    for _ in 0..RING_BYTES / BURST_BYTES + 1 {
        (0..count).for_each(|_| drop(black_box(wal.append(&payload))));
        wal.sync().unwrap();
    }
    let from = wal.end_lsn();
    let begun = Instant::now();
    (0..count).for_each(|_| drop(black_box(wal.append(&payload))));
    let append = per(begun);
    wal.sync().unwrap();
    let stored = (wal.end_lsn().get() - from.get()) as f64 / (count * size) as f64;
    let (mut records, mut read) = (wal.iter_from(from).unwrap(), 0);
    let begun = Instant::now();
    while let Some(record) = records.read_next() {
        read += usize::from(black_box(record.unwrap()).len() == size);
    }
    let replay = per(begun);
    assert_eq!(read, count);
    Cost { append, replay, stored }
}

/// Nanoseconds to encrypt, and to compress, a payload of this size, by their crates alone.
fn floors(size: usize) -> (f64, f64) {
    let count = BURST_BYTES / (size + 64);
    let per = |begun: Instant| begun.elapsed().as_nanos() as f64 / count as f64;
    let (cipher, mut body) = (Aes256Gcm::new(&[7; 32].into()), text(size));
    let begun = Instant::now();
    for number in 0..count as u64 {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&number.to_le_bytes());
        let tag = cipher.encrypt_in_place_detached(&Nonce::from(nonce), &[0; 37], &mut body);
        black_box(tag).unwrap();
    }
    let aead = per(begun);
    let (body, mut into) = (text(size), vec![0; size * 2 + 64]);
    let begun = Instant::now();
    for _ in 0..count {
        black_box(lz4_flex::block::compress_into(black_box(&body), &mut into)).unwrap();
    }
    (aead, per(begun))
}

fn main() {
    println!("| bytes | way | append | to plain | replay | to plain | stored |");
    println!("|---|---|---|---|---|---|---|");
    for size in SIZES {
        let mut costs: Vec<Vec<Cost>> = WAYS.iter().map(|_| Vec::new()).collect();
        let mut floors_of = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            for at in 0..WAYS.len() {
                let way = (at + round) % WAYS.len();
                costs[way].push(measure(&WAYS[way], size));
            }
            let (aead, lz4) = floors(size);
            floors_of.0.push(aead);
            floors_of.1.push(lz4);
        }
        for (way, (name, ..)) in WAYS.iter().enumerate() {
            let of = |cost: fn(&Cost) -> f64| {
                let mut times: Vec<_> = costs[way].iter().map(cost).collect();
                let mut ratios: Vec<_> =
                    costs[way].iter().zip(&costs[0]).map(|(a, b)| cost(a) / cost(b)).collect();
                (median(&mut times), median(&mut ratios))
            };
            let (append, replay) = (of(|cost| cost.append), of(|cost| cost.replay));
            println!(
                "| {size} | {name} | {:.0} ns | {:.2} | {:.0} ns | {:.2} | {:.2} |",
                append.0, append.1, replay.0, replay.1, costs[way][0].stored
            );
        }
        let (aead, lz4) = (median(&mut floors_of.0), median(&mut floors_of.1));
        let floor = "floor: the cipher alone, compressing rows alone";
        println!("| {size} | {floor} | {aead:.0} ns, {lz4:.0} ns | | | | |");
    }
}
