//! `map`: what the bytes of every segment are, one strip for each. Changes nothing.
//!
//! A cell of a strip stands for an equal share of its segment's bytes, and shows what most of them
//! are; but damage shows however small it is.

use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use cohort_wal::WalError;
use cohort_wal::inspect::{Content, Inspection, Segment, Span, Standing};
use console::Style;
use serde::Serialize;

use crate::Verdict;
use crate::failure::Failure;
use crate::gone::{Gone, bounds};
use crate::ls::state;
use crate::output::{self, grouped};
use crate::progress::Progress;
use crate::terminal;

/// Bytes before the first frame of a segment.
const HEADER_BYTES: u64 = 8192;
const MIN_CELLS: usize = 8;
const SPANS_PER_LOOK: u64 = 4096;

/// Arguments of `map`.
#[derive(Debug, Args)]
pub(crate) struct MapArgs {
    /// Directory of the log.
    dir: PathBuf,
    /// Columns of a strip and its label; as wide as the terminal by default, or 80.
    #[arg(long, value_name = "COLUMNS")]
    width: Option<usize>,
    /// Print one JSON object instead of strips.
    #[arg(long)]
    json: bool,
}

/// What bytes are, as far as a map tells. The order is that of the legend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Header,
    Durable,
    Unwitnessed,
    Pad,
    Zeros,
    Torn,
    Dead,
    Damaged,
}

const KINDS: [Kind; 8] = [
    Kind::Header,
    Kind::Durable,
    Kind::Unwitnessed,
    Kind::Pad,
    Kind::Zeros,
    Kind::Torn,
    Kind::Dead,
    Kind::Damaged,
];

/// Bytes by kind.
type Tally = [u64; KINDS.len()];

/// What `map` tells. Field names are the JSON interface.
#[derive(Debug, Serialize)]
struct Map {
    path: String,
    head: Option<u64>,
    end: Option<u64>,
    /// What the characters of a strip stand for.
    legend: Vec<Sign>,
    /// Without those that a writer removed meanwhile.
    segments: Vec<Strip>,
    /// Why the log does not open, if it does not.
    refusal: Option<String>,
}

#[derive(Debug, Serialize)]
struct Sign {
    sign: char,
    kind: &'static str,
    meaning: &'static str,
}

#[derive(Debug, Serialize)]
struct Strip {
    seq: u64,
    path: String,
    bytes: u64,
    /// `live`, `active`, `dead` or `unknown`.
    state: &'static str,
    /// One sign per cell.
    strip: String,
    /// How many bytes of the file are of each kind.
    bytes_by_kind: serde_json::Map<String, serde_json::Value>,
    damage: Vec<Damage>,
}

#[derive(Debug, Serialize)]
struct Damage {
    start: Option<u64>,
    end: Option<u64>,
    offset: u64,
    why: &'static str,
}

/// Draws a log.
pub(crate) fn execute(args: &MapArgs) -> Result<Verdict, Failure> {
    let inspection = Inspection::open(&args.dir)?;
    let columns = args.width.or_else(terminal::width).unwrap_or(terminal::DEFAULT_COLUMNS);
    let map = draw(args, &inspection, columns)?;
    if args.json {
        output::print_json(&map)?;
    } else {
        output::print(&map.text(terminal::has_colours()))?;
    }
    let damaged = map.segments.iter().any(|strip| !strip.damage.is_empty());
    match inspection.refusal() {
        Some(refusal) => Err(refusal.clone().into()),
        None if damaged => Ok(Verdict::Damage),
        None => Ok(Verdict::Clean),
    }
}

fn draw(args: &MapArgs, inspection: &Inspection, columns: usize) -> Result<Map, Failure> {
    let label = label_width(inspection.segments());
    let cells = columns.saturating_sub(label + 2).max(MIN_CELLS);
    let total = inspection.segments().iter().map(|segment| segment.bytes).sum();
    let progress = Progress::bytes(total);
    let gone = Gone::default();
    let mut done = 0;
    let mut segments = Vec::new();
    for segment in inspection.segments() {
        let (base, end) = bounds(segment);
        let position = |at| progress.set_position(done + at);
        let read = || strip(inspection, segment, cells, position);
        match gone.read(base, end, read) {
            // There is nothing to draw any more.
            Err(WalError::Truncated { .. }) => {}
            strip => segments.push(strip?),
        }
        done += segment.bytes;
    }
    let lsn = |lsn: Option<cohort_wal::Lsn>| lsn.map(cohort_wal::Lsn::get);
    Ok(Map {
        path: args.dir.display().to_string(),
        head: lsn(inspection.head_lsn()),
        end: lsn(inspection.end_lsn()),
        legend: KINDS.map(Kind::sign).into(),
        segments,
        refusal: inspection.refusal().map(ToString::to_string),
    })
}

