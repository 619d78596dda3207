//! What waits without a thread of its own: an executor of one future, and callbacks that are
//! counted.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Wake, Waker};

use shuttle::sync::{Arc, Condvar, Mutex};

/// A number that is waited for to be zero.
#[derive(Debug, Default)]
pub struct Outstanding {
    count: Mutex<usize>,
    fell: Condvar,
}

impl Outstanding {
    /// One more.
    pub fn rise(&self) {
        *self.count.lock().expect("nobody panics") += 1;
    }

    /// One less.
    pub fn fall(&self) {
        *self.count.lock().expect("nobody panics") -= 1;
        self.fell.notify_all();
    }

    /// Waits for zero.
    pub fn wait(&self) {
        let mut count = self.count.lock().expect("nobody panics");
        while *count > 0 {
            count = self.fell.wait(count).expect("nobody panics");
        }
    }
}

/// Wakes the executor: nothing is outstanding any more.
struct Alarm(Outstanding);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        let mut count = self.0.count.lock().expect("nobody panics");
        *count = 0;
        self.0.fell.notify_all();
    }
}

/// Runs a future on this thread.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let alarm = Arc::new(Alarm(Outstanding::default()));
    let waker = Waker::from(Arc::clone(&alarm));
    loop {
        alarm.0.rise();
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        alarm.0.wait();
    }
}

/// Polls a future once, and drops it.
pub fn poll_and_drop<F: Future>(future: F) {
    let mut future = pin!(future);
    let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_ready() || polled.is_pending());
}
