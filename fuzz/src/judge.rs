//! Opens files and decides whether what became of them is right.
//!
//! I1. Nothing panics, hangs, or reads or asks for more than there is.
//! I2. A refused open changes no byte, and its error names a file.
//! I3. What opens takes a new record, closes, and shows the same again, and that record.
//! I4. Files without a forgery are refused, or say so on reading, or show all records, or end
//!     where the newest surviving witness lets them: exactly what [`Layout`] works out.
//!
//! [`Layout`]: crate::layout::Layout

use cohort_wal::{Wal, WalError};

use crate::layout::{Opened, Right};
use crate::sample::{CONTROL, Sample, is_numbered, plain};
use crate::shown::Shown;
use crate::store::{CowStore, Files, PLACE};

/// The seed of random bytes that no sample has drawn.
const SEED: u64 = 1 << 30;

/// What a log may show.
#[derive(Debug, Clone, Copy)]
pub(crate) enum May<'a> {
    /// What must become of these files is known.
    Be(Right),
    /// The first records of one of these, and no others.
    Begin(&'a [&'a Sample]),
    /// Whatever was forged.
    ShowAnything,
}

/// Judges files that are those of a sample, but for some bytes.
pub(crate) fn judge(sample: &Sample, files: &Files) {
    let may = match sample.is_genuine(files) {
        true => May::Be(sample.layout.rule(&plain(files)).right),
        false => May::ShowAnything,
    };
    judge_as(sample, files, may);
}

/// Judges files by what they may show.
pub(crate) fn judge_as(sample: &Sample, files: &Files, may: May<'_>) {
    let store = CowStore::new(files, SEED);
    let opened = sample.options.clone().open_store(store.clone());
    let bytes: u64 = files.values().map(|file| file.len() as u64).sum();
    check_reads(&store, bytes, may);
    let wal = match opened {
        Ok(wal) => wal,
        Err(error) => {
            assert!(store.files() == *files, "a refused open changed something: {error}");
            check_refusal(sample, files, &error, may);
            return;
        }
    };
    let shown = Shown::by(&wal);
    let end = wal.end_lsn().get();
    check_shown(sample, &shown, end, may);
    go_on(sample, store, wal, shown, may);
}

fn check_reads(store: &CowStore, bytes: u64, may: May<'_>) {
    // A look at each header, a scan, a copy of the tail. Forged lengths may cost the fixed budget.
    let budget = if matches!(may, May::ShowAnything) { 64 << 20 } else { 0 };
    let bound = 6 * bytes + (256 << 10) + budget;
    let read = store.bytes_read();
    assert!(read <= bound, "opening {bytes} bytes has read {read}");
}

/// An open is refused because of the files, and says which; without forgery one that was touched
/// or is missing.
fn check_refusal(sample: &Sample, files: &Files, error: &WalError, may: May<'_>) {
    let text = error.to_string();
    let path = match error {
        WalError::Corruption { path, .. } | WalError::NotALog { path, .. } => path,
        WalError::NotFound { path } if !files.keys().any(|name| is_ours(name)) => path,
        WalError::UnsupportedVersion { path, .. } if matches!(may, May::ShowAnything) => path,
        WalError::LsnExhausted | WalError::FeatureMissing { .. }
            if matches!(may, May::ShowAnything) =>
        {
            return;
        }
        other => panic!("refused with {other:?}"),
    };
    assert!(path.starts_with(PLACE), "{text}: names {}", path.display());
    assert!(text.contains(&*path.to_string_lossy()), "{text}: does not say {}", path.display());
    if let May::Be(right) = may {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let touched = sample.files.get(name) != files.get(name) || !files.contains_key(name);
        assert!(touched, "{text}: blames what nobody touched");
        assert!(right == Right::Refused, "refused for nothing, must be {right:?}: {text}");
    }
}

fn is_ours(name: &str) -> bool {
    name == CONTROL || is_numbered(name, ".wal") || is_numbered(name, ".snap")
}

/// What is shown is what may be.
fn check_shown(sample: &Sample, shown: &Shown, end: u64, may: May<'_>) {
    let whole = &sample.records;
    match may {
        May::ShowAnything => {}
        May::Begin(samples) => {
            let known = samples.iter().any(|sample| sample.has_shown(shown));
            assert!(known, "SILENT: shows what is no prefix of any log");
        }
        May::Be(right) => {
            assert!(shown.is_prefix_of(whole), "SILENT: shows what is no prefix");
            let (head, count) = (shown.head, shown.len());
            let became = match shown.error {
                Some(_) => Right::Refused,
                None => Right::Opens(Opened { head, end, image: shown.image() }),
            };
            let error = shown.error.as_deref().unwrap_or("no error");
            assert!(became == right, "SILENT: {became:?}, {error}, must be {right:?}");
            let complete = shown.error.is_some() || count == whole.below(end) - whole.below(head);
            assert!(complete, "SILENT: {count} from {head} below {end}");
        }
    }
}

/// What opened once takes a record, closes, and opens again as it was, and that record.
fn go_on(sample: &Sample, store: CowStore, wal: Wal<CowStore>, mut shown: Shown, may: May<'_>) {
    // Forged numbers may leave no room for another LSN, segment or epoch.
    let exhausted =
        |e: &WalError| matches!(e, WalError::LsnExhausted) && matches!(may, May::ShowAnything);
    match wal.append(b"appended").and_then(|lsn| wal.close().map(|()| lsn)) {
        Ok(lsn) if shown.error.is_none() => shown.push(lsn.get(), b"appended"),
        Ok(_) => {}
        Err(error) if exhausted(&error) => return,
        Err(error) => panic!("a log that opened takes no record: {error}"),
    }
    drop(wal);
    match sample.options.clone().open_store(store) {
        Ok(wal) => assert!(Shown::by(&wal) == shown, "shows something else the second time"),
        Err(error) if exhausted(&error) => {}
        Err(error) => panic!("what opened once does not open again: {error}"),
    }
}
