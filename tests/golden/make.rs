//! Makes the golden logs. Those in `tests/fixtures/v1/` were made by it once and are never made
//! again; a later version of the format gets a directory of its own.
//!
//! What a log must say is told by what was done to it, not by what reads it.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cohort_wal::{Compression, Key, KeyProvider, Lsn, MemStore, Preallocate, Wal, WalOptions};

use super::expected::{Opened, Said};
use super::faulty::{Fault, FaultyStore, Op, Script};
use super::forge;
use super::independent::log::Item;
use super::independent::{Files, Verdict, index, number};
use super::{Fixture, test_key};

/// Gives out the test keys.
struct Ring(AtomicU32);

impl KeyProvider for Ring {
    fn active(&self) -> u32 {
        self.0.load(Relaxed)
    }

    fn get(&self, id: u32) -> Option<Key> {
        test_key(id).map(Key::new)
    }
}

/// A log that is being made.
struct Log {
    memory: MemStore,
    script: Script,
    options: WalOptions,
    wal: Wal<FaultyStore<MemStore>>,
    items: Vec<Item>,
    image: Option<(u64, Vec<u8>)>,
}

type Made = cohort_wal::Result<Fixture>;
type Step = cohort_wal::Result<()>;

fn options() -> WalOptions {
    WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10).preallocate(Preallocate::Off)
}

fn encrypted(options: WalOptions) -> (WalOptions, Arc<Ring>) {
    let ring = Arc::new(Ring(AtomicU32::new(1)));
    (options.encryption(ring.clone()), ring)
}

