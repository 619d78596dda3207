//! What the demo writes and the tests check: commits that follow from who makes them and from their
//! number, so that the state of a writer follows from how many commits it has made.
//!
//! Commit `n` of a writer puts `left` and `right`, which must never differ, and one of 32 items; it
//! deletes and purges some other ones, also in versions that are gone; and it moves the cursor that
//! all writers share. [`held`] tells from a state how many commits of a writer it holds, and fails
//! unless it is exactly what these amount to.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use cohort_wal::{Lsn, WalStore};

use crate::error::Result;
use crate::record::{Change, Token};
use crate::state::State;
use crate::store::Store;

const ITEMS: u64 = 32;

/// The changes of commit `n` of a writer; the first one is 1.
///
/// # Errors
/// [`Error::TokenTooLong`](crate::Error::TokenTooLong) from commit 10^10 on.
pub fn changes(writer: usize, n: u64) -> Result<Vec<Change>> {
    let key = |name: &str| format!("{writer}/{name}").into();
    let item = |n: u64| key(&format!("item {:02}", n % ITEMS));
    let version = token(n)?;
    let put = |key, value| Change::Put { key, token: version.clone(), value };
    let bytes = usize::try_from(n * 37 % 200).unwrap_or_default();
    let filler = format!("{n} ").into_bytes().into_iter().cycle().take(bytes);
    let number = n.to_string().into_bytes();
    let mut changes = vec![
        put(key("left"), number.clone()),
        put(item(n), filler.collect()),
        put(key("right"), number),
    ];
    if n.is_multiple_of(3) && n > 21 {
        changes.push(Change::Delete { key: item(n - 21), token: token(n - 21)? });
    }
    if n.is_multiple_of(5) {
        // A late message about an old version.
        changes.push(Change::Delete { key: key("left"), token: token(n - 1)? });
    }
    if n.is_multiple_of(7) {
        changes.push(Change::Purge { key: item(n + 5) });
    }
    changes.push(Change::Cursor { cursor: format!("{writer}:{n}").into_bytes() });
    Ok(changes)
}

/// The version that commit `n` puts.
fn token(n: u64) -> Result<Token> {
    Token::new(n.to_string().as_bytes())
}

/// The state behind the first `n` commits of one writer.
///
/// # Errors
/// As [`changes`].
pub fn expected(writer: usize, n: u64) -> Result<State> {
    let mut state = State::default();
    for n in 1..=n {
        let changes = changes(writer, n)?;
        changes.into_iter().for_each(|change| state.apply(Lsn::default(), change));
    }
    Ok(state)
}

/// How many commits of each writer a state holds.
///
/// # Errors
/// What the state has or lacks that no number of whole commits explains.
pub fn held(state: &State, writers: usize) -> Result<Vec<u64>, String> {
    let counts: Vec<u64> =
        (0..writers).map(|writer| held_of(state, writer)).collect::<Result<_, _>>()?;
    let entries: usize = (0..writers).map(|writer| of_writer(state, writer).len()).sum();
    if entries != state.len() {
        return Err(format!("{} entries are of no writer", state.len() - entries));
    }
    // The last commit of all was the last one of somebody.
    let last = |writer: &usize| format!("{writer}:{}", counts[*writer]).into_bytes();
    let known = match state.cursor() {
        Some(cursor) => (0..counts.len()).any(|writer| last(&writer) == cursor),
        None => counts.iter().all(|n| *n == 0),
    };
    let cursor = state.cursor().map(String::from_utf8_lossy);
    if known { Ok(counts) } else { Err(format!("the cursor is {cursor:?}, held are {counts:?}")) }
}

fn held_of(state: &State, writer: usize) -> Result<u64, String> {
    let left = state.get(&format!("{writer}/left")).map(|left| left.value());
    let n = left.map_or(Some(0), |left| std::str::from_utf8(left).ok()?.parse().ok());
    let n = n.ok_or_else(|| format!("writer {writer} has no number"))?;
    let expected = expected(writer, n).map_err(|error| error.to_string())?;
    let (found, wanted) = (of_writer(state, writer), of_writer(&expected, writer));
    if found == wanted {
        return Ok(n);
    }
    let keys: Vec<_> = found.keys().chain(wanted.keys()).collect();
    let differs = keys.into_iter().find(|key| found.get(*key) != wanted.get(*key));
    Err(format!("writer {writer} with {n} commits: {differs:?} is not what they make it"))
}

fn of_writer(state: &State, writer: usize) -> BTreeMap<&str, (&Token, &[u8])> {
    let prefix = format!("{writer}/");
    let entries = state.entries().filter(|(key, _)| key.starts_with(&prefix));
    entries.map(|(key, entry)| (&**key, (entry.token(), entry.value()))).collect()
}

/// What a run did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Run {
    /// Commits that were acknowledged.
    pub commits: u64,
    /// Compactions that were made meanwhile.
    pub compactions: u64,
}

/// Lets one thread per element of `held` commit what follows on so many commits, up to commit
/// `last`, and calls `told(writer, n)` for each that is acknowledged. A thread of its own compacts
/// whenever the store asks for it.
///
/// # Errors
/// The first error of a writer, or else of the compaction.
pub fn run<S: WalStore>(
    store: &Store<S>,
    held: &[u64],
    last: u64,
    told: impl Fn(usize, u64) + Sync,
) -> Result<Run> {
    let told = &told;
    thread::scope(|scope| {
        // One bell is enough: a ring that finds it rung already is not lost.
        let (ring, bell) = mpsc::sync_channel(1);
        let compactor = scope.spawn(move || {
            let mut compactions = 0;
            while bell.recv().is_ok() {
                if store.needs_compaction() {
                    store.compact()?;
                    compactions += 1;
                }
            }
            Ok(compactions)
        });
        let writers = held.iter().enumerate().map(|(writer, held)| {
            let ring = ring.clone();
            scope.spawn(move || {
                for n in held + 1..=last {
                    store.commit(changes(writer, n)?)?;
                    told(writer, n);
                    if store.needs_compaction() {
                        // Full: it is rung. Without a listener: the compactor says why.
                        ring.try_send(()).ok();
                    }
                }
                Ok(last.saturating_sub(*held))
            })
        });
        let writers: Vec<_> = writers.collect();
        drop(ring);
        let join = |thread: thread::ScopedJoinHandle<'_, Result<u64>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        let outcomes: Vec<_> = writers.into_iter().map(join).collect();
        let compactions = join(compactor);
        let commits = outcomes.into_iter().sum::<Result<u64>>()?;
        Ok(Run { commits, compactions: compactions? })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_knows_whole_commits_and_nothing_else() {
        for n in 0..60 {
            assert_eq!(held(&expected(0, n).unwrap(), 2), Ok(vec![n, 0]));
            let next = changes(0, n + 1).unwrap();
            // Half a commit is seen, whichever half is missing.
            for keep in 1..next.len() {
                for part in [&next[..keep], &next[keep..]] {
                    let mut state = expected(0, n).unwrap();
                    part.iter().for_each(|c| state.apply(Lsn::default(), c.clone()));
                    let whole = [n, n + 1].map(|n| expected(0, n).unwrap());
                    assert!(whole.contains(&state) || held(&state, 1).is_err(), "{n} {keep}");
                }
            }
        }
    }

    #[test]
    fn a_commit_that_is_made_again_changes_nothing() {
        for n in 1..100 {
            let once = expected(3, n).unwrap();
            let mut twice = once.clone();
            let again = changes(3, n).unwrap();
            again.into_iter().for_each(|change| twice.apply(Lsn::default(), change));
            assert_eq!(once, twice, "{n}");
        }
    }
}
