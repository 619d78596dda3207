//! Ships durable records to another process over TCP, and goes on after the connection is cut.
//!
//! The receiver says first where it is; the sender follows the log from there, and the receiver
//! acknowledges how far it has come. A position is the LSN behind a record, so that whoever
//! connects again neither misses a record nor gets one twice. What is acknowledged need not be
//! kept: the sender may truncate it.
//!
//! ```sh
//! cargo run --example ship
//! ```

#![allow(clippy::print_stdout, clippy::expect_used, reason = "it says what it did, or fails")]

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;

use cohort_wal::{Follow, Lsn, Record, Stopper, Wal, WalError};

const RECORDS: usize = 1_000;
/// Where the first connection is cut: this record arrives and is not acknowledged.
const CUT: usize = 500;

type AnyResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> AnyResult<()> {
    let dir = tempfile::tempdir()?;
    let wal = Arc::new(Wal::open(dir.path())?);
    let listener = TcpListener::bind(("127.0.0.1", 0))?;
    let address = listener.local_addr()?;
    let receiver = thread::spawn(move || receive(&listener));
    let (tell, acknowledged) = mpsc::channel();
    let shipped = Arc::clone(&wal);
    let sender = thread::spawn(move || ship(&shipped, address, &tell));

    let mut written = Vec::new();
    for number in 0..RECORDS {
        let payload = format!("record {number}").into_bytes();
        written.push((wal.append_and_sync(&payload)?, payload));
    }
    let all = acknowledged.iter().find(|position| *position == wal.end_lsn());
    wal.truncate_before(all.ok_or("the sender ended early")?)?;
    assert!(wal.is_empty());
    // Ends the follower, and with it the sender and the receiver.
    wal.close()?;
    let connections = sender.join().expect("the sender does not panic")?;
    let received = receiver.join().expect("the receiver does not panic")?;
    assert_eq!(received, written, "every record once, in order, at its LSN");
    assert_eq!(connections, 2);
    println!("{} records arrived over {connections} connections", received.len());
    Ok(())
}

/// Ships until the log is closed; returns how many connections that took.
fn ship(wal: &Wal, address: SocketAddr, acknowledged: &Sender<Lsn>) -> AnyResult<usize> {
    let mut connections = 0;
    loop {
        let mut connection = TcpStream::connect(address)?;
        connections += 1;
        connection.set_nodelay(true)?;
        let follower = wal.follow(read_position(&mut connection)?)?;
        hear(connection.try_clone()?, follower.stopper(), acknowledged.clone());
        let all = send(&mut connection, follower)?;
        // The other half is still in the hands of who hears.
        connection.shutdown(Shutdown::Both).ok();
        if all {
            return Ok(connections);
        }
    }
}

/// Passes on what is acknowledged. A connection that ends stops the follower, which may be waiting.
fn hear(mut connection: TcpStream, stopper: Stopper, acknowledged: Sender<Lsn>) {
    thread::spawn(move || {
        while let Ok(position) = read_position(&mut connection) {
            acknowledged.send(position).ok();
        }
        stopper.stop();
    });
}

/// Sends what is durable and what will be: true when the log was closed, false when the connection
/// was cut.
fn send(connection: &mut TcpStream, mut follower: Follow) -> AnyResult<bool> {
    while let Some(record) = follower.next() {
        match record {
            Ok(record) if write_frame(connection, &record, follower.next_lsn()).is_ok() => {}
            Ok(_) => return Ok(false),
            Err(WalError::Closed) => return Ok(true),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

/// The other process: keeps what arrives, over one connection that is cut and one that is not.
fn receive(listener: &TcpListener) -> io::Result<Vec<(Lsn, Vec<u8>)>> {
    let (mut kept, mut position) = (Vec::new(), Lsn::new(0));
    for until in [CUT, usize::MAX] {
        let (mut connection, _) = listener.accept()?;
        connection.set_nodelay(true)?;
        write_position(&mut connection, position)?;
        while let Some((lsn, next, payload)) = read_frame(&mut connection)? {
            // A receiver that keeps files makes the record and the position durable here.
            kept.push((lsn, payload));
            position = next;
            if kept.len() == until {
                break;
            }
            write_position(&mut connection, position)?;
        }
    }
    Ok(kept)
}

/// A frame: the LSN of the record, the position behind it, its length, its payload.
fn write_frame(to: &mut impl Write, record: &Record, next: Lsn) -> io::Result<()> {
    let mut frame = Vec::new();
    frame.extend(record.lsn().get().to_le_bytes());
    frame.extend(next.get().to_le_bytes());
    frame.extend(u32::try_from(record.len()).map_err(io::Error::other)?.to_le_bytes());
    frame.extend(record.data());
    to.write_all(&frame)
}

/// None when the sender has closed the connection.
fn read_frame(from: &mut impl Read) -> io::Result<Option<(Lsn, Lsn, Vec<u8>)>> {
    let lsn = match read_position(from) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        lsn => lsn?,
    };
    let next = read_position(from)?;
    let mut len = [0; 4];
    from.read_exact(&mut len)?;
    // A receiver that does not trust its sender bounds this.
    let mut payload = vec![0; u32::from_le_bytes(len) as usize];
    from.read_exact(&mut payload)?;
    Ok(Some((lsn, next, payload)))
}

fn write_position(to: &mut impl Write, position: Lsn) -> io::Result<()> {
    to.write_all(&position.get().to_le_bytes())
}

fn read_position(from: &mut impl Read) -> io::Result<Lsn> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(Lsn::new(u64::from_le_bytes(bytes)))
}
