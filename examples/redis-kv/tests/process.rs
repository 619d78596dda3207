//! The program itself: killed, stopped, and asked by the clients of Redis.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr, reason = "a test")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::Duration;

use cohort_wal::Wal;
use redis_kv::client::{Client, encode};
use redis_kv::resp::Reply;
use redis_kv::torture::{self, Torture};

const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-kv");

/// A running server; killed when dropped.
struct Served {
    child: Child,
    said: BufReader<ChildStdout>,
    port: String,
}

impl Served {
    fn start(dir: &Path) -> Self {
        Self::start_as(Command::new(PROGRAM), dir)
    }

    fn start_as(mut command: Command, dir: &Path) -> Self {
        command.args(["serve", "--port", "0"]).arg(dir).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let port = loop {
            line.clear();
            assert!(said.read_line(&mut line).unwrap() > 0, "the server did not start");
            if let Some(port) = line.trim().strip_prefix("listening on 127.0.0.1:") {
                break port.to_owned();
            }
        };
        Self { child, said, port }
    }

    fn client(&self) -> Client {
        Client::connect(("127.0.0.1", self.port.parse().unwrap())).unwrap()
    }

    fn terminate(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    }

    /// Waits for its end; returns the rest of what it said.
    fn ended_well(mut self) -> String {
        for _ in 0..1_000 {
            if self.child.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert!(self.child.try_wait().unwrap().is_some(), "the server goes on");
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success());
        rest
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may be gone already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn acknowledged_writes_survive_fifty_kills() {
    let dir = tempfile::tempdir().unwrap();
    let (program, dir) = (PROGRAM.into(), dir.path().join("log"));
    let torture = Torture { program, dir, kills: 50, writers: 4, seed: 1 };
    let report = torture::run(&torture).unwrap();
    println!("{report}");
    assert!(report.acknowledged > 1_000 && report.in_flight > 0 && report.reads > 0);
}

#[test]
fn a_signal_and_a_command_end_the_server_in_order() {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..4_u64 {
        let server = Served::start(dir.path());
        let mut client = server.client();
        assert_eq!(client.ask(&["DBSIZE"]).unwrap(), Reply::Integer(number));
        assert_eq!(client.ask(&["SET", &number.to_string(), "v"]).unwrap(), Reply::OK);
        if number.is_multiple_of(2) {
            assert!(client.ask(&["SHUTDOWN", "NOSAVE"]).is_err());
        } else {
            server.terminate();
        }
        assert!(server.ended_well().contains("stopped after"));
        assert!(Wal::open(dir.path()).unwrap().recovery().clean);
    }
}

#[test]
fn a_server_without_another_file_ends_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 40; exec \"$0\" \"$@\"", PROGRAM]);
    let server = Served::start_as(command, dir.path());
    let mut first = server.client();
    assert_eq!(first.ask(&["SET", "k", &"x".repeat(8 << 20)]).unwrap(), Reply::OK);
    let mut clients = vec![first];
    loop {
        let mut client = server.client();
        client.stream().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        if client.ask(&["PING"]).is_err() {
            break;
        }
        clients.push(client);
    }
    // One leaves, and whoever accepts has the last file for the next one. All others are there
    // when the server is told to stop.
    clients.pop();
    thread::sleep(Duration::from_millis(300));
    clients.iter_mut().for_each(|client| client.send(&encode(&["GET", "k"]).repeat(3)).unwrap());
    let begun = |client: &Client| client.stream().peek(&mut [0]).unwrap();
    assert!(clients.iter().all(|client| begun(client) == 1));
    server.terminate();
    thread::sleep(Duration::from_millis(500));
    drop(clients);
    server.ended_well();
}

/// Megabytes that a process has had at most.
#[cfg(target_os = "linux")]
fn most_memory(server: &Served) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.child.id())).unwrap();
    let (_, most) = status.split_once("VmHWM:").unwrap();
    most.split_whitespace().next().unwrap().parse::<u64>().unwrap() >> 10
}

#[test]
#[cfg(target_os = "linux")]
fn a_reply_that_nobody_takes_takes_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path());
    let mut client = server.client();
    assert_eq!(client.ask(&["SET", "k", &"x".repeat(8 << 20)]).unwrap(), Reply::OK);
    let gets = encode(&["GET", "k"]).repeat(200);
    client.send(&[encode(&["MULTI"]), gets, encode(&["EXEC"])].concat()).unwrap();
    for _ in 0..201 {
        client.reply().unwrap();
    }
    assert_eq!(client.stream().peek(&mut [0]).unwrap(), 1);
    let most = most_memory(&server);
    assert!(most < 200, "{most} MB for 200 times the same 8 MB");
}

#[test]
fn a_database_has_one_server() {
    let dir = tempfile::tempdir().unwrap();
    let _server = Served::start(dir.path());
    let mut second = Command::new(PROGRAM);
    let second = second.args(["serve", "--port", "0"]).arg(dir.path()).output().unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("locked"));
}

/// Runs a client of Redis with this input; none if it is not installed.
fn redis(program: &str, server: &Served, arguments: &[&str], input: &str) -> Option<String> {
    let mut command = Command::new(program);
    command.args(["-p", &server.port]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Ok(mut child) = command.spawn() else {
        eprintln!("skipped: no {program} here; install redis-tools");
        return None;
    };
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(complaints.is_empty(), "{complaints}");
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn redis_cli_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path());
    let commands = "PING\nECHO hello\nSET a 1\nMULTI\nSET b 2\nGET a\nDEL a\nEXEC\n\
                    MULTI\nDEL b\nDISCARD\nGET a\nGET b\nEXISTS a b\nDBSIZE\n";
    let Some(said) = redis("redis-cli", &server, &[], commands) else { return };
    let expected = "PONG\nhello\nOK\nOK\nQUEUED\nQUEUED\nQUEUED\nOK\n1\n1\n\
                    OK\nQUEUED\nOK\n\n2\n1\n1\n";
    assert_eq!(said, expected);
    let flushed = redis("redis-cli", &server, &["FLUSHALL"], "").unwrap();
    assert_eq!(flushed, "OK\n");
    // Bytes of any kind, from standard input to the end of it.
    redis("redis-cli", &server, &["-x", "SET", "raw"], "\u{0}\r\n\u{1}").unwrap();
    let raw = redis("redis-cli", &server, &["GET", "raw"], "").unwrap();
    assert_eq!(raw, "\u{0}\r\n\u{1}\n");
}

#[test]
fn redis_benchmark_is_served() {
    let dir = tempfile::tempdir().unwrap();
    let server = Served::start(dir.path());
    let load = "-t ping,set,get -n 2000 -c 8 -P 4 -r 100 -q";
    let load: Vec<_> = load.split(' ').collect();
    let Some(said) = redis("redis-benchmark", &server, &load, "") else { return };
    assert_eq!(said.matches("requests per second").count(), 4, "{said}");
    assert!(!said.contains("ERR"));
    let size = server.client().ask(&["DBSIZE"]).unwrap();
    assert!(matches!(size, Reply::Integer(1..=100)), "{size:?}");
}
