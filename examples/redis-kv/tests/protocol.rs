//! The protocol, over TCP, byte by byte; and what becomes of clients when the disk fails.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{ErrorKind, Read};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use cohort_wal::WalOptions;
use cohort_wal::sim::{Profile, SimCall, SimFault, SimFaultKind, SimStore};
use redis_kv::client::{Client, encode};
use redis_kv::resp::Reply;
use redis_kv::{Db, Server};

/// Runs a server on a simulated disk for as long as a test takes; returns what it ended with.
fn with_server(disk: &SimStore, test: impl FnOnce(SocketAddr)) -> Result<(), String> {
    with_patience(Duration::from_secs(10), disk, test)
}

fn with_patience(
    patience: Duration,
    disk: &SimStore,
    test: impl FnOnce(SocketAddr),
) -> Result<(), String> {
    let options = WalOptions::new().segment_bytes(32 << 10).ring_bytes(64 << 10);
    let db = Db::open(Arc::new(options.open_store(disk.clone()).unwrap())).unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Server::new(db, listener, 64 << 10).unwrap().patience(patience);
    /// Also when the test panics, which would wait for the server for ever.
    struct Stop<'a>(&'a Server<SimStore>);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.stop();
        }
    }
    thread::scope(|scope| {
        let running = scope.spawn(|| server.run().map_err(|error| error.to_string()));
        let stop = Stop(&server);
        test(address);
        drop(stop);
        running.join().unwrap()
    })
}

fn disk() -> SimStore {
    SimStore::new(Profile::Ext4, 1)
}

fn served(test: impl FnOnce(SocketAddr)) {
    with_server(&disk(), test).unwrap();
}

fn pipeline(requests: &[&[&str]]) -> Vec<u8> {
    requests.iter().flat_map(|request| encode(request)).collect()
}

fn replies<const N: usize>(client: &mut Client) -> [Reply; N] {
    std::array::from_fn(|_| client.reply().unwrap())
}

fn is_error(reply: &Reply, word: &str) -> bool {
    matches!(reply, Reply::Error(what) if what.contains(word))
}

fn has_ended(client: &mut Client) -> bool {
    // Bytes that the server has not read make the end of a connection a reset.
    let ends = [ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset];
    client.reply().is_err_and(|error| ends.contains(&error.kind()))
}

#[test]
fn a_pipeline_is_answered_in_order_and_shares_its_syncs() {
    served(|address| {
        let mut client = Client::connect(address).unwrap();
        let syncs = |client: &mut Client| {
            let Reply::Bulk(Some(info)) = client.ask(&["INFO"]).unwrap() else { panic!() };
            let info = String::from_utf8(info.to_vec()).unwrap();
            let (_, rest) = info.split_once("log_syncs:").unwrap();
            rest.lines().next().unwrap().parse::<u64>().unwrap()
        };
        let before = syncs(&mut client);
        let numbers: Vec<_> = (0..100).map(|number| number.to_string()).collect();
        let requests = numbers.iter().flat_map(|n| pipeline(&[&["SET", "k", n], &["GET", "k"]]));
        client.send(&requests.collect::<Vec<_>>()).unwrap();
        for number in &numbers {
            assert_eq!(replies(&mut client), [Reply::OK, Reply::text(number)]);
        }
        let syncs = syncs(&mut client) - before;
        assert!(syncs < 20, "{syncs} syncs for 100 SETs that came together");
    });
}

