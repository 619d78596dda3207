//! What stands for a feature that is not there.

#[cfg(not(feature = "tracing"))]
pub(super) mod tracer {
    use std::path::Path;

    use crate::error::WalError;
    use crate::observe::Found;

    #[derive(Debug, Default)]
    pub(in crate::observe) struct Span;

    impl Span {
        pub(in crate::observe) fn open(_path: &Path) -> Self {
            Self
        }

        pub(in crate::observe) fn flush(_start: u64, _end: u64) -> Self {
            Self
        }

        pub(in crate::observe) fn sync(_start: u64, _end: u64) -> Self {
            Self
        }

        pub(in crate::observe) fn rotate(_at: u64) -> Self {
            Self
        }

        pub(in crate::observe) fn within<T>(&self, work: impl FnOnce() -> T) -> T {
            work()
        }

        pub(in crate::observe) fn found(&self, _found: &Found) {}

        pub(in crate::observe) fn failed(&self, _error: &WalError) {}

        pub(in crate::observe) fn commits(&self, _commits: u64) {}
    }

    pub(in crate::observe) fn poisoned(_cause: &WalError) {}

    pub(in crate::observe) fn closed(_durable: u64, _clean: bool) {}
}

#[cfg(not(feature = "metrics"))]
pub(super) mod meter {
    pub(in crate::observe) struct Nothing;

    pub(in crate::observe) fn now() -> Nothing {
        Nothing
    }

    pub(in crate::observe) fn opened() {}

    pub(in crate::observe) fn flushed(_bytes: u64) {}

    pub(in crate::observe) fn rotated() {}

    pub(in crate::observe) fn synced(_begun: Nothing) {}

    pub(in crate::observe) fn committed(_commits: u64) {}

    pub(in crate::observe) fn poisoned() {}

    pub(in crate::observe) fn closed() {}
}
