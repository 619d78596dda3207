//! Stores that call back: every method of the log from inside every call of the store.
//!
//! A call from inside a stage is refused as `Reentrant`. One from a call that serves the caller
//! alone, as reading does, is a call like any other. Neither hangs nor loses anything.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, Weak};

use cohort_wal::{Gather, Lsn, MemStore, Result, Wal, WalError, WalOptions};

use super::ledger::options;
use crate::common::{Id, deadline, deadline_of, payload, read_ids};
use crate::faulty::{FaultyStore, Op, Script};

type Log = Wal<FaultyStore<MemStore>>;

/// A method of the log.
#[derive(Clone, Copy)]
struct Method {
    name: &'static str,
    call: fn(&Log) -> Result<()>,
}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

fn own(len: usize) -> Vec<u8> {
    payload(Id { owner: 2, number: 0 }, len)
}

/// Methods that do something, and thus are refused in a stage.
const DEEDS: &[Method] = &[
    Method { name: "append", call: |wal| wal.append(&own(50)).map(drop) },
    Method { name: "append, large", call: |wal| wal.append(&own(5_000)).map(drop) },
    Method { name: "append_vectored", call: |wal| wal.append_vectored(&[&own(50)]).map(drop) },
    Method { name: "append_and_sync", call: |wal| wal.append_and_sync(&own(50)).map(drop) },
    Method { name: "append_batch", call: |wal| wal.append_batch(&[own(50)]).map(drop) },
    Method { name: "append_batch, empty", call: |wal| wal.append_batch::<&str>(&[]).map(drop) },
    Method {
        name: "append_batch_and_sync",
        call: |wal| wal.append_batch_and_sync(&[own(50)]).map(drop),
    },
    Method { name: "flush", call: Wal::flush },
    Method { name: "sync", call: Wal::sync },
    Method { name: "rotate", call: Wal::rotate },
    Method { name: "wait_durable", call: |wal| wal.wait_durable(Lsn::new(0)) },
    Method { name: "iter", call: |wal| wal.iter()?.try_for_each(|record| record.map(drop)) },
    Method { name: "iter_from", call: |wal| wal.iter_from(Lsn::new(0)).map(drop) },
    Method { name: "close", call: Wal::close },
];

/// Methods that return a value, anywhere and always.
const VALUES: Method = Method {
    name: "values",
    call: |wal| {
        let lsns = [wal.head_lsn(), wal.durable_lsn(), wal.end_lsn()];
        assert!(lsns.is_sorted() && wal.last_lsn() < Some(wal.end_lsn()));
        assert!(!wal.is_empty() && wal.live_bytes() > 0 && wal.stats().appends > 0);
        assert!(!format!("{wal:?} {:?}", wal.recovery()).is_empty());
        Ok(())
    },
};