/// Bytes that do not compress.
fn noise(seed: usize, len: usize) -> Vec<u8> {
    let mut word = (seed as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        word = word.wrapping_mul(0xD129_42F0_2C5B_3A65).rotate_left(17);
        word.to_le_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

/// Bytes that do.
fn text(seed: usize, len: usize) -> Vec<u8> {
    let line = format!("{seed} credits and {} debits; ", seed * 7);
    line.bytes().cycle().take(len).collect()
}

impl Log {
    fn new(options: WalOptions) -> cohort_wal::Result<Self> {
        let memory = MemStore::new();
        let (store, script) = FaultyStore::over(memory.clone());
        let wal = options.clone().open_store(store)?;
        Ok(Self { memory, script, options, wal, items: Vec::new(), image: None })
    }

    fn append(&mut self, payload: Vec<u8>) -> cohort_wal::Result<Lsn> {
        let lsn = self.wal.append(&payload)?;
        self.items.push(Item::Record(lsn.get(), payload));
        Ok(lsn)
    }

    fn batch(&mut self, payloads: Vec<Vec<u8>>) -> cohort_wal::Result<Vec<Lsn>> {
        let lsns = self.wal.append_batch(&payloads)?;
        let records = lsns.iter().zip(payloads);
        self.items.extend(records.map(|(lsn, payload)| Item::Record(lsn.get(), payload)));
        Ok(lsns)
    }

    /// Leaves a pad: a record that found no space, at the `k`-th next write from 0.
    fn pad(&mut self, k: u64) {
        let before = self.wal.end_lsn();
        self.wal.flush().ok();
        self.script.fail_once(Op::Write, k, Fault::Short(ErrorKind::StorageFull));
        let full = self.wal.append(&noise(0, 9000));
        assert!(full.is_err_and(|error| error.is_retryable()), "there is no space");
        assert!(self.wal.end_lsn() > before, "its place is used up");
    }

    fn checkpoint(&mut self, lsn: Lsn, image: Vec<u8>) -> Step {
        self.wal.checkpoint(lsn, |out| out.write_all(&image))?;
        self.items.retain(|item| item.lsn() >= lsn.get());
        self.image = Some((lsn.get(), image));
        Ok(())
    }

    /// The files as they are.
    fn files(&self) -> Files {
        self.memory.snapshot().into_files()
    }

    /// Opens what is left by these files.
    fn reopen(&mut self, files: Files) -> Step {
        let mut snapshot = cohort_wal::MemSnapshot::default();
        *snapshot.files_mut() = files;
        self.memory = MemStore::from_snapshot(snapshot);
        let (store, script) = FaultyStore::over(self.memory.clone());
        self.script = script;
        self.wal = self.options.clone().open_store(store)?;
        Ok(())
    }

    /// Another life after a clean end of this one.
    fn next_life(&mut self) -> Step {
        self.wal.close()?;
        self.reopen(self.files())
    }

    fn said(&self, is_closed: bool) -> Said {
        let (head, end) = (self.wal.head_lsn().get(), self.wal.end_lsn().get());
        let opened = Opened { witness: end, is_closed, image: self.image.clone() };
        let (verdict, items) = (Verdict::Whole, self.items.clone());
        Said { head, end, verdict, opened: Some(opened), items }
    }

    fn close(self, name: &'static str, needs: &'static [&'static str]) -> Made {
        let said = self.said(true);
        self.wal.close()?;
        Ok(Fixture { name, needs, files: self.files(), said })
    }
}

fn plain() -> Made {
    let mut log = Log::new(options())?;
    for (seed, len) in
        [0, 1, 7, 8, 9, 15, 16, 17, 100, 255, 256, 1000, 4000].into_iter().enumerate()
    {
        log.append(noise(seed, len))?;
    }
    log.wal.sync()?;
    log.batch(vec![b"one".to_vec(), Vec::new(), text(1, 300)])?;
    log.batch(vec![b"a batch of one".to_vec()])?;
    log.append(Vec::new())?;
    log.close("plain", &[])
}

fn many_segments() -> Made {
    let mut log = Log::new(options().initial_lsn(Lsn::new(4096)))?;
    for life in 0..3 {
        for number in 0..2 {
            log.append(text(life * 8 + number, 3000))?;
        }
        // Larger than a segment.
        log.append(text(life, 10_000))?;
        log.wal.rotate()?;
        log.append(b"after a rotation".to_vec())?;
        if life < 2 {
            log.next_life()?;
        }
    }
    log.close("many-segments", &[])
}

fn unclosed() -> Made {
    let mut log = Log::new(options().preallocate(Preallocate::Zeroed))?;
    for number in 0..10 {
        log.append(text(number, 100 * number))?;
        log.wal.sync()?;
    }
    // The last of them witnesses the one before.
    let last = log.items[9].lsn();
    let mut said = log.said(false);
    said.opened = said.opened.map(|opened| Opened { witness: last, ..opened });
    Ok(Fixture { name: "unclosed", needs: &[], files: log.files(), said })
}

fn unfinished() -> Made {
    let memory = MemStore::new();
    let (store, script) = FaultyStore::over(memory.clone());
    // CONTROL gets its name, and the first segment none.
    script.fail_once(Op::Publish, 1, Fault::Fail(ErrorKind::Other));
    assert!(options().initial_lsn(Lsn::new(800)).open_store(store).is_err());
    let opened = Some(Opened { witness: 800, is_closed: false, image: None });
    let said = Said { head: 800, end: 800, verdict: Verdict::Whole, opened, items: Vec::new() };
    Ok(Fixture { name: "unfinished", needs: &[], files: memory.snapshot().into_files(), said })
}

fn carried() -> Made {
    let mut log = Log::new(options())?;
    log.append(text(1, 500))?;
    log.wal.sync()?;
    for number in 2..9 {
        log.append(text(number, 1500))?;
    }
    log.pad(1);
    log.batch(vec![text(20, 300), Vec::new()])?;
    log.wal.flush()?;
    // The process dies; nothing but the first record is witnessed.
    log.reopen(log.files())?;
    assert!(log.wal.recovery().carried_bytes > 0);
    log.append(b"after the crash".to_vec())?;
    log.close("carried", &[])
}

fn truncated_before() -> Made {
    let mut log = Log::new(options())?;
    let lsns = (0..20).map(|number| log.append(text(number, 1000)));
    let lsns = lsns.collect::<Result<Vec<_>, _>>()?;
    let head = log.wal.truncate_before(lsns[12])?;
    assert_eq!(head, lsns[12]);
    log.items.drain(..12);
    log.close("truncated-before", &[])
}

fn truncated_after() -> Made {
    let mut log = Log::new(options())?;
    let lsns = (0..20).map(|number| log.append(text(number, 1000)));
    let lsns = lsns.collect::<Result<Vec<_>, _>>()?;
    log.wal.sync()?;
    let before = log.files();
    log.wal.truncate_after(lsns[10])?;
    log.items.truncate(11);
    log.append(b"after a cut".to_vec())?;
    let cut = log.append(b"cut again".to_vec())?;
    log.wal.truncate_from(cut)?;
    log.items.pop();
    log.append(b"at the place of what was cut".to_vec())?;
    let mut fixture = log.close("truncated-after", &[])?;
    // A crash could have left the segments that the first cut passed by.
    let kept = fixture.files.len();
    for (name, file) in before {
        fixture.files.entry(name).or_insert(file);
    }
    assert!(fixture.files.len() > kept, "one is dead");
    Ok(fixture)
}

fn snapshot() -> Made {
    let mut log = Log::new(options())?;
    let lsns = (0..20).map(|number| log.append(text(number, 1000)));
    let lsns = lsns.collect::<Result<Vec<_>, _>>()?;
    log.checkpoint(lsns[5], text(5, 100))?;
    log.checkpoint(lsns[12], text(12, 5000))?;
    log.append(b"behind it".to_vec())?;
    log.close("snapshot", &[])
}

/// Records that compress and that do not, alone and in batches.
fn mixed(log: &mut Log) -> Step {
    for (seed, len) in [0, 255, 256, 300, 2000].into_iter().enumerate() {
        log.append(text(seed, len))?;
        log.append(noise(seed, len.min(1000)))?;
    }
    log.wal.sync()?;
    log.batch(vec![text(7, 700), noise(7, 700), Vec::new()])?;
    Ok(())
}

fn compressed() -> Made {
    let mut log = Log::new(options().compression(Compression::Lz4))?;
    mixed(&mut log)?;
    log.append(vec![0; 100_000])?;
    log.options = options();
    log.next_life()?;
    log.append(text(8, 600))?;
    log.close("compressed", &["lz4"])
}

fn encrypted_rotated() -> Made {
    let (options, ring) = encrypted(options());
    let mut log = Log::new(options)?;
    mixed(&mut log)?;
    log.pad(1);
    log.append(b"behind a pad".to_vec())?;
    ring.0.store(2, Relaxed);
    log.wal.rotate_key()?;
    log.append(b"by another key".to_vec())?;
    log.batch(vec![Vec::new(), noise(9, 900)])?;
    log.next_life()?;
    log.append(b"by that key, in another epoch".to_vec())?;
    log.close("encrypted", &["aead"])
}

fn compressed_encrypted() -> Made {
    let (options, _) = encrypted(options().compression(Compression::Lz4));
    let mut log = Log::new(options)?;
    mixed(&mut log)?;
    log.append(vec![0; 100_000])?;
    log.wal.flush()?;
    log.reopen(log.files())?;
    assert!(log.wal.recovery().carried_bytes > 0, "opened, and sealed again");
    log.append(text(8, 600))?;
    log.close("compressed-encrypted", &["lz4", "aead"])
}

/// So small that every bit of it can be flipped.
fn tiny() -> Made {
    let (options, _) = encrypted(options().compression(Compression::Lz4));
    let mut log = Log::new(options.segment_bytes(64 << 10))?;
    log.batch(vec![b"first".to_vec(), text(1, 300), Vec::new()])?;
    log.pad(0);
    log.append(b"last".to_vec())?;
    log.close("tiny", &["lz4", "aead"])
}

fn encrypted_later() -> Made {
    let mut log = Log::new(options())?;
    (0..5).try_for_each(|number| log.append(text(number, 400)).map(drop))?;
    log.wal.sync()?;
    (5..9).try_for_each(|number| log.append(text(number, 400)).map(drop))?;
    log.wal.flush()?;
    // What was not synced is carried as it is.
    log.options = encrypted(options()).0;
    log.reopen(log.files())?;
    log.append(b"from here on".to_vec())?;
    log.next_life()?;
    log.append(b"and in another epoch".to_vec())?;
    log.close("encrypted-later", &["aead"])
}

fn snapshot_encrypted() -> Made {
    let mut log = Log::new(encrypted(options()).0)?;
    let lsns = (0..20).map(|number| log.append(text(number, 1000)));
    let lsns = lsns.collect::<Result<Vec<_>, _>>()?;
    log.checkpoint(lsns[12], text(12, 262_144 - 16 + 1000))?;
    log.append(b"behind it".to_vec())?;
    log.close("snapshot-encrypted", &["aead"])
}

/// The segment that holds an LSN, and where.
fn place(files: &mut Files, lsn: u64) -> (&mut Vec<u8>, usize) {
    let segments = files.iter_mut().filter(|(name, _)| name.ends_with(".wal"));
    let mut bases = segments.map(|(_, file)| (number(file, 72, 8), file)).collect::<Vec<_>>();
    bases.retain(|(base, _)| *base <= lsn);
    let (base, file) = bases.pop().unwrap_or_else(|| panic!("no segment holds {lsn}"));
    (file, 8192 + index(lsn - base))
}

/// A log whose last record is torn: half of its bytes never came to the disk.
fn torn(name: &'static str, last: fn(&mut Log) -> cohort_wal::Result<Vec<Lsn>>) -> Made {
    let mut log = Log::new(options())?;
    for number in 0..5 {
        log.append(text(number, 200))?;
    }
    log.wal.sync()?;
    log.append(b"not synced".to_vec())?;
    let synced = log.items[5].lsn();
    let lost = last(&mut log)?;
    log.wal.flush()?;
    let (mut files, mut said) = (log.files(), log.said(false));
    let torn = lost[lost.len() - 1].get();
    let (file, at) = place(&mut files, torn);
    file[at + 64..].fill(0);
    said.items.retain(|item| item.lsn() < lost[0].get());
    said.end = lost[0].get();
    said.verdict = Verdict::Torn;
    said.opened = said.opened.map(|opened| Opened { witness: synced, ..opened });
    Ok(Fixture { name, needs: &[], files, said })
}

/// A log with a flipped bit in the record with this index.
fn damaged(name: &'static str, records: usize, flipped: usize, refused: bool) -> Made {
    let mut log = Log::new(options())?;
    (0..records).try_for_each(|number| log.append(text(number, 1000)).map(drop))?;
    let mut fixture = log.close(name, &[])?;
    let said = &mut fixture.said;
    let (lsn, next) = (said.items[flipped].lsn(), said.items[flipped + 1].lsn());
    let (file, at) = place(&mut fixture.files, lsn);
    file[at + 16 + 500] ^= 1;
    said.items[flipped] = Item::Lost(lsn, next);
    said.verdict = if refused { Verdict::Refused(lsn) } else { Verdict::Flawed(lsn) };
    said.opened = said.opened.take().filter(|_| !refused);
    Ok(fixture)
}

/// A log in which somebody without the key changed a record, and made the checksums right.
fn tampered() -> Made {
    let mut log = Log::new(encrypted(options()).0)?;
    (0..10).try_for_each(|number| log.append(text(number, 300)).map(drop))?;
    let mut fixture = log.close("tampered", &["aead"])?;
    let lsn = fixture.said.items[4].lsn();
    let (file, at) = place(&mut fixture.files, lsn);
    file[at + 16 + 100] ^= 1;
    forge::sum_frame(file, lsn);
    fixture.said.items[4] = Item::Tampered(lsn);
    fixture.said.verdict = Verdict::Flawed(lsn);
    Ok(fixture)
}

/// A log of which one copy of each header is bad, and the slot of CONTROL that does not count.
fn bad_copies() -> Made {
    let mut log = Log::new(options())?;
    (0..9).try_for_each(|number| log.append(text(number, 1000)).map(drop))?;
    let mut fixture = log.close("bad-copies", &[])?;
    for (nth, (name, file)) in fixture.files.iter_mut().enumerate() {
        let older = if number(file, 16, 8) < number(file, 4112, 8) { 0 } else { 4096 };
        file[if name == "CONTROL" { older } else { nth % 2 * 4096 } + 100] ^= 1;
    }
    Ok(fixture)
}

/// All of them.
pub(crate) fn all() -> cohort_wal::Result<Vec<Fixture>> {
    let single = |log: &mut Log| Ok(vec![log.append(text(9, 700))?]);
    let batch = |log: &mut Log| log.batch((0..3).map(|number| text(number, 100)).collect());
    let made = [
        plain(),
        many_segments(),
        unclosed(),
        unfinished(),
        carried(),
        truncated_before(),
        truncated_after(),
        snapshot(),
        compressed(),
        encrypted_rotated(),
        compressed_encrypted(),
        tiny(),
        encrypted_later(),
        snapshot_encrypted(),
        torn("torn", single),
        torn("torn-batch", batch),
        damaged("damaged", 8, 4, true),
        damaged("damaged-before", 20, 4, false),
        tampered(),
        bad_copies(),
    ];
    made.into_iter().collect()
}
