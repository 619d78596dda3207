//! The oracles: what must hold after every crash, fault and damage. Every rig asks these.

use std::io::Read;

use std::fmt;

use cohort_wal::sim::SimStore;
use cohort_wal::{MemSnapshot, Wal, WalError, WalOptions, WalStore};

use crate::history::{Found, History};
use crate::record::identify;

/// What an engine promises, one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Oracle {
    /// Durability: what was acknowledged is there, byte for byte.
    I1,
    /// Order: the log is a prefix of what was appended, without gap, repetition or exchange.
    I2,
    /// Nothing invented: every record was appended in this history, and nothing that was cut
    /// comes back.
    I3,
    /// Batches are there whole or not at all.
    I4,
    /// Recovery is idempotent: opened again, also after a crash in recovery, a log is the same.
    I5,
    /// A recovered log takes and keeps new records.
    I6,
    /// Damage below the watermark is reported, and what a crash alone does never is.
    I7,
    /// What is durable never goes back, and what a reader saw stays.
    I8,
    /// A refused open changes no byte.
    I9,
    /// After a failed sync nothing is acknowledged, and nobody waits for ever.
    I10,
    /// No file is left behind.
    I11,
    /// Recovery reads no more than there is, and takes no more memory than a record needs.
    I12,
}

/// A promise that was broken, and how.
#[derive(Debug, Clone)]
pub struct Violation {
    /// Which.
    pub oracle: Oracle,
    /// What was expected and what was there.
    pub what: String,
}

impl Violation {
    /// A broken promise.
    pub fn new(oracle: Oracle, what: impl Into<String>) -> Self {
        Self { oracle, what: what.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.oracle, self.what)
    }
}

/// What lies between a log and its recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Crash {
    /// The process died: what was flushed survives.
    Process,
    /// The power went: what was durable survives.
    Power,
}

/// All that a log holds.
///
/// # Errors
/// As [`records`] and [`snapshot`].
pub fn read<S: WalStore>(wal: &Wal<S>) -> Result<Found, Violation> {
    let (head, records) = (wal.head_lsn().get(), records(wal)?);
    let (end, durable) = (wal.end_lsn().get(), wal.durable_lsn().get());
    Ok(Found { records, head, end, durable, snapshot: snapshot(wal)? })
}

/// The LSN and the key of every record.
///
/// # Errors
/// [`Oracle::I3`] for a payload that nobody appended; [`Oracle::I7`] for a log that a crash alone
/// made unreadable.
pub fn records<S: WalStore>(wal: &Wal<S>) -> Result<Vec<(u64, u64)>, Violation> {
    let unreadable = |error: WalError| Violation::new(Oracle::I7, format!("reading: {error}"));
    let mut records = Vec::new();
    let mut iter = wal.iter().map_err(unreadable)?;
    while let Some(record) = iter.read_next() {
        let record = record.map_err(unreadable)?;
        let key = identify(record.data()).ok_or_else(|| {
            let what = format!("the record at {} is not one that was appended", record.lsn());
            Violation::new(Oracle::I3, what)
        })?;
        records.push((record.lsn().get(), key));
    }
    Ok(records)
}

/// The snapshot that counts, which says what [`image`] says.
///
/// # Errors
/// [`Oracle::I7`] for one that cannot be read, [`Oracle::I3`] for one that says something else.
pub fn snapshot<S: WalStore>(wal: &Wal<S>) -> Result<Option<u64>, Violation> {
    let unreadable = |what: String| Violation::new(Oracle::I7, format!("the snapshot: {what}"));
    let latest = wal.snapshots().and_then(|snapshots| snapshots.latest());
    let Some(mut latest) = latest.map_err(|e| unreadable(e.to_string()))? else { return Ok(None) };
    let (lsn, mut bytes) = (latest.lsn().get(), Vec::new());
    latest.read_to_end(&mut bytes).map_err(|e| unreadable(e.to_string()))?;
    if bytes != image(lsn) {
        return Err(Violation::new(
            Oracle::I3,
            format!("the snapshot at {lsn} says what nobody wrote"),
        ));
    }
    Ok(Some(lsn))
}

/// What the rigs write into a snapshot of all below `lsn`.
#[must_use]
pub fn image(lsn: u64) -> Vec<u8> {
    lsn.to_le_bytes().repeat(70)
}

/// Opens a log after a crash and checks what it holds against its history, which then ends where
/// the log does.
///
/// # Errors
/// The first broken promise.
pub fn recover<S: WalStore>(
    store: S,
    options: &WalOptions,
    history: &mut History,
    crash: Crash,
) -> Result<Wal<S>, Violation> {
    let wal = options.clone().open_store(store);
    let wal = wal.map_err(|error| Violation::new(Oracle::I7, format!("opening: {error}")))?;
    let found = read(&wal)?;
    history.check(&found, crash)?;
    history.settle(&found);
    Ok(wal)
}

/// The same over a simulated disk, with what only such a disk shows: what recovery has read.
///
/// # Errors
/// The first broken promise.
pub fn recover_sim(
    store: &SimStore,
    options: &WalOptions,
    history: &mut History,
    crash: Crash,
) -> Result<Wal<SimStore>, Violation> {
    within_bounds(store, || recover(store.clone(), options, history, crash))
}

