//! Every disk that histories are played over fails, gets well and dies in the same way.
//!
//! Method: the calls of one thread on a machine, with the fault that each must meet.

#![cfg(shuttle)]
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

use std::io;
use std::sync::Arc;

use cohort_wal::sim::{Profile, SimCall, SimFaultKind, SimStore};
use cohort_wal::{MemStore, StoreFile, WalStore};
use shuttle_tests::disk::{Disk, Files};
use shuttle_tests::fault::Fault;
use shuttle_tests::ledger::Ledger;
use shuttle_tests::machine::Machine;
use shuttle_tests::schedule::Order;
use simulation::history::History;
use simulation::oracle::Crash;

fn bytes_of<D: Disk>(disk: &D, name: &str) -> Vec<u8> {
    let mut bytes = vec![0; 16];
    let file = disk.store().open(name).expect("it is there");
    let read = file.read_at(0, &mut bytes).expect("it can be read");
    bytes.truncate(read);
    bytes
}

fn faults<D: Disk>() {
    let machine = Machine::sound(D::new(Profile::Ext4, 7));
    let file = machine.create(0).expect("nothing is wrong");
    let full = SimFaultKind::Short(io::ErrorKind::StorageFull);
    machine.inject(Fault { kind: full, call: SimCall::Write, after: 1, sticky: true });
    file.write_at(0, b"before").expect("the fault waits for the next one");
    for _ in 0..2 {
        let error = file.write_at(6, b"during").expect_err("the disk is full");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
    assert_eq!(file.len().expect("it has a length"), 9, "half of it is there");
    machine.heal();
    file.write_at(6, b"after").expect("the disk is well again");
    file.sync().expect("nothing is wrong");
    machine.publish(&file, "file").expect("nothing is wrong");
    assert!(machine.is_harmless());

    let broken = SimFaultKind::Errno(5);
    machine.inject(Fault { kind: broken, call: SimCall::Sync, after: 0, sticky: true });
    for _ in 0..2 {
        assert_eq!(file.sync().expect_err("the disk is broken").raw_os_error(), Some(5));
    }
    let late = SimFaultKind::Late(io::ErrorKind::Other);
    machine.inject(Fault { kind: late, call: SimCall::Write, after: 0, sticky: false });
    file.write_at(0, b"behind").expect_err("it says that it failed");
    assert_eq!(bytes_of(machine.disk(), "file"), b"behindafter");
    let struck = machine.injected();
    let calls: Vec<_> = struck.iter().map(|(call, name)| (*call, name.as_str())).collect();
    let write = (SimCall::Write, "unpublished");
    let sync = (SimCall::Sync, "file");
    assert_eq!(calls, [write, write, sync, sync, (SimCall::Write, "file")]);
}

fn death<D: Disk>(leftovers: usize) {
    // Two files are made and one of them is published: the sixth call is a second write.
    let ledger = Arc::new(Ledger::new(History::new(), Some(5)));
    let machine = Machine::new(D::new(Profile::Ext4, 7), Arc::clone(&ledger), true);
    let file = machine.create(0).expect("the computer is alive");
    file.write_at(0, b"before").expect("the computer is alive");
    machine.publish(&file, "file").expect("the computer is alive");
    assert!(machine.lock(&file).expect("the computer is alive"));
    let other = machine.create(0).expect("the computer is alive");
    assert!(machine.remains().is_none());
    file.write_at(0, b"behind").expect_err("the computer is dead");
    other.write_at(0, b"behind").expect_err("the computer is dead");

    let (_, disk) = machine.remains().expect("the computer is dead");
    machine.disk().store().remove("file").expect("it is there");
    assert_eq!(bytes_of(&disk, "file"), b"before", "nobody reaches what is left");
    let opened = disk.store().open("file").expect("it is there");
    assert!(disk.store().lock(&opened).expect("it can be locked"), "nobody holds the lock");
    assert_eq!((disk.bytes(), disk.unpublished()), (6, leftovers));
    assert_eq!(disk.store().sweep().expect("nothing is wrong"), leftovers);
    assert_eq!(disk.unpublished(), 0);
}

#[test]
fn faults_strike_every_disk_alike() {
    Order::Random(0).explore(4, || {
        faults::<SimStore>();
        faults::<MemStore>();
        faults::<Files>();
    });
}

#[test]
fn what_a_death_leaves_is_a_disk_of_its_own() {
    Order::Random(0).explore(4, || {
        death::<SimStore>(1);
        death::<MemStore>(0);
        death::<Files>(1);
    });
}

#[test]
fn where_the_power_cannot_go_the_process_dies() {
    Order::Random(0).explore(1, || {
        let crash = |crash| {
            [
                SimStore::new(Profile::Ext4, 7).fallen(crash).1,
                MemStore::new().fallen(crash).1,
                <Files as Disk>::new(Profile::Ext4, 7).fallen(crash).1,
            ]
        };
        let (process, power) = (Crash::Process, Crash::Power);
        assert_eq!(crash(process), [process; 3]);
        assert_eq!(crash(power), [power, process, process]);
    });
}
