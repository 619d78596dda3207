//! Syncs that fail, writes that lie, and crashes.

use super::*;

fn fail_sync(disk: &SimStore, file: &SimFile) {
    disk.inject(SimFault::new(SimFaultKind::Error(io::ErrorKind::Other)).on(SimCall::Sync));
    assert!(file.sync().is_err());
}

/// The one state that a power loss can leave.
fn certain(disk: &SimStore) -> Vec<u8> {
    let states = losses(disk);
    assert_eq!(states.len(), 1, "nothing is open");
    states.into_iter().next().unwrap()
}

#[test]
fn after_a_failed_sync_the_next_one_succeeds_and_writes_nothing() {
    for profile in Profile::ALL {
        let (disk, file) = disk(profile, &[7; 64 << 10]);
        file.write_at(0, &[1; 64 << 10]).unwrap();
        fail_sync(&disk, &file);
        assert!(!disk.has_pending(), "{profile:?}");
        let device = certain(&disk);
        assert!(device.contains(&7) && device.contains(&1), "a part of it is there, {profile:?}");
        // btrfs shows what the device has, at once; the others only once the cache lets go.
        let reverts = profile == Profile::Btrfs;
        assert_eq!(f(&disk) == device, reverts, "{profile:?}");
        assert_eq!(f(&disk) == [1; 64 << 10], !reverts, "{profile:?}");
        file.sync().unwrap();
        assert_eq!(certain(&disk), device, "{profile:?}");
        disk.evict();
        assert_eq!(f(&disk), device, "{profile:?}");
    }
}

#[test]
fn writing_the_same_bytes_again_repairs_what_a_failed_sync_left() {
    let (disk, file) = disk(Profile::Ext4, &[7; 8192]);
    file.write_at(0, &[1; 8192]).unwrap();
    fail_sync(&disk, &file);
    // A page goes out as a whole, so one byte of it is enough; the other page stays as it is.
    let device = certain(&disk);
    file.write_at(9, &[1]).unwrap();
    file.sync().unwrap();
    let repaired = certain(&disk);
    assert_eq!((&repaired[..4096], &repaired[4096..]), (&[1; 4096][..], &device[4096..]));
    file.write_at(4096, &[1; 4096]).unwrap();
    file.sync().unwrap();
    assert_eq!(certain(&disk), [1; 8192]);
}

#[test]
fn a_sync_covers_only_what_was_written_before_it_began() {
    let (disk, file) = disk(Profile::Ext4, &[7; 2]);
    file.write_at(0, &[1]).unwrap();
    {
        let mut state = disk.0.lock();
        let mark = state.disk.mark(file.id);
        state.disk.write(file.id, 1, &[2], Landing::Faithful).unwrap();
        state.disk.sync(file.id, mark).unwrap();
    }
    assert_eq!(losses(&disk), [vec![1, 7], vec![1, 2]].into());
    file.sync().unwrap();
    assert_eq!(certain(&disk), [1, 2]);
}

#[test]
fn a_lost_write_is_read_back_until_the_cache_lets_go() {
    let (disk, file) = disk(Profile::Xfs, &[7; 512]);
    disk.inject(SimFault::new(SimFaultKind::Lose).on(SimCall::Write));
    file.write_at(0, &[1; 512]).unwrap();
    file.sync().unwrap();
    assert_eq!((f(&disk), certain(&disk)), (vec![1; 512], vec![7; 512]));
    disk.evict();
    assert_eq!(f(&disk), [7; 512]);
}

#[test]
fn a_lost_sync_leaves_nothing_to_write() {
    let (disk, file) = disk(Profile::Xfs, &[7; 512]);
    file.write_at(0, &[1; 512]).unwrap();
    disk.inject(SimFault::new(SimFaultKind::Lose).on(SimCall::Sync));
    file.sync().unwrap();
    file.sync().unwrap();
    assert_eq!((f(&disk), certain(&disk)), (vec![1; 512], vec![7; 512]));
}

#[test]
fn a_flipped_write_differs_in_one_bit_on_the_device() {
    let (disk, file) = disk(Profile::Ext4, &[0; 512]);
    disk.inject(SimFault::new(SimFaultKind::Flip).on(SimCall::Write));
    file.write_at(0, &[0; 512]).unwrap();
    file.sync().unwrap();
    let ones: u32 = certain(&disk).iter().map(|byte| byte.count_ones()).sum();
    assert_eq!((ones, f(&disk)), (1, vec![0; 512]));
}

#[test]
fn a_misdirected_write_lands_on_another_sector_and_not_on_its_own() {
    let (disk, file) = disk(Profile::Ext4, &[0; 64 << 10]);
    disk.inject(SimFault::new(SimFaultKind::Misdirect).on(SimCall::Write));
    file.write_at(512, &[1; 512]).unwrap();
    file.sync().unwrap();
    let device = certain(&disk);
    let at = device.iter().position(|byte| *byte == 1).unwrap();
    assert!(at.is_multiple_of(512) && device[at..at + 512] == [1; 512]);
    assert_eq!(device.iter().filter(|byte| **byte == 1).count(), 512);
    assert_eq!(f(&disk)[512..1024], [1; 512]);
}

#[test]
fn a_crash_frees_locks_and_cuts_old_handles_off() {
    for power in [false, true] {
        let (disk, file) = disk(Profile::Ext4, b"old");
        assert!(disk.lock(&file).unwrap());
        file.write_at(0, b"new").unwrap();
        let next = if power { disk.power_loss() } else { disk.kill() };
        let there = f(&next);
        assert!(there == b"new" || power && there == b"old");
        let handle = next.open("f").unwrap();
        assert!(next.lock(&handle).unwrap());
        file.write_at(0, b"???").unwrap();
        file.sync().unwrap();
        assert_eq!(f(&next), there);
    }
}

#[test]
fn what_was_synced_is_in_every_state() {
    for profile in Profile::ALL {
        let (disk, file) = disk(profile, b"");
        file.write_at(0, &[1; 3000]).unwrap();
        file.sync().unwrap();
        file.write_at(3000, &[2; 3000]).unwrap();
        file.set_len(7000).unwrap();
        for state in disk.power_losses(500) {
            assert_eq!(f(&state)[..3000], [1; 3000], "{profile:?}");
        }
    }
}

#[test]
fn files_without_a_name_are_left_behind_by_a_death_and_swept() {
    let (disk, _) = disk(Profile::Ext4, b"");
    let unpublished = disk.create(0).unwrap();
    unpublished.write_at(0, b"half").unwrap();
    assert_eq!(disk.unpublished(), 1);
    let next = disk.kill();
    assert_eq!((next.unpublished(), next.sweep().unwrap(), next.unpublished()), (1, 1, 0));
    assert_eq!(next.list().unwrap(), ["f"]);
}
