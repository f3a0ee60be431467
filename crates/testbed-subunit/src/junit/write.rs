use std::fmt;
use std::io::{self, Cursor, Read, Seek, Write};
use std::time::Duration;

use crate::event::{Status, Timestamp};
use crate::record::{Attachment, Record};
use crate::xml::{Place, put_text};

/// Says of a failed record whether the testbed failed, and not the thing under test.
type Broken<'a> = Box<dyn Fn(&Record) -> bool + Send + 'a>;

/// Writes a report to `W` when all records are there.
///
/// The totals stand before the cases, so the cases are kept until [`Writer::finish`]: in memory, or in what
/// [`Writer::spooled`] is given, which makes it a report of any length in constant memory. What a record holds is bounded
/// by its [`Limits`](crate::record::Limits).
pub struct Writer<'a, W, S = Cursor<Vec<u8>>> {
    out: W,
    suite: &'a str,
    broken: Broken<'a>,
    output_of_passed: bool,
    spool: S,
    /// The case at hand.
    case: Vec<u8>,
    /// Why a case could not be kept.
    failed: Option<io::Error>,
    totals: Totals,
    first: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Totals {
    tests: u64,
    failures: u64,
    errors: u64,
    skipped: u64,
    time: Duration,
}

/// What a record is in JUnit's words.
enum Verdict {
    Passed,
    Skipped(&'static str),
    Failure(&'static str),
    Error(&'static str),
}

impl<'a, W: Write> Writer<'a, W> {
    /// A report of one suite, to be written to `out`.
    pub fn new(out: W, suite: &'a str) -> Self {
        Self::spooled(out, suite, Cursor::default())
    }
}

impl<'a, W: Write, S: Read + Write + Seek> Writer<'a, W, S> {
    /// A report of one suite, to be written to `out`. Until then its cases are kept in `spool`, which is empty.
    ///
    /// ```
    /// # use testbed_subunit::junit;
    /// let spool = std::io::Cursor::new(Vec::new()); // or a temporary file
    /// let report = junit::Writer::spooled(Vec::new(), "vpn", spool);
    /// assert!(String::from_utf8(report.finish()?)?.contains("tests=\"0\""));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn spooled(out: W, suite: &'a str, spool: S) -> Self {
        Self {
            out,
            suite,
            broken: Box::new(|_| false),
            output_of_passed: false,
            spool,
            case: Vec::new(),
            failed: None,
            totals: Totals::default(),
            first: None,
        }
    }

    /// Makes errors, and not failures, of the failed records for which `broken` is true.
    #[must_use]
    pub fn broken(self, broken: impl Fn(&Record) -> bool + Send + 'a) -> Self {
        Self { broken: Box::new(broken), ..self }
    }

    /// Says whether passed tests keep their output in the report. Without it only the others do.
    #[must_use]
    pub fn output_of_passed(self, keep: bool) -> Self {
        Self { output_of_passed: keep, ..self }
    }

    /// Adds a record to the report. Where it cannot be kept, [`Writer::finish`] tells.
    pub fn add(&mut self, record: &Record) {
        let Some(verdict) = self.verdict(record) else { return };
        self.count(&verdict, record);
        let (class, name) = class_and_name(&record.id);
        let out = &mut self.case;
        out.clear();
        out.extend_from_slice(b"    <testcase");
        put_attribute("classname", class.unwrap_or(self.suite), out);
        put_attribute("name", name, out);
        if let Some(duration) = record.duration() {
            put_attribute("time", &seconds(duration), out);
        }
        out.extend_from_slice(b">\n");
        put_properties(record, out);
        let passed = match verdict {
            Verdict::Passed => true,
            Verdict::Skipped(kind) => {
                let reason = record.reason();
                out.extend_from_slice(b"      <skipped");
                put_attribute("message", reason.as_deref().unwrap_or(kind), out);
                out.extend_from_slice(b"/>\n");
                false
            }
            Verdict::Failure(kind) => {
                put_failure("failure", kind, record, out);
                false
            }
            Verdict::Error(kind) => {
                put_failure("error", kind, record, out);
                false
            }
        };
        if !passed || self.output_of_passed {
            put_output(record, out);
        }
        out.extend_from_slice(b"    </testcase>\n");
        if self.failed.is_none() {
            self.failed = self.spool.write_all(&self.case).err();
        }
    }

    /// Writes the report, and gives back what it was written to.
    ///
    /// # Errors
    /// Those of `W` and `S`.
    pub fn finish(self) -> io::Result<W> {
        let Self { mut out, suite, mut spool, failed, totals, first, .. } = self;
        failed.map_or(Ok(()), Err)?;
        spool.flush()?;
        spool.rewind()?;
        let mut head = b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites".to_vec();
        put_attribute("name", suite, &mut head);
        totals.put(&mut head);
        head.extend_from_slice(b">\n  <testsuite");
        put_attribute("name", suite, &mut head);
        totals.put(&mut head);
        put_attribute("skipped", &totals.skipped.to_string(), &mut head);
        if let Some(first) = first {
            // The schemas allow neither fractions nor a zone.
            let shown = first.to_string();
            put_attribute("timestamp", shown.split('.').next().unwrap_or(&shown), &mut head);
        }
        head.extend_from_slice(b">\n");
        out.write_all(&head)?;
        io::copy(&mut spool, &mut out)?;
        out.write_all(b"  </testsuite>\n</testsuites>\n")?;
        out.flush()?;
        Ok(out)
    }

    fn verdict(&self, record: &Record) -> Option<Verdict> {
        let verdict = match record.status {
            Some(Status::Exists) => return None,
            Some(Status::Success) => Verdict::Passed,
            Some(Status::Skip) => Verdict::Skipped("skipped"),
            Some(Status::XFail) => Verdict::Skipped("failed as expected"),
            Some(Status::InProgress) | None => Verdict::Error("did not finish"),
            Some(Status::Fail) => Verdict::Failure("failed"),
            Some(Status::UxSuccess) => Verdict::Failure("passed against expectation"),
        };
        Some(match verdict {
            Verdict::Failure(_) if (self.broken)(record) => Verdict::Error("the testbed failed"),
            verdict => verdict,
        })
    }

    fn count(&mut self, verdict: &Verdict, record: &Record) {
        self.totals.tests += 1;
        match verdict {
            Verdict::Passed => {}
            Verdict::Skipped(_) => self.totals.skipped += 1,
            Verdict::Failure(_) => self.totals.failures += 1,
            Verdict::Error(_) => self.totals.errors += 1,
        }
        self.totals.time += record.duration().unwrap_or_default();
        self.first = match (self.first, record.start) {
            (Some(first), Some(start)) => Some(first.min(start)),
            (first, start) => first.or(start),
        };
    }
}

impl<W: fmt::Debug> fmt::Debug for Writer<'_, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Writer");
        debug.field("out", &self.out).field("suite", &self.suite).field("totals", &self.totals);
        debug.finish_non_exhaustive()
    }
}

