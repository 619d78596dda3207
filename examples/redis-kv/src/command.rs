//! Commands: what the arguments of a request ask for.
//!
//! `SET` takes no options. What real clients send before they come to the point (`COMMAND`,
//! `CONFIG`, `CLIENT`, `HELLO`, `SELECT`) is answered with as little as contents them.

use crate::db::{Bytes, Operation};
use crate::resp::Reply;

/// What to do about a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// An operation on the tables.
    Run(Operation),
    /// Needs no database: this is the answer.
    Say(Reply),
    /// Begins a transaction.
    Multi,
    /// Runs the transaction.
    Exec,
    /// Forgets the transaction.
    Discard,
    /// Says how the server does.
    Info,
    /// Ends the connection.
    Quit,
    /// Ends the server.
    Shutdown,
}

impl Command {
    /// The command that a request means.
    ///
    /// # Errors
    /// What to tell the client.
    pub fn parse(request: &[&[u8]]) -> Result<Self, Reply> {
        let (name, rest) = request.split_first().map_or((&b""[..], request), |(n, r)| (*n, r));
        let name = name.to_ascii_uppercase();
        let keys = || rest.iter().map(|key| Bytes::from(*key)).collect();
        Ok(match (&*name, rest) {
            (b"GET", [key]) => Self::Run(Operation::Get((*key).into())),
            (b"SET", [key, value]) => Self::Run(Operation::Set((*key).into(), (*value).into())),
            (b"SET", [_, _, _, ..]) => {
                return Err(Reply::error("ERR syntax error: SET takes no options here"));
            }
            (b"DEL" | b"UNLINK", [_, ..]) => Self::Run(Operation::Del(keys())),
            (b"EXISTS", [_, ..]) => Self::Run(Operation::Exists(keys())),
            (b"DBSIZE", []) => Self::Run(Operation::DbSize),
            (b"FLUSHALL" | b"FLUSHDB", _) => Self::Run(Operation::FlushAll),
            (b"MULTI", []) => Self::Multi,
            (b"EXEC", []) => Self::Exec,
            (b"DISCARD", []) => Self::Discard,
            (b"PING", []) => Self::Say(Reply::Status("PONG".into())),
            (b"PING" | b"ECHO", [text]) => Self::Say(Reply::Bulk(Some((*text).into()))),
            (b"INFO", _) => Self::Info,
            (b"QUIT", []) => Self::Quit,
            (b"SHUTDOWN", _) => Self::Shutdown,
            (b"SELECT", [index]) if **index == *b"0" => Self::Say(Reply::OK),
            (b"SELECT", [_]) => return Err(Reply::error("ERR DB index is out of range")),
            (b"HELLO", []) => Self::Say(hello()),
            (b"HELLO", [version, ..]) if **version == *b"2" => Self::Say(hello()),
            (b"HELLO", _) => return Err(Reply::error("NOPROTO unsupported protocol version")),
            (b"COMMAND", _) => Self::Say(Reply::Array(Vec::new())),
            (b"CONFIG", [verb, name]) if verb.eq_ignore_ascii_case(b"get") => {
                Self::Say(config(name))
            }
            (b"CONFIG" | b"CLIENT", [_, ..]) => Self::Say(Reply::OK),
            (
                b"GET" | b"SET" | b"DEL" | b"UNLINK" | b"EXISTS" | b"DBSIZE" | b"MULTI" | b"EXEC"
                | b"DISCARD" | b"PING" | b"ECHO" | b"QUIT" | b"SELECT" | b"CONFIG" | b"CLIENT",
                _,
            ) => {
                let name = String::from_utf8_lossy(&name).to_ascii_lowercase();
                let what = format!("ERR wrong number of arguments for '{name}' command");
                return Err(Reply::error(what));
            }
            _ => {
                let name = String::from_utf8_lossy(name.get(..64).unwrap_or(&name)).into_owned();
                return Err(Reply::error(format!("ERR unknown command '{name}'")));
            }
        })
    }
}

fn hello() -> Reply {
    let version = [Reply::text("proto"), Reply::Integer(2)];
    let server = ["server", "redis", "version", env!("CARGO_PKG_VERSION")].map(Reply::text);
    Reply::Array(server.into_iter().chain(version).collect())
}

/// The two settings that `redis-benchmark` asks for.
fn config(name: &[u8]) -> Reply {
    let value = match name {
        b"appendonly" => "yes",
        b"save" => "",
        _ => return Reply::Array(Vec::new()),
    };
    Reply::Array(vec![Reply::Bulk(Some(name.into())), Reply::text(value)])
}
