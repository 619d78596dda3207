//! Documents agree with the repository: links, paths, versions, guarantees.

use std::collections::BTreeSet;

use super::source::{File, files, root};
use super::{Finding, Rule, report};

fn documents() -> Vec<File> {
    files(&["README.md", "CHANGELOG.md", "docs", "crates", "loom-tests", "shuttle-tests"], &[".md"])
}

/// The targets of links that are not addresses, as (line, target).
fn links(file: &File) -> Vec<(usize, &str)> {
    let lines = (1..).zip(file.text.lines());
    let targets = lines.flat_map(|(number, line)| {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')'));
        targets.map(move |(target, _)| (number, target))
    });
    targets.filter(|(_, target)| !target.contains("://")).collect()
}

/// The anchor that a heading gets.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

fn broken_links(file: &File) -> Vec<Finding> {
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let broken = links(file).into_iter().filter(|(_, target)| {
        let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
        let place = root().join(folder).join(path);
        let text = match path {
            "" => file.text.clone(),
            _ if fragment.is_empty() => return !place.exists(),
            _ => std::fs::read_to_string(place).unwrap_or_default(),
        };
        let headings = text.lines().filter(|line| line.starts_with('#'));
        !headings.map(anchor).any(|anchor| anchor == fragment)
    });
    broken.map(|(line, target)| Finding::new(file, line, format!("`{target}`"))).collect()
}

#[test]
fn links_lead_somewhere() {
    let broken = [
        ("docs/a.md", "[x](NOWHERE.md)"),
        ("docs/a.md", "[x](README.md)\n[y](../README.md#no-such-heading)"),
        ("docs/a.md", "# One\n[x](#two)"),
    ];
    let kept = [
        ("docs/a.md", "[x](FORMAT.md) [y](../Cargo.toml) [z](adr/) [w](https://example.org)"),
        ("docs/a.md", "# One, two\n[x](#one-two) [y](FORMAT.md#segment-header)"),
    ];
    let advice = "The link names no file of the repository, or no heading in it.";
    Rule { advice, find: broken_links }.proven(&broken, &kept).holds_in(&documents());
}

/// Paths in backticks that do not exist.
fn unknown_paths(file: &File) -> Vec<Finding> {
    let folders =
        ["src/", "tests/", "docs/", "crates/", "loom-tests/", "shuttle-tests/", "benches/", ".ci/"];
    let lines = (1..).zip(file.text.lines());
    let quoted = lines.flat_map(|(number, line)| {
        line.split('`').skip(1).step_by(2).map(move |word| (number, word))
    });
    let paths = quoted.filter(|(_, word)| {
        let plain = !word.contains([' ', '*', '<', '{']);
        plain && folders.iter().any(|folder| word.starts_with(folder))
    });
    let path = |word: &str| word.split("::").next().unwrap_or_default().to_owned();
    let unknown = paths.filter(|(_, word)| !root().join(path(word)).exists());
    unknown.map(|(line, word)| Finding::new(file, line, format!("`{word}`"))).collect()
}

#[test]
fn paths_that_documents_name_exist() {
    let broken = [("docs/a.md", "see `src/nowhere.rs`"), ("docs/a.md", "`tests/no.rs::test`")];
    let kept = [("docs/a.md", "`src/lib.rs`, `tests/tidy.rs::test`, `src/<name>.rs`, src/no.rs")];
    let advice = "A document names a file that is not there: name the one that took its place.";
    Rule { advice, find: unknown_paths }.proven(&broken, &kept).holds_in(&documents());
}

/// The value of a key in a table of Cargo.toml.
fn value<'a>(manifest: &'a str, table: &str, key: &str) -> &'a str {
    let mut lines = manifest.lines().skip_while(|line| *line != table).skip(1);
    let line = lines.find(|line| line.starts_with(&format!("{key} = "))).unwrap_or_default();
    line.split('"').nth(1).unwrap_or_default()
}

/// What README and CHANGELOG must say, and do not.
fn unsaid<'a>(manifest: &str, readme: &str, changelog: &str) -> Vec<&'a str> {
    let version = value(manifest, "[workspace.package]", "version");
    let rust = value(manifest, "[workspace.package]", "rust-version");
    assert!(version.contains('.') && rust.contains('.'), "Cargo.toml names its versions");
    let released = changelog.contains(&format!("## [{version}]"));
    let planned = changelog.contains(&format!("To become {version},"));
    let said = [
        ("README.md: Version", readme.contains(&format!("Version {version}. "))),
        ("README.md: minimum supported Rust", readme.contains(&format!("Rust version is {rust};"))),
        ("CHANGELOG.md: the version", released || planned),
    ];
    said.into_iter().filter(|(_, said)| !said).map(|(what, _)| what).collect()
}

#[test]
fn versions_agree() {
    let manifest = "[workspace.package]\nversion = \"1.2.3\"\nrust-version = \"1.89\"\n";
    let readme = "Version 1.2.3. The minimum supported Rust version is 1.89; and so on";
    assert_eq!(unsaid(manifest, readme, "## [1.2.3] - today").len(), 0);
    assert_eq!(unsaid(manifest, readme, "To become 1.2.3, some day").len(), 0);
    assert_eq!(unsaid(manifest, "Version 1.2.4. ", "## [1.2]").len(), 3);

    let [manifest, readme, changelog] =
        ["Cargo.toml", "README.md", "CHANGELOG.md"].map(|path| File::read(path).text);
    let unsaid = unsaid(&manifest, &readme, &changelog);
    assert!(unsaid.is_empty(), "does not agree with Cargo.toml: {unsaid:?}");
    let clippy = File::read("clippy.toml").text;
    let rust = value(&manifest, "[workspace.package]", "rust-version");
    assert!(clippy.contains(&format!("msrv = \"{rust}\"")), "clippy.toml has another msrv");
}

