//! The [`Backing`] of a real log: segments and CONTROL in a store.

mod truncate;

use std::path::PathBuf;

use super::{Backing, Intent};
use crate::control::Control;
use crate::crypt::{ActiveKey, Cipher, Keys};
use crate::error::{Result, WalError, discard, is_full};
use crate::format::name;
use crate::format::segment::{FIRST_FRAME, SegmentHeader};
use crate::lsn::Lsn;
use crate::options::{Preallocate, WalOptions};
use crate::segments::{Epoch, LiveSegment, OpenSegment, construct, prove, publish};
use crate::snapshot;
use crate::store::{StoreFile, WalStore};
use crate::sync::{Arc, AtomicU32, Counter, Mutex, Ordering};

/// How far ahead of the write position a segment is zero-filled, in bytes.
const ZERO_FILL_BYTES: u64 = 256 << 10;
/// Writes of more than this overwrite nothing that a zero-fill would have prepared.
const SMALL_WRITE_BYTES: u64 = 64 << 10;

/// Segments that may wait for a sync at once, each with an open file; as many again may wait for
/// the next snapshot to close theirs.
const MAX_UNSYNCED_SEGMENTS: usize = 32;

static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// A segment of the live chain, shared with readers.
type Live<S> = Arc<LiveSegment<<S as WalStore>::File>>;

/// Where a log keeps its bytes.
pub(crate) struct Storage<S: WalStore> {
    store: Arc<S>,
    keys: Keys,
    control: Control<S>,
    /// The live chain, ascending; the last one takes frames. Readers copy it.
    live: Mutex<Vec<Live<S>>>,
    /// Segments below the head whose names are not removed yet, oldest first.
    dead: Mutex<Vec<Live<S>>>,
    /// Snapshots that do not count any more, or not yet, and have their names.
    dead_images: Mutex<Vec<u64>>,
    segment_bytes: u64,
    max_unsynced: u64,
    max_unit: u64,
    max_record: u32,
    zero_fill: bool,
    /// The process that opened the log; a fork of it does no I/O.
    process: u32,
    syncs: Counter,
    /// 1: no I/O begins any more.
    over: AtomicU32,
}

/// What the write stage owns.
pub(crate) struct Writer<F> {
    active: OpenSegment<F>,
    /// What proves the headers of this epoch.
    cipher: Option<Arc<Cipher>>,
    /// File offset up to which the active segment's bytes exist; `u64::MAX`: no more zero-fill.
    filled: u64,
    /// Segments that were left with bytes no sync has covered, oldest first, with their ends.
    unsynced: Vec<(OpenSegment<F>, u64)>,
}

impl<F> Writer<F> {
    /// A segment leaves when all its bytes are durable, that is by a sync that began after its
    /// last byte was written.
    ///
    /// Its file goes with the snapshot, which is dropped when the stage is free again.
    fn forget_synced(&mut self, durable: u64) -> Vec<OpenSegment<F>> {
        let synced = self.unsynced.partition_point(|&(_, end)| end <= durable);
        self.unsynced.drain(..synced).map(|(segment, _)| segment).collect()
    }
}

/// What one sync covers.
pub(crate) struct Covered<F> {
    files: Vec<(PathBuf, Arc<F>)>,
    newest_seq: u64,
    /// Files that need no sync any more.
    synced: Vec<OpenSegment<F>>,
}

/// Closing a file is the store's code: it may call back, and it may panic. It loses nothing then,
/// because what is closed is synced, or fails to be and is reported as that.
impl<F> Drop for Covered<F> {
    fn drop(&mut self) {
        self.files.drain(..).for_each(discard);
        self.synced.drain(..).for_each(discard);
    }
}

impl<S: WalStore> Storage<S> {
    /// Storage over a recovered log whose last live segment is `active` and ends at `end`.
    pub(crate) fn new(
        store: Arc<S>,
        control: Control<S>,
        live: Vec<SegmentHeader>,
        active: S::File,
        epoch: &Epoch,
        end: u64,
        options: &WalOptions,
    ) -> Result<(Self, Writer<S::File>)> {
        let missing = WalError::NotFound { path: store.locate("") };
        let header = *live.last().ok_or(missing)?;
        let path = store.locate(&name::segment(header.seq));
        let active = OpenSegment { header, file: Arc::new(active), path };
        let cipher = epoch.cipher.clone();
        let writer = Writer { filled: active.offset(end), active, cipher, unsynced: Vec::new() };
        let zero_fill = match options.preallocate {
            Preallocate::Auto => store.overwriting_is_cheaper(),
            Preallocate::Zeroed => true,
            Preallocate::Off => false,
        };
        let storage = Self {
            store,
            keys: options.keys.clone(),
            control,
            live: Mutex::new(live.into_iter().map(LiveSegment::new).collect()),
            dead: Mutex::new(Vec::new()),
            dead_images: Mutex::new(Vec::new()),
            segment_bytes: options.segment_bytes,
            max_unsynced: options.max_unsynced(),
            max_unit: options.max_unit(),
            max_record: options.max_record_bytes,
            zero_fill,
            process: std::process::id(),
            syncs: Counter::default(),
            over: AtomicU32::new(0),
        };
        Ok((storage, writer))
    }