/// I12: what `recovery` reads of `store` is a small multiple of its bytes. The same store may have
/// been read before, and may have files that recovery removes.
///
/// # Errors
/// What `recovery` says; [`Oracle::I12`] when it read too much.
pub fn within_bounds<T>(
    store: &SimStore,
    recovery: impl FnOnce() -> Result<T, Violation>,
) -> Result<T, Violation> {
    let (read, bytes) = (store.bytes_read(), store.bytes());
    let recovered = recovery()?;
    read_in_bounds(store.bytes_read() - read, store.bytes().max(bytes))?;
    Ok(recovered)
}

/// What a recovery, and the replay after it, have read of so many bytes.
///
/// # Errors
/// [`Oracle::I12`] when it is too much.
pub fn read_in_bounds(read: u64, bytes: u64) -> Result<(), Violation> {
    // A look at each header, a scan, a copy of the tail, and the replay.
    let bound = 6 * bytes + (256 << 10);
    if read > bound {
        return Err(Violation::new(Oracle::I12, format!("{read} bytes read of {bytes}")));
    }
    Ok(())
}

/// The files of a log that is open and was just recovered for the second time.
///
/// # Errors
/// [`Oracle::I11`] when there are others than CONTROL, the live segments and the snapshot that
/// counts.
pub fn no_orphans(store: &SimStore, wal: &Wal<SimStore>) -> Result<(), Violation> {
    let names = store.list();
    let names = names.map_err(|e| Violation::new(Oracle::I11, format!("listing: {e}")))?;
    only_live_files(&names, store.unpublished(), wal)
}

/// The same over any store: its files, and how many it has without a name.
///
/// # Errors
/// [`Oracle::I11`] when there are others than CONTROL and the live segments.
pub fn only_live_files<S: WalStore>(
    names: &[String],
    leftovers: usize,
    wal: &Wal<S>,
) -> Result<(), Violation> {
    let expected = wal.recovery().segments + 1 + u64::from(snapshot(wal)?.is_some());
    if names.len() as u64 != expected || leftovers != 0 {
        let what = format!("{expected} files expected, {names:?} and {leftovers} without a name");
        return Err(Violation::new(Oracle::I11, what));
    }
    Ok(())
}

/// A refused open has changed nothing.
///
/// # Errors
/// [`Oracle::I9`] when it has.
pub fn unchanged(before: &MemSnapshot, after: &MemSnapshot) -> Result<(), Violation> {
    if before == after {
        return Ok(());
    }
    let names = before.files().keys().chain(after.files().keys());
    let changed = names.filter(|name| before.files().get(*name) != after.files().get(*name));
    let what = format!("a refused open changed {:?}", changed.collect::<Vec<_>>());
    Err(Violation::new(Oracle::I9, what))
}

/// An opening that failed for another reason than what it found, for lack of space say, may have
/// swept leftovers, written the same claim anew into CONTROL, and finished the new segment; it
/// has changed no segment that was there.
///
/// # Errors
/// [`Oracle::I9`] when it has changed more.
pub fn unchanged_by_failed_open(
    before: &MemSnapshot,
    after: &MemSnapshot,
) -> Result<(), Violation> {
    const CONTROL: &str = "CONTROL";
    let new = after.files().keys().filter(|name| !before.files().contains_key(*name));
    let new: Vec<_> = new.filter(|name| *name != CONTROL).collect();
    let claims =
        [before, after].map(|files| files.files().get(CONTROL).and_then(|file| claim(file)));
    for (name, bytes) in before.files() {
        let same = match after.files().get(name) {
            _ if name == CONTROL => claims[0] == claims[1] || !new.is_empty(),
            Some(now) => now == bytes,
            // What the new segment replaces goes once both slots of CONTROL name that, and what is
            // below the head goes before there is a new one.
            None => !new.is_empty() || claims[0].is_some_and(|claim| is_dead(before, name, claim)),
        };
        if !same {
            let what = format!("a failed open changed {name}; {claims:?}, new {new:?}");
            return Err(Violation::new(Oracle::I9, what));
        }
    }
    if new.len() > 1 {
        return Err(Violation::new(Oracle::I9, format!("a failed open made {new:?}")));
    }
    Ok(())
}

/// Whether a newer segment begins at or below the head that a claim names.
fn is_dead(files: &MemSnapshot, name: &str, claim: &[u8]) -> bool {
    let number = |bytes: &[u8], at: usize| {
        let bytes = bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok());
        bytes.map_or(u64::MAX, u64::from_le_bytes)
    };
    let head = number(claim, 24);
    let newer = files.files().iter().filter(|(other, _)| other.ends_with(".wal"));
    let mut newer = newer.filter(|(other, _)| other.as_str() > name);
    name.ends_with(".wal") && newer.any(|(_, segment)| number(segment, 72) <= head)
}

/// What the newer valid slot of a CONTROL file says: log, newest segment, head, snapshot, durable
/// and flags.
fn claim(file: &[u8]) -> Option<&[u8]> {
    let slot = |at: usize| {
        let slot = file.get(at..at + 512)?;
        let number = |at: usize| slot.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
        let sum = crc32c::crc32c(&slot[..508]);
        let generation = u64::from_le_bytes(slot.get(16..24)?.try_into().ok()?);
        (number(508) == Some(sum)).then_some((generation, &slot[24..76]))
    };
    [slot(0), slot(4096)].into_iter().flatten().max().map(|(_, claim)| claim)
}
