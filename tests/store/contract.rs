//! What every store promises.

use std::io::{self, ErrorKind};

use cohort_wal::{StoreFile, WalStore};

use super::{contents, failure, publish};

macro_rules! contract {
    ($($promise:ident)*) => {
        mod file_store {
            $(#[test]
            fn $promise() -> std::io::Result<()> {
                let dir = tempfile::tempdir()?;
                super::$promise(&cohort_wal::FileStore::open(dir.path().join("log"))?)
            })*
        }
        mod mem_store {
            $(#[test]
            fn $promise() -> std::io::Result<()> {
                super::$promise(&cohort_wal::MemStore::new())
            })*
        }
        #[cfg(feature = "sim")]
        mod sim_store {
            $(#[test]
            fn $promise() -> std::io::Result<()> {
                for profile in cohort_wal::sim::Profile::ALL {
                    super::$promise(&cohort_wal::SimStore::new(profile, 1))?;
                }
                Ok(())
            })*
        }
    };
}

contract! {
    a_new_store_is_empty
    an_unpublished_file_has_no_name_and_is_swept
    dropping_an_unpublished_file_discards_it
    publish_gives_a_file_its_name_and_keeps_the_handle
    a_published_file_outlives_its_handle
    publish_never_replaces_a_file
    a_file_refused_one_name_can_get_another
    a_file_gets_one_name_only
    opening_a_missing_file_is_not_found
    removing_a_missing_file_is_not_found
    names_that_lead_elsewhere_are_refused
    a_removed_file_stays_readable_through_open_handles
    a_removed_name_is_free_again
    the_lock_excludes_a_second_handle_and_ends_with_it
    unlock_gives_the_lock_back
    a_handle_without_the_lock_cannot_give_it_back
    the_lock_of_one_file_leaves_others_free
    a_new_file_under_an_old_name_is_not_locked
    syncing_names_and_place_changes_no_name
    sweep_leaves_published_files_alone
    locate_joins_the_name_to_the_place
    a_write_grows_the_file_and_the_gap_reads_as_zeros
    a_write_changes_its_own_range_only
    an_empty_write_changes_nothing
    a_write_is_visible_through_every_handle_at_once
    concurrent_writes_to_disjoint_ranges_all_arrive
    a_read_is_short_only_at_the_end
    reading_at_or_past_the_end_returns_zero
    cut_bytes_read_as_zeros_when_the_file_grows_again
    sync_keeps_bytes_and_length
}

fn sorted_names(store: &impl WalStore) -> io::Result<Vec<String>> {
    let mut names = store.list()?;
    names.sort();
    Ok(names)
}

fn a_new_store_is_empty<S: WalStore>(store: &S) -> io::Result<()> {
    assert!(store.list()?.is_empty());
    let file = store.create(4096)?;
    assert!(file.is_empty()?, "the size given to create is a hint");
    Ok(())
}

fn an_unpublished_file_has_no_name_and_is_swept<S: WalStore>(store: &S) -> io::Result<()> {
    // A leaked handle never runs its destructor, as in a crash.
    let file = Box::leak(Box::new(store.create(0)?));
    file.write_at(0, b"half")?;
    assert!(store.list()?.is_empty());
    store.sweep()?;
    assert!(store.list()?.is_empty());
    assert_eq!(store.sweep()?, 0, "one sweep removes everything");
    Ok(())
}

fn dropping_an_unpublished_file_discards_it<S: WalStore>(store: &S) -> io::Result<()> {
    drop(store.create(0)?);
    assert_eq!(store.sweep()?, 0);
    assert!(store.list()?.is_empty());
    Ok(())
}

fn publish_gives_a_file_its_name_and_keeps_the_handle<S: WalStore>(store: &S) -> io::Result<()> {
    let file = publish(store, "a", b"one")?;
    assert_eq!(store.list()?, ["a"]);
    assert_eq!(contents(&store.open("a")?)?, b"one");
    file.write_at(3, b", two")?;
    assert_eq!(contents(&store.open("a")?)?, b"one, two");
    Ok(())
}

fn a_published_file_outlives_its_handle<S: WalStore>(store: &S) -> io::Result<()> {
    drop(publish(store, "a", b"one")?);
    assert_eq!(contents(&store.open("a")?)?, b"one");
    Ok(())
}

fn publish_never_replaces_a_file<S: WalStore>(store: &S) -> io::Result<()> {
    publish(store, "a", b"old")?;
    assert_eq!(failure(publish(store, "a", b"new")), Some(ErrorKind::AlreadyExists));
    assert_eq!(contents(&store.open("a")?)?, b"old");
    assert_eq!(store.list()?, ["a"]);
    assert_eq!(store.sweep()?, 0, "the refused file is discarded with its handle");
    Ok(())
}