thread_local! {
    /// This thread is calling back already.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

type Results = Arc<Mutex<Vec<Result<()>>>>;

/// Has the store call `method` from every call of `op` while it serves `log`, but for the calls
/// that this itself leads to.
fn call_back(script: &Script, log: &Arc<OnceLock<Weak<Log>>>, op: Op, method: Method) -> Results {
    let results = Results::default();
    let (log, into) = (Arc::clone(log), Arc::clone(&results));
    script.hook(move |at, _| {
        let Some(wal) = log.get().and_then(Weak::upgrade) else { return };
        if at == op && !INSIDE.replace(true) {
            let result = (method.call)(&wal);
            INSIDE.set(false);
            into.lock().unwrap().push(result);
        }
    });
    results
}

/// Uses a log in every way, with a store that calls `method` back from `op`; what that returned.
fn results_of(op: Op, method: Method) -> Vec<Result<()>> {
    let memory = MemStore::new();
    let (store, script) = FaultyStore::over(memory.clone());
    let log = Arc::new(OnceLock::new());
    let results = call_back(&script, &log, op, method);
    let wal = Arc::new(options().gather(Gather::Off).open_store(store).unwrap());
    let mut acknowledged = Vec::new();
    let id = |number| Id { owner: 1, number };
    acknowledged.extend(wal.append_and_sync(&payload(id(0), 100)));
    log.set(Arc::downgrade(&wal)).unwrap();
    // Any of these may find the log closed by the store.
    for number in 1..4 {
        acknowledged.extend(wal.append_and_sync(&payload(id(number * 10), 100)));
        acknowledged.extend(
            wal.append(&payload(id(number * 10 + 1), 5_000))
                .and_then(|lsn| wal.wait_durable(lsn).map(|()| lsn)),
        );
        if let Ok(records) = wal.iter() {
            records.for_each(|record| assert!(record.is_ok(), "{record:?}"));
        }
        let rotated = wal.rotate();
        assert!(matches!(rotated, Ok(()) | Err(WalError::Closed)), "{rotated:?}");
    }
    wal.close().unwrap();
    drop(wal);
    let kept = read_ids(&options().open_store(memory).unwrap());
    for lsn in &acknowledged {
        assert!(kept.iter().any(|(kept, _)| kept == lsn), "{lsn} was acknowledged");
    }
    let results = results.lock().unwrap();
    assert!(!results.is_empty(), "{op:?} was never called");
    let closed = method.name == "close" && results.iter().any(Result::is_ok);
    assert_eq!(acknowledged.len() < 7, closed, "nothing else keeps the log from working");
    results.clone()
}

#[test]
fn a_call_back_from_a_stage_is_refused_whatever_it_calls() {
    for op in [Op::Write, Op::Sync, Op::Create, Op::Publish] {
        for method in DEEDS {
            for result in deadline(move || results_of(op, *method)) {
                assert!(matches!(result, Err(WalError::Reentrant)), "{op:?} {method:?} {result:?}");
            }
        }
    }
}

#[test]
fn a_call_back_while_reading_is_a_call_like_any_other() {
    for op in [Op::Open, Op::Read, Op::Len] {
        for method in DEEDS {
            let results = deadline(move || results_of(op, *method));
            assert!(results[0].is_ok(), "{op:?} {method:?} {results:?}");
            let fine = |result: &Result<()>| matches!(result, Ok(()) | Err(WalError::Closed));
            assert!(results.iter().all(fine), "{op:?} {method:?} {results:?}");
        }
    }
}

#[test]
fn a_call_back_to_name_a_file_is_refused_or_a_call_like_any_other() {
    for method in DEEDS {
        for result in deadline(move || results_of(Op::Locate, *method)) {
            let fine = matches!(result, Ok(()) | Err(WalError::Reentrant | WalError::Closed));
            assert!(fine, "{method:?} {result:?}");
        }
    }
}

#[test]
fn values_are_there_for_a_store_that_calls_back() {
    for op in [Op::Write, Op::Sync, Op::Create, Op::Publish, Op::Open, Op::Read, Op::Locate] {
        for result in deadline(move || results_of(op, VALUES)) {
            result.unwrap();
        }
    }
}

/// The hint that the page cache may go comes from the background writer.
#[test]
fn a_call_back_from_the_background_writer_harms_nobody() {
    for method in DEEDS.iter().chain([&VALUES]) {
        deadline_of(20, move || {
            let memory = MemStore::new();
            let (store, script) = FaultyStore::over(memory.clone());
            let options = WalOptions::new().segment_bytes(256 << 10).ring_bytes(1 << 20);
            let wal = Arc::new(options.open_store(store).unwrap());
            let log = Arc::new(OnceLock::from(Arc::downgrade(&wal)));
            let results = call_back(&script, &log, Op::Release, *method);
            // The writer is woken by a full ring, and gives back what it has synced.
            while results.lock().unwrap().is_empty() {
                match wal.append(&payload(Id { owner: 1, number: 0 }, 1_000)) {
                    Ok(_) => {}
                    Err(error) => {
                        assert!(method.name == "close" && matches!(error, WalError::Closed));
                        break;
                    }
                }
            }
            wal.close().unwrap();
            for result in &*results.lock().unwrap() {
                let fine = matches!(result, Ok(()) | Err(WalError::Reentrant | WalError::Closed));
                assert!(fine, "{method:?} {result:?}");
            }
            drop(wal);
            assert!(!read_ids(&self::options().open_store(memory).unwrap()).is_empty());
        });
    }
}

/// While a log is being opened there is no handle to call. There is the log.
#[test]
fn opening_the_log_again_from_inside_its_own_opening_harms_nobody() {
    let opening = [
        Op::List,
        Op::Lock,
        Op::SyncNames,
        Op::SyncPlace,
        Op::Sweep,
        Op::Remove,
        Op::Open,
        Op::Read,
    ];
    let opening = opening.into_iter().chain([Op::Create, Op::Write, Op::Sync, Op::Publish]);
    for op in opening {
        for exists in [false, true] {
            // A log that exists was created before, and one that does not has nothing to remove.
            let never = match exists {
                true => op == Op::SyncPlace,
                false => op == Op::Remove,
            };
            if !never {
                deadline(move || open_inside(op, exists));
            }
        }
    }
}

fn open_inside(op: Op, exists: bool) {
    let mut memory = MemStore::new();
    let mut kept = 0;
    if exists {
        // A crash before the first sync, so that the next open has a segment to remove.
        let wal = options().open_store(memory.clone()).unwrap();
        wal.append(&payload(Id { owner: 1, number: kept }, 100)).unwrap();
        wal.flush().unwrap();
        memory = MemStore::from_snapshot(memory.snapshot());
        kept += 1;
    }
    let (store, script) = FaultyStore::over(memory.clone());
    let met = Arc::new(Mutex::new(Vec::new()));
    let (into, under) = (Arc::clone(&met), memory.clone());
    script.hook(move |at, _| {
        if at == op && into.lock().unwrap().is_empty() {
            let opened = options().open_store(under.clone()).map(|wal| read_ids(&wal).len());
            into.lock().unwrap().push(opened);
        }
    });
    let wal = options().open_store(store).unwrap();
    wal.append_and_sync(&payload(Id { owner: 1, number: kept }, 100)).unwrap();
    drop(wal);
    let met = met.lock().unwrap();
    match met.first().expect("the call is made while opening") {
        Ok(seen) => assert_eq!(u64::try_from(*seen).unwrap(), kept),
        Err(WalError::Locked { .. }) => {}
        Err(other) => panic!("{op:?}: {other:?}"),
    }
    let seen = read_ids(&options().open_store(memory).unwrap());
    assert_eq!(u64::try_from(seen.len()).unwrap(), kept + 1);
}
