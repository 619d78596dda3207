//! What each profile allows a power loss to leave, counted; and how calls fail and lie.

mod faults;

use std::collections::BTreeSet;

use super::*;
use crate::store::{StoreFile, WalStore};

/// A disk with a file `f` of these bytes, all durable.
fn disk(profile: Profile, bytes: &[u8]) -> (SimStore, SimFile) {
    let files = [("f".to_owned(), bytes.to_vec())].into_iter().collect();
    let disk = SimStore::from_snapshot(files, profile, 1);
    let file = disk.open("f").unwrap();
    (disk, file)
}

fn f(disk: &SimStore) -> Vec<u8> {
    disk.snapshot().files()["f"].clone()
}

/// All that `f` may be when the power goes now; every state there is, each counted once.
fn losses(disk: &SimStore) -> BTreeSet<Vec<u8>> {
    let losses = disk.power_losses(10_000);
    assert!(losses.is_exhaustive());
    let count = losses.len();
    let states: BTreeSet<_> = losses.map(|state| f(&state)).collect();
    assert_eq!(states.len() as u64, count, "each state is counted once");
    states
}

fn count(profile: Profile, durable: &[u8], writes: &[(u64, &[u8])]) -> u64 {
    let (disk, file) = disk(profile, durable);
    writes.iter().for_each(|(offset, bytes)| file.write_at(*offset, bytes).unwrap());
    losses(&disk).len() as u64
}

#[test]
fn every_profile_has_the_states_it_says_for_a_file_that_grows() {
    let states = |profile| count(profile, &[], &[(0, &[1; 1024])]);
    // Nothing, or all of it: a new length comes after the bytes it covers.
    assert_eq!([Profile::Ext4, Profile::Xfs, Profile::Btrfs].map(states), [2; 3]);
    // Nothing; or 1024 bytes, each of the two sectors new or zeros.
    assert_eq!(states(Profile::Ext4NoJournal), 1 + 2 * 2);
    // A sector may also be torn at its second byte, its middle and its last byte, either way.
    assert_eq!(states(Profile::PosixMinimal), 1 + 8 * 8);
    // Or hold noise; what is valid elsewhere is what is valid here.
    assert_eq!(states(Profile::Hostile), 1 + 9 * 9);
}

#[test]
fn every_profile_has_the_states_it_says_for_bytes_that_are_overwritten() {
    let states = |profile| count(profile, &[7; 8192], &[(0, &[1; 4096])]);
    assert_eq!([Profile::Ext4, Profile::Ext4NoJournal, Profile::Xfs].map(states), [1 << 8; 3]);
    assert_eq!(states(Profile::Btrfs), 2);
    let twice = |profile| count(profile, &[7; 512], &[(0, &[1; 512]), (0, &[2; 512])]);
    assert_eq!([Profile::Ext4, Profile::Xfs, Profile::Ext4NoJournal].map(twice), [3; 3]);
    assert_eq!(count(Profile::PosixMinimal, &[7; 8], &[(0, &[1; 8])]), 2 + 6);
}

#[test]
fn a_sector_that_the_end_cuts_counts_once_for_each_length() {
    // The old hundred bytes; or two hundred.
    assert_eq!(count(Profile::Ext4, &[7; 100], &[(100, &[1; 100])]), 2);
    // The new hundred may be missing, and then they are zeros.
    assert_eq!(count(Profile::Ext4NoJournal, &[7; 100], &[(100, &[1; 100])]), 3);
}

#[test]
fn names_become_durable_in_order_or_in_any_order() {
    for (profile, expected) in [(Profile::Xfs, 3), (Profile::Ext4NoJournal, 4)] {
        let (disk, file) = disk(profile, b"x");
        drop(file);
        let file = disk.create(0).unwrap();
        disk.publish(&file, "g").unwrap();
        disk.remove("f").unwrap();
        disk.remove("g").unwrap();
        let losses = disk.power_losses(100);
        assert!(losses.is_exhaustive());
        let names: Vec<_> = losses.map(|state| state.list().unwrap()).collect();
        assert_eq!(names.len(), expected, "{profile:?}");
        assert_eq!(names[0], ["f", "g"]);
        assert_eq!(names.contains(&vec!["f".to_owned()]), profile == Profile::Ext4NoJournal);
        assert!(names.contains(&vec!["g".to_owned()]) && names.contains(&Vec::new()));
        disk.sync_names().unwrap();
        assert!(disk.power_losses(100).all(|state| state.list().unwrap().is_empty()));
    }
}