/// The guarantees that a document states, in order, and those that it ties to tests.
fn guarantees(text: &str) -> (Vec<String>, Vec<(String, Vec<String>)>) {
    let id = |line: &str, open: &str, close: &str| {
        let id = line.strip_prefix(open)?.split_once(close)?.0;
        let number = id.strip_prefix('G')?.parse::<u32>().ok()?;
        Some(format!("G{number}"))
    };
    let stated = text.lines().filter_map(|line| id(line, "* **", ".**")).collect();
    let rows = text.lines().filter_map(|line| Some((id(line, "| ", " |")?, line)));
    let tests = |line: &str| line.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    (stated, rows.map(|(id, line)| (id, tests(line))).collect())
}

fn is_test(name: &str) -> bool {
    let Some((path, test)) = name.split_once("::") else { return false };
    let Ok(text) = std::fs::read_to_string(root().join(path)) else { return false };
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let declared = lines.iter().position(|line| line.starts_with(&format!("fn {test}(")));
    let marked = |at: usize| lines[at.saturating_sub(3)..at].contains(&"#[test]");
    let listed = text.contains("contract! {") && lines.contains(&test);
    declared.is_some_and(marked) || listed
}

fn unproven(file: &File) -> Vec<Finding> {
    let (stated, tied) = guarantees(&file.text);
    let mut wrong = Vec::new();
    let expected: Vec<_> = (1..=stated.len()).map(|n| format!("G{n}")).collect();
    if stated.is_empty() || stated != expected {
        wrong.push(format!("guarantees are numbered from G1 without a gap, not {stated:?}"));
    }
    let ids: Vec<_> = tied.iter().map(|(id, _)| id.clone()).collect();
    if ids != stated {
        wrong.push(format!("the table has {ids:?}, the list {stated:?}"));
    }
    for (id, tests) in tied {
        if tests.is_empty() {
            wrong.push(format!("{id} has no test: delete it, or prove it"));
        }
        let unknown = tests.iter().filter(|test| !is_test(test));
        wrong.extend(unknown.map(|test| format!("{id}: there is no test `{test}`")));
    }
    wrong.into_iter().map(|what| Finding::new(file, 1, what)).collect()
}

#[test]
fn every_guarantee_is_proved_by_tests_that_exist() {
    let proof = "`tests/tidy/documents.rs::versions_agree`";
    let whole = format!("* **G1.** One.\n* **G2.** Two.\n| G1 | {proof} |\n| G2 | {proof} |\n");
    let broken = [
        "no guarantee at all".to_owned(),
        format!("* **G1.** One.\n* **G1.** Two.\n| G1 | {proof} |\n"),
        format!("* **G1.** One.\n* **G3.** Two.\n| G1 | {proof} |\n| G3 | {proof} |\n"),
        format!("* **G1.** One.\n* **G2.** Two.\n| G1 | {proof} |\n"),
        format!("* **G1.** One.\n| G1 | {proof} |\n| G2 | {proof} |\n"),
        "* **G1.** One.\n| G1 | no test |\n".to_owned(),
        "* **G1.** One.\n| G1 | `tests/tidy/documents.rs::is_test` |\n".to_owned(),
        "* **G1.** One.\n| G1 | `tests/nowhere.rs::a_test` |\n".to_owned(),
    ];
    let broken = broken.each_ref().map(|text| ("a.md", text.as_str()));
    let contract =
        "* **G1.** One.\n| G1 | `tests/store/contract.rs::publish_never_replaces_a_file` |\n";
    let advice = "A guarantee is one line of the list and one row of the table, with the tests \
                  that prove it as `file::test`. One that no test proves is deleted.";
    Rule { advice, find: unproven }
        .proven(&broken, &[("a.md", &whole), ("a.md", contract)])
        .holds_in(&[File::read("docs/DURABILITY.md")]);
}

/// Guarantees that are named and not stated.
#[test]
fn every_guarantee_that_is_named_is_stated() {
    let (stated, _) = guarantees(&File::read("docs/DURABILITY.md").text);
    let stated: BTreeSet<_> = stated.into_iter().collect();
    let named = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric());
        let number = |word: &str| word.strip_prefix('G')?.parse::<u32>().ok();
        words.filter(|word| number(word).is_some()).map(str::to_owned).collect()
    };
    assert_eq!(named("by G7, and `G12`; not Go, G or 5G"), ["G7", "G12"]);
    let findings = documents().into_iter().flat_map(|file| {
        let unknown = named(&file.text).into_iter().filter(|id| !stated.contains(id));
        let ids: BTreeSet<_> = unknown.collect();
        ids.into_iter().map(move |id| Finding::new(&file, 1, id)).collect::<Vec<_>>()
    });
    report(findings.collect(), "docs/DURABILITY.md states no guarantee of this number.");
}
