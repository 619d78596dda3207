//! Faults: which call fails, and how.

use std::io;

/// A call of a store or of one of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named after the method it stands for")]
pub enum SimCall {
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
    Write,
    Read,
    Sync,
    Len,
    SetLen,
}

impl SimCall {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::List,
        Self::Create,
        Self::Publish,
        Self::Open,
        Self::Remove,
        Self::Lock,
        Self::Unlock,
        Self::SyncNames,
        Self::SyncPlace,
        Self::Sweep,
        Self::Write,
        Self::Read,
        Self::Sync,
        Self::Len,
        Self::SetLen,
    ];
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimFaultKind {
    /// It fails and does nothing. A sync that fails has made some of its bytes durable and leaves
    /// none of them dirty, so that later syncs succeed without writing them.
    Error(io::ErrorKind),
    /// As `Error`, with an error number of the system.
    Errno(i32),
    /// A write or a read fails after half of its bytes; `publish` fails after the file got its
    /// name, unless for lack of space, which means that there is none; other calls as `Error`.
    Short(io::ErrorKind),
    /// It does all it should, and then fails.
    Late(io::ErrorKind),
    /// A read returns half of the bytes it could; no other call is concerned.
    Less,
    /// It panics and does nothing.
    Panic,
    /// It takes its time: other threads go on before it begins and again before it returns.
    Slow,
    /// Silent: one bit of what a write brings to the device is flipped, or of what a read returns.
    Flip,
    /// Silent: a write, or what a sync should make durable, never reaches the device.
    Lose,
    /// Silent: a write reaches another place of the same file, a multiple of the sector away.
    Misdirect,
}

impl SimFaultKind {
    /// Whether a call can end this way.
    #[must_use]
    pub fn concerns(self, call: SimCall) -> bool {
        match self {
            Self::Error(_) | Self::Errno(_) | Self::Short(_) | Self::Late(_) => true,
            Self::Panic | Self::Slow => true,
            Self::Less => call == SimCall::Read,
            Self::Flip => matches!(call, SimCall::Read | SimCall::Write),
            Self::Lose => matches!(call, SimCall::Sync | SimCall::Write),
            Self::Misdirect => call == SimCall::Write,
        }
    }

    /// The error it ends with, if it does.
    pub(super) fn error(self) -> Option<io::Error> {
        match self {
            Self::Error(kind) | Self::Short(kind) | Self::Late(kind) => Some(kind.into()),
            Self::Errno(code) => Some(io::Error::from_raw_os_error(code)),
            _ => None,
        }
    }
}

/// A fault that waits for its call.
///
/// ```
/// use cohort_wal::sim::{SimCall, SimFault, SimFaultKind};
///
/// // The fourth sync from now on fails, and every one after it.
/// let fault = SimFault::new(SimFaultKind::Errno(5)).on(SimCall::Sync).after(3).sticky();
/// assert!(format!("{fault:?}").contains("Sync"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a fault does nothing until it is injected"]
pub struct SimFault {
    kind: SimFaultKind,
    call: Option<SimCall>,
    after: u64,
    sticky: bool,
}

impl SimFault {
    /// A fault that strikes the next call it can concern, once.
    pub fn new(kind: SimFaultKind) -> Self {
        Self { kind, call: None, after: 0, sticky: false }
    }

    /// It waits for calls of this kind alone.
    pub fn on(mut self, call: SimCall) -> Self {
        self.call = Some(call);
        self
    }

    /// So many calls that it could strike still succeed.
    pub fn after(mut self, calls: u64) -> Self {
        self.after = calls;
        self
    }

    /// It strikes every such call from then on, until [`heal`](super::SimStore::heal).
    pub fn sticky(mut self) -> Self {
        self.sticky = true;
        self
    }

    /// Whether this call is struck; counts down. A fault is over when it returns true and is not
    /// sticky.
    pub(super) fn strikes(&mut self, call: SimCall) -> Option<SimFaultKind> {
        if self.call.is_some_and(|only| only != call) || !self.kind.concerns(call) {
            return None;
        }
        if self.after > 0 {
            self.after -= 1;
            return None;
        }
        Some(self.kind)
    }

    pub(super) fn is_sticky(&self) -> bool {
        self.sticky
    }
}
