//! The demo: writers beside compaction, and a check of everything after opening again.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use cohort_wal::{Lsn, Wal};
use kv_snapshot::{Error, State, Store, Token, workload};

use crate::AnyResult;

const WRITERS: usize = 4;
const COMMITS_EACH: u64 = 1_000;

fn open(dir: &Path, compact_above: u64) -> Result<Store, Error> {
    Store::load(Arc::new(Wal::open(dir)?), compact_above)
}

pub(crate) fn run(dir: &Path, compact_above: u64, out: &mut impl Write) -> AnyResult<()> {
    let store = open(dir, compact_above)?;
    let before = workload::held(&*store.view()?, WRITERS)
        .map_err(|found| format!("{} holds something else: {found}", dir.display()))?;
    let last = before.iter().max().copied().unwrap_or_default() + COMMITS_EACH;

    let (run, looks) = write(&store, &before, last)?;
    let stats = store.wal().stats();
    writeln!(
        out,
        "{WRITERS} writers: {} commits acknowledged, {} syncs, {} compactions beside them",
        run.commits, stats.syncs, run.compactions
    )?;
    writeln!(out, "checked {looks} views meanwhile: each commit whole, none ahead of its cursor")?;
    let (appended, left) = (stats.bytes, store.wal().live_bytes());
    writeln!(out, "{appended} bytes were appended, {left} are left in the log")?;
    store.close()?;

    let store = open(dir, compact_above)?;
    let held = workload::held(&*store.view()?, WRITERS)?;
    ensure(held.iter().all(|n| *n == last), || format!("{last} commits each, not {held:?}"))?;
    writeln!(out, "opened again: all {WRITERS} x {last} commits are there and nothing else")?;

    same_image(&store, last)?;
    let image = image_of(&*store.view()?)?.len();
    writeln!(out, "the image, {image} bytes, is that of the same state made without threads")?;

    let purged = purge(&store)?;
    store.compact()?;
    let kept = store.view()?;
    store.close()?;
    let store = open(dir, compact_above)?;
    ensure(*store.view()? == *kept, || "a compacted state is loaded as it was".to_owned())?;
    writeln!(
        out,
        "against a fresh listing {purged} entries were stale: purged, compacted, loaded"
    )?;
    // For the next demo in this directory.
    restore(&store, last)?;
    Ok(store.close()?)
}

/// Writes beside compaction, and looks at the state all the time.
fn write(store: &Store, held: &[u64], last: u64) -> AnyResult<(workload::Run, u64)> {
    let acknowledged: Vec<_> = held.iter().map(|n| AtomicU64::new(*n)).collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looks = scope.spawn(|| -> Result<u64, String> {
            let mut looks = 0;
            while !over.load(Relaxed) {
                let owed: Vec<_> = acknowledged.iter().map(|n| n.load(Relaxed)).collect();
                let view = store.view().map_err(|error| error.to_string())?;
                let held = workload::held(&view, WRITERS)?;
                if owed.iter().zip(&held).any(|(owed, held)| held < owed) {
                    return Err(format!("acknowledged are {owed:?}, a view shows {held:?}"));
                }
                looks += 1;
            }
            Ok(looks)
        });
        let told = |writer: usize, n| acknowledged[writer].store(n, Relaxed);
        let run = workload::run(store, held, last, told);
        over.store(true, Relaxed);
        let looks = looks.join().map_err(|_| "the reader panicked")??;
        Ok((run?, looks))
    })
}

/// Builds the same state along another history, one writer after the other, and compares images.
fn same_image(store: &Store, last: u64) -> AnyResult<()> {
    let view = store.view()?;
    let mut other = State::default();
    for writer in 0..WRITERS {
        for n in 1..=last {
            let changes = workload::changes(writer, n)?;
            changes.into_iter().for_each(|change| other.apply(Lsn::default(), change));
        }
    }
    let cursor = view.cursor().unwrap_or_default().to_vec();
    other.apply(Lsn::default(), kv_snapshot::Change::Cursor { cursor });
    ensure(image_of(&view)? == image_of(&other)?, || "equal states, different images".to_owned())
}

/// Purges what a listing made for this lacks, every tenth entry, or has in another version, every
/// tenth as well.
fn purge(store: &Store) -> AnyResult<usize> {
    let asked = store.mark();
    let mut listing = BTreeMap::new();
    let mut expected = Vec::new();
    for (number, (key, entry)) in store.view()?.entries().enumerate() {
        let token = if number % 10 == 3 { Token::new(b"other")? } else { entry.token().clone() };
        if number % 10 != 7 {
            listing.insert(key.to_string(), token);
        }
        if number % 10 == 3 || number % 10 == 7 {
            expected.push(Arc::clone(key));
        }
    }
    let stale = store.stale(&listing, asked)?;
    ensure(stale == expected, || format!("stale are {expected:?}, not {stale:?}"))?;
    store.purge_stale(&stale, asked)?;
    let left = store.stale(&listing, asked)?;
    ensure(left.is_empty(), || format!("still stale: {left:?}"))?;
    Ok(stale.len())
}

/// Puts back what was purged.
fn restore(store: &Store, last: u64) -> AnyResult<()> {
    let mut changes = Vec::new();
    for writer in 0..WRITERS {
        for (key, entry) in workload::expected(writer, last)?.entries() {
            let (token, value) = (entry.token().clone(), entry.value().to_vec());
            changes.push(kv_snapshot::Change::Put { key: Arc::clone(key), token, value });
        }
    }
    Ok(store.commit(changes)?)
}

fn image_of(state: &State) -> std::io::Result<Vec<u8>> {
    let mut image = Vec::new();
    state.write_image(&mut image)?;
    Ok(image)
}

fn ensure(holds: bool, otherwise: impl FnOnce() -> String) -> AnyResult<()> {
    if holds { Ok(()) } else { Err(otherwise().into()) }
}
