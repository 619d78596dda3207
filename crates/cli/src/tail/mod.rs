//! `tail`: the last records of a log, and with `--follow` those to come. Changes nothing.
//!
//! Where to begin is looked for first; from there on one follower reads everything that is shown,
//! so that nothing is missed between what there is and what comes. Where its place is not in the
//! log any more, another one goes on, and stderr says from where to where.

mod filter;
mod start;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use cohort_wal::{Follow, Lsn, Record, WalError, WalOptions, WalReader};

use crate::Verdict;
use crate::failure::Failure;
use crate::output::{self, Stream};
use crate::record::{Layout, Printer};
use filter::Filter;
use start::Start;

/// Arguments of `tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Directory of the log.
    dir: PathBuf,
    /// Begin with the last so many records, of those that the filters let through.
    #[arg(short = 'n', long = "last", value_name = "COUNT", default_value_t = 10)]
    last: u64,
    /// Begin with the first record at or above this LSN instead.
    #[arg(long, value_name = "LSN", conflicts_with = "last")]
    from: Option<u64>,
    /// Go on with what comes, until interrupted. A record shows once it is witnessed as durable:
    /// by the next sync, by a heartbeat, or when the log is closed.
    #[arg(short, long)]
    follow: bool,
    /// End after so many records.
    #[arg(long, value_name = "COUNT")]
    limit: Option<u64>,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    layout: Layout,
}

/// Prints the records that are asked for.
pub(crate) fn execute(args: &TailArgs) -> Result<Verdict, Failure> {
    let (reader, start) = args.start()?;
    let mut stream = Stream::new();
    let printed = args.print(&reader, &start, &mut stream);
    // What was read before an error is part of the answer, and comes first.
    let read = stream.flush()? && printed?;
    match start.damage {
        Some(damage) if read => Err(damage.into()),
        _ => Ok(Verdict::Clean),
    }
}

impl TailArgs {
    /// Where to begin, and the log as it was when that was found.
    fn start(&self) -> Result<(WalReader, Start), Failure> {
        loop {
            let reader = open(&self.dir)?;
            let found = match self.from {
                Some(from) => start::first(&reader, Lsn::new(from)),
                None => start::last(&self.dir, &reader, self.last, &self.filter),
            };
            match found {
                // Its writer has replaced files since it was opened.
                Err(WalError::Truncated { .. }) => {}
                found => return Ok((reader, found?)),
            }
        }
    }

    /// Prints records; false when nobody reads any more.
    fn print(
        &self,
        reader: &WalReader,
        start: &Start,
        stream: &mut Stream,
    ) -> Result<bool, Failure> {
        let goes_on = self.follow && start.damage.is_none();
        let end = (!goes_on).then(|| reader.end_lsn());
        let mut records = Records::new(&self.dir, reader, start.lsn, end)?;
        let printer = Printer::new(&self.layout, reader.end_lsn());
        let from = Lsn::new(self.from.unwrap_or(0));
        let mut count = 0;
        while count < self.limit.unwrap_or(u64::MAX) {
            let Some(record) = records.next()? else { break };
            if record.lsn() < from || !self.filter.passes(record.data()) {
                continue;
            }
            count += 1;
            let written = stream.write(&printer.line(record.lsn(), record.data())?)?;
            if !written || self.follow && !stream.flush()? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// The records from a place on, whatever becomes of the log.
struct Records<'a> {
    dir: &'a Path,
    follow: Follow,
    /// Where they end, if they do.
    end: Option<Lsn>,
}

impl<'a> Records<'a> {
    fn new(
        dir: &'a Path,
        reader: &WalReader,
        from: Lsn,
        end: Option<Lsn>,
    ) -> Result<Self, WalError> {
        match reader.follow(from) {
            Err(WalError::Truncated { .. }) => {
                Ok(Self { dir, follow: follow_anew(dir, from)?, end })
            }
            follow => Ok(Self { dir, follow: follow?, end }),
        }
    }

    fn next(&mut self) -> Result<Option<Record>, WalError> {
        loop {
            let next = match self.end {
                None => self.follow.next().transpose(),
                Some(end) if self.follow.next_lsn() >= end => return Ok(None),
                Some(_) => self.follow.next_timeout(Duration::ZERO),
            };
            match next {
                Err(WalError::Truncated { .. }) => {
                    self.follow = follow_anew(self.dir, self.follow.next_lsn())?;
                }
                // Beyond a pad at the end it finds what was appended since.
                Ok(Some(record)) if self.end.is_some_and(|end| record.lsn() >= end) => {
                    return Ok(None);
                }
                next => return next,
            }
        }
    }
}

/// Goes on where a follower had come to a place that is not in the log any more, and says what is
/// not shown.
fn follow_anew(dir: &Path, reached: Lsn) -> Result<Follow, WalError> {
    loop {
        let reader = open(dir)?;
        let (head, end) = (reader.head_lsn(), reader.end_lsn());
        let place = if reached < head { head } else { end };
        match reader.follow(place) {
            Err(WalError::Truncated { .. }) => {}
            follow => {
                match reached < head {
                    true => output::complain(&format_args!(
                        "the log was truncated before LSN {head}; what was not shown of it, from \
                         LSN {reached} on, is gone; going on at LSN {head}"
                    )),
                    false => output::complain(&format_args!(
                        "the log was cut off below LSN {reached}, and some of what was shown is \
                         gone; going on where it ends now, at LSN {end}"
                    )),
                }
                return follow;
            }
        }
    }
}

fn open(dir: &Path) -> Result<WalReader, WalError> {
    WalOptions::new().open_read_only(dir)
}
