//! Pictures of results: one file for each load and size, and for each delay.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use self::chart::{Chart, Curve};
use crate::Fallible;
use crate::report::{Results, Row};

mod axis;
mod chart;
mod svg;

/// Reads what `--json` printed, draws all of it into a directory, and returns what it made.
pub(crate) fn draw(results: &[PathBuf], into: &Path) -> Fallible<Vec<PathBuf>> {
    fs::create_dir_all(into)?;
    let mut rows = Vec::new();
    let mut made = Vec::new();
    for path in results {
        let text = fs::read_to_string(path)?;
        let results: Results =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        rows.extend(results.rows);
    }
    for (name, picture) in pictures(&rows) {
        let path = into.join(format!("{name}.svg"));
        fs::write(&path, picture)?;
        made.push(path);
    }
    Ok(made)
}

/// The name and the text of every picture that these rows are enough for.
fn pictures(rows: &[Row]) -> BTreeMap<String, String> {
    let mut pictures = BTreeMap::new();
    let mut left: Vec<_> = rows.iter().collect();
    while let Some(first) = left.first().copied() {
        let (group, rest): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|row| row.same_group(first));
        left = rest;
        let think = if first.think_us.is_some() { "-thinking" } else { "" };
        let delay = first.delay_us.map(|micros| format!("-{micros}us")).unwrap_or_default();
        let name = format!("{}{delay}-{}{think}", first.load, first.size);
        match first.load.as_str() {
            "open-loop" => latency(&mut pictures, &name, &group),
            "replay" => {
                pictures.insert(name, replay(&group));
            }
            "capacity" => {}
            _ => by_threads(&mut pictures, &name, &group),
        }
    }
    pictures
}

fn subtitle(first: &Row) -> String {
    let mut text = format!("records of {} bytes, medians", first.size);
    if let Some(micros) = first.sync_us {
        text.push_str(&format!("; a sync takes {micros:.0} us (F)"));
    }
    if let Some(micros) = first.think_us {
        text.push_str(&format!("; a committer thinks {micros:.0} us"));
    }
    text
}

fn curve(name: String, points: Vec<(f64, f64)>, guide: bool) -> Curve {
    Curve { name, points, guide }
}

