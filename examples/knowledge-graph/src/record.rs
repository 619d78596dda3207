//! Records: what a change is in the log.
//!
//! A record is an [`Envelope`] in the encoding of `postcard`: the number of its kind, then its body
//! as bytes with their length. The body of each kind is a tuple of strings, again in `postcard`.
//!
//! Why not one enum with `serde`: a variant that a program does not know is an error there, and
//! nothing tells it from a record that makes no sense. An envelope can be read by every program;
//! whether the body can be is what the number says.
//!
//! Invariants:
//! I1. A number means one thing for ever. What is to look different gets another number.
//! I2. What is encoded can be decoded: the limits are checked before a change is encoded.

use serde::{Deserialize, Serialize};

use crate::error::{GraphError, Result};

/// The most bytes that the name of an entity, or a kind, may have.
pub const MAX_NAME_BYTES: usize = 256;

/// The most bytes that an observation may have.
pub const MAX_TEXT_BYTES: usize = 4096;

const CREATE: u16 = 1;
const OBSERVE: u16 = 2;
const RELATE: u16 = 3;
const FORGET: u16 = 4;
const UNRELATE: u16 = 5;
const DELETE: u16 = 6;

/// What every record is, whichever program has written it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<'a> {
    /// What the body is.
    pub kind: u16,
    /// The body.
    pub body: &'a [u8],
}

/// A change of the graph that is one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change<'a> {
    /// A new entity.
    Create {
        /// The name of the entity.
        entity: &'a str,
        /// What it is.
        kind: &'a str,
    },
    /// Something that was observed about an entity.
    Observe {
        /// The name of the entity.
        entity: &'a str,
        /// The observation.
        text: &'a str,
    },
    /// A relation from one entity to another, or to itself.
    Relate {
        /// The entity that it belongs to.
        from: &'a str,
        /// What it is.
        kind: &'a str,
        /// The other entity.
        to: &'a str,
    },
    /// An observation is taken back.
    Forget {
        /// The name of the entity.
        entity: &'a str,
        /// The observation.
        text: &'a str,
    },
    /// A relation is taken back.
    Unrelate {
        /// The entity that it belongs to.
        from: &'a str,
        /// What it is.
        kind: &'a str,
        /// The other entity.
        to: &'a str,
    },
    /// An entity goes, with its observations and all relations from and to it.
    Delete {
        /// The name of the entity.
        entity: &'a str,
    },
}

impl<'a> Change<'a> {
    /// The kind and the body of its record.
    pub(crate) fn encode(&self) -> Result<(u16, Vec<u8>)> {
        let encoded = match *self {
            Self::Create { entity, kind } => (CREATE, bytes(&(entity, kind))?),
            Self::Observe { entity, text } => (OBSERVE, bytes(&(entity, text))?),
            Self::Relate { from, kind, to } => (RELATE, bytes(&(from, kind, to))?),
            Self::Forget { entity, text } => (FORGET, bytes(&(entity, text))?),
            Self::Unrelate { from, kind, to } => (UNRELATE, bytes(&(from, kind, to))?),
            Self::Delete { entity } => (DELETE, bytes(&(entity,))?),
        };
        Ok(encoded)
    }

    /// The whole payload of its record, as images have it.
    pub(crate) fn payload(&self) -> Result<Vec<u8>> {
        let (kind, body) = self.encode()?;
        bytes(&Envelope { kind, body: &body })
    }

    /// The change in an envelope, `None` of a kind that is unknown here. Its strings are the
    /// envelope's memory.
    pub(crate) fn decode(envelope: Envelope<'a>) -> postcard::Result<Option<Self>> {
        let body = envelope.body;
        let change = match envelope.kind {
            CREATE => whole(body).map(|(entity, kind)| Self::Create { entity, kind })?,
            OBSERVE => whole(body).map(|(entity, text)| Self::Observe { entity, text })?,
            RELATE => whole(body).map(|(from, kind, to)| Self::Relate { from, kind, to })?,
            FORGET => whole(body).map(|(entity, text)| Self::Forget { entity, text })?,
            UNRELATE => whole(body).map(|(from, kind, to)| Self::Unrelate { from, kind, to })?,
            DELETE => whole(body).map(|(entity,)| Self::Delete { entity })?,
            _ => return Ok(None),
        };
        Ok(Some(change))
    }

    /// Fails for strings that are too long or empty.
    pub(crate) fn check(&self) -> Result<()> {
        match *self {
            Self::Create { entity, kind } => name("name", entity).and(name("kind", kind)),
            Self::Observe { entity, text } | Self::Forget { entity, text } => {
                name("name", entity).and(limited("observation", text, MAX_TEXT_BYTES))
            }
            Self::Relate { from, kind, to } | Self::Unrelate { from, kind, to } => {
                name("name", from).and(name("kind", kind)).and(name("name", to))
            }
            Self::Delete { entity } => name("name", entity),
        }
    }
}

fn bytes<T: Serialize>(value: &T) -> Result<Vec<u8>> {
    Ok(postcard::to_extend(value, Vec::new())?)
}

/// Decodes a body to its last byte.
fn whole<'a, T: Deserialize<'a>>(body: &'a [u8]) -> postcard::Result<T> {
    match postcard::take_from_bytes(body)? {
        (value, []) => Ok(value),
        _ => Err(postcard::Error::DeserializeBadEncoding),
    }
}

fn name(what: &'static str, name: &str) -> Result<()> {
    limited(what, name, MAX_NAME_BYTES)
}

fn limited(what: &'static str, text: &str, max: usize) -> Result<()> {
    match text.len() {
        0 => Err(GraphError::Empty { what }),
        len if len > max => Err(GraphError::TooLong { what, len, max }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs outlive programs: these bytes never change.
    #[test]
    fn every_kind_has_the_bytes_that_are_in_old_logs() {
        let (entity, kind, text) = ("Ada", "is", "old");
        let (from, to) = ("Ada", "Bob");
        let expected: [(Change<'_>, &[u8]); 6] = [
            (Change::Create { entity, kind }, b"\x01\x07\x03Ada\x02is"),
            (Change::Observe { entity, text }, b"\x02\x08\x03Ada\x03old"),
            (Change::Relate { from, kind, to }, b"\x03\x0b\x03Ada\x02is\x03Bob"),
            (Change::Forget { entity, text }, b"\x04\x08\x03Ada\x03old"),
            (Change::Unrelate { from, kind, to }, b"\x05\x0b\x03Ada\x02is\x03Bob"),
            (Change::Delete { entity }, b"\x06\x04\x03Ada"),
        ];
        for (change, bytes) in expected {
            assert_eq!(change.payload().unwrap(), bytes);
            let envelope = postcard::from_bytes(bytes).unwrap();
            assert_eq!(Change::decode(envelope).unwrap(), Some(change));
        }
    }

    #[test]
    fn a_body_with_bytes_left_over_is_an_error_and_an_unknown_kind_is_none() {
        let body = b"\x03Ada.";
        assert!(Change::decode(Envelope { kind: DELETE, body }).is_err());
        assert_eq!(Change::decode(Envelope { kind: DELETE + 1, body }), Ok(None));
    }
}
