//! What connections share: the database, who is connected, and why it all ends.
//!
//! A thread accepts, each connection has a thread of its own, and one makes the checkpoints. They
//! end together: on [`Server::stop`], which a signal, `SHUTDOWN` or a failed log calls.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::Duration;

use cohort_wal::{FileStore, Result, WalError, WalStore};
use parking_lot::{Condvar, Mutex};

use crate::Db;
use crate::connection;

const MAX_CONNECTIONS: usize = 1024;
/// How long a client may leave a reply unread: then it is cut off.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server between its start and its end.
#[derive(Debug)]
pub struct Server<S: WalStore = FileStore> {
    pub(crate) db: Db<S>,
    listener: TcpListener,
    /// Bytes of log that are worth a checkpoint.
    checkpoint_bytes: u64,
    checkpoints: AtomicU64,
    /// Wakes who makes checkpoints. One call that waits is enough.
    wake: SyncSender<()>,
    woken: Mutex<Receiver<()>>,
    stopping: AtomicBool,
    /// The first failure of the log that nothing cures.
    failure: Mutex<Option<WalError>>,
    connections: Mutex<HashMap<SocketAddr, TcpStream>>,
    all_gone: Condvar,
}

impl<S: WalStore> Server<S> {
    /// A server of a database. Clients may connect from now on and wait for [`run`](Self::run).
    #[must_use]
    pub fn new(db: Db<S>, listener: TcpListener, checkpoint_bytes: u64) -> Self {
        let (wake, woken) = mpsc::sync_channel(1);
        Self {
            db,
            listener,
            checkpoint_bytes,
            checkpoints: AtomicU64::new(0),
            wake,
            woken: Mutex::new(woken),
            stopping: AtomicBool::new(false),
            failure: Mutex::new(None),
            connections: Mutex::default(),
            all_gone: Condvar::new(),
        }
    }

    /// Serves until it is stopped, lets every connection finish what it has read, and closes the
    /// log.
    ///
    /// # Errors
    /// Why the log failed, or the error of the listener.
    pub fn run(&self) -> Result<(), Box<dyn std::error::Error>> {
        let accepted = thread::scope(|scope| {
            scope.spawn(|| self.make_checkpoints());
            while !self.is_stopping() {
                let (stream, address) = match self.listener.accept() {
                    Ok(accepted) => accepted,
                    // The client has changed its mind, or there are too many files: it may again.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                    Err(error) => {
                        self.stop();
                        self.wait_for_connections();
                        return Err(error);
                    }
                };
                if let Some(stream) = self.admit(stream, address) {
                    scope.spawn(move || {
                        // What a connection dies of is the client's business.
                        connection::serve(self, &stream).ok();
                        self.connections.lock().remove(&address);
                        self.all_gone.notify_all();
                    });
                }
            }
            self.wait_for_connections();
            Ok(())
        });
        if let Some(error) = self.failure.lock().take() {
            return Err(error.into());
        }
        self.db.wal().close()?;
        Ok(accepted?)
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
        self.wake.try_send(()).ok();
        // Wakes the thread that accepts, with a connection that it will not serve.
        self.listener.local_addr().and_then(TcpStream::connect).ok();
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
        if self.db.wal().live_bytes() >= self.checkpoint_bytes {
            self.wake.try_send(()).ok();
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

    /// Takes a client in, if there is room for one.
    fn admit(&self, stream: TcpStream, address: SocketAddr) -> Option<TcpStream> {
        let mut connections = self.connections.lock();
        if self.is_stopping() {
            return None;
        }
        if connections.len() >= MAX_CONNECTIONS {
            (&stream).write_all(b"-ERR max number of clients reached\r\n").ok();
            return None;
        }
        stream.set_nodelay(true).ok()?;
        stream.set_write_timeout(Some(PATIENCE)).ok()?;
        connections.insert(address, stream.try_clone().ok()?);
        Some(stream)
    }

    /// Waits for all connections to end; cuts off those that take too long.
    fn wait_for_connections(&self) {
        let mut connections = self.connections.lock();
        while !connections.is_empty() {
            if self.all_gone.wait_for(&mut connections, PATIENCE).timed_out() {
                for stream in connections.values() {
                    stream.shutdown(Shutdown::Both).ok();
                }
            }
        }
    }

    /// Makes a checkpoint each time it is woken.
    fn make_checkpoints(&self) {
        let woken = self.woken.lock();
        while woken.recv().is_ok() && !self.is_stopping() {
            match self.db.checkpoint() {
                Ok(()) => drop(self.checkpoints.fetch_add(1, Ordering::Relaxed)),
                // The checkpoint before counts. If the log itself has failed, writers say so.
                Err(error) => drop(writeln!(io::stderr(), "no checkpoint: {error}")),
            }
        }
    }
}
