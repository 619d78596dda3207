//! What a follower waits at: a bell that rings when there is something to look at.

use std::task::Waker;
use std::time::Duration;

use crate::error::Result;
use crate::sync::{Arc, AtomicU32, Condvar, Deadline, Mutex, Ordering};

#[derive(Debug, Default)]
struct Rope {
    /// It rang, and nobody has heard it yet.
    rung: Option<Result<()>>,
    stopped: bool,
    /// The task that listens, if it is one.
    waker: Option<Waker>,
}

/// Rings once for every time that somebody listens.
#[derive(Debug)]
pub(crate) struct Bell {
    rope: Mutex<Rope>,
    pulled: Condvar,
    /// As in the rope, for who does not wait: in a fork somebody may hold the rope for ever.
    stopped: AtomicU32,
}

/// Why a wait at the bell ended.
#[derive(Debug)]
pub(super) enum Heard {
    Rung(Result<()>),
    Stopped,
    /// It took too long.
    Nothing,
}

impl Bell {
    pub(super) fn new() -> Self {
        let (rope, pulled) = (Mutex::new(Rope::default()), Condvar::new());
        Self { rope, pulled, stopped: AtomicU32::new(0) }
    }

    /// Wakes who listens, now or when it does.
    pub(crate) fn ring(&self, verdict: Result<()>) {
        self.pull(|rope| rope.rung = Some(verdict));
    }

    fn pull(&self, how: impl FnOnce(&mut Rope)) {
        let mut rope = self.rope.lock();
        how(&mut rope);
        let waker = rope.waker.take();
        drop(rope);
        self.pulled.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        // ORDERING: Relaxed; a hint, who waits looks under the lock.
        self.stopped.load(Ordering::Relaxed) != 0
    }

    /// What was heard so far. If that is nothing, `waker` is woken at the next ring.
    #[cfg(feature = "stream")]
    pub(super) fn poll(&self, waker: Waker) -> Heard {
        let mut rope = self.rope.lock();
        let heard = rope.hear();
        let old = if matches!(heard, Heard::Nothing) {
            rope.waker.replace(waker)
        } else {
            rope.waker.take()
        };
        drop(rope);
        // Code of the user's.
        drop(old);
        heard
    }

    /// Blocks until it rings, it is stopped, or the time is over; without a time for ever.
    pub(super) fn wait(&self, most: Option<Duration>) -> Heard {
        let mut deadline = most.map(Deadline::after);
        let mut rope = self.rope.lock();
        loop {
            let heard = rope.hear();
            if !matches!(heard, Heard::Nothing) {
                return heard;
            }
            match &mut deadline {
                None => self.pulled.wait(&mut rope),
                Some(deadline) => {
                    let left = deadline.left();
                    if left.is_zero() {
                        return Heard::Nothing;
                    }
                    self.pulled.wait_for(&mut rope, left);
                }
            }
        }
    }
}

impl Rope {
    fn hear(&mut self) -> Heard {
        if self.stopped {
            return Heard::Stopped;
        }
        self.rung.take().map_or(Heard::Nothing, Heard::Rung)
    }
}

/// Ends a [`Follow`](crate::Follow), from any thread. Clones end the same one.
#[derive(Debug, Clone)]
pub struct Stopper(pub(super) Arc<Bell>);

impl Stopper {
    /// Ends the follower: a wait ends at once, and it yields nothing any more. Takes no lock of the
    /// log.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{Lsn, MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let mut follower = wal.follow(Lsn::new(0))?;
    /// let stopper = follower.stopper();
    /// let waiting = std::thread::spawn(move || follower.next().is_none());
    /// stopper.stop();
    /// assert!(waiting.join().unwrap());
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop(&self) {
        // ORDERING: Relaxed; a hint, as in `is_stopped`; who waits is told under the lock.
        self.0.stopped.store(1, Ordering::Relaxed);
        self.0.pull(|rope| rope.stopped = true);
    }
}