#[test]
fn a_transaction_is_run_as_a_whole_or_not_at_all() {
    served(|address| {
        let mut client = Client::connect(address).unwrap();
        let mut ask = |request: &[&str]| client.ask(request).unwrap();
        let queued = Reply::Status("QUEUED".into());
        assert_eq!(ask(&["SET", "gone", "1"]), Reply::OK);
        assert_eq!(ask(&["MULTI"]), Reply::OK);
        let requests: [&[&str]; 8] = [
            &["DBSIZE"],
            &["FLUSHALL"],
            &["SET", "a", "1"],
            &["GET", "a"],
            &["DEL", "a", "a", "gone"],
            &["SET", "b", "2"],
            &["EXISTS", "a", "b", "b", "gone"],
            &["DBSIZE"],
        ];
        for request in requests {
            assert_eq!(ask(request), queued);
        }
        let [ok, number] = [Reply::OK, Reply::Integer(1)];
        let answers = [number.clone(), ok.clone(), ok.clone(), Reply::text("1"), number, ok];
        let rest = [Reply::Integer(2), Reply::Integer(1)];
        assert_eq!(ask(&["EXEC"]), Reply::Array(answers.into_iter().chain(rest).collect()));
        assert_eq!((ask(&["GET", "a"]), ask(&["GET", "b"])), (Reply::Bulk(None), Reply::text("2")));

        assert_eq!((ask(&["MULTI"]), ask(&["DEL", "b"])), (Reply::OK, queued.clone()));
        assert_eq!(ask(&["DISCARD"]), Reply::OK);
        assert_eq!((ask(&["MULTI"]), ask(&["DEL", "b"])), (Reply::OK, queued));
        assert!(is_error(&ask(&["DELETE", "b"]), "unknown command"));
        assert!(is_error(&ask(&["EXEC"]), "EXECABORT"));
        assert_eq!(ask(&["GET", "b"]), Reply::text("2"));
        assert!(is_error(&ask(&["EXEC"]), "without MULTI"));
    });
}

#[test]
fn what_is_not_the_protocol_ends_its_connection_and_no_other() {
    let long = [b'x'; 20 << 10];
    let broken: [&[u8]; 10] = [
        b"*1\r\n$8388609\r\n",
        b"*1\r\n$18446744073709551615\r\n",
        b"*65537\r\n",
        b"*99999999999999999999\r\n",
        b"*-2\r\n",
        b"*1\r\n$-1\r\n",
        b"*1\r\n:4\r\nPING\r\n",
        b"*1\r\n$4\r\nPINGPONG\r\n",
        b"*\xff\r\n",
        &long,
    ];
    served(|address| {
        let mut witness = Client::connect(address).unwrap();
        for bytes in broken {
            let mut client = Client::connect(address).unwrap();
            client.send(&encode(&["SET", "k", "before"])).unwrap();
            client.send(bytes).unwrap();
            assert_eq!(client.reply().unwrap(), Reply::OK, "what came before is answered");
            assert!(is_error(&client.reply().unwrap(), "Protocol error"), "{bytes:?}");
            assert!(has_ended(&mut client));
            assert_eq!(witness.ask(&["GET", "k"]).unwrap(), Reply::text("before"));
        }
        // Announced, and never sent: nothing waits for it but its own connection.
        let mut client = Client::connect(address).unwrap();
        client.send(b"*65536\r\n$8388608\r\nPING").unwrap();
        assert_eq!(witness.ask(&["SET", "k", "2"]).unwrap(), Reply::OK);
    });
}

#[test]
fn requests_by_hand_and_wrong_ones_are_answered() {
    served(|address| {
        let mut client = Client::connect(address).unwrap();
        client.send(b"\r\n*0\r\n  set by hand \r\nget by\nPING\r\n").unwrap();
        let pong = Reply::Status("PONG".into());
        assert_eq!(replies(&mut client), [Reply::OK, Reply::text("hand"), pong]);
        for request in [&["GET"][..], &["SET", "k"], &["DEL"], &["NO\r\nSUCH"], &["SELECT", "1"]] {
            assert!(is_error(&client.ask(request).unwrap(), "ERR"), "{request:?}");
        }
        assert!(is_error(&client.ask(&["SET", "k", "v", "NX"]).unwrap(), "syntax error"));
        let large = "x".repeat(8 << 20);
        assert_eq!(client.ask(&["SET", "k", &large]).unwrap(), Reply::OK);
        assert_eq!(client.ask(&["GET", "k"]).unwrap(), Reply::text(&large));
    });
}

