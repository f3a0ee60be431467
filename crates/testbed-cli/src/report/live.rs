//! The view that is redrawn in place: what runs where, how long, and how much is left.

use super::Fold;
use super::lines::short;
use super::running::Running;
use crate::terminal::{ENDING, Style};
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The view is drawn at most so often.
const PERIOD: Duration = Duration::from_millis(50);

/// So many running tests are shown.
const SHOWN: usize = 10;

/// Columns, where the terminal does not tell.
const COLUMNS: usize = 80;

pub(super) struct Live {
    style: Style,
    begun: Instant,
    /// The run is to end.
    ending: Arc<AtomicBool>,
    drawn: Option<Instant>,
    /// Lines on the terminal that are the view's.
    height: usize,
}

impl Live {
    pub(super) fn new(style: Style, ending: Arc<AtomicBool>) -> Live {
        Live { style, begun: Instant::now(), ending, drawn: None, height: 0 }
    }

    pub(super) fn draw(&mut self, fold: &Fold, running: &Running) {
        let now = Instant::now();
        if self.drawn.is_some_and(|drawn| now - drawn < PERIOD) {
            return;
        }
        self.drawn = Some(now);
        let columns = rustix::termios::tcgetwinsize(io::stderr())
            // A terminal that nobody has told its size says 0.
            .map_or(
                COLUMNS,
                |size| if size.ws_col == 0 { COLUMNS } else { usize::from(size.ws_col).max(20) },
            );
        let lines = self.lines(fold, running, now, columns);
        let mut text = self.erasing();
        for line in &lines {
            let _ = writeln!(text, "{line}");
        }
        self.height = lines.len();
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Takes the view off the terminal.
    pub(super) fn clear(&mut self) {
        let text = self.erasing();
        self.height = 0;
        self.drawn = None;
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    /// Up to the view's first line, and erases from there (ECMA-48: CUU, ED). The terminal may have shown a `^C`.
    fn erasing(&self) -> String {
        if self.height == 0 { String::new() } else { format!("\r\x1b[{}A\x1b[J", self.height) }
    }

    fn lines(&self, fold: &Fold, running: &Running, now: Instant, columns: usize) -> Vec<String> {
        let failures = fold.summary.tests().failures();
        // Streams of others seldom begin with a list of what is to come.
        let mut head = match fold.planned {
            0 => format!("{} done", fold.done),
            planned => format!("{}/{planned} done", fold.done),
        };
        if failures > 0 {
            let _ = write!(head, ", {failures} failed");
        }
        if running.starting() > 0 {
            let _ = write!(head, ", {} machines starting", running.starting());
        }
        let _ = write!(head, ", {}", short(now - self.begun));
        let cut = |text: String| text.chars().take(columns - 1).collect::<String>();
        let mut lines = vec![self.style.bold(&cut(head))];
        let tests = running.tests();
        for test in tests.iter().take(SHOWN) {
            let took = short(now.saturating_duration_since(test.since));
            lines.push(cut(format!("  {}  {}  {took}", test.title(), test.copy)));
        }
        if tests.len() > SHOWN {
            lines.push(format!("  and {} more", tests.len() - SHOWN));
        }
        if self.ending.load(Ordering::Relaxed) {
            lines.push(ENDING.to_owned());
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_is_to_end_says_so() {
        let ending = Arc::new(AtomicBool::new(false));
        let live = Live::new(Style::new(false), Arc::clone(&ending));
        let last = || live.lines(&Fold::default(), &Running::new(false), Instant::now(), 80).pop().unwrap();
        assert!(last().starts_with("0 done"), "{}", last());
        ending.store(true, Ordering::Relaxed);
        assert_eq!(last(), ENDING);
    }
}
