//! A store that fails on demand, counts its calls, and lets a test act inside them.
//!
//! [`Script`] is the remote control. Every call of the store and its files is counted, shown to
//! the hook, and then fails if a fault is due. A call that fails has not reached the store
//! underneath, except half of a [`Fault::Short`] write.

#![allow(dead_code, reason = "each test binary uses some of it")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::fmt;
use std::io::{self, ErrorKind};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

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
    SyncNames,
    SyncPlace,
    Sweep,
    Write,
    Read,
    Sync,
    Len,
    SetLen,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It fails and does nothing.
    Fail(ErrorKind),
    /// A write fails after half of its bytes; any other call fails and does nothing.
    Short(ErrorKind),
    /// It panics and does nothing.
    Panic,
}

pub(crate) const EIO: Fault = Fault::Fail(ErrorKind::Other);
pub(crate) const ENOSPC: Fault = Fault::Fail(ErrorKind::StorageFull);

#[derive(Debug)]
struct Plan {
    /// `None`: any call.
    op: Option<Op>,
    /// How many matching calls still succeed.
    skip: u64,
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
        self.state().plans.push(Plan { op: Some(op), skip: k, sticky: false, fault });
    }

    /// The `k`-th next call of any kind, counted from 0, fails once.
    pub(crate) fn fail_call(&self, k: u64, fault: Fault) {
        self.state().plans.push(Plan { op: None, skip: k, sticky: false, fault });
    }

    /// Every call of `op` fails until [`heal`](Self::heal).
    pub(crate) fn fail_always(&self, op: Op, fault: Fault) {
        self.state().plans.push(Plan { op: Some(op), skip: 0, sticky: true, fault });
    }

    /// Nothing fails any more.
    pub(crate) fn heal(&self) {
        self.state().plans.clear();
    }

    /// Calls of `op` so far, failed ones included.
    pub(crate) fn calls(&self, op: Op) -> u64 {
        self.state().calls.get(&op).copied().unwrap_or(0)
    }

    /// Calls of any kind so far.
    pub(crate) fn all_calls(&self) -> u64 {
        self.state().calls.values().sum()
    }

    /// The calls that were made to fail, with the name of the file or the empty string.
    pub(crate) fn injected(&self) -> Vec<(Op, String)> {
        self.state().injected.clone()
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
            if plan.op.is_some_and(|wanted| wanted != op) {
                continue;
            }
            if plan.skip == 0 {
                due.get_or_insert((index, plan.fault, plan.sticky));
            } else {
                plan.skip -= 1;
            }
        }
        let (index, fault, sticky) = due?;
        if !sticky {
            state.plans.remove(index);
        }
        state.injected.push((op, name.to_owned()));
        Some(fault)
    }

    fn pass(&self, op: Op, name: &str) -> io::Result<()> {
        self.call(op, name).map_or(Ok(()), fail)
    }
}

fn fail(fault: Fault) -> io::Result<()> {
    match fault {
        Fault::Fail(kind) | Fault::Short(kind) => Err(kind.into()),
        // Unlike `panic!` this prints nothing.
        Fault::Panic => resume_unwind(Box::new("injected")),
    }
}

/// A store whose calls a [`Script`] can make fail.
#[derive(Clone)]
pub(crate) struct FaultyStore<S> {
    inner: S,
    script: Script,
}

impl<S: WalStore> FaultyStore<S> {
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

    fn pass(&self, op: Op) -> io::Result<()> {
        self.script.pass(op, &self.name())
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
        self.script.pass(Op::List, "")?;
        self.inner.list()
    }

    fn create(&self, bytes: u64) -> io::Result<Self::File> {
        self.script.pass(Op::Create, "")?;
        Ok(self.file(self.inner.create(bytes)?, ""))
    }

    fn publish(&self, file: &Self::File, name: &str) -> io::Result<()> {
        self.script.pass(Op::Publish, name)?;
        self.inner.publish(&file.inner, name)?;
        name.clone_into(&mut file.name.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    fn open(&self, name: &str) -> io::Result<Self::File> {
        self.script.pass(Op::Open, name)?;
        Ok(self.file(self.inner.open(name)?, name))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.script.pass(Op::Remove, name)?;
        self.inner.remove(name)
    }

    fn lock(&self, file: &Self::File) -> io::Result<bool> {
        file.pass(Op::Lock)?;
        self.inner.lock(&file.inner)
    }

    fn unlock(&self, file: &Self::File) -> io::Result<()> {
        self.inner.unlock(&file.inner)
    }

    fn sync_names(&self) -> io::Result<()> {
        self.script.pass(Op::SyncNames, "")?;
        self.inner.sync_names()
    }

    fn sync_place(&self) -> io::Result<()> {
        self.script.pass(Op::SyncPlace, "")?;
        self.inner.sync_place()
    }

    fn sweep(&self) -> io::Result<usize> {
        self.script.pass(Op::Sweep, "")?;
        self.inner.sweep()
    }

    fn locate(&self, name: &str) -> PathBuf {
        self.inner.locate(name)
    }
}

impl<F: StoreFile> StoreFile for FaultyFile<F> {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        match self.script.call(Op::Write, &self.name()) {
            None => self.inner.write_at(offset, bytes),
            Some(fault) => {
                if matches!(fault, Fault::Short(_)) {
                    self.inner.write_at(offset, &bytes[..bytes.len() / 2])?;
                }
                fail(fault)
            }
        }
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        self.pass(Op::Read)?;
        self.inner.read_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.pass(Op::Sync)?;
        self.inner.sync()
    }

    fn len(&self) -> io::Result<u64> {
        self.pass(Op::Len)?;
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.pass(Op::SetLen)?;
        self.inner.set_len(len)
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
