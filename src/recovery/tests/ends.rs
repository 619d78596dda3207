//! Where a log ends, and when that is damage.

use super::*;
use crate::lsn::Lsn;

fn expected(count: u8) -> Vec<Vec<u8>> {
    (0..count).map(|n| vec![n; 8]).collect()
}

#[test]
fn a_whole_log_comes_back_whole_and_carries_what_was_not_witnessed() {
    let (store, recovered) = three_segments().opened();
    assert_eq!(bodies(&store, &recovered), expected(12));
    let report = &recovered.report;
    assert_eq!((report.end, report.carried_bytes, report.cut_bytes), (Lsn::new(288), 48, 0));
    assert_eq!((report.torn_at, report.last_record), (None, Some(Lsn::new(264))));
    assert_eq!((report.segments, report.epoch, report.scanned_records), (4, 2, 4));
    assert_eq!(recovered.live.last().map(|h| (h.seq, h.base, h.prev_seq)), Some((4, 240, 3)));
    assert_eq!(recovered.control.claim().durable, 288);
}

#[test]
fn a_witnessed_log_carries_nothing_and_empty_segments_do_not_pile_up() {
    let mut files = three_segments();
    files.control(Claim { clean: true, ..claim(3, 288) });
    for round in 1..5 {
        let (store, recovered) = files.opened();
        assert_eq!(recovered.report.carried_bytes, 0);
        assert_eq!(recovered.report.clean, round == 1);
        assert_eq!(recovered.report.last_record, Some(Lsn::new(264)));
        assert_eq!(bodies(&store, &recovered), expected(12));
        files = Files::of(&store);
        assert_eq!(files.0.len(), 5, "{:?}", files.0.keys());
    }
}

