//! Faults of disks that are not simulated, the same that a simulated one has.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use cohort_wal::sim::{SimCall, SimFault, SimFaultKind};

/// A fault that waits for its call, as [`SimFault`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    /// How the call ends.
    pub kind: SimFaultKind,
    /// Which calls.
    pub call: SimCall,
    /// So many of them still succeed.
    pub after: u64,
    /// It strikes every later one too, until the disk is well again.
    pub sticky: bool,
}

impl From<Fault> for SimFault {
    fn from(fault: Fault) -> Self {
        let Fault { kind, call, after, sticky } = fault;
        let fault = Self::new(kind).on(call).after(after);
        if sticky { fault.sticky() } else { fault }
    }
}

/// The error that a call ends with, if it does.
#[must_use]
pub fn error(kind: SimFaultKind) -> Option<io::Error> {
    match kind {
        SimFaultKind::Error(kind) | SimFaultKind::Short(kind) | SimFaultKind::Late(kind) => {
            Some(kind.into())
        }
        SimFaultKind::Errno(code) => Some(io::Error::from_raw_os_error(code)),
        _ => None,
    }
}

/// The faults that wait, and what they have struck.
#[derive(Debug, Default)]
pub struct Faults(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<Fault>,
    injected: Vec<(SimCall, String)>,
}

impl Faults {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more that waits.
    pub fn inject(&self, fault: Fault) {
        self.state().waiting.push(fault);
    }

    /// None waits any more.
    pub fn heal(&self) {
        self.state().waiting.clear();
    }

    /// The calls that were struck, and the file each concerned.
    #[must_use]
    pub fn injected(&self) -> Vec<(SimCall, String)> {
        self.state().injected.clone()
    }

    /// What strikes this call, if anything does; one strikes at a time.
    pub fn strike(&self, call: SimCall, name: &str) -> Option<SimFaultKind> {
        let mut state = self.state();
        let mut struck = None;
        state.waiting.retain_mut(|fault| {
            if struck.is_some() || fault.call != call {
                return true;
            }
            if fault.after > 0 {
                fault.after -= 1;
                return true;
            }
            struck = Some(fault.kind);
            fault.sticky
        });
        if struck.is_some() {
            state.injected.push((call, name.to_owned()));
        }
        struck
    }
}
