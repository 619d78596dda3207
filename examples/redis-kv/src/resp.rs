//! The protocol, RESP2: requests from hostile bytes, replies to bytes and back.
//!
//! A length is believed only up to its limit, and memory is taken as bytes arrive, not as they are
//! announced.

use std::borrow::Cow;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;

use crate::db::{Answer, Bytes};

/// The longest key or value.
pub const MAX_BULK_BYTES: u64 = 8 << 20;
/// The longest request, and the longest queue of a transaction.
pub const MAX_REQUEST_BYTES: u64 = 32 << 20;
/// The most arguments of a request, and the most commands of a transaction.
pub const MAX_ARGUMENTS: u64 = 1 << 16;
/// The longest line: a length, or a command typed by hand.
const MAX_LINE_BYTES: u64 = 16 << 10;
/// Memory for an argument before its bytes are there.
const FIRST_BYTES: u64 = 4 << 10;

/// Why there is no request.
#[derive(Debug)]
pub enum RequestError {
    /// The connection failed or ended in the middle of a request.
    Io(io::Error),
    /// Not the protocol: what follows cannot be told apart any more.
    Protocol(&'static str),
}

impl From<io::Error> for RequestError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

use RequestError::Protocol;

/// The arguments of the next request; none at the end of the stream.
///
/// # Errors
/// See [`RequestError`].
pub fn read_request(from: &mut impl BufRead) -> Result<Option<Vec<Vec<u8>>>, RequestError> {
    let Some(line) = read_line(from)? else { return Ok(None) };
    let Some(count) = line.strip_prefix(b"*") else {
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        return Ok(Some(words.map(<[u8]>::to_vec).collect()));
    };
    // Redis takes "*-1" for nothing at all.
    let count = if count == b"-1" { 0 } else { number(count, "invalid multibulk length")? };
    if count > MAX_ARGUMENTS {
        return Err(Protocol("invalid multibulk length"));
    }
    let (mut arguments, mut total) = (Vec::new(), 0);
    for _ in 0..count {
        let line = read_line(from)?.ok_or_else(cut_off)?;
        let length = line.strip_prefix(b"$").ok_or(Protocol("expected '$'"))?;
        let length = number(length, "invalid bulk length")?;
        if length > MAX_BULK_BYTES || total + length > MAX_REQUEST_BYTES {
            return Err(Protocol("invalid bulk length"));
        }
        total += length;
        arguments.push(read_bulk(from, length)?);
    }
    Ok(Some(arguments))
}

fn cut_off() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}

fn number(digits: &[u8], wrong: &'static str) -> Result<u64, RequestError> {
    let text = std::str::from_utf8(digits).map_err(|_| Protocol(wrong))?;
    text.parse().map_err(|_| Protocol(wrong))
}

/// A line without its end; none at the end of the stream.
fn read_line(from: &mut impl BufRead) -> Result<Option<Vec<u8>>, RequestError> {
    let mut line = Vec::new();
    let read = from.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
    match line.pop() {
        None => return Ok(None),
        Some(b'\n') => {}
        Some(_) if read as u64 == MAX_LINE_BYTES => return Err(Protocol("too big a line")),
        Some(_) => return Err(cut_off().into()),
    }
    line.pop_if(|last| *last == b'\r');
    Ok(Some(line))
}

fn read_bulk(from: &mut impl BufRead, length: u64) -> Result<Vec<u8>, RequestError> {
    let room = usize::try_from(length.min(FIRST_BYTES)).unwrap_or_default();
    let mut bulk = Vec::with_capacity(room);
    let mut end = [0; 2];
    let read = from.by_ref().take(length).read_to_end(&mut bulk)?;
    if (read as u64) < length {
        return Err(cut_off().into());
    }
    from.read_exact(&mut end)?;
    if end == *b"\r\n" { Ok(bulk) } else { Err(Protocol("expected the end of a bulk")) }
}

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// A word, such as OK.
    Status(Cow<'static, str>),
    /// What went wrong; its first word is a code.
    Error(Cow<'static, str>),
    /// A number.
    Integer(u64),
    /// Bytes, or none.
    Bulk(Option<Bytes>),
    /// Replies, as those of a transaction.
    Array(Vec<Self>),
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Done => Self::OK,
            Answer::Value(value) => Self::Bulk(value),
            Answer::Count(count) => Self::Integer(count as u64),
        }
    }
}

impl Reply {
    /// What writes get.
    pub const OK: Self = Self::Status(Cow::Borrowed("OK"));

    /// An error, on one line whatever is in it.
    pub fn error(what: impl Into<String>) -> Self {
        Self::Error(what.into().replace(['\r', '\n'], " ").into())
    }

    /// Text as bytes.
    #[must_use]
    pub fn text(text: &str) -> Self {
        Self::Bulk(Some(Arc::from(text.as_bytes())))
    }

    /// Bytes of it and of what it holds, roughly.
    pub(crate) fn weight(&self) -> usize {
        match self {
            Self::Bulk(Some(bytes)) => 32 + bytes.len(),
            Self::Array(replies) => replies.iter().map(Self::weight).sum(),
            _ => 32,
        }
    }

    /// Writes it to a stream, which should be a buffered one.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        match self {
            Self::Status(text) => write!(to, "+{text}\r\n"),
            Self::Error(text) => write!(to, "-{text}\r\n"),
            Self::Integer(number) => write!(to, ":{number}\r\n"),
            Self::Bulk(None) => to.write_all(b"$-1\r\n"),
            Self::Bulk(Some(bytes)) => {
                write!(to, "${}\r\n", bytes.len())?;
                to.write_all(bytes)?;
                to.write_all(b"\r\n")
            }
            Self::Array(replies) => {
                write!(to, "*{}\r\n", replies.len())?;
                replies.iter().try_for_each(|reply| reply.write_to(to))
            }
        }
    }

    /// Reads one, as a client does.
    ///
    /// # Errors
    /// Those of the stream; `InvalidData` for what is no reply.
    pub fn read_from(from: &mut impl BufRead) -> io::Result<Self> {
        let broken = || io::Error::from(io::ErrorKind::InvalidData);
        let read = |from: &mut _| match read_line(from) {
            Ok(Some(line)) => String::from_utf8(line).map_err(io::Error::other),
            Ok(None) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(RequestError::Io(error)) => Err(error),
            Err(Protocol(_)) => Err(broken()),
        };
        let mut line = read(from)?;
        let text = line.split_off(1.min(line.len()));
        let count = || text.parse::<u64>().map_err(|_| broken());
        match (line.as_str(), text.as_str()) {
            ("+", _) => Ok(Self::Status(text.into())),
            ("-", _) => Ok(Self::Error(text.into())),
            (":", _) => Ok(Self::Integer(count()?)),
            ("$", "-1") => Ok(Self::Bulk(None)),
            ("$", _) => match read_bulk(from, count()?) {
                Ok(bytes) => Ok(Self::Bulk(Some(bytes.into()))),
                Err(RequestError::Io(error)) => Err(error),
                Err(Protocol(_)) => Err(broken()),
            },
            ("*", _) => (0..count()?)
                .map(|_| Self::read_from(from))
                .collect::<io::Result<_>>()
                .map(Self::Array),
            _ => Err(broken()),
        }
    }
}
