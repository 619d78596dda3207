//! The protocol, RESP2: requests from hostile bytes, replies to bytes.
//!
//! A length is believed only up to its limit, and memory is taken as bytes arrive, not as they are
//! announced.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use crate::db::{Answer, Bytes};

/// The longest key or value.
pub const MAX_BULK_BYTES: u64 = 8 << 20;
/// The longest request, and the longest queue of a transaction.
pub const MAX_REQUEST_BYTES: u64 = 32 << 20;
/// The most arguments of a request, and the most commands of a transaction.
pub const MAX_ARGUMENTS: u64 = 1 << 16;
/// The longest line: a length, or a command typed by hand.
const MAX_LINE_BYTES: usize = 16 << 10;
/// Memory that a client keeps which has nothing to say.
const KEPT_BYTES: usize = 16 << 10;

/// What a client has sent is not the protocol: what follows cannot be told apart any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProtocolError(pub &'static str);

/// The bytes that a client sends, in pieces of any size, and the requests in them.
///
/// Everything is looked at once: half a request is not parsed again when the rest of it comes.
#[derive(Debug, Default)]
pub struct Requests {
    /// What has arrived, from the last request on that was given out.
    bytes: Vec<u8>,
    /// Where the request begins that is being parsed.
    begin: usize,
    /// Bytes of it that are parsed.
    parsed: usize,
    /// What is known of it, once its first line is there.
    begun: Option<Begun>,
}

/// A request, the last arguments of which have not arrived.
#[derive(Debug)]
struct Begun {
    /// Counted from the beginning of the request.
    arguments: Vec<Range<usize>>,
    missing: u64,
    bytes: u64,
}

impl Requests {
    /// Takes in what has arrived.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.forget();
        self.bytes.extend_from_slice(bytes);
    }

    /// Gives back what the requests took that were given out.
    fn forget(&mut self) {
        if self.begin > 0 {
            self.bytes.drain(..self.begin);
            self.begin = 0;
            self.bytes.shrink_to(KEPT_BYTES);
        }
    }

    /// The arguments of the next request; none until all of it has arrived.
    ///
    /// # Errors
    /// [`ProtocolError`], from then on.
    pub fn take(&mut self) -> Result<Option<Vec<&[u8]>>, ProtocolError> {
        if self.begin == self.bytes.len() {
            // The client may have nothing to say for long.
            self.forget();
            return Ok(None);
        }
        let bytes = &self.bytes[self.begin..];
        let mut begun = match self.begun.take() {
            Some(begun) => begun,
            None => {
                let Some((line, end)) = line(bytes, 0)? else { return Ok(None) };
                let Some(count) = line.strip_prefix(b"*") else {
                    self.begin += end;
                    let words = line.split(u8::is_ascii_whitespace);
                    return Ok(Some(words.filter(|word| !word.is_empty()).collect()));
                };
                // Redis takes "*-1" for nothing at all.
                let missing =
                    if count == b"-1" { 0 } else { number(count, "invalid multibulk length")? };
                if missing > MAX_ARGUMENTS {
                    return Err(ProtocolError("invalid multibulk length"));
                }
                self.parsed = end;
                Begun { arguments: Vec::new(), missing, bytes: 0 }
            }
        };
        while begun.missing > 0 {
            let Some((argument, end)) = argument(bytes, self.parsed, begun.bytes)? else {
                self.begun = Some(begun);
                return Ok(None);
            };
            self.parsed = end;
            begun.missing -= 1;
            begun.bytes += argument.len() as u64;
            begun.arguments.push(argument);
        }
        self.begin += self.parsed;
        Ok(Some(begun.arguments.into_iter().map(|argument| &bytes[argument]).collect()))
    }
}

/// The line at `from`, without its end, and where the next one begins; none if it has no end yet.
fn line(bytes: &[u8], from: usize) -> Result<Option<(&[u8], usize)>, ProtocolError> {
    let rest = &bytes[from..];
    let rest = rest.get(..MAX_LINE_BYTES).unwrap_or(rest);
    match rest.iter().position(|byte| *byte == b'\n') {
        Some(end) => {
            let line = &rest[..end];
            Ok(Some((line.strip_suffix(b"\r").unwrap_or(line), from + end + 1)))
        }
        None if rest.len() == MAX_LINE_BYTES => Err(ProtocolError("too big a line")),
        None => Ok(None),
    }
}