#[test]
fn every_truncation_keeps_what_was_durable_or_is_refused() {
    let mut whole = three_segments();
    whole.control(claim(3, 240));
    for seq in 1..=3 {
        for len in 0..whole.clone().seg(seq).len() {
            let mut files = whole.clone();
            files.seg(seq).truncate(len);
            let last_witnessed = 8192 + 48;
            match files.open(&options()) {
                // Older segments are not read when a log is opened, only when they are read.
                Ok(_) if seq < 3 => assert!(len >= 8192),
                Ok((store, recovered)) => {
                    assert!(len >= last_witnessed, "{len}");
                    let kept = 8 + u8::try_from((len - 8192) / 24).unwrap();
                    assert_eq!(bodies(&store, &recovered), expected(kept), "{len}");
                }
                Err(WalError::Corruption { .. }) => assert!(len < last_witnessed, "{seq} {len}"),
                Err(WalError::NotALog { .. }) => assert!(len < 8),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn every_flipped_bit_is_damage_below_the_watermark_and_a_torn_tail_above_it() {
    let whole = three_segments();
    let frames = whole.clone().seg(3).len() - 8192;
    for bit in 0..frames * 8 {
        let mut files = whole.clone();
        files.seg(3)[8192 + bit / 8] ^= 1 << (bit % 8);
        let frame = bit / 8 / 24;
        match files.open(&options()) {
            Err(WalError::Corruption { start, offset, .. }) => {
                assert!(frame < 2, "bit {bit}");
                assert_eq!(
                    (start.get(), offset),
                    (192 + frame as u64 * 24, 8192 + frame as u64 * 24)
                );
            }
            Ok((store, recovered)) => {
                // The last frame holds the only witness for 240; without it 192 is the best.
                let kept = 8 + u8::try_from(frame).unwrap();
                assert!(frame >= 2, "bit {bit}");
                assert_eq!(bodies(&store, &recovered), expected(kept));
                assert_eq!(recovered.report.torn_at, Some(recovered.report.end));
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn zeros_behind_the_end_are_no_torn_tail() {
    let mut files = three_segments();
    for zeros in [1, 7, 8, 4096, 3 << 20] {
        let end = files.seg(3).len();
        files.seg(3).resize(end + zeros, 0);
        let (store, recovered) = files.opened();
        assert_eq!(bodies(&store, &recovered), expected(12));
        assert_eq!((recovered.report.torn_at, recovered.report.cut_bytes), (None, 0));
    }
}

#[test]
fn stale_frames_of_another_epoch_or_place_are_cut() {
    let mut files = three_segments();
    let other = SegmentHeader { salt: [1; 16], ..header(3, 192, 2) };
    let stale = encode(&other, &(0..12).map(|n| record(&[n; 8], 0)).collect::<Vec<_>>());
    let own = files.seg(3).clone();
    files.seg(3).extend_from_slice(&stale[8192 + 96..]);
    files.seg(3).extend_from_slice(&own[8192..]);
    let (store, recovered) = files.opened();
    assert_eq!(bodies(&store, &recovered), expected(12));
    assert_eq!(recovered.report.torn_at, Some(Lsn::new(288)));
    assert_eq!(recovered.report.cut_bytes, 8 * 24 + 96);
}

#[test]
fn a_batch_that_is_not_whole_does_not_exist() {
    let frames = [record(b"a", 0), part(b"b", 24), part(b"c", 24), record(b"d", 24)];
    let mut files = Files::default();
    files.segment(&header(1, 0, 0), &frames).control(claim(1, 0));
    let (store, recovered) = files.opened();
    assert_eq!(bodies(&store, &recovered), [b"a", b"b", b"c", b"d"]);
    for torn in [8192 + 95, 8192 + 72, 8192 + 71, 8192 + 48, 8192 + 25] {
        let mut files = files.clone();
        files.seg(1).truncate(torn);
        let (store, recovered) = files.opened();
        assert_eq!(bodies(&store, &recovered), [b"a"], "{torn}");
        assert_eq!(recovered.report.torn_at, Some(Lsn::new(24)));
        assert_eq!((recovered.report.scanned_records, recovered.end), (1, 24));
    }
}

#[test]
fn a_watermark_inside_a_batch_is_damage() {
    let mut files = Files::default();
    let frames = [record(b"a", 0), part(b"b", 0), record(b"c", 0)];
    files.segment(&header(1, 0, 0), &frames);
    for (durable, fine) in
        [(0, true), (24, true), (48, false), (40, false), (72, true), (80, false)]
    {
        files.control(claim(1, durable));
        assert_eq!(files.open(&options()).is_ok(), fine, "{durable}");
    }
}

#[test]
fn a_watermark_behind_the_first_invalid_frame_proves_damage() {
    let mut files = Files::default();
    let frames: Vec<_> = (0..8).map(|n| record(&[n; 8], if n == 7 { 120 } else { 0 })).collect();
    files.segment(&header(1, 0, 0), &frames).control(claim(1, 0));
    for damaged in 0..7 {
        let mut files = files.clone();
        files.seg(1)[8192 + damaged * 24 + 16] ^= 1;
        assert_eq!(files.open(&options()).is_err(), damaged < 5, "{damaged}");
    }
}

#[test]
fn frames_inside_the_body_of_a_valid_record_witness_nothing() {
    let header = header(1, 0, 0);
    let mut inner = open_header(Kind::Record, 0, 0, 0);
    seal_header(&mut inner, header.seed(), 40, Some(40));
    let mut files = Files::default();
    files.segment(&header, &[record(b"torn", 0), record(&inner, 0)]).control(claim(1, 0));
    files.seg(1)[8192 + 16] ^= 1;
    assert_eq!(files.opened().1.end, 0);
    // Were the record around it not valid, the frame would count.
    files.seg(1)[8192 + 24] ^= 1;
    assert_eq!(files.corrupt(), "bytes that were durable are damaged");
}

#[test]
fn a_watermark_in_a_later_segment_proves_damage() {
    let mut files = Files::default();
    files.segment(&header(1, 0, 0), &[record(b"a", 0), record(b"b", 0)]);
    files.segment(&header(2, 48, 1), &[record(b"c", 24)]).control(claim(1, 0));
    let damage = |at: usize| {
        let mut files = files.clone();
        files.seg(1)[8192 + at] ^= 1;
        files.open(&options()).map(|(store, recovered)| bodies(&store, &recovered))
    };
    assert!(damage(17).unwrap_err().is_corruption());
    assert_eq!(damage(41).unwrap(), [b"a"]);
}

#[test]
fn evidence_within_reach_is_tearing_and_beyond_it_damage() {
    for (bound, fine) in [(24, false), (48, true)] {
        let header = SegmentHeader { max_unsynced: bound, max_unit: 24, ..header(1, 0, 0) };
        let mut files = Files::default();
        let frames: Vec<_> = (0..4).map(|n| record(&[n; 8], 0)).collect();
        files.segment(&header, &frames).control(claim(1, 0));
        files.seg(1)[8192 + 24] ^= 1;
        // Frame 1 is damaged at 24; frame 3 ends at 96, so the reach must be 72.
        assert_eq!(files.open(&options()).is_ok(), fine, "{bound}");
    }
}

#[test]
fn a_cut_that_control_does_not_know_yet_is_no_damage() {
    // A cut to 48 was published, and the machine stopped before CONTROL learned of it.
    let mut files = Files::default();
    let frames: Vec<_> = (0..4).map(|n| record(&[n; 8], 0)).collect();
    files.segment(&header(1, 0, 0), &frames).control(claim(1, 96));
    files.segment(&SegmentHeader { epoch: 2, durable: 48, ..header(2, 48, 1) }, &[]);
    let (store, recovered) = files.opened();
    assert_eq!((bodies(&store, &recovered), recovered.end), (expected(2), 48));
    // Had CONTROL known the cut, then 96 would be a promise about the new segment.
    files.control(claim(2, 96));
    assert_eq!(files.corrupt(), "bytes that were durable are damaged");
}

#[test]
fn what_a_header_calls_durable_beyond_its_cut_binds_nobody() {
    let mut files = Files::default();
    let carried = SegmentHeader { durable: 96, ..header(1, 0, 0) };
    files.segment(&carried, &[record(b"a", 0), record(b"b", 0)]);
    files.segment(&SegmentHeader { epoch: 2, ..header(2, 48, 1) }, &[]).control(claim(2, 48));
    assert_eq!(files.opened().1.end, 48);
    files.0.remove(&name::segment(2));
    files.control(claim(1, 48));
    assert_eq!(files.corrupt(), "bytes that were durable are damaged");
}

#[test]
fn the_record_at_min_durable_lsn_survives_or_the_log_is_refused() {
    let files = three_segments();
    let open = |lsn| files.open(&options().min_durable_lsn(Lsn::new(lsn))).map(drop);
    for lsn in [0, 192, 216, 240, 264] {
        assert!(open(lsn).is_ok(), "{lsn}");
    }
    for lsn in [200, 265, 288, 1 << 40] {
        assert!(open(lsn).unwrap_err().is_corruption(), "{lsn}");
    }
    let nothing = Files::default().open(&options().min_durable_lsn(Lsn::new(0)));
    assert!(nothing.unwrap_err().is_corruption());
}

#[test]
fn records_and_pads_larger_than_a_block_are_carried() {
    let large: Vec<_> = (0..700_001_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut files = Files::default();
    let unit = [part(&large, 0), pad(600_000), record(b"last", 0)];
    let frames = [&[record(b"first", 0), pad(4)], &unit[..]].concat();
    files.segment(&header(1, 0, 0), &frames).control(claim(1, 24));
    let (store, recovered) = files.opened();
    assert_eq!(bodies(&store, &recovered), [b"first".to_vec(), large.clone(), b"last".to_vec()]);
    let active = recovered.live.last().copied().unwrap();
    assert_eq!((active.base, active.prev_seq, recovered.live.len()), (24, 1, 2));
    // The log is whole in its new place, and is read from there.
    drop(recovered);
    let recovered = open(&store, &options()).unwrap();
    assert_eq!(bodies(&store, &recovered).len(), 3);
    assert_eq!((recovered.report.carried_bytes, recovered.report.torn_at), (0, None));
}

#[test]
fn limits_grow_to_the_largest_unit_carried() {
    let mut files = Files::default();
    let batch: Vec<_> = (0..99).map(|_| part(&[1; 500], 0)).chain([record(&[1; 600], 0)]).collect();
    files.segment(&header(1, 0, 0), &batch).control(claim(1, 0));
    let small = options().max_batch_bytes(16).max_record_bytes(8);
    let (_, recovered) = files.open(&small).unwrap();
    let active = recovered.live.last().unwrap();
    assert_eq!((active.max_record, active.max_unit), (600, 99 * 520 + 616));
}

#[test]
fn headers_without_their_bodies_cost_bounded_work() {
    // Every 16 bytes a valid header whose body is the rest of the file and does not match.
    let header = SegmentHeader { max_record: u32::MAX, ..header(1, 0, 0) };
    let mut files = Files::default();
    files.segment(&header, &[]).control(claim(1, 0));
    let bytes = 1_u64 << 20;
    for lsn in (16..bytes).step_by(16) {
        let len = u32::try_from(bytes - lsn - 16).unwrap();
        let mut frame = open_header(Kind::Record, 0, len, 1);
        seal_header(&mut frame, header.seed(), lsn, None);
        let lsn = usize::try_from(lsn).unwrap();
        files.seg(1).resize(8192 + lsn, 0);
        files.seg(1).extend_from_slice(&frame);
    }
    assert_eq!(files.corrupt(), "too many candidate frames behind the end");
}

#[test]
fn a_frame_split_over_two_blocks_is_found_behind_damage() {
    let block = u64::try_from(crate::scan::BLOCK).unwrap();
    for gap in [block - 8, block - 16, block - 24, block, 2 * block - 8] {
        let mut files = Files::default();
        let limits = SegmentHeader { max_unsynced: 1 << 30, ..header(1, 0, 0) };
        // One damaged record, then one whose watermark convicts it.
        let len = usize::try_from(gap - 16).unwrap();
        let frames = [record(&vec![0; len], 0), record(b"witness!", gap)];
        files.segment(&limits, &frames).control(claim(1, 0));
        files.seg(1)[8192] ^= 1;
        assert_eq!(files.corrupt(), "bytes that were durable are damaged", "{gap}");
    }
}
