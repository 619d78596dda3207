//! One client: requests in, replies out, in order.
//!
//! Replies wait in memory until the end of the turn of the worker that has the connection. Then
//! what all of them depend on has been made durable, by one wait, and they leave.
//!
//! I1. A reply leaves when what it depends on is durable. If it will not be, an error leaves in its
//!     place, and in that of every reply of this connection that waited with it.
//! I2. What waits is bounded in number and in bytes; from who does not take its replies nothing
//!     more is read.

use std::io::{ErrorKind, Read};
use std::mem;

use cohort_wal::{Lsn, WalError, WalStore};
use mio::event::Event;
use mio::net::TcpStream;

use crate::command::Command;
use crate::db::Operation;
use crate::outbox::Outbox;
use crate::resp::{MAX_ARGUMENTS, MAX_REQUEST_BYTES, ProtocolError, Reply, Requests};
use crate::server::Server;

/// Replies that wait at most, and their bytes.
const MAX_WAITING: usize = 4096;
const MAX_WAITING_BYTES: usize = 1 << 20;
/// What is read of one client, or sent to it, before it is the next one's turn.
const MAX_TURN_BYTES: usize = 1 << 20;

/// A client that is connected, until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    requests: Requests,
    session: Session,
    /// Replies that may depend on what is not durable.
    waiting: Vec<Reply>,
    waiting_bytes: usize,
    depends_on: Option<Lsn>,
    /// Replies that may leave.
    out: Outbox,
    /// Nothing was taken since somebody looked.
    stuck: bool,
    /// There may be something to read.
    readable: bool,
    /// Something may be taken.
    writable: bool,
}

impl Connection {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self {
            stream,
            requests: Requests::default(),
            session: Session::default(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            depends_on: None,
            out: Outbox::default(),
            stuck: false,
            readable: false,
            writable: true,
        }
    }

    /// Takes note of what the system says.
    pub(crate) fn notice(&mut self, event: &Event) {
        self.readable |= event.is_readable() || event.is_error();
        self.writable |= event.is_writable() || event.is_error();
    }

    /// Reads and runs what has arrived; returns what must be durable before
    /// [`finish`](Self::finish).
    pub(crate) fn work<S: WalStore>(
        &mut self,
        server: &Server<S>,
        buffer: &mut [u8],
    ) -> Option<Lsn> {
        self.send();
        let mut taken = 0;
        loop {
            self.answer(server);
            let enough = self.is_full() || taken >= MAX_TURN_BYTES;
            if enough || self.session.ended || !self.readable {
                return self.depends_on;
            }
            match self.stream.read(buffer) {
                Ok(0) => self.end(),
                Ok(read) => {
                    taken += read;
                    self.requests.feed(&buffer[..read]);
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.readable = false,
                    ErrorKind::Interrupted => {}
                    _ => self.drop_out(),
                },
            }
        }
    }

    /// Runs the requests that have arrived as a whole, as long as their replies may wait.
    fn answer<S: WalStore>(&mut self, server: &Server<S>) {
        while !self.session.ended && !self.is_full() {
            let (reply, depends_on) = match self.requests.take() {
                Ok(None) => return,
                Ok(Some(request)) if request.is_empty() => continue,
                Ok(Some(request)) => self.session.answer(server, &request),
                Err(ProtocolError(why)) => {
                    self.session.ended = true;
                    (Some(Reply::error(format!("ERR Protocol error: {why}"))), None)
                }
            };
            self.depends_on = self.depends_on.max(depends_on);
            if let Some(reply) = reply {
                self.waiting_bytes += reply.weight();
                self.waiting.push(reply);
            }
        }
    }

    fn is_full(&self) -> bool {
        let waits = self.waiting.len() >= MAX_WAITING || self.waiting_bytes >= MAX_WAITING_BYTES;
        waits || !self.out.is_empty()
    }

    /// Lets the replies go, or errors in their place: `failed` is why not everything became
    /// durable, `durable` the end of what did.
    pub(crate) fn finish(&mut self, failed: Option<&WalError>, durable: Lsn) {
        let depends_on = self.depends_on.take();
        if let (Some(error), Some(lsn)) = (failed, depends_on)
            && lsn >= durable
        {
            let reply = Reply::error(format!("ERR not known to be durable: {error}"));
            self.waiting.fill(reply);
        }
        self.out.extend(self.waiting.drain(..));
        self.waiting_bytes = 0;
        self.send();
    }