/// Where the argument at `from` lies, and where it ends; none until it is there. `before` are the
/// bytes of those before it.
fn argument(
    bytes: &[u8],
    from: usize,
    before: u64,
) -> Result<Option<(Range<usize>, usize)>, ProtocolError> {
    let Some((line, begin)) = line(bytes, from)? else { return Ok(None) };
    let length = line.strip_prefix(b"$").ok_or(ProtocolError("expected '$'"))?;
    let length = number(length, "invalid bulk length")?;
    if length > MAX_BULK_BYTES || before + length > MAX_REQUEST_BYTES {
        return Err(ProtocolError("invalid bulk length"));
    }
    // Below the limits, so that no sum overflows.
    let end = begin + usize::try_from(length).unwrap_or(usize::MAX - begin - 2);
    match bytes.get(end..end + 2) {
        Some(b"\r\n") => Ok(Some((begin..end, end + 2))),
        Some(_) => Err(ProtocolError("expected the end of a bulk")),
        None => Ok(None),
    }
}

fn number(digits: &[u8], wrong: &'static str) -> Result<u64, ProtocolError> {
    let text = std::str::from_utf8(digits).map_err(|_| ProtocolError(wrong))?;
    text.parse().map_err(|_| ProtocolError(wrong))
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

    /// Puts its bytes behind others, without those of the replies in it: returns these.
    pub(crate) fn begin(self, to: &mut Vec<u8>) -> Vec<Self> {
        let mut put = |parts: [&[u8]; 3]| parts.into_iter().for_each(|part| to.extend(part));
        match &self {
            Self::Status(text) => put([b"+", text.as_bytes(), b"\r\n"]),
            Self::Error(text) => put([b"-", text.as_bytes(), b"\r\n"]),
            Self::Integer(number) => put([b":", number.to_string().as_bytes(), b"\r\n"]),
            Self::Bulk(None) => put([b"$-1\r\n", b"", b""]),
            Self::Bulk(Some(bytes)) => {
                put([b"$", bytes.len().to_string().as_bytes(), b"\r\n"]);
                put([bytes, b"\r\n", b""]);
            }
            Self::Array(replies) => {
                put([b"*", replies.len().to_string().as_bytes(), b"\r\n"]);
            }
        }
        if let Self::Array(replies) = self { replies } else { Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn requests_in(pieces: &[&[u8]]) -> Vec<Vec<Vec<u8>>> {
        let (mut requests, mut found) = (Requests::default(), Vec::new());
        for piece in pieces {
            requests.feed(piece);
            while let Some(request) = requests.take().unwrap() {
                found.push(request.into_iter().map(<[u8]>::to_vec).collect());
            }
        }
        found
    }

    #[test]
    fn pieces_of_any_size_are_the_same_requests() {
        let bytes =
            b"*2\r\n$3\r\nGET\r\n$2\r\n\r\n\r\n*0\r\n  set by  hand\r\n\n*-1\r\n*1\r\n$0\r\n\r\n";
        let whole = requests_in(&[bytes]);
        let expected: [&[&[u8]]; 6] =
            [&[b"GET", b"\r\n"], &[], &[b"set", b"by", b"hand"], &[], &[], &[b""]];
        assert_eq!(
            whole,
            expected.map(|request| request.iter().map(|a| a.to_vec()).collect::<Vec<_>>())
        );
        for first in 0..=bytes.len() {
            for second in first..=bytes.len() {
                let pieces = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                assert_eq!(requests_in(&pieces), whole, "{first} {second}");
            }
        }
        assert_eq!(requests_in(&bytes.chunks(1).collect::<Vec<_>>()), whole);
    }

    #[test]
    fn what_was_given_out_takes_no_memory() {
        let mut requests = Requests::default();
        let large = [&b"*1\r\n$1000000\r\n"[..], &[b'x'; 1_000_000], b"\r\n"].concat();
        for _ in 0..10 {
            requests.feed(&large);
            assert_eq!(requests.take().unwrap().unwrap()[0].len(), 1_000_000);
        }
        assert!(requests.bytes.capacity() < 3_000_000);
        // Neither by who says no more, nor by who begins something small.
        assert_eq!(requests.take(), Ok(None));
        assert!(requests.bytes.capacity() <= KEPT_BYTES);
        requests.feed(&[&large[..], b"PI"].concat());
        requests.take().unwrap().unwrap();
        assert_eq!(requests.take(), Ok(None));
        requests.feed(b"NG\r\n");
        assert!(requests.bytes.capacity() <= KEPT_BYTES);
        assert_eq!(requests.take().unwrap().unwrap(), [b"PING"]);
    }
}
