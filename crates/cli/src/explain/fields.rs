//! The fields of one frame, in the order of the file: raw bytes beside what they say.
//!
//! The text has the columns of the annotated dump in docs/FORMAT.md.

use std::fmt::Write as _;

use cohort_wal::inspect::Frame;
use serde::Serialize;

use crate::output::grouped;
use crate::payload;

/// So many bytes of a body are shown unless all of it is asked for.
const SHORT: usize = 256;
const PER_LINE: usize = 16;

/// A frame. Field names are the JSON interface; bytes are hexadecimal, in the order of the file.
#[derive(Debug, Serialize)]
pub(super) struct Fields {
    /// Why it is no valid frame.
    flaw: Option<&'static str>,
    header_crc: Checksum,
    len: Field<u32>,
    body_crc: Checksum,
    kind_and_flags: Field<Kind>,
    lag: Field<Option<u32>>,
    /// All below was durable when the frame was appended.
    watermark: Option<u64>,
    body: Bytes,
    padding: Bytes,
}

#[derive(Debug, Serialize)]
struct Field<T> {
    offset: u64,
    bytes: String,
    value: T,
}

/// A checksum, as a number in hexadecimal.
#[derive(Debug, Serialize)]
struct Checksum {
    offset: u64,
    bytes: String,
    stored: String,
    /// Null where what it covers is not there.
    computed: Option<String>,
    matches: bool,
}

#[derive(Debug, Serialize)]
struct Kind {
    /// `record`, `pad`, or null.
    kind: Option<&'static str>,
    number: u8,
    flags: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct Bytes {
    offset: u64,
    /// How many there are.
    len: usize,
    /// The first of them.
    hex: String,
    /// The same as text, if that is what it is.
    utf8: Option<String>,
    shortened: bool,
    #[serde(skip)]
    shown: Vec<u8>,
}

impl Fields {
    pub(super) fn of(frame: &Frame, full: bool) -> Self {
        let at = |offset: usize| frame.offset + offset as u64;
        let raw = |from: usize, to: usize| {
            payload::spaced(frame.header.get(from..to).unwrap_or_default())
        };
        let checksum = |offset: usize, stored: u32, computed: Option<u32>| Checksum {
            offset: at(offset),
            bytes: raw(offset, offset + 4),
            stored: format!("{stored:08x}"),
            computed: computed.map(|crc| format!("{crc:08x}")),
            matches: computed == Some(stored),
        };
        let fields = &frame.fields;
        let flags = [
            (fields.more, "MORE"),
            (fields.compressed, "COMPRESSED"),
            (fields.encrypted, "ENCRYPTED"),
            (fields.flags & 0x80 != 0, "unknown"),
        ];
        let kind = Kind {
            kind: match fields.kind {
                1 => Some("record"),
                2 => Some("pad"),
                _ => None,
            },
            number: fields.kind,
            flags: flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect(),
        };
        let body = frame.body();
        Self {
            flaw: frame.flaw,
            header_crc: checksum(0, fields.header_crc, Some(fields.header_crc_computed)),
            len: Field { offset: at(4), bytes: raw(4, 8), value: fields.len },
            body_crc: checksum(8, fields.body_crc, frame.body_crc_computed),
            kind_and_flags: Field { offset: at(12), bytes: raw(12, 13), value: kind },
            lag: Field { offset: at(13), bytes: raw(13, 16), value: fields.lag },
            watermark: fields.watermark.map(cohort_wal::Lsn::get),
            body: Bytes::of(at(16), body, full),
            padding: Bytes::of(at(16) + body.len() as u64, frame.padding(), true),
        }
    }

    /// One line for each field.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if let Some(flaw) = self.flaw {
            writeln!(text, "  this is no valid frame: {flaw}; as a header it would say").ok();
        }
        let mut line = |offset: u64, bytes: &str, meaning: &str| {
            writeln!(text, "  {:>8}  {:47}  {meaning}", format!("{offset:04x}"), bytes).ok();
        };
        let crc = |name: &str, crc: &Checksum| match &crc.computed {
            Some(_) if crc.matches => format!("{name} {}, as computed", crc.stored),
            Some(computed) => format!("{name} {}, but computed {computed}", crc.stored),
            None => format!("{name} {}, of bytes that are not there", crc.stored),
        };
        line(self.header_crc.offset, &self.header_crc.bytes, &crc("header_crc", &self.header_crc));
        line(self.len.offset, &self.len.bytes, &format!("len {}", self.len.value));
        line(self.body_crc.offset, &self.body_crc.bytes, &crc("body_crc", &self.body_crc));
        let kind = &self.kind_and_flags;
        line(kind.offset, &kind.bytes, &kind.value.text());
        let lag = match (self.lag.value, self.watermark) {
            (None, _) => "lag: no information".to_owned(),
            (Some(lag), Some(lsn)) => format!("lag {lag}: all below LSN {lsn} was durable"),
            (Some(lag), None) => format!("lag {lag}: more than the LSN"),
        };
        line(self.lag.offset, &self.lag.bytes, &lag);
        for (name, bytes) in [("body", &self.body), ("padding", &self.padding)] {
            for (index, row) in bytes.shown.chunks(PER_LINE).enumerate() {
                let name = if index == 0 { name } else { "" };
                let offset = bytes.offset + (index * PER_LINE) as u64;
                let meaning = format!("{name:7} {}", payload::printable(row));
                let meaning = if name == "padding" { name } else { meaning.trim_end() };
                line(offset, &payload::spaced(row), meaning);
            }
            if bytes.shortened {
                let left = grouped((bytes.len - bytes.shown.len()) as u64);
                line(
                    bytes.offset + bytes.shown.len() as u64,
                    "...",
                    &format!("        {left} bytes more; --full shows them"),
                );
            }
        }
        text
    }
}

impl Kind {
    fn text(&self) -> String {
        let kind =
            self.kind.map_or_else(|| format!("kind {}, unknown", self.number), str::to_owned);
        let mut text = kind;
        for flag in &self.flags {
            let meaning = match *flag {
                "MORE" => ": others of its batch follow",
                "COMPRESSED" => ": a raw length and an LZ4 block",
                "ENCRYPTED" => ": ciphertext and a tag",
                _ => " flag",
            };
            write!(text, ", {flag}{meaning}").ok();
        }
        text
    }
}

impl Bytes {
    fn of(offset: u64, bytes: &[u8], full: bool) -> Self {
        let shown = if full { bytes } else { bytes.get(..SHORT).unwrap_or(bytes) };
        let shortened = shown.len() < bytes.len();
        Self {
            offset,
            len: bytes.len(),
            hex: payload::hex(shown),
            // The first bytes of a text may end inside a character.
            utf8: (!shortened).then(|| str::from_utf8(shown).ok().map(str::to_owned)).flatten(),
            shortened,
            shown: shown.to_vec(),
        }
    }
}
