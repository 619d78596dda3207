//! The group commit that is measured: one queue, up to `depth` cohorts in flight, acknowledged in
//! the order in which they were taken.
//!
//! I1. Cohorts in flight never overlap in the file: each gets a place of its own when it is taken.
//! I2. `acked` is the number of cohorts that are durable together with all before them.
//! I3. While somebody gathers, nobody else leads; who gathers takes all that are queued.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::{replace, take};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

const BLOCK: usize = 4096;
const AREA_BYTES: u64 = 32 << 20;
/// What the library fills ahead at a time.
const STEP_BYTES: usize = 256 << 10;

/// How cohorts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) direct: bool,
    pub(crate) depth: usize,
    pub(crate) gather: bool,
}

/// A file of zeros.
#[derive(Debug)]
pub(crate) struct Area {
    file: File,
    direct: bool,
}

impl Area {
    /// A direct one is filled directly, so that the page cache holds nothing of it.
    pub(crate) fn new(dir: &Path, direct: bool) -> io::Result<Self> {
        let named = tempfile::NamedTempFile::new_in(dir)?;
        let flags = if direct { libc::O_DIRECT | libc::O_DSYNC } else { 0 };
        let file = OpenOptions::new().write(true).custom_flags(flags).open(named.path())?;
        let zeros = Buffer::new(STEP_BYTES);
        for at in (0..AREA_BYTES).step_by(STEP_BYTES) {
            file.write_all_at(zeros.room(STEP_BYTES), at)?;
        }
        file.sync_all()?;
        Ok(Self { file, direct })
    }

    /// Returns once the bytes are durable.
    fn write(&self, bytes: &[u8], at: u64) {
        if self.direct {
            let written = self.file.write_at(bytes, at).expect("writes");
            assert_eq!(written, bytes.len(), "a short write cannot be continued in mid-block");
        } else {
            self.file.write_all_at(bytes, at).expect("writes");
            self.file.sync_data().expect("syncs");
        }
    }
}

/// Bytes that start at a block's alignment.
#[derive(Debug)]
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    fn new(bytes: usize) -> Self {
        let bytes = vec![0; bytes.next_multiple_of(BLOCK) + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK);
        Self { bytes, start, len: 0 }
    }

    fn room(&self, len: usize) -> &[u8] {
        &self.bytes[self.start..self.start + len]
    }

    fn push(&mut self, frame: &[u8]) {
        let at = self.start + self.len;
        self.bytes[at..at + frame.len()].copy_from_slice(frame);
        self.len += frame.len();
    }

    /// What is written of it, padding included.
    fn close(&mut self, pad: bool) -> usize {
        let len = if pad { self.len.next_multiple_of(BLOCK) } else { self.len };
        self.bytes[self.start + self.len..self.start + len].fill(0);
        len
    }
}

#[derive(Debug)]
struct State {
    open: Buffer,
    spare: Vec<Buffer>,
    queued: Vec<Thread>,
    /// In the order in which they were taken: whether it is durable, and who waits for it.
    flights: VecDeque<(bool, Vec<Thread>)>,
    acked: u64,
    taken: u64,
    writing: usize,
    gathering: bool,
    /// Committers that will be back.
    active: usize,
    /// Smoothed time of a write.
    took: Duration,
    end: u64,
    bytes: u64,
}

impl State {
    /// A place for `len` bytes, which no write in flight overlaps.
    fn place(&mut self, len: usize) -> u64 {
        let at = if self.end + len as u64 > AREA_BYTES { 0 } else { self.end };
        self.end = at + len as u64;
        self.bytes += len as u64;
        at
    }

    /// Takes the durable cohorts that nothing before them keeps back, and says who waited.
    fn acknowledge(&mut self) -> Vec<Thread> {
        let mut satisfied = Vec::new();
        while self.flights.front().is_some_and(|(durable, _)| *durable) {
            satisfied.extend(self.flights.pop_front().into_iter().flat_map(|flight| flight.1));
            self.acked += 1;
        }
        satisfied
    }
}

/// Committers that share writes.
#[derive(Debug)]
pub(crate) struct Group<'a> {
    area: &'a Area,
    way: Way,
    state: Mutex<State>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(area: &'a Area, way: Way, threads: usize, frame_bytes: usize) -> Self {
        let buffer = || Buffer::new(threads * frame_bytes);
        let state = State {
            open: buffer(),
            spare: (0..way.depth).map(|_| buffer()).collect(),
            queued: Vec::new(),
            flights: VecDeque::new(),
            acked: 0,
            taken: 0,
            writing: 0,
            gathering: false,
            active: threads,
            took: Duration::ZERO,
            end: 0,
            bytes: 0,
        };
        Self { area, way, state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no committer panics")
    }

    /// Returns once the frame and everything before it are durable.
    pub(crate) fn commit(&self, frame: &[u8]) {
        let mut state = self.lock();
        let mine = state.taken;
        state.open.push(frame);
        state.queued.push(thread::current());
        while state.acked <= mine {
            let queued = state.taken == mine;
            if queued && state.writing < self.way.depth && !state.gathering {
                state = self.lead(state);
            } else {
                drop(state);
                thread::park();
                state = self.lock();
            }
        }
    }

    fn lead<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        if self.way.gather {
            state = self.gather(state);
        }
        let spare = state.spare.pop().expect("one for each that may be in flight");
        let mut cohort = replace(&mut state.open, spare);
        let waiters = take(&mut state.queued);
        let number = state.taken;
        state.flights.push_back((false, waiters));
        state.taken += 1;
        state.writing += 1;
        let len = cohort.close(self.area.direct);
        let at = state.place(len);
        drop(state);

        let begun = Instant::now();
        self.area.write(cohort.room(len), at);
        let took = begun.elapsed();

        let mut state = self.lock();
        state.took = if state.took.is_zero() { took } else { (state.took * 7 + took) / 8 };
        state.writing -= 1;
        cohort.len = 0;
        state.spare.push(cohort);
        let place = usize::try_from(number - state.acked).expect("a few are in flight");
        state.flights[place].0 = true;
        let satisfied = state.acknowledge();
        let next = state.queued.first().cloned();
        drop(state);
        // The next leader first: its write is what the others wait for.
        let own = thread::current().id();
        for waiter in next.into_iter().chain(satisfied).filter(|waiter| waiter.id() != own) {
            waiter.unpark();
        }
        self.lock()
    }

    /// Waits until this write's share of the committers is queued, at most for one write.
    fn gather<'s>(&'s self, mut state: MutexGuard<'s, State>) -> MutexGuard<'s, State> {
        state.gathering = true;
        let (begun, limit) = (Instant::now(), state.took);
        while state.queued.len() < state.active.div_ceil(self.way.depth) && begun.elapsed() < limit
        {
            drop(state);
            thread::yield_now();
            state = self.lock();
        }
        state.gathering = false;
        state
    }

    /// One committer will not be back.
    pub(crate) fn leave(&self) {
        self.lock().active -= 1;
    }

    /// How many cohorts and bytes were written. All that was taken has been acknowledged.
    pub(crate) fn finish(self) -> (u64, u64) {
        let state = self.state.into_inner().expect("no committer panics");
        assert_eq!((state.acked, state.writing), (state.taken, 0), "nobody is left waiting");
        (state.taken, state.bytes)
    }
}
