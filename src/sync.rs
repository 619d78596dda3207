//! Concurrency primitives: the only file that knows loom, shuttle, parking_lot, crossbeam, std's
//! atomics and the clock.
//!
//! The mutex API is parking_lot's: guards borrow the mutex and there is no lock poisoning. Under
//! `--cfg loom` with the feature `loom` the same names stand for loom's types, so that the models
//! in `loom-tests/` run the production code; under `--cfg shuttle` with the feature `shuttle` for
//! shuttle's, so that `shuttle-tests/` runs whole logs under schedules that can be repeated.

pub(crate) use crossbeam_utils::CachePadded;
pub(crate) use std::sync::{Arc, Weak};

#[cfg(all(loom, feature = "loom"))]
use loom as checker;
#[cfg(all(shuttle, feature = "shuttle"))]
use shuttle as checker;

mod time;

pub(crate) use imp::{
    AtomicU32, AtomicU64, Condvar, Deadline, Mutex, MutexGuard, Ordering, Poll, RwLock,
    RwLockReadGuard, sleep, spawn, thread_local, yield_now,
};
pub(crate) use observed::{AccessLog, Probe};
pub(crate) use time::{Instant, now};

/// True in builds that a model checker runs: everything random or timed is decided by the checker
/// there, and loops that only save a wait are short.
pub(crate) const MODEL: bool =
    cfg!(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle")));

const LOOM: bool = cfg!(all(loom, feature = "loom"));

/// Whether logs start helper threads of their own. A model is small, and has the threads it says.
pub(crate) const HELPERS: bool = !LOOM;

/// Whether a wait may begin with yielding, to save a wake-up. Loom sees no end of such a loop.
pub(crate) const YIELDS: bool = !LOOM;

/// A statistic: no ordering, no part in any protocol, unknown to loom.
#[derive(Debug, Default)]
pub(crate) struct Counter(std::sync::atomic::AtomicU64);

impl Counter {
    pub(crate) const fn new() -> Self {
        Self(std::sync::atomic::AtomicU64::new(0))
    }

    /// Adds from any thread; returns the value before.
    pub(crate) fn add(&self, n: u64) -> u64 {
        // ORDERING: Relaxed; a statistic orders nothing.
        self.0.fetch_add(n, std::sync::atomic::Ordering::Relaxed)
    }

    /// Stores a value that only one thread at a time owns, without a read-modify-write.
    #[inline]
    pub(crate) fn set(&self, value: u64) {
        // ORDERING: Relaxed; a statistic orders nothing.
        self.0.store(value, std::sync::atomic::Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // ORDERING: Relaxed; a statistic orders nothing.
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

/// A mutex that loom does not see, for the bookkeeping of models.
#[cfg(any(test, all(loom, feature = "loom")))]
#[derive(Debug)]
pub(crate) struct BookMutex<T>(std::sync::Mutex<T>);

#[cfg(any(test, all(loom, feature = "loom")))]
impl<T> BookMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(std::sync::Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> std::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// Lets a model checker run other threads in the middle of an I/O.
#[cfg(any(test, feature = "sim", all(loom, feature = "loom")))]
#[inline]
pub(crate) fn pause_in_io() {
    #[cfg(all(loom, feature = "loom"))]
    loom::thread::yield_now();
    // A scheduler with priorities makes others run first at a yield, and nothing of a sleep; an
    // I/O is sometimes the one and sometimes the other.
    #[cfg(all(shuttle, feature = "shuttle"))]
    match time::draw(2) {
        0 => shuttle::thread::yield_now(),
        _ => shuttle::thread::sleep(std::time::Duration::ZERO),
    }
}

/// An I/O that takes its time.
#[cfg(feature = "sim")]
pub(crate) fn slow_io() {
    if MODEL {
        (0..8).for_each(|_| pause_in_io());
    } else {
        sleep(std::time::Duration::from_micros(200));
    }
}

/// How many threads the machine runs at once. The system is asked once: on Linux the answer
/// takes a dozen system calls. A model does not depend on the machine that runs it.
pub(crate) fn cores() -> usize {
    static CORES: std::sync::OnceLock<usize> = std::sync::OnceLock::new();
    if MODEL {
        return 4;
    }
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, usize::from))
}

#[cfg(not(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle"))))]
mod imp {
    use std::time::Duration;

    use crossbeam_utils::Backoff;

    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock, RwLockReadGuard};
    pub(crate) use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(crate) use std::thread_local;

    /// Starts a thread that nobody joins; false when the system has none.
    pub(crate) fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> bool {
        std::thread::Builder::new().name(name.to_owned()).spawn(work).is_ok()
    }

    /// Sleeps; for helpers of the log alone.
    pub(crate) fn sleep(duration: Duration) {
        std::thread::sleep(duration);
    }

    /// Lets other threads run.
    pub(crate) fn yield_now() {
        std::thread::yield_now();
    }

    /// Waiting for a frontier that moves without waking anybody: spin, yield, then short sleeps.
    /// Hold no lock while waiting.
    #[derive(Debug, Default)]
    pub(crate) struct Poll {
        backoff: Backoff,
    }

    impl Poll {
        pub(crate) fn wait(&self) {
            if self.backoff.is_completed() {
                std::thread::sleep(Duration::from_micros(50));
            } else {
                self.backoff.snooze();
            }
        }
    }

    /// A point in time that is waited for.
    #[derive(Debug)]
    pub(crate) struct Deadline(super::Instant);

    impl Deadline {
        /// A wait that no clock can hold is one of a century.
        pub(crate) fn after(wait: Duration) -> Self {
            Self(super::now() + wait.min(Duration::from_secs(100 * 365 * 86_400)))
        }

        /// What is left; zero when it has passed.
        pub(crate) fn left(&mut self) -> Duration {
            self.0.saturating_duration_since(super::now())
        }
    }
}

#[cfg(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle")))]
#[expect(clippy::expect_used, reason = "a guard is taken only while its condvar waits")]
mod imp {
    use std::ops::{Deref, DerefMut};
    use std::time::Duration;

    use super::checker;

    pub(crate) use super::checker::sync::atomic::{AtomicU32, AtomicU64, Ordering};
    pub(crate) use super::checker::thread_local;

    pub(crate) fn spawn(_name: &str, work: impl FnOnce() + Send + 'static) -> bool {
        drop(checker::thread::spawn(work));
        true
    }

    pub(crate) fn sleep(_duration: Duration) {
        checker::thread::yield_now();
    }

    pub(crate) fn yield_now() {
        checker::thread::yield_now();
    }

    #[derive(Debug)]
    pub(crate) struct Mutex<T>(checker::sync::Mutex<T>);

    #[derive(Debug)]
    pub(crate) struct MutexGuard<'a, T> {
        inner: Option<checker::sync::MutexGuard<'a, T>>,
        mutex: &'a Mutex<T>,
    }

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(checker::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            let inner = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            MutexGuard { inner: Some(inner), mutex: self }
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.inner.as_ref().expect("the guard is taken only while its condvar waits")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.inner.as_mut().expect("the guard is taken only while its condvar waits")
        }
    }

    /// A checker finds more where readers exclude one another.
    #[derive(Debug)]
    pub(crate) struct RwLock<T>(Mutex<T>);

    pub(crate) type RwLockReadGuard<'a, T> = MutexGuard<'a, T>;

    impl<T> RwLock<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(Mutex::new(value))
        }

        pub(crate) fn read(&self) -> RwLockReadGuard<'_, T> {
            self.0.lock()
        }

        pub(crate) fn write(&self) -> MutexGuard<'_, T> {
            self.0.lock()
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(checker::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(checker::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.inner.take().expect("the guard is whole");
            let inner = self.0.wait(inner).unwrap_or_else(std::sync::PoisonError::into_inner);
            guard.inner = Some(inner);
        }

        /// A checker has no time: others run, and the wait is over.
        pub(crate) fn wait_for<T>(&self, guard: &mut MutexGuard<'_, T>, _timeout: Duration) {
            let mutex = guard.mutex;
            guard.inner = None;
            checker::thread::yield_now();
            *guard = mutex.lock();
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }

    #[derive(Debug, Default)]
    pub(crate) struct Poll(());

    impl Poll {
        pub(crate) fn wait(&self) {
            checker::thread::yield_now();
        }
    }

    /// A checker has no time: a deadline passes when it has been looked at a few times.
    #[derive(Debug)]
    pub(crate) struct Deadline(u32);

    impl Deadline {
        pub(crate) fn after(_wait: Duration) -> Self {
            Self(1 + super::time::draw(8))
        }

        pub(crate) fn left(&mut self) -> Duration {
            self.0 = self.0.saturating_sub(1);
            Duration::from_secs(u64::from(self.0))
        }
    }
}

