//! [`Engine`]: the ledger that many threads share.
//!
//! Owns the balances in memory, and nothing on disk: the log keeps what is durable.
//!
//! I1. The log and the balances agree whenever the outer lock is held exclusively: a batch is
//!     appended and applied under the shared lock and the locks of its accounts. So the order of
//!     the log is the order in which each account changed.
//! I2. Nobody waits for a sync with a lock in hand. What is to become durable is named under the
//!     lock ([`Wal::durable`]) and waited for outside: commits share syncs.
//! I3. Who moves the beginning or the end of the log holds `admin`. A place that was taken from
//!     the log is still what it was when the checkpoint for it begins.
//!
//! When the log fails for good (it is poisoned, or closed), so does every call of the engine, and
//! what it has in memory is worth nothing: open it again.

use std::collections::BTreeMap;
use std::sync::Arc;

use cohort_wal::{Durable, FileStore, Follow, Lsn, Record, Wal, WalError, WalStore};
use parking_lot::{Mutex, MutexGuard, RwLock};

use crate::book::{Account, BANK, Book};
use crate::transaction::{Posted, Transaction, Transactions};
use crate::{Error, Result};

/// A ledger. Share it as `Arc<Engine>`.
#[derive(Debug)]
pub struct Engine<S: WalStore = FileStore> {
    wal: Arc<Wal<S>>,
    accounts: RwLock<Vec<Mutex<Account>>>,
    admin: Mutex<()>,
}

/// Where a transaction is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Its first record: rolling back from here undoes it.
    pub first: Lsn,
    /// Its last record: rolling back behind it keeps it.
    pub last: Lsn,
}

/// A transaction that has its place in the order, and is not durable yet.
#[derive(Debug)]
#[must_use = "it is not promised before `wait` returns"]
pub struct Pending {
    receipt: Receipt,
    durable: Durable,
}

impl Pending {
    /// Where it will be.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.receipt
    }

    /// Waits until it survives power loss, with all before it.
    ///
    /// # Errors
    /// [`WalError::Truncated`] when it was rolled back meanwhile. After any other error it may
    /// survive or not.
    pub fn wait(self) -> Result<Receipt> {
        self.durable.wait()?;
        Ok(self.receipt)
    }
}

impl<S: WalStore> Engine<S> {
    /// The ledger in a log: its snapshot, and what was posted since.
    ///
    /// # Errors
    /// [`Error::Half`], [`Error::Record`] and [`Error::Image`] when the log is not a ledger of so
    /// many accounts; otherwise as the log says.
    pub fn open(wal: Wal<S>, accounts: u16) -> Result<Self> {
        let book = read(&wal, accounts, |_| true)?;
        let accounts = RwLock::new(locked(book));
        Ok(Self { wal: Arc::new(wal), accounts, admin: Mutex::new(()) })
    }

    /// The log: its positions, its statistics, to close it.
    #[must_use]
    pub fn wal(&self) -> &Wal<S> {
        &self.wal
    }

    /// How many accounts there are.
    #[must_use]
    pub fn accounts(&self) -> u16 {
        u16::try_from(self.accounts.read().len()).unwrap_or(u16::MAX)
    }

    /// Posts a transaction and waits until it is durable.
    ///
    /// # Errors
    /// As [`begin`](Self::begin) and [`Pending::wait`].
    pub fn post(&self, transaction: &Transaction) -> Result<Receipt> {
        self.begin(transaction)?.wait()
    }

