//! The engine's paths, one thread at a time or with real threads, over the model disk.

use super::model::{Fault, Model};
use crate::error::WalError;

const RING: usize = 1 << 10;

fn bodies(model: &Model) -> Vec<Vec<u8>> {
    model.frames().into_iter().filter_map(|(_, body)| body).collect()
}

#[test]
fn a_commit_is_synced_when_it_returns() {
    let model = Model::new(RING, 2, 1 << 20, 1 << 20);
    let (start, end) = model.append(b"one").unwrap();
    assert_eq!((start, end), (0, 24));
    model.commit(end).unwrap();
    assert_eq!((model.durable(), model.synced_end(), model.syncs()), (24, 24, 1));
    model.commit(end).unwrap();
    model.sync().unwrap();
    assert_eq!(model.syncs(), 1, "nothing to do, nothing done");
}

#[test]
fn a_full_ring_is_written_out_by_its_appenders() {
    let model = Model::new(RING, 2, 1 << 20, 1 << 20);
    for index in 0..1000_u32 {
        model.append(&index.to_le_bytes()).unwrap();
    }
    model.flush().unwrap();
    let expected: Vec<_> = (0..1000_u32).map(|index| index.to_le_bytes().to_vec()).collect();
    assert_eq!(bodies(&model), expected);
    assert_eq!(model.syncs(), 0);
}

#[test]
fn frames_and_batches_never_straddle_segments() {
    let model = Model::new(RING, 2, 200, 1 << 20);
    for index in 0..50_u8 {
        model.append_batch(&[&[index; 20], &[index; 30]]).unwrap();
    }
    model.flush().unwrap();
    assert_eq!(bodies(&model).len(), 100);
    assert_eq!(model.segments(), 50_usize.div_ceil(2), "two batches of 88 bytes in each");
}

#[test]
fn unsynced_bytes_stay_within_the_bound() {
    let model = Model::new(RING, 2, 1 << 20, 256);
    for index in 0..200_u8 {
        model.append(&[index; 40]).unwrap();
        assert!(model.written() - model.durable() <= 256 + 56);
    }
    model.flush().unwrap();
    assert!(model.written() - model.durable() <= 256 + 56);
    assert!(model.syncs() >= 200 * 56 / 312);
}

#[test]
fn a_unit_above_the_rings_limit_keeps_its_place_in_the_order() {
    for (segment_bytes, max_unsynced) in [(1 << 20, 1 << 20), (300, 1 << 20), (1 << 20, 64)] {
        let model = Model::new(RING, 2, segment_bytes, max_unsynced);
        model.append(b"before").unwrap();
        let large = vec![7; 5000];
        let (start, end) = model.append(&large).unwrap();
        assert!(end - start > model.max_unit());
        model.append(b"after").unwrap();
        model.sync().unwrap();
        assert_eq!(bodies(&model), [b"before".to_vec(), large, b"after".to_vec()]);
        assert_eq!(model.synced_end(), model.end());
    }
}

#[test]
fn an_abandoned_reservation_becomes_a_pad() {
    let model = Model::new(RING, 2, 1 << 20, 1 << 20);
    model.append(b"a").unwrap();
    model.abandon(&[9; 100]).unwrap();
    model.append(b"b").unwrap();
    model.sync().unwrap();
    let frames = model.frames();
    assert_eq!(frames.len(), 3);
    assert_eq!(frames[1], (24, None));
    assert_eq!(bodies(&model), [b"a".to_vec(), b"b".to_vec()]);
}

#[test]
fn a_failed_sync_poisons_for_good() {
    for fault in [Fault::Sync, Fault::SyncPanic] {
        let model = Model::new(RING, 2, 1 << 20, 1 << 20);
        let (_, kept) = model.append(b"kept").unwrap();
        model.sync().unwrap();
        model.fault(fault);
        model.append(b"lost").unwrap();
        let first = model.sync().unwrap_err();
        model.fault(Fault::None);
        for later in [model.sync(), model.flush(), model.append(b"late").map(|_| ())] {
            let later = later.unwrap_err();
            assert!(later.is_poisoned());
            assert_eq!(later.to_string(), first.to_string(), "the first cause");
        }
        assert_eq!(model.durable(), kept);
        model.commit(kept).unwrap();
        assert!(model.close().unwrap_err().is_poisoned());
        assert_eq!(model.syncs(), 1, "nothing is retried");
    }
}