#[test]
fn a_published_name_is_durable_and_what_is_in_the_file_is_not() {
    for profile in Profile::ALL {
        let (disk, _) = disk(profile, b"");
        let file = disk.create(0).unwrap();
        file.write_at(0, b"abc").unwrap();
        disk.publish(&file, "g").unwrap();
        let contents: BTreeSet<_> =
            disk.power_losses(100).map(|state| state.snapshot().files()["g"].clone()).collect();
        assert!(contents.contains(b"".as_slice()) && contents.contains(b"abc".as_slice()));
        file.sync().unwrap();
        let contents = disk.power_losses(100).map(|state| state.snapshot().files()["g"].clone());
        assert_eq!(contents.collect::<Vec<_>>(), [b"abc"], "{profile:?}");
    }
}

#[test]
fn a_new_place_is_lost_with_all_that_is_in_it_until_it_is_synced() {
    for profile in Profile::ALL {
        let disk = SimStore::new(profile, 1);
        let file = disk.create(0).unwrap();
        file.write_at(0, b"abc").unwrap();
        file.sync().unwrap();
        disk.publish(&file, "f").unwrap();
        let empty = |state: SimStore| state.list().unwrap().is_empty();
        assert_eq!(disk.power_losses(100).filter(|s| empty(s.clone())).count(), 1, "{profile:?}");
        disk.sync_place().unwrap();
        assert!(!disk.power_losses(100).any(empty), "{profile:?}");
    }
}

#[test]
fn state_zero_keeps_nothing_and_numbers_are_stable() {
    for (profile, limit) in Profile::ALL.into_iter().flat_map(|p| [(p, 4), (p, 1000)]) {
        let (disk, file) = disk(profile, &[7; 2048]);
        file.write_at(0, &[1; 700]).unwrap();
        file.write_at(1000, &[2; 1500]).unwrap();
        let first = disk.power_losses(limit);
        let prints: Vec<_> = (0..40).map(|number| first.state(number).fingerprint()).collect();
        let again = disk.power_losses(limit);
        let same: Vec<_> = (0..40).map(|number| again.state(number).fingerprint()).collect();
        assert_eq!(prints, same, "{profile:?} {limit}");
        assert_eq!(f(&first.state(0)), [7; 2048], "{profile:?} {limit}");
        assert_eq!(first.len(), first.count() as u64);
    }
}

#[test]
fn sectors_tear_only_where_they_may() {
    for profile in Profile::ALL {
        let (disk, file) = disk(profile, &[7; 512]);
        file.write_at(0, &[1; 512]).unwrap();
        let torn = |bytes: &Vec<u8>| bytes.contains(&7) && bytes.contains(&1);
        let tears = matches!(profile, Profile::PosixMinimal | Profile::Hostile);
        assert_eq!(losses(&disk).iter().any(torn), tears, "{profile:?}");
    }
}

#[test]
fn garbage_is_only_where_something_was_written() {
    for profile in Profile::ALL {
        let (disk, file) = disk(profile, &[7; 512]);
        file.write_at(100, &[1; 8]).unwrap();
        let states = losses(&disk);
        let outside = |bytes: &Vec<u8>| bytes[..100].iter().chain(&bytes[108..]).all(|b| *b == 7);
        assert!(states.iter().all(outside), "{profile:?}");
        let garbage = |bytes: &Vec<u8>| bytes.iter().any(|byte| ![1, 7].contains(byte));
        assert_eq!(states.iter().any(garbage), profile == Profile::Hostile, "{profile:?}");
    }
}

#[test]
fn a_hostile_disk_shows_what_a_file_that_is_gone_has_left() {
    for profile in Profile::ALL {
        let (disk, file) = disk(profile, &[7; 512]);
        disk.remove("f").unwrap();
        drop(file);
        disk.sync_names().unwrap();
        // Gone while it had a handle or not, and through a crash.
        let disk = disk.kill();
        let file = disk.create(0).unwrap();
        disk.publish(&file, "f").unwrap();
        file.write_at(0, &[1; 512]).unwrap();
        let stale = losses(&disk).contains(&vec![7; 512]);
        assert_eq!(stale, profile == Profile::Hostile, "{profile:?}");
        file.sync().unwrap();
        assert_eq!(losses(&disk), [vec![1; 512]].into(), "{profile:?}");
    }
}
