//! The source and the documents keep the rules of this project.
//!
//! Method: the files of the repository are read as text, with comments and literals blanked where
//! a rule is about code. Every rule is a function from a file to findings; before it is applied to
//! the repository it must find something in a sample that breaks it, and nothing in one that
//! keeps it, so that no rule passes because it looks at nothing.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

#[path = "tidy/atomics.rs"]
mod atomics;
#[path = "tidy/documents.rs"]
mod documents;
#[path = "tidy/layers.rs"]
mod layers;
#[path = "tidy/mutants.rs"]
mod mutants;
#[path = "tidy/primitives.rs"]
mod primitives;
#[path = "tidy/shape.rs"]
mod shape;
#[path = "tidy/source.rs"]
mod source;

use source::File;

/// Something that breaks a rule: where, and what.
struct Finding {
    path: String,
    line: usize,
    what: String,
}

impl Finding {
    fn new(file: &File, line: usize, what: impl Into<String>) -> Self {
        Self { path: file.path.clone(), line, what: what.into() }
    }
}

/// A rule about one file at a time.
struct Rule {
    /// What to do about a finding.
    advice: &'static str,
    find: fn(&File) -> Vec<Finding>,
}

impl Rule {
    /// Tries the rule on samples, `(path, text)`, that break it and on samples that keep it.
    fn proven(self, broken: &[(&str, &str)], kept: &[(&str, &str)]) -> Self {
        for (path, text) in broken {
            let found = (self.find)(&File::new(path, text));
            assert!(!found.is_empty(), "the rule overlooks what breaks it: {path}\n{text}");
        }
        for (path, text) in kept {
            let found = (self.find)(&File::new(path, text));
            let first = found.first().map(|finding| finding.what.as_str());
            assert_eq!(first, None, "the rule finds what keeps it: {path}\n{text}");
        }
        self
    }

    fn holds_in(self, files: &[File]) {
        assert!(!files.is_empty(), "a rule that looks at nothing proves nothing");
        report(files.iter().flat_map(|file| (self.find)(file)).collect(), self.advice);
    }
}

/// Fails with every finding and what to do about them.
fn report(findings: Vec<Finding>, advice: &str) {
    let lines = findings.iter().map(|f| format!("  {}:{}: {}\n", f.path, f.line, f.what));
    assert!(findings.is_empty(), "\n{}\n{advice}\n", lines.collect::<String>());
}
