//! Repair: making a log that refuses to open open again, at the price that the caller names.
//!
//! An explicit act: no opening ever repairs. It begins as recovery does, with everything that is
//! known before anything is changed; then it copies what it will change or remove, and only then
//! changes it. A cut is recovery's own last step with an end that the caller chose: a new epoch
//! whose first segment begins there.
//!
//! I1. Every byte that is changed or removed is durable under another name first. So is what the
//!     next opening will remove because of the repair.
//! I2. A crash at any step leaves the log refused as before, with all its bytes, or repaired; the
//!     same call can be made again.
//! I3. A dry run writes nothing, and computes what it says by the code of what it speaks of.
//! I4. An error of the store is an error, never damage, and nothing was changed that is not whole.

mod aside;
mod assess;
mod cut;
mod rebuild;
mod report;

use std::io;
use std::path::Path;

use self::assess::Assessment;
use super::look::open_directory;
use super::plan;
use super::survey;
use crate::control;
use crate::crypt::Keys;
use crate::error::{Result, WalError};
use crate::format::name;
use crate::lsn::Lsn;
use crate::options::WalOptions;
use crate::store::WalStore;

pub use report::{RepairCopy, RepairEffect, RepairReport};

/// What [`repair`](repair()) is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Repair {
    /// Report what is wrong and what each repair would do. Changes nothing.
    #[default]
    DryRun,
    /// End the log at this LSN: where a record or a batch ends, at or above the head. Everything
    /// below must be intact.
    CutAt(Lsn),
    /// Write CONTROL anew from the segments alone: the log begins where the oldest of the segments
    /// that hang together with the newest begins, or at CONTROL's head where that is readable and
    /// among them.
    RebuildControl {
        /// The snapshot that counts from now on. Its file must be there, at or above the new head.
        snapshot: Option<Lsn>,
    },
}

/// Repairs the log in `dir`, or says what is wrong with it.
///
/// Nothing is lost: every file that is changed or removed, or holds what the log does not show any
/// more, is first copied within the directory, to `<file>.repair-<n>`, and synced. Openings leave
/// these copies alone and report them; removing them is up to the caller. Damage itself is never
/// mended: what is intact behind it is for [`Salvage`](crate::Salvage), which may be run before.
///
/// Takes the lock of the log, if there is a CONTROL to lock, and blocks for the time it takes to
/// read all segments twice and to copy what is copied, which needs space.
///
/// # Durability
/// When it returns, the repair and the copies survive power loss. A crash on the way leaves the
/// log refused as it was, with all its bytes, or repaired; call again.
///
/// # Errors
/// [`WalError::Locked`] while a handle has the log open; [`WalError::NotFound`] and
/// [`WalError::NotALog`] where there is none; [`WalError::UnsupportedVersion`].
///
/// Of a cut: [`WalError::Truncated`] below the head, [`WalError::NotARecord`] inside a record or a
/// batch or past the end, [`WalError::Corruption`] when something below is damaged or CONTROL must
/// be rebuilt first, [`WalError::InvalidOption`] below the snapshot that counts,
/// [`WalError::WrongKey`] for an encrypted log, of which [`WalOptions::repair`] takes the keys.
///
/// Of a rebuilt CONTROL: [`WalError::Corruption`] when no segment is readable,
/// [`WalError::InvalidOption`] for a snapshot that is not there or out of range.
///
/// [`WalError::StorageFull`] and [`WalError::Io`]: nothing was changed that the repair had not
/// finished; call again when the cause is gone.
///
/// # Examples
/// ```
/// use cohort_wal::{Repair, Wal, repair};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let dir = tempfile::tempdir()?;
/// let wal = Wal::open(dir.path())?;
/// wal.append(b"kept")?;
/// let lost = wal.append(b"damaged")?;
/// wal.close()?;
///
/// // Somebody writes into the file.
/// let segment = dir.path().join("00000000000000000001.wal");
/// let mut bytes = std::fs::read(&segment)?;
/// let at = bytes.windows(7).position(|window| window == b"damaged").unwrap();
/// bytes[at] ^= 1;
/// std::fs::write(&segment, bytes)?;
/// assert!(Wal::open(dir.path()).unwrap_err().is_corruption());
///
/// let report = repair(dir.path(), Repair::DryRun)?;
/// assert_eq!(report.recommended, Some(Repair::CutAt(lost)));
/// assert_eq!(report.cut.unwrap().kept_records, 1);
///
/// repair(dir.path(), Repair::CutAt(lost))?;
/// let wal = Wal::open(dir.path())?;
/// assert_eq!(wal.iter()?.count(), 1);
/// assert!(dir.path().join("00000000000000000001.wal.repair-1").exists());
/// # Ok(())
/// # }
/// ```
pub fn repair(dir: impl AsRef<Path>, repair: Repair) -> Result<RepairReport> {
    WalOptions::new().repair(dir, repair)
}

