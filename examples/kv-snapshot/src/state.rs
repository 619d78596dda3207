//! [`State`]: what all changes amount to, and its image.
//!
//! The state is a fold: it depends on nothing but the changes and their order, so that replaying a
//! log makes the state that its writers saw.
//!
//! An image is the shortest log that leads to the state: the cursor, if there is one, and a put for
//! each entry in the order of their keys, each as a record with its length before it. It holds no
//! time, no LSN and nothing else of how the state came about, so that equal states have equal
//! bytes.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Arc;

use cohort_wal::{Lsn, WalError};

use crate::error::{Error, Result};
use crate::record::{Change, Key, Token, encode_cursor, encode_put, push_field, read_len};

/// An entry of the state.
#[derive(Debug, Clone)]
pub struct Entry {
    token: Token,
    value: Vec<u8>,
    /// The record that put it; zero for one that came out of an image.
    since: Lsn,
}

impl Entry {
    /// Its version.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// What it holds.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.value
    }
}

/// Equal whenever they were put.
impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (&self.token, &self.value) == (&other.token, &other.value)
    }
}

impl Eq for Entry {}

/// The live entries and the last cursor.
///
/// A clone shares keys and values with its original.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    entries: BTreeMap<Key, Arc<Entry>>,
    cursor: Option<Vec<u8>>,
}

impl State {
    /// The entry with this key.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.entries.get(key)
    }

    /// All entries, in the order of their keys.
    pub fn entries(&self) -> impl Iterator<Item = (&Key, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key, &**entry))
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True without entries; there may be a cursor.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The last cursor.
    #[must_use]
    pub fn cursor(&self) -> Option<&[u8]> {
        self.cursor.as_deref()
    }

    /// Applies a change, which is the record at `lsn`.
    pub fn apply(&mut self, lsn: Lsn, change: Change) {
        match change {
            Change::Put { key, token, value } => {
                self.entries.insert(key, Arc::new(Entry { token, value, since: lsn }));
            }
            Change::Delete { key, token } => {
                if self.entries.get(&key).is_some_and(|entry| entry.token == token) {
                    self.entries.remove(&key);
                }
            }
            Change::Purge { key } => {
                self.entries.remove(&key);
            }
            Change::Cursor { cursor } => self.cursor = Some(cursor),
        }
    }

    /// The keys that `listing` does not have, or has in another version; entries that were put at
    /// `asked` or later are newer than the listing and not among them.
    #[must_use]
    pub fn stale(&self, listing: &BTreeMap<String, Token>, asked: Lsn) -> Vec<Key> {
        let stale = self.entries.iter().filter(|(key, entry)| {
            entry.since < asked && listing.get(&***key) != Some(&entry.token)
        });
        stale.map(|(key, _)| Key::clone(key)).collect()
    }

    /// Whether an entry is there and was put before `asked`.
    pub(crate) fn has_since_before(&self, key: &str, asked: Lsn) -> bool {
        self.entries.get(key).is_some_and(|entry| entry.since < asked)
    }

    /// Writes the image of the state.
    ///
    /// # Errors
    /// Those of `out`.
    pub fn write_image(&self, out: &mut dyn Write) -> io::Result<()> {
        let cursor = self.cursor.iter().map(|cursor| encode_cursor(cursor));
        let entries = self.entries.iter();
        let puts = entries.map(|(key, entry)| encode_put(key, &entry.token, &entry.value));
        let mut framed = Vec::new();
        for record in cursor.chain(puts) {
            framed.clear();
            push_field(&mut framed, &record);
            out.write_all(&framed)?;
        }
        Ok(())
    }

    /// Reads the image of the snapshot at `lsn`.
    ///
    /// # Errors
    /// [`Error::Wal`] when it can not be read; otherwise as [`Change::decode`].
    pub fn read_image(lsn: Lsn, from: impl Read) -> Result<Self> {
        let mut from = io::BufReader::new(from);
        let mut state = Self::default();
        while !io::BufRead::fill_buf(&mut from).map_err(|e| unreadable(lsn, e))?.is_empty() {
            let len = read_len(&mut from).map_err(|e| unreadable(lsn, e))?;
            let mut record = Vec::new();
            // Grows with what is there, whatever the length claims.
            from.by_ref().take(len).read_to_end(&mut record).map_err(|e| unreadable(lsn, e))?;
            if record.len() as u64 != len {
                return Err(Error::Malformed { lsn });
            }
            state.apply(Lsn::default(), Change::decode(lsn, &record)?);
        }
        Ok(state)
    }
}

