//! [`Shape`] and [`Records`]: records whose every byte follows from thread and counter.
//!
//! The replay makes each record anew and compares all of it, so what a record holds only has to be
//! cheap to make and different enough that no mix-up goes unseen.
//!
//! - From 12 bytes on a record is thread u32, counter u64, a stamp (a hash of both, as much of it
//!   as fits), and pseudo-random bytes of the thread's own, with the stamp again in every 256 bytes
//!   and at the very end: a stale stretch of an older record of the same thread shows.
//! - Below that it is the thread in as few bits as it needs and the counter's low bits above.
//! - Where not even the thread fits, or there is no byte at all, records are zeros and counted.

const THREAD_BYTES: usize = 4;
const ID_BYTES: usize = THREAD_BYTES + 8;
const STAMP_BYTES: usize = 8;
const STAMP_EVERY: usize = 256;
const SEED: u64 = 0x636f_686f_7274_2d77;

/// How records of one benchmark are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    threads: u32,
    size: usize,
    scheme: Scheme,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scheme {
    Full,
    Compact { thread_bits: u32, counter_bits: u32 },
    Counted,
}

impl Shape {
    pub(crate) fn new(threads: u32, size: u32) -> Self {
        let thread_bits = u32::BITS - threads.saturating_sub(1).leading_zeros();
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let scheme = if size >= ID_BYTES {
            Scheme::Full
        } else {
            // Fewer than 12 bytes, so the number of bits fits any integer.
            let bits = u32::try_from(size * 8).unwrap_or(0);
            match bits.checked_sub(thread_bits) {
                Some(counter_bits) if bits > 0 => {
                    Scheme::Compact { thread_bits, counter_bits: counter_bits.min(u64::BITS) }
                }
                _ => Scheme::Counted,
            }
        };
        Self { threads, size, scheme }
    }

    pub(crate) fn threads(self) -> u32 {
        self.threads
    }

    /// False when records do not tell whose they are, and are all thread 0's.
    pub(crate) fn tells_threads(self) -> bool {
        self.scheme != Scheme::Counted
    }

    /// Whose record this claims to be, the `counter` of which thread. `next` names the counter that
    /// a thread's next record should have: where only the counter's low bits are there, the
    /// nearest counter to it that fits is meant.
    pub(crate) fn identify(self, record: &[u8], next: impl Fn(u32) -> u64) -> Option<(u32, u64)> {
        match self.scheme {
            Scheme::Full => {
                let (thread, rest) = record.split_first_chunk::<THREAD_BYTES>()?;
                let (counter, _) = rest.split_first_chunk::<8>()?;
                let thread = u32::from_le_bytes(*thread);
                (thread < self.threads).then(|| (thread, u64::from_le_bytes(*counter)))
            }
            Scheme::Compact { thread_bits, counter_bits } => {
                let mut bytes = [0; 16];
                bytes.get_mut(..record.len())?.copy_from_slice(record);
                let value = u128::from_le_bytes(bytes);
                let low_bits = |value: u128, bits: u32| {
                    u64::try_from(value & ((1_u128 << bits) - 1)).unwrap_or(u64::MAX)
                };
                let thread = u32::try_from(low_bits(value, thread_bits)).ok()?;
                let found = low_bits(value >> thread_bits, counter_bits);
                let next = (thread < self.threads).then(|| next(thread))?;
                Some((thread, nearest(found, next, counter_bits)))
            }
            Scheme::Counted => Some((0, next(0))),
        }
    }
}

/// The counter nearest to `next` whose low `bits` are `found`.
fn nearest(found: u64, next: u64, bits: u32) -> u64 {
    let Some(range) = 1_u64.checked_shl(bits) else {
        return found;
    };
    let ahead = found.wrapping_sub(next) & (range - 1);
    if ahead <= range / 2 { next.wrapping_add(ahead) } else { next.wrapping_sub(range - ahead) }
}

/// Makes the records of one thread, in a buffer of its own.
#[derive(Debug)]
pub(crate) struct Records {
    shape: Shape,
    thread: u32,
    key: u64,
    buffer: Vec<u8>,
}

impl Records {
    pub(crate) fn new(shape: Shape, thread: u32) -> Self {
        let key = mix(SEED ^ u64::from(thread));
        let mut buffer = vec![0; shape.size];
        if shape.scheme == Scheme::Full {
            let mut state = key;
            for chunk in buffer.chunks_mut(8) {
                state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
                put(chunk, 0, &mix(state).to_le_bytes());
            }
            put(&mut buffer, 0, &thread.to_le_bytes());
        }
        Self { shape, thread, key, buffer }
    }

