//! The loads that all peers get.

use std::path::Path;

use tempfile::TempDir;

use crate::Fallible;
use crate::cell::{Cell, Manner, Outcome};
use crate::clock::{self, Duration};
use crate::floor::FloorKind;
use crate::peers::{Log, Peer};
use crate::plan::Plan;
use crate::records::{Records, Tally, identify};
use crate::report::Row;
use crate::rounds::{Rounds, Run, alternate, read_all, run_once};

/// Bytes of records in a burst: half of the memory that a log of ours has by default.
const BURST_BYTES: u64 = 8 << 20;
/// Records handed over at once while a log to replay is filled.
const LOT: u64 = 64;

/// Takes each row when it is complete.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(Row) -> Fallible<()>;

fn about(load: &str, peer: &Peer, cell: Cell, promise: &str) -> Row {
    Row {
        load: load.to_owned(),
        peer: peer.name.to_owned(),
        threads: cell.threads,
        size: cell.size,
        promise: promise.to_owned(),
        ..Row::default()
    }
}

/// One record, durable: what a log does on its first commit is no part of any window.
fn warm_up(cell: Cell) -> impl FnOnce(&dyn Log) -> Fallible<Tally> {
    move |log| {
        let mut records = Records::new(cell.threads, cell.size);
        log.commit(records.current())?;
        records.acknowledged();
        Ok(records.tally())
    }
}

/// Sustained appends with a flush at the end of the window, and bursts that memory holds.
pub(crate) fn buffered(plan: &Plan, base: &Path, emit: Emit<'_>) -> Fallible<()> {
    let peers: Vec<_> = plan.peers()?.into_iter().filter(|peer| peer.buffered.is_some()).collect();
    for cell in plan.cells()? {
        let floor = (FloorKind::Memcpy, cell.size);
        let sustained = |log: &dyn Log| {
            cell.closed_loop(Manner::default(), |record| log.append(record), || log.flush())
        };
        let (found, gauge) = alternate(base, floor, plan.rounds, plan.slice(), &peers, |peer| {
            run_once(base, peer, sustained, warm_up(cell))
        })?;
        for (peer, rounds) in peers.iter().zip(found) {
            let about = about("buffered", peer, cell, "page cache at the end of the window");
            emit(rounds.row(about, &gauge))?;
        }
        let each = (BURST_BYTES / (cell.size + 16) as u64 / cell.threads as u64).max(1);
        let bursts = |log: &dyn Log| cell.bursts(each, |record| log.append(record), || log.flush());
        let (found, gauge) = alternate(base, floor, plan.rounds, plan.slice(), &peers, |peer| {
            run_once(base, peer, bursts, warm_up(cell))
        })?;
        for (peer, rounds) in peers.iter().zip(found) {
            let about = about("burst", peer, cell, peer.buffered.unwrap_or_default());
            emit(rounds.row(about, &gauge))?;
        }
    }
    Ok(())
}

fn commits(cell: Cell) -> impl Fn(&dyn Log) -> Fallible<Outcome> {
    let manner = Manner { timed: true, ..Manner::default() };
    move |log| cell.closed_loop(manner, |record| log.commit(record), || Ok(()))
}

/// Commits, each waiting for its own: throughput at saturation, and what a caller then waits.
pub(crate) fn durable(plan: &Plan, base: &Path, emit: Emit<'_>) -> Fallible<()> {
    let peers = plan.peers()?;
    for cell in plan.cells()? {
        let floor = (FloorKind::PwriteFdatasync, cell.size);
        let (found, gauge) = alternate(base, floor, plan.rounds, plan.slice(), &peers, |peer| {
            run_once(base, peer, commits(cell), warm_up(cell))
        })?;
        for (peer, rounds) in peers.iter().zip(found) {
            emit(rounds.row(about("durable", peer, cell, peer.durable), &gauge))?;
        }
    }
    Ok(())
}