    /// Sends what the client takes.
    fn send(&mut self) {
        if !self.writable {
            return;
        }
        let (taken, sent) = self.out.send(&mut self.stream, MAX_TURN_BYTES);
        self.stuck &= taken == 0;
        match sent {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => self.writable = false,
            Err(_) => self.drop_out(),
        }
    }

    /// Nothing more is read. What was run is answered.
    pub(crate) fn end(&mut self) {
        self.session.ended = true;
    }

    /// The client is gone, and nobody to be told anything.
    fn drop_out(&mut self) {
        self.end();
        self.out.clear();
    }

    /// Whether everything is said.
    pub(crate) fn is_over(&self) -> bool {
        self.session.ended && self.out.is_empty()
    }

    /// Whether there is more to do without waiting for the client.
    pub(crate) fn has_more(&self) -> bool {
        if self.out.is_empty() { self.readable } else { self.writable }
    }

    /// Whether the client has taken nothing of a reply since this was called last.
    pub(crate) fn is_stuck(&mut self) -> bool {
        let was_stuck = self.stuck;
        self.stuck = !self.out.is_empty();
        was_stuck && self.stuck
    }
}

/// What a client has begun.
#[derive(Debug, Default)]
struct Session {
    queue: Option<Queue>,
    /// No more requests are taken.
    ended: bool,
}

/// A transaction between `MULTI` and `EXEC`.
#[derive(Debug, Default)]
struct Queue {
    operations: Vec<Operation>,
    bytes: u64,
    /// A command was refused: nothing of the transaction will be done.
    broken: bool,
}

impl Session {
    /// The reply, if there is one, and what must be durable before it leaves.
    fn answer<S: WalStore>(
        &mut self,
        server: &Server<S>,
        request: &[&[u8]],
    ) -> (Option<Reply>, Option<Lsn>) {
        let bytes: usize = request.iter().map(|argument| 32 + argument.len()).sum();
        let reply = match (Command::parse(request), &mut self.queue) {
            (Err(refusal), queue) => {
                queue.iter_mut().for_each(|queue| queue.broken = true);
                refusal
            }
            (Ok(Command::Run(operation)), None) => return run(server, &[operation], false),
            (Ok(Command::Run(operation)), Some(queue)) => queue.push(operation, bytes as u64),
            (Ok(Command::Multi), None) => {
                self.queue = Some(Queue::default());
                Reply::OK
            }
            (Ok(Command::Exec), Some(queue)) => {
                let queue = mem::take(queue);
                self.queue = None;
                if !queue.broken {
                    return run(server, &queue.operations, true);
                }
                Reply::error("EXECABORT Transaction discarded because of previous errors.")
            }
            (Ok(Command::Discard), Some(_)) => {
                self.queue = None;
                Reply::OK
            }
            (Ok(Command::Exec), None) => Reply::error("ERR EXEC without MULTI"),
            (Ok(Command::Discard), None) => Reply::error("ERR DISCARD without MULTI"),
            (Ok(Command::Quit), _) => {
                self.ended = true;
                Reply::OK
            }
            (Ok(Command::Shutdown), None) => {
                self.ended = true;
                server.stop();
                return (None, None);
            }
            (Ok(Command::Info), None) => Reply::text(&server.info()),
            (Ok(Command::Say(reply)), None) => reply,
            (Ok(_), Some(queue)) => {
                queue.broken = true;
                Reply::error("ERR Command not allowed inside a transaction")
            }
        };
        (Some(reply), None)
    }
}

fn run<S: WalStore>(
    server: &Server<S>,
    operations: &[Operation],
    as_array: bool,
) -> (Option<Reply>, Option<Lsn>) {
    match server.db.execute(operations) {
        Ok((answers, depends_on)) => {
            let mut replies = answers.into_iter().map(Reply::from);
            let reply =
                if as_array { Some(Reply::Array(replies.collect())) } else { replies.next() };
            (reply, depends_on)
        }
        Err(error) => {
            server.judge(&error);
            (Some(Reply::error(format!("ERR not written: {error}"))), None)
        }
    }
}

impl Queue {
    fn push(&mut self, operation: Operation, bytes: u64) -> Reply {
        self.bytes += bytes;
        if self.bytes > MAX_REQUEST_BYTES || self.operations.len() as u64 >= MAX_ARGUMENTS {
            // What is refused is not kept either.
            self.operations = Vec::<Operation>::new();
            self.broken = true;
            return Reply::error("ERR the transaction is too large");
        }
        self.operations.push(operation);
        Reply::Status("QUEUED".into())
    }
}
