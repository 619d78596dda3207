//! [`Change`]: what one record of the log says, and its bytes.
//!
//! A record is one byte, its kind, and then its fields. A field is its length, in LEB128, and as
//! many bytes. The log knows where a record begins and ends and that its bytes are whole, so that
//! there is nothing to check here but the meaning.
//!
//! | kind | name | fields |
//! |---|---|---|
//! | 1 | put | key, token, value |
//! | 2 | delete | key, token |
//! | 3 | purge | key |
//! | 4 | cursor | cursor |

use std::fmt;
use std::io::{self, Read};
use std::sync::Arc;

use cohort_wal::Lsn;

use crate::error::{Error, Result};

/// The most bytes that a [`Token`] has.
pub const TOKEN_BYTES: usize = 10;

/// The name of an entry.
pub type Key = Arc<str>;

/// A version of an entry, as the outside world tells it: up to ten bytes that are compared for
/// equality and mean nothing else here.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Token(Box<[u8]>);

impl Token {
    /// A token of these bytes.
    ///
    /// # Errors
    /// [`Error::TokenTooLong`] for more than [`TOKEN_BYTES`]: a change with such a token can not
    /// even be made, let alone appended.
    pub fn new(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > TOKEN_BYTES {
            return Err(Error::TokenTooLong { len: bytes.len() });
        }
        Ok(Self(bytes.into()))
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// As text where it is printable, otherwise in hexadecimal digits.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match std::str::from_utf8(&self.0) {
            Ok(text) if !text.chars().any(char::is_control) => f.write_str(text),
            _ => self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}")),
        }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({self})")
    }
}

/// One change of the state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The entry is there, in this version, whatever was there before.
    Put {
        /// Its name.
        key: Key,
        /// Its version.
        token: Token,
        /// What it holds.
        value: Vec<u8>,
    },
    /// The outside world has deleted this version of the entry. Another version stays: a late
    /// message about an old version harms no new one.
    Delete {
        /// Its name.
        key: Key,
        /// The version that is gone.
        token: Token,
    },
    /// The entry is forgotten, in whatever version, because nothing vouches for it any more.
    Purge {
        /// Its name.
        key: Key,
    },
    /// The mirror has come this far.
    Cursor {
        /// Where the outside world goes on; opaque.
        cursor: Vec<u8>,
    },
}

const PUT: u8 = 1;
const DELETE: u8 = 2;
const PURGE: u8 = 3;
const CURSOR: u8 = 4;

impl Change {
    /// The record that says so.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Put { key, token, value } => encode_put(key, token, value),
            Self::Delete { key, token } => record(DELETE, &[key.as_bytes(), token.as_bytes()]),
            Self::Purge { key } => record(PURGE, &[key.as_bytes()]),
            Self::Cursor { cursor } => encode_cursor(cursor),
        }
    }

    /// What the record at `lsn` says.
    ///
    /// # Errors
    /// [`Error::UnknownKind`] and [`Error::Malformed`], with that LSN.
    pub fn decode(lsn: Lsn, record: &[u8]) -> Result<Self> {
        let (kind, mut fields) = record.split_first().ok_or(Error::Malformed { lsn })?;
        let change = match *kind {
            PUT => put(&mut fields),
            DELETE => delete(&mut fields),
            PURGE => key(&mut fields).map(|key| Self::Purge { key }),
            CURSOR => field(&mut fields).map(|cursor| Self::Cursor { cursor: cursor.to_vec() }),
            kind => return Err(Error::UnknownKind { lsn, kind }),
        };
        // A field too many is as foreign as one too few.
        change.filter(|_| fields.is_empty()).ok_or(Error::Malformed { lsn })
    }
}

pub(crate) fn encode_put(key: &str, token: &Token, value: &[u8]) -> Vec<u8> {
    record(PUT, &[key.as_bytes(), token.as_bytes(), value])
}

pub(crate) fn encode_cursor(cursor: &[u8]) -> Vec<u8> {
    record(CURSOR, &[cursor])
}

fn record(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = vec![kind];
    fields.iter().for_each(|field| push_field(&mut bytes, field));
    bytes
}

fn put(fields: &mut &[u8]) -> Option<Change> {
    let (key, token) = (key(fields)?, token(fields)?);
    Some(Change::Put { key, token, value: field(fields)?.to_vec() })
}

