//! What connections share: the database, who is connected, and why it all ends.
//!
//! A thread accepts, a few serve all connections, and one makes the checkpoints. They end together:
//! on [`Server::stop`], which a signal, `SHUTDOWN` or a failed log calls. What cannot be had for a
//! connection, a file, say, costs that connection and nobody else.

use std::io::{self, ErrorKind, Write};
use std::net;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cohort_wal::{FileStore, WalError, WalStore};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::{Condvar, Mutex};

use crate::Db;
use crate::worker::Worker;

const MAX_CONNECTIONS: usize = 512;
/// At least two workers, so that one runs requests while another waits for the disk.
const WORKERS: std::ops::RangeInclusive<usize> = 2..=16;
const LISTENER: Token = Token(0);
const BELL: Token = Token(1);
/// How soon to accept again after a failure.
const BREATH: Duration = Duration::from_millis(100);

/// A server between its start and its end.
#[derive(Debug)]
pub struct Server<S: WalStore = FileStore> {
    pub(crate) db: Db<S>,
    listener: TcpListener,
    /// Tells who accepts that somebody is there, or that the server stops.
    door: Mutex<Poll>,
    bell: Waker,
    /// Bytes of log that are worth a checkpoint; at least those of the last image.
    checkpoint_bytes: u64,
    next_checkpoint_bytes: AtomicU64,
    checkpoints: AtomicU64,
    /// Whether the log is long enough for a checkpoint.
    checkpoint_due: Mutex<bool>,
    /// Tells who makes checkpoints that one is due, or that the server stops.
    wake: Condvar,
    stopping: AtomicBool,
    /// The first failure of the log that nothing cures.
    failure: Mutex<Option<WalError>>,
    pub(crate) patience: Duration,
    connections: AtomicUsize,
    workers: Vec<Worker>,
}

