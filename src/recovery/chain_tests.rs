use super::*;
use crate::format::segment::Ignored;

fn segment(seq: u64, base: u64, prev_seq: u64) -> SegmentHeader {
    SegmentHeader {
        log_id: [1; 16],
        seq,
        epoch: 1,
        salt: [2; 16],
        base,
        prev_seq,
        head: 0,
        durable: 0,
        max_unsynced: 1024,
        max_unit: 1024,
        max_record: 512,
        cipher: 0,
        extent: 0,
        key_id: 0,
        key_check: [0; 16],
        ignored: Ignored::NONE,
    }
}

fn claim(newest_seq: u64, head: u64, durable: u64) -> Claim {
    let log_id = [1; 16];
    Claim { log_id, newest_seq, head, snapshot: u64::MAX, durable, clean: false }
}

fn seqs(chain: &Chain) -> Vec<u64> {
    chain.live.iter().map(|header| header.seq).collect()
}

#[test]
fn a_whole_chain_is_live_in_order() {
    let headers = [segment(1, 0, 0), segment(2, 80, 1), segment(3, 160, 2)];
    let chain = resolve(&headers, &claim(3, 0, 160)).unwrap();
    assert_eq!(seqs(&chain), [1, 2, 3]);
    assert!(chain.stale.is_empty());
    assert_eq!((chain.cut(0), chain.cut(2)), (Some(80), None));
    let pieces: Vec<_> = chain.pieces(40, 200).map(|(h, from, to)| (h.seq, from, to)).collect();
    assert_eq!(pieces, [(1, 40, 80), (2, 80, 160), (3, 160, 200)]);
}

#[test]
fn a_cut_kills_the_segments_it_passes() {
    let headers = [segment(1, 0, 0), segment(2, 80, 1), segment(3, 160, 2), segment(4, 80, 1)];
    let chain = resolve(&headers, &claim(3, 0, 240)).unwrap();
    assert_eq!((seqs(&chain), &*chain.stale), (vec![1, 4], &[2, 3][..]));
}

#[test]
fn a_missing_segment_below_head_is_no_damage_and_one_above_is() {
    let headers = [segment(1, 0, 0), segment(3, 160, 2)];
    let chain = resolve(&headers, &claim(3, 160, 160)).unwrap();
    assert_eq!((seqs(&chain), &*chain.stale), (vec![3], &[1][..]));
    let flaw = resolve(&headers, &claim(3, 152, 160)).unwrap_err();
    assert_eq!((flaw.seq, flaw.base), (2, 152));
}

#[test]
fn the_newest_segment_that_control_knows_must_be_there() {
    let headers = [segment(1, 0, 0), segment(2, 80, 1)];
    assert!(resolve(&headers, &claim(2, 0, 80)).is_ok());
    assert_eq!(resolve(&headers, &claim(3, 0, 80)).unwrap_err().seq, 3);
    assert_eq!(resolve(&[], &claim(1, 0, 80)).unwrap_err().seq, 1);
    assert!(resolve(&[], &claim(0, 80, 80)).unwrap().live.is_empty());
}

#[test]
fn a_segment_that_the_chain_leaves_out_must_be_dead() {
    let mut headers = [segment(1, 0, 0), segment(2, 160, 1), segment(3, 80, 1)];
    assert!(resolve(&headers, &claim(3, 0, 0)).is_ok());
    headers[1].base = 72;
    assert_eq!(resolve(&headers, &claim(3, 0, 0)).unwrap_err().seq, 2);
}

#[test]
fn nonsense_in_a_header_is_refused() {
    let check = |header: SegmentHeader| resolve(&[segment(1, 0, 0), header], &claim(1, 0, 0));
    let good = segment(2, 80, 1);
    assert!(check(good).is_ok());
    for bad in [
        SegmentHeader { prev_seq: 2, ..good },
        SegmentHeader { prev_seq: 9, ..good },
        SegmentHeader { base: 84, ..good },
        SegmentHeader { base: 1 << 62, ..good },
        SegmentHeader { durable: 1 << 62, ..good },
        SegmentHeader { head: 88, ..good },
        SegmentHeader { base: 0, ..good },
        SegmentHeader { epoch: 0, ..good },
    ] {
        assert!(check(bad).is_err(), "{bad:?}");
    }
    assert!(resolve(&[segment(0, 0, 0)], &claim(0, 0, 0)).is_err());
}

#[test]
fn what_control_calls_durable_ends_at_a_cut_it_does_not_know() {
    let headers = [segment(1, 0, 0), segment(2, 800, 1), segment(3, 400, 1)];
    let chain = resolve(&headers, &claim(2, 0, 1000)).unwrap();
    assert_eq!(chain.witnessed(&claim(2, 0, 1000)), 400);
    assert_eq!(chain.witnessed(&claim(3, 0, 1000)), 1000);
    assert_eq!(chain.witnessed(&claim(2, 0, 96)), 96);
}

#[test]
fn what_control_calls_durable_ends_at_the_first_of_several_cuts_it_does_not_know() {
    // What lies between the second and the third base is newer than the claim.
    let headers = [segment(1, 0, 0), segment(2, 48, 1), segment(3, 160, 2)];
    assert_eq!(resolve(&headers, &claim(1, 0, 96)).unwrap().witnessed(&claim(1, 0, 96)), 48);
}

#[test]
fn what_a_header_calls_durable_ends_at_its_cut() {
    let carried = SegmentHeader { durable: 904, ..segment(2, 160, 1) };
    let headers = [segment(1, 0, 0), carried, segment(3, 400, 2)];
    let chain = resolve(&headers, &claim(2, 0, 8)).unwrap();
    assert_eq!(chain.witnessed(&claim(2, 0, 8)), 400);
    let chain = resolve(&headers[..2], &claim(2, 0, 8)).unwrap();
    assert_eq!(chain.witnessed(&claim(2, 0, 8)), 904);
}
