//! Every golden log says what it said when it was made.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cohort_wal::{WalError, WalOptions};

use super::common::directory;
use super::expected::{Said, records};
use super::independent::{Files, Verdict, crc, read};
use super::{options, store_of, test_keys};

/// Of all names and bytes below `tests/fixtures/v1/`, but for the page that describes them.
const FROZEN: u64 = 1_941_608_436;

/// A log as it lies there.
pub(crate) struct Golden {
    pub(crate) name: String,
    pub(crate) needs: Vec<String>,
    /// What it must say.
    pub(crate) text: String,
    pub(crate) files: Files,
}

impl Golden {
    /// Whether this build has all that it takes.
    pub(crate) fn is_readable(&self) -> bool {
        self.needs.iter().all(|need| match &need[..] {
            "lz4" => cfg!(feature = "lz4"),
            "aead" => cfg!(feature = "aead"),
            other => panic!("{other} is no feature"),
        })
    }

    pub(crate) fn options(&self) -> WalOptions {
        options(&self.needs)
    }

    /// A copy in a directory.
    pub(crate) fn copy(&self) -> tempfile::TempDir {
        self.copy_of(&self.files)
    }

    pub(crate) fn copy_of(&self, files: &Files) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|(name, file)| fs::write(dir.path().join(name), file).unwrap());
        dir
    }
}

fn place() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1")
}

fn names() -> BTreeSet<String> {
    let entries = fs::read_dir(place()).unwrap().map(Result::unwrap);
    let folders = entries.filter(|entry| entry.path().is_dir());
    folders.map(|entry| entry.file_name().into_string().unwrap()).collect()
}

pub(crate) fn golden(name: &str) -> Golden {
    let place = place().join(name);
    let expected = fs::read_to_string(place.join("expected.txt")).unwrap();
    let (needs, text) = expected.split_once('\n').unwrap();
    let needs = needs.strip_prefix("needs").unwrap().split_whitespace().map(str::to_owned);
    let files = directory(&place.join("log"));
    Golden { name: name.to_owned(), needs: needs.collect(), text: text.to_owned(), files }
}

pub(crate) fn all() -> Vec<Golden> {
    let all: Vec<_> = names().iter().map(|name| golden(name)).collect();
    assert!(all.len() >= 19, "the golden logs are there");
    all
}

#[test]
fn golden_logs_are_never_changed() {
    let mut sums = Vec::new();
    for name in names() {
        for file in ["expected.txt", "log"] {
            let path = place().join(&name).join(file);
            let files = if path.is_dir() {
                directory(&path)
            } else {
                Files::from([(file.to_owned(), fs::read(&path).unwrap())])
            };
            sums.extend(
                files.iter().map(|(file, bytes)| crc(&[name.as_bytes(), file.as_bytes(), bytes])),
            );
        }
    }
    let sums: Vec<_> = sums.iter().flat_map(|sum| sum.to_le_bytes()).collect();
    assert_eq!(crc(&[&sums]), FROZEN, "add a directory for another version instead");
}

#[test]
fn an_independent_reader_sees_in_every_golden_log_what_was_appended() {
    for golden in all() {
        let log = read(&golden.files, &test_keys());
        let said = log.and_then(|log| Said::by_reader(&log));
        let text = said.unwrap_or_else(|why| panic!("{}: {why:?}", golden.name)).to_text();
        assert_eq!(text, golden.text, "{}", golden.name);
    }
}

#[test]
fn every_golden_log_shows_what_was_appended() {
    for golden in all().into_iter().filter(Golden::is_readable) {
        let dir = golden.copy();
        let said = Said::by_crate(&golden.files, dir.path(), &golden.options());
        let text = said.unwrap_or_else(|why| panic!("{}: {why}", golden.name)).to_text();
        assert_eq!(text, golden.text, "{}", golden.name);
        assert!(directory(dir.path()) == golden.files, "{}: reading changes nothing", golden.name);
    }
}

