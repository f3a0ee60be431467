//! Annotations of GitHub Actions: workflow commands on standard output.
//!
//! A failed test, one that passed against expectation and one that never ended become an error, with file and line
//! where they can be told; then a group that folds up holds what the test printed. Nothing is said of other tests.
//!
//! The place is the attachment `location` (`path:line`). Without one it is looked for in `traceback`, `stdout` and
//! `stderr`: the last `File "path", line 3` of Python, or else the first `path.ext:3`.
//!
//! What tests print cannot command: it stands between `stop-commands` and a token that it does not hold. Of a step,
//! GitHub shows the first ten errors beside the code; all stand in its log.
//!
//! ```
//! use testbed_subunit::record::Records;
//! use testbed_subunit::{Draft, Status, github};
//!
//! let mut records = Records::default();
//! let mut report = github::Writer::new(Vec::new());
//! for draft in [
//!     Draft::new().id("vpn.ping").file("location", b"/src/tests/vpn.py:12").eof(true),
//!     Draft::test("vpn.ping", Status::Fail).file("reason", b"no answer: 100% loss"),
//! ] {
//!     if let Some(record) = records.event(draft.check()?) {
//!         report = report.root("/src");
//!         report.add(&record)?;
//!     }
//! }
//! assert_eq!(
//!     String::from_utf8(report.finish()?)?,
//!     "::error file=tests/vpn.py,line=12,title=vpn.ping::no answer: 100%25 loss\n"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod place;

use std::io::{self, Write};

use self::place::Place;
use crate::event::Status;
use crate::record::Record;

/// Writes commands to `W` as records come.
#[derive(Debug)]
pub struct Writer<W> {
    out: W,
    root: String,
}

impl<W: Write> Writer<W> {
    /// Commands to `out`.
    pub fn new(out: W) -> Self {
        Self { out, root: String::new() }
    }

    /// Makes absolute paths below `root`, the folder of the checkout, relative to it: GitHub knows only those.
    #[must_use]
    pub fn root(self, root: impl Into<String>) -> Self {
        Self { root: root.into(), ..self }
    }

    /// Writes the error and the group of a failed record.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        if !record.is_failure() {
            return Ok(());
        }
        let kind = match record.status {
            Some(Status::UxSuccess) => "passed against expectation",
            Some(Status::Fail) => "failed",
            _ => "did not finish",
        };
        let mut properties = Vec::new();
        if let Some(Place { path, line }) = place::of(record) {
            properties.push(("file", self.relative(&path).to_owned()));
            properties.push(("line", line.to_string()));
        }
        properties.push(("title", record.id.to_string()));
        let properties: Vec<_> =
            properties.iter().map(|(key, value)| format!("{key}={}", escaped(value, true))).collect();
        let message = record.reason().unwrap_or_else(|| kind.to_owned());
        writeln!(self.out, "::error {}::{}", properties.join(","), escaped(&message, false))?;
        self.group(record, kind)
    }

    /// Ends the report, and gives back what it was written to.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn finish(mut self) -> io::Result<W> {
        self.out.flush()?;
        Ok(self.out)
    }

    fn relative<'a>(&self, path: &'a str) -> &'a str {
        let below = path.strip_prefix(self.root.trim_end_matches('/')).filter(|_| !self.root.is_empty());
        below.and_then(|below| below.strip_prefix('/')).unwrap_or(path)
    }

    fn group(&mut self, record: &Record, kind: &str) -> io::Result<()> {
        let mut text = Vec::new();
        for attachment in &record.attachments {
            let bytes = attachment.kept.to_vec();
            if matches!(&*attachment.name, "reason" | "location") || bytes.is_empty() {
                continue;
            }
            text.extend_from_slice(
                format!("--- {} ---\n", attachment.name.replace(['\n', '\r'], " ")).as_bytes(),
            );
            match std::str::from_utf8(&bytes) {
                Err(_) if attachment.kept.left_out() == 0 => {
                    text.extend_from_slice(format!("({} bytes)", bytes.len()).as_bytes());
                }
                _ => text.extend_from_slice(&bytes),
            }
            if !text.ends_with(b"\n") {
                text.push(b'\n');
            }
        }
        if text.is_empty() {
            return Ok(());
        }
        let token = token(&text);
        writeln!(self.out, "::group::{} ({kind})", escaped(&record.id, false))?;
        writeln!(self.out, "::stop-commands::{token}")?;
        self.out.write_all(&text)?;
        write!(self.out, "::{token}::\n::endgroup::\n")
    }
}

/// A token that does not occur in `text`.
fn token(text: &[u8]) -> String {
    let mut number = crc32fast::hash(text);
    loop {
        let token = format!("testbed-{number:08x}");
        if memchr::memmem::find(text, token.as_bytes()).is_none() {
            return token;
        }
        number = number.wrapping_add(1);
    }
}

/// A text as the value of a property, or as the message.
fn escaped(text: &str, property: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '%' => out.push_str("%25"),
            '\r' => out.push_str("%0D"),
            '\n' => out.push_str("%0A"),
            ':' if property => out.push_str("%3A"),
            ',' if property => out.push_str("%2C"),
            char => out.push(char),
        }
    }
    out
}
