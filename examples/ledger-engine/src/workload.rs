//! Transactions that are what their number says, so that a ledger can be checked without a list
//! of what was posted.
//!
//! Each writer has accounts of its own and posts its transactions in order, each one once the one
//! before has its place. The first leg of each goes to the writer's first account, which therefore
//! says which one came last; that many, computed again, must give every balance of the writer.

use crate::book::{BANK, Book};
use crate::transaction::{Leg, MAX_LEGS, Transaction};
use crate::{Error, Result};

/// How many post at once.
pub const WRITERS: u16 = 8;

/// Who posts what is then rolled back; not one of the others.
pub const MISTAKEN: u16 = WRITERS;

/// Accounts of one writer.
const SPAN: u16 = 4;

/// How many accounts there are: the bank's, and those of all writers.
pub const ACCOUNTS: u16 = 1 + (WRITERS + 1) * SPAN;

/// The upper bits of a reference say whose it is, the others which one of theirs, from 1.
const NUMBER_BITS: u32 = 48;

/// The transaction of a writer with a number. Every second one gives back half of what the one
/// before it brought.
///
/// # Errors
/// None; it is checked as any transaction is.
pub fn transaction(writer: u16, number: u64) -> Result<Transaction> {
    let reference = (u64::from(writer) + 1) << NUMBER_BITS | (number + 1);
    let first = 1 + writer * SPAN;
    let pair = number & !1;
    let count = 1 + u64::from(mix(writer, pair, 0)[0]) % (MAX_LEGS as u64);
    let mut legs = vec![Leg { account: first, amount: 0 }];
    for index in 2..count {
        let [amount, account, ..] = mix(writer, pair, index);
        let (brought, account) = (i64::from(amount), first + u16::from(account) % SPAN);
        let amount = if number == pair { brought } else { -(brought / 2) };
        legs.push(Leg { account, amount });
    }
    if count > 1 {
        let amount = -legs.iter().map(|leg| leg.amount).sum::<i64>();
        legs.push(Leg { account: BANK, amount });
    }
    Transaction::new(reference, legs)
}

/// A memo that ends what auditors wait for.
///
/// # Errors
/// None; it is checked as any transaction is.
pub fn closing() -> Result<Transaction> {
    Transaction::new(u64::MAX, vec![Leg { account: BANK, amount: 0 }])
}

/// How many transactions of a writer a ledger has.
#[must_use]
pub fn posted(book: &Book, writer: u16) -> u64 {
    book.account(1 + writer * SPAN).last & ((1 << NUMBER_BITS) - 1)
}

/// How many transactions of each writer a ledger has, the mistaken one last.
///
/// # Errors
/// What is wrong with it: a sum that is not zero, or a balance that so many whole transactions do
/// not give.
pub fn check(book: &Book) -> Result<Vec<u64>, String> {
    if book.total() != 0 {
        return Err(format!("the balances add up to {}", book.total()));
    }
    let counts: Vec<u64> = (0..=MISTAKEN).map(|writer| posted(book, writer)).collect();
    let mut balances = vec![0; usize::from(ACCOUNTS)];
    for (writer, count) in (0..).zip(&counts) {
        for number in 0..*count {
            let transaction =
                transaction(writer, number).map_err(|error: Error| error.to_string())?;
            for leg in transaction.legs() {
                balances[usize::from(leg.account)] += leg.amount;
            }
        }
    }
    let found: Vec<i64> = book.accounts().iter().map(|account| account.balance).collect();
    match (0..).zip(balances.iter().zip(&found)).find(|(_, (wanted, found))| wanted != found) {
        Some((id, (wanted, found))) => Err(format!("account {id} has {found}, not {wanted}")),
        None => Ok(counts),
    }
}

/// Bytes that look random and are the same every time.
fn mix(writer: u16, number: u64, index: u64) -> [u8; 8] {
    let mut x = (u64::from(writer) << NUMBER_BITS | number) ^ index.rotate_right(16);
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)).to_le_bytes()
}