    pub(crate) fn store(&self) -> &Arc<S> {
        &self.store
    }

    pub(crate) fn keys(&self) -> &Keys {
        &self.keys
    }

    pub(crate) fn control(&self) -> &Control<S> {
        &self.control
    }

    /// The segment that holds an LSN, and the base of the next one.
    pub(crate) fn holder(&self, lsn: u64) -> (Option<Live<S>>, Option<u64>) {
        let live = self.live.lock();
        let next = live.partition_point(|segment| segment.header.base <= lsn);
        let holder = next.checked_sub(1).and_then(|index| live.get(index)).map(Arc::clone);
        (holder, live.get(next).map(|segment| segment.header.base))
    }

    /// The live chain, ascending.
    pub(crate) fn live(&self) -> Vec<Live<S>> {
        self.live.lock().clone()
    }

    /// Whether nothing of the log is plain.
    pub(crate) fn is_entirely_encrypted(&self) -> bool {
        self.live.lock().last().is_some_and(|segment| segment.header.is_entire())
    }

    /// The newest segment that has its name.
    fn newest_seq(&self) -> u64 {
        self.live.lock().last().map_or(0, |segment| segment.header.seq)
    }

    /// The header of a segment that begins at `at` behind `previous`.
    fn next_header(&self, previous: &SegmentHeader, at: u64, durable: u64) -> SegmentHeader {
        SegmentHeader {
            seq: previous.seq + 1,
            base: at,
            prev_seq: previous.seq,
            head: self.control.head(),
            durable,
            max_unsynced: self.max_unsynced,
            max_unit: self.max_unit,
            max_record: self.max_record,
            ..*previous
        }
    }

    fn open_segment(&self, header: SegmentHeader, file: S::File) -> OpenSegment<S::File> {
        let path = self.store.locate(&name::segment(header.seq));
        OpenSegment { header, file: Arc::new(file), path }
    }

    /// Syncs of segments so far.
    pub(crate) fn syncs(&self) -> u64 {
        self.syncs.get()
    }

    /// Whether the log's lock was given back: on a poisoned log a sync may be under way still.
    fn is_over(&self) -> bool {
        // ORDERING: Relaxed; a hint that ends syncs early, on which nothing rests; see `end`.
        self.over.load(Ordering::Relaxed) != 0
    }

    /// Zero-fills the active segment a little ahead of `from`, so that the syncs of the next
    /// small commits overwrite bytes that the file already has.
    ///
    /// Zeros are no frame, so a crash at any point changes nothing.
    fn fill_ahead(&self, writer: &mut Writer<S::File>, from: u64) -> Result<()> {
        let until = (from + ZERO_FILL_BYTES).next_multiple_of(4096).min(self.segment_bytes);
        let mut at = from;
        while at < until {
            let piece = usize::try_from(until - at).unwrap_or(usize::MAX).min(ZEROS.len());
            match writer.active.file.write_at(at, &ZEROS[..piece]) {
                Ok(()) => at += piece as u64,
                Err(error) if is_full(&error) => {
                    // No data is at stake: the segment just goes on without preparation.
                    writer.filled = u64::MAX;
                    return Ok(());
                }
                Err(error) => return Err(WalError::io("write", &writer.active.path, error)),
            }
        }
        writer.filled = writer.filled.max(at);
        Ok(())
    }
}

impl<S: WalStore> Backing for Storage<S> {
    type Stage = Writer<S::File>;
    type Snapshot = Covered<S::File>;
    type Image = S::File;
    type Key = ActiveKey;

    fn check(&self) -> Result<()> {
        if std::process::id() == self.process { Ok(()) } else { Err(WalError::Forked) }
    }

    fn limit(&self, writer: &Self::Stage) -> u64 {
        writer.active.header.base + (self.segment_bytes - FIRST_FRAME)
    }

    fn is_fresh(&self, writer: &Self::Stage, at: u64) -> bool {
        at == writer.active.header.base
    }

    fn is_crowded(&self, writer: &Self::Stage, durable: u64) -> bool {
        let unsynced = writer.unsynced.iter().filter(|&&(_, end)| end > durable);
        unsynced.count() >= MAX_UNSYNCED_SEGMENTS
    }

