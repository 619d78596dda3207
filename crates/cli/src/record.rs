//! How one record is printed: a line of a listing, its payload alone, or a JSON object.

use clap::{Args, ValueEnum};
use cohort_wal::Lsn;
use serde::Serialize;

use crate::failure::Failure;
use crate::output;
use crate::payload;
use crate::terminal;

/// A payload gets at least so many columns, however narrow the terminal is.
const MIN_COLUMNS: usize = 16;

/// What the lines look like.
#[derive(Debug, Args)]
pub(crate) struct Layout {
    /// Print payloads alone and whole, one on each line.
    #[arg(long, conflicts_with = "json")]
    format: Option<Format>,
    /// Show whole payloads in the listing, however long the lines get.
    #[arg(long, conflicts_with_all = ["format", "json"])]
    full: bool,
    /// Print one JSON object per record: `lsn`, `len`, the payload as `hex`, and as `utf8` or null.
    #[arg(long)]
    json: bool,
}

/// How payloads are written that stand alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Two digits for each byte.
    Hex,
    /// Text; what does not print, backslashes, and what is no UTF-8 escaped as in Rust.
    Utf8,
    /// JSON as it is, but for line ends; a payload that is none is an error.
    Json,
}

/// One record. Field names are the JSON interface.
#[derive(Debug, Serialize)]
struct Line<'a> {
    lsn: u64,
    len: usize,
    hex: String,
    utf8: Option<&'a str>,
}

/// Makes lines of records.
#[derive(Debug)]
pub(crate) struct Printer<'a> {
    layout: &'a Layout,
    lsn_width: usize,
    columns: Option<usize>,
}

impl<'a> Printer<'a> {
    /// For the terminal that stdout is, if it is one, and a log that ends at `end`.
    pub(crate) fn new(layout: &'a Layout, end: Lsn) -> Self {
        Self { layout, lsn_width: end.to_string().len(), columns: terminal::width() }
    }

    /// Whether the lines scroll by on a terminal.
    pub(crate) fn scrolls(&self) -> bool {
        self.columns.is_some()
    }

    /// The line for one record, with its end.
    pub(crate) fn line(&self, lsn: Lsn, data: &[u8]) -> Result<String, Failure> {
        if self.layout.json {
            let (hex, utf8) = (payload::hex(data), str::from_utf8(data).ok());
            return output::json_line(&Line { lsn: lsn.get(), len: data.len(), hex, utf8 });
        }
        let text = match self.layout.format {
            Some(Format::Hex) => payload::hex(data),
            Some(Format::Utf8) => payload::escaped(data),
            Some(Format::Json) => payload::json(data).ok_or_else(|| no_json(lsn))?,
            None => {
                let prefix = format!("{:>1$}  {2:>8}  ", lsn.get(), self.lsn_width, data.len());
                let room = self.columns.filter(|_| !self.layout.full);
                let room = room.map(|columns| columns.saturating_sub(prefix.len()));
                prefix
                    + &room.map_or_else(
                        || payload::escaped(data),
                        |room| payload::shortened(data, room.max(MIN_COLUMNS)),
                    )
            }
        };
        Ok(text + "\n")
    }
}

fn no_json(lsn: Lsn) -> Failure {
    Failure::Usage(format!("the record at LSN {lsn} is not JSON; leave --format away, or try hex"))
}
