//! `Serialize` implementations that fail, panic and call the log harm nothing.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cohort_wal::WalError;
use serde::ser::{Error as _, SerializeTuple};
use serde::{Serialize, Serializer};

use super::common::{deadline, read_all};
use super::{only, open};

/// Encodes a kilobyte, and then does as it is told.
struct Acting<F>(F);

impl<F: Fn() -> Result<u8, &'static str>> Serialize for Acting<F> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut tuple = serializer.serialize_tuple(2)?;
        tuple.serialize_element(&[[0xAA_u8; 32]; 32])?;
        tuple.serialize_element(&(self.0)().map_err(S::Error::custom)?)?;
        tuple.end()
    }
}

/// A sequence of unknown length.
struct Endless;

impl Serialize for Endless {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq((0..9).filter(|number| number % 2 == 0))
    }
}

#[derive(Serialize)]
struct Flat {
    #[serde(flatten)]
    fields: BTreeMap<String, u8>,
}

/// Has no text.
struct Mute;

impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        Err(fmt::Error)
    }
}

impl Serialize for Mute {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[test]
fn a_value_without_an_encoding_is_refused_and_nothing_is_appended() {
    let wal = open();
    let refusals = [
        (wal.append_typed(&Acting(|| Err("secret"))), "Serialize implementation"),
        (wal.append_typed_and_sync(&Acting(|| Err("secret"))), "Serialize implementation"),
        (wal.append_typed(&Endless), "length"),
        (wal.append_typed(&Flat { fields: BTreeMap::new() }), "length"),
        (wal.append_typed(&Mute), "Display implementation"),
    ];
    for (refused, word) in refusals {
        let error = refused.unwrap_err();
        assert!(matches!(&error, WalError::Encode { why } if why.contains(word)), "{error:?}");
        assert!(!format!("{error} {error:?}").contains("secret"));
    }
    assert!(wal.is_empty() && wal.stats().appends == 0);
    wal.append_typed(&1_u8).unwrap();
    assert_eq!(only(&wal).data(), [1]);
}

#[test]
fn a_value_that_panics_leaves_the_log_as_it_was() {
    let wal = open();
    for _ in 0..3 {
        let acting = Acting(|| panic!("on purpose"));
        catch_unwind(AssertUnwindSafe(|| wal.append_typed(&acting))).unwrap_err();
    }
    assert!(wal.is_empty() && wal.stats().appends == 0);
    wal.append_typed_and_sync("after").unwrap();
    assert_eq!(only(&wal).decode::<String>().unwrap(), "after");
    wal.close().unwrap();
}

#[test]
fn what_a_value_appends_while_it_is_encoded_comes_before_it() {
    let wal = Arc::new(open());
    deadline(move || {
        let depth = Cell::new(0);
        let inner = Acting(|| {
            wal.append(b"innermost").unwrap();
            Ok(depth.replace(depth.get() + 1))
        });
        let outer = Acting(|| {
            wal.append_typed_and_sync(&inner).unwrap();
            wal.append_batch(&["a", "batch"]).unwrap();
            Ok(7)
        });
        wal.append_typed(&outer).unwrap();
        let acted = |last| [&[0xAA; 1024][..], &[last]].concat();
        let expected =
            [b"innermost".to_vec(), acted(0), b"a".to_vec(), b"batch".to_vec(), acted(7)];
        assert_eq!(read_all(&wal), expected);
    });
}
