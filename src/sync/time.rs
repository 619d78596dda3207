//! The clock, and what stands for it where a checker runs.

pub(crate) use flavour::*;

#[cfg(not(any(all(loom, feature = "loom"), all(shuttle, feature = "shuttle"))))]
mod flavour {
    pub(crate) use std::time::Instant;

    /// Reads the clock.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
    pub(crate) fn now() -> Instant {
        Instant::now()
    }
}

/// Loom has no time, and no random numbers: it tries every schedule. Everything takes a while.
#[cfg(all(loom, feature = "loom"))]
mod flavour {
    use std::time::Duration;

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Instant;

    impl Instant {
        pub(crate) fn elapsed(self) -> Duration {
            Duration::from_millis(1)
        }
    }

    pub(crate) fn now() -> Instant {
        Instant
    }

    /// A number below `bound`.
    pub(crate) fn draw(_bound: u32) -> u32 {
        1
    }
}

/// Shuttle has no time: a microsecond is a step of the schedule.
#[cfg(all(shuttle, feature = "shuttle"))]
mod flavour {
    use std::time::Duration;

    use shuttle::rand::RngCore;

    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Instant(usize);

    impl Instant {
        pub(crate) fn elapsed(self) -> Duration {
            Duration::from_micros((now().0 - self.0) as u64)
        }
    }

    pub(crate) fn now() -> Instant {
        Instant(shuttle::current::context_switches())
    }

    /// A number below `bound` that belongs to the schedule.
    pub(crate) fn draw(bound: u32) -> u32 {
        shuttle::rand::thread_rng().next_u32() % bound
    }
}