impl Totals {
    fn put(self, out: &mut Vec<u8>) {
        put_attribute("tests", &self.tests.to_string(), out);
        put_attribute("failures", &self.failures.to_string(), out);
        put_attribute("errors", &self.errors.to_string(), out);
        put_attribute("time", &seconds(self.time), out);
    }
}

/// Parts `package.Class.test[a.b]` at the last dot before any bracket or space.
fn class_and_name(id: &str) -> (Option<&str>, &str) {
    let plain = id.find(['(', '[', '{', ' ']).unwrap_or(id.len());
    match id[..plain].rfind('.') {
        Some(dot) if dot > 0 && dot + 1 < id.len() => (Some(&id[..dot]), &id[dot + 1..]),
        _ => (None, id),
    }
}

fn seconds(duration: Duration) -> String {
    format!("{:.3}", duration.as_secs_f64())
}

fn put_attribute(name: &str, value: &str, out: &mut Vec<u8>) {
    out.push(b' ');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"=\"");
    put_text(value.as_bytes(), Place::Attribute, out);
    out.push(b'"');
}

fn put_properties(record: &Record, out: &mut Vec<u8>) {
    let route = record.route.iter().map(|route| ("route", route));
    let mut properties = route.chain(record.tags.iter().map(|tag| ("tag", tag))).peekable();
    if properties.peek().is_none() {
        return;
    }
    out.extend_from_slice(b"      <properties>\n");
    for (name, value) in properties {
        out.extend_from_slice(b"        <property");
        put_attribute("name", name, out);
        put_attribute("value", value, out);
        out.extend_from_slice(b"/>\n");
    }
    out.extend_from_slice(b"      </properties>\n");
}

fn put_failure(element: &str, kind: &str, record: &Record, out: &mut Vec<u8>) {
    let reason = record.reason();
    out.extend_from_slice(b"      <");
    out.extend_from_slice(element.as_bytes());
    put_attribute("message", reason.as_deref().unwrap_or(kind), out);
    put_attribute("type", record.status.map_or("unfinished", Status::as_str), out);
    out.push(b'>');
    if let Some(traceback) = record.attachment("traceback") {
        put_text(&traceback.kept.to_vec(), Place::Content, out);
    }
    out.extend_from_slice(b"</");
    out.extend_from_slice(element.as_bytes());
    out.extend_from_slice(b">\n");
}

fn put_output(record: &Record, out: &mut Vec<u8>) {
    let named = |name: &'static str| record.attachments.iter().filter(move |one| &*one.name == name);
    let apart = ["stdout", "stderr", "traceback", "reason"];
    let further = record.attachments.iter().filter(|one| !apart.contains(&&*one.name));
    let mut text = Vec::new();
    named("stdout").for_each(|one| text.extend(one.kept.to_vec()));
    for one in further {
        if !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
        text.extend_from_slice(format!("--- {} ---\n", one.name).as_bytes());
        text.extend(shown(one));
    }
    put_element("system-out", &text, out);
    let errors: Vec<u8> = named("stderr").flat_map(|one| one.kept.to_vec()).collect();
    put_element("system-err", &errors, out);
}

/// The attachment where it is text, and a line about it otherwise.
fn shown(attachment: &Attachment) -> Vec<u8> {
    let bytes = attachment.kept.to_vec();
    let mime = attachment.mime.as_deref();
    // What was kept may have been cut within a character, and is text nonetheless.
    let is_text = mime.map_or(attachment.kept.left_out() > 0, |mime| mime.starts_with("text/"));
    if is_text || std::str::from_utf8(&bytes).is_ok() {
        return bytes;
    }
    let mime = mime.unwrap_or("application/octet-stream");
    format!("({} bytes of {mime})\n", attachment.kept.total()).into_bytes()
}

fn put_element(name: &str, text: &[u8], out: &mut Vec<u8>) {
    if text.is_empty() {
        return;
    }
    out.extend_from_slice(format!("      <{name}>").as_bytes());
    put_text(text, Place::Content, out);
    out.extend_from_slice(format!("</{name}>\n").as_bytes());
}
