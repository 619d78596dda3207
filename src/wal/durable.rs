//! [`Durable`] and callbacks: commits that no thread waits for.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use super::Wal;
use crate::commit::{Demand, Ticket};
use crate::error::{Result, WalError};
use crate::flush::Notices;
use crate::lsn::{ALIGNMENT, Lsn, Place};
use crate::store::WalStore;
use crate::sync::{Arc, Mutex};

/// A commit that is awaited: ready when a record is durable, or will never be.
///
/// Made by [`Wal::durable`]. Owned and `Send`; it needs no runtime, and [`wait`](Self::wait) needs
/// no executor. Nothing happens until it is first polled or waited for. From the first poll on it
/// demands a sync, which it shares with all other commits. Dropping it is free; the record stays
/// appended, and becomes durable with others.
///
/// Polled again when it was ready, it is ready again with the same result. Polled from inside a
/// call of the log's store, where nobody may wait, it is ready with [`WalError::Reentrant`] that
/// once.
#[must_use = "a future does nothing unless it is polled or waited for"]
pub struct Durable {
    log: Arc<dyn Notices>,
    target: Result<Place>,
    state: State,
}

enum State {
    New,
    Registered { cell: Arc<Cell>, ticket: Option<Ticket> },
    Done(Result<()>),
}

/// Where a future and the notifier meet.
struct Cell(Mutex<Told>);

#[derive(Default)]
struct Told {
    verdict: Option<Result<()>>,
    waker: Option<Waker>,
}

impl Cell {
    fn tell(&self, verdict: Result<()>) {
        let mut told = self.0.lock();
        told.verdict = Some(verdict);
        let waker = told.waker.take();
        drop(told);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn take(&self) -> Option<Result<()>> {
        self.0.lock().verdict.take()
    }

    /// The verdict, or else `waker` is told when there is one. Wakers are dropped without a lock.
    fn poll(&self, waker: Waker) -> Option<Result<()>> {
        let mut told = self.0.lock();
        let verdict = told.verdict.take();
        let old = if verdict.is_none() { told.waker.replace(waker) } else { told.waker.take() };
        drop(told);
        drop(old);
        verdict
    }
}

impl Durable {
    /// Blocks until the record is durable, like [`Wal::wait_durable`].
    ///
    /// # Durability
    /// Durable: the record, its batch, and everything before it.
    ///
    /// # Errors
    /// As [`Wal::wait_durable`].
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsn = wal.append(b"commit")?;
    /// wal.durable(lsn).wait()?;
    /// assert!(wal.durable_lsn() > lsn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait(self) -> Result<()> {
        match &self.state {
            State::Done(result) => result.clone(),
            State::New | State::Registered { .. } => self.log.commit(self.target.clone()?),
        }
    }

    fn register(&mut self, waker: Waker) -> Option<Result<()>> {
        let told = Told { verdict: None, waker: Some(waker) };
        let cell = Arc::new(Cell(Mutex::new(told)));
        let teller = Arc::clone(&cell);
        let call = Box::new(move |verdict| teller.tell(verdict));
        let ticket = self.log.notify(self.target.clone(), Demand::Sync, call);
        // On a log that has ended it was called in there.
        let verdict = cell.take();
        self.state = State::Registered { cell, ticket };
        verdict
    }
}

impl Future for Durable {
    type Output = Result<()>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        let this = self.get_mut();
        if let State::Registered { cell, .. } = &this.state
            && let Some(result) = cell.take()
        {
            this.state = State::Done(result.clone());
            return Poll::Ready(result);
        }
        let refused = this.log.check();
        let verdict = match (&this.state, &this.target) {
            (State::Done(result), _) => return Poll::Ready(result.clone()),
            (_, Ok(target)) if this.log.is_durable(*target) => {
                this.forget();
                Some(Ok(()))
            }
            (_, Err(error)) => Some(Err(error.clone())),
            _ if refused.is_err() => return Poll::Ready(refused),
            (State::New, _) => this.register(context.waker().clone()),
            (State::Registered { cell, .. }, _) => cell.poll(context.waker().clone()),
        };
        let Some(result) = verdict else { return Poll::Pending };
        this.state = State::Done(result.clone());
        Poll::Ready(result)
    }
}

