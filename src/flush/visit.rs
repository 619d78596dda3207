//! Visits: how the thread of a helper comes to its engine, and how an end waits for it to leave.
//!
//! A helper has the engine only while it visits, so that what a log held is let go of together with
//! its last handle, and by whoever lets go of that.
//!
//! * I1. Once visits are over none begins. Whoever then waits for those there are finds the engine
//!   in no hands but those of handles, futures and followers.
//! * I2. Nobody waits for a visit from inside one: code of the store's that a helper runs may let
//!   go of the last handle, and finds the thread marked.

use super::{Backing, Engine};
use crate::codec;
use crate::sync::{Arc, Condvar, Mutex, Weak};

#[derive(Debug, Default)]
struct State {
    inside: usize,
    over: bool,
}

/// The visits to an engine; outlives it.
#[derive(Debug)]
pub(super) struct Visits {
    state: Mutex<State>,
    left: Condvar,
}

impl Visits {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(State::default()), left: Condvar::new() })
    }

    /// No visit begins any more.
    pub(super) fn refuse(&self) {
        self.state.lock().over = true;
    }

    /// Once visits are over, blocks until nobody is inside.
    pub(super) fn wait(&self) {
        let mut state = self.state.lock();
        while state.over && state.inside > 0 {
            self.left.wait(&mut state);
        }
        drop(state);
        // Somebody else may wait as well.
        self.left.notify_one();
    }
}

/// A place inside.
struct Visit<'a>(&'a Visits);

impl<'a> Visit<'a> {
    fn begin(visits: &'a Visits) -> Option<Self> {
        let mut state = visits.state.lock();
        if state.over {
            return None;
        }
        state.inside += 1;
        Some(Self(visits))
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.0.state.lock().inside -= 1;
        self.0.left.notify_one();
    }
}

/// What the thread of a helper has between visits.
pub(super) struct Visitor<B: Backing> {
    engine: Weak<Engine<B>>,
    visits: Arc<Visits>,
}

impl<B: Backing> Visitor<B> {
    /// Works at the engine; `None` once the log has ended.
    pub(super) fn visit<T>(&self, work: impl FnOnce(&Engine<B>) -> T) -> Option<T> {
        // Declared in this order, the engine is let go of before the visit ends.
        let _visit = Visit::begin(&self.visits)?;
        let engine = self.engine.upgrade()?;
        let _mark = codec::StageMark::new(engine.visit_identity());
        Some(work(&engine))
    }
}

impl<B: Backing> Engine<B> {
    pub(super) fn visitor(&self) -> Visitor<B> {
        Visitor { engine: self.this.clone(), visits: Arc::clone(&self.visits) }
    }

    /// What a visit marks its thread with; an address inside the engine, as for an `Admin`.
    fn visit_identity(&self) -> usize {
        self.identity() + 2
    }

    /// Whether this thread is a helper's, inside a visit.
    pub(super) fn is_visited(&self) -> bool {
        codec::in_stage(self.visit_identity())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::super::model::Model;

    #[test]
    fn closing_waits_for_a_helper_that_is_inside_and_lets_none_in_afterwards() {
        let model = Model::new(1 << 10, 2, 1 << 20, 1 << 20);
        let visitor = model.engine().visitor();
        let (tell, told) = mpsc::channel();
        let visit = visitor.visit(|engine| {
            assert!(engine.is_visited() && engine.close().is_err(), "it would wait for itself");
            let model = model.clone();
            let closer = std::thread::spawn(move || tell.send(model.close()).unwrap());
            // In vain, however long.
            assert!(told.recv_timeout(Duration::from_millis(100)).is_err());
            closer
        });
        told.recv().unwrap().unwrap();
        visit.unwrap().join().unwrap();
        assert!(visitor.visit(|_| ()).is_none());
    }
}
