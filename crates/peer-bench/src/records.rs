//! Records that name their thread and counter, and [`Tally`], which knows them again.
//!
//! A tally is a count and a fingerprint that does not depend on the order, so that what threads
//! were promised compares with what a replay yields, in whatever order the log has it.

/// The smallest record: who appended it, and which of that thread's records it is.
pub(crate) const MIN_BYTES: usize = 16;

/// Makes the records of one thread, in a buffer of its own.
#[derive(Debug)]
pub(crate) struct Records {
    thread: u64,
    next: u64,
    buffer: Vec<u8>,
    tally: Tally,
}

impl Records {
    pub(crate) fn new(thread: usize, size: usize) -> Self {
        let thread = thread as u64;
        let mut state = mix(thread);
        let mut buffer = vec![0; size.max(MIN_BYTES)];
        for chunk in buffer.chunks_mut(8) {
            state = mix(state.wrapping_add(0x9e37_79b9_7f4a_7c15));
            let len = chunk.len();
            chunk.copy_from_slice(&state.to_le_bytes()[..len]);
        }
        Self { thread, next: 0, buffer, tally: Tally::default() }
    }

    /// The record to append now.
    pub(crate) fn current(&mut self) -> &[u8] {
        self.buffer[..8].copy_from_slice(&self.thread.to_le_bytes());
        self.buffer[8..16].copy_from_slice(&self.next.to_le_bytes());
        &self.buffer
    }

    /// The current record was acknowledged: on to the next.
    pub(crate) fn acknowledged(&mut self) {
        self.tally.count(self.thread, self.next);
        self.next += 1;
    }

    pub(crate) fn tally(&self) -> Tally {
        self.tally
    }
}

/// How many records, and which.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) records: u64,
    fingerprint: u64,
}

impl Tally {
    /// Takes a record that came back. One too short to be ours spoils the fingerprint.
    pub(crate) fn take(&mut self, record: &[u8]) {
        match identify(record) {
            Some((thread, counter)) => self.count(thread, counter),
            None => self.count(u64::MAX, u64::MAX),
        }
    }

    pub(crate) fn merge(&mut self, other: Self) {
        self.records += other.records;
        self.fingerprint = self.fingerprint.wrapping_add(other.fingerprint);
    }

    fn count(&mut self, thread: u64, counter: u64) {
        self.records += 1;
        self.fingerprint = self.fingerprint.wrapping_add(mix(mix(thread) ^ counter));
    }
}

/// Whose record this is, and which of that thread's.
pub(crate) fn identify(record: &[u8]) -> Option<(u64, u64)> {
    let (thread, rest) = record.split_first_chunk::<8>()?;
    let (counter, _) = rest.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*thread), u64::from_le_bytes(*counter)))
}

/// The finaliser of `SplitMix64`: a bijection that spreads every input bit.
pub(crate) fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(threads: usize, each: usize) -> (Vec<Vec<u8>>, Tally) {
        let mut log = Vec::new();
        let mut promised = Tally::default();
        for thread in 0..threads {
            let mut records = Records::new(thread, 20);
            for _ in 0..each {
                log.push(records.current().to_vec());
                records.acknowledged();
            }
            promised.merge(records.tally());
        }
        (log, promised)
    }

    fn tally(log: &[Vec<u8>]) -> Tally {
        let mut tally = Tally::default();
        log.iter().for_each(|record| tally.take(record));
        tally
    }

    #[test]
    fn a_replay_in_any_order_matches_what_was_promised() {
        let (mut log, promised) = written(3, 10);
        log.reverse();
        assert_eq!(tally(&log), promised);
        assert_eq!(promised.records, 30);
    }

    #[test]
    fn a_missing_a_repeated_and_a_foreign_record_are_noticed() {
        let (log, promised) = written(3, 10);
        assert_ne!(tally(&log[1..]), promised);
        let mut twice = log.clone();
        twice[3] = twice[4].clone();
        assert_eq!(tally(&twice).records, promised.records);
        assert_ne!(tally(&twice), promised);
        let mut foreign = log;
        foreign[7] = b"short".to_vec();
        assert_ne!(tally(&foreign), promised);
    }

    #[test]
    fn a_record_names_its_thread_and_counter() {
        let mut records = Records::new(7, 64);
        records.acknowledged();
        assert_eq!(identify(records.current()), Some((7, 1)));
        assert_eq!(records.current().len(), 64);
        assert_eq!(identify(&[0; 15]), None);
    }
}