impl WalOptions {
    /// Repairs the log in `dir`, as [`repair`](repair()). Of the options only the keys have an
    /// effect: a cut of an encrypted log needs them, and fails without with
    /// [`WalError::WrongKey`]; nothing else that a repair does needs any.
    ///
    /// # Errors
    /// As [`repair`](repair()).
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{Repair, Wal, WalOptions};
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// # let dir = tempfile::tempdir().unwrap();
    /// Wal::open(dir.path())?.append_and_sync(b"kept")?;
    /// let report = WalOptions::new().repair(dir.path(), Repair::DryRun)?;
    /// assert!(!report.is_damaged());
    /// # Ok(())
    /// # }
    /// ```
    pub fn repair(self, dir: impl AsRef<Path>, repair: Repair) -> Result<RepairReport> {
        self.repair_store(&open_directory(dir.as_ref())?, repair)
    }

    /// The same, in a store of any kind.
    ///
    /// # Errors
    /// As [`repair`](repair()).
    ///
    /// # Examples
    /// ```
    /// use cohort_wal::{MemStore, Repair, WalOptions};
    ///
    /// # fn main() -> cohort_wal::Result<()> {
    /// let store = MemStore::new();
    /// WalOptions::new().open_store(store.clone())?.append_and_sync(b"kept")?;
    /// assert!(!WalOptions::new().repair_store(&store, Repair::DryRun)?.is_damaged());
    /// # Ok(())
    /// # }
    /// ```
    pub fn repair_store<S: WalStore>(self, store: &S, repair: Repair) -> Result<RepairReport> {
        let mut file = lock(store)?;
        let result = locked(store, &self.keys, repair, &mut file);
        if let Some(file) = &file {
            // Explicitly, because a fork of this process would keep the lock.
            store.unlock(file).ok();
        }
        result
    }
}

/// The same, in a store of any kind.
///
/// # Errors
/// As [`repair`](repair()).
///
/// # Examples
/// ```
/// use cohort_wal::{MemStore, Repair, WalOptions, WalStore, repair_store};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = MemStore::new();
/// WalOptions::new().open_store(store.clone())?.append_and_sync(b"record")?;
/// store.remove("CONTROL")?;
/// assert!(WalOptions::new().open_store(store.clone()).is_err());
///
/// let report = repair_store(&store, Repair::RebuildControl { snapshot: None })?;
/// assert!(report.still_refused.is_none());
/// assert_eq!(WalOptions::new().open_store(store)?.iter()?.count(), 1);
/// # Ok(())
/// # }
/// ```
pub fn repair_store<S: WalStore>(store: &S, repair: Repair) -> Result<RepairReport> {
    WalOptions::new().repair_store(store, repair)
}

/// The locked CONTROL file; `None` when there is none to lock.
fn lock<S: WalStore>(store: &S) -> Result<Option<S::File>> {
    let path = store.locate(name::CONTROL);
    let listing = survey::list(store)?;
    if listing.is_bare() {
        return Err(WalError::NotFound { path: store.locate("") });
    }
    if listing.control {
        // Before anything of it is locked: whether it is ours at all.
        match survey::read_control(store, &listing) {
            Ok(_) | Err(WalError::Corruption { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    match store.open(name::CONTROL) {
        Ok(file) => {
            control::lock(store, &file, &path)?;
            Ok(Some(file))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(WalError::NotALog { path, why: "CONTROL is not a regular file" })
        }
        Err(error) => Err(WalError::io("open", &path, error)),
    }
}

fn locked<S: WalStore>(
    store: &S,
    keys: &Keys,
    repair: Repair,
    file: &mut Option<S::File>,
) -> Result<RepairReport> {
    if repair != Repair::DryRun {
        store.sync_names().map_err(|e| WalError::io("sync", &store.locate(""), e))?;
    }
    let assessment = Assessment::of(store)?;
    let mut report = assessment.report(repair);
    match repair {
        Repair::DryRun => assessment.advise(store, &mut report)?,
        Repair::CutAt(lsn) => {
            let cut = cut::plan(store, &assessment, lsn.get())?;
            report.cut = Some(cut.effect(store));
            cut.apply(store, keys, assessment, file)?;
        }
        Repair::RebuildControl { snapshot } => {
            let rebuild = rebuild::plan(store, &assessment, snapshot)?;
            report.rebuild = Some(rebuild.effect(store));
            rebuild.apply(store, file)?;
        }
    }
    if repair != Repair::DryRun {
        report.still_refused = plan::verdict(store)?.err();
    }
    Ok(report)
}
