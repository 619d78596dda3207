//! Logs built byte by byte, then opened.

mod beside;
#[cfg(feature = "sim")]
mod crashes;
mod ends;
mod files;
mod salvage;
mod tolerant;

use std::collections::BTreeMap;

use super::{Recovered, extent, open};
use crate::error::{Result, WalError};
use crate::format::control::{CONTROL_BYTES, Claim, Slot};
use crate::format::frame::{Kind, frame_bytes, open_header, seal_header};
use crate::format::segment::{Ignored, SegmentHeader};
use crate::format::{name, put};
use crate::options::WalOptions;
use crate::scan::Step;
use crate::store::{MemSnapshot, MemStore, WalStore};

const LOG_ID: [u8; 16] = [0xA5; 16];

/// The files of a log.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
struct Files(BTreeMap<String, Vec<u8>>);

/// A frame to write.
#[derive(Clone)]
struct Frame {
    kind: Kind,
    more: bool,
    body: Vec<u8>,
    durable: Option<u64>,
}

fn record(body: &[u8], durable: u64) -> Frame {
    Frame { kind: Kind::Record, more: false, body: body.to_vec(), durable: Some(durable) }
}

fn part(body: &[u8], durable: u64) -> Frame {
    Frame { more: true, ..record(body, durable) }
}

fn pad(len: usize) -> Frame {
    Frame { kind: Kind::Pad, more: false, body: vec![7; len], durable: None }
}

fn header(seq: u64, base: u64, prev_seq: u64) -> SegmentHeader {
    SegmentHeader {
        log_id: LOG_ID,
        seq,
        epoch: 1,
        salt: [9; 16],
        base,
        prev_seq,
        head: 0,
        durable: 0,
        max_unsynced: 4096,
        max_unit: 4096,
        max_record: 1 << 20,
        cipher: 0,
        extent: 0,
        key_id: 0,
        key_check: [0; 16],
        ignored: Ignored::NONE,
    }
}

fn claim(newest_seq: u64, durable: u64) -> Claim {
    let snapshot = u64::MAX;
    Claim { log_id: LOG_ID, newest_seq, head: 0, snapshot, durable, clean: false }
}

fn control_bytes(first: Slot, second: Slot) -> Vec<u8> {
    let mut bytes = vec![0; CONTROL_BYTES];
    put(&mut bytes, 0, &first.encode());
    put(&mut bytes, 4096, &second.encode());
    bytes
}

fn encode(header: &SegmentHeader, frames: &[Frame]) -> Vec<u8> {
    let mut bytes = header.encode_area();
    let mut lsn = header.base;
    for frame in frames {
        let mut body = frame.body.clone();
        body.resize(body.len().next_multiple_of(8), 0);
        let len = u32::try_from(frame.body.len()).unwrap();
        let flags = if frame.more { crate::format::frame::MORE } else { 0 };
        let mut head = open_header(frame.kind, flags, len, crc32c::crc32c(&body));
        seal_header(&mut head, header.seed(), lsn, frame.durable);
        bytes.extend_from_slice(&head);
        bytes.extend_from_slice(&body);
        lsn += frame_bytes(u64::from(len));
    }
    bytes
}

impl Files {
    fn segment(&mut self, header: &SegmentHeader, frames: &[Frame]) -> &mut Self {
        self.0.insert(name::segment(header.seq), encode(header, frames));
        self
    }

    fn control(&mut self, claim: Claim) -> &mut Self {
        let slots = [1, 2].map(|generation| Slot { generation, claim });
        self.0.insert(name::CONTROL.to_owned(), control_bytes(slots[0], slots[1]));
        self
    }

    fn file(&mut self, name: &str) -> &mut Vec<u8> {
        self.0.get_mut(name).unwrap()
    }

    fn seg(&mut self, seq: u64) -> &mut Vec<u8> {
        self.file(&name::segment(seq))
    }

    fn store(&self) -> MemStore {
        let mut snapshot = MemSnapshot::default();
        *snapshot.files_mut() = self.0.clone();
        MemStore::from_snapshot(snapshot)
    }

    fn of(store: &MemStore) -> Self {
        Self(store.snapshot().files().clone())
    }

    /// Opens a copy. A refusal must have changed nothing.
    fn open(&self, options: &WalOptions) -> Result<(MemStore, Recovered<MemStore>)> {
        let store = self.store();
        match open(&store, options) {
            Ok(recovered) => Ok((store, recovered)),
            Err(error) => {
                assert_eq!(&Self::of(&store), self, "a failed open changed the log: {error}");
                Err(error)
            }
        }
    }

    fn opened(&self) -> (MemStore, Recovered<MemStore>) {
        self.open(&options()).unwrap()
    }

    /// The words of the corruption it is refused with.
    fn corrupt(&self) -> &'static str {
        match self.open(&options()) {
            Err(WalError::Corruption { why, .. }) => why,
            Err(other) => panic!("{other}"),
            Ok((_, recovered)) => panic!("opened with {:?}", recovered.report),
        }
    }
}

fn options() -> WalOptions {
    WalOptions::new()
}

/// LSN and body of every record, read through the recovered chain.
fn records<S: WalStore>(store: &S, recovered: &Recovered<S>) -> Vec<(u64, Vec<u8>)> {
    let head = recovered.control.claim().head;
    let mut records = Vec::new();
    for (index, header) in recovered.live.iter().enumerate() {
        let next = recovered.live.get(index + 1).map_or(recovered.end, |next| next.base);
        let mut scanner = extent::scanner(store, header, header.base, next).unwrap();
        loop {
            match scanner.next().unwrap() {
                Step::Frame { lsn, header } => {
                    if header.kind == Kind::Record && lsn >= head {
                        records.push((lsn, scanner.body().to_vec()));
                    }
                }
                Step::End => break,
                Step::Invalid { lsn, why } => panic!("{lsn}: {why}"),
            }
        }
    }
    records
}

fn bodies<S: WalStore>(store: &S, recovered: &Recovered<S>) -> Vec<Vec<u8>> {
    records(store, recovered).into_iter().map(|(_, body)| body).collect()
}

/// Three segments of four records each, 24 bytes a frame: bases 0, 96 and 192, end 288. The
/// newest watermark is 240: two records above it.
fn three_segments() -> Files {
    let mut files = Files::default();
    let body = |n: u8| vec![n; 8];
    for (seq, base, n) in [(1, 0, 0), (2, 96, 4), (3, 192, 8_u8)] {
        let frames: Vec<_> = (n..n + 4).map(|n| record(&body(n), 0)).collect();
        let header = SegmentHeader { durable: base, ..header(seq, base, seq - 1) };
        files.segment(&header, &frames);
    }
    let mut frames: Vec<_> = (8..12).map(|n| record(&body(n), 192)).collect();
    frames[3].durable = Some(240);
    let header = SegmentHeader { durable: 192, ..header(3, 192, 2) };
    files.segment(&header, &frames).control(claim(3, 192));
    files
}
