//! What connections share: the database, who is connected, and why it all ends.
//!
//! A thread accepts, each connection has a thread of its own, and one makes the checkpoints. They
//! end together: on [`Server::stop`], which a signal, `SHUTDOWN` or a failed log calls. What cannot
//! be had for a connection, a thread or a file, costs that connection and nobody else.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use cohort_wal::{FileStore, Result, WalError, WalStore};
use parking_lot::{Condvar, Mutex};

use crate::Db;
use crate::connection;

const MAX_CONNECTIONS: usize = 512;
/// How long a client may leave a reply unread: then it is cut off.
const PATIENCE: Duration = Duration::from_secs(10);
/// How soon to accept again after a failure.
const BREATH: Duration = Duration::from_millis(100);

/// A server between its start and its end.
#[derive(Debug)]
pub struct Server<S: WalStore = FileStore> {
    pub(crate) db: Db<S>,
    listener: TcpListener,
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
    connections: Mutex<HashMap<SocketAddr, Arc<TcpStream>>>,
    one_left: Condvar,
}

impl<S: WalStore> Server<S> {
    /// A server of a database. Clients may connect from now on and wait for [`run`](Self::run).
    #[must_use]
    pub fn new(db: Db<S>, listener: TcpListener, checkpoint_bytes: u64) -> Self {
        Self {
            db,
            listener,
            checkpoint_bytes,
            next_checkpoint_bytes: AtomicU64::new(checkpoint_bytes),
            checkpoints: AtomicU64::new(0),
            checkpoint_due: Mutex::new(false),
            wake: Condvar::new(),
            stopping: AtomicBool::new(false),
            failure: Mutex::new(None),
            connections: Mutex::default(),
            one_left: Condvar::new(),
        }
    }

    /// Serves until it is stopped, lets every connection finish what it has read, and closes the
    /// log.
    ///
    /// # Errors
    /// Why the log failed.
    pub fn run(&self) -> Result<()> {
        thread::scope(|scope| {
            scope.spawn(|| self.make_checkpoints());
            while !self.is_stopping() {
                let Some(guest) = self.accept() else { continue };
                // What a connection dies of is its client's business.
                let serve = move || drop(connection::serve(self, &guest.stream));
                // Without a thread the guest is gone.
                thread::Builder::new().spawn_scoped(scope, serve).ok();
            }
            self.wait_for_guests();
        });
        match self.failure.lock().take() {
            Some(error) => Err(error),
            None => self.db.wal().close(),
        }
    }

    /// Whether the server is about to end.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Ends [`run`](Self::run). Nothing more is read; what was read is answered.
    pub fn stop(&self) {
        if self.stopping.swap(true, Ordering::Relaxed) {
            return;
        }
        for stream in self.connections.lock().values() {
            // Who has gone already needs no telling.
            stream.shutdown(Shutdown::Read).ok();
        }
        // Locked, so that it happens before the other looks, or while it waits.
        drop(self.checkpoint_due.lock());
        self.wake.notify_one();
        // Wakes the thread that accepts, with a connection that it will not serve.
        let address = self.listener.local_addr();
        address.and_then(|address| TcpStream::connect_timeout(&address, BREATH)).ok();
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
        let clients = self.connections.lock().len();
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

    /// Takes the next client in, if there is room for one.
    fn accept(&self) -> Option<Guest<'_, S>> {
        let accepted = self.listener.accept();
        let mut connections = self.connections.lock();
        let Ok((stream, address)) = accepted else {
            // Most likely there are too many open files: wait until somebody leaves.
            self.one_left.wait_for(&mut connections, BREATH);
            return None;
        };
        if self.is_stopping() {
            return None;
        }
        if connections.len() >= MAX_CONNECTIONS {
            (&stream).write_all(b"-ERR max number of clients reached\r\n").ok();
            return None;
        }
        stream.set_nodelay(true).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        let stream = Arc::new(stream);
        connections.insert(address, Arc::clone(&stream));
        Some(Guest { server: self, stream, address })
    }

    /// Waits for all connections to end; cuts off those that take too long.
    fn wait_for_guests(&self) {
        let mut connections = self.connections.lock();
        while !connections.is_empty() {
            if self.one_left.wait_for(&mut connections, PATIENCE).timed_out() {
                for stream in connections.values() {
                    stream.shutdown(Shutdown::Both).ok();
                }
            }
        }
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

/// A client that is connected, until it is dropped.
struct Guest<'a, S: WalStore> {
    server: &'a Server<S>,
    stream: Arc<TcpStream>,
    address: SocketAddr,
}

impl<S: WalStore> Drop for Guest<'_, S> {
    fn drop(&mut self) {
        self.server.connections.lock().remove(&self.address);
        self.server.one_left.notify_all();
    }
}
