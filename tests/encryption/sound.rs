//! Attacks that found nothing: every store call fails once, while a log is encrypted and while its
//! key is rotated.

use cohort_wal::MemStore;

use crate::common::{deadline_of, smallest};
use crate::faulty::{EIO, ENOSPC, FaultyStore};
use crate::{Appended, Ring, copy, fill, read, sealed, secret};

#[test]
fn every_call_of_an_opening_that_encrypts_fails_once() {
    deadline_of(120, || {
        let origin = MemStore::new();
        let wal = smallest().open_store(origin.clone()).unwrap();
        let mut appended = Appended::new();
        fill(&wal, &mut appended);
        let crashed = copy(&origin);
        let mut failed = 0;
        for fault in [ENOSPC, EIO] {
            for k in 0..400 {
                let store = copy(&crashed);
                let (faulty, script) = FaultyStore::over(store.clone());
                script.fail_call(k, fault);
                let opened = sealed().open_store(faulty);
                if script.injected().is_empty() {
                    break;
                }
                failed += 1;
                let dead = copy(&store);
                if let Ok(wal) = &opened {
                    let got: Vec<_> = wal
                        .iter()
                        .and_then(|i| i.collect::<Result<Vec<_>, _>>())
                        .map(|v| v.len())
                        .into_iter()
                        .collect();
                    assert!(got.is_empty() || got[0] == appended.len(), "{k}: {got:?}");
                }
                drop(opened);
                for store in [dead, store] {
                    let wal =
                        sealed().open_store(store.clone()).unwrap_or_else(|e| panic!("{k}: {e}"));
                    assert_eq!(read(wal.iter().unwrap()), appended, "{k}");
                    let lsn = wal.append_and_sync(&secret(1, 5)).unwrap();
                    assert_eq!(wal.last_lsn(), Some(lsn));
                }
            }
        }
        assert!(failed > 30, "{failed}");
    });
}

#[test]
fn every_call_of_a_rotation_fails_once() {
    deadline_of(120, || {
        let mut failed = 0;
        for large in [false, true] {
            for fault in [ENOSPC, EIO] {
                for k in 0..400 {
                    let store = MemStore::new();
                    let ring = Ring::new(&[(1, 1)]);
                    let (faulty, script) = FaultyStore::over(store.clone());
                    let wal = smallest().encryption(ring.clone()).open_store(faulty).unwrap();
                    let mut acked = Vec::new();
                    for n in 0..5 {
                        acked.push(wal.append_and_sync(&secret(n, 100)).unwrap());
                    }
                    wal.append(&secret(6, 30)).unwrap();
                    ring.set(&[(1, 1), (2, 2)]);
                    script.fail_call(k, fault);
                    if large {
                        wal.append(&vec![7; 200_000]).ok();
                    }
                    let rotated = wal.rotate_key();
                    if script.injected().is_empty() {
                        break;
                    }
                    failed += 1;
                    let dead = copy(&store);
                    if let Ok(lsn) = wal.append_and_sync(&secret(9, 10)) {
                        acked.push(lsn);
                        let lsns: Vec<_> = wal.iter().unwrap().map(|r| r.unwrap().lsn()).collect();
                        assert!(acked.iter().all(|lsn| lsns.contains(lsn)), "{k} {rotated:?}");
                        wal.rotate_key().unwrap();
                        acked.push(wal.append_and_sync(&secret(10, 10)).unwrap());
                    }
                    drop(wal);
                    for (store, acked) in [(dead, &acked[..5]), (store, &acked[..])] {
                        let wal = smallest().encryption(ring.clone()).open_store(store).unwrap();
                        let lsns: Vec<_> = wal.iter().unwrap().map(|r| r.unwrap().lsn()).collect();
                        assert!(acked.iter().all(|lsn| lsns.contains(lsn)), "{k} {rotated:?}");
                    }
                }
            }
        }
        assert!(failed > 30, "{failed}");
    });
}
