//! The state: what the accounts hold, and its image in a snapshot.
//!
//! The image is the accounts in order, 16 bytes each: the balance and the reference of the last
//! transaction, little-endian. The log checks its bytes and its length.

use std::io;

use cohort_wal::Lsn;

use crate::transaction::{Leg, Posted};
use crate::{Error, Result};

/// The account that money comes from and goes to; the only one that may fall below zero.
pub const BANK: u16 = 0;

/// What one account holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Account {
    /// The sum of all amounts it got.
    pub balance: i64,
    /// The reference of the last transaction that had a leg for it; 0 before the first.
    pub last: u64,
}

impl Account {
    /// The account after a leg; `None` where its balance has no room for it.
    #[must_use]
    pub fn after(self, leg: Leg, reference: u64) -> Option<Self> {
        let balance = self.balance.checked_add(leg.amount)?;
        Some(Self { balance, last: reference })
    }
}

/// All accounts, at one place of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Book {
    accounts: Vec<Account>,
}

impl Book {
    /// So many accounts without anything in them.
    #[must_use]
    pub fn new(accounts: u16) -> Self {
        Self { accounts: vec![Account::default(); usize::from(accounts)] }
    }

    /// The accounts in order.
    #[must_use]
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    /// The same, taken apart.
    #[must_use]
    pub fn into_accounts(self) -> Vec<Account> {
        self.accounts
    }

    /// One account; an empty one where there is none.
    #[must_use]
    pub fn account(&self, account: u16) -> Account {
        self.accounts.get(usize::from(account)).copied().unwrap_or_default()
    }

    /// Applies a transaction of the log.
    ///
    /// # Errors
    /// [`Error::Record`] when it names an account that does not exist; the book is then of no use.
    pub fn apply(&mut self, posted: &Posted) -> Result<()> {
        let lsn: Lsn = posted.first;
        for leg in posted.transaction.legs() {
            let why = "it names an account that does not exist";
            let account = self.accounts.get_mut(usize::from(leg.account));
            let account = account.ok_or(Error::Record { lsn, why })?;
            let why = "it makes a balance too large";
            let after = account.after(*leg, posted.transaction.reference());
            *account = after.ok_or(Error::Record { lsn, why })?;
        }
        Ok(())
    }

    /// The sum of all balances. Of whole transactions it is zero.
    #[must_use]
    pub fn total(&self) -> i128 {
        self.accounts.iter().map(|account| i128::from(account.balance)).sum()
    }

    /// Writes the image.
    ///
    /// # Errors
    /// As `to`.
    pub fn write(&self, to: &mut dyn io::Write) -> io::Result<()> {
        for account in &self.accounts {
            to.write_all(&account.balance.to_le_bytes())?;
            to.write_all(&account.last.to_le_bytes())?;
        }
        Ok(())
    }

    /// Reads the image of so many accounts.
    ///
    /// # Errors
    /// [`Error::Image`] when it has not so many accounts, or cannot be read.
    pub fn read(mut from: impl io::Read, accounts: u16) -> Result<Self> {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).map_err(Error::Image)?;
        let (chunks, rest) = bytes.as_chunks::<16>();
        if chunks.len() != usize::from(accounts) || !rest.is_empty() {
            return Err(Error::Image(io::ErrorKind::InvalidData.into()));
        }
        let account = |bytes: &[u8; 16]| {
            let (mut balance, mut last) = ([0; 8], [0; 8]);
            balance.copy_from_slice(&bytes[..8]);
            last.copy_from_slice(&bytes[8..]);
            Account { balance: i64::from_le_bytes(balance), last: u64::from_le_bytes(last) }
        };
        Ok(Self { accounts: chunks.iter().map(account).collect() })
    }
}

impl From<Vec<Account>> for Book {
    fn from(accounts: Vec<Account>) -> Self {
        Self { accounts }
    }
}
