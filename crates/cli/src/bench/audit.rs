//! [`Audit`]: compares what a replay yields with what was acknowledged.
//!
//! Each thread's records must come back whole, once, and in its own order. Lost is what was
//! acknowledged and did not; invented is what came back and should not have: bytes that nobody
//! appended, a record again, or one behind a later record of its thread.

use cohort_wal::Lsn;

use super::records::{Records, Shape};

/// Compares what a replay yields with what was acknowledged.
#[derive(Debug)]
pub(crate) struct Audit {
    shape: Shape,
    threads: Vec<Thread>,
    findings: Findings,
}

#[derive(Debug)]
struct Thread {
    acknowledged: u64,
    intact: u64,
    next: u64,
    records: Records,
}

/// What the audit found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Findings {
    /// Records replayed, good or not.
    pub(crate) replayed: u64,
    /// Records acknowledged and missing or wrong.
    pub(crate) lost: u64,
    /// Records that nobody appended, or that are there again or out of order.
    pub(crate) invented: u64,
    /// The first thing that was wrong.
    pub(crate) first_bad: Option<String>,
}

impl Audit {
    /// `acknowledged` says how many records each thread was promised.
    pub(crate) fn new(shape: Shape, acknowledged: &[u64]) -> Self {
        let total = [acknowledged.iter().sum()];
        let acknowledged = if shape.tells_threads() { acknowledged } else { &total };
        let threads = (0..shape.threads()).zip(acknowledged).map(|(thread, &acknowledged)| {
            let records = Records::new(shape, thread);
            Thread { acknowledged, intact: 0, next: 0, records }
        });
        Self { shape, threads: threads.collect(), findings: Findings::default() }
    }

    /// Takes the next record of the replay.
    pub(crate) fn observe(&mut self, lsn: Lsn, record: &[u8]) {
        self.findings.replayed += 1;
        if let Err(why) = self.check(record) {
            self.findings.invented += 1;
            self.findings.first_bad.get_or_insert_with(|| format!("LSN {lsn}: {why}"));
        }
    }

    fn check(&mut self, record: &[u8]) -> Result<(), &'static str> {
        let index = |thread: u32| usize::try_from(thread).unwrap_or(usize::MAX);
        let next = |thread: u32| self.threads.get(index(thread)).map_or(0, |thread| thread.next);
        let (thread, counter) =
            self.shape.identify(record, next).ok_or("a record of no thread of this run")?;
        let thread = self.threads.get_mut(index(thread)).ok_or("a record of no thread")?;
        if counter >= thread.acknowledged {
            return Err("a record that its thread never appended");
        }
        if thread.records.record(counter) != record {
            return Err("a record with wrong bytes");
        }
        if counter < thread.next {
            return Err("a record that is there twice or out of order");
        }
        thread.next = counter + 1;
        thread.intact += 1;
        Ok(())
    }

    /// Ends the audit: what has not come back is lost.
    pub(crate) fn finish(self) -> Findings {
        let mut findings = self.findings;
        for (index, thread) in self.threads.iter().enumerate() {
            let lost = thread.acknowledged.saturating_sub(thread.intact);
            findings.lost += lost;
            if lost > 0 {
                findings
                    .first_bad
                    .get_or_insert_with(|| format!("{lost} records of thread {index} are missing"));
            }
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZES: [u32; 7] = [2, 5, 11, 12, 20, 64, 1000];

    /// Three threads of ten records each, one record of each thread in turn.
    fn written(shape: Shape) -> Vec<Vec<u8>> {
        let record =
            |index: u32| Records::new(shape, index % 3).record(u64::from(index / 3)).to_vec();
        (0..30).map(record).collect()
    }

    fn audit(shape: Shape, log: &[Vec<u8>]) -> Findings {
        let mut audit = Audit::new(shape, &[10, 10, 10]);
        for (lsn, record) in (0..).zip(log) {
            audit.observe(Lsn::new(lsn * 8), record);
        }
        audit.finish()
    }

    fn counts(findings: &Findings) -> (u64, u64) {
        assert_eq!(findings.first_bad.is_some(), findings.lost + findings.invented > 0);
        (findings.lost, findings.invented)
    }

    #[test]
    fn an_intact_log_passes() {
        for size in [0, 1, 2, 5, 11, 12, 20, 64, 1000] {
            let shape = Shape::new(3, size);
            let findings = audit(shape, &written(shape));
            assert_eq!((counts(&findings), findings.replayed), ((0, 0), 30), "{size} bytes");
        }
    }

    #[test]
    fn a_missing_record_is_lost_wherever_it_was() {
        for size in SIZES {
            let shape = Shape::new(3, size);
            for index in [0, 15, 29] {
                let mut log = written(shape);
                log.remove(index);
                assert_eq!(counts(&audit(shape, &log)), (1, 0), "{size} bytes, record {index}");
            }
        }
    }

    #[test]
    fn a_missing_empty_record_is_lost() {
        let shape = Shape::new(3, 0);
        assert_eq!(counts(&audit(shape, &written(shape)[1..])), (1, 0));
        let mut log = written(shape);
        log.push(Vec::new());
        assert_eq!(counts(&audit(shape, &log)), (0, 1));
    }

    #[test]
    fn a_wrong_bit_anywhere_is_a_loss() {
        for size in [20, 64, 1000] {
            let shape = Shape::new(3, size);
            for bit in 0..usize::try_from(size * 8).unwrap() {
                let mut log = written(shape);
                log[15][bit / 8] ^= 1 << (bit % 8);
                assert_eq!(counts(&audit(shape, &log)), (1, 1), "{size} bytes, bit {bit}");
            }
        }
    }

    #[test]
    fn a_wrong_bit_in_a_record_without_a_whole_stamp_is_noticed() {
        for size in [2, 5, 11, 12, 13] {
            let shape = Shape::new(3, size);
            for bit in 0..usize::try_from(size * 8).unwrap() {
                let mut log = written(shape);
                log[15][bit / 8] ^= 1 << (bit % 8);
                let (lost, invented) = counts(&audit(shape, &log));
                assert!(lost + invented > 0, "{size} bytes, bit {bit}");
            }
        }
    }

    #[test]
    fn a_repeated_or_reordered_record_is_invented() {
        for size in SIZES {
            let shape = Shape::new(3, size);
            let mut log = written(shape);
            log.insert(20, log[12].clone());
            assert_eq!(counts(&audit(shape, &log)), (0, 1), "{size} bytes");
            let mut log = written(shape);
            log.swap(12, 15);
            assert_eq!(counts(&audit(shape, &log)), (1, 1), "{size} bytes");
        }
    }

    #[test]
    fn a_record_that_nobody_appended_is_invented() {
        for size in SIZES {
            let shape = Shape::new(3, size);
            let mut log = written(shape);
            log.push(Records::new(shape, 1).record(10).to_vec());
            assert_eq!(counts(&audit(shape, &log)), (0, 1), "{size} bytes");
        }
        let shape = Shape::new(3, 20);
        let mut log = written(shape);
        log.push(Records::new(Shape::new(9, 20), 7).record(0).to_vec());
        log.push(b"of another length".to_vec());
        assert_eq!(counts(&audit(shape, &log)), (0, 2));
    }
}
