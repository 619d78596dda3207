//! The demonstration: writers, merges and compactions at once, a reader that looks for half a
//! merge meanwhile, then everything again from disk.

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};

use cohort_wal::{FileStore, Wal};
use knowledge_graph::{Envelope, Graph, GraphError, Knowledge, options};

const WRITERS: usize = 4;
const PEOPLE: usize = 400;
/// So many observations move in every merge.
const NOTES: usize = 3;

type AnyResult<T> = Result<T, Box<dyn Error + Send + Sync>>;

pub(crate) fn run(dir: &Path, out: &mut impl Write) -> AnyResult<()> {
    let wal = Arc::new(options().create_new(true).open(dir)?);
    let (graph, _) = Graph::open(Arc::clone(&wal))?;
    let (compactions, looks) = work(&graph)?;
    let stats = wal.stats();
    writeln!(out, "{WRITERS} writers: {} records, {} bytes", stats.appends, stats.bytes)?;
    writeln!(out, "  {} commits asked for by sync(), {} syncs", stats.commits, stats.syncs)?;
    writeln!(out, "  {compactions} compactions while they went on")?;
    writeln!(out, "  {looks} looks at the graph meanwhile, none saw half of a merge")?;
    graph.close()?;

    let before = graph.read().clone();
    let (again, replay) = Graph::open(Arc::new(options().open(dir)?))?;
    let image = replay.image.ok_or("there is no image")?;
    writeln!(out, "reopened: the image at LSN {image}, and {} records behind it", replay.records)?;
    check(*again.read() == before, "the graph is as it was when it was closed")?;
    let merged = count_merges(&again.read())?;
    check(merged == WRITERS * PEOPLE, "every merge is whole")?;
    check(replay.misfits.is_empty() && replay.unknown.is_empty(), "every record fits")?;
    writeln!(out, "  {} entities, {merged} merges: all as before", before.len())?;
    again.close()?;
    newer_program(dir, &before, out)
}

/// Lets writers and a reader loose; returns how often was compacted and looked.
fn work(graph: &Graph) -> AnyResult<(usize, usize)> {
    graph.create("the project", "project")?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| watch(graph, &done));
        let writers: Vec<_> =
            (0..WRITERS).map(|writer| scope.spawn(move || write(graph, writer))).collect();
        let written: AnyResult<Vec<_>> = writers.into_iter().map(join).collect();
        done.store(true, Ordering::Release);
        let looks = join(reader)?;
        Ok((written?.into_iter().sum(), looks))
    })
}

fn join<T>(thread: ScopedJoinHandle<'_, AnyResult<T>>) -> AnyResult<T> {
    thread.join().map_err(|_| "a thread has panicked")?
}

/// Everybody is first known under an alias, and then by name. Returns how often it compacted.
fn write(graph: &Graph, writer: usize) -> AnyResult<usize> {
    let mut compactions = 0;
    for number in 0..PEOPLE {
        let name = format!("person {writer}.{number}");
        let alias = format!("alias {writer}.{number}");
        graph.create(&name, "person")?;
        graph.relate(&name, "works on", "the project")?;
        graph.create(&alias, "alias")?;
        let notes: Vec<_> = (0..NOTES).map(|note| format!("{alias}: note {note}")).collect();
        graph.observe(&alias, &notes.iter().map(String::as_str).collect::<Vec<_>>())?;
        graph.relate(&alias, "wrote about", "the project")?;
        graph.merge(&alias, &name)?;
        // Somebody needs to be sure now; everybody else waits for the interval.
        if number % 40 == 0 {
            graph.sync()?;
        }
        // The others go on.
        if writer == 0 && number % 100 == 50 {
            graph.compact()?;
            compactions += 1;
        }
    }
    Ok(compactions)
}

/// Looks at the graph until the work is done; returns how often.
fn watch(graph: &Graph, done: &AtomicBool) -> AnyResult<usize> {
    let mut looks = 0;
    while !done.load(Ordering::Acquire) {
        count_merges(&graph.read())?;
        looks += 1;
        thread::yield_now();
    }
    Ok(looks)
}

/// Counts people who are known by name; an error where one is half known.
fn count_merges(known: &Knowledge) -> Result<usize, String> {
    let mut merged = 0;
    for (name, person) in known.entities().filter(|(_, entity)| entity.kind == "person") {
        let alias = known.entity(&name.replace("person", "alias"));
        let wrote = person.relations.iter().filter(|edge| edge.kind == "wrote about").count();
        match (alias, person.observations.len(), wrote) {
            (None, NOTES, 1) => merged += 1,
            (_, 0, 0) => {}
            _ => return Err(format!("half of a merge shows: {name:?}")),
        }
    }
    Ok(merged)
}

/// A newer program writes a record of a kind that is unknown here.
fn newer_program(dir: &Path, before: &Knowledge, out: &mut impl Write) -> AnyResult<()> {
    let newer: Wal<FileStore> = options().open(dir)?;
    let lsn = newer.append_typed(&Envelope { kind: 900, body: b"whatever that is" })?;
    newer.close()?;

    let (graph, replay) = Graph::open(Arc::new(options().open(dir)?))?;
    let skipped: Vec<_> = replay.unknown.iter().map(|record| (record.lsn, record.kind)).collect();
    check(skipped == [(lsn, 900)], "the record of a newer program is named")?;
    check(*graph.read() == *before, "everything else is there")?;
    let refused = graph.compact();
    check(matches!(refused, Err(GraphError::WrittenByNewer { .. })), "no image without it")?;
    writeln!(out, "a record of kind 900 at LSN {lsn}: skipped, named, and not compacted away")?;
    Ok(graph.close()?)
}

fn check(holds: bool, what: &str) -> AnyResult<()> {
    if holds { Ok(()) } else { Err(format!("not so: {what}").into()) }
}
