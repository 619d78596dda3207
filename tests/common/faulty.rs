//! A store that fails on demand, counts its calls, and lets a test act inside them.
//!
//! [`Script`] is the remote control. Every call of the store and its files is counted, shown to
//! the hook, and then fails if a fault is due. What of a failing call reaches the store underneath
//! is up to the [`Fault`].

#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::io::{self, ErrorKind};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cohort_wal::{StoreFile, WalStore};

/// A call of a store or of one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Op {
    List,
    Create,
    Publish,
    Open,
    Remove,
    Lock,
    Unlock,
    SyncNames,
    SyncPlace,
    Sweep,
    Locate,
    Cheaper,
    Write,
    Read,
    Sync,
    Release,
    Len,
    SetLen,
    /// A handle is dropped, or an error: then its name is `error`. Only hooks see it: it is no
    /// call.
    Drop,
}

impl Op {
    /// It returns no `Result`: all it can do wrong is to panic. It touches no bytes either.
    fn cannot_fail(self) -> bool {
        matches!(self, Self::Locate | Self::Cheaper | Self::Release)
    }
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and does nothing.
    Fail(ErrorKind),
    /// A write or a read fails after half of its bytes; any other call fails and does nothing.
    Short(ErrorKind),
    /// It does all it should, and then fails.
    Late(ErrorKind),
    /// A read returns half of the bytes there are; no other call is concerned.
    Less,
    /// It panics and does nothing.
    Panic,
    /// The same, with a payload that panics when it is dropped, and so on.
    Bomb,
    /// It fails and does nothing, and hooks see the error being dropped.
    Watched,
}

/// What a [`Fault::Bomb`] panics with.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if let Some(left) = self.0.checked_sub(1) {
            resume_unwind(Box::new(Self(left)));
        }
    }
}

pub(crate) const EIO: Fault = Fault::Fail(ErrorKind::Other);
pub(crate) const ENOSPC: Fault = Fault::Fail(ErrorKind::StorageFull);

impl Fault {
    /// Whether a call can end this way.
    fn concerns(self, op: Op) -> bool {
        match self {
            Self::Panic | Self::Bomb => true,
            Self::Less => op == Op::Read,
            Self::Fail(_) | Self::Short(_) | Self::Late(_) | Self::Watched => !op.cannot_fail(),
        }
    }
}

#[derive(Debug)]
struct Plan {
    /// `None`: any call.
    op: Option<Op>,
    /// How many matching calls still succeed.
    skip: u64,
    /// Which of the calls after those fail; none: all.
    among: &'static [Op],
    sticky: bool,
    fault: Fault,
}

type Hook = Arc<dyn Fn(Op, &str) + Send + Sync>;

#[derive(Default)]
struct State {
    plans: Vec<Plan>,
    calls: HashMap<Op, u64>,
    injected: Vec<(Op, String)>,
    hook: Option<Hook>,
}

/// The remote control of a [`FaultyStore`].
#[derive(Clone, Default)]
pub(crate) struct Script(Arc<Mutex<State>>);

impl Script {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The `k`-th next call of `op`, counted from 0, fails once.
    pub(crate) fn fail_once(&self, op: Op, k: u64, fault: Fault) {
        self.state().plans.push(Plan { op: Some(op), skip: k, among: &[], sticky: false, fault });
    }

    /// The `k`-th next call of any kind, counted from 0, fails once.
    pub(crate) fn fail_call(&self, k: u64, fault: Fault) {
        self.state().plans.push(Plan { op: None, skip: k, among: &[], sticky: false, fault });
    }

    /// From the `k`-th next call on, all of them or all calls of some kinds fail until
    /// [`heal`](Self::heal).
    pub(crate) fn fail_from(&self, k: u64, among: &'static [Op], fault: Fault) {
        self.state().plans.push(Plan { op: None, skip: k, among, sticky: true, fault });
    }

    /// Every call of `op` fails until [`heal`](Self::heal).
    pub(crate) fn fail_always(&self, op: Op, fault: Fault) {
        self.state().plans.push(Plan { op: Some(op), skip: 0, among: &[], sticky: true, fault });
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        self.state().plans.clear();
    }

    /// Calls of `op` so far, failed ones included.
    pub(crate) fn calls(&self, op: Op) -> u64 {
        self.state().calls.get(&op).copied().unwrap_or(0)
    }

    /// Calls of any kind so far, but for those that cannot fail.
    pub(crate) fn all_calls(&self) -> u64 {
        let state = self.state();
        state.calls.iter().filter(|(op, _)| !op.cannot_fail()).map(|(_, calls)| calls).sum()
    }