/// Why an image ended early: what the log says about it, or that it is not one of ours.
fn unreadable(lsn: Lsn, error: io::Error) -> Error {
    let said = error.get_ref().and_then(|inner| inner.downcast_ref::<WalError>());
    said.map_or(Error::Malformed { lsn }, |said| Error::Wal(said.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, token: &str, value: &str) -> Change {
        let token = Token::new(token.as_bytes()).unwrap();
        Change::Put { key: key.into(), token, value: value.into() }
    }

    fn delete(key: &str, token: &str) -> Change {
        Change::Delete { key: key.into(), token: Token::new(token.as_bytes()).unwrap() }
    }

    fn fold(changes: impl IntoIterator<Item = Change>) -> State {
        let mut state = State::default();
        (1..).zip(changes).for_each(|(at, change)| state.apply(Lsn::new(at * 8), change));
        state
    }

    fn image(state: &State) -> Vec<u8> {
        let mut bytes = Vec::new();
        state.write_image(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn equal_states_have_equal_images_along_different_histories() {
        let cursor = |text: &str| Change::Cursor { cursor: text.into() };
        let short = fold([put("a", "1", "x"), put("b", "2", "y"), cursor("end")]);
        let long = fold([
            cursor("begin"),
            put("c", "9", "gone"),
            put("b", "0", "old"),
            cursor("end"),
            put("a", "1", "x"),
            Change::Purge { key: "c".into() },
            delete("b", "0"),
            put("b", "2", "y"),
            delete("b", "0"),
        ]);
        assert_eq!(short, long);
        assert_eq!(image(&short), image(&long));
        let other = fold([put("a", "1", "x"), put("b", "3", "y"), cursor("end")]);
        assert_ne!(image(&short), image(&other));
        for state in [short, fold([cursor("alone")]), State::default()] {
            let bytes = image(&state);
            assert_eq!(State::read_image(Lsn::new(8), &bytes[..]).unwrap(), state);
            for len in (1..bytes.len()).filter(|len| bytes[..*len].ends_with(b"x")) {
                assert_eq!(State::read_image(Lsn::new(8), &bytes[..len]).unwrap().len(), 1);
                let torn = State::read_image(Lsn::new(8), &bytes[..len - 1]);
                assert!(matches!(torn, Err(Error::Malformed { .. })), "{torn:?}");
            }
        }
    }

    #[test]
    fn a_delete_of_another_version_changes_nothing() {
        let state = fold([put("a", "2", "new"), delete("a", "1"), delete("b", "1")]);
        assert_eq!(state, fold([put("a", "2", "new")]));
        assert!(fold([put("a", "2", "new"), delete("a", "2")]).is_empty());
    }

    #[test]
    fn stale_is_what_a_listing_lacks_or_has_in_another_version_and_nothing_newer() {
        let mut state = fold([put("gone", "1", ""), put("kept", "1", ""), put("moved", "1", "")]);
        let asked = Lsn::new(1000);
        state.apply(asked, put("newer", "1", ""));
        let token = |text: &str| Token::new(text.as_bytes()).unwrap();
        let listing = [("kept", "1"), ("moved", "2"), ("unheard of", "1")];
        let listing = listing.map(|(key, version)| (key.to_owned(), token(version))).into();
        assert_eq!(state.stale(&listing, asked), ["gone".into(), "moved".into()]);
        assert_eq!(state.stale(&listing, Lsn::new(1008)).len(), 3);
    }
}
