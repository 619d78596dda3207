//! Simulated power loss, below the network: the database on a disk that keeps what was synced and
//! any reachable part of the rest.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use cohort_wal::sim::{Profile, SimStore};
use cohort_wal::{Lsn, WalOptions};
use redis_kv::Db;
use redis_kv::db::{Answer, Bytes, Operation};
use redis_kv::torture::Dice;

type Model = BTreeMap<String, String>;

fn open(disk: &SimStore) -> Db<SimStore> {
    let options = WalOptions::new().segment_bytes(16 << 10).ring_bytes(64 << 10);
    Db::open(Arc::new(options.open_store(disk.clone()).unwrap())).unwrap()
}

fn bytes(text: &str) -> Bytes {
    text.as_bytes().into()
}

fn set(key: &str, value: &str) -> Operation {
    Operation::Set(bytes(key), bytes(value))
}

fn get(db: &Db<SimStore>, key: &str) -> (Option<String>, Option<Lsn>) {
    let (answers, depends_on) = db.execute(&[Operation::Get(bytes(key))]).unwrap();
    let [Answer::Value(value)] = &answers[..] else { panic!("{answers:?}") };
    let text = |value: &Bytes| String::from_utf8(value.to_vec()).unwrap();
    (value.as_ref().map(text), depends_on)
}

const KEYS: [&str; 5] = ["a", "b", "c", "d", "e"];

fn contents(db: &Db<SimStore>) -> Model {
    let held = KEYS.iter().filter_map(|key| Some((key.to_string(), get(db, key).0?)));
    let held: Model = held.collect();
    let (answers, _) = db.execute(&[Operation::DbSize]).unwrap();
    assert_eq!(answers, [Answer::Count(held.len())]);
    held
}

/// A transaction of one to three operations, and what it makes of the model.
fn transaction(dice: &mut Dice, number: u64, model: &mut Model) -> Vec<Operation> {
    let operation = |model: &mut Model, dice: &mut Dice| {
        let key = KEYS[usize::try_from(dice.below(5)).unwrap()];
        match dice.below(12) {
            0 => {
                model.clear();
                Operation::FlushAll
            }
            1..4 => {
                model.remove(key);
                Operation::Del(vec![bytes(key)])
            }
            _ => {
                let padding = "-".repeat(usize::try_from(dice.below(700)).unwrap());
                let value = format!("{number}{padding}");
                model.insert(key.to_owned(), value.clone());
                set(key, &value)
            }
        }
    };
    (0..=dice.below(3)).map(|_| operation(model, dice)).collect()
}

#[test]
fn answers_that_were_waited_for_survive_every_power_loss() {
    let mut states = 0;
    for (profile, seed) in Profile::ALL.into_iter().zip(1..) {
        let disk = SimStore::new(profile, seed);
        let db = open(&disk);
        let mut dice = Dice(seed);
        let mut durable = Model::new();
        disk.record();
        for number in 0..40 {
            // What may be there: what is durable, and then each transaction as a whole.
            let mut allowed = vec![durable.clone()];
            if dice.below(10) == 0 {
                db.checkpoint().unwrap();
            } else {
                let mut depends_on = None;
                for _ in 0..=dice.below(3) {
                    let operations = transaction(&mut dice, number, &mut durable);
                    depends_on = depends_on.max(db.execute(&operations).unwrap().1);
                    allowed.push(durable.clone());
                }
                db.wait(depends_on).unwrap();
            }
            for after in disk.moments().iter().flat_map(|moment| moment.power_losses(3)) {
                let found = contents(&open(&after));
                assert!(allowed.contains(&found), "{profile:?} {seed} {number}: {found:?}");
                states += 1;
            }
            let lost = disk.power_losses(8);
            assert!(lost.into_iter().all(|after| contents(&open(&after)) == durable));
        }
    }
    println!("{states} states after a power loss");
    assert!(states > 1_000);
}

#[test]
fn what_recovery_has_found_survives_whatever_it_was_before() {
    let disk = SimStore::new(Profile::Hostile, 9);
    let db = open(&disk);
    db.execute(&[set("a", "1"), set("b", "1")]).unwrap();
    // In the cache of the system, and not durable, when the process dies.
    db.wal().flush().unwrap();
    let next = disk.kill();
    let lost = next.power_losses(50).into_iter().any(|after| contents(&open(&after)).is_empty());
    assert!(lost, "the disk is not honest");
    let found = contents(&open(&next));
    assert_eq!(found.len(), 2);
    // Somebody may have been shown it.
    for after in next.power_losses(50) {
        assert_eq!(contents(&open(&after)), found);
    }
}

#[test]
fn the_log_has_the_writers_in_the_order_of_the_tables() {
    let disk = SimStore::new(Profile::Ext4, 5);
    let db = open(&disk);
    for round in 0..20 {
        thread::scope(|scope| {
            for writer in 0..4 {
                let (db, mut dice) = (&db, Dice(round * 4 + writer));
                scope.spawn(move || {
                    for number in 0..50 {
                        let number = number * 4 + writer;
                        let operations = transaction(&mut dice, number, &mut Model::new());
                        db.execute(&operations).unwrap();
                    }
                });
            }
            scope.spawn(|| db.checkpoint().unwrap());
        });
        db.wal().flush().unwrap();
        assert_eq!(contents(&open(&disk.kill())), contents(&db), "round {round}");
    }
}

/// Somebody who writes between two shards of an image.
struct Meddler<'a, W> {
    image: W,
    meddle: Option<Box<dyn FnOnce() + 'a>>,
}

