//! Logs of format 1 that were made once, and are read for ever: by the reader of its own that was
//! written from `docs/FORMAT.md`, and by the crate. What later versions may add changes nothing,
//! and what they must not read is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod common;
#[path = "golden/expected.rs"]
mod expected;
#[path = "common/faulty.rs"]
mod faulty;
#[path = "golden/fixed.rs"]
mod fixed;
#[path = "golden/forge.rs"]
mod forge;
#[path = "golden/forged.rs"]
mod forged;
#[path = "independent/mod.rs"]
mod independent;
#[cfg(all(feature = "lz4", feature = "aead"))]
#[path = "golden/make.rs"]
mod make;
#[path = "golden/versions.rs"]
mod versions;

use cohort_wal::{MemSnapshot, MemStore, WalOptions};

#[cfg(all(feature = "lz4", feature = "aead"))]
use expected::Said;
use independent::{Files, Keys};

/// A log, the features it needs, and what it says.
#[cfg(all(feature = "lz4", feature = "aead"))]
struct Fixture {
    name: &'static str,
    needs: &'static [&'static str],
    files: Files,
    said: Said,
}

/// The keys that the golden logs were made with: 32 bytes that count up, from 0 and from 32.
fn test_key(id: u32) -> Option<[u8; 32]> {
    let first = match id {
        1 => 0,
        2 => 32,
        _ => return None,
    };
    Some(std::array::from_fn(|nth| first + u8::try_from(nth).unwrap()))
}

fn test_keys() -> Keys {
    [1, 2].into_iter().map(|id| (id, test_key(id).unwrap())).collect()
}

fn store_of(files: &Files) -> MemStore {
    let mut snapshot = MemSnapshot::default();
    snapshot.files_mut().clone_from(files);
    MemStore::from_snapshot(snapshot)
}

/// Options for a log that needs these features.
fn options(needs: &[String]) -> WalOptions {
    let options = common::smallest();
    #[cfg(feature = "aead")]
    if needs.iter().any(|need| need == "aead") {
        use cohort_wal::{Key, KeyProvider};

        struct Ring;

        impl KeyProvider for Ring {
            fn active(&self) -> u32 {
                2
            }

            fn get(&self, id: u32) -> Option<Key> {
                test_key(id).map(Key::new)
            }
        }
        return options.encryption(std::sync::Arc::new(Ring));
    }
    let _unused = needs;
    options
}