#[test]
fn half_a_request_holds_no_reply_back_and_is_never_run() {
    served(|address| {
        let mut client = Client::connect(address).unwrap();
        let next = encode(&["SET", "k", "2"]);
        let (half, rest) = next.split_at(next.len() - 3);
        client.send(&[&encode(&["SET", "k", "1"]), half].concat()).unwrap();
        assert_eq!(client.reply().unwrap(), Reply::OK);
        client.send(rest).unwrap();
        assert_eq!(client.reply().unwrap(), Reply::OK);
        // Cut off in the middle of a request, and of a transaction.
        let begun = [encode(&["MULTI"]), encode(&["SET", "k", "3"]), half.to_vec()].concat();
        client.send(&begun).unwrap();
        client.stream().shutdown(Shutdown::Write).unwrap();
        replies::<2>(&mut client);
        assert!(has_ended(&mut client));
        let mut witness = Client::connect(address).unwrap();
        assert_eq!(witness.ask(&["GET", "k"]).unwrap(), Reply::text("2"));
    });
}

#[test]
fn who_has_said_everything_still_gets_the_replies() {
    served(|address| {
        let mut client = Client::connect(address).unwrap();
        client.send(&pipeline(&[&["SET", "k", "1"], &["GET", "k"]])).unwrap();
        client.stream().shutdown(Shutdown::Write).unwrap();
        assert_eq!(replies(&mut client), [Reply::OK, Reply::text("1")]);
        assert!(has_ended(&mut client));
    });
}

#[test]
fn who_does_not_read_holds_up_nobody() {
    served(|address| {
        let mut slow = Client::connect(address).unwrap();
        let large = "x".repeat(4 << 20);
        assert_eq!(slow.ask(&["SET", "k", &large]).unwrap(), Reply::OK);
        let gets: Vec<_> = (0..50).flat_map(|_| encode(&["GET", "k"])).collect();
        slow.send(&gets).unwrap();
        // The first bytes are there: the server is writing, and will not get far.
        assert_eq!(slow.stream().peek(&mut [0]).unwrap(), 1);
        let mut witness = Client::connect(address).unwrap();
        assert_eq!(witness.ask(&["SET", "k", "1"]).unwrap(), Reply::OK);
        assert_eq!(witness.ask(&["GET", "k"]).unwrap(), Reply::text("1"));
    });
}

#[test]
fn who_does_not_read_for_long_is_cut_off() {
    with_patience(Duration::from_millis(20), &disk(), |address| {
        let mut slow = Client::connect(address).unwrap();
        let large = "x".repeat(4 << 20);
        assert_eq!(slow.ask(&["SET", "k", &large]).unwrap(), Reply::OK);
        let mut idle = Client::connect(address).unwrap();
        assert_eq!(idle.ask(&["GET", "none"]).unwrap(), Reply::Bulk(None));
        let mut witness = Client::connect(address).unwrap();
        let clients = |witness: &mut Client, number: &str| {
            let Reply::Bulk(Some(info)) = witness.ask(&["INFO"]).unwrap() else { panic!() };
            let info = String::from_utf8(info.to_vec()).unwrap();
            info.contains(&format!("connected_clients:{number}\r"))
        };
        assert!(clients(&mut witness, "3"));
        let gets: Vec<_> = (0..50).flat_map(|_| encode(&["GET", "k"])).collect();
        slow.send(&gets).unwrap();
        while !clients(&mut witness, "2") {
            thread::sleep(Duration::from_millis(5));
        }
        // Who has asked for nothing is not.
        assert_eq!(idle.ask(&["PING"]).unwrap(), Reply::Status("PONG".into()));
    })
    .unwrap();
}

#[test]
fn who_does_not_read_does_not_hold_up_the_end() {
    let mut connected = None;
    with_patience(Duration::from_millis(20), &disk(), |address| {
        let slow = connected.insert(Client::connect(address).unwrap());
        let large = "x".repeat(8 << 20);
        assert_eq!(slow.ask(&["SET", "k", &large]).unwrap(), Reply::OK);
        let gets: Vec<_> = (0..50).flat_map(|_| encode(&["GET", "k"])).collect();
        slow.send(&gets).unwrap();
        assert_eq!(slow.stream().peek(&mut [0]).unwrap(), 1);
    })
    .unwrap();
}

