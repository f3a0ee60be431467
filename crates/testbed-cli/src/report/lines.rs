//! The report for people: a line for each test, and at the end what one needs to know of what failed.

use super::{Fold, is_testbeds};
use crate::terminal::{self, Style};
use std::fmt::Write as _;
use std::io;
use std::time::Duration;
use testbed_subunit::Status;
use testbed_subunit::record::{Attachment, Record};

/// So many lines of an attachment are shown, the last ones.
const SHOWN_LINES: usize = 40;

/// Where the report is written. A reader that goes away has seen what it wanted.
pub(super) struct Paper {
    style: Style,
    to_stderr: bool,
    /// The last part of the report, in the order of what failed.
    failures: String,
    /// Why not all of it could be written to standard output.
    failed: Option<io::Error>,
}

impl Paper {
    pub(super) fn new(style: Style, to_stderr: bool) -> Paper {
        Paper { style, to_stderr, failures: String::new(), failed: None }
    }

    /// A test has ended, or a machine failed.
    pub(super) fn result(&mut self, record: &Record) {
        let line = line(record, self.style);
        if record.is_failure() {
            self.failures.push_str(&failure(record, self.style));
        }
        self.put(&line);
    }

    /// The end of the report.
    pub(super) fn summary(&mut self, fold: &Fold, stopped: bool) {
        let mut text = String::new();
        if !self.failures.is_empty() {
            let _ = write!(text, "\n{}", self.failures);
        }
        let _ = writeln!(text, "\n{}", summary(fold, stopped, self.style));
        self.put(&text);
    }

    /// The first failure to write is the last attempt.
    fn put(&mut self, text: &str) {
        if self.to_stderr {
            terminal::talk(text);
        } else if self.failed.is_none() {
            self.failed = terminal::data(text).err();
        }
    }

    /// Whether all that was written so far had a reader.
    pub(super) fn has_reader(&self) -> bool {
        self.failed.is_none()
    }

    /// Whether all was written.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn finish(self) -> io::Result<()> {
        self.failed.map_or(Ok(()), Err)
    }
}

fn line(record: &Record, style: Style) -> String {
    let (word, colour): (&str, fn(Style, &str) -> String) = match record.status {
        _ if is_testbeds(record) => ("error", Style::red),
        Some(Status::Success) => ("ok", Style::green),
        Some(Status::XFail) => ("xfail", Style::green),
        Some(Status::Skip) => ("skip", Style::yellow),
        Some(Status::UxSuccess) => ("uxsuccess", Style::red),
        Some(Status::Fail) => ("FAIL", Style::red),
        Some(Status::InProgress | Status::Exists) | None => ("cut off", Style::yellow),
    };
    let mut line = format!("{} {}", colour(style, &format!("{word:>9}")), title(record));
    if let Some(duration) = record.duration().filter(|_| record.status != Some(Status::Skip)) {
        let _ = write!(line, " {}", style.dim(&format!("({})", short(duration))));
    }
    if record.status != Some(Status::Success)
        && let Some(reason) = record.reason()
    {
        let _ = write!(line, ": {reason}");
    }
    line.push('\n');
    line
}

/// The id, and which repetition it was.
fn title(record: &Record) -> String {
    let id = printable(&record.id);
    match &record.route {
        Some(route) => format!("{id} #{}", printable(route)),
        None => id,
    }
}

fn failure(record: &Record, style: Style) -> String {
    let mut text = format!("{} {}\n", style.red("---"), style.bold(&title(record)));
    // What the test said comes first, what was around it after that.
    let rank = |attachment: &&Attachment| match &*attachment.name {
        "reason" => 0,
        "stdout" => 1,
        "stderr" => 2,
        _ => 3,
    };
    let mut attachments: Vec<&Attachment> = record.attachments.iter().collect();
    attachments.sort_by_key(rank);
    for attachment in attachments {
        section(attachment, style, &mut text);
    }
    text
}

fn section(attachment: &Attachment, style: Style, text: &mut String) {
    let bytes = attachment.kept.to_vec();
    let content = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = content.trim_end().lines().collect();
    if lines.is_empty() {
        return;
    }
    let first = lines.len().saturating_sub(SHOWN_LINES);
    if &*attachment.name != "reason" {
        let left_out = if first > 0 { format!(", the last {SHOWN_LINES} lines") } else { String::new() };
        let _ = writeln!(text, "    {}", style.dim(&format!("{}{left_out}:", printable(&attachment.name))));
    }
    for line in &lines[first..] {
        let _ = writeln!(text, "    {}", printable(line));
    }
}

/// The last line: `12 passed, 1 failed, 2 not run in 3.21 s`.
fn summary(fold: &Fold, stopped: bool, style: Style) -> String {
    let tests = fold.summary.tests();
    let mut parts = Vec::new();
    let mut part = |number: u64, words: &str, colour: fn(Style, &str) -> String| {
        if number > 0 {
            parts.push(colour(style, &format!("{number} {words}")));
        }
    };
    part(tests.passed, "passed", Style::green);
    part(tests.xfail, "failed as expected", Style::green);
    part(tests.failed, "failed", Style::red);
    part(tests.uxsuccess, "passed against expectation", Style::red);
    part(tests.unfinished, "cut off", Style::yellow);
    part(tests.skipped, "skipped", Style::yellow);
    part(fold.planned.saturating_sub(fold.done), "not run", Style::yellow);
    let machines = fold.summary.activities();
    part(
        machines.failures(),
        match (fold.testbed_failed, machines.failures()) {
            (true, 1) => "machine failed",
            (true, _) => "machines failed",
            (false, 1) => "failure outside of tests",
            (false, _) => "failures outside of tests",
        },
        Style::red,
    );
    if parts.is_empty() {
        parts.push("no tests".to_owned());
    }
    let took = fold.summary.elapsed().map_or(String::new(), |elapsed| format!(" in {}", short(elapsed)));
    let how = if stopped { "interrupted: " } else { "" };
    format!("{how}{}{took}", parts.join(", "))
}

/// A duration for people: `3.2 ms`, `1.25 s`, `2 min 5 s`.
pub(super) fn short(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 {
        format!("{:.1} ms", seconds * 1e3)
    } else if seconds < 60.0 {
        format!("{seconds:.2} s")
    } else {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    }
}

/// Without what would steer a terminal.
pub(super) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_for_people() {
        assert_eq!(short(Duration::from_micros(3_210)), "3.2 ms");
        assert_eq!(short(Duration::from_millis(1_250)), "1.25 s");
        assert_eq!(short(Duration::from_secs(125)), "2 min 5 s");
    }

    #[test]
    fn output_cannot_steer_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\tc"), "a\u{fffd}[2Jb\tc");
    }
}
