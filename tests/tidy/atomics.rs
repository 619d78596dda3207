//! Every atomic access says which order it uses and why, in the source and in the document.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{File, files, is_word};
use super::{Finding, Rule, report};

const ORDERS: [&str; 5] = ["Relaxed", "Acquire", "Release", "AcqRel", "SeqCst"];
/// How far above an access its comment may end: a call of several lines lies between.
const REACH: usize = 6;
const DOCUMENT: &str = "docs/CONCURRENCY.md";

/// The orders in code that no test module owns, as (line, order).
fn accesses(file: &File) -> Vec<(usize, String)> {
    let code = file.production();
    let lines = (1..).zip(code.lines());
    lines
        .flat_map(|(number, line)| {
            let hits = line.match_indices("Ordering::").map(|(at, path)| at + path.len());
            let word = |at: usize| line[at..].chars().take_while(|c| is_word(*c)).collect();
            hits.map(|at| (number, word(at))).collect::<Vec<(usize, String)>>()
        })
        .filter(|(_, order)| ORDERS.contains(&order.as_str()))
        .collect()
}

/// The comment tagged ORDERING that ends last before a line, from its tag on.
fn comment_above(file: &File, line: usize) -> Option<String> {
    let lines: Vec<_> = file.text.lines().map(str::trim).collect();
    let above = lines.get(line.saturating_sub(REACH + 8)..line - 1)?;
    let start = above.iter().rposition(|line| line.starts_with("// ORDERING: "))?;
    let comment = above[start..].iter().take_while(|line| line.starts_with("//"));
    let comment: Vec<_> = comment.map(|line| line.trim_start_matches("// ")).collect();
    (above.len() - start - comment.len() <= REACH).then(|| comment.join(" "))
}

fn words(text: &str) -> BTreeSet<&str> {
    text.split(|c| !is_word(c)).collect()
}

fn unexplained(file: &File) -> Vec<Finding> {
    let accesses = accesses(file);
    let mut findings = Vec::new();
    for (line, order) in &accesses {
        let Some(comment) = comment_above(file, *line) else {
            findings.push(Finding::new(file, *line, format!("`{order}` without ORDERING:")));
            continue;
        };
        let first = comment["ORDERING: ".len()..].split(|c| !is_word(c)).next();
        if !words(&comment).contains(order.as_str()) {
            findings.push(Finding::new(file, *line, format!("the comment does not say `{order}`")));
        }
        // The order that the comment begins with is the one of the first access below it.
        let near = |other: usize| other.abs_diff(*line) <= 1;
        let used = accesses.iter().any(|(other, o)| near(*other) && Some(o.as_str()) == first);
        if !used {
            findings.push(Finding::new(file, *line, "the comment begins with another order"));
        }
        if comment.len() < 40 {
            findings.push(Finding::new(file, *line, "the comment gives no reason"));
        }
    }
    findings
}

#[test]
fn every_atomic_access_explains_its_order() {
    let load = "x.load(Ordering::Acquire);\n";
    let under = |comment: &str| format!("// ORDERING: {comment}\n{load}");
    let exchange = |comment: &str| {
        let orders = "    Ordering::AcqRel,\n    Ordering::Relaxed,\n";
        format!("// ORDERING: {comment}\nx.compare_exchange(\n    a,\n    b,\n{orders});\n")
    };
    let broken = [
        load.to_owned(),
        under("Relaxed; it is a statistic and orders nothing."),
        under("Release; not Acquire, which pairs with another."),
        under("Acquire."),
        exchange("AcqRel; pairs with the load in another function."),
    ];
    let kept = [
        under("Acquire; pairs with `store`. Without\n// it bytes are torn."),
        exchange("AcqRel; pairs with the load in another. Relaxed on failure."),
    ];
    let broken = broken.each_ref().map(|text| ("src/a.rs", text.as_str()));
    let kept = kept.each_ref().map(|text| ("src/a.rs", text.as_str()));
    let advice = "Above the access: `// ORDERING: <order>; pairs with <what>; without it <what \
                  goes wrong>`, naming every order of the call, the first one first.";
    Rule { advice, find: unexplained }.proven(&broken, &kept).holds_in(&files(&["src"], &[".rs"]));
}