    fn rotate(&self, writer: &mut Self::Stage, at: u64, durable: u64) -> Result<()> {
        let mut header = self.next_header(&writer.active.header, at, durable);
        prove(&mut header, writer.cipher.as_deref());
        let file = construct(&*self.store, &header, self.segment_bytes)?;
        publish(&*self.store, &file, &header)?;
        // CONTROL learns of the segment by the first sync that covers it, not here.
        let active = self.open_segment(header, file);
        let left = std::mem::replace(&mut writer.active, active);
        writer.unsynced.push((left, at));
        writer.filled = FIRST_FRAME;
        self.live.lock().push(LiveSegment::new(header));
        Ok(())
    }

    fn write(
        &self,
        writer: &mut Self::Stage,
        at: u64,
        parts: &[&[u8]],
        intent: Intent,
    ) -> Result<()> {
        let start = writer.active.offset(at);
        let mut offset = start;
        for part in parts.iter().filter(|part| !part.is_empty()) {
            let failed = |e| WalError::io_or_full("write", &writer.active.path, e);
            writer.active.file.write_at(offset, part).map_err(failed)?;
            offset += part.len() as u64;
        }
        if offset > writer.filled {
            writer.filled = offset;
            let small = offset - start <= SMALL_WRITE_BYTES;
            if self.zero_fill && small && intent == Intent::Sync {
                self.fill_ahead(writer, offset)?;
            }
        }
        Ok(())
    }

    fn snapshot(&self, writer: &mut Self::Stage, durable: u64) -> Self::Snapshot {
        let synced = writer.forget_synced(durable);
        let left = writer.unsynced.iter().map(|(segment, _)| segment);
        let files = left.chain([&writer.active]);
        Covered {
            files: files.map(|s| (s.path.clone(), Arc::clone(&s.file))).collect(),
            newest_seq: writer.active.header.seq,
            synced,
        }
    }

    fn sync(&self, covered: &Self::Snapshot, written: u64) -> Result<()> {
        for (path, file) in &covered.files {
            if self.is_over() {
                return Err(WalError::Closed);
            }
            file.sync().map_err(|e| WalError::io("sync", path, e))?;
            self.syncs.add(1);
        }
        if covered.newest_seq > self.control.claim().newest_seq {
            // DURABILITY: until this slot is durable nothing in a new segment is acknowledged, so
            // a crash before it may lose the segment and no promise.
            self.control.witness(|claim| {
                claim.newest_seq = covered.newest_seq;
                claim.durable = written;
            })?;
        }
        Ok(())
    }

    fn release(&self, covered: &Self::Snapshot) {
        if !self.is_over() {
            covered.files.iter().for_each(|(_, file)| file.release_cache());
        }
    }

    fn has_dead(&self, head: u64) -> bool {
        let dead = self.live.lock().get(1).is_some_and(|second| second.header.base <= head);
        dead || !self.dead.lock().is_empty() || !self.dead_images.lock().is_empty()
    }

    fn snapshot_lsn(&self) -> Option<u64> {
        Some(self.control.claim().snapshot).filter(|lsn| *lsn != u64::MAX)
    }

    fn complete(&self) -> Result<()> {
        self.control.complete()
    }

    fn make_way(&self, lsn: u64) -> Result<()> {
        snapshot::remove_leftover(&*self.store, lsn)
    }

    fn move_head(&self, head: u64, durable: u64, image: Option<&S::File>) -> Result<Result<()>> {
        self.begin_at(head, durable, image)
    }

    fn head(&self) -> u64 {
        self.control.head()
    }

    fn allows_cut(&self, at: u64) -> Result<()> {
        let claim = self.control.claim();
        if claim.snapshot != u64::MAX && at < claim.snapshot {
            let (lsn, snapshot) = (Lsn::new(at), Lsn::new(claim.snapshot));
            return Err(WalError::BelowSnapshot { lsn, snapshot });
        }
        Ok(())
    }

    fn cut(
        &self,
        writer: &mut Self::Stage,
        at: u64,
        key: Option<ActiveKey>,
    ) -> Result<(Epoch, Self::Snapshot)> {
        self.end_at(writer, at, key)
    }

    fn show_cut(&self, writer: &Self::Stage) {
        self.show_end(writer.active.header);
    }

    fn remove_dead(&self) -> Result<()> {
        self.remove_below(self.head())
    }

    fn witness(&self, durable: u64) -> Result<()> {
        if durable <= self.control.claim().durable {
            return Ok(());
        }
        self.control.witness(|claim| claim.durable = claim.durable.max(durable))
    }

    fn seal(&self, end: u64) -> Result<()> {
        // A rotation that was under way when the log was closed may still add an empty segment.
        // That is no segment anybody was promised, and recovery takes the log for clean with it.
        let newest_seq = self.newest_seq();
        self.control.witness(|claim| {
            claim.newest_seq = newest_seq;
            claim.durable = end;
            claim.clean = true;
        })
    }

    fn end(&self) {
        // ORDERING: Relaxed; whoever is in the middle of a sync stops at the next file, and what
        // is under way is not waited for.
        self.over.store(1, Ordering::Relaxed);
        self.control.unlock(&self.store);
    }
}
