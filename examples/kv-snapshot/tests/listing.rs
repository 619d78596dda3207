//! Stale keys against a fresh listing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::collections::BTreeMap;

use cohort_wal::sim::{Profile, SimStore};
use kv_snapshot::{Change, Key, Store, Token};

use common::load;

fn token(text: &str) -> Token {
    Token::new(text.as_bytes()).unwrap()
}

fn listing(pairs: &[(&str, &str)]) -> BTreeMap<String, Token> {
    pairs.iter().map(|(key, version)| ((*key).to_owned(), token(version))).collect()
}

fn keys(store: &Store<SimStore>) -> Vec<Key> {
    store.view().unwrap().entries().map(|(key, _)| Key::clone(key)).collect()
}

#[test]
fn stale_keys_are_returned_and_purged_as_one() {
    let disk = SimStore::new(Profile::Hostile, 1);
    let store = load(disk.clone()).unwrap();
    for key in ["deleted", "kept", "moved"] {
        store.put(key, token("1"), b"value").unwrap();
    }
    let listing = listing(&[("kept", "1"), ("moved", "2"), ("unheard of", "1")]);
    // Whether it comes from the log or from a snapshot.
    for compacted in [false, true] {
        if compacted {
            store.compact().unwrap();
        }
        let loaded = load(disk.kill()).unwrap();
        let asked = loaded.mark();
        assert_eq!(loaded.stale(&listing, asked).unwrap(), ["deleted".into(), "moved".into()]);
    }
    let asked = store.mark();
    let stale = store.stale(&listing, asked).unwrap();
    assert_eq!(stale, ["deleted".into(), "moved".into()]);
    disk.record();
    store.purge_stale(&stale, asked).unwrap();
    assert_eq!(keys(&store), ["kept".into()]);
    assert!(store.stale(&listing, asked).unwrap().is_empty());
    let all: Vec<Key> = ["deleted", "kept", "moved"].map(Key::from).into();
    let mut both = [0, 0];
    for after in disk.moments().iter().flat_map(|moment| moment.power_losses(16)) {
        let left = keys(&load(after).unwrap());
        assert!(left == all || left == ["kept".into()], "{left:?}");
        both[usize::from(left == all)] += 1;
    }
    assert!(both.iter().all(|states| *states > 0), "{both:?}");
}

#[test]
fn what_is_put_after_the_listing_was_asked_for_stays() {
    let store = load(SimStore::new(Profile::Ext4, 1)).unwrap();
    store.put("old", token("1"), b"").unwrap();
    store.put("again", token("1"), b"").unwrap();
    let asked = store.mark();
    store.put("new", token("1"), b"").unwrap();
    let stale = store.stale(&listing(&[]), asked).unwrap();
    assert_eq!(stale, ["again".into(), "old".into()]);
    // Between finding and purging somebody puts a newer version, and compacts.
    store.put("again", token("2"), b"").unwrap();
    store.compact().unwrap();
    store.purge_stale(&stale, asked).unwrap();
    assert_eq!(keys(&store), ["again".into(), "new".into()]);
}

#[test]
fn what_somebody_else_has_just_purged_is_durable_too() {
    let disk = SimStore::new(Profile::Ext4, 1);
    let store = load(disk.clone()).unwrap();
    store.put("stale", token("1"), b"").unwrap();
    let asked = store.mark();
    store.append(vec![Change::Purge { key: "stale".into() }]).unwrap();
    assert_eq!(keys(&load(disk.kill()).unwrap()), ["stale".into()], "nobody has waited for it");
    store.purge_stale(&["stale".into()], asked).unwrap();
    assert!(keys(&load(disk.power_loss()).unwrap()).is_empty());
}

#[test]
fn purging_can_be_called_again_after_a_full_disk() {
    let disk = SimStore::new(Profile::Ext4, 1);
    let store = load(disk.clone()).unwrap();
    let names: Vec<_> = (0..400).map(|number| format!("{number:03} {}", "k".repeat(200))).collect();
    names.iter().for_each(|key| store.put(key, token("1"), b"").unwrap());
    let asked = store.mark();
    let stale = store.stale(&listing(&[]), asked).unwrap();
    disk.set_capacity(Some(disk.bytes()));
    let full = store.purge_stale(&stale, asked).unwrap_err();
    assert!(full.is_retryable(), "{full}");
    let after = disk.kill();
    after.set_capacity(None);
    assert_eq!(load(after).unwrap().view().unwrap().len(), names.len(), "none was purged");
    disk.set_capacity(None);
    store.purge_stale(&stale, asked).unwrap();
    assert!(load(disk.kill()).unwrap().view().unwrap().is_empty());
}
