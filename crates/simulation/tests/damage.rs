//! Damage in several places at once: a sample; `simulation damage` tries millions.

use simulation::damage::{Address, Tally, cases};

#[test]
fn damage_is_refused_or_harmless_or_hits_the_last_cohorts_alone() {
    let tally = cases(1, 0, 16_000).unwrap_or_else(|failure| panic!("{failure}"));
    let Tally { cases, lied, refused_at_open, refused_on_reading, .. } = tally;
    assert_eq!((cases, tally.silent), (16_000, 0));
    // Every outcome is met, or the sample says nothing about it.
    assert!(lied > 100 && refused_at_open > 500 && refused_on_reading > 500, "{tally:?}");
    assert!(tally.unharmed > 500 && tally.last_cohorts > 100, "{tally:?}");
    assert!(tally.image_refused > 50 && tally.older_head > 0, "{tally:?}");
}

#[test]
fn a_case_is_a_function_of_its_address() {
    let again = || cases(7, 600, 700).map_err(|failure| failure.to_string());
    assert_eq!(again(), again());
    let address: Address = "7/612/3".parse().unwrap();
    assert_eq!(address.to_string(), "7/612/3");
    assert!("7".parse::<Address>().is_err());
}