impl<W: Write> Write for Meddler<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(meddle) = self.meddle.take() {
            meddle();
        }
        self.image.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.image.flush()
    }
}

#[test]
fn an_image_shows_no_half_of_a_transaction_that_the_log_has_lost() {
    let keys: Vec<_> = (0..200).map(|key| key.to_string()).collect();
    let all = |value: &str| keys.iter().map(|key| set(key, value)).collect::<Vec<_>>();
    let disk = SimStore::new(Profile::Hostile, 1);
    let db = open(&disk);
    db.wait(db.execute(&all("old")).unwrap().1).unwrap();
    disk.record();
    // Some shards are copied by then, and others not; nobody waits for the transaction.
    let meddle = || drop(db.execute(&all("new")).unwrap());
    let at = db.wal().end_lsn();
    db.wal()
        .checkpoint(at, |image| {
            db.write_image(&mut Meddler { image, meddle: Some(Box::new(meddle)) }).map(drop)
        })
        .unwrap();
    let moments = disk.moments();
    let crashes = moments.iter().flat_map(|moment| moment.power_losses(20));
    for after in crashes.chain(disk.power_losses(50)) {
        let db = open(&after);
        let first = get(&db, "0").0.unwrap();
        assert!(keys.iter().all(|key| get(&db, key).0.as_ref() == Some(&first)), "{first}");
    }
}

#[test]
fn what_a_read_has_shown_survives_even_if_its_writer_was_never_answered() {
    let gone = [Operation::Del(vec![bytes("a")]), Operation::FlushAll];
    let reads = [
        Operation::Get(bytes("a")),
        Operation::Exists(vec![bytes("b"), bytes("a")]),
        Operation::DbSize,
        // Finds nothing to delete, and says so.
        Operation::Del(vec![bytes("b")]),
    ];
    for write in [set("a", "new")].into_iter().chain(gone) {
        for read in &reads {
            let disk = SimStore::new(Profile::Ext4, 7);
            let db = open(&disk);
            db.wait(db.execute(&[set("a", "old"), set("b", "old")]).unwrap().1).unwrap();
            db.wait(db.execute(&[Operation::Del(vec![bytes("b")])]).unwrap().1).unwrap();
            db.execute(std::slice::from_ref(&write)).unwrap();
            let now = contents(&db);
            let forgets = |after| contents(&open(&after)) != now;
            assert!(disk.power_losses(20).into_iter().any(forgets), "the disk is not honest");
            let other = Operation::Get(bytes("a"));
            let (_, depends_on) = db.execute(&[read.clone(), other]).unwrap();
            db.wait(depends_on).unwrap();
            assert!(!disk.power_losses(20).into_iter().any(forgets), "{write:?} {read:?}");
        }
    }
}

#[test]
fn a_transaction_may_ask_for_the_size_as_often_as_it_likes() {
    let disk = SimStore::new(Profile::Ext4, 11);
    let (db, mut dice, mut model) = (open(&disk), Dice(11), Model::new());
    for number in 0..500 {
        let (mut operations, mut sizes) = (Vec::new(), Vec::new());
        for _ in 0..dice.below(6) {
            operations.extend(transaction(&mut dice, number, &mut model));
            if dice.below(2) == 0 {
                operations.push(Operation::DbSize);
                sizes.push(model.len());
            }
        }
        let (answers, _) = db.execute(&operations).unwrap();
        let answers = answers.into_iter().zip(&operations);
        let asked = answers.filter(|(_, operation)| **operation == Operation::DbSize);
        let sizes = sizes.into_iter().map(Answer::Count).collect::<Vec<_>>();
        assert_eq!(asked.map(|(answer, _)| answer).collect::<Vec<_>>(), sizes);
        assert_eq!(contents(&db), model);
    }
    // It has all shards locked: this takes far longer if each looks at every key.
    let many = 20_000;
    let sets = (0..many).map(|key| set(&key.to_string(), ""));
    let mut operations: Vec<_> = sets.collect();
    operations.extend((0..many).map(|_| Operation::DbSize));
    let (send, done) = std::sync::mpsc::channel();
    thread::spawn(move || send.send(db.execute(&operations).unwrap().0.pop()));
    let last = done.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    assert_eq!(last, Some(Answer::Count(many + model.len())));
}

#[test]
fn concurrent_writers_and_checkpoints_lose_nothing() {
    const WRITERS: usize = 3;
    let disk = SimStore::new(Profile::Ext4NoJournal, 3);
    let db = open(&disk);
    let acknowledged: [AtomicU64; WRITERS] = Default::default();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let (db, done) = (&db, &done);
            scope.spawn(move || {
                for number in 1_u64.. {
                    let halves = ["left", "right"].map(|half| format!("{half}{writer}"));
                    let pair = halves.map(|key| set(&key, &number.to_string()));
                    db.wait(db.execute(&pair).unwrap().1).unwrap();
                    acknowledged.store(number, Ordering::Release);
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                db.checkpoint().unwrap();
            }
        });
        for _ in 0..60 {
            let owed = acknowledged.each_ref().map(|number| number.load(Ordering::Acquire));
            let after = open(&disk.power_loss());
            for (writer, owed) in owed.into_iter().enumerate() {
                let half = |half: &str| get(&after, &format!("{half}{writer}")).0;
                let number = half("left").map_or(0, |number| number.parse::<u64>().unwrap());
                assert!(number >= owed, "writer {writer}: {number} instead of {owed}");
                assert_eq!(half("left"), half("right"));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
