//! A client, as small as it can be: for the torture run and for tests.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::resp::Reply;

/// A connection to a server.
#[derive(Debug)]
pub struct Client(BufReader<TcpStream>);

/// One request in bytes.
#[must_use]
pub fn encode(arguments: &[&str]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", arguments.len());
    for argument in arguments {
        request += &format!("${}\r\n{argument}\r\n", argument.len());
    }
    request.into_bytes()
}

impl Client {
    /// Connects. A reply that takes a minute is an error.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn connect(address: impl ToSocketAddrs) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(60)))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The connection itself.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        self.0.get_ref()
    }

    /// Sends bytes, whatever they are.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.get_mut().write_all(bytes)
    }

    /// The next reply.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.0)
    }

    /// Asks and waits for the reply.
    ///
    /// # Errors
    /// Those of the connection.
    pub fn ask(&mut self, arguments: &[&str]) -> io::Result<Reply> {
        self.send(&encode(arguments))?;
        self.reply()
    }
}

fn read_reply(from: &mut impl BufRead) -> io::Result<Reply> {
    let broken = || io::Error::from(io::ErrorKind::InvalidData);
    let mut line = String::new();
    from.read_line(&mut line)?;
    let line = line.strip_suffix("\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let (kind, text) = line.split_at_checked(1).ok_or_else(broken)?;
    let count = || text.parse::<u64>().map_err(|_| broken());
    match (kind, text) {
        ("+", _) => Ok(Reply::Status(text.to_owned().into())),
        ("-", _) => Ok(Reply::Error(text.to_owned().into())),
        (":", _) => Ok(Reply::Integer(count()?)),
        ("$", "-1") => Ok(Reply::Bulk(None)),
        ("$", _) => {
            let (length, mut bulk) = (count()?, Vec::new());
            from.by_ref().take(length + 2).read_to_end(&mut bulk)?;
            if bulk.len() as u64 != length + 2 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let bulk = bulk.strip_suffix(b"\r\n").ok_or_else(broken)?;
            Ok(Reply::Bulk(Some(bulk.into())))
        }
        ("*", _) => {
            let replies = (0..count()?).map(|_| read_reply(from));
            replies.collect::<io::Result<_>>().map(Reply::Array)
        }
        _ => Err(broken()),
    }
}