    /// The calls that were made to fail, with the name of the file or the empty string.
    pub(crate) fn injected(&self) -> Vec<(Op, String)> {
        self.state().injected.clone()
    }

    /// Calls of this kind about names that end so wait at a gate. One that nobody opens for 20 s
    /// makes them panic, so that who waits for the call in vain is told.
    pub(crate) fn hold(&self, op: Op, suffix: &'static str) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        let held = Arc::clone(&gate);
        self.hook(move |called, name| {
            if called == op && name.ends_with(suffix) {
                assert!(held.pass_within(Duration::from_secs(20)), "nobody opens the gate");
            }
        });
        gate
    }

    /// Runs `hook` inside every call, before anything else happens there.
    pub(crate) fn hook(&self, hook: impl Fn(Op, &str) + Send + Sync + 'static) {
        self.state().hook = Some(Arc::new(hook));
    }

    /// Counts a call, and says how it fails.
    fn call(&self, op: Op, name: &str) -> Option<Fault> {
        let hook = self.state().hook.clone();
        if let Some(hook) = hook {
            hook(op, name);
        }
        let mut state = self.state();
        *state.calls.entry(op).or_default() += 1;
        let mut due = None;
        for (index, plan) in state.plans.iter_mut().enumerate() {
            if plan.op.is_some_and(|wanted| wanted != op) || !plan.fault.concerns(op) {
                continue;
            }
            if plan.skip > 0 {
                plan.skip -= 1;
            } else if plan.among.is_empty() || plan.among.contains(&op) {
                due.get_or_insert((index, plan.fault, plan.sticky));
            }
        }
        let (index, fault, sticky) = due?;
        if !sticky {
            state.plans.remove(index);
        }
        state.injected.push((op, name.to_owned()));
        Some(fault)
    }

    /// A call that does `work` unless it fails.
    fn pass<T>(&self, op: Op, name: &str, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.settle(self.call(op, name), work)
    }

    fn settle<T>(
        &self,
        fault: Option<Fault>,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        match fault {
            None | Some(Fault::Less) => work(),
            Some(Fault::Late(kind)) => work().and_then(|_| Err(kind.into())),
            Some(Fault::Watched) => Err(io::Error::other(Watched(self.clone()))),
            Some(fault) => fail(fault),
        }
    }

    fn dropped(&self, name: &str) {
        let hook = self.state().hook.clone();
        if let Some(hook) = hook {
            hook(Op::Drop, name);
        }
    }

    /// A call that cannot fail.
    fn note(&self, op: Op, name: &str) {
        if self.call(op, name).is_some() {
            resume_unwind(Box::new("injected"));
        }
    }
}

/// What a [`Fault::Watched`] fails with.
struct Watched(Script);

impl Drop for Watched {
    fn drop(&mut self) {
        self.0.dropped("error");
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("watched")
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("injected, and watched")
    }
}

impl Error for Watched {}

fn fail<T>(fault: Fault) -> io::Result<T> {
    match fault {
        Fault::Fail(kind) | Fault::Short(kind) | Fault::Late(kind) => Err(kind.into()),
        // Unlike `panic!` this prints nothing.
        Fault::Panic | Fault::Less | Fault::Watched => resume_unwind(Box::new("injected")),
        Fault::Bomb => resume_unwind(Box::new(Bomb(3))),
    }
}

/// A store whose calls a [`Script`] can make fail.
#[derive(Clone)]
pub(crate) struct FaultyStore<S> {
    inner: S,
    script: Script,
}

impl<S: WalStore> FaultyStore<S> {
    /// A store whose calls the returned script can make fail.
    pub(crate) fn over(inner: S) -> (Self, Script) {
        let script = Script::default();
        (Self { inner, script: script.clone() }, script)
    }

    fn file(&self, inner: S::File, name: &str) -> FaultyFile<S::File> {
        FaultyFile { inner, name: Mutex::new(name.to_owned()), script: self.script.clone() }
    }
}

impl<S> fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore").finish_non_exhaustive()
    }
}

/// A file of a [`FaultyStore`].
pub(crate) struct FaultyFile<F> {
    inner: F,
    /// Empty until it is published.
    name: Mutex<String>,
    script: Script,
}

