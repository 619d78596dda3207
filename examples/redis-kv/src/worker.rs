//! A thread that serves many clients, in turns.
//!
//! A turn takes in everything that has arrived, runs it, waits once until all of it is durable, and
//! sends all replies. So the clients of a worker share their fsyncs with each other, and workers
//! share theirs in the log: one takes in requests while another waits for the disk.
//!
//! I1. A worker waits for two things: for clients, without work of any of them, and for the log.
//!     It never waits for one client.

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::mem;
use std::time::{Duration, Instant};

use cohort_wal::WalStore;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;

use crate::connection::Connection;
use crate::server::Server;

const BUFFER_BYTES: usize = 64 << 10;
const EVENTS: usize = 256;
const WAKER: Token = Token(usize::MAX);

/// What others know of a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    poll: Mutex<Poll>,
    waker: Waker,
    arrivals: Mutex<Vec<TcpStream>>,
}

impl Worker {
    pub(crate) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let waker = Waker::new(poll.registry(), WAKER)?;
        Ok(Self { poll: Mutex::new(poll), waker, arrivals: Mutex::default() })
    }

    /// Hands it another client.
    pub(crate) fn take(&self, stream: TcpStream) -> io::Result<()> {
        self.arrivals.lock().push(stream);
        self.wake()
    }

    /// Lets it see that the server stops.
    pub(crate) fn wake(&self) -> io::Result<()> {
        self.waker.wake()
    }

    /// Serves until the server stops and every reply that was due has been sent.
    pub(crate) fn run<S: WalStore>(&self, server: &Server<S>) -> io::Result<()> {
        let mut poll = self.poll.lock();
        let mut events = Events::with_capacity(EVENTS);
        let mut shift = Shift {
            server,
            clients: HashMap::new(),
            turn: Vec::new(),
            buffer: vec![0; BUFFER_BYTES],
            looked: now(),
            ending: None,
        };
        let mut arrived = 0;
        while !server.is_stopping() || !shift.clients.is_empty() {
            let patience = if shift.turn.is_empty() { server.patience } else { Duration::ZERO };
            match poll.poll(&mut events, Some(patience)) {
                Err(error) if error.kind() != ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            for mut stream in mem::take(&mut *self.arrivals.lock()) {
                arrived += 1;
                let interest = Interest::READABLE | Interest::WRITABLE;
                match poll.registry().register(&mut stream, Token(arrived), interest) {
                    Ok(()) => drop(shift.clients.insert(Token(arrived), Connection::new(stream))),
                    // No memory for another one: this one is gone.
                    Err(_) => server.goodbye(1),
                }
            }
            for event in &events {
                if let Some(client) = shift.clients.get_mut(&event.token()) {
                    client.notice(event);
                    shift.turn.push(event.token());
                }
            }
            shift.take_turn();
            shift.look_after_clients();
        }
        Ok(())
    }
}

/// A worker at work.
struct Shift<'a, S: WalStore> {
    server: &'a Server<S>,
    clients: HashMap<Token, Connection>,
    /// Those that something has arrived from, or is left of.
    turn: Vec<Token>,
    buffer: Vec<u8>,
    looked: Instant,
    /// Since when the server has been stopping.
    ending: Option<Instant>,
}

impl<S: WalStore> Shift<'_, S> {
    fn take_turn(&mut self) {
        self.turn.sort_unstable();
        self.turn.dedup();
        let mut depends_on = None;
        let durable = self.server.db.wal().durable_lsn();
        for token in &self.turn {
            let Some(client) = self.clients.get_mut(token) else { continue };
            let own = client.work(self.server, &mut self.buffer);
            if own.is_none_or(|lsn| lsn < durable) {
                // All that its replies say is durable already: who reads does not wait for writers.
                client.finish(None, durable);
            }
            depends_on = depends_on.max(own);
        }
        // DURABILITY: everything that replies say is in the log, in order; nobody has been told.
        let failed = self.server.db.wait(depends_on).err();
        failed.iter().for_each(|error| self.server.judge(error));
        let durable = self.server.db.wal().durable_lsn();
        self.turn.retain(|token| {
            let Some(client) = self.clients.get_mut(token) else { return false };
            client.finish(failed.as_ref(), durable);
            if client.is_over() {
                self.clients.remove(token);
                self.server.goodbye(1);
                return false;
            }
            client.has_more()
        });
        self.server.note_growth();
    }

    /// Cuts off who does not take its replies; ends all when the server stops, and cuts off who
    /// takes too long over the rest of them then.
    fn look_after_clients(&mut self) {
        let (now, patience) = (now(), self.server.patience);
        let is_over = |since: Instant| now.saturating_duration_since(since) >= patience;
        let stopping = self.server.is_stopping();
        let late = is_over(self.looked);
        if late {
            self.looked = now;
        }
        if !stopping && !late {
            return;
        }
        let too_long = stopping && is_over(*self.ending.get_or_insert(now));
        let before = self.clients.len();
        self.clients.retain(|_, client| {
            if stopping {
                client.end();
            }
            !(client.is_over() || too_long || late && client.is_stuck())
        });
        self.server.goodbye(before - self.clients.len());
    }
}

#[expect(clippy::disallowed_methods, reason = "a log needs no clock, patience does")]
fn now() -> Instant {
    Instant::now()
}
