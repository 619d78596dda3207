//! Reading the repository, and just enough of Rust to tell code from comments.

use std::fs;
use std::path::{Path, PathBuf};

/// A file as text.
pub(crate) struct File {
    /// Relative to the repository, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
    /// The text with comments and literals blanked; as long, line by line.
    pub(crate) code: String,
}

/// A function: its name and its lines, first and last, from 1.
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
}

impl File {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: blanked(text) }
    }

    /// A file of the repository, which must exist.
    pub(crate) fn read(path: &str) -> Self {
        let text = fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self::new(path, &text)
    }

    /// The code without modules that only tests have.
    pub(crate) fn production(&self) -> String {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        if name == "tests.rs" || name.ends_with("_tests.rs") || self.path.contains("/tests/") {
            return blank(&self.code);
        }
        let mut code = self.code.clone();
        for mark in ["#[cfg(test)]", "#[cfg(all(test, not(loom)))]"] {
            while let Some(start) = code.find(mark) {
                let end = item_end(&code, start);
                let item = blank(&code[start..end]);
                code.replace_range(start..end, &item);
            }
        }
        code
    }

    /// Every function with a body, nested ones after their parents.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut found = Vec::new();
        for (at, _) in self.code.match_indices("fn ") {
            if self.code[..at].ends_with(is_word) {
                continue;
            }
            let name: String = self.code[at + 3..].chars().take_while(|c| is_word(*c)).collect();
            let end = item_end(&self.code, at);
            if !name.is_empty() && self.code[..end].ends_with('}') {
                let (first, last) = (line_of(&self.code, at), line_of(&self.code, end - 1));
                found.push(Function { name, first, last });
            }
        }
        found
    }

    /// The innermost function around a line.
    pub(crate) fn function_at(&self, line: usize) -> Option<String> {
        let mut around = self.functions().into_iter().rev();
        let innermost = around.find(|f| (f.first..=f.last).contains(&line));
        innermost.map(|function| function.name)
    }

    /// The lines that contain a word in the given code, from 1.
    pub(crate) fn lines_with(code: &str, word: &str) -> Vec<usize> {
        let hits = code.match_indices(word).filter(|(at, _)| {
            let before = code[..*at].chars().next_back();
            let after = code[at + word.len()..].chars().next();
            let open = |side: Option<char>, edge: Option<char>| {
                edge.is_some_and(is_word) && side.is_some_and(is_word)
            };
            !open(before, word.chars().next()) && !open(after, word.chars().next_back())
        });
        hits.map(|(at, _)| line_of(code, at)).collect()
    }
}

pub(crate) fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where the item that begins at `start` ends: behind its body, or its semicolon.
fn item_end(code: &str, start: usize) -> usize {
    let (mut nested, mut braces) = (0_usize, 0_usize);
    for (at, c) in code[start..].char_indices() {
        match c {
            '(' | '[' => nested += 1,
            ')' | ']' => nested = nested.saturating_sub(1),
            '{' => braces += 1,
            '}' if braces <= 1 => return start + at + 1,
            '}' => braces -= 1,
            ';' if braces == 0 && nested == 0 => return start + at + 1,
            _ => {}
        }
    }
    code.len()
}

fn blank(text: &str) -> String {
    text.chars().map(|c| if c == '\n' { c } else { ' ' }).collect()
}

/// Replaces comments and literals by spaces.
fn blanked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let after_word = out.ends_with(is_word);
        let skipped = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |end| end + 2),
            '"' => string_end(rest, 1),
            'r' if !after_word || out.ends_with('b') => raw_end(rest),
            '\'' => char_end(rest),
            _ => 0,
        };
        if skipped == 0 {
            // Bytes, not characters, so that both texts are equally long.
            out.extend(if c.is_ascii() { Some(c) } else { None });
            out.extend(if c.is_ascii() { "".chars() } else { "    "[..c.len_utf8()].chars() });
            rest = &rest[c.len_utf8()..];
        } else {
            out.extend(rest[..skipped].bytes().map(|b| if b == b'\n' { '\n' } else { ' ' }));
            rest = &rest[skipped..];
        }
    }
    out
}

fn string_end(rest: &str, from: usize) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip_while(|(at, _)| *at < from) {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return at + 1,
            _ => escaped = false,
        }
    }
    rest.len()
}

/// Length of the raw string that begins here; 0: none does.
fn raw_end(rest: &str) -> usize {
    let hashes = rest[1..].chars().take_while(|c| *c == '#').count();
    if !rest[1 + hashes..].starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    let body = 2 + hashes;
    rest[body..].find(&close).map_or(rest.len(), |end| body + end + close.len())
}

/// Length of the character that begins here; 0: it is a lifetime.
fn char_end(rest: &str) -> usize {
    let mut chars = rest.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(0, |end| end + 4),
        Some((_, _)) => match chars.next() {
            Some((at, '\'')) => at + 1,
            _ => 0,
        },
        None => 0,
    }
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every file with one of these endings below `places`, files or folders of the repository.
pub(crate) fn files(places: &[&str], endings: &[&str]) -> Vec<File> {
    let mut paths = Vec::new();
    places.iter().for_each(|place| collect(&root().join(place), &mut paths));
    paths.sort();
    let named = paths.iter().map(|path| {
        let relative = path.strip_prefix(root()).expect("below the repository");
        relative.components().map(|c| c.as_os_str().to_string_lossy()).collect::<Vec<_>>().join("/")
    });
    let wanted = |path: &String| endings.iter().any(|ending| path.ends_with(ending));
    named.filter(wanted).map(|path| File::read(&path)).collect()
}

fn collect(path: &Path, into: &mut Vec<PathBuf>) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if path.is_file() {
        into.push(path.to_owned());
    } else if path == root() || !(name.starts_with("target") || name.starts_with('.')) {
        let entries = fs::read_dir(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        entries.for_each(|entry| collect(&entry.unwrap().path(), into));
    }
}

#[test]
fn comments_and_literals_are_blanked_and_code_is_kept() {
    let text = "let a = \"x // \\\" y\"; // fn no()\n\
                let b = 'c'; /* fn\n */ r#\"fn \"q\"\"# + b'\\'' <'a>\n";
    let file = File::new("a.rs", text);
    assert_eq!(file.code.len(), text.len());
    assert_eq!(file.code.matches('\n').count(), 3);
    assert!(!file.code.contains("fn") && !file.code.contains('"'));
    assert!(file.code.contains("let b =") && file.code.contains("<'a>"));
}

#[test]
fn functions_end_at_their_closing_brace() {
    let text = "fn a(x: [u8; 2]) -> u8 {\n    fn b() {}\n    x[0]\n}\ntrait T { fn c(); }\n";
    let file = File::new("a.rs", text);
    let spans: Vec<_> =
        file.functions().iter().map(|f| (f.name.clone(), f.first, f.last)).collect();
    assert_eq!(spans, [("a".to_owned(), 1, 4), ("b".to_owned(), 2, 2)]);
    assert_eq!(file.function_at(2).as_deref(), Some("b"));
    assert_eq!(file.function_at(3).as_deref(), Some("a"));
}

#[test]
fn production_code_leaves_test_modules_out() {
    let text = "use a;\n#[cfg(all(test, not(loom)))]\nmod tests {\n    use b;\n}\n\
                #[cfg(test)]\nmod c;\nuse d;\n";
    let code = File::new("a.rs", text).production();
    assert!(code.contains("use a") && code.contains("use d"));
    assert!(!code.contains("use b") && !code.contains("mod c"));
}