fn a_file_refused_one_name_can_get_another<S: WalStore>(store: &S) -> io::Result<()> {
    publish(store, "a", b"old")?;
    let file = store.create(0)?;
    file.write_at(0, b"new")?;
    assert_eq!(failure(store.publish(&file, "a")), Some(ErrorKind::AlreadyExists));
    store.publish(&file, "b")?;
    assert_eq!(contents(&store.open("b")?)?, b"new");
    Ok(())
}

fn a_file_gets_one_name_only<S: WalStore>(store: &S) -> io::Result<()> {
    let file = publish(store, "a", b"one")?;
    assert_eq!(failure(store.publish(&file, "b")), Some(ErrorKind::InvalidInput));
    assert_eq!(failure(store.publish(&store.open("a")?, "b")), Some(ErrorKind::InvalidInput));
    assert_eq!(store.list()?, ["a"]);
    Ok(())
}

fn opening_a_missing_file_is_not_found<S: WalStore>(store: &S) -> io::Result<()> {
    assert_eq!(failure(store.open("a")), Some(ErrorKind::NotFound));
    assert!(store.list()?.is_empty(), "opening creates nothing");
    Ok(())
}

fn removing_a_missing_file_is_not_found<S: WalStore>(store: &S) -> io::Result<()> {
    assert_eq!(failure(store.remove("a")), Some(ErrorKind::NotFound));
    Ok(())
}

fn names_that_lead_elsewhere_are_refused<S: WalStore>(store: &S) -> io::Result<()> {
    let leftover = format!(".cohort-{:032x}.tmp", 7);
    for name in ["", ".", "..", "../a", "a/b", "/a", "a\\b", "c:a", "a\0b", leftover.as_str()] {
        let refused = Some(ErrorKind::InvalidInput);
        assert_eq!(failure(store.open(name)), refused, "open {name:?}");
        assert_eq!(failure(store.remove(name)), refused, "remove {name:?}");
        assert_eq!(failure(publish(store, name, b"")), refused, "publish {name:?}");
    }
    Ok(())
}

fn a_removed_file_stays_readable_through_open_handles<S: WalStore>(store: &S) -> io::Result<()> {
    let maker = publish(store, "a", b"one")?;
    let reader = store.open("a")?;
    store.remove("a")?;
    assert!(store.list()?.is_empty());
    assert_eq!(failure(store.open("a")), Some(ErrorKind::NotFound));
    assert_eq!(contents(&reader)?, b"one");
    drop(maker);
    assert_eq!(contents(&reader)?, b"one");
    Ok(())
}

fn a_removed_name_is_free_again<S: WalStore>(store: &S) -> io::Result<()> {
    let old = publish(store, "a", b"old")?;
    store.remove("a")?;
    publish(store, "a", b"new")?;
    assert_eq!(contents(&store.open("a")?)?, b"new");
    assert_eq!(contents(&old)?, b"old");
    Ok(())
}

fn the_lock_excludes_a_second_handle_and_ends_with_it<S: WalStore>(store: &S) -> io::Result<()> {
    let first = publish(store, "a", b"")?;
    let second = store.open("a")?;
    assert!(store.lock(&first)?);
    assert!(!store.lock(&second)?);
    assert!(!store.lock(&second)?, "asking again does not help");
    drop(first);
    assert!(store.lock(&second)?);
    Ok(())
}

fn unlock_gives_the_lock_back<S: WalStore>(store: &S) -> io::Result<()> {
    let first = publish(store, "a", b"")?;
    let second = store.open("a")?;
    assert!(store.lock(&first)?);
    store.unlock(&first)?;
    assert!(store.lock(&second)?);
    assert!(!store.lock(&first)?);
    Ok(())
}

fn a_handle_without_the_lock_cannot_give_it_back<S: WalStore>(store: &S) -> io::Result<()> {
    let first = publish(store, "a", b"")?;
    let second = store.open("a")?;
    assert!(store.lock(&first)?);
    assert!(!store.lock(&second)?);
    drop(second);
    assert!(!store.lock(&store.open("a")?)?);
    Ok(())
}

fn the_lock_of_one_file_leaves_others_free<S: WalStore>(store: &S) -> io::Result<()> {
    let a = publish(store, "a", b"")?;
    let b = publish(store, "b", b"")?;
    assert!(store.lock(&a)?);
    assert!(store.lock(&b)?);
    Ok(())
}

fn a_new_file_under_an_old_name_is_not_locked<S: WalStore>(store: &S) -> io::Result<()> {
    let old = publish(store, "a", b"")?;
    assert!(store.lock(&old)?);
    store.remove("a")?;
    let new = publish(store, "a", b"")?;
    assert!(store.lock(&new)?);
    Ok(())
}

fn syncing_names_and_place_changes_no_name<S: WalStore>(store: &S) -> io::Result<()> {
    publish(store, "a", b"one")?;
    let unpublished = store.create(0)?;
    store.sync_names()?;
    store.sync_place()?;
    assert_eq!(store.list()?, ["a"]);
    store.publish(&unpublished, "b")
}

