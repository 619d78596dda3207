//! Live progress on stderr, and only where stderr is a terminal.

use std::io::{self, IsTerminal};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A progress line, or nothing where nobody watches.
#[derive(Debug)]
pub(crate) struct Progress(Option<ProgressBar>);

impl Progress {
    /// A line that shows how much of `total` bytes is done.
    pub(crate) fn bytes(total: u64) -> Self {
        Self::with_style(total, "{bar:30} {percent:>3}%  {bytes}  {bytes_per_sec}  {msg}")
    }

    /// A line that shows a message and the time elapsed.
    pub(crate) fn message() -> Self {
        Self::with_style(0, "{spinner} {elapsed_precise}  {msg}")
    }

    fn with_style(total: u64, template: &str) -> Self {
        if !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    pub(crate) fn set_position(&self, done: u64) {
        if let Some(bar) = &self.0 {
            bar.set_position(done);
        }
    }

    /// Shows what `text` returns; it is not called where nobody watches.
    pub(crate) fn say(&self, text: impl FnOnce() -> String) {
        if let Some(bar) = &self.0 {
            bar.set_message(text());
            bar.tick();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