#[test]
fn a_failed_write_poisons_and_a_full_disk_does_not() {
    let model = Model::new(RING, 2, 1 << 20, 1 << 20);
    model.append(b"a").unwrap();
    model.fault(Fault::Full);
    assert!(matches!(model.sync(), Err(WalError::StorageFull { .. })));
    assert!(matches!(model.flush(), Err(WalError::StorageFull { .. })));
    let mut accepted = 1;
    while model.append(b"b").is_ok() {
        accepted += 1;
        assert!(accepted < RING, "appends stop when the ring is full");
    }
    assert!(model.close().unwrap_err().is_retryable());
    model.fault(Fault::None);
    model.close().unwrap();
    assert_eq!(bodies(&model).len(), accepted, "what was accepted is not lost");

    let model = Model::new(RING, 2, 1 << 20, 1 << 20);
    model.append(b"a").unwrap();
    model.fault(Fault::Write);
    assert!(model.flush().unwrap_err().is_poisoned());
    model.fault(Fault::None);
    assert!(model.sync().unwrap_err().is_poisoned());
}

#[test]
fn what_is_below_a_full_disk_is_still_synced() {
    let model = Model::new(RING, 2, 1 << 20, 1 << 20);
    let (_, written) = model.append(b"written").unwrap();
    model.flush().unwrap();
    let (_, unwritten) = model.append(b"unwritten").unwrap();
    model.fault(Fault::Full);
    assert!(matches!(model.commit(unwritten), Err(WalError::StorageFull { .. })));
    assert_eq!(model.durable(), written);
    model.fault(Fault::None);
    model.commit(unwritten).unwrap();
}

#[test]
fn a_large_unit_that_finds_the_disk_full_leaves_a_pad() {
    let model = Model::new(RING, 2, 1 << 20, 1 << 20);
    model.append(b"before").unwrap();
    model.flush().unwrap();
    model.fault(Fault::Full);
    assert!(matches!(model.append(&[7; 5000]), Err(WalError::StorageFull { .. })));
    assert!(matches!(model.append(b"x"), Err(WalError::StorageFull { .. })));
    model.fault(Fault::None);
    model.append(b"after").unwrap();
    model.sync().unwrap();
    assert_eq!(bodies(&model), [b"before".to_vec(), b"after".to_vec()]);
    assert_eq!(model.frames().len(), 3);
}

#[test]
fn closing_is_final_and_idempotent() {
    let model = Model::new(RING, 2, 1 << 20, 1 << 20);
    model.append(b"a").unwrap();
    model.close().unwrap();
    model.close().unwrap();
    assert_eq!(model.synced_end(), model.end());
    assert!(matches!(model.append(b"b"), Err(WalError::Closed)));
    assert!(matches!(model.append(&[0; 5000]), Err(WalError::Closed)));
    assert!(matches!(model.sync(), Err(WalError::Closed)));
}

#[test]
fn many_threads_with_few_slots_keep_every_record_once_and_in_order() {
    let model = Model::new(RING, 2, 4096, 2048);
    std::thread::scope(|scope| {
        for thread in 0..8_u8 {
            let model = model.clone();
            scope.spawn(move || {
                for index in 0..2000_u16 {
                    let body = [&[thread][..], &index.to_le_bytes()].concat();
                    let end = match index % 50 {
                        0 => model.append(&[&body[..], &[0; 3000]].concat()).unwrap().1,
                        1 => model.append_batch(&[&body, &body]).unwrap().1,
                        _ => model.append(&body).unwrap().1,
                    };
                    if index % 7 == 0 {
                        model.commit(end).unwrap();
                        assert!(model.synced_end() >= end);
                    }
                }
            });
        }
    });
    model.close().unwrap();
    let mut next = [0_u16; 8];
    let mut last = None;
    for body in bodies(&model) {
        let (thread, index) = (usize::from(body[0]), u16::from_le_bytes([body[1], body[2]]));
        if last.replace(body.clone()) == Some(body) {
            continue;
        }
        assert_eq!(index, next[thread], "thread {thread}");
        next[thread] += 1;
    }
    assert_eq!(next, [2000; 8]);
}

#[test]
fn a_cut_moves_every_watermark_back_and_the_log_goes_on_there() {
    let model = Model::new(64 << 10, 16, 1 << 20, 1 << 20);
    let (_, kept) = model.append_and_commit(b"kept").unwrap();
    model.append_and_commit(b"durable").unwrap();
    model.append(b"buffered").unwrap();
    let place = model.end();
    model.cut(kept).unwrap();
    assert_eq!((model.end(), model.written(), model.durable()), (kept, kept, kept));
    assert!(matches!(model.cut(place), Err(WalError::NotARecord { .. })));
    let (start, end) = model.append_and_commit(b"next").unwrap();
    assert_eq!((start, model.durable()), (kept, end));
    let bodies: Vec<_> = model.frames().into_iter().filter_map(|(_, body)| body).collect();
    assert_eq!(bodies, [b"kept", b"next"]);
}