    /// The thread's record with this counter.
    pub(crate) fn record(&mut self, counter: u64) -> &[u8] {
        let buffer = self.buffer.as_mut_slice();
        match self.shape.scheme {
            Scheme::Full => {
                let stamp = mix(self.key ^ counter);
                put(buffer, THREAD_BYTES, &counter.to_le_bytes());
                put(buffer, ID_BYTES, &stamp.to_le_bytes());
                let mut stamped = stamp;
                for start in (STAMP_EVERY..self.shape.size).step_by(STAMP_EVERY) {
                    stamped = stamped.wrapping_add(self.key | 1);
                    put(buffer, start, &stamped.to_le_bytes());
                }
                if let Some(last) = self.shape.size.checked_sub(STAMP_BYTES)
                    && last >= ID_BYTES + STAMP_BYTES
                {
                    put(buffer, last, &(!stamp).to_le_bytes());
                }
            }
            Scheme::Compact { thread_bits, counter_bits } => {
                let counter = u128::from(counter) & ((1_u128 << counter_bits) - 1);
                let value = u128::from(self.thread) | counter << thread_bits;
                put(buffer, 0, &value.to_le_bytes());
            }
            Scheme::Counted => {}
        }
        buffer
    }
}

/// Overwrites `buffer` from `start` on with as many of `bytes` as fit.
fn put(buffer: &mut [u8], start: usize, bytes: &[u8]) {
    let place = buffer.get_mut(start..).unwrap_or_default();
    let len = place.len().min(bytes.len());
    place[..len].copy_from_slice(&bytes[..len]);
}

/// The finaliser of `SplitMix64`: a bijection that spreads every input bit.
fn mix(value: u64) -> u64 {
    let value = (value ^ value >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ value >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_record_names_its_thread_and_counter() {
        for threads in [1, 2, 3, 8, 256] {
            for size in [1, 2, 3, 7, 8, 9, 11, 12, 13, 19, 20, 27, 28, 64, 255, 256, 257, 4096] {
                let shape = Shape::new(threads, size);
                for thread in [0, threads / 2, threads - 1] {
                    let mut records = Records::new(shape, thread);
                    for counter in [0, 1, 31, 32, 255, 256, 1 << 20] {
                        let record = records.record(counter).to_vec();
                        assert_eq!(record.len(), usize::try_from(size).unwrap());
                        let id = shape.identify(&record, |_| counter);
                        assert_eq!(id, Some((thread, counter)), "{threads} threads, {size} bytes");
                    }
                }
            }
        }
    }

    #[test]
    fn records_of_different_threads_and_counters_differ_throughout() {
        let shape = Shape::new(2, 4096);
        let first = Records::new(shape, 0).record(1).to_vec();
        let later = Records::new(shape, 0).record(2).to_vec();
        let other = Records::new(shape, 1).record(1).to_vec();
        for start in (0..4096).step_by(STAMP_EVERY) {
            let stretch = start..start + STAMP_EVERY;
            assert_ne!(first[stretch.clone()], later[stretch.clone()], "at {start}");
            assert_ne!(first[stretch.clone()], other[stretch], "at {start}");
        }
        assert_ne!(first[4088..], later[4088..]);
    }

    #[test]
    fn a_record_does_not_depend_on_the_ones_made_before_it() {
        for size in [0, 5, 12, 28, 260, 263, 264, 1000] {
            let shape = Shape::new(3, size);
            let mut used = Records::new(shape, 2);
            used.record(u64::MAX);
            used.record(1);
            assert_eq!(used.record(77), Records::new(shape, 2).record(77), "{size} bytes");
        }
    }

    #[test]
    fn low_bits_mean_the_nearest_counter() {
        assert_eq!(nearest(3, 3, 4), 3);
        assert_eq!(nearest(1, 15, 4), 17);
        assert_eq!(nearest(14, 16, 4), 14);
        assert_eq!(nearest(0, 9, 0), 9);
        assert_eq!(nearest(5, 9, 64), 5);
    }

    #[test]
    fn records_without_room_for_the_thread_are_only_counted() {
        assert!(!Shape::new(1, 0).tells_threads());
        assert!(!Shape::new(300, 1).tells_threads());
        assert!(Shape::new(256, 1).tells_threads());
        assert!(Shape::new(1024, 2).tells_threads());
    }
}
