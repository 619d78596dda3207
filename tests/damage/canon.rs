//! The log that is damaged: three segments, every kind of unit, several commits in each.

use cohort_wal::{Lsn, MemStore, Preallocate, Wal, WalOptions};

use super::layout::{History, Log};
use crate::faulty::{Fault, FaultyStore, Op, Script};

pub(crate) fn options() -> WalOptions {
    let options = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
    options.preallocate(Preallocate::Off)
}

struct Writer {
    wal: Wal<FaultyStore<MemStore>>,
    script: Script,
    history: History,
    next: u8,
}

impl Writer {
    fn body(&mut self, len: usize) -> Vec<u8> {
        self.next += 1;
        vec![self.next; len]
    }

    fn wrote(&mut self, lsn: Lsn, body: Vec<u8>) {
        self.history.records.push((lsn.get(), body));
    }

    /// A unit is complete.
    fn bound(&mut self) {
        self.history.bounds.insert(self.wal.end_lsn().get());
    }

    fn append(&mut self, len: usize) {
        let body = self.body(len);
        let lsn = self.wal.append(&body).unwrap();
        self.wrote(lsn, body);
        self.bound();
    }

    fn batch(&mut self, lens: &[usize]) {
        let bodies: Vec<_> = lens.iter().map(|len| self.body(*len)).collect();
        let lsns = self.wal.append_batch(&bodies).unwrap();
        lsns.into_iter().zip(bodies).for_each(|(lsn, body)| self.wrote(lsn, body));
        self.bound();
    }

    fn sync(&mut self) {
        self.wal.sync().unwrap();
        assert_eq!(self.wal.durable_lsn(), self.wal.end_lsn());
        self.history.synced.push(self.wal.durable_lsn().get());
    }

    /// A record above the ring's limit for which there is no room on the disk leaves a pad.
    fn pad(&mut self) {
        let before = self.wal.end_lsn();
        self.wal.flush().unwrap();
        self.script.fail_once(Op::Write, 0, Fault::Short(std::io::ErrorKind::StorageFull));
        assert!(self.wal.append(&[0xAA; 2_100]).unwrap_err().is_retryable());
        assert!(self.wal.end_lsn() > before);
        self.bound();
    }
}

/// The same log twice: as a crash left it, with units that no sync covered, and closed.
pub(crate) fn logs() -> [Log; 2] {
    let memory = MemStore::new();
    let (store, script) = FaultyStore::over(memory.clone());
    let wal = options().open_store(store).unwrap();
    let mut log = Writer { wal, script, history: History::default(), next: 0 };
    log.bound();
    for len in [40, 0, 7, 100] {
        log.append(len);
        log.sync();
    }
    log.batch(&[24, 5, 60]);
    log.append(200);
    log.sync();
    log.append(300);
    log.wal.rotate().unwrap();
    log.append(16);
    log.sync();
    log.pad();
    log.append(33);
    log.sync();
    log.batch(&[90, 0]);
    log.sync();
    log.wal.rotate().unwrap();
    log.batch(&[10, 20, 30]);
    log.sync();
    log.append(250);
    log.sync();
    log.append(64);
    log.append(65);
    log.sync();
    log.batch(&[120, 40]);
    log.append(100);
    log.sync();
    log.append(150);
    log.batch(&[50, 51, 52]);
    log.append(9);
    log.wal.flush().unwrap();
    log.history.end = log.wal.end_lsn().get();
    let crashed = Log::new("crashed", &memory.snapshot(), log.history.clone());
    log.wal.close().unwrap();
    let closed = Log::new("closed", &memory.snapshot(), log.history);
    for log in [&crashed, &closed] {
        assert_eq!(log.files.len(), 4, "CONTROL and three segments");
        assert!(log.frames.len() > log.history.records.len(), "there is a pad");
    }
    [crashed, closed]
}
