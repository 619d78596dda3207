//! The annotated dump in `docs/FORMAT.md`: a small log encoded with fixed identities, byte by
//! byte. `UPDATE_DOCS=1 cargo test -p cohort-wal --lib dump` writes it anew.
//!
//! `tests/format.rs` reads the dump back, opens it as a log, and compares it with what the engine
//! writes.

#![allow(clippy::indexing_slicing, clippy::arithmetic_side_effects, reason = "a test may panic")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fmt::Write;

use super::control::{CONTROL_BYTES, Claim, Slot};
use super::frame::{HEADER_BYTES, Kind, MORE, Seed, frame_bytes, open_header, padded, seal_header};
use super::segment::{Ignored, SECOND_COPY, SegmentHeader};
use super::snapshot::{CHUNK_HEADER_BYTES, END_BYTES, SnapshotHeader};
use super::{BLOCK_BYTES, BLOCK_CRC, name, put};

const BEGIN: &str = "<!-- dump:begin -->\n";
const END: &str = "<!-- dump:end -->";

const LOG_ID: [u8; 16] = *b"fixed, not drawn";
const SALT: [u8; 16] = *b"as random as pi!";
const EPOCH: u64 = 1;

/// A record of the example: its body, whether others of its batch follow, and how far the log was
/// durable when it was appended.
struct Example {
    body: &'static [u8],
    more: bool,
    durable: u64,
}

const FIRST_SEGMENT: [Example; 3] = [
    Example { body: b"hello", more: false, durable: 0 },
    Example { body: b"debit 7", more: true, durable: 24 },
    Example { body: b"credit 7", more: false, durable: 24 },
];
const SECOND_SEGMENT: [Example; 2] = [
    Example { body: b"after rotation", more: false, durable: 72 },
    Example { body: b"", more: false, durable: 72 },
];

/// All records below this are in the snapshot.
const HEAD: u64 = 24;
const IMAGE: &[u8] = b"greeted";

/// The bytes of one file, and how far they are explained.
struct File {
    bytes: Vec<u8>,
    at: usize,
    text: String,
}

impl File {
    fn new(name: &str, bytes: Vec<u8>) -> Self {
        let text = format!("{name}, {} bytes\n\n", bytes.len());
        Self { bytes, at: 0, text }
    }

    /// Prints the next `len` bytes beside a note.
    fn field(&mut self, len: usize, note: &str) {
        let bytes = &self.bytes[self.at..self.at + len];
        for (index, line) in bytes.chunks(16).enumerate() {
            let hex = line.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ");
            let note = if index == 0 { note } else { "" };
            let line = format!("{:04x}  {hex:47}  {note}", self.at + index * 16);
            writeln!(self.text, "{}", line.trim_end()).unwrap();
        }
        self.at += len;
    }

    /// Prints the next bytes as an integer.
    fn number(&mut self, len: usize, field: &str) {
        let mut wide = [0; 8];
        wide[..len].copy_from_slice(&self.bytes[self.at..self.at + len]);
        let note = match (field, u64::from_le_bytes(wide)) {
            (field, u64::MAX) => format!("{field} none"),
            (field, value) if field.ends_with("crc") => format!("{field} {value:08x}"),
            (field, value) => format!("{field} {value}"),
        };
        self.field(len, &note);
    }

    /// Skips zeros up to an offset.
    fn zeros(&mut self, until: usize, note: &str) {
        let skipped = &self.bytes[self.at..until];
        assert!(skipped.iter().all(|byte| *byte == 0), "{note} at {:#x}", self.at);
        let line = format!("00 x {}", skipped.len());
        writeln!(self.text, "{:04x}  {line:47}  {note}", self.at).unwrap();
        self.at = until;
    }

    /// Skips a copy of the file's first bytes.
    fn copy(&mut self, len: usize) {
        assert_eq!(self.bytes[..len], self.bytes[self.at..self.at + len]);
        let line = format!("copy of 0000, {len} bytes");
        writeln!(self.text, "{:04x}  {line:47}  the same block again", self.at).unwrap();
        self.at += len;
    }

    fn block(&mut self, magic: &str, fields: &[(usize, &str)]) {
        let start = self.at;
        self.field(8, &format!("magic {magic}"));
        for (len, field) in [(2, "major"), (2, "minor"), (4, "incompat")].iter().chain(fields) {
            match len {
                16 => self.field(16, field),
                _ => self.number(*len, field),
            }
        }
        self.zeros(start + BLOCK_CRC, "reserved");
        self.number(4, "crc");
    }

    /// Everything is explained.
    fn finish(self) -> String {
        assert_eq!(self.at, self.bytes.len());
        self.text
    }
}

fn control() -> String {
    let claim = Claim {
        log_id: LOG_ID,
        newest_seq: 2,
        head: HEAD,
        snapshot: HEAD,
        durable: 120,
        clean: true,
    };
    let before = Claim { durable: 72, clean: false, ..claim };
    let mut bytes = vec![0; CONTROL_BYTES];
    put(&mut bytes, 0, &Slot { generation: 7, claim: before }.encode());
    put(&mut bytes, CONTROL_BYTES / 2, &Slot { generation: 8, claim }.encode());
    let mut file = File::new(name::CONTROL, bytes);
    let fields = [
        (8, "generation"),
        (16, "log_id"),
        (8, "newest_seq"),
        (8, "head_lsn"),
        (8, "snapshot_lsn"),
        (8, "durable_lsn"),
        (4, "flags"),
    ];
    file.block("COHRTCTL", &fields);
    file.zeros(CONTROL_BYTES / 2, "unused");
    file.block("COHRTCTL", &fields);
    file.zeros(CONTROL_BYTES, "unused");
    file.finish()
}

