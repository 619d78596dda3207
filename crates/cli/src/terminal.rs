//! What stdout is: how wide, and whether it shows colours.

use console::Term;

/// Columns of the terminal; none where stdout is no terminal.
pub(crate) fn width() -> Option<usize> {
    let stdout = Term::stdout();
    let (_, columns) = stdout.is_term().then(|| stdout.size_checked()).flatten()?;
    Some(usize::from(columns)).filter(|columns| *columns > 0)
}

/// True where stdout is a terminal that shows colours, and `NO_COLOR` is not set.
pub(crate) fn has_colours() -> bool {
    Term::stdout().features().colors_supported()
}