/// Reads one segment.
fn strip(
    inspection: &Inspection,
    segment: &Segment,
    cells: usize,
    position: impl Fn(u64),
) -> Result<Strip, WalError> {
    let mut cells = Cells::new(segment.bytes, cells);
    let mut damage = Vec::new();
    if let Err(why) = segment.header {
        cells.add(0, segment.bytes, Kind::Damaged);
        damage.push(Damage { start: None, end: None, offset: 0, why });
    } else {
        cells.add(0, HEADER_BYTES, Kind::Header);
        for (index, span) in (0_u64..).zip(inspection.frames(segment.seq)?) {
            let span = span?;
            cells.add(span.offset, span.bytes(), Kind::of(&span));
            if span.is_damage() {
                damage.push(Damage::from(&span));
            }
            if index.is_multiple_of(SPANS_PER_LOOK) {
                position(span.offset);
            }
        }
    }
    let by_kind = KINDS.iter().map(|kind| {
        let bytes = cells.cells.iter().map(|cell| cell[*kind as usize]).sum::<u64>();
        (kind.sign().kind.to_owned(), bytes.into())
    });
    Ok(Strip {
        seq: segment.seq,
        path: segment.path.display().to_string(),
        bytes: segment.bytes,
        state: state(segment.state),
        strip: cells.signs(),
        bytes_by_kind: by_kind.collect(),
        damage,
    })
}

/// The cells of one strip.
struct Cells {
    bytes: u64,
    cells: Vec<Tally>,
    /// Bytes are missing behind the end of the file: shown in the last cell.
    cut_short: bool,
}

impl Cells {
    /// A cell is never less than a byte.
    fn new(bytes: u64, cells: usize) -> Self {
        let count = usize::try_from(bytes).unwrap_or(usize::MAX).min(cells);
        Self { bytes, cells: vec![Tally::default(); count.max(1)], cut_short: false }
    }

    /// Where a cell begins in the file.
    fn begin(&self, index: usize) -> u64 {
        let share = u128::from(self.bytes) * index as u128 / self.cells.len() as u128;
        u64::try_from(share).unwrap_or(u64::MAX)
    }

    /// Counts the part of a range that is in the file.
    fn add(&mut self, offset: u64, bytes: u64, kind: Kind) {
        let end = offset.saturating_add(bytes).min(self.bytes);
        let last = self.cells.len() - 1;
        self.cut_short |= kind == Kind::Damaged && offset.saturating_add(bytes) > self.bytes;
        if offset >= self.bytes {
            return;
        }
        let first = u128::from(offset) * self.cells.len() as u128 / u128::from(self.bytes);
        let mut index = usize::try_from(first).unwrap_or(last).min(last);
        let mut at = offset;
        while at < end {
            let next = if index == last { end } else { self.begin(index + 1).min(end) };
            self.cells[index][kind as usize] += next.saturating_sub(at);
            at = at.max(next);
            index = (index + 1).min(last);
        }
    }

    fn signs(&self) -> String {
        let last = self.cells.len() - 1;
        let sign = |(index, cell): (usize, &Tally)| {
            let cut_short = self.cut_short && index == last;
            let damaged = cell[Kind::Damaged as usize] > 0 || cut_short;
            let most = KINDS.iter().rev().max_by_key(|kind| cell[**kind as usize]);
            let kind = if damaged { Some(&Kind::Damaged) } else { most };
            kind.map_or(' ', |kind| kind.sign().sign)
        };
        self.cells.iter().enumerate().map(sign).collect()
    }
}

impl Kind {
    fn of(span: &Span) -> Self {
        match (span.content, span.standing) {
            _ if span.is_damage() => Self::Damaged,
            (Content::Zeros, _) => Self::Zeros,
            (_, Standing::Dead | Standing::BelowHead) => Self::Dead,
            (Content::Record, Standing::Durable) => Self::Durable,
            (Content::Record, _) => Self::Unwitnessed,
            (Content::Pad, _) => Self::Pad,
            _ => Self::Torn,
        }
    }

    fn sign(self) -> Sign {
        let (sign, kind, meaning) = match self {
            Self::Header => ('h', "header", "segment header"),
            Self::Durable => ('#', "durable", "records, witnessed as durable"),
            Self::Unwitnessed => ('+', "unwitnessed", "records, not witnessed as durable"),
            Self::Pad => ('p', "pad", "pads"),
            Self::Zeros => ('.', "zeros", "zeros"),
            Self::Torn => ('?', "torn", "no frame, where none was witnessed"),
            Self::Dead => ('x', "dead", "not part of the log any more"),
            Self::Damaged => ('!', "damaged", "damage"),
        };
        Sign { sign, kind, meaning }
    }

