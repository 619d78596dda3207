//! The durable load on cohort-wal alone, over a store whose sync takes as long as it is told.
//!
//! How commits gather depends on how long a sync takes, and a disk has one answer only. The store
//! keeps its bytes in memory and sleeps in its sync, one sync at a time, as a device does its
//! flushes. What the sleep really takes is measured in the same run, and N/F and N/2F follow from
//! that: F is the time of a sync, N the number of committers.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use cohort_wal::{Gather, MemStore, StoreFile, WalOptions, WalStore};

use crate::Fallible;
use crate::cell::{Cell, Manner};
use crate::clock::{self, Duration};
use crate::loads::Emit;
use crate::plan::Plan;
use crate::report::{Floor, Row};
use crate::stats::{Latency, Spread};

/// A store in memory whose sync sleeps.
#[derive(Debug, Clone)]
struct DelayStore {
    store: MemStore,
    device: Device,
}

#[derive(Debug, Clone)]
struct Device {
    delay: Duration,
    busy: Arc<Mutex<()>>,
}

impl Device {
    fn sync(&self) {
        let _turn = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        thread::sleep(self.delay);
    }

    /// How long a sync takes, in seconds: the median of some, because one that the scheduler
    /// forgot for a while says nothing about the others.
    fn measure(&self) -> f64 {
        let syncs = (0..20).map(|_| {
            let started = clock::now();
            self.sync();
            started.elapsed().as_secs_f64()
        });
        Spread::of(syncs).unwrap_or_default().median
    }
}

impl DelayStore {
    fn new(delay: Duration) -> Self {
        Self { store: MemStore::new(), device: Device { delay, busy: Arc::default() } }
    }

    fn wrap(&self, file: <MemStore as WalStore>::File) -> DelayFile {
        DelayFile { file, device: self.device.clone() }
    }
}

struct DelayFile {
    file: <MemStore as WalStore>::File,
    device: Device,
}

impl WalStore for DelayStore {
    type File = DelayFile;

    fn list(&self) -> io::Result<Vec<String>> {
        self.store.list()
    }

    fn create(&self, bytes: u64) -> io::Result<DelayFile> {
        Ok(self.wrap(self.store.create(bytes)?))
    }

    fn publish(&self, file: &DelayFile, name: &str) -> io::Result<()> {
        self.store.publish(&file.file, name)
    }

    fn open(&self, name: &str) -> io::Result<DelayFile> {
        Ok(self.wrap(self.store.open(name)?))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.store.remove(name)
    }

    fn lock(&self, file: &DelayFile) -> io::Result<bool> {
        self.store.lock(&file.file)
    }

    fn unlock(&self, file: &DelayFile) -> io::Result<()> {
        self.store.unlock(&file.file)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.store.sync_names()
    }

    fn sync_place(&self) -> io::Result<()> {
        self.store.sync_place()
    }

    fn sweep(&self) -> io::Result<usize> {
        self.store.sweep()
    }

    fn locate(&self, name: &str) -> PathBuf {
        self.store.locate(name)
    }
}

impl StoreFile for DelayFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(offset, bytes)
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.device.sync();
        self.file.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

fn gather(name: &str) -> Fallible<Gather> {
    match name {
        "adaptive" => Ok(Gather::Adaptive),
        "off" => Ok(Gather::Off),
        micros => match micros.parse() {
            Ok(micros) => Ok(Gather::Window(Duration::from_micros(micros))),
            Err(_) => Err(format!("{name} is neither adaptive nor off nor microseconds").into()),
        },
    }
}

/// What came of one run.
struct Found {
    per_s: f64,
    per_sync: f64,
    latency: Option<Latency>,
    sync_s: f64,
    whole: bool,
}

