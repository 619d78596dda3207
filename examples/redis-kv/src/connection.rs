//! One client: requests in, replies out, in order.
//!
//! Replies wait in memory until the connection would have to wait for more bytes. Then, and only
//! then, one wait makes durable what all of them depend on, and they leave. So a pipeline shares
//! its fsyncs with itself, and with all other connections that wait at that time.
//!
//! I1. A reply leaves when what it depends on is durable. If it will not be, an error leaves in its
//!     place, and in that of every reply that waited with it.
//! I2. What waits is bounded in number and in bytes; who does not read is waited for alone, and
//!     not for ever.

use std::io::{self, BufReader, BufWriter, Read, Write};
use std::mem;
use std::net::TcpStream;

use cohort_wal::{Lsn, WalStore};

use crate::command::Command;
use crate::db::Operation;
use crate::resp::{self, MAX_ARGUMENTS, MAX_REQUEST_BYTES, Reply, RequestError};
use crate::server::Server;

const BUFFER_BYTES: usize = 64 << 10;
/// Replies that wait at most, and their bytes.
const MAX_WAITING: usize = 4096;
const MAX_WAITING_BYTES: usize = 1 << 20;

/// Serves a client until it leaves, breaks the protocol, or the server stops.
///
/// # Errors
/// Those of the connection, and of the log.
pub(crate) fn serve<S: WalStore>(server: &Server<S>, stream: &TcpStream) -> io::Result<()> {
    let replies = Replies { server, stream, waiting: Vec::new(), bytes: 0, depends_on: None };
    let mut session = Session { server, queue: None, ended: false };
    let mut requests = BufReader::with_capacity(BUFFER_BYTES, replies);
    while !session.ended {
        match resp::read_request(&mut requests) {
            Ok(Some(request)) if request.is_empty() => {}
            Ok(Some(request)) => {
                let (reply, depends_on) = session.answer(request);
                requests.get_mut().push(reply, depends_on)?;
            }
            Ok(None) => break,
            Err(RequestError::Protocol(why)) => {
                let reply = Reply::error(format!("ERR Protocol error: {why}"));
                requests.get_mut().push(Some(reply), None)?;
                break;
            }
            Err(RequestError::Io(error)) => return Err(error),
        }
    }
    requests.get_mut().send()
}

/// Replies on their way out, and the bytes on their way in: to read is to send first.
struct Replies<'a, S: WalStore> {
    server: &'a Server<S>,
    stream: &'a TcpStream,
    waiting: Vec<Reply>,
    bytes: usize,
    depends_on: Option<Lsn>,
}

impl<S: WalStore> Read for Replies<'_, S> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.send()?;
        // What the client still sends would keep the connection alive for ever.
        if self.server.is_stopping() { Ok(0) } else { self.stream.read(into) }
    }
}

impl<S: WalStore> Replies<'_, S> {
    fn push(&mut self, reply: Option<Reply>, depends_on: Option<Lsn>) -> io::Result<()> {
        let Some(reply) = reply else { return Ok(()) };
        self.bytes += reply.weight();
        self.waiting.push(reply);
        self.depends_on = self.depends_on.max(depends_on);
        if self.waiting.len() < MAX_WAITING && self.bytes < MAX_WAITING_BYTES {
            return Ok(());
        }
        self.send()
    }

    /// Waits until all replies may leave, and sends them.
    fn send(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        // DURABILITY: everything the replies say is in the log, in order; nobody has been told.
        if let Err(error) = self.server.db.wait(self.depends_on.take()) {
            self.server.judge(&error);
            let reply = Reply::error(format!("ERR not known to be durable: {error}"));
            self.waiting.fill(reply);
        }
        self.server.note_growth();
        let mut to = BufWriter::with_capacity(self.bytes.min(BUFFER_BYTES), self.stream);
        self.waiting.drain(..).try_for_each(|reply| reply.write_to(&mut to))?;
        self.bytes = 0;
        to.flush()
    }
}

/// What a client has begun.
struct Session<'a, S: WalStore> {
    server: &'a Server<S>,
    queue: Option<Queue>,
    ended: bool,
}

/// A transaction between `MULTI` and `EXEC`.
#[derive(Default)]
struct Queue {
    operations: Vec<Operation>,
    bytes: u64,
    /// A command was refused: nothing of the transaction will be done.
    broken: bool,
}

impl<S: WalStore> Session<'_, S> {
    /// The reply, if there is one, and what must be durable before it leaves.
    fn answer(&mut self, request: Vec<Vec<u8>>) -> (Option<Reply>, Option<Lsn>) {
        let bytes: usize = request.iter().map(|argument| 32 + argument.len()).sum();
        let reply = match (Command::parse(request), &mut self.queue) {
            (Err(refusal), queue) => {
                queue.iter_mut().for_each(|queue| queue.broken = true);
                refusal
            }
            (Ok(Command::Run(operation)), None) => return self.run(&[operation], false),
            (Ok(Command::Run(operation)), Some(queue)) => queue.push(operation, bytes as u64),
            (Ok(Command::Multi), None) => {
                self.queue = Some(Queue::default());
                Reply::OK
            }
            (Ok(Command::Exec), Some(queue)) => {
                let queue = mem::take(queue);
                self.queue = None;
                if !queue.broken {
                    return self.run(&queue.operations, true);
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
                self.server.stop();
                return (None, None);
            }
            (Ok(Command::Info), None) => Reply::text(&self.server.info()),
            (Ok(Command::Say(reply)), None) => reply,
            (Ok(_), Some(queue)) => {
                queue.broken = true;
                Reply::error("ERR Command not allowed inside a transaction")
            }
        };
        (Some(reply), None)
    }

    fn run(&self, operations: &[Operation], as_array: bool) -> (Option<Reply>, Option<Lsn>) {
        match self.server.db.execute(operations) {
            Ok((answers, depends_on)) => {
                let mut replies = answers.into_iter().map(Reply::from);
                let reply =
                    if as_array { Some(Reply::Array(replies.collect())) } else { replies.next() };
                (reply, depends_on)
            }
            Err(error) => {
                self.server.judge(&error);
                (Some(Reply::error(format!("ERR not written: {error}"))), None)
            }
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