fn sweep_leaves_published_files_alone<S: WalStore>(store: &S) -> io::Result<()> {
    publish(store, "a", b"one")?;
    publish(store, "b", b"two")?;
    assert_eq!(store.sweep()?, 0);
    assert_eq!(sorted_names(store)?, ["a", "b"]);
    assert_eq!(contents(&store.open("a")?)?, b"one");
    Ok(())
}

fn locate_joins_the_name_to_the_place<S: WalStore>(store: &S) -> io::Result<()> {
    let place = store.locate("");
    assert!(!place.to_string_lossy().ends_with('/'));
    assert_eq!(store.locate("a"), place.join("a"));
    Ok(())
}

fn a_write_grows_the_file_and_the_gap_reads_as_zeros<S: WalStore>(store: &S) -> io::Result<()> {
    let file = store.create(0)?;
    file.write_at(3, b"abc")?;
    assert_eq!(file.len()?, 6);
    assert_eq!(contents(&file)?, b"\0\0\0abc");
    Ok(())
}

fn a_write_changes_its_own_range_only<S: WalStore>(store: &S) -> io::Result<()> {
    let file = store.create(0)?;
    file.write_at(0, b"abcdef")?;
    file.write_at(2, b"XY")?;
    assert_eq!(contents(&file)?, b"abXYef");
    file.write_at(5, b"Z!")?;
    assert_eq!(contents(&file)?, b"abXYeZ!");
    Ok(())
}

fn an_empty_write_changes_nothing<S: WalStore>(store: &S) -> io::Result<()> {
    let file = store.create(0)?;
    file.write_at(9, b"")?;
    assert!(file.is_empty()?);
    Ok(())
}

fn a_write_is_visible_through_every_handle_at_once<S: WalStore>(store: &S) -> io::Result<()> {
    let first = publish(store, "a", b"one")?;
    let second = store.open("a")?;
    first.write_at(3, b" two")?;
    assert_eq!(contents(&second)?, b"one two");
    second.write_at(0, b"ONE")?;
    assert_eq!(contents(&first)?, b"ONE two");
    Ok(())
}

fn concurrent_writes_to_disjoint_ranges_all_arrive<S: WalStore>(store: &S) -> io::Result<()> {
    const BLOCK: usize = 1000;
    let file = store.create(0)?;
    std::thread::scope(|scope| {
        let writers = (0..8_u8).map(|i| {
            let file = &file;
            scope.spawn(move || file.write_at(u64::from(i) * 1000, &[i + 1; BLOCK]))
        });
        let writers: Vec<_> = writers.collect();
        for writer in writers {
            writer.join().map_err(|_| io::Error::other("a writer panicked"))??;
        }
        io::Result::Ok(())
    })?;
    let expected: Vec<u8> = (1..=8).flat_map(|i| [i; BLOCK]).collect();
    assert!(contents(&file)? == expected);
    Ok(())
}

fn a_read_is_short_only_at_the_end<S: WalStore>(store: &S) -> io::Result<()> {
    let file = store.create(0)?;
    file.write_at(0, b"abcdef")?;
    let mut bytes = [b'-'; 4];
    assert_eq!(file.read_at(1, &mut bytes)?, 4);
    assert_eq!(&bytes, b"bcde");
    bytes = [b'-'; 4];
    assert_eq!(file.read_at(4, &mut bytes)?, 2);
    assert_eq!(&bytes, b"ef--", "what was not read is left as it was");
    Ok(())
}

fn reading_at_or_past_the_end_returns_zero<S: WalStore>(store: &S) -> io::Result<()> {
    let file = store.create(0)?;
    file.write_at(0, b"abc")?;
    let mut bytes = [b'-'; 4];
    for offset in [3, 4, 1 << 40, i64::MAX.unsigned_abs() - 4] {
        assert_eq!(file.read_at(offset, &mut bytes)?, 0, "at {offset}");
    }
    assert_eq!(&bytes, b"----");
    assert_eq!(file.read_at(0, &mut [])?, 0);
    Ok(())
}

fn cut_bytes_read_as_zeros_when_the_file_grows_again<S: WalStore>(store: &S) -> io::Result<()> {
    let file = store.create(0)?;
    file.write_at(0, b"abcdef")?;
    file.set_len(2)?;
    assert_eq!(contents(&file)?, b"ab");
    file.set_len(5)?;
    assert_eq!(contents(&file)?, b"ab\0\0\0");
    Ok(())
}

fn sync_keeps_bytes_and_length<S: WalStore>(store: &S) -> io::Result<()> {
    let file = store.create(0)?;
    file.sync()?;
    file.write_at(0, b"abc")?;
    file.sync()?;
    assert_eq!(contents(&file)?, b"abc");
    Ok(())
}