impl<F> FaultyFile<F> {
    fn name(&self) -> String {
        self.name.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The file underneath, which never fails.
    pub(crate) fn inner(&self) -> &F {
        &self.inner
    }

    fn pass<T>(&self, op: Op, work: impl FnOnce(&F) -> io::Result<T>) -> io::Result<T> {
        self.script.pass(op, &self.name(), || work(&self.inner))
    }
}

impl<F> Drop for FaultyFile<F> {
    fn drop(&mut self) {
        self.script.dropped(&self.name());
    }
}

impl<F> fmt::Debug for FaultyFile<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyFile").field("name", &self.name()).finish_non_exhaustive()
    }
}

impl<S: WalStore> WalStore for FaultyStore<S> {
    type File = FaultyFile<S::File>;

    fn list(&self) -> io::Result<Vec<String>> {
        self.script.pass(Op::List, "", || self.inner.list())
    }

    fn create(&self, bytes: u64) -> io::Result<Self::File> {
        self.script.pass(Op::Create, "", || Ok(self.file(self.inner.create(bytes)?, "")))
    }

    fn publish(&self, file: &Self::File, name: &str) -> io::Result<()> {
        self.script.pass(Op::Publish, name, || {
            self.inner.publish(&file.inner, name)?;
            name.clone_into(&mut file.name.lock().unwrap_or_else(PoisonError::into_inner));
            Ok(())
        })
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        self.script.pass(Op::Open, name, || Ok(self.file(self.inner.open(name)?, name)))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.script.pass(Op::Remove, name, || self.inner.remove(name))
    }

    fn lock(&self, file: &Self::File) -> io::Result<bool> {
        file.pass(Op::Lock, |inner| self.inner.lock(inner))
    }

    fn unlock(&self, file: &Self::File) -> io::Result<()> {
        file.pass(Op::Unlock, |inner| self.inner.unlock(inner))
    }

    fn sync_names(&self) -> io::Result<()> {
        self.script.pass(Op::SyncNames, "", || self.inner.sync_names())
    }

    fn sync_place(&self) -> io::Result<()> {
        self.script.pass(Op::SyncPlace, "", || self.inner.sync_place())
    }

    fn sweep(&self) -> io::Result<usize> {
        self.script.pass(Op::Sweep, "", || self.inner.sweep())
    }

    fn locate(&self, name: &str) -> PathBuf {
        self.script.note(Op::Locate, name);
        self.inner.locate(name)
    }

    fn overwriting_is_cheaper(&self) -> bool {
        self.script.note(Op::Cheaper, "");
        self.inner.overwriting_is_cheaper()
    }
}

impl<F: StoreFile> StoreFile for FaultyFile<F> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.script.call(Op::Write, &self.name()) {
            Some(fault @ Fault::Short(_)) => {
                self.inner.write_at(offset, &bytes[..bytes.len() / 2])?;
                fail(fault)
            }
            fault => self.script.settle(fault, || self.inner.write_at(offset, bytes)),
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let half = bytes.len().div_ceil(2);
        match self.script.call(Op::Read, &self.name()) {
            Some(Fault::Less) => self.inner.read_at(offset, &mut bytes[..half]),
            Some(fault @ Fault::Short(_)) => {
                self.inner.read_at(offset, &mut bytes[..half])?;
                fail(fault)
            }
            fault => self.script.settle(fault, || self.inner.read_at(offset, bytes)),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.pass(Op::Sync, F::sync)
    }

    fn release_cache(&self) {
        self.script.note(Op::Release, &self.name());
        self.inner.release_cache();
    }

    fn len(&self) -> io::Result<u64> {
        self.pass(Op::Len, F::len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pass(Op::SetLen, |inner| inner.set_len(len))
    }
}

/// A gate that threads wait at until it is opened for good.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// How many threads came to the gate, and whether it is open.
    state: Mutex<(usize, bool)>,
    moved: Condvar,
}

impl Gate {
    /// Waits until the gate is open.
    pub(crate) fn pass(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        self.moved.notify_all();
        let wait = self.moved.wait_while(state, |state| !state.1);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until the gate is open, at most so long; returns whether it is.
    pub(crate) fn pass_within(&self, most: Duration) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += 1;
        self.moved.notify_all();
        let wait = self.moved.wait_timeout_while(state, most, |state| !state.1);
        wait.unwrap_or_else(PoisonError::into_inner).0.1
    }

    /// Waits until a thread has come to the gate.
    pub(crate) fn wait_for_arrival(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = self.moved.wait_while(state, |state| state.0 == 0);
        drop(wait.unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn open(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).1 = true;
        self.moved.notify_all();
    }
}