    /// Posts a transaction. From here on others see what it did, and all that comes after it in
    /// the log rests on it.
    ///
    /// # Errors
    /// [`Error::NoAccount`], [`Error::Overdrawn`]; as [`Wal::append_batch`]. Nothing was posted,
    /// except that with [`WalError::Poisoned`] nobody knows.
    pub fn begin(&self, transaction: &Transaction) -> Result<Pending> {
        let accounts = self.accounts.read();
        let mut held = hold(&accounts, transaction)?;
        for leg in transaction.legs() {
            if let Some((_, after)) = held.get_mut(&leg.account) {
                let changed = after.after(*leg, transaction.reference());
                *after = changed.ok_or(Error::Overdrawn(leg.account))?;
            }
        }
        let overdrawn = held.iter().find(|(id, (_, after))| **id != BANK && after.balance < 0);
        if let Some((id, _)) = overdrawn {
            return Err(Error::Overdrawn(*id));
        }
        let lsns = self.wal.append_batch(&transaction.records())?;
        let (Some(first), Some(last)) = (lsns.first().copied(), lsns.last().copied()) else {
            return Err(Error::Legs(0));
        };
        // Under the lock, where the LSN is certain to name this record. Behind it the log may be
        // cut, and then the same LSN is soon another transaction's.
        let durable = self.wal.durable(last);
        for (mut account, after) in held.into_values() {
            *account = after;
        }
        Ok(Pending { receipt: Receipt { first, last }, durable })
    }

    /// All balances at one place of the log, once everything before it is durable: nothing that a
    /// crash could take back.
    ///
    /// # Errors
    /// [`WalError::Truncated`] when some of it was rolled back meanwhile: ask again. Otherwise as
    /// [`Wal::wait_durable`].
    pub fn book(&self) -> Result<Book> {
        let (book, durable) = {
            let mut accounts = self.accounts.write();
            (book_of(&mut accounts), self.wal.last_lsn().map(|last| self.wal.durable(last)))
        };
        // Without a record everything is in the snapshot.
        durable.map_or(Ok(()), Durable::wait)?;
        Ok(book)
    }

    /// The same from the log alone, as an opening would: the snapshot, and every record since,
    /// durable or not. Of a poisoned log, what is durable.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`WalError::Truncated`] when the log was rolled back meanwhile.
    pub fn audit(&self) -> Result<Book> {
        read(&self.wal, self.accounts(), |_| true)
    }

    /// The transactions from the one that begins at `lsn` on.
    ///
    /// # Errors
    /// As [`Wal::iter_from`]. The iterator's: [`Error::Record`] when none begins there.
    pub fn history(&self, lsn: Lsn) -> Result<impl Iterator<Item = Result<Posted>> + use<S>> {
        Ok(Transactions::new(self.wal.iter_from(lsn)?))
    }

    /// The newest snapshot, and a follower of what is posted behind it.
    ///
    /// # Errors
    /// As [`Wal::snapshots`] and [`Wal::follow`].
    pub fn follow(&self) -> Result<(Book, Transactions<Follow<S>>)> {
        loop {
            let (book, from) = image(&self.wal, self.accounts())?;
            match self.wal.follow(from) {
                // A checkpoint came between the two.
                Err(WalError::Truncated { .. }) => {}
                follow => return Ok((book, Transactions::new(follow?))),
            }
        }
    }

    /// Makes a snapshot of the ledger as it is now, and forgets the log before it.
    ///
    /// # Errors
    /// As [`Wal::checkpoint`].
    pub fn checkpoint(&self) -> Result<()> {
        self.checkpoint_with(&self.admin.lock())
    }

