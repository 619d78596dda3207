//! Tasks on all cores, with progress on a terminal.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

/// Does tasks 0 to `count` on so many threads, the first of them first, until one fails, and hands
/// each result to `add`, which says what to show.
///
/// # Errors
/// The failure.
pub(crate) fn work<T, E: Send>(
    (count, unit): (u64, &str),
    threads: usize,
    task: impl Fn(u64) -> Result<T, E> + Sync,
    add: impl FnMut(T) -> String + Send,
) -> Result<(), E> {
    let bar = ProgressBar::new(count);
    let style = format!("{{elapsed_precise}} {{bar:40}} {{pos}}/{{len}} {unit}, {{msg}}, {{eta}}");
    let style = ProgressStyle::with_template(&style);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    let (next, add, failure) = (AtomicU64::new(0), Mutex::new(add), Mutex::new(None));
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    match task(number) {
                        Ok(done) => {
                            let Ok(mut add) = add.lock() else { return };
                            bar.set_message(add(done));
                            bar.inc(1);
                        }
                        Err(found) => {
                            next.store(count, Ordering::Relaxed);
                            let Ok(mut failure) = failure.lock() else { return };
                            failure.get_or_insert(found);
                        }
                    }
                }
            });
        }
    });
    bar.finish_and_clear();
    failure.into_inner().ok().flatten().map_or(Ok(()), Err)
}

/// So many threads as the machine runs at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
