//! What is logged: a leg is a record of 19 bytes, a transaction is a batch of legs.
//!
//! | bytes | field |
//! |---|---|
//! | 8 | reference of the transaction |
//! | 1 | index of the leg |
//! | 2 | account |
//! | 8 | amount, signed |
//!
//! All little-endian. Where a transaction ends is the log's to say, by [`Record::more`]. Where one
//! begins the index says: behind damage, where a salvage reads on, nothing else could.

use cohort_wal::{Lsn, Record, WalError};

use crate::{Error, Result};

/// The most legs of one transaction.
pub const MAX_LEGS: usize = 20;

const RECORD_BYTES: usize = 19;

/// What a transaction does to one account. Without an amount it is a memo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leg {
    /// Which account.
    pub account: u16,
    /// What it gets, or gives if negative.
    pub amount: i64,
}

/// Legs that take effect together. Their amounts add up to zero.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transaction {
    reference: u64,
    legs: Vec<Leg>,
}

impl Transaction {
    /// A transaction with a reference that the caller knows it by.
    ///
    /// # Errors
    /// [`Error::Legs`], [`Error::Unbalanced`].
    pub fn new(reference: u64, legs: Vec<Leg>) -> Result<Self> {
        if legs.is_empty() || legs.len() > MAX_LEGS {
            return Err(Error::Legs(legs.len()));
        }
        match legs.iter().map(|leg| i128::from(leg.amount)).sum() {
            0 => Ok(Self { reference, legs }),
            sum => Err(Error::Unbalanced(sum)),
        }
    }

    /// What the caller knows it by.
    #[must_use]
    pub fn reference(&self) -> u64 {
        self.reference
    }

    /// Its legs, in order.
    #[must_use]
    pub fn legs(&self) -> &[Leg] {
        &self.legs
    }

    /// The records of its batch.
    #[must_use]
    pub fn records(&self) -> Vec<[u8; RECORD_BYTES]> {
        let record = |(index, leg): (u8, &Leg)| {
            let mut bytes = [0; RECORD_BYTES];
            bytes[..8].copy_from_slice(&self.reference.to_le_bytes());
            bytes[8] = index;
            bytes[9..11].copy_from_slice(&leg.account.to_le_bytes());
            bytes[11..].copy_from_slice(&leg.amount.to_le_bytes());
            bytes
        };
        (0..).zip(&self.legs).map(record).collect()
    }
}

/// A record, decoded.
struct Part {
    reference: u64,
    index: usize,
    leg: Leg,
}

impl Part {
    fn decode(record: &Record) -> Option<Self> {
        let (reference, rest) = record.data().split_first_chunk()?;
        let ([index], rest) = rest.split_first_chunk()?;
        let (account, rest) = rest.split_first_chunk()?;
        let amount = rest.try_into().ok()?;
        Some(Self {
            reference: u64::from_le_bytes(*reference),
            index: usize::from(*index),
            leg: Leg { account: u16::from_le_bytes(*account), amount: i64::from_le_bytes(amount) },
        })
    }
}

/// A transaction in the log, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The record of its first leg.
    pub first: Lsn,
    /// The record of its last leg.
    pub last: Lsn,
    /// What it is.
    pub transaction: Transaction,
}

/// Puts transactions together from their records, and refuses half ones.
#[derive(Debug, Default)]
pub struct Assembler {
    /// The transaction that has begun: where, and its reference.
    begun: Option<(Lsn, u64)>,
    legs: Vec<Leg>,
}

impl Assembler {
    /// Takes the next record; returns the transaction that it ends, if it ends one.
    ///
    /// # Errors
    /// [`Error::Half`] when it does not go on with the transaction that has begun, which is
    /// forgotten; [`Error::Record`] when it is no leg, its transaction began elsewhere, or all its
    /// legs make none.
    pub fn feed(&mut self, record: &Record) -> Result<Option<Posted>> {
        let lsn = record.lsn();
        let refuse = |why| Err(Error::Record { lsn, why });
        let Some(part) = Part::decode(record) else { return refuse("it is not a leg") };
        let next = self.legs.len();
        if let Some((lsn, reference)) = self.begun
            && (part.reference, part.index) != (reference, next)
        {
            *self = Self::default();
            return Err(Error::Half { lsn, reference });
        }
        if part.index != next {
            return refuse("its transaction began elsewhere");
        }
        let (first, reference) = *self.begun.get_or_insert((lsn, part.reference));
        self.legs.push(part.leg);
        if record.more() {
            return Ok(None);
        }
        self.begun = None;
        match Transaction::new(reference, std::mem::take(&mut self.legs)) {
            Ok(transaction) => Ok(Some(Posted { first, last: lsn, transaction })),
            Err(_) => refuse("the legs of its batch are no transaction"),
        }
    }

    /// The transaction that has begun and not ended.
    ///
    /// # Errors
    /// [`Error::Half`], if there is one.
    pub fn finish(&self) -> Result<()> {
        match self.begun {
            Some((lsn, reference)) => Err(Error::Half { lsn, reference }),
            None => Ok(()),
        }
    }
}

/// The transactions of a sequence of records: of an iterator over the log, or of a follower.
#[derive(Debug)]
pub struct Transactions<I> {
    records: I,
    assembler: Assembler,
}

impl<I> Transactions<I> {
    /// Of these records, the first of which begins a transaction.
    pub fn new(records: I) -> Self {
        Self { records, assembler: Assembler::default() }
    }
}

impl<I: Iterator<Item = Result<Record, WalError>>> Iterator for Transactions<I> {
    type Item = Result<Posted>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.records.next() {
                Some(Ok(record)) => match self.assembler.feed(&record).transpose() {
                    Some(posted) => return Some(posted),
                    None => continue,
                },
                Some(Err(error)) => return Some(Err(error.into())),
                None => {
                    let half = std::mem::take(&mut self.assembler).finish();
                    return half.err().map(Err);
                }
            }
        }
    }
}