impl<S: WalStore> Server<S> {
    /// A server of a database. Clients may connect from now on and wait for [`run`](Self::run).
    ///
    /// # Errors
    /// Those of the system, which may have no more files.
    pub fn new(db: Db<S>, listener: net::TcpListener, checkpoint_bytes: u64) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let (mut listener, door) = (TcpListener::from_std(listener), Poll::new()?);
        door.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
        let workers = cores.clamp(*WORKERS.start(), *WORKERS.end());
        Ok(Self {
            db,
            listener,
            bell: Waker::new(door.registry(), BELL)?,
            door: Mutex::new(door),
            checkpoint_bytes,
            next_checkpoint_bytes: AtomicU64::new(checkpoint_bytes),
            checkpoints: AtomicU64::new(0),
            checkpoint_due: Mutex::new(false),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            failure: Mutex::new(None),
            patience: Duration::from_secs(10),
            connections: AtomicUsize::new(0),
            workers: (0..workers).map(|_| Worker::new()).collect::<io::Result<_>>()?,
        })
    }

    /// How long a client may take nothing of its replies before somebody looks, who cuts it off at
    /// the second time; and how long it may take over the last of them when the server stops.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Serves until it is stopped, answers what was run, and closes the log.
    ///
    /// # Errors
    /// Why the log failed, or what the workers wait with.
    pub fn run(&self) -> io::Result<()> {
        let served = thread::scope(|scope| {
            scope.spawn(|| self.make_checkpoints());
            let work = |worker: &'_ Worker| {
                let _end = End(self);
                worker.run(self)
            };
            let workers: Vec<_> =
                self.workers.iter().map(|worker| scope.spawn(move || work(worker))).collect();
            self.accept_all();
            workers.into_iter().try_for_each(|worker| {
                worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
        });
        match self.failure.lock().take() {
            Some(error) => Err(error.into()),
            None => served.and_then(|()| Ok(self.db.wal().close()?)),
        }
    }

    /// Whether the server is about to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Ends [`run`](Self::run). Nothing more is read; what was run is answered.
    pub fn stop(&self) {
        if self.stopping.swap(true, Ordering::Relaxed) {
            return;
        }
        // All look now and then by themselves.
        self.bell.wake().ok();
        for worker in &self.workers {
            worker.wake().ok();
        }
        // Locked, so that it happens before the other looks, or while it waits.
        drop(self.checkpoint_due.lock());
        self.wake.notify_one();
    }

    /// What became of a commit: a failure that nothing cures ends the server.
    pub(crate) fn judge(&self, error: &WalError) {
        let too_large =
            matches!(error, WalError::RecordTooLarge { .. } | WalError::BatchTooLarge { .. });
        if !too_large && !error.is_retryable() {
            self.failure.lock().get_or_insert_with(|| error.clone());
            self.stop();
        }
    }

    /// Has a checkpoint made when the log is long enough for one.
    pub(crate) fn note_growth(&self) {
        let next = self.next_checkpoint_bytes.load(Ordering::Relaxed);
        if self.db.wal().live_bytes() >= next {
            *self.checkpoint_due.lock() = true;
            self.wake.notify_one();
        }
    }

    /// What `INFO` says.
    pub(crate) fn info(&self) -> String {
        let (wal, stats) = (self.db.wal(), self.db.wal().stats());
        let clients = self.connections.load(Ordering::Relaxed);
        let checkpoints = self.checkpoints.load(Ordering::Relaxed);
        let lines = [
            ("connected_clients", clients as u64),
            ("log_records", stats.appends),
            ("log_syncs", stats.syncs),
            ("log_commits", stats.commits),
            ("log_live_bytes", wal.live_bytes()),
            ("log_durable_lsn", wal.durable_lsn().get()),
            ("log_checkpoints", checkpoints),
        ];
        let lines = lines.map(|(name, value)| format!("{name}:{value}\r\n"));
        format!("# Server\r\n{}", lines.concat())
    }

    /// Takes clients in until the server stops.
    fn accept_all(&self) {
        let (mut door, mut events) = (self.door.lock(), Events::with_capacity(2));
        let mut workers = self.workers.iter().cycle();
        while !self.is_stopping() {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    // Who cannot be served is gone.
                    workers.next().map(|worker| self.take_in(stream, worker).ok());
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    door.poll(&mut events, Some(self.patience)).ok();
                }
                // Most likely there are too many open files: wait until somebody leaves.
                Err(_) => thread::sleep(BREATH),
            }
        }
    }

    /// Gives a client to a worker, if there is room for one.
    fn take_in(&self, stream: TcpStream, worker: &Worker) -> io::Result<()> {
        if self.connections.load(Ordering::Relaxed) >= MAX_CONNECTIONS {
            return (&stream).write_all(b"-ERR max number of clients reached\r\n");
        }
        stream.set_nodelay(true)?;
        self.connections.fetch_add(1, Ordering::Relaxed);
        worker.take(stream)
    }

    /// So many clients have left.
    pub(crate) fn goodbye(&self, clients: usize) {
        self.connections.fetch_sub(clients, Ordering::Relaxed);
    }

    /// Makes a checkpoint whenever one is due.
    fn make_checkpoints(&self) {
        while self.wait_for_growth() {
            let next = match self.db.checkpoint() {
                Ok(image_bytes) => {
                    self.checkpoints.fetch_add(1, Ordering::Relaxed);
                    self.checkpoint_bytes.max(image_bytes)
                }
                Err(error) => {
                    // The checkpoint before counts. If the log itself has failed, writers say so.
                    writeln!(io::stderr(), "no checkpoint: {error}").ok();
                    self.db.wal().live_bytes() + self.checkpoint_bytes
                }
            };
            self.next_checkpoint_bytes.store(next, Ordering::Relaxed);
            *self.checkpoint_due.lock() = false;
        }
    }

    /// Waits until a checkpoint is due; false when the server stops.
    fn wait_for_growth(&self) -> bool {
        let mut due = self.checkpoint_due.lock();
        while !*due && !self.is_stopping() {
            self.wake.wait(&mut due);
        }
        !self.is_stopping()
    }
}

/// Whose end ends the server: without one of its workers, clients would wait for ever.
struct End<'a, S: WalStore>(&'a Server<S>);

impl<S: WalStore> Drop for End<'_, S> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
