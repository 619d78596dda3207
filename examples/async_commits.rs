//! Commits of many async tasks: each appends, awaits `Wal::durable`, and goes on.
//!
//! No thread waits for a task. A thread of the log leads the syncs, and each sync is shared by all
//! tasks that wait for one. Appending blocks only while the ring is full.
//!
//! ```sh
//! cargo run --release --example async_commits
//! ```

#![allow(clippy::print_stdout, reason = "an example says what it did")]

use std::error::Error;
use std::sync::Arc;

use cohort_wal::{Result, Wal};

const TASKS: u64 = 1_000;
const COMMITS_EACH: u64 = 20;

async fn client(wal: Arc<Wal>, task: u64) -> Result<()> {
    for number in 0..COMMITS_EACH {
        let lsn = wal.append(format!("task {task} commit {number}").as_bytes())?;
        wal.durable(lsn).await?;
        // From here on the record survives power loss: answer the client.
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let wal = Arc::new(Wal::open(dir.path())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(async {
        let clients = (0..TASKS).map(|task| tokio::spawn(client(Arc::clone(&wal), task)));
        for client in clients.collect::<Vec<_>>() {
            client.await??;
        }
        Ok::<_, Box<dyn Error>>(())
    })?;

    let (commits, syncs) = (TASKS * COMMITS_EACH, wal.stats().syncs);
    println!(
        "{TASKS} tasks, {commits} commits, {syncs} syncs: {} commits per sync",
        commits / syncs
    );
    assert!(syncs < commits, "commits share syncs");
    wal.close()?;
    assert_eq!(Wal::open(dir.path())?.recovery().scanned_records, commits);
    Ok(())
}