fn segment(header: &SegmentHeader, records: &[Example]) -> String {
    let mut bytes = header.encode_area();
    let mut lsn = header.base;
    for record in records {
        encode(&mut bytes, lsn, record);
        lsn += frame_bytes(record.body.len() as u64);
    }
    let mut file = File::new(&name::segment(header.seq), bytes);
    file.block(
        "COHRTWAL",
        &[
            (4, "compat"),
            (4, "first_frame"),
            (16, "log_id"),
            (8, "seq"),
            (8, "epoch"),
            (16, "salt"),
            (8, "base_lsn"),
            (8, "prev_seq"),
            (8, "head_lsn"),
            (8, "durable_lsn"),
            (8, "max_unsynced"),
            (8, "max_unit"),
            (4, "max_record"),
            (1, "cipher"),
        ],
    );
    file.zeros(SECOND_COPY, "unused");
    file.copy(BLOCK_BYTES);
    file.zeros(SECOND_COPY * 2, "unused");
    let mut lsn = header.base;
    for record in records {
        explain(&mut file, lsn, record);
        lsn += frame_bytes(record.body.len() as u64);
    }
    file.finish()
}

fn encode(bytes: &mut Vec<u8>, lsn: u64, record: &Example) {
    let len = u32::try_from(record.body.len()).unwrap();
    let mut body = record.body.to_vec();
    body.resize(usize::try_from(padded(u64::from(len))).unwrap(), 0);
    let flags = if record.more { MORE } else { 0 };
    let mut header = open_header(Kind::Record, flags, len, crc32c::crc32c(&body));
    seal_header(&mut header, Seed::new(&SALT, EPOCH), lsn, Some(record.durable));
    bytes.extend_from_slice(&header);
    bytes.extend_from_slice(&body);
}

fn explain(file: &mut File, lsn: u64, record: &Example) {
    let len = record.body.len();
    let frame = file.at;
    writeln!(file.text, "\n      frame at LSN {lsn}").unwrap();
    file.number(4, "header_crc");
    file.number(4, "len");
    file.number(4, "body_crc");
    file.field(1, if record.more { "record, MORE" } else { "record" });
    let (lag, durable) = ((lsn - record.durable) / 8, record.durable);
    file.field(3, &format!("lag {lag}: all below {durable} was durable"));
    assert_eq!(file.at, frame + HEADER_BYTES);
    if len > 0 {
        file.field(len, &format!("body \"{}\"", record.body.escape_ascii()));
    }
    let end = frame + usize::try_from(frame_bytes(len as u64)).unwrap();
    if file.at < end {
        file.field(end - file.at, "padding");
    }
}

fn snapshot() -> String {
    let header = SnapshotHeader::plain(LOG_ID, HEAD);
    let end = header.end(1, IMAGE.len() as u64, &[]);
    let parts = [&header.encode()[..], &header.chunk_header(0, IMAGE), IMAGE, &end];
    let mut file = File::new(&name::snapshot(HEAD), parts.concat());
    file.block("COHRTSNP", &[(8, "reserved"), (16, "log_id"), (8, "lsn")]);
    let chunk = file.at;
    file.text.push_str("\n      chunk 0\n");
    file.number(4, "len");
    file.number(4, "crc");
    assert_eq!(file.at, chunk + CHUNK_HEADER_BYTES);
    file.field(IMAGE.len(), &format!("bytes \"{}\"", IMAGE.escape_ascii()));
    let end = file.at;
    file.text.push_str("\n      end\n");
    for (len, field) in [(4, "zero"), (4, "crc"), (8, "total"), (8, "chunks")] {
        file.number(len, field);
    }
    assert_eq!(file.at, end + END_BYTES);
    file.finish()
}

fn dump() -> String {
    let first = SegmentHeader {
        log_id: LOG_ID,
        seq: 1,
        epoch: EPOCH,
        salt: SALT,
        base: 0,
        prev_seq: 0,
        head: 0,
        durable: 0,
        max_unsynced: 128 << 20,
        max_unit: 256 << 20,
        max_record: 64 << 20,
        cipher: 0,
        extent: 0,
        key_id: 0,
        key_check: [0; 16],
        ignored: Ignored::NONE,
    };
    let second = SegmentHeader { seq: 2, base: 72, prev_seq: 1, durable: 72, ..first };
    let segments = [segment(&first, &FIRST_SEGMENT), segment(&second, &SECOND_SEGMENT)];
    let [first, second] = segments;
    let files = [control(), first, second, snapshot()];
    format!("```text\n{}```\n", files.join("\n"))
}

#[test]
fn the_dump_in_the_document_is_what_the_encoders_make() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/FORMAT.md");
    let document = std::fs::read_to_string(path).unwrap();
    let (before, rest) = document.split_once(BEGIN).expect("the dump begins somewhere");
    let (shown, after) = rest.split_once(END).expect("the dump ends somewhere");
    let dump = dump();
    if std::env::var_os("UPDATE_DOCS").is_some_and(|value| value == "1") {
        std::fs::write(path, format!("{before}{BEGIN}{dump}{END}{after}")).unwrap();
    } else {
        assert_eq!(shown, dump, "set UPDATE_DOCS=1 to write it anew");
    }
}