#[cfg(not(all(loom, feature = "loom")))]
mod observed {
    /// Marks an access for loom's search; nothing elsewhere. See the other one.
    #[derive(Debug)]
    pub(crate) struct Probe;

    impl Probe {
        pub(crate) fn new() -> Self {
            Self
        }

        #[inline]
        pub(crate) fn touch(&self) {}
    }

    /// Records accesses to shared bytes for loom; nothing elsewhere.
    #[derive(Debug)]
    pub(crate) struct AccessLog;

    impl AccessLog {
        pub(crate) fn new(_words: usize) -> Self {
            Self
        }

        #[inline]
        pub(crate) fn write(&self, _words: std::ops::Range<usize>) {}

        #[inline]
        pub(crate) fn read(&self, _words: std::ops::Range<usize>) {}
    }
}

#[cfg(all(loom, feature = "loom"))]
mod observed {
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::{AtomicU64, Ordering};

    /// Makes loom try both orders of two accesses that it would take for independent.
    ///
    /// Loom's search remembers one last access per atomic. A thread that loads an atomic before
    /// it modifies it hides by its load what others loaded earlier, so loom never tries the
    /// modification before those. A probe touched next to the accesses in question conflicts
    /// where they do. It is relaxed and orders nothing.
    #[derive(Debug)]
    pub(crate) struct Probe(AtomicU64);

    impl Probe {
        pub(crate) fn new() -> Self {
            Self(AtomicU64::new(0))
        }

        pub(crate) fn touch(&self) {
            // ORDERING: Relaxed; it is there for its conflicts alone and must order nothing.
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One loom cell per word of shared bytes: an access without a happens-before edge to the
    /// one before it fails the model.
    #[derive(Debug)]
    pub(crate) struct AccessLog(Vec<UnsafeCell<()>>);

    impl AccessLog {
        pub(crate) fn new(words: usize) -> Self {
            Self((0..words).map(|_| UnsafeCell::new(())).collect())
        }

        pub(crate) fn write(&self, words: std::ops::Range<usize>) {
            self.0[words].iter().for_each(|cell| cell.with_mut(|_| ()));
        }

        pub(crate) fn read(&self, words: std::ops::Range<usize>) {
            self.0[words].iter().for_each(|cell| cell.with(|_| ()));
        }
    }
}