#[test]
fn no_access_needs_a_single_total_order() {
    let find = |file: &File| {
        let code = file.production();
        let lines = File::lines_with(&code, "SeqCst").into_iter();
        lines.map(|line| Finding::new(file, line, "`SeqCst`")).collect()
    };
    let advice = "Use acquire and release on one location: loom treats SeqCst accesses as AcqRel, \
                  so no model would show whether they are enough.";
    Rule { advice, find }
        .proven(&[("src/a.rs", "x.load(Ordering::SeqCst);")], &[("src/a.rs", "// SeqCst")])
        .holds_in(&files(&["src"], &[".rs"]));
}

type Orders = BTreeMap<String, BTreeSet<String>>;

/// The orders that the code uses, by `file.rs::function`. Statistics, in `sync.rs`, are left out.
fn in_code(files: &[File]) -> Orders {
    let mut orders = Orders::new();
    for file in files.iter().filter(|file| file.path != "src/sync.rs") {
        for (line, order) in accesses(file) {
            let path = file.path.trim_start_matches("src/");
            let function = file.function_at(line).unwrap_or_default();
            orders.entry(format!("{path}::{function}")).or_default().insert(order);
        }
    }
    orders
}

/// The cells of the rows of the table of atomics.
fn rows(document: &str) -> Vec<Vec<&str>> {
    let lines = document.lines().skip_while(|line| !line.starts_with("| atomic |")).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect()).collect()
}

/// The orders that the document names, by `file.rs::function`.
fn in_document(document: &str) -> Orders {
    let mut orders = Orders::new();
    for row in rows(document) {
        assert_eq!(row.len(), 7, "a row has seven cells: {row:?}");
        let named = words(row[3]).into_iter().filter(|word| ORDERS.contains(word));
        let place = row[2].trim_matches('`').to_owned();
        orders.entry(place).or_default().extend(named.map(str::to_owned));
    }
    orders
}

#[test]
fn the_table_of_atomics_is_what_the_code_does() {
    let row = "| `x` | load | `a.rs::f` | Acquire | - | - | - |";
    let sample = format!(
        "| atomic | a | b | c | d | e | f |
|---|
{row}
"
    );
    let code = |order: &str| {
        let text = format!("fn f() {{\n    x.load(Ordering::{order});\n}}\n");
        in_code(&[File::new("src/a.rs", &text)])
    };
    assert_eq!(code("Acquire"), in_document(&sample));
    assert_ne!(code("Relaxed"), in_document(&sample));

    let (code, document) = (in_code(&files(&["src"], &[".rs"])), File::read(DOCUMENT));
    assert!(code.len() > 10, "the code has atomics");
    let document_orders = in_document(&document.text);
    let places: BTreeSet<_> = code.keys().chain(document_orders.keys()).collect();
    let wrong = places.into_iter().filter(|place| code.get(*place) != document_orders.get(*place));
    let findings = wrong.map(|place| {
        let (code, text) = (code.get(place), document_orders.get(place));
        Finding::new(&document, 1, format!("{place}: code {code:?}, document {text:?}"))
    });
    report(findings.collect(), "Every atomic operation has its row in the table of atomics.");
}

/// Names of models, `file::test`, that do not exist.
fn unknown_models(document: &File, models: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (line, text) in (1..).zip(document.text.lines()) {
        for name in text.split('`').skip(1).step_by(2) {
            let Some((place, test)) = name.split_once("::") else { continue };
            let path = format!("loom-tests/tests/{place}.rs");
            let Some(file) = models.iter().find(|file| file.path == path) else { continue };
            if !file.text.contains(&format!("fn {test}()")) {
                findings.push(Finding::new(document, line, format!("no model `{name}`")));
            }
        }
    }
    findings
}

#[test]
fn every_model_that_the_document_names_exists() {
    let model = [File::new("loom-tests/tests/ring.rs", "#[test]\nfn a_model() {}\n")];
    let found = |text| unknown_models(&File::new("a.md", text), &model).len();
    assert_eq!((found("by `ring::a_model` and"), found("by `ring::another` and")), (0, 1));

    let (document, models) = (File::read(DOCUMENT), files(&["loom-tests/tests"], &[".rs"]));
    let last = rows(&document.text).into_iter().filter(|row| row[6].contains("::")).count();
    assert!(last > 10, "most atomics have a model");
    report(unknown_models(&document, &models), "Name the model as it is called now.");
}
