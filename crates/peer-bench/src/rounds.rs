//! Rounds: every peer in turn, then again in another order, with a slice of the floor before each.

use std::path::Path;

use crate::Fallible;
use crate::cell::Outcome;
use crate::clock::Duration;
use crate::floor::{FloorKind, Gauge};
use crate::peers::{Log, Peer};
use crate::records::Tally;
use crate::report::Row;
use crate::stats::{Latency, Spread};

/// All rounds of one peer under one load.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    per_s: Vec<f64>,
    per_sync: Vec<f64>,
    latencies: Vec<Latency>,
    verified: Option<bool>,
}

impl Rounds {
    pub(crate) fn add(&mut self, run: &Run) {
        self.per_s.push(run.outcome.per_s());
        if let Some(syncs) = run.syncs.filter(|&syncs| syncs > 0) {
            self.per_sync.push(run.outcome.tally.records as f64 / syncs as f64);
        }
        self.latencies.extend(run.outcome.latency);
        if let Some(verified) = run.verified {
            self.verified = Some(verified && self.verified.unwrap_or(true));
        }
    }

    /// The capacity found so far.
    pub(crate) fn median_per_s(&self) -> f64 {
        Spread::of(self.per_s.iter().copied()).unwrap_or_default().median
    }

    /// Completes a row that says which load it is.
    pub(crate) fn row(self, about: Row, gauge: &Gauge) -> Row {
        let per_s = Spread::of(self.per_s.iter().copied()).unwrap_or_default();
        let floor = gauge.floor();
        Row {
            per_s,
            per_s_rounds: self.per_s,
            per_sync: Spread::of(self.per_sync).map(|spread| spread.median),
            latency: Latency::over(&self.latencies),
            ratio: Some(per_s.median / floor.per_s),
            floor: Some(floor),
            verified: self.verified,
            ..about
        }
    }
}

/// One run of one peer, read back.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) outcome: Outcome,
    pub(crate) syncs: Option<u64>,
    pub(crate) verified: Option<bool>,
}

/// Runs `load` on a new log of `peer` below `base`, closes it, and reads it back. `warm_up` is
/// what was put before, and counts as promised.
pub(crate) fn run_once(
    base: &Path,
    peer: &Peer,
    load: impl FnOnce(&dyn Log) -> Fallible<Outcome>,
    warm_up: impl FnOnce(&dyn Log) -> Fallible<Tally>,
) -> Fallible<Run> {
    let named = |error| format!("{}: {error}", peer.name);
    let dir = tempfile::tempdir_in(base)?;
    let log = (peer.open)(dir.path()).map_err(named)?;
    let mut promised = warm_up(&*log).map_err(named)?;
    let before = log.syncs();
    let outcome = load(&*log).map_err(named)?;
    let syncs = log.syncs().zip(before).map(|(after, before)| after - before);
    if peer.buffered.is_some() {
        log.flush().map_err(named)?;
    }
    drop(log);
    promised.merge(outcome.tally);
    let verified = match peer.read_back {
        Some(_) => Some(read_all(peer, dir.path()).map_err(named)? == promised),
        None => None,
    };
    Ok(Run { outcome, syncs, verified })
}

/// Reads all records of a closed log.
pub(crate) fn read_all(peer: &Peer, dir: &Path) -> Fallible<Tally> {
    let mut found = Tally::default();
    if let Some(read_back) = peer.read_back {
        read_back(dir, &mut |record: &[u8]| found.take(record))?;
    }
    Ok(found)
}

/// Runs every one of `contenders` once a round, each round beginning with another, and a slice of
/// the floor before each. Returns the rounds of each, and the floor.
pub(crate) fn alternate<C>(
    base: &Path,
    floor: (FloorKind, usize),
    rounds: usize,
    slice: Duration,
    contenders: &[C],
    mut run: impl FnMut(&C) -> Fallible<Run>,
) -> Fallible<(Vec<Rounds>, Gauge)> {
    let mut gauge = Gauge::new(base, floor.0, floor.1)?;
    let mut found: Vec<_> = contenders.iter().map(|_| Rounds::default()).collect();
    for round in 0..rounds {
        for turn in 0..contenders.len() {
            let whose = (round + turn) % contenders.len();
            gauge.slice(slice)?;
            found[whose].add(&run(&contenders[whose])?);
        }
    }
    gauge.slice(slice)?;
    Ok((found, gauge))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Records;

    fn run(records: usize, syncs: Option<u64>, verified: Option<bool>) -> Run {
        let mut made = Records::new(0, 16);
        (0..records).for_each(|_| made.acknowledged());
        let elapsed = Duration::from_secs(1);
        let outcome = Outcome { tally: made.tally(), elapsed, latency: None };
        Run { outcome, syncs, verified }
    }

    #[test]
    fn every_contender_runs_once_a_round_and_each_comes_first_in_turn() {
        let dir = tempfile::tempdir().unwrap();
        let mut order = Vec::new();
        let brief = Duration::from_micros(1);
        let floor = (FloorKind::Memcpy, 64);
        let (found, gauge) = alternate(dir.path(), floor, 3, brief, &['a', 'b', 'c'], |&who| {
            order.push(who);
            Ok(run(100, Some(10), Some(true)))
        })
        .unwrap();
        assert_eq!(order.iter().collect::<String>(), "abcbcacab");
        for rounds in found {
            let row = rounds.row(Row::default(), &gauge);
            assert_eq!((row.per_s.median, row.per_sync), (100.0, Some(10.0)));
            assert_eq!((row.per_s_rounds.len(), row.verified), (3, Some(true)));
        }
    }

    #[test]
    fn one_round_with_a_loss_is_a_loss() {
        let mut rounds = Rounds::default();
        for verified in [Some(true), Some(false), Some(true), None] {
            rounds.add(&run(1, None, verified));
        }
        assert_eq!(rounds.verified, Some(false));
        assert_eq!(rounds.per_sync.len(), 0);
    }

    #[test]
    fn a_run_reads_back_what_was_put_with_the_warm_up() {
        let dir = tempfile::tempdir().unwrap();
        for peer in crate::peers::ALL {
            let put = |thread: usize| {
                move |log: &dyn Log| {
                    let mut records = Records::new(thread, 32);
                    log.commit(records.current())?;
                    records.acknowledged();
                    Ok(records.tally())
                }
            };
            let load = |log: &dyn Log| {
                let tally = put(0)(log)?;
                Ok(Outcome { tally, elapsed: Duration::from_secs(1), latency: None })
            };
            let run = run_once(dir.path(), peer, load, put(1)).unwrap();
            assert_ne!(run.verified, Some(false), "{}", peer.name);
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