impl Durable {
    /// Takes back what is registered, if it was not called.
    fn forget(&mut self) {
        if let State::Registered { ticket: Some(ticket), .. } = &self.state {
            self.log.cancel(*ticket);
        }
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.forget();
    }
}

impl fmt::Debug for Durable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = matches!(self.state, State::Done(_));
        f.debug_struct("Durable").field("done", &done).finish_non_exhaustive()
    }
}

impl<S: WalStore> Wal<S> {
    /// A future that is ready when the record at `lsn` is durable. It needs no runtime and holds no
    /// borrow; it keeps the memory of the log, not the log open.
    ///
    /// # Durability
    /// When it is ready with `Ok`: durable, the record, its batch, and everything before it.
    ///
    /// # Concurrency
    /// Blocks for nothing but the few instructions in which another thread cuts or closes the log.
    /// The first future that is polled, or callback, starts
    /// one thread, which leads the syncs that only futures and callbacks ask for, and wakes tasks.
    ///
    /// # Errors
    /// The future's: as [`wait_durable`](Self::wait_durable), also for an `lsn` that is not that of
    /// a record; [`WalError::Io`] when that thread cannot be started.
    ///
    /// # Examples
    /// ```
    /// # use cohort_wal::{MemStore, WalError, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let lsn = wal.append(b"commit")?;
    /// pollster::block_on(wal.durable(lsn))?;
    /// assert!(wal.durable_lsn() > lsn);
    /// let end = pollster::block_on(wal.durable(wal.end_lsn()));
    /// assert!(matches!(end, Err(WalError::NotARecord { .. })));
    /// # Ok(())
    /// # }
    /// ```
    pub fn durable(&self, lsn: Lsn) -> Durable {
        let log: Arc<dyn Notices> = Arc::clone(&self.engine) as _;
        Durable { log, target: self.end_of(lsn), state: State::New }
    }

    /// Calls `f` once, when the record at `lsn` is durable or will never be. Demands a sync.
    ///
    /// Calls are made one after the other by a thread of the log, in LSN order as far as they are
    /// registered by then; with no lock held. `f` may append, register more, and drop the log. As
    /// long as it runs no other is called and no task is woken, so it should be short; one that
    /// waits for another one never ends. What it panics with is dropped. On a log that has ended,
    /// and whose calls are all made, `f` is called before this returns.
    ///
    /// # Durability
    /// When it is called with `Ok`: durable, the record, its batch, and everything before it.
    ///
    /// # Errors
    /// What `f` is called with: as for [`durable`](Self::durable).
    ///
    /// # Examples
    /// ```
    /// # use std::sync::mpsc;
    /// # use cohort_wal::{MemStore, WalOptions};
    /// # fn main() -> cohort_wal::Result<()> {
    /// let wal = WalOptions::new().open_store(MemStore::new())?;
    /// let (tell, told) = mpsc::channel();
    /// let lsn = wal.append(b"commit")?;
    /// wal.on_durable(lsn, move |result| tell.send(result).unwrap());
    /// told.recv().unwrap()?;
    /// assert!(wal.durable_lsn() > lsn);
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_durable(&self, lsn: Lsn, f: impl FnOnce(Result<()>) + Send + 'static) {
        self.engine.notify(self.end_of(lsn), Demand::Sync, Box::new(f));
    }

    /// What has to be durable for the record at `lsn` to be.
    pub(super) fn end_of(&self, lsn: Lsn) -> Result<Place> {
        self.engine.enter_for_reading()?;
        let end = self.engine.place();
        if !lsn.get().is_multiple_of(ALIGNMENT) || lsn.get() >= end.lsn {
            return Err(WalError::NotARecord { lsn });
        }
        // `durable` moves from unit to unit, so past the start of a record means past its end.
        Ok(end.at(lsn.get() + 1))
    }
}
