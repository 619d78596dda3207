//! [`Salvage`]: reading a damaged log past its damage.

use std::collections::VecDeque;
use std::fmt;
use std::path::Path;

use super::decode::{Decoder, flaw_at};
use super::readonly::snapshots_beside;
use super::record::{Record, RecordRef};
use crate::crypt::{Cipher, Keys};
use crate::error::{Result, WalError};
use crate::format::frame::{Header, Kind};
use crate::format::segment::SegmentHeader;
use crate::lsn::Lsn;
use crate::options::WalOptions;
use crate::recovery::{Found, Route, Walk, open_directory, route};
use crate::segments::{cipher_of, is_forged};
use crate::snapshot::Snapshots;
use crate::store::{FileStore, WalStore};
use crate::sync::Arc;

/// The records of a log that may be damaged: each one whose frame is intact, and in its place each
/// range that had to be skipped, as an error. Iteration goes on after an error.
///
/// * [`WalError::Corruption`] names the file, the LSN range that is lost and why. An empty range
///   says that something is wrong (a file of another log, say) and no record was lost by it. That
///   of a lost CONTROL is what may have been truncated, or be lost, before the oldest segment.
/// * [`WalError::Io`] is a part of a file that the system could not read; the range is in its
///   message. It is not damage: what is there is unknown, and may be readable another time.
/// * [`WalError::FeatureMissing`] is a record that this build cannot decode, and
///   [`WalError::Tampered`] one that was forged.
///
/// Of a log that opens, these are the records that [`open`](WalOptions::open) would show. Of one
/// that is refused, the rules of recovery are applied past the damage: every intact record up to
/// the newest witness of durability, and from there on what hangs together with it. What lies
/// behind a torn place that no witness speaks for was never acknowledged, as far as can be told,
/// and shows only [`with_torn_tail`](Self::with_torn_tail).
///
/// Records of a *batch* that is damaged in part are shown without the others: what a batch promises
/// ends here. So does what a cut promises, if the segment that made it is lost: records that were
/// cut off the log may show again. Where CONTROL is lost, so is the head, and records below it may
/// show, as far as their segments are still there.
///
/// It holds no lock and writes nothing, so it may run beside a writer. Memory is a block and the
/// largest record; time is linear in the size of the files.
///
/// ```
/// use cohort_wal::{Wal, WalError, WalOptions};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let wal = Wal::open(dir.path())?;
/// wal.append(b"first")?;
/// let lost = wal.append(b"second")?;
/// let third = wal.append(b"third")?;
/// wal.close()?;
///
/// // Somebody writes into the file.
/// let segment = dir.path().join("00000000000000000001.wal");
/// let mut bytes = std::fs::read(&segment)?;
/// let at = bytes.windows(6).position(|window| window == b"second").unwrap();
/// bytes[at] ^= 1;
/// std::fs::write(&segment, bytes)?;
/// assert!(Wal::open(dir.path()).unwrap_err().is_corruption());
///
/// let mut salvage = WalOptions::new().salvage(dir.path())?;
/// assert_eq!(salvage.next().unwrap()?.data(), b"first");
/// let Some(Err(WalError::Corruption { start, end, .. })) = salvage.next() else { panic!() };
/// assert_eq!((start, end), (lost, third));
/// assert_eq!(salvage.next().unwrap()?.data(), b"third");
/// assert!(salvage.next().is_none());
/// # Ok(())
/// # }
/// ```
pub struct Salvage<S: WalStore = FileStore> {
    store: Arc<S>,
    walk: Walk<S>,
    troubles: VecDeque<WalError>,
    head: u64,
    end: u64,
    keys: Keys,
    ciphers: Ciphers,
    decoder: Decoder,
    /// The segment that is decoded, by number and salt.
    segment: Option<(u64, [u8; 16])>,
    over: bool,
}

/// What opens the frames of each encrypted epoch, by its salt. A header that was guessed from a
/// neighbour's has no proof of its own, and is of the neighbour's epoch.
struct Ciphers {
    by_salt: Vec<([u8; 16], Arc<Cipher>)>,
    /// Segments that are plain where there can be none.
    forged: Vec<u64>,
    /// A snapshot that is plain was forged.
    is_entire: bool,
}

