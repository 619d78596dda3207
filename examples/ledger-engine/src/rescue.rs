//! What can be read of a ledger whose log is damaged: nothing is changed, nothing is guessed.

use std::collections::BTreeSet;
use std::path::Path;

use cohort_wal::{Lsn, Salvage, WalError, WalOptions};

use crate::book::Book;
use crate::transaction::{Assembler, Posted};
use crate::{Error, Result};

/// What is left of a ledger.
#[derive(Debug)]
pub struct Rescue {
    /// The snapshot that the transactions come on top of: its place and what it says; none before
    /// the first checkpoint. An error where it is damaged itself.
    pub image: Result<Option<(Lsn, Book)>>,
    /// The transactions that are there as a whole, in order.
    pub whole: Vec<Posted>,
    /// References of those of which a part is there. A batch is all or nothing after a crash, not
    /// after damage.
    pub split: BTreeSet<u64>,
    /// What the log had to skip: the range, the file and the reason are in each error.
    pub skipped: Vec<WalError>,
}

impl Rescue {
    /// The ledger without what is lost. Its balances add up to zero, because it has no part of a
    /// transaction; whether they are right nobody knows.
    ///
    /// # Errors
    /// [`Error::ImageLost`] where nobody knows what the transactions come on top of; as
    /// [`Book::apply`].
    pub fn book(&self, accounts: u16) -> Result<Book> {
        let image = self.image.as_ref().map_err(|_| Error::ImageLost)?;
        let mut book = image.as_ref().map_or_else(|| Book::new(accounts), |(_, book)| book.clone());
        self.whole.iter().try_for_each(|posted| book.apply(posted))?;
        Ok(book)
    }
}

/// Reads the log in `dir` past its damage.
///
/// # Errors
/// As [`WalOptions::salvage`].
pub fn rescue(dir: &Path, accounts: u16) -> Result<Rescue> {
    let salvage = WalOptions::new().salvage(dir)?;
    let image = image(&salvage, accounts);
    let mut left = Rescue { image, whole: vec![], split: BTreeSet::new(), skipped: vec![] };
    let mut assembler = Assembler::default();
    for record in salvage {
        let record = match record {
            Ok(record) => record,
            Err(skipped) => {
                left.skipped.push(skipped);
                continue;
            }
        };
        let mut fed = assembler.feed(&record);
        if let Err(Error::Half { reference, .. }) = fed {
            left.split.insert(reference);
            fed = assembler.feed(&record);
        }
        match fed {
            Ok(posted) => left.whole.extend(posted),
            // A leg whose transaction began in what is lost.
            Err(Error::Record { .. }) => left.split.extend(reference(record.data())),
            Err(error) => return Err(error),
        }
    }
    if let Err(Error::Half { reference, .. }) = assembler.finish() {
        left.split.insert(reference);
    }
    Ok(left)
}

fn image(salvage: &Salvage, accounts: u16) -> Result<Option<(Lsn, Book)>> {
    let Some(snapshot) = salvage.snapshots().latest()? else { return Ok(None) };
    let lsn = snapshot.lsn();
    Ok(Some((lsn, Book::read(snapshot, accounts)?)))
}

fn reference(record: &[u8]) -> Option<u64> {
    record.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
