//! [`Plan`]: what to measure, as the command line says it.

use std::path::PathBuf;

use clap::Args;

use crate::Fallible;
use crate::cell::Cell;
use crate::clock::Duration;
use crate::peers::{self, Peer};
use crate::records::MIN_BYTES;

#[derive(Debug, Clone, Args)]
pub(crate) struct Plan {
    /// How many threads share a log.
    #[arg(long, value_delimiter = ',', default_value = "1,4,8,32,64")]
    pub(crate) threads: Vec<usize>,
    /// Bytes of a record, at least 16.
    #[arg(long, value_delimiter = ',', default_value = "64,1024")]
    pub(crate) size: Vec<usize>,
    /// How long each run takes.
    #[arg(long, default_value_t = 2.0)]
    pub(crate) seconds: f64,
    /// Runs of each peer, of which the median counts.
    #[arg(long, default_value_t = 5)]
    pub(crate) rounds: usize,
    /// Only these peers.
    #[arg(long = "peer", value_delimiter = ',')]
    pub(crate) peer: Vec<String>,
    /// Where the logs are made, and removed afterwards.
    #[arg(long, default_value = ".")]
    pub(crate) dir: PathBuf,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    pub(crate) json: bool,
    /// open-loop: shares of each peer's capacity, in percent.
    #[arg(long, value_delimiter = ',', default_value = "10,25,50,75,90,95")]
    pub(crate) percents: Vec<f64>,
    /// replay: records in each log.
    #[arg(long, default_value_t = 500_000)]
    pub(crate) records: u64,
    /// delay: microseconds that a sync takes.
    #[arg(long, value_delimiter = ',', default_value = "100,200,1000,5000")]
    pub(crate) delay_us: Vec<u64>,
    /// delay: adaptive, off, or a window in microseconds.
    #[arg(long, value_delimiter = ',', default_value = "adaptive,off,100,500,1000")]
    pub(crate) gather: Vec<String>,
    /// delay: how long a thread thinks between commits, on average, in syncs.
    #[arg(long, value_delimiter = ',', default_value = "0,1")]
    pub(crate) think: Vec<f64>,
}

impl Plan {
    pub(crate) fn peers(&self) -> Fallible<Vec<Peer>> {
        peers::named(&self.peer)
    }

    pub(crate) fn sizes(&self) -> Fallible<Vec<usize>> {
        if self.rounds == 0 {
            return Err("no rounds measure nothing".into());
        }
        match self.size.iter().find(|&&size| size < MIN_BYTES) {
            Some(size) => Err(format!("records of {size} bytes cannot say whose they are").into()),
            None => Ok(self.size.clone()),
        }
    }

    /// Every size with every number of threads.
    pub(crate) fn cells(&self) -> Fallible<Vec<Cell>> {
        if self.threads.contains(&0) {
            return Err("no threads measure nothing".into());
        }
        let window = self.window()?;
        let mut cells = Vec::new();
        for size in self.sizes()? {
            cells.extend(self.threads.iter().map(|&threads| Cell { threads, size, window }));
        }
        Ok(cells)
    }

    pub(crate) fn window(&self) -> Fallible<Duration> {
        Ok(Duration::try_from_secs_f64(self.seconds)?)
    }

    /// How long the floor is measured before each run: a tenth of it, and half a second at most.
    pub(crate) fn slice(&self) -> Duration {
        Duration::try_from_secs_f64(self.seconds / 10.0)
            .unwrap_or_default()
            .min(Duration::from_millis(500))
    }
}