#[test]
fn a_golden_log_that_is_refused_stays_as_it_was() {
    let mut refused = 0;
    for golden in all().into_iter().filter(Golden::is_readable) {
        let dir = golden.copy();
        if golden.options().open(dir.path()).is_err() {
            refused += 1;
            assert!(golden.text.contains("Refused"), "{}", golden.name);
            assert!(directory(dir.path()) == golden.files, "{}", golden.name);
        }
    }
    assert_eq!(refused, 1);
}

#[test]
fn a_golden_log_goes_on() {
    for golden in all().into_iter().filter(Golden::is_readable) {
        let store = store_of(&golden.files);
        let Ok(wal) = golden.options().open_store(store.clone()) else { continue };
        let (mut before, flaw) = records(&wal).unwrap();
        let appended = [&b"appended"[..], b"", &[7; 3000]];
        let lsns = appended.map(|payload| wal.append(payload).unwrap().get());
        wal.close().unwrap();
        if flaw.is_none() {
            before.extend(lsns.into_iter().zip(appended.map(<[u8]>::to_vec)));
        }
        let files = store.snapshot().into_files();
        let log = read(&files, &test_keys()).unwrap();
        assert_eq!(log.records(), before, "{}", golden.name);
        let verdict = flaw.map_or(Verdict::Whole, |lsn| Verdict::Flawed(lsn.get()));
        assert_eq!((log.verdict, log.is_closed), (verdict, true), "{}", golden.name);
        let wal = golden.options().open_store(store).unwrap();
        assert_eq!(records(&wal).unwrap(), (before, flaw), "{}", golden.name);
    }
}

#[test]
fn a_build_that_lacks_a_feature_says_so_and_changes_nothing() {
    for golden in all().into_iter().filter(|golden| !golden.is_readable()) {
        let (name, dir) = (&golden.name, golden.copy());
        let missing = |error: WalError| match error {
            WalError::FeatureMissing { feature } => feature,
            other => panic!("{name}: {other}"),
        };
        let needs_key = golden.needs.iter().any(|need| need == "aead");
        if needs_key && !cfg!(feature = "aead") {
            let opened = [
                golden.options().open(dir.path()).map(drop),
                golden.options().open_read_only(dir.path()).map(drop),
                golden.options().salvage(dir.path()).map(drop),
            ];
            let features = opened.map(|opened| opened.map_err(missing).unwrap_err());
            assert_eq!(features, ["aead"; 3], "{name}");
        } else {
            let reader = golden.options().open_read_only(dir.path()).unwrap();
            let read: Result<Vec<_>, _> = reader.iter().unwrap().collect();
            assert_eq!(missing(read.unwrap_err()), "lz4", "{name}");
        }
        assert!(directory(dir.path()) == golden.files, "{name}: unchanged");
    }
}

/// What this version makes says the same. With `COHORT_WAL_GOLDEN` in the environment the logs are
/// written into that directory, which must not be there yet.
#[cfg(all(feature = "lz4", feature = "aead"))]
#[test]
fn what_makes_golden_logs_makes_logs_that_say_what_was_appended() {
    let made = super::make::all().unwrap();
    let into = std::env::var_os("COHORT_WAL_GOLDEN").map(PathBuf::from);
    if let Some(into) = &into {
        fs::create_dir(into).unwrap();
    }
    for fixture in &made {
        let log = read(&fixture.files, &test_keys());
        let said = log.and_then(|log| Said::by_reader(&log));
        let said = said.unwrap_or_else(|why| panic!("{}: {why:?}", fixture.name));
        assert_eq!(said.to_text(), fixture.said.to_text(), "{}", fixture.name);
        assert!(said == fixture.said, "{}: the payloads", fixture.name);
        if let Some(into) = &into {
            let (place, needs) = (into.join(fixture.name), fixture.needs.join(" "));
            fs::create_dir_all(place.join("log")).unwrap();
            let expected = format!("needs {needs}").trim_end().to_owned();
            fs::write(place.join("expected.txt"), format!("{expected}\n{}", said.to_text()))
                .unwrap();
            for (name, file) in &fixture.files {
                fs::write(place.join("log").join(name), file).unwrap();
            }
        }
    }
    let made: BTreeSet<_> = made.iter().map(|fixture| fixture.name.to_owned()).collect();
    if into.is_none() {
        assert_eq!(made, names(), "every golden log is there");
    }
}
