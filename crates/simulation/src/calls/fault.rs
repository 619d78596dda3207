//! What can become of a store call, and what the log may then return.

use std::fmt;
use std::io::ErrorKind;
use std::str::FromStr;

use cohort_wal::WalError;
use cohort_wal::sim::{SimCall, SimFaultKind};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A call fails with this number and does nothing.
    Errno(i32),
    /// Half of a transfer, then an error; a name is given and its giving fails.
    Short,
    /// The same, for lack of space.
    ShortFull,
    /// A call does its work and fails.
    Late,
    /// A write does its work and fails for lack of space.
    LateFull,
    /// A call panics.
    Panic,
    /// A read returns half of the bytes.
    Less,
    /// A call takes its time.
    Slow,
    /// So many bytes more fit on the disk.
    Full(u64),
}

const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;
const EMFILE: i32 = 24;
const ENOMEM: i32 = 12;
/// EIO, ENOSPC, EDQUOT, EROFS, EMFILE, EINTR, ENOMEM, EFBIG.
const NUMBERS: [i32; 8] = [5, ENOSPC, EDQUOT, 30, EMFILE, 4, ENOMEM, 27];
/// Bytes that fit on a disk that gets full: none, a slot or two, part of a new segment's header,
/// a segment of its own.
const ROOM: [u64; 4] = [0, 700, 8192, 20_000];

/// What a call of the log did with a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    /// Nothing is lost, and the same call may be made again.
    Nothing,
    /// The log is poisoned.
    Poison,
    /// A read failed, which concerns nobody else.
    Read,
}

impl Fault {
    /// No fault: nothing is struck.
    pub const NONE: Self = Self::Less;

    /// All of them, once and sticky.
    pub(super) fn all() -> Vec<(Self, bool)> {
        let errors = NUMBERS.into_iter().map(Self::Errno);
        let others = [Self::Short, Self::ShortFull, Self::Late, Self::Panic, Self::Less];
        let both = errors
            .chain(others)
            .chain([Self::LateFull])
            .flat_map(|fault| [(fault, false), (fault, true)]);
        // Everything slow is slow to test, and says no more than one slow call.
        let alone = ROOM.into_iter().map(|room| (Self::Full(room), true));
        both.chain(alone).chain([(Self::Slow, false)]).collect()
    }

    /// What to inject; nothing for a disk that gets full.
    pub(super) fn kind(self) -> Option<SimFaultKind> {
        match self {
            Self::Errno(number) => Some(SimFaultKind::Errno(number)),
            Self::Short => Some(SimFaultKind::Short(ErrorKind::Other)),
            Self::ShortFull => Some(SimFaultKind::Short(ErrorKind::StorageFull)),
            Self::Late => Some(SimFaultKind::Late(ErrorKind::Other)),
            Self::LateFull => Some(SimFaultKind::Late(ErrorKind::StorageFull)),
            Self::Panic => Some(SimFaultKind::Panic),
            Self::Less => Some(SimFaultKind::Less),
            Self::Slow => Some(SimFaultKind::Slow),
            Self::Full(_) => None,
        }
    }

    /// The one kind of call that it strikes, if there is one.
    pub(super) fn only(self) -> Option<SimCall> {
        match self {
            Self::Less => Some(SimCall::Read),
            // Of other calls no space means that nothing was done.
            Self::LateFull => Some(SimCall::Write),
            _ => None,
        }
    }

    /// Whether it can strike a call.
    pub(super) fn concerns(self, call: SimCall) -> bool {
        self.only().is_none_or(|only| only == call)
    }

    /// Whether a call that it strikes goes well all the same.
    pub(super) fn is_harmless(self) -> bool {
        matches!(self, Self::Less | Self::Slow)
    }

    /// Whether it says that there is no space.
    pub(super) fn takes_space(self) -> bool {
        matches!(
            self,
            Self::Errno(ENOSPC | EDQUOT) | Self::ShortFull | Self::LateFull | Self::Full(_)
        )
    }

    /// What an operation of an open log must make of the calls that were struck; `None`: it must
    /// succeed. Nothing else was wrong.
    pub(super) fn effect(self, struck: &[SimCall]) -> Option<Effect> {
        let mut worst = None;
        for call in struck.iter().filter(|_| !self.is_harmless()) {
            let effect = match call {
                // A lock that cannot be given back goes with its file.
                SimCall::Unlock if self != Self::Panic => continue,
                SimCall::Open | SimCall::Len | SimCall::Read => Effect::Read,
                SimCall::Write | SimCall::Create | SimCall::Publish if self.takes_space() => {
                    Effect::Nothing
                }
                SimCall::Create if self == Self::Errno(EMFILE) => Effect::Nothing,
                _ => Effect::Poison,
            };
            worst = match (worst, effect) {
                (Some(Effect::Poison), _) | (_, Effect::Poison) => Some(Effect::Poison),
                (Some(Effect::Nothing), _) => Some(Effect::Nothing),
                (_, effect) => Some(effect),
            };
        }
        worst
    }

    /// Whether this is how the fault is reported where nothing is lost.
    pub(super) fn loses_nothing_as(self, error: &WalError) -> bool {
        match error {
            WalError::StorageFull { .. } => self.takes_space(),
            WalError::TooManyFiles { .. } => self == Self::Errno(EMFILE),
            _ => false,
        }
    }

    /// Whether this is how a read, or an opening, reports the fault.
    pub(super) fn is_reported_as(self, error: &WalError) -> bool {
        match error {
            WalError::Io { .. } => true,
            WalError::OutOfMemory => self == Self::Errno(ENOMEM),
            other => self.loses_nothing_as(other),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Errno(number) => write!(f, "errno{number}"),
            Self::Short => f.write_str("short"),
            Self::ShortFull => f.write_str("shortfull"),
            Self::Late => f.write_str("late"),
            Self::LateFull => f.write_str("latefull"),
            Self::Panic => f.write_str("panic"),
            Self::Less => f.write_str("less"),
            Self::Slow => f.write_str("slow"),
            Self::Full(room) => write!(f, "full{room}"),
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let none = || format!("no fault `{text}`");
        match text {
            "short" => Ok(Self::Short),
            "shortfull" => Ok(Self::ShortFull),
            "late" => Ok(Self::Late),
            "latefull" => Ok(Self::LateFull),
            "panic" => Ok(Self::Panic),
            "less" => Ok(Self::Less),
            "slow" => Ok(Self::Slow),
            _ => match (text.strip_prefix("errno"), text.strip_prefix("full")) {
                (Some(number), _) => number.parse().map(Self::Errno).map_err(|_| none()),
                (_, Some(room)) => room.parse().map(Self::Full).map_err(|_| none()),
                _ => Err(none()),
            },
        }
    }
}