#[test]
fn who_reads_slowly_does_not_hold_up_the_end_for_ever() {
    let mut reader = None;
    with_patience(Duration::from_millis(500), &disk(), |address| {
        let mut slow = Client::connect(address).unwrap();
        let large = "x".repeat(8 << 20);
        assert_eq!(slow.ask(&["SET", "k", &large]).unwrap(), Reply::OK);
        // A reply of 8 GB, of which the server has one.
        let gets = encode(&["GET", "k"]).repeat(1_000);
        slow.send(&[encode(&["MULTI"]), gets, encode(&["EXEC"])].concat()).unwrap();
        let (begun, begins) = std::sync::mpsc::channel();
        reader = Some(thread::spawn(move || {
            let (mut taken, mut some) = (0_u64, vec![0; 1 << 20]);
            while let Ok(read @ 1..) = slow.stream().read(&mut some) {
                taken += read as u64;
                if taken > 10 << 20 {
                    begun.send(()).ok();
                }
                thread::sleep(Duration::from_millis(5));
            }
            taken
        }));
        begins.recv().unwrap();
    })
    .unwrap();
    assert!(reader.unwrap().join().unwrap() < 4 << 30);
}

#[test]
fn the_log_is_kept_short_while_clients_write() {
    let disk = disk();
    with_server(&disk, |address| {
        let mut client = Client::connect(address).unwrap();
        let value = "x".repeat(1000);
        let made = |client: &mut Client| {
            let Reply::Bulk(Some(info)) = client.ask(&["INFO"]).unwrap() else { panic!() };
            !info.windows(18).any(|word| word == b"log_checkpoints:0\r")
        };
        let mut writes = 0;
        while !made(&mut client) {
            writes += 1;
            let key = (writes % 50).to_string();
            assert_eq!(client.ask(&["SET", &key, &value]).unwrap(), Reply::OK);
            assert!(writes < 1_000_000, "no checkpoint");
        }
        assert!(writes > 50);
    })
    .unwrap();
    with_server(&disk.kill(), |address| {
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.ask(&["DBSIZE"]).unwrap(), Reply::Integer(50));
    })
    .unwrap();
}

#[test]
fn a_failed_sync_acknowledges_nothing_and_ends_the_server() {
    let disk = disk();
    let ended = with_server(&disk, |address| {
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.ask(&["SET", "a", "1"]).unwrap(), Reply::OK);
        disk.inject(SimFault::new(SimFaultKind::Errno(5)).on(SimCall::Sync));
        client.send(&pipeline(&[&["GET", "a"], &["SET", "b", "1"], &["GET", "b"]])).unwrap();
        let replies: [_; 3] = replies(&mut client);
        assert!(replies.iter().all(|reply| is_error(reply, "not known to be durable")));
        assert!(has_ended(&mut client));
    });
    assert!(ended.unwrap_err().contains("sync"));
    with_server(&disk.power_loss(), |address| {
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.ask(&["GET", "a"]).unwrap(), Reply::text("1"));
    })
    .unwrap();
}

#[test]
fn a_full_disk_is_an_error_until_there_is_space() {
    let disk = disk();
    with_server(&disk, |address| {
        let mut client = Client::connect(address).unwrap();
        assert_eq!(client.ask(&["SET", "a", "1"]).unwrap(), Reply::OK);
        disk.set_capacity(Some(0));
        let value = "x".repeat(100_000);
        assert!(is_error(&client.ask(&["SET", "b", &value]).unwrap(), "no space left"));
        assert_eq!(client.ask(&["GET", "a"]).unwrap(), Reply::text("1"));
        disk.set_capacity(None);
        assert_eq!(client.ask(&["SET", "b", "2"]).unwrap(), Reply::OK);
        assert_eq!(client.ask(&["GET", "b"]).unwrap(), Reply::text("2"));
    })
    .unwrap();
}

#[test]
fn stopping_ends_idle_connections() {
    let mut idle = None;
    served(|address| idle = Some(Client::connect(address).unwrap()));
    assert_eq!(idle.unwrap().stream().read(&mut [0]).unwrap_or(0), 0);
}