impl Ciphers {
    /// Fails without the key of any of these headers.
    fn new<'a>(keys: &Keys, headers: impl Iterator<Item = &'a SegmentHeader>) -> Result<Self> {
        let mut live: Vec<_> = headers.copied().collect();
        live.sort_unstable_by_key(|header| header.base);
        let forged = (0..live.len()).filter(|at| is_forged(keys, &live, *at));
        let forged = forged.filter_map(|at| live.get(at)).map(|header| header.seq).collect();
        let is_entire = live.iter().any(SegmentHeader::is_entire);
        let mut ciphers = Self { by_salt: Vec::new(), forged, is_entire };
        for header in &live {
            let cipher = cipher_of(keys, header)?;
            let is_known = ciphers.of(header).is_some();
            ciphers
                .by_salt
                .extend(cipher.filter(|_| !is_known).map(|cipher| (header.salt, cipher)));
        }
        Ok(ciphers)
    }

    fn of(&self, header: &SegmentHeader) -> Option<Arc<Cipher>> {
        let is_of = |salt: &[u8; 16]| header.cipher != 0 && *salt == header.salt;
        self.by_salt.iter().find(|(salt, _)| is_of(salt)).map(|(_, cipher)| Arc::clone(cipher))
    }
}

impl<S: WalStore> fmt::Debug for Salvage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("Salvage");
        f.field("head", &self.head).field("end", &self.end).finish_non_exhaustive()
    }
}

impl WalOptions {
    /// Reads what is left of the log in `dir`, past damage. Takes no lock and changes nothing.
    ///
    /// Blocks for the time it takes to read the segments that may be torn, usually the last one.
    /// Of the options only those that describe how records are encoded have an effect.
    ///
    /// # Errors
    /// [`WalError::NotFound`] when there is no log, [`WalError::NotALog`] when there is something
    /// else, [`WalError::Corruption`] when nothing of the log can be read: neither CONTROL nor the
    /// header of any segment. [`WalError::UnsupportedVersion`], [`WalError::FeatureMissing`],
    /// [`WalError::Io`] where names cannot be listed.
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{Wal, WalOptions};
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// Wal::open(dir.path())?.append_and_sync(b"record")?;
    /// std::fs::remove_file(dir.path().join("CONTROL")).unwrap();
    ///
    /// let (records, errors): (Vec<_>, Vec<_>) =
    ///     WalOptions::new().salvage(dir.path())?.partition(Result::is_ok);
    /// assert_eq!((records.len(), errors.len()), (1, 1));
    /// # Ok(())
    /// # }
    /// ```
    pub fn salvage(self, dir: impl AsRef<Path>) -> Result<Salvage> {
        self.salvage_store(open_directory(dir.as_ref())?)
    }

    /// The same, from a store of any kind.
    ///
    /// # Errors
    /// As [`salvage`](Self::salvage).
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{MemStore, WalOptions};
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let store = MemStore::new();
    /// WalOptions::new().open_store(store.clone())?.append_and_sync(b"record")?;
    /// assert_eq!(WalOptions::new().salvage_store(store)?.count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn salvage_store<S: WalStore>(self, store: S) -> Result<Salvage<S>> {
        self.validate()?;
        let Route { walk, troubles, head, end } = route(&store)?;
        let (store, decoder, segment) = (Arc::new(store), Decoder::default(), None);
        let keys = self.keys;
        // Without the keys nothing of them can be read, and who has others is told at once.
        let ciphers = Ciphers::new(&keys, walk.headers())?;
        let over = false;
        Ok(Salvage { store, walk, troubles, head, end, keys, ciphers, decoder, segment, over })
    }
}

