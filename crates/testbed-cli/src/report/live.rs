//! The view that is redrawn in place: what runs where, how long, and how much is left.

use super::Fold;
use super::lines::{printable, short};
use crate::terminal::{ENDING, Style};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use testbed_subunit::{EventRef, Status};

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
    running: BTreeMap<(String, Option<String>), Running>,
    /// Machines that are asked for and not ready.
    starting: BTreeMap<String, Instant>,
}

struct Running {
    since: Instant,
    copy: String,
}

impl Live {
    pub(super) fn new(style: Style, ending: Arc<AtomicBool>) -> Live {
        Live {
            style,
            begun: Instant::now(),
            ending,
            drawn: None,
            height: 0,
            running: BTreeMap::new(),
            starting: BTreeMap::new(),
        }
    }

    pub(super) fn event(&mut self, event: EventRef<'_>) {
        let (Some(id), Some(status)) = (event.id(), event.status()) else { return };
        let now = Instant::now();
        if !event.runnable() {
            if status == Status::InProgress && !event.tags().contains(testbed::run::READY) {
                self.starting.insert(id.to_owned(), now);
            } else {
                self.starting.remove(id);
            }
            return;
        }
        let key = (id.to_owned(), event.route().map(str::to_owned));
        if status == Status::InProgress {
            let copy = event.tags().iter().find(|tag| tag.starts_with("copy-")).unwrap_or_default();
            self.running.insert(key, Running { since: now, copy: copy.to_owned() });
        } else {
            self.running.remove(&key);
        }
    }

    pub(super) fn draw(&mut self, fold: &Fold) {
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
        let lines = self.lines(fold, now, columns);
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

    fn lines(&self, fold: &Fold, now: Instant, columns: usize) -> Vec<String> {
        let failures = fold.summary.tests().failures();
        let mut head = format!("{}/{} done", fold.done, fold.planned);
        if failures > 0 {
            let _ = write!(head, ", {failures} failed");
        }
        if !self.starting.is_empty() {
            let _ = write!(head, ", {} machines starting", self.starting.len());
        }
        let _ = write!(head, ", {}", short(now - self.begun));
        let cut = |text: String| text.chars().take(columns - 1).collect::<String>();
        let mut lines = vec![self.style.bold(&cut(head))];
        let mut running: Vec<_> = self.running.iter().collect();
        running.sort_by_key(|(_, running)| running.since);
        for ((id, route), running) in running.iter().take(SHOWN) {
            let number = route.as_ref().map_or(String::new(), |route| format!(" #{route}"));
            let took = short(now - running.since);
            lines.push(cut(format!("  {}{number}  {}  {took}", printable(id), running.copy)));
        }
        if running.len() > SHOWN {
            lines.push(format!("  and {} more", running.len() - SHOWN));
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
        let last = || live.lines(&Fold::default(), Instant::now(), 80).pop().unwrap();
        assert!(last().starts_with("0/0 done"), "{}", last());
        ending.store(true, Ordering::Relaxed);
        assert_eq!(last(), ENDING);
    }
}