    /// The same if the log is longer than this, and nobody is at it already. Returns whether it
    /// made one.
    ///
    /// # Errors
    /// As [`checkpoint`](Self::checkpoint).
    pub fn checkpoint_if_longer(&self, bytes: u64) -> Result<bool> {
        match self.admin.try_lock() {
            Some(admin) if self.wal.live_bytes() > bytes => {
                self.checkpoint_with(&admin).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    fn checkpoint_with(&self, _admin: &MutexGuard<'_, ()>) -> Result<()> {
        let (book, end) = {
            let mut accounts = self.accounts.write();
            (book_of(&mut accounts), self.wal.end_lsn())
        };
        // Posting goes on while the image is written.
        Ok(self.wal.checkpoint(end, |image| book.write(image))?)
    }

    /// Undoes the transaction that begins at `first` and everything after it. When it has
    /// returned nothing of that comes back, not after power loss either.
    ///
    /// # Errors
    /// [`WalError::BelowSnapshot`], [`WalError::InsideBatch`] and others of
    /// [`Wal::truncate_from`], with nothing changed where it says so.
    pub fn roll_back_from(&self, first: Lsn) -> Result<()> {
        self.cut(|lsn| lsn < first, || self.wal.truncate_from(first))
    }

    /// Undoes everything after the transaction that ends with the record at `last`.
    ///
    /// # Errors
    /// As [`roll_back_from`](Self::roll_back_from), by [`Wal::truncate_after`].
    pub fn roll_back_after(&self, last: Lsn) -> Result<()> {
        self.cut(|lsn| lsn <= last, || self.wal.truncate_after(last))
    }

    /// Cuts the log with nobody else at it, and has the balances follow.
    fn cut(
        &self,
        keep: impl Fn(Lsn) -> bool,
        cut: impl FnOnce() -> Result<(), WalError>,
    ) -> Result<()> {
        let _admin = self.admin.lock();
        let mut accounts = self.accounts.write();
        let count = u16::try_from(accounts.len()).unwrap_or(u16::MAX);
        // First what may fail and changes nothing: the balances as they will be. A place inside a
        // transaction, and one below the snapshot, are the log's to refuse.
        let book = match read(&self.wal, count, keep) {
            Err(Error::Half { .. }) => None,
            book => Some(book?),
        };
        let end = self.wal.end_lsn();
        let done = cut();
        // Also with an error: it may be about a file that should be gone, and the log is cut.
        if let Some(book) = book
            && (done.is_ok() || self.wal.end_lsn() != end)
        {
            *accounts = locked(book);
        }
        Ok(done?)
    }
}

/// The locks of a transaction's accounts, each with a copy to work on. They are taken in the order
/// of the accounts, so that nobody waits in a circle.
fn hold<'a>(
    accounts: &'a [Mutex<Account>],
    transaction: &Transaction,
) -> Result<BTreeMap<u16, (MutexGuard<'a, Account>, Account)>> {
    let mut touched: Vec<u16> = transaction.legs().iter().map(|leg| leg.account).collect();
    touched.sort_unstable();
    touched.dedup();
    let mut held = BTreeMap::new();
    for id in touched {
        let account = accounts.get(usize::from(id)).ok_or(Error::NoAccount(id))?.lock();
        let copy = *account;
        held.insert(id, (account, copy));
    }
    Ok(held)
}

fn book_of(accounts: &mut [Mutex<Account>]) -> Book {
    accounts.iter_mut().map(|account| *account.get_mut()).collect::<Vec<_>>().into()
}

fn locked(book: Book) -> Vec<Mutex<Account>> {
    book.into_accounts().into_iter().map(Mutex::new).collect()
}

/// The newest snapshot, and where the log goes on behind it.
fn image<S: WalStore>(wal: &Wal<S>, accounts: u16) -> Result<(Book, Lsn)> {
    // The head first: if there is a snapshot by now, this head is below it, and of no use.
    let head = wal.head_lsn();
    match wal.snapshots()?.latest()? {
        Some(snapshot) => {
            let lsn = snapshot.lsn();
            Ok((Book::read(snapshot, accounts)?, lsn))
        }
        None => Ok((Book::new(accounts), head)),
    }
}

/// The ledger as the log has it, up to the first record that is not to be kept.
fn read<S: WalStore>(wal: &Wal<S>, accounts: u16, keep: impl Fn(Lsn) -> bool) -> Result<Book> {
    loop {
        let (mut book, from) = image(wal, accounts)?;
        let records = match wal.iter_from(from) {
            // A checkpoint came between the two.
            Err(WalError::Truncated { .. }) => continue,
            records => records?,
        };
        let kept = |record: &Result<Record, WalError>| {
            record.as_ref().ok().is_none_or(|record| keep(record.lsn()))
        };
        for posted in Transactions::new(records.take_while(kept)) {
            book.apply(&posted?)?;
        }
        return Ok(book);
    }
}