/// Most records appended, every eighth committed: what comes of appends and commits that share a
/// log. A caller's wait is that of both kinds.
pub(crate) fn mixed(plan: &Plan, base: &Path, emit: Emit<'_>) -> Fallible<()> {
    let peers: Vec<_> = plan.peers()?.into_iter().filter(|peer| peer.buffered.is_some()).collect();
    let manner = Manner { timed: true, ..Manner::default() };
    for cell in plan.cells()? {
        let floor = (FloorKind::PwriteFdatasync, cell.size);
        let load = |log: &dyn Log| {
            let put = |record: &[u8]| match identify(record) {
                Some((_, counter)) if counter % 8 == 7 => log.commit(record),
                _ => log.append(record),
            };
            cell.closed_loop(manner, put, || log.flush())
        };
        let (found, gauge) = alternate(base, floor, plan.rounds, plan.slice(), &peers, |peer| {
            run_once(base, peer, load, warm_up(cell))
        })?;
        for (peer, rounds) in peers.iter().zip(found) {
            emit(rounds.row(about("mixed", peer, cell, peer.durable), &gauge))?;
        }
    }
    Ok(())
}

/// Commits at intended moments, at shares of what each peer can do in the same run.
pub(crate) fn open_loop(plan: &Plan, base: &Path, emit: Emit<'_>) -> Fallible<()> {
    let peers = plan.peers()?;
    for cell in plan.cells()? {
        let floor = (FloorKind::PwriteFdatasync, cell.size);
        let (found, gauge) = alternate(base, floor, plan.rounds, plan.slice(), &peers, |peer| {
            run_once(base, peer, commits(cell), warm_up(cell))
        })?;
        let capacities: Vec<_> =
            peers.iter().copied().zip(found.iter().map(Rounds::median_per_s)).collect();
        for (peer, rounds) in peers.iter().zip(found) {
            emit(rounds.row(about("capacity", peer, cell, peer.durable), &gauge))?;
        }
        for &percent in &plan.percents {
            let offered = |capacity: f64| capacity * percent / 100.0;
            let (found, gauge) =
                alternate(base, floor, plan.rounds, plan.slice(), &capacities, |contender| {
                    let per_s = offered(contender.1);
                    let load = |log: &dyn Log| cell.open_loop(per_s, |record| log.commit(record));
                    run_once(base, &contender.0, load, warm_up(cell))
                })?;
            for ((peer, capacity), rounds) in capacities.iter().zip(found) {
                let about = Row {
                    offered_percent: Some(percent),
                    offered_per_s: Some(offered(*capacity)),
                    ..about("open-loop", peer, cell, peer.durable)
                };
                emit(rounds.row(about, &gauge))?;
            }
        }
    }
    Ok(())
}

/// A closed log to be read.
struct Written {
    peer: Peer,
    dir: TempDir,
    tally: Tally,
}

fn write(peer: Peer, base: &Path, size: usize, records: u64) -> Fallible<Written> {
    let dir = tempfile::tempdir_in(base)?;
    let log = (peer.open)(dir.path())?;
    let mut source = Records::new(0, size);
    let mut left = records;
    while left > 0 {
        let count = left.min(LOT);
        let mut lot = Vec::new();
        for _ in 0..count {
            lot.push(source.current().to_vec());
            source.acknowledged();
        }
        log.fill(lot)?;
        left -= count;
    }
    log.flush()?;
    drop(log);
    let tally = source.tally();
    Ok(Written { peer, dir, tally })
}

/// Opens each log and reads all of it, again and again: from the page cache after the first time,
/// which is not counted.
pub(crate) fn replay(plan: &Plan, base: &Path, emit: Emit<'_>) -> Fallible<()> {
    let peers = plan.peers()?.into_iter().filter(|peer| peer.read_back.is_some());
    let peers: Vec<_> = peers.collect();
    for size in plan.sizes()? {
        let mut logs = Vec::new();
        for peer in &peers {
            let written = write(*peer, base, size, plan.records)
                .map_err(|error| format!("{}: {error}", peer.name))?;
            read_all(peer, written.dir.path())?;
            logs.push(written);
        }
        let floor = (FloorKind::Crc32c, size);
        let slice = plan.slice().min(Duration::from_millis(50));
        let (found, gauge) = alternate(base, floor, plan.rounds, slice, &logs, |log| {
            let started = clock::now();
            let tally = read_all(&log.peer, log.dir.path())?;
            let outcome = Outcome { tally, elapsed: started.elapsed(), latency: None };
            Ok(Run { outcome, syncs: None, verified: Some(tally == log.tally) })
        })?;
        let cell = Cell { threads: 1, size, window: Duration::ZERO };
        for (log, rounds) in logs.iter().zip(found) {
            emit(rounds.row(about("replay", &log.peer, cell, "read back"), &gauge))?;
        }
    }
    Ok(())
}