/// A curve for each peer, in the order in which they come.
fn curves(group: &[&Row], point: impl Fn(&Row) -> Option<(f64, f64)>) -> Vec<Curve> {
    let mut curves: Vec<Curve> = Vec::new();
    for row in group {
        let Some(point) = point(row) else { continue };
        match curves.iter_mut().find(|curve| curve.name == row.peer) {
            Some(known) => known.points.push(point),
            None => curves.push(curve(row.peer.clone(), vec![point], false)),
        }
    }
    for curve in &mut curves {
        curve.points.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    curves
}

fn is_durable(row: &Row) -> bool {
    row.load == "durable" || row.delay_us.is_some()
}

fn by_threads(pictures: &mut BTreeMap<String, String>, name: &str, group: &[&Row]) {
    let Some(&first) = group.first() else { return };
    let durable = is_durable(first);
    let mut all = curves(group, |row| Some((row.threads as f64, row.per_s.median)));
    if let (true, Some(floor)) = (durable, &first.floor) {
        let mut threads: Vec<_> = group.iter().map(|row| row.threads).collect();
        threads.sort_unstable();
        threads.dedup();
        // Each number of threads had a floor of its own, measured beside it.
        let floor_at = |threads: usize| {
            let row = group.iter().find(|row| row.threads == threads);
            row.and_then(|row| row.floor.as_ref()).unwrap_or(floor).per_s
        };
        for (name, share) in [("N/F", 1.0), ("N/2F", 0.5)] {
            let point = |&n: &usize| (n as f64, n as f64 * floor_at(n) * share);
            all.push(curve(name.to_owned(), threads.iter().map(point).collect(), true));
        }
    }
    let what = if durable { "commits" } else { "records" };
    let chart = Chart {
        title: format!("{}: throughput by threads", first.load),
        subtitle: subtitle(first),
        x_title: "threads (N)".to_owned(),
        y_title: format!("{what} per second"),
        x_log: true,
        y_log: true,
        curves: all,
    };
    pictures.insert(format!("{name}-throughput"), chart.curves());
    let shared = curves(group, |row| Some((row.threads as f64, row.per_sync?)));
    if durable && !shared.is_empty() {
        let chart = Chart {
            title: format!("{}: commits that share a sync", first.load),
            y_title: "commits per sync".to_owned(),
            curves: shared,
            ..chart
        };
        pictures.insert(format!("{name}-commits-per-sync"), chart.curves());
    }
}

/// A picture for each number of threads and each percentile.
fn latency(pictures: &mut BTreeMap<String, String>, name: &str, group: &[&Row]) {
    let mut by_threads: BTreeMap<usize, Vec<&Row>> = BTreeMap::new();
    for row in group {
        by_threads.entry(row.threads).or_default().push(row);
    }
    for (threads, rows) in by_threads {
        for (percentile, of) in [("p50", 0), ("p99", 1), ("p99.9", 2)] {
            let point = |row: &Row| {
                let latency = row.latency?;
                let wait = [latency.p50_us, latency.p99_us, latency.p999_us][of];
                Some((row.offered_per_s?, wait))
            };
            let Some(&first) = rows.first() else { continue };
            let chart = Chart {
                title: format!("open loop: {percentile} of the wait for durability"),
                subtitle: format!("{}; {threads} committers", subtitle(first)),
                x_title: "offered commits per second".to_owned(),
                y_title: "microseconds from the intended moment".to_owned(),
                x_log: true,
                y_log: true,
                curves: curves(&rows, point),
            };
            pictures.insert(format!("{name}-{threads}-threads-{percentile}"), chart.curves());
        }
    }
}

fn replay(group: &[&Row]) -> String {
    let chart = Chart {
        title: "replay: open and read everything, from the page cache".to_owned(),
        subtitle: group.first().map(|first| subtitle(first)).unwrap_or_default(),
        x_title: String::new(),
        y_title: "records per second".to_owned(),
        x_log: false,
        y_log: false,
        curves: curves(group, |row| Some((0.0, row.per_s.median))),
    };
    chart.bars()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Floor;
    use crate::stats::{Latency, Spread};

    fn row(load: &str, peer: &str, threads: usize, per_s: f64) -> Row {
        Row {
            load: load.to_owned(),
            peer: peer.to_owned(),
            threads,
            size: 64,
            per_s: Spread { median: per_s, min: per_s, max: per_s },
            floor: Some(Floor { what: "floor".to_owned(), per_s: 1000.0 }),
            per_sync: Some(2.0),
            latency: Some(Latency { p50_us: 900.0, p99_us: 2000.0, ..Latency::default() }),
            offered_per_s: Some(per_s),
            ..Row::default()
        }
    }

    #[test]
    fn every_load_has_its_pictures() {
        let mut rows = Vec::new();
        for load in ["buffered", "durable", "mixed", "open-loop", "replay", "capacity"] {
            for peer in ["cohort-wal", "naive"] {
                rows.extend([1, 8].map(|threads| row(load, peer, threads, 500.0)));
            }
        }
        rows.push(Row { delay_us: Some(200), ..row("delay", "adaptive", 4, 3000.0) });
        let pictures = pictures(&rows);
        let names: Vec<_> = pictures.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "buffered-64-throughput",
                "delay-200us-64-commits-per-sync",
                "delay-200us-64-throughput",
                "durable-64-commits-per-sync",
                "durable-64-throughput",
                "mixed-64-throughput",
                "open-loop-64-1-threads-p50",
                "open-loop-64-1-threads-p99",
                "open-loop-64-1-threads-p99.9",
                "open-loop-64-8-threads-p50",
                "open-loop-64-8-threads-p99",
                "open-loop-64-8-threads-p99.9",
                "replay-64",
            ]
        );
        assert!(pictures["durable-64-throughput"].contains(">N/2F</text>"));
        assert!(!pictures["buffered-64-throughput"].contains(">N/2F</text>"));
    }

    #[test]
    fn points_of_a_curve_are_in_order_and_peers_as_they_come() {
        let rows = [row("durable", "b", 8, 2.0), row("durable", "a", 1, 3.0)];
        let more = row("durable", "b", 1, 1.0);
        let group: Vec<_> = rows.iter().chain([&more]).collect();
        let found = curves(&group, |row| Some((row.threads as f64, row.per_s.median)));
        assert_eq!(found[0], curve("b".into(), vec![(1.0, 1.0), (8.0, 2.0)], false));
        assert_eq!(found[1].name, "a");
    }

    #[test]
    fn results_are_read_and_drawn_into_a_new_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("results.json");
        fs::write(&path, "{}").unwrap();
        let into = dir.path().join("pictures");
        let error = draw(std::slice::from_ref(&path), &into).unwrap_err();
        assert!(error.to_string().contains("results.json"));
        let results = Results {
            load: "durable".into(),
            seconds: 1.0,
            rounds: 1,
            host: crate::report::Host::of(dir.path()),
            peers: Vec::new(),
            rows: vec![row("durable", "naive", 1, 5.0)],
        };
        fs::write(&path, serde_json::to_string(&results).unwrap()).unwrap();
        let made = draw(&[path], &into).unwrap();
        assert_eq!(made.len(), 2);
        assert!(made.iter().all(|path| fs::read_to_string(path).unwrap().ends_with("</svg>\n")));
    }
}
