//! The tables of seeded bugs are the seeded bugs.

use std::collections::BTreeSet;

use super::source::{File, files};
use super::{Finding, report};

/// Each folder of mutants and the document that has its table.
const TABLES: [(&str, &str); 2] = [
    ("loom-tests/mutants", "docs/CONCURRENCY.md"),
    ("crates/simulation/mutants", "docs/SEEDED_BUGS.md"),
];

/// A row, as the runner prints it.
fn row(file: &File) -> String {
    let name = file.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".mutant");
    let field = |field: &str| {
        let line = file.text.lines().find_map(|line| line.strip_prefix(field));
        line.unwrap_or_default().trim().to_owned()
    };
    let caught_by = field("caught by:").replace([' ', '/'], "::");
    format!("| {name} | {} | `{caught_by}` |", field("what:"))
}

/// The rows between the marks.
fn rows(document: &str) -> BTreeSet<&str> {
    let table = document.split_once("<!-- mutants:begin -->").map_or("", |(_, rest)| rest);
    let table = table.split_once("<!-- mutants:end -->").map_or("", |(table, _)| table);
    table.lines().filter(|line| line.starts_with("| ")).skip(1).collect()
}

fn differences(mutants: &[File], document: &File) -> Vec<Finding> {
    let expected: Vec<_> = mutants.iter().map(row).collect();
    let expected: BTreeSet<_> = expected.iter().map(String::as_str).collect();
    let found = rows(&document.text);
    let missing = expected.difference(&found).map(|row| format!("missing: {row}"));
    let surplus = found.difference(&expected).map(|row| format!("no such mutant: {row}"));
    missing.chain(surplus).map(|what| Finding::new(document, 1, what)).collect()
}

#[test]
fn the_tables_of_mutants_are_the_mutants() {
    let mutant = File::new("m/a.mutant", "what: w\ncaught by: lib t\n----\nx\n----\ny\n");
    let table = |rows: &str| {
        let text = format!("<!-- mutants:begin -->\n| m | w | c |\n{rows}<!-- mutants:end -->\n");
        File::new("docs/a.md", &text)
    };
    let told = |rows: &str| differences(std::slice::from_ref(&mutant), &table(rows)).len();
    assert_eq!(told("| a | w | `lib::t` |\n"), 0);
    assert_eq!((told(""), told("| a | w | `lib::u` |\n")), (1, 2));
    let mut all = Vec::new();
    for (folder, document) in TABLES {
        let (mutants, documents) = (files(&[folder], &[".mutant"]), files(&[document], &[".md"]));
        assert!(mutants.len() > 30 && documents.len() == 1, "{folder} {document}");
        all.extend(differences(&mutants, &documents[0]));
    }
    report(all, "`cargo run -p mutants -- --table` prints what the table has to say.");
}

/// A mutant that no longer fits its file, and so is no check any more.
fn misfits(mutant: &File, text: impl Fn(&str) -> Option<String>) -> Option<Finding> {
    let mut parts = mutant.text.split("----\n");
    let (head, old) = (parts.next()?, parts.next()?);
    let file = head.lines().find_map(|line| line.strip_prefix("file:"))?.trim();
    let count = text(file).map_or(0, |text| text.matches(old).count());
    let what = || format!("its old text occurs {count} times in {file}");
    (count != 1).then(|| Finding::new(mutant, 1, what()))
}

#[test]
fn every_mutant_can_be_applied() {
    let mutant = File::new("m/a.mutant", "file: src/a.rs\n----\nx\n----\ny\n----\n");
    let told = |text: &str| misfits(&mutant, |_| Some(text.to_owned())).is_some();
    assert!(!told("a\nx\nb\n") && told("a\n") && told("x\nx\n"));
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let folders = TABLES.map(|(folder, _)| folder);
    let mutants = files(&folders, &[".mutant"]);
    let text = |file: &str| std::fs::read_to_string(root.join(file)).ok();
    let all = mutants.iter().filter_map(|mutant| misfits(mutant, text)).collect();
    report(
        all,
        "A mutant that cannot be applied checks nothing. Make it fit what the code is now.",
    );
}