    fn style(self) -> Style {
        let style = Style::new().force_styling(true);
        match self {
            Self::Header => style.cyan(),
            Self::Durable => style.green(),
            Self::Unwitnessed => style.yellow(),
            Self::Pad => style.blue(),
            Self::Zeros | Self::Dead => style.dim(),
            Self::Torn => style.magenta(),
            Self::Damaged => style.red().bold().reverse(),
        }
    }
}

impl From<&Span> for Damage {
    fn from(span: &Span) -> Self {
        let (start, end) = (Some(span.start.get()), Some(span.end.get()));
        Self { start, end, offset: span.offset, why: why(span.content) }
    }
}

/// Why a place is damaged that holds this and no frame.
pub(crate) fn why(content: Content) -> &'static str {
    match content {
        Content::Invalid { why } => why,
        Content::Missing => "the file ends before",
        _ => "there are only zeros",
    }
}

fn label_width(segments: &[Segment]) -> usize {
    let label = |segment: &Segment| label(segment.seq, state(segment.state), segment.bytes).len();
    segments.iter().map(label).max().unwrap_or(0)
}

fn label(seq: u64, state: &str, bytes: u64) -> String {
    format!("{seq} {state} {}", grouped(bytes))
}

/// Signs, in colours if there are any.
fn painted(signs: &str, colours: bool) -> String {
    let mut text = String::new();
    for run in signs.as_bytes().chunk_by(|a, b| a == b) {
        let run = String::from_utf8_lossy(run);
        let kind = KINDS.iter().find(|kind| run.starts_with(kind.sign().sign));
        match kind.filter(|_| colours) {
            Some(kind) => write!(text, "{}", kind.style().apply_to(run)).ok(),
            None => write!(text, "{run}").ok(),
        };
    }
    text
}

impl Map {
    fn text(&self, colours: bool) -> String {
        let mut text = String::new();
        let labels = self.segments.iter().map(|strip| label(strip.seq, strip.state, strip.bytes));
        let labels: Vec<_> = labels.collect();
        let width = labels.iter().map(String::len).max().unwrap_or(0);
        for (strip, label) in self.segments.iter().zip(labels) {
            writeln!(text, "{label:>width$}  {}", painted(&strip.strip, colours)).ok();
        }
        text.push('\n');
        let used = |sign: &&Sign| self.segments.iter().any(|s| s.strip.contains(sign.sign));
        for sign in self.legend.iter().filter(used) {
            let painted = painted(&sign.sign.to_string(), colours);
            writeln!(text, "  {painted}  {}", sign.meaning).ok();
        }
        for strip in &self.segments {
            for damage in &strip.damage {
                let range = damage.start.zip(damage.end);
                let range = range.map(|(start, end)| format!(", LSN {start} to {end}"));
                let (range, offset, why) = (range.unwrap_or_default(), damage.offset, damage.why);
                writeln!(text, "damage in {}, offset {offset}{range}: {why}", strip.path).ok();
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_share_the_bytes_and_damage_outweighs_the_rest() {
        let mut cells = Cells::new(1000, 10);
        cells.add(0, 240, Kind::Header);
        cells.add(240, 660, Kind::Durable);
        cells.add(550, 1, Kind::Damaged);
        cells.add(900, 500, Kind::Zeros);
        assert_eq!(cells.signs(), "hh###!###.");
        let counted: u64 = cells.cells.iter().flatten().sum();
        assert_eq!(counted, 1001, "what is behind the end of the file is in no cell");
    }

    #[test]
    fn a_file_that_ends_early_ends_in_damage() {
        let mut cells = Cells::new(100, 4);
        cells.add(0, 100, Kind::Durable);
        cells.add(100, 50, Kind::Damaged);
        assert_eq!(cells.signs(), "###!");
    }

    #[test]
    fn no_file_has_more_cells_than_bytes() {
        for bytes in [0, 1, 3] {
            let mut cells = Cells::new(bytes, 80);
            cells.add(0, bytes, Kind::Damaged);
            assert_eq!(cells.signs().len() as u64, bytes.max(1));
        }
    }

    #[test]
    fn colours_are_put_around_runs_and_only_where_they_are_wanted() {
        assert_eq!(painted("hh#!", false), "hh#!");
        let painted = painted("hh#!", true);
        assert!(painted.starts_with("\u{1b}[36mhh\u{1b}[0m"), "{painted:?}");
        assert_eq!(console::strip_ansi_codes(&painted), "hh#!");
    }
}
