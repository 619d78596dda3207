//! What stdout is: how wide, and whether it shows colours.

use console::Term;

/// For a terminal that does not say how wide it is, and for what is no terminal.
pub(crate) const DEFAULT_COLUMNS: usize = 80;

/// Columns of the terminal; none where stdout is no terminal.
pub(crate) fn width() -> Option<usize> {
    let stdout = Term::stdout();
    let columns = || stdout.size_checked().map_or(0, |(_, columns)| usize::from(columns));
    let known = |columns: usize| if columns > 0 { columns } else { DEFAULT_COLUMNS };
    stdout.is_term().then(columns).map(known)
}

/// True where stdout is a terminal that shows colours, and `NO_COLOR` is not set.
pub(crate) fn has_colours() -> bool {
    Term::stdout().features().colors_supported()
}
