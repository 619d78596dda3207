//! The logs under test behind one trait, each with the settings that give the same promise.
//!
//! A peer must make a commit durable before it returns, with `fdatasync` or `fsync`, whoever calls
//! it. Everything else, above all how concurrent commits share a sync, is what its own interface
//! documents. Nothing here adds a lock or a thread, except where a peer has one writer only.

use std::path::Path;

use crate::Fallible;

mod cohort;
mod fsys;
mod naive;
mod okaywal;
mod open_wal;
#[cfg(feature = "all-peers")]
mod raft_engine;
#[cfg(feature = "all-peers")]
mod surrealkv;
mod wal_db;
mod writeahead;

/// A new, empty log, shared by all threads of a run. Dropping it closes it.
pub(crate) trait Log: Send + Sync {
    /// Appends with the weakest promise that the peer has.
    fn append(&self, record: &[u8]) -> Fallible<()>;
    /// Hands all that was appended to the operating system, so that it outlives the process.
    fn flush(&self) -> Fallible<()>;
    /// Appends and waits until the record is on stable storage.
    fn commit(&self, record: &[u8]) -> Fallible<()>;
    /// Appends a lot of records in order, by the cheapest way that keeps them apart for a reader,
    /// to make a log that is read later.
    fn fill(&self, lot: Vec<Vec<u8>>) -> Fallible<()> {
        lot.iter().try_for_each(|record| self.append(record))
    }
    /// Device syncs so far, where they can be counted from within the process.
    fn syncs(&self) -> Option<u64>;
}

/// A peer: what it promises, how it is set up, and how to open and to read it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    /// What `append` promises; none where the peer only has commits.
    pub(crate) buffered: Option<&'static str>,
    /// What `commit` promises.
    pub(crate) durable: &'static str,
    /// The settings, and how concurrent callers share syncs.
    pub(crate) settings: &'static str,
    /// Opens a new log in an empty directory.
    pub(crate) open: fn(&Path) -> Fallible<Box<dyn Log>>,
    /// Opens the closed log in a directory and reads all its records, the way the peer documents.
    pub(crate) read_back: Option<fn(&Path, Sink<'_>) -> Fallible<()>>,
}

/// Takes each record that is read back.
pub(crate) type Sink<'a> = &'a mut (dyn FnMut(&[u8]) + Send);

/// All peers of this build, ours first.
pub(crate) const ALL: &[Peer] = &[
    cohort::PEER,
    naive::PEER,
    wal_db::PEER,
    fsys::PEER,
    writeahead::PEER,
    okaywal::PEER,
    open_wal::PEER,
    #[cfg(feature = "all-peers")]
    raft_engine::PEER,
    #[cfg(feature = "all-peers")]
    surrealkv::PEER,
];

/// The peers with these names, or all when there are none, in the order of [`ALL`].
pub(crate) fn named(names: &[String]) -> Fallible<Vec<Peer>> {
    if let Some(unknown) = names.iter().find(|name| ALL.iter().all(|peer| peer.name != **name)) {
        let known: Vec<_> = ALL.iter().map(|peer| peer.name).collect();
        return Err(format!("no peer {unknown} in this build; there are {known:?}").into());
    }
    let chosen = |peer: &&Peer| names.is_empty() || names.iter().any(|name| name == peer.name);
    Ok(ALL.iter().filter(chosen).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{Records, Tally};

    #[test]
    fn every_peer_gives_back_what_threads_were_promised() {
        for peer in ALL {
            let dir = tempfile::tempdir().unwrap();
            let log = (peer.open)(dir.path()).unwrap();
            let mut promised = Tally::default();
            std::thread::scope(|scope| {
                let log = &log;
                let worker = |thread| {
                    let mut records = Records::new(thread, 100);
                    for index in 0..10 {
                        let buffered = index % 2 == 0 && peer.buffered.is_some();
                        let record = records.current();
                        if buffered { log.append(record) } else { log.commit(record) }.unwrap();
                        records.acknowledged();
                    }
                    records.tally()
                };
                let workers: Vec<_> =
                    (0..3).map(|thread| scope.spawn(move || worker(thread))).collect();
                workers.into_iter().for_each(|worker| promised.merge(worker.join().unwrap()));
            });
            let mut lot = Records::new(3, 100);
            let filled = (0..7).map(|_| {
                let record = lot.current().to_vec();
                lot.acknowledged();
                record
            });
            log.fill(filled.collect()).unwrap();
            promised.merge(lot.tally());
            log.flush().unwrap();
            if let Some(syncs) = log.syncs() {
                assert!((1..=40).contains(&syncs), "{}: {syncs} syncs", peer.name);
            }
            drop(log);
            if let Some(read_back) = peer.read_back {
                let mut found = Tally::default();
                read_back(dir.path(), &mut |record: &[u8]| found.take(record)).unwrap();
                assert_eq!(found, promised, "{}", peer.name);
            }
        }
    }

    #[test]
    fn versions_are_those_of_the_lock_file() {
        let lock =
            std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.lock"));
        let lock = lock.unwrap();
        for peer in ALL.iter().filter(|peer| peer.name != "naive") {
            let package = format!("name = \"{}\"\nversion = \"{}\"", peer.name, peer.version);
            assert!(lock.contains(&package), "{package}");
        }
    }

    #[test]
    fn peers_are_found_by_name_and_unknown_ones_are_refused() {
        assert_eq!(named(&[]).unwrap().len(), ALL.len());
        let two = named(&["wal-db".to_owned(), "cohort-wal".to_owned()]).unwrap();
        assert_eq!(two.iter().map(|peer| peer.name).collect::<Vec<_>>(), ["cohort-wal", "wal-db"]);
        assert!(named(&["none".to_owned()]).is_err());
    }
}
