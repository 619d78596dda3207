//! What goes to stdout and stderr, and how it looks.
//!
//! A reader that closes our stdout early has what it wanted: that is no failure, and never a panic.

use std::fmt::Write as _;
use std::io::{self, BufWriter, StdoutLock, Write as _};
use std::path::Path;

use serde::Serialize;

use crate::failure::Failure;

const STREAM_BYTES: usize = 64 << 10;

/// Writes one result to stdout.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    whether_read(stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush())).map(drop)
}

/// Writes one result to stdout as a single JSON object on one line.
pub(crate) fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    print(&json_line(value)?)
}

/// A JSON object on one line.
pub(crate) fn json_line<T: Serialize>(value: &T) -> Result<String, Failure> {
    let mut text = serde_json::to_string(value)
        .map_err(|error| Failure::io("encode", Path::new("stdout"), error.into()))?;
    text.push('\n');
    Ok(text)
}

/// Results that come one after another, to stdout.
#[derive(Debug)]
pub(crate) struct Stream {
    stdout: BufWriter<StdoutLock<'static>>,
}

impl Stream {
    pub(crate) fn new() -> Self {
        Self { stdout: BufWriter::with_capacity(STREAM_BYTES, io::stdout().lock()) }
    }

    /// Writes one result. False when nobody reads any more.
    pub(crate) fn write(&mut self, text: &str) -> Result<bool, Failure> {
        whether_read(self.stdout.write_all(text.as_bytes()))
    }

    /// Hands on what is buffered. False when nobody reads any more.
    pub(crate) fn flush(&mut self) -> Result<bool, Failure> {
        whether_read(self.stdout.flush())
    }
}

fn whether_read(written: io::Result<()>) -> Result<bool, Failure> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::io("write", Path::new("stdout"), error)),
    }
}

/// Says on stderr why the command failed. There is nobody to tell if that fails too.
pub(crate) fn complain(what: &dyn std::fmt::Display) {
    writeln!(io::stderr().lock(), "cohort-wal: {what}").ok();
}

/// Lines of a label and a value, aligned.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    lines: Vec<(&'static str, String)>,
}

impl Facts {
    pub(crate) fn add(&mut self, label: &'static str, value: impl Into<String>) {
        self.lines.push((label, value.into()));
    }

    pub(crate) fn render(&self) -> String {
        let width = self.lines.iter().map(|(label, _)| label.len()).max().unwrap_or(0);
        self.lines.iter().fold(String::new(), |mut text, (label, value)| {
            writeln!(text, "{label:width$}  {value}").ok();
            text
        })
    }
}

/// Right-aligned columns below headings; the last column is left-aligned.
pub(crate) fn columns(headings: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(String::len);
        cells.chain(headings.get(column).map(|heading| heading.len())).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..headings.len()).map(width).collect();
    let mut text = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        for (column, cell) in cells.enumerate() {
            let width = widths.get(column).copied().unwrap_or(0);
            if column + 1 == widths.len() {
                write!(text, "  {cell}").ok();
            } else {
                write!(text, "  {cell:>width$}").ok();
            }
        }
        text.push('\n');
    };
    line(&mut headings.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text
}

/// A count with its digits grouped by three.
pub(crate) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate without decimals, its digits grouped.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a float cast saturates, and a rate is neither negative nor beyond u64"
)]
pub(crate) fn grouped_rate(rate: f64) -> String {
    grouped(rate.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(grouped_rate(1_999.6), "2,000");
    }

    #[test]
    fn labels_and_columns_line_up() {
        let mut facts = Facts::default();
        facts.add("a", "1");
        facts.add("long", "2");
        assert_eq!(facts.render(), "a     1\nlong  2\n");
        let rows = vec![vec!["7".to_owned(), "x".to_owned()]];
        assert_eq!(columns(&["seq", "file"], &rows), "  seq  file\n    7  x\n");
    }
}