impl<S: WalStore> Salvage<S> {
    /// Goes on behind the end, to the end of the files: also yields valid records behind a torn
    /// place that no witness of durability speaks for, and the ranges between them.
    ///
    /// A crash leaves such records; recovery cuts them, because nobody was told that they are
    /// durable. So does damage to what the last two cohorts wrote. Who suspects the latter finds
    /// here what it left.
    ///
    /// ```
    /// use cohort_wal::{MemStore, WalOptions};
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let store = MemStore::new();
    /// let wal = WalOptions::new().open_store(store.clone())?;
    /// wal.append(b"one")?;
    /// wal.append(b"two")?;
    /// wal.flush()?;
    /// // A crash, and the first of the two never reached the disk.
    /// let mut crash = store.snapshot();
    /// for bytes in crash.files_mut().values_mut().filter(|bytes| bytes.len() > 8192) {
    ///     bytes[8192 + 16] ^= 1;
    /// }
    /// let store = MemStore::from_snapshot(crash);
    /// assert_eq!(WalOptions::new().salvage_store(store.clone())?.count(), 0);
    ///
    /// let torn = WalOptions::new().salvage_store(store)?.with_torn_tail();
    /// let records: Vec<_> = torn.filter_map(Result::ok).collect();
    /// assert_eq!(records[0].data(), b"two");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_torn_tail(mut self) -> Self {
        self.walk.without_end();
        self
    }

    /// Oldest LSN that is looked for: CONTROL's head, or where the oldest segment begins if CONTROL
    /// is lost.
    #[must_use]
    pub fn head_lsn(&self) -> Lsn {
        Lsn::new(self.head)
    }

    /// Exclusive end of what was durable or hangs together with it: where recovery would end the
    /// log if nothing below were damaged.
    #[must_use]
    pub fn end_lsn(&self) -> Lsn {
        Lsn::new(self.end)
    }

    /// The snapshots of the log as it is now: the one that CONTROL names, if it is whole. The
    /// records that are left come on top of it.
    ///
    /// ```
    /// use cohort_wal::{MemStore, WalOptions};
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let store = MemStore::new();
    /// let wal = WalOptions::new().open_store(store.clone())?;
    /// wal.checkpoint(wal.end_lsn(), |image| image.write_all(b"balance: 7"))?;
    /// wal.append_and_sync(b"lost")?;
    /// drop(wal);
    /// // Both copies of the header of the segment.
    /// let mut damage = store.snapshot();
    /// for bytes in damage.files_mut().values_mut().filter(|bytes| bytes.len() > 8192) {
    ///     bytes[..8192].fill(0xFF);
    /// }
    /// let store = MemStore::from_snapshot(damage);
    /// assert!(WalOptions::new().open_store(store.clone()).unwrap_err().is_corruption());
    /// let salvage = WalOptions::new().salvage_store(store)?;
    /// assert_eq!(salvage.snapshots().latest()?.unwrap().len(), 10);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn snapshots(&self) -> Snapshots<S> {
        snapshots_beside(&self.store, &self.keys, self.ciphers.is_entire)
    }

    /// The next record, its payload lent until the next call, or what had to be skipped; `None` at
    /// the end. Reads a block now and then, and allocates only for a record larger than a block.
    ///
    /// # Errors
    /// As the iterator. After [`WalError::OutOfMemory`] it ends.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let store = MemStore::new();
    /// WalOptions::new().open_store(store.clone())?.append_and_sync(b"record")?;
    /// let mut salvage = WalOptions::new().salvage_store(store)?;
    /// assert_eq!(salvage.read_next().unwrap()?.data(), b"record");
    /// assert!(salvage.read_next().is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_next(&mut self) -> Option<Result<RecordRef<'_>>> {
        let (lsn, header) = match self.advance() {
            Ok(next) => next?,
            Err(error) => return Some(Err(error)),
        };
        let record = self.decoder.record(lsn, &header, self.walk.body());
        Some(match record {
            Ok(body) => Ok(RecordRef::new(lsn, &header, body)),
            Err(flaw) => {
                let (path, base) = self.walk.place();
                Err(flaw_at(path, base, lsn, &header, flaw))
            }
        })
    }

    fn advance(&mut self) -> Result<Option<(u64, Header)>> {
        if let Some(trouble) = self.troubles.pop_front() {
            return Err(trouble);
        }
        while !self.over {
            let found = self.walk.next(&self.store);
            match found.inspect_err(|_| self.over = true)? {
                Found::Frame { lsn, header } => {
                    self.begin_segment();
                    if header.kind == Kind::Record {
                        return Ok(Some((lsn, header)));
                    }
                    let checked = self.decoder.check_pad(lsn, &header, self.walk.pad_tag());
                    let (path, base) = self.walk.place();
                    checked.map_err(|flaw| flaw_at(path, base, lsn, &header, flaw))?;
                }
                Found::Skipped { error, .. } => return Err(error),
                Found::End => self.over = true,
            }
        }
        Ok(None)
    }
}

impl<S: WalStore> Salvage<S> {
    /// Makes ready for the frames of the segment that is read now.
    fn begin_segment(&mut self) {
        let Some(header) = self.walk.header() else { return };
        let segment = Some((header.seq, header.salt));
        if self.segment != segment {
            if self.ciphers.forged.contains(&header.seq) {
                self.decoder.begin_forged();
            } else {
                self.decoder.begin(self.ciphers.of(header), header.max_record);
            }
            self.segment = segment;
        }
    }
}

impl<S: WalStore> Iterator for Salvage<S> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let record = self.read_next()?.and_then(|record| record.try_to_record());
        self.over |= matches!(record, Err(WalError::OutOfMemory));
        Some(record)
    }
}

impl<S: WalStore> std::iter::FusedIterator for Salvage<S> {}
