//! One observer for the whole process, subscriber and recorder, that tells each thread's own
//! [`Notes`] what it is told, and lets them interfere.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Once};

use metrics::{Counter, CounterFn, Gauge, Histogram, HistogramFn, Key, KeyName, Recorder};
use metrics::{SharedString, Unit};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{Interest, Subscriber};
use tracing::{Event, Metadata};

/// A span or an event: its name and its fields. An event's name is its message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) name: String,
    pub(crate) level: String,
    pub(crate) fields: BTreeMap<String, String>,
    /// The span was left and closed.
    pub(crate) over: bool,
}

impl Note {
    pub(crate) fn number(&self, field: &str) -> u64 {
        self.fields[field].parse().unwrap()
    }
}

type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// What an observer was told, and what it does when it is told something.
#[derive(Default)]
pub(crate) struct Notes {
    notes: Mutex<Vec<(u64, Note)>>,
    counters: Mutex<BTreeMap<String, u64>>,
    values: Mutex<BTreeMap<String, Vec<f64>>>,
    /// Everything that was told, as a label, in order.
    labels: Mutex<Vec<String>>,
    hook: Option<Hook>,
}

impl Notes {
    /// Does this whenever it is told something, with a label of what that is.
    pub(crate) fn with_hook(hook: impl Fn(&str) + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { hook: Some(Box::new(hook)), ..Self::default() })
    }

    pub(crate) fn named(&self, name: &str) -> Vec<Note> {
        let notes = self.notes.lock().unwrap();
        notes.iter().filter(|(_, note)| note.name == name).map(|(_, note)| note.clone()).collect()
    }

    pub(crate) fn count(&self, counter: &str) -> u64 {
        self.counters.lock().unwrap().get(counter).copied().unwrap_or(0)
    }

    pub(crate) fn values(&self, histogram: &str) -> Vec<f64> {
        self.values.lock().unwrap().get(histogram).cloned().unwrap_or_default()
    }

    pub(crate) fn labels(&self) -> Vec<String> {
        self.labels.lock().unwrap().clone()
    }

    fn note(&self, id: u64, name: &str, level: String) {
        let note = Note { name: name.to_owned(), level, ..Note::default() };
        self.notes.lock().unwrap().push((id, note));
    }

    fn change(&self, id: u64, change: impl FnOnce(&mut Note)) -> String {
        let mut notes = self.notes.lock().unwrap();
        let note = notes.iter_mut().find(|(known, _)| *known == id).map(|(_, note)| note);
        let note = note.expect("a span that was made on this thread");
        change(note);
        note.name.clone()
    }

    fn told(&self, label: String) {
        self.labels.lock().unwrap().push(label.clone());
        if let Some(hook) = &self.hook {
            hook(&label);
        }
    }
}

thread_local! {
    static NOTES: RefCell<Option<Arc<Notes>>> = const { RefCell::new(None) };
}

/// Runs `work` with what this thread is told going to `notes`.
pub(crate) fn observed<T>(notes: &Arc<Notes>, work: impl FnOnce() -> T) -> T {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        tracing::subscriber::set_global_default(Observer).unwrap();
        assert!(metrics::set_global_recorder(Observer).is_ok());
    });
    NOTES.set(Some(Arc::clone(notes)));
    let value = work();
    NOTES.set(None);
    value
}

/// This thread's notes, if it has any.
fn with_notes(tell: impl FnOnce(&Notes)) {
    let notes = NOTES.with_borrow(Clone::clone);
    if let Some(notes) = notes {
        tell(&notes);
    }
}

struct Observer;

struct Fields<'a>(&'a mut Note);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.0.name = format!("{value:?}"),
            name => drop(self.0.fields.insert(name.to_owned(), format!("{value:?}"))),
        }
    }
}

impl Subscriber for Observer {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        // So that it is asked each time.
        Interest::sometimes()
    }

    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        let ours = metadata.target() == "cohort_wal";
        with_notes(|notes| {
            let name = if metadata.is_span() { metadata.name() } else { "an event" };
            notes.told(format!("asks for {name}"));
        });
        ours
    }

    fn new_span(&self, attributes: &Attributes<'_>) -> Id {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let id = LAST.fetch_add(1, Ordering::Relaxed) + 1;
        let metadata = attributes.metadata();
        with_notes(|notes| {
            notes.note(id, metadata.name(), metadata.level().to_string());
            notes.change(id, |note| attributes.record(&mut Fields(note)));
            notes.told(format!("new {}", metadata.name()));
        });
        Id::from_u64(id)
    }

    fn record(&self, span: &Id, values: &Record<'_>) {
        with_notes(|notes| {
            let name = notes.change(span.into_u64(), |note| values.record(&mut Fields(note)));
            notes.told(format!("records {name}"));
        });
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        with_notes(|notes| {
            notes.note(0, "", event.metadata().level().to_string());
            let mut events = notes.notes.lock().unwrap();
            let (_, note) = events.last_mut().unwrap();
            event.record(&mut Fields(note));
            let label = note.name.clone();
            drop(events);
            notes.told(label);
        });
    }

    fn enter(&self, span: &Id) {
        with_notes(|notes| {
            let name = notes.change(span.into_u64(), |_| ());
            notes.told(format!("enters {name}"));
        });
    }

    fn exit(&self, span: &Id) {
        with_notes(|notes| {
            let name = notes.change(span.into_u64(), |_| ());
            notes.told(format!("leaves {name}"));
        });
    }

    fn try_close(&self, span: Id) -> bool {
        with_notes(|notes| {
            let name = notes.change(span.into_u64(), |note| note.over = true);
            notes.told(format!("closes {name}"));
        });
        true
    }
}

struct Metric(String);

impl CounterFn for Metric {
    fn increment(&self, value: u64) {
        with_notes(|notes| {
            *notes.counters.lock().unwrap().entry(self.0.clone()).or_default() += value;
            notes.told(format!("counts {}", self.0));
        });
    }

    fn absolute(&self, _: u64) {
        unreachable!("counters are added to");
    }
}

impl HistogramFn for Metric {
    fn record(&self, value: f64) {
        with_notes(|notes| {
            notes.values.lock().unwrap().entry(self.0.clone()).or_default().push(value);
            notes.told(format!("measures {}", self.0));
        });
    }
}

impl Drop for Metric {
    fn drop(&mut self) {
        with_notes(|notes| notes.told(format!("drops {}", self.0)));
    }
}

impl Recorder for Observer {
    fn describe_counter(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        with_notes(|notes| notes.told(format!("describes {}", key.as_str())));
    }

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {
        unreachable!("there are no gauges");
    }

    fn describe_histogram(&self, key: KeyName, _: Option<Unit>, _: SharedString) {
        with_notes(|notes| notes.told(format!("describes {}", key.as_str())));
    }

    fn register_counter(&self, key: &Key, _: &metrics::Metadata<'_>) -> Counter {
        with_notes(|notes| notes.told(format!("registers {}", key.name())));
        Counter::from_arc(Arc::new(Metric(key.name().to_owned())))
    }

    fn register_gauge(&self, _: &Key, _: &metrics::Metadata<'_>) -> Gauge {
        unreachable!("there are no gauges");
    }

    fn register_histogram(&self, key: &Key, _: &metrics::Metadata<'_>) -> Histogram {
        with_notes(|notes| notes.told(format!("registers {}", key.name())));
        Histogram::from_arc(Arc::new(Metric(key.name().to_owned())))
    }
}
