//! Sizes, characters, lines, and words that must not stay behind.

use super::source::{File, files};
use super::{Finding, Rule};

const MAX_FILE_LINES: usize = 400;
const MAX_FUNCTION_LINES: usize = 70;
const MAX_LINE: usize = 100;

fn library() -> Vec<File> {
    files(&["src", "crates", "shuttle-tests"], &[".rs"])
}

fn everything() -> Vec<File> {
    files(&[""], &[".rs", ".md", ".toml"])
}

#[test]
fn files_are_short() {
    let find = |file: &File| {
        let lines = file.text.lines().count();
        let too_long = lines >= MAX_FILE_LINES;
        too_long.then(|| Finding::new(file, lines, "400 lines or more")).into_iter().collect()
    };
    let advice = "A file is about one concept. Split it where a second one begins, into a \
                  submodule with a header of its own.";
    let (long, short) = ("//\n".repeat(400), "//\n".repeat(399));
    Rule { advice, find }.proven(&[("a.rs", &long)], &[("a.rs", &short)]).holds_in(&library());
}

#[test]
fn functions_are_short() {
    let find = |file: &File| {
        let lines = |f: &super::source::Function| f.last - f.first + 1;
        let functions = file.functions().into_iter();
        let long = functions.filter(|f| lines(f) >= MAX_FUNCTION_LINES);
        long.map(|f| Finding::new(file, f.first, format!("`{}` has 70 lines or more", f.name)))
            .collect()
    };
    let advice = "Take the steps that have names of their own out into functions.";
    let body = |lines: usize| format!("fn f() {{\n{}}}\n", "    g();\n".repeat(lines));
    Rule { advice, find }
        .proven(&[("a.rs", &body(68))], &[("a.rs", &body(67))])
        .holds_in(&library());
}

#[test]
fn text_is_ascii() {
    let find = |file: &File| {
        let lines = (1..).zip(file.text.lines()).filter(|(_, line)| !line.is_ascii());
        lines.map(|(number, _)| Finding::new(file, number, "not ASCII")).collect()
    };
    let advice = "Write it in ASCII: -, ', \", ->, <=, x, and words for the rest.";
    Rule { advice, find }
        .proven(&[("a.md", "wait \u{2014} for it")], &[("a.md", "wait - for it")])
        .holds_in(&everything());
}

#[test]
fn lines_are_at_most_100_columns_wide() {
    let find = |file: &File| {
        let wide = (1..).zip(file.text.lines()).filter(|(_, line)| {
            let words = line.trim_start_matches([' ', '/', '!', '*', '-']);
            // A row of a table, or a single word, cannot be broken.
            line.chars().count() > MAX_LINE && !words.starts_with('|') && words.contains(' ')
        });
        wide.map(|(number, _)| Finding::new(file, number, "wider than 100 columns")).collect()
    };
    let advice = "Break the line; rustfmt leaves comments and long strings to you.";
    let (wide, row) = (format!("// a {}", "b ".repeat(50)), format!("//! | {}", "b ".repeat(50)));
    let files = files(&[""], &[".rs", ".md"]);
    Rule { advice, find }.proven(&[("a.rs", &wide)], &[("a.rs", &row)]).holds_in(&files);
}

/// Written in two parts, so that this file keeps its own rule.
const LEFTOVERS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("db", "g!"),
    concat!("to", "do!"),
    concat!("#[ig", "nore"),
];

#[test]
fn nothing_is_left_behind_for_later() {
    let find = |file: &File| {
        let words = LEFTOVERS.iter().flat_map(|word| {
            File::lines_with(&file.text, word).into_iter().map(move |line| (*word, line))
        });
        words.map(|(word, line)| Finding::new(file, line, format!("`{word}`"))).collect()
    };
    let advice = "Do it, or leave it out. A test that does not run proves nothing.";
    let samples = LEFTOVERS.map(|word| format!("fn f() {{\n    // {word}\n}}\n"));
    let broken = samples.each_ref().map(|sample| ("a.rs", sample.as_str()));
    let kept = [("a.rs", "// what a method does is said before how\nwriteln!(out)?;")];
    let rust =
        files(&["src", "crates", "tests", "benches", "loom-tests", "shuttle-tests"], &[".rs"]);
    Rule { advice, find }.proven(&broken, &kept).holds_in(&rust);
}

#[test]
fn nothing_is_printed_without_a_reason() {
    let find = |file: &File| {
        let excused = !file.path.starts_with("src/")
            && file.text.contains("#![allow(clippy::print_stdout, reason = ");
        let macros = ["print!", "println!", "eprint!", "eprintln!"].iter();
        let lines = macros.flat_map(|word| {
            File::lines_with(&file.code, word).into_iter().map(move |line| (*word, line))
        });
        let lines = lines.filter(|_| !excused);
        lines.map(|(word, line)| Finding::new(file, line, format!("`{word}`"))).collect()
    };
    let advice = "A library prints nothing. A program writes to a writer that it is handed; a tool \
                  whose only output is a report allows it for its file, with the reason.";
    let excuse = "#![allow(clippy::print_stdout, reason = \"a report\")]\nprintln!();";
    let broken = [("src/a.rs", "println!(\"a\");"), ("src/a.rs", excuse)];
    let kept = [("crates/a.rs", excuse), ("src/a.rs", "// println!\nwriteln!(out)?;")];
    let rust = files(&["src", "crates", "benches", "loom-tests", "shuttle-tests"], &[".rs"]);
    Rule { advice, find }.proven(&broken, &kept).holds_in(&rust);
}
