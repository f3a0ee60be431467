//! Writing for people: colours where they are wanted, and readers that may go.

use rustix::fd::AsFd;
use std::io::{self, Write as _};

/// Whether text may have colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Style {
    on: bool,
}

impl Style {
    /// Colours or none.
    pub(crate) fn new(on: bool) -> Style {
        Style { on }
    }

    /// Whether there are colours.
    pub(crate) fn is_on(self) -> bool {
        self.on
    }

    /// What went wrong.
    pub(crate) fn red(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    /// What went right.
    pub(crate) fn green(self, text: &str) -> String {
        self.paint("32", text)
    }

    /// What was not done.
    pub(crate) fn yellow(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// Advice.
    pub(crate) fn blue(self, text: &str) -> String {
        self.paint("1;34", text)
    }

    /// What matters less.
    pub(crate) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    /// What matters more.
    pub(crate) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The style for standard error.
pub(crate) fn style_of_stderr() -> Style {
    Style::new(wants_colour(io::stderr()))
}

/// The style for standard output.
pub(crate) fn style_of_stdout() -> Style {
    Style::new(wants_colour(io::stdout()))
}

/// Whether a stream is a terminal that can redraw a line.
pub(crate) fn is_live(stream: impl AsFd) -> bool {
    rustix::termios::isatty(stream) && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Colours go to terminals alone, and not where `NO_COLOR` is set and not empty (no-color.org).
fn wants_colour(stream: impl AsFd) -> bool {
    is_live(stream) && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes talk to standard error. Whoever closed it does not want it.
pub(crate) fn talk(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

/// What [`data`] does, for who tells that it failed.
pub(crate) const TO_OUTPUT: &str = "write to standard output";

/// What is said when a run is asked to end.
pub(crate) const ENDING: &str = "ending; once more Ctrl-C ends at once";

/// Writes data to standard output.
///
/// # Errors
/// Those of write(2), a reader that has gone included.
pub(crate) fn data(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Columns as wide as their longest entries.
pub(crate) fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&word| word.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let mut text = String::new();
    for row in &rows {
        let cells =
            row.iter().enumerate().map(|(column, cell)| format!("{cell:width$}", width = width(column)));
        let line: Vec<String> = cells.collect();
        text.push_str(line.join("  ").trim_end());
        text.push('\n');
    }
    text
}
