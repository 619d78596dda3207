//! Breaks the log on purpose, one mutant at a time, and checks that the model or test that the
//! mutant names fails.
//!
//! A mutant is a file in `loom-tests/mutants/` (concurrency) or `crates/simulation/mutants/`
//! (storage and recovery): lines `what:`, `file:`, `caught by:`, perhaps `ci: yes`, then the old
//! text and the new text, each after a line of four dashes. The old text must occur exactly once.
//! Mutants are applied to a copy of the workspace, never to the workspace.
//!
//! `caught by` is a test target and a test's name: `lib` or a file of `tests/`, a file of
//! `loom-tests/tests/`, or `PACKAGE/lib` or `PACKAGE/FILE` for another member, in release.
//!
//! `cargo run -p mutants` runs all of them; `--ci` those marked for it; `--table` prints Markdown.

#![allow(clippy::print_stdout, reason = "the report goes to standard output")]

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Where mutants are.
const FOLDERS: [&str; 2] = ["loom-tests/mutants", "crates/simulation/mutants"];

/// Breaks cohort-wal on purpose and checks that a model or a test notices.
#[derive(Debug, Parser)]
struct Arguments {
    /// Only the mutants that are marked for continuous integration.
    #[arg(long)]
    ci: bool,
    /// Only the mutants whose name contains this.
    #[arg(long)]
    only: Option<String>,
    /// Print the report as a Markdown table.
    #[arg(long)]
    table: bool,
}

#[derive(Debug)]
struct Mutant {
    name: String,
    what: String,
    file: String,
    /// The first word is a test target, the second a test's name.
    caught_by: String,
    ci: bool,
    old: String,
    new: String,
}

impl Mutant {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)?;
        let mut parts = text.split("----\n");
        let (head, old, new) = match (parts.next(), parts.next(), parts.next()) {
            (Some(head), Some(old), Some(new)) => (head, old, new),
            _ => return Err(format!("{} is not a mutant", path.display()).into()),
        };
        let field = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name));
            line.map(|value| value.trim().to_owned())
        };
        let required =
            |name: &str| field(name).ok_or_else(|| format!("{} lacks `{name}`", path.display()));
        Ok(Self {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            what: required("what:")?,
            file: required("file:")?,
            caught_by: required("caught by:")?,
            ci: field("ci:").is_some_and(|value| value == "yes"),
            old: old.to_owned(),
            new: new.to_owned(),
        })
    }

    /// Applies the mutant in a copy; returns the text to put back.
    fn apply(&self, copy: &Path) -> Result<(PathBuf, String)> {
        let path = copy.join(&self.file);
        let original = fs::read_to_string(&path)?;
        if original.matches(&self.old).count() != 1 {
            return Err(
                format!("{}: the old text must occur once in {}", self.name, self.file).into()
            );
        }
        fs::write(&path, original.replacen(&self.old, &self.new, 1))?;
        Ok((path, original))
    }

    /// Whether the named test fails on the mutant. A mutant that does not compile is an error.
    fn is_caught(&self, copy: &Path) -> Result<bool> {
        if !self.cargo(copy, &["--no-run"])? {
            return Err(format!("{} does not compile", self.name).into());
        }
        Ok(!self.cargo(copy, &[])?)
    }

    fn cargo(&self, copy: &Path, extra: &[&str]) -> Result<bool> {
        let (target, test) = self.caught_by.split_once(' ').ok_or("`caught by` needs two words")?;
        let mut command = Command::new("timeout");
        command.args(["--kill-after=5", "300", "cargo", "test", "--quiet"]);
        if let Some((package, test)) = target.split_once('/') {
            command.args(["-p", package, "--release"]);
            let binary: &[&str] = &["--test", test];
            command.args(if test == "lib" { &["--lib"] } else { binary });
            command.env("CARGO_TARGET_DIR", copy.join("target"));
        } else if copy.join("loom-tests/tests").join(target).with_extension("rs").exists() {
            command.args(["-p", "loom-tests", "--release", "--test", target]);
            command.env("RUSTFLAGS", "--cfg loom").env("LOOM_MAX_PREEMPTIONS", "2");
            command.env("CARGO_TARGET_DIR", copy.join("target-loom"));
        } else {
            let binary: &[&str] = &["--test", target];
            command.args(["-p", "cohort-wal", "--features", "aead,lz4,sim"]);
            command.args(if target == "lib" { &["--lib"] } else { binary });
            command.env("CARGO_TARGET_DIR", copy.join("target"));
        }
        command.args(extra).arg(test).current_dir(copy);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(command.status()?.success())
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let mut paths = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(root.join(folder))?.map(|entry| entry.map(|e| e.path()));
        paths.extend(entries.collect::<std::io::Result<Vec<_>>>()?);
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "mutant"));
    paths.sort();
    let mutants = paths.iter().map(|path| Mutant::read(path)).collect::<Result<Vec<_>>>()?;
    let chosen: Vec<_> = mutants
        .into_iter()
        .filter(|mutant| !arguments.ci || mutant.ci)
        .filter(|mutant| arguments.only.as_ref().is_none_or(|part| mutant.name.contains(part)))
        .collect();
    if chosen.is_empty() {
        return Err("no mutant was chosen".into());
    }

    let copy = root.join("target/mutants");
    copy_workspace(&root, &copy)?;
    if arguments.table {
        println!("| mutant | what is broken | caught by |\n|---|---|---|");
    }
    let mut survivors = 0;
    for mutant in &chosen {
        let (path, original) = mutant.apply(&copy)?;
        let caught = mutant.is_caught(&copy);
        fs::write(path, original)?;
        let Mutant { name, what, caught_by, .. } = mutant;
        let (caught, verdict) = match caught {
            Ok(true) => (true, caught_by.replace([' ', '/'], "::")),
            Ok(false) => (false, "SURVIVED".to_owned()),
            // The others are worth a run all the same.
            Err(error) => (false, error.to_string()),
        };
        survivors += usize::from(!caught);
        match arguments.table {
            true => println!("| {name} | {what} | `{verdict}` |"),
            false => println!("{} {name}: {verdict}", if caught { "caught" } else { "MISSED" }),
        }
    }
    println!("{} passed, {survivors} failed", chosen.len() - survivors);
    Ok(if survivors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Copies what is needed to build, leaving build outputs of earlier runs in place.
fn copy_workspace(source: &Path, target: &Path) -> Result<()> {
    fs::create_dir_all(target)?;
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let name = entry.file_name();
        let skipped = name.to_string_lossy();
        if skipped.starts_with("target") || skipped == ".git" {
            continue;
        }
        let to = target.join(&name);
        if entry.file_type()?.is_dir() {
            copy_workspace(&entry.path(), &to)?;
        } else if fs::read(&to).ok().as_ref() != Some(&fs::read(entry.path())?) {
            fs::copy(entry.path(), &to)?;
        }
    }
    Ok(())
}