fn run(cell: Cell, delay: Duration, gather: Gather, think: Duration) -> Fallible<Found> {
    let store = DelayStore::new(delay);
    let sync_s = store.device.measure();
    let wal = WalOptions::new().gather(gather).open_store(store)?;
    let before = wal.stats().syncs;
    let manner = Manner { timed: true, think };
    let commit = |record: &[u8]| {
        wal.append_and_sync(record)?;
        Ok(())
    };
    let outcome = cell.closed_loop(manner, commit, || Ok(()))?;
    let syncs = (wal.stats().syncs - before).max(1);
    let whole = wal.iter()?.try_fold(0, |count, record| record.map(|_| count + 1))?
        == outcome.tally.records;
    wal.close()?;
    let per_sync = outcome.tally.records as f64 / syncs as f64;
    Ok(Found { per_s: outcome.per_s(), per_sync, latency: outcome.latency, sync_s, whole })
}

/// All delays, thinking times, numbers of committers and ways to gather.
pub(crate) fn measure(plan: &Plan, emit: Emit<'_>) -> Fallible<()> {
    let ways: Vec<_> =
        plan.gather.iter().map(|name| Ok((name, gather(name)?))).collect::<Fallible<_>>()?;
    for &delay_us in &plan.delay_us {
        let delay = Duration::from_micros(delay_us);
        for &syncs in &plan.think {
            let think = Duration::try_from_secs_f64(delay.as_secs_f64() * syncs)?;
            for cell in plan.cells()? {
                let mut found: Vec<_> = ways.iter().map(|_| Vec::new()).collect();
                for round in 0..plan.rounds {
                    for turn in 0..ways.len() {
                        let way = (round + turn) % ways.len();
                        found[way].push(run(cell, delay, ways[way].1, think)?);
                    }
                }
                // One F for all ways of a cell, which differ in nothing that a bare sync sees.
                let syncs = found.iter().flatten().map(|found| found.sync_s);
                let sync_s = Spread::of(syncs).unwrap_or_default().median;
                for ((name, _), found) in ways.iter().zip(&found) {
                    let row = row(cell, think, sync_s, name, found);
                    emit(Row { delay_us: Some(delay_us), ..row })?;
                }
            }
        }
    }
    Ok(())
}

fn row(cell: Cell, think: Duration, sync_s: f64, way: &str, found: &[Found]) -> Row {
    let median = |of: fn(&Found) -> f64| Spread::of(found.iter().map(of)).unwrap_or_default();
    let per_s = median(|found| found.per_s);
    let latencies: Vec<_> = found.iter().filter_map(|found| found.latency).collect();
    let named = match way.parse::<u64>() {
        Ok(micros) => format!("window {micros} us"),
        Err(_) => way.to_owned(),
    };
    Row {
        load: "delay".to_owned(),
        peer: named,
        threads: cell.threads,
        size: cell.size,
        promise: "durable as far as the store sleeps".to_owned(),
        sync_us: Some(sync_s * 1e6),
        think_us: (!think.is_zero()).then_some(think.as_secs_f64() * 1e6),
        per_s,
        per_s_rounds: found.iter().map(|found| found.per_s).collect(),
        per_sync: Some(median(|found| found.per_sync).median),
        latency: Latency::over(&latencies),
        floor: Some(Floor { what: "the sync alone, one thread".to_owned(), per_s: 1.0 / sync_s }),
        ratio: Some(per_s.median * sync_s),
        verified: Some(found.iter().all(|found| found.whole)),
        ..Row::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_over_the_delaying_store_keeps_every_commit_and_shares_syncs() {
        let window = Duration::from_millis(60);
        let cell = Cell { threads: 8, size: 32, window };
        let delay = Duration::from_millis(2);
        let found = run(cell, delay, Gather::Adaptive, Duration::ZERO).unwrap();
        assert!(found.whole && found.sync_s >= delay.as_secs_f64() && found.per_sync > 1.0);
        let thinking = run(cell, delay, Gather::Off, Duration::from_millis(1)).unwrap();
        assert!(thinking.whole && thinking.latency.unwrap().p50_us >= 2000.0);
    }

    #[test]
    fn ways_to_gather_have_names() {
        assert_eq!(gather("adaptive").unwrap(), Gather::Adaptive);
        assert_eq!(gather("off").unwrap(), Gather::Off);
        assert_eq!(gather("250").unwrap(), Gather::Window(Duration::from_micros(250)));
        assert!(gather("often").is_err());
    }
}