fn delete(fields: &mut &[u8]) -> Option<Change> {
    Some(Change::Delete { key: key(fields)?, token: token(fields)? })
}

fn key(fields: &mut &[u8]) -> Option<Key> {
    std::str::from_utf8(field(fields)?).ok().map(Key::from)
}

fn token(fields: &mut &[u8]) -> Option<Token> {
    Token::new(field(fields)?).ok()
}

fn field<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(read_len(from).ok()?).ok()?;
    let (field, rest) = from.split_at_checked(len)?;
    *from = rest;
    Some(field)
}

/// Appends a field: its length and its bytes.
pub(crate) fn push_field(out: &mut Vec<u8>, field: &[u8]) {
    let mut len = field.len() as u64;
    while len >= 0x80 {
        out.push(len.to_le_bytes()[0] | 0x80);
        len >>= 7;
    }
    out.push(len.to_le_bytes()[0]);
    out.extend_from_slice(field);
}

/// Reads the length of a field.
pub(crate) fn read_len(from: &mut impl Read) -> io::Result<u64> {
    let mut len = 0;
    for shift in (0..u64::BITS).step_by(7) {
        let mut byte = [0];
        from.read_exact(&mut byte)?;
        len |= u64::from(byte[0] & 0x7F) << shift;
        if byte[0] < 0x80 {
            return Ok(len);
        }
    }
    Err(io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Lsn = Lsn::new(4096);

    fn changes() -> Vec<Change> {
        let token = |bytes: &[u8]| Token::new(bytes).unwrap();
        let long: Key = "long ".repeat(100).into();
        vec![
            Change::Put { key: "a".into(), token: token(b""), value: Vec::new() },
            Change::Put { key: long, token: token(&[0xFF; 10]), value: vec![7; 20_000] },
            Change::Delete { key: "".into(), token: token(b"v1") },
            Change::Purge { key: "\u{e4}".into() },
            Change::Cursor { cursor: b"page 3".to_vec() },
        ]
    }

    #[test]
    fn a_record_says_what_was_encoded_and_no_part_of_it_says_anything() {
        for change in changes() {
            let record = change.encode();
            assert_eq!(Change::decode(AT, &record).unwrap(), change);
            for len in 0..record.len() {
                let part = Change::decode(AT, &record[..len]);
                assert!(matches!(part, Err(Error::Malformed { lsn: AT })), "{change:?} {len}");
            }
            let longer = [&record[..], &[0]].concat();
            assert!(matches!(Change::decode(AT, &longer), Err(Error::Malformed { lsn: AT })));
        }
    }

    #[test]
    fn records_have_the_bytes_that_the_table_says() {
        let token = Token::new(b"v7").unwrap();
        let put = Change::Put { key: "key".into(), token, value: b"x".to_vec() };
        assert_eq!(put.encode(), b"\x01\x03key\x02v7\x01x");
        assert_eq!(Change::Cursor { cursor: vec![9; 200] }.encode()[..4], [4, 0xC8, 1, 9]);
    }

    #[test]
    fn every_unknown_kind_is_named_with_its_lsn() {
        for kind in (0..=u8::MAX).filter(|kind| !(PUT..=CURSOR).contains(kind)) {
            let error = Change::decode(AT, &[kind, 1, 2]).unwrap_err();
            assert!(matches!(error, Error::UnknownKind { lsn: AT, kind: k } if k == kind));
            let text = error.to_string();
            assert!(text.contains("4096") && text.contains(&kind.to_string()), "{text}");
        }
    }

    #[test]
    fn tokens_have_at_most_ten_bytes_also_in_a_record() {
        assert_eq!(Token::new(b"0123456789").unwrap().as_bytes(), b"0123456789");
        assert!(matches!(Token::new(b"0123456789A"), Err(Error::TokenTooLong { len: 11 })));
        let foreign = record(DELETE, &[b"key", b"0123456789A"]);
        assert!(matches!(Change::decode(AT, &foreign), Err(Error::Malformed { lsn: AT })));
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        for lie in [&[PURGE, 5, b'a'][..], &[PURGE, 0xFF], &[&[PURGE][..], &[0xFF; 10]].concat()] {
            assert!(matches!(Change::decode(AT, lie), Err(Error::Malformed { .. })), "{lie:?}");
        }
    }
}
