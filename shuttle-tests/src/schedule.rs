//! Schedules: who runs next, decided by a seed.

use std::env;
use std::panic;
use std::sync::Once;

use shuttle::scheduler::{PctScheduler, RandomScheduler};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

/// More steps than any run takes that ends.
const MAX_STEPS: usize = 4_000_000;

/// How the next thread is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// At random, at every step.
    Random(u64),
    /// By priorities that change at `depth - 1` steps and wherever a thread yields.
    Pct {
        /// Of the priorities and the steps.
        seed: u64,
        /// How many changes at the right steps a bug may need, and one more.
        depth: usize,
    },
}

impl Order {
    /// Runs `body` under so many schedules. A deadlock, a run that does not end, and a panic fail.
    pub fn explore(self, iterations: usize, body: impl Fn() + Send + Sync + 'static) {
        quiet();
        match self {
            Self::Random(seed) => {
                Runner::new(RandomScheduler::new_from_seed(seed, iterations), config()).run(body);
            }
            Self::Pct { seed, depth } => {
                // The first one only counts the steps that changes are then chosen from.
                let scheduler = PctScheduler::new_from_seed(seed, depth, 1 + iterations);
                Runner::new(scheduler, config()).run(move || {
                    // It insists on a choice, which a computer that dies at once does not leave.
                    let other = shuttle::thread::spawn(|| ());
                    body();
                    other.join().expect("it does nothing");
                });
            }
        }
    }
}

/// The configuration of every run.
#[must_use]
pub fn config() -> Config {
    let mut config = Config::new();
    config.stack_size = 256 << 10;
    config.max_steps = MaxSteps::FailAfter(MAX_STEPS);
    // A seed is shorter than a schedule.
    config.failure_persistence = FailurePersistence::None;
    config.silence_warnings = true;
    config
}

/// Keeps simulated panics out of the output; shuttle's own hook, set by its first run, reports
/// the others.
pub fn quiet() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        Runner::new(RandomScheduler::new_from_seed(0, 1), config()).run(|| ());
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let text = info.payload().downcast_ref::<String>();
            if text.is_none_or(|text| !text.starts_with("a simulated panic")) {
                report(info);
            }
        }));
    });
}

/// The number that a variable of the environment gives.
#[must_use]
pub fn number(name: &str, default: u64) -> u64 {
    match env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}: `{text}` is not a number")),
        Err(_) => default,
    }
}
