//! Which module may import which.

use std::collections::BTreeSet;

use super::source::{File, files, is_word};
use super::{Finding, Rule, report};

/// A module of the library: its layer, and every module it imports.
type Row = (&'static str, u8, &'static [&'static str]);

const TABLE: [Row; 24] = [
    ("checksum", 0, &[]),
    ("sync", 0, &[]),
    ("lsn", 0, &[]),
    ("error", 0, &["lsn", "sync"]),
    ("observe", 0, &["error", "sync"]),
    ("stats", 0, &["sync"]),
    ("options", 0, &["compress", "crypt", "error", "format", "lsn", "sync"]),
    ("compress", 0, &[]),
    ("crypt", 1, &["error", "sync"]),
    ("ring", 1, &["lsn", "sync"]),
    ("format", 1, &["checksum", "lsn"]),
    ("store", 1, &["sync"]),
    ("codec", 2, &["checksum", "compress", "crypt", "error", "format", "options", "sync"]),
    ("commit", 2, &["error", "lsn", "observe", "options", "stats", "sync"]),
    ("control", 2, &["error", "format", "store", "sync"]),
    ("scan", 2, &["checksum", "crypt", "error", "format", "lsn", "store"]),
    ("segments", 2, &["crypt", "error", "format", "lsn", "store", "sync"]),
    ("snapshot", 2, &["crypt", "error", "format", "lsn", "store", "sync"]),
    (
        "flush",
        3,
        &[
            "codec", "commit", "control", "crypt", "error", "format", "lsn", "observe", "options",
            "ring", "segments", "snapshot", "stats", "store", "sync",
        ],
    ),
    (
        "recovery",
        3,
        &[
            "codec", "control", "crypt", "error", "format", "lsn", "observe", "options", "scan",
            "segments", "snapshot", "store", "sync",
        ],
    ),
    (
        "reader",
        3,
        &[
            "compress", "crypt", "error", "format", "lsn", "options", "recovery", "scan",
            "segments", "snapshot", "store", "sync",
        ],
    ),
    (
        "inspect",
        4,
        &[
            "checksum", "crypt", "error", "format", "lsn", "reader", "recovery", "scan", "store",
            "sync",
        ],
    ),
    (
        "wal",
        4,
        &[
            "codec", "commit", "error", "flush", "format", "lsn", "options", "reader", "recovery",
            "ring", "segments", "snapshot", "stats", "store", "sync",
        ],
    ),
    // Names what is public, and states no rule of its own.
    (
        "lib",
        5,
        &[
            "checksum", "codec", "commit", "compress", "control", "crypt", "error", "flush",
            "format", "inspect", "lsn", "observe", "options", "reader", "recovery", "ring", "scan",
            "segments", "snapshot", "stats", "store", "sync", "wal",
        ],
    ),
];

/// Imports that do not go down a layer, each for a reason.
const SIDEWAYS: [(&str, &str, &str); 12] = [
    ("error", "lsn", "an error names places in the log"),
    ("error", "sync", "an error shares its cause"),
    ("observe", "error", "a panic of an observer is disposed of as one of a store"),
    ("observe", "sync", "a duration is taken from the clock"),
    ("stats", "sync", "a statistic is a counter"),
    ("options", "compress", "one of the options"),
    ("options", "crypt", "keys are an option, and a tag adds to what a record takes"),
    ("options", "error", "an option is refused by name"),
    ("options", "sync", "keys are shared"),
    ("options", "lsn", "a demand names a place in the log"),
    ("options", "format", "limits are in encoded bytes, so they need the size of a frame"),
    ("reader", "recovery", "a reader without the lock finds the end as recovery does"),
];

const ADVICE: &str = "A module imports only layers below its own, so that it can be read and \
                      tested without those above. Move what is shared down, or pass it in. A \
                      new import is a line in TABLE, in tests/tidy/layers.rs, and DESIGN knows it.";

fn module(file: &File) -> &str {
    let path = file.path.strip_prefix("src/").unwrap_or(&file.path);
    path.split(['/', '.']).next().unwrap_or_default()
}

fn row(name: &str) -> Option<&'static Row> {
    TABLE.iter().find(|row| row.0 == name)
}

/// Every `crate::name` in code that no test module owns, as (line, name).
fn imports(file: &File) -> Vec<(usize, String)> {
    let code = file.production();
    let line = |at: usize| code[..at].matches('\n').count() + 1;
    let hits = code.match_indices("crate::");
    hits.map(|(at, path)| {
        let rest = &code[at + path.len()..];
        (line(at), rest.chars().take_while(|c| is_word(*c)).collect())
    })
    .collect()
}

fn upward(file: &File) -> Vec<Finding> {
    let own = module(file);
    let Some((_, _, allowed)) = row(own) else {
        return vec![Finding::new(file, 1, format!("module `{own}` has no layer"))];
    };
    let wrong = |name: &String| name != own && !allowed.contains(&name.as_str());
    let found = imports(file).into_iter().filter(|(_, name)| wrong(name));
    let mut found: Vec<_> =
        found.map(|(line, name)| Finding::new(file, line, format!("`crate::{name}`"))).collect();
    // Paths through `super` would hide an import of another module.
    let code = file.production();
    let top = file.path.ends_with("/mod.rs") || file.path.matches('/').count() == 1;
    let hidden = TABLE.iter().map(|row| format!("super::{}", row.0)).filter(|_| top);
    for path in hidden.chain(["super::super".to_owned()]) {
        let lines = File::lines_with(&code, &path).into_iter();
        found.extend(lines.map(|line| Finding::new(file, line, format!("`{path}`"))));
    }
    found
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let broken = [
        ("src/ring/mod.rs", "use crate::format::frame;\n"),
        ("src/format/a.rs", "fn f() { crate::store::g() }\n"),
        ("src/commit/mod.rs", "use crate::flush::Engine;\n"),
        ("src/commit/mod.rs", "use super::flush::Engine;\n"),
        ("src/commit/a.rs", "use super::super::flush::Engine;\n"),
        ("src/commit/a.rs", "use crate::{error, flush};\n"),
        ("src/commit/a.rs", "use crate::Wal;\n"),
        ("src/brand_new.rs", "\n"),
    ];
    let kept = [
        ("src/ring/mod.rs", "use crate::sync::Arc;\n//! [`Wal`](crate::wal::Wal)\n"),
        ("src/ring/tail.rs", "use super::slots;\n#[cfg(test)]\nmod tests { use crate::wal; }\n"),
    ];
    Rule { advice: ADVICE, find: upward }
        .proven(&broken, &kept)
        .holds_in(&files(&["src"], &[".rs"]));
}

fn rises(table: &[Row], sideways: &[(&str, &str, &str)]) -> Vec<String> {
    let layer = |name: &str| table.iter().find(|row| row.0 == name).map_or(u8::MAX, |row| row.1);
    let excused = |from: &str, to: &str| sideways.iter().any(|s| s.0 == from && s.1 == to);
    let edges = table.iter().flat_map(|row| row.2.iter().map(move |to| (row.0, row.1, *to)));
    edges
        .filter(|(from, own, to)| layer(to) >= *own && !excused(from, to))
        .map(|(from, _, to)| format!("{from} imports {to}"))
        .collect()
}

#[test]
fn the_table_goes_down_but_for_named_exceptions() {
    assert!(!rises(&[("a", 1, &["b"]), ("b", 1, &[])], &[]).is_empty());
    assert!(!rises(&[("a", 1, &["b"]), ("b", 2, &[])], &[("b", "a", "")]).is_empty());
    assert!(rises(&[("a", 1, &["b"]), ("b", 0, &[])], &[]).is_empty());
    let rises = rises(&TABLE, &SIDEWAYS);
    assert!(rises.is_empty(), "{rises:?}\n{ADVICE}");
    for (from, to, _) in SIDEWAYS {
        let known = row(from).is_some_and(|row| row.2.contains(&to));
        assert!(known, "{from} -> {to} is excused and not in TABLE: remove the exception");
    }
}

#[test]
fn the_table_has_every_module_and_no_import_that_is_gone() {
    let files = files(&["src"], &[".rs"]);
    let modules: BTreeSet<&str> = files.iter().map(module).collect();
    let missing: Vec<_> = TABLE.iter().filter(|row| !modules.contains(row.0)).collect();
    assert!(missing.is_empty(), "no such module any more, remove its row: {missing:?}");
    let mut findings = Vec::new();
    for (name, _, allowed) in TABLE.iter().filter(|row| row.0 != "lib") {
        let own: Vec<_> = files.iter().filter(|file| module(file) == *name).collect();
        let used: BTreeSet<_> =
            own.iter().flat_map(|file| imports(file)).map(|(_, name)| name).collect();
        let gone = allowed.iter().filter(|to| !used.contains(**to));
        let first = own.first().expect("a module has a file");
        findings.extend(gone.map(|to| Finding::new(first, 1, format!("no longer uses `{to}`"))));
    }
    report(findings, "Take the import out of TABLE, in tests/tidy/layers.rs.");
}
