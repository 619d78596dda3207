//! Models of the ring: reservations, the frontier, slots, admission.
//!
//! Payload words are loom cells, so bytes that are read or overwritten without a happens-before
//! edge fail the model, not only wrong values.

#![cfg(loom)]

use loom::thread;
use loom_tests::{EMPTY, Model, RING, VAST, explore};

fn ranges_are_dense(mut ranges: Vec<(u64, u64)>) {
    ranges.sort_unstable();
    let mut end = 0;
    for (start, next) in ranges {
        assert_eq!(start, end, "no gap, no overlap");
        end = next;
    }
}

/// Two threads reserve twice each; every byte of the log belongs to exactly one of them.
#[test]
fn reservations_are_dense_and_disjoint() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let other = model.clone();
        let appender = thread::spawn(move || {
            vec![other.append(b"").unwrap(), other.append(b"other").unwrap()]
        });
        let mut ranges = vec![model.append(b"mine").unwrap(), model.append(b"").unwrap()];
        ranges.extend(appender.join().unwrap());
        assert_eq!(model.end(), ranges.iter().map(|(start, end)| end - start).sum());
        ranges_are_dense(ranges);
    });
}

/// A flush runs beside two appenders; what it writes out is whole frames, and nothing that is
/// still being copied.
#[test]
fn published_bytes_are_complete() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let appenders: Vec<_> = [b"first", b"other"]
            .into_iter()
            .map(|body| {
                let model = model.clone();
                thread::spawn(move || model.append(body).unwrap())
            })
            .collect();
        model.flush().unwrap();
        let seen = model.frames().len();
        let ranges = appenders.into_iter().map(|a| a.join().unwrap()).collect();
        ranges_are_dense(ranges);
        model.flush().unwrap();
        assert!(seen <= 2 && model.frames().len() == 2);
    });
}

/// Three appends through one slot: a frontier that sees a later owner of the slot must see the
/// bytes of the earlier ones.
#[test]
fn a_reused_slot_hides_no_bytes() {
    explore(|| {
        let model = Model::new(4 * RING, 1, VAST, VAST);
        let other = model.clone();
        let appender = thread::spawn(move || {
            other.append(b"a").unwrap();
            other.append(b"b").unwrap();
        });
        model.append(b"c").unwrap();
        model.flush().unwrap();
        appender.join().unwrap();
        model.flush().unwrap();
        assert_eq!(model.frames().len(), 3);
    });
}

/// The ring holds four frames and admits two: appenders wrap around it and overwrite nothing that
/// is not written yet.
#[test]
fn admission_protects_bytes_across_the_ring_end() {
    explore(|| {
        let model = Model::new(RING, 2, VAST, VAST);
        assert_eq!(model.max_unit(), EMPTY);
        for _ in 0..3 {
            model.append(b"").unwrap();
        }
        let other = model.clone();
        let appender = thread::spawn(move || {
            other.append(b"").unwrap();
        });
        model.append(b"").unwrap();
        appender.join().unwrap();
        model.flush().unwrap();
        assert_eq!(model.frames().len(), 5);
        assert_eq!(model.written(), 5 * EMPTY);
    });
}

/// One thread writes the ring out while another reuses it without a lock: what it overwrites has
/// been read.
#[test]
fn ring_bytes_are_reused_only_after_they_are_written() {
    explore(|| {
        let model = Model::new(RING, 2, VAST, VAST);
        model.append(b"").unwrap();
        model.append(b"").unwrap();
        let other = model.clone();
        let flusher = thread::spawn(move || other.flush().unwrap());
        for _ in 0..3 {
            model.append(b"").unwrap();
        }
        flusher.join().unwrap();
        model.flush().unwrap();
        assert_eq!(model.frames().len(), 5);
    });
}

/// An appender that was admitted before `written` moved reserves behind others that were admitted
/// after it: it learns of the write through the tail alone.
#[test]
fn a_late_reservation_sees_the_write_that_admitted_earlier_ones() {
    explore(|| {
        let model = Model::new(RING, 2, VAST, VAST);
        model.append(b"").unwrap();
        model.append(b"").unwrap();
        let other = model.clone();
        let late = thread::spawn(move || {
            other.append(b"").unwrap();
        });
        model.flush().unwrap();
        for _ in 0..3 {
            model.append(b"").unwrap();
        }
        late.join().unwrap();
        model.flush().unwrap();
        assert_eq!(model.frames().len(), 6);
    });
}

/// An appender unwinds between reserving and filling, beside another one and a flush.
#[test]
fn an_abandoned_reservation_is_a_pad_and_blocks_nobody() {
    explore(|| {
        let model = Model::new(4 * RING, 2, VAST, VAST);
        let other = model.clone();
        let appender = thread::spawn(move || other.abandon(b"never").unwrap());
        let (_, end) = model.append(b"whole").unwrap();
        model.commit(end).unwrap();
        appender.join().unwrap();
        model.flush().unwrap();
        let bodies: Vec<_> = model.frames().into_iter().map(|(_, body)| body).collect();
        assert_eq!(bodies.len(), 2);
        assert!(bodies.contains(&Some(b"whole".to_vec())) && bodies.contains(&None));
    });
}
