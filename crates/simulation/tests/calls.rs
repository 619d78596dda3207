//! Every store call may fail: a sample; `simulation calls` tries them all.

use simulation::calls::{Acts, Address, Tally, sweep};

/// A prime, so that a sample meets every fault and all sorts of calls.
const STRIDE: u64 = 1009;

#[test]
fn a_store_call_that_fails_in_any_way_breaks_no_promise() {
    let mut total = Tally::default();
    for workload in 0..100 {
        total.add(&sweep(workload, 1, STRIDE).unwrap_or_else(|failure| panic!("{failure}")));
    }
    // Hitting the calls has consequences of every kind.
    assert_eq!(total.workloads, 100);
    assert!(total.struck > 300, "{total:?}");
    assert!(total.poisoned > 20 && total.full > 10, "{total:?}");
    assert!(total.reads > 2 && total.opens > 100 && total.states > 1000, "{total:?}");
}

#[test]
fn an_address_names_its_run() {
    for text in ["smlbafywrickp/ext4/7/errno5/once/keep/12", "sy/hostile/0/full700/sticky/evict/0"]
    {
        let address: Address = text.parse().unwrap();
        assert_eq!(address.to_string(), text);
    }
    assert!("sz/ext4/7/errno5/once/keep/12".parse::<Address>().is_err());
    let acts = Acts::random(3);
    assert_eq!(acts, Acts::random(3));
    assert!((10..=40).contains(&acts.0.len()));
}
