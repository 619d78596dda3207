//! The command line of the knowledge graph, and a demonstration: `knowledge-graph demo`.
//!
//! Every command opens the graph in a directory, makes its change, and closes it: what a command
//! has said is durable. `show` takes no lock and works beside a program that writes.

#![allow(clippy::print_stderr, reason = "errors and warnings")]

mod demo;

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Parser, Subcommand};
use knowledge_graph::{Entity, Graph, GraphError, Replay, look, options};

#[derive(Parser)]
#[command(about = "A knowledge graph on a write-ahead log")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Create an entity
    Create { dir: PathBuf, name: String, kind: String },
    /// Add observations to an entity, all or none
    Add {
        dir: PathBuf,
        name: String,
        #[arg(required = true)]
        observations: Vec<String>,
    },
    /// Relate an entity to another
    Relate { dir: PathBuf, from: String, kind: String, to: String },
    /// Make one entity of two: SOURCE goes, TARGET has what was known of both
    Merge { dir: PathBuf, source: String, target: String },
    /// Delete an entity, or one observation or relation of it
    Delete {
        dir: PathBuf,
        name: String,
        #[arg(long, value_name = "TEXT", conflicts_with = "relation")]
        observation: Option<String>,
        #[arg(long, num_args = 2, value_names = ["KIND", "TO"])]
        relation: Option<Vec<String>>,
    },
    /// Print the graph, or one entity
    Show { dir: PathBuf, name: Option<String> },
    /// Put an image in place of the log so far
    Compact { dir: PathBuf },
    /// Write, merge and compact from several threads at once, reopen, and check
    Demo {
        /// A directory without a log; a temporary one if absent
        dir: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command, &mut io::stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command, out: &mut impl Write) -> Result<(), Box<dyn Error + Send + Sync>> {
    match command {
        Command::Create { dir, name, kind } => change(&dir, out, |graph| {
            graph.create(&name, &kind)?;
            Ok(format!("created {name:?}"))
        }),
        Command::Add { dir, name, observations } => change(&dir, out, |graph| {
            graph.observe(&name, &observations.iter().map(String::as_str).collect::<Vec<_>>())?;
            Ok(format!("added {} observations to {name:?}", observations.len()))
        }),
        Command::Relate { dir, from, kind, to } => change(&dir, out, |graph| {
            graph.relate(&from, &kind, &to)?;
            Ok(format!("related {from:?} {kind} {to:?}"))
        }),
        Command::Merge { dir, source, target } => change(&dir, out, |graph| {
            graph.merge(&source, &target)?;
            Ok(format!("merged {source:?} into {target:?}"))
        }),
        Command::Delete { dir, name, observation, relation } => change(&dir, out, |graph| {
            let what = match (&observation, relation.as_deref()) {
                (Some(text), _) => graph.forget(&name, text).map(|_| "an observation of ")?,
                (None, Some([kind, to])) => {
                    graph.unrelate(&name, kind, to).map(|_| "a relation of ")?
                }
                (None, _) => graph.delete(&name).map(|_| "")?,
            };
            Ok(format!("deleted {what}{name:?}"))
        }),
        Command::Show { dir, name } => show(&dir, name.as_deref(), out),
        Command::Compact { dir } => change(&dir, out, |graph| {
            let lsn = graph.compact()?;
            Ok(format!("an image stands for everything below LSN {lsn}"))
        }),
        Command::Demo { dir: Some(dir) } => demo::run(&dir, out),
        Command::Demo { dir: None } => demo::run(tempfile::tempdir()?.path(), out),
    }
}

/// Makes a change and says so once it is durable.
fn change(
    dir: &Path,
    out: &mut impl Write,
    make: impl FnOnce(&Graph) -> Result<String, GraphError>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (graph, replay) = Graph::open(Arc::new(options().open(dir)?))?;
    warn(&replay);
    let made = make(&graph)?;
    graph.close()?;
    writeln!(out, "{made}")?;
    Ok(())
}

fn warn(replay: &Replay) {
    for skipped in &replay.unknown {
        let (kind, lsn) = (skipped.kind, skipped.lsn);
        eprintln!("warning: skipped a record of kind {kind} at LSN {lsn}, from a newer program");
    }
    for lsn in &replay.misfits {
        eprintln!("warning: the record at LSN {lsn} does not fit the graph");
    }
}

fn show(
    dir: &Path,
    name: Option<&str>,
    out: &mut impl Write,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let (known, replay) = look(dir)?;
    warn(&replay);
    match name {
        Some(name) => {
            let missing = || GraphError::NoEntity { name: name.to_owned() };
            print_entity(name, known.entity(name).ok_or_else(missing)?, out)?;
        }
        None => {
            for (name, entity) in known.entities() {
                print_entity(name, entity, out)?;
            }
        }
    }
    Ok(())
}

fn print_entity(name: &str, entity: &Entity, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{name} ({})", entity.kind)?;
    for text in &entity.observations {
        writeln!(out, "    {text}")?;
    }
    for edge in &entity.relations {
        writeln!(out, "    {} -> {}", edge.kind, edge.entity)?;
    }
    for edge in &entity.inbound {
        writeln!(out, "    {} <- {}", edge.kind, edge.entity)?;
    }
    Ok(())
}
