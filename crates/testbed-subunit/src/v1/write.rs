use std::borrow::Cow;
use std::io::{self, Write};

use super::line;
use crate::event::{EventRef, Status, Timestamp};
use crate::read::name;
use crate::record::{Limits, Record, Records};
use crate::stream::Sink;

/// Bytes of tags on a line, before another is begun.
const TAGS_LINE: usize = 4096;

/// Writes version 1 to `W`.
///
/// As a [`Sink`], it holds the events of each test back until that ends, because a stream of version 1 knows one test
/// at a time, and writes files of no test as output. Details are always multipart: simple ones cannot hold every text.
///
/// What version 1 cannot say: routes; tests that are only listed, which are left out; line breaks in ids and names,
/// which become `\n` and `\r`; an id without any visible character, which becomes `-`; blanks in tags and a `-` before
/// one, which become `_`; names of more than 4 KiB, which are cut. Output that would read as a line of the protocol is indented by a blank.
///
/// ```
/// use testbed_subunit::stream::Sink;
/// use testbed_subunit::{Draft, Status, v1};
///
/// let mut stream = v1::Writer::new(Vec::new());
/// Draft::test("ping", Status::Skip).file("reason", b"no network").eof(true).send(&mut stream)?;
/// stream.finish()?;
/// let expected = "test: ping\nskip: ping [ multipart\nContent-Type: application/octet-stream\nreason\n\
///                 A\r\nno network0\r\n]\n";
/// assert_eq!(String::from_utf8(stream.into_inner())?, expected);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Writer<W> {
    out: W,
    records: Records,
    time: Option<Timestamp>,
    /// The start of a line of output, as long as it takes to tell that it says nothing.
    start: Vec<u8>,
    place: Place,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Place {
    LineStart,
    /// Within a line of output.
    InLine,
}

impl<W: Write> Writer<W> {
    /// Writes to `out`. Of each test's files, what [`Limits`] say is written.
    pub fn new(out: W) -> Self {
        Self::with_limits(out, Limits::default())
    }

    /// Writes to `out`, and keeps tests' files within `limits`.
    pub fn with_limits(out: W, limits: Limits) -> Self {
        Self { out, records: Records::new(limits), time: None, start: Vec::new(), place: Place::LineStart }
    }

    /// What was written to.
    pub fn into_inner(self) -> W {
        self.out
    }

    /// Writes what became of a test.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn add(&mut self, record: &Record) -> io::Result<()> {
        let word = match record.status {
            Some(Status::Exists) => return Ok(()),
            Some(Status::Success) => "successful",
            Some(Status::UxSuccess) => "uxsuccess",
            Some(Status::Skip) => "skip",
            Some(Status::Fail) => "failure",
            Some(Status::XFail) => "xfail",
            Some(Status::InProgress) | None => "error",
        };
        self.end_output()?;
        let id = id(&record.id);
        let mut text = Vec::new();
        self.put_time(record.start, &mut text);
        text.extend_from_slice(format!("test: {id}\n").as_bytes());
        put_tags(record, &mut text);
        self.put_time(record.stop, &mut text);
        let unfinished = !record.is_finished();
        if record.attachments.is_empty() && !unfinished {
            text.extend_from_slice(format!("{word}: {id}\n").as_bytes());
            return self.out.write_all(&text);
        }
        text.extend_from_slice(format!("{word}: {id} [ multipart\n").as_bytes());
        for attachment in &record.attachments {
            put_part(&attachment.name, attachment.mime.as_deref(), &attachment.kept.to_vec(), &mut text);
            self.out.write_all(&text)?;
            text.clear();
        }
        if unfinished {
            put_part("unfinished", Some("text/plain"), b"the test never ended\n", &mut text);
        }
        text.extend_from_slice(b"]\n");
        self.out.write_all(&text)
    }

    /// Writes output of no test.
    ///
    /// # Errors
    /// Those of `W`.
    pub fn output(&mut self, bytes: &[u8]) -> io::Result<()> {
        for line in bytes.split_inclusive(|&byte| byte == b'\n') {
            let mut rest = line;
            if self.place == Place::LineStart {
                // No word is longer, so a few bytes decide it.
                while let (None, Some((&byte, after))) = (line::may_speak(&self.start), rest.split_first()) {
                    self.start.push(byte);
                    rest = after;
                }
                match line::may_speak(&self.start) {
                    None => continue,
                    Some(true) => self.out.write_all(b" ")?,
                    Some(false) => {}
                }
                self.out.write_all(&self.start)?;
            }
            self.out.write_all(rest)?;
            self.start.clear();
            self.place = if line.ends_with(b"\n") { Place::LineStart } else { Place::InLine };
        }
        Ok(())
    }

    /// Ends the line of output that is open.
    fn end_output(&mut self) -> io::Result<()> {
        if self.start.is_empty() && self.place == Place::LineStart {
            return Ok(());
        }
        self.start.push(b'\n');
        self.out.write_all(&self.start)?;
        self.start.clear();
        self.place = Place::LineStart;
        Ok(())
    }

    fn put_time(&mut self, time: Option<Timestamp>, text: &mut Vec<u8>) {
        if let Some(now) = time
            && self.time != time
        {
            self.time = time;
            let written = now.to_string();
            // Microseconds are what others write; the rest is there if it says something.
            let end = if now.nanos() % 1_000 == 0 { written.len() - 4 } else { written.len() - 1 };
            let written = written.get(..end).unwrap_or_default().replace('T', " ");
            text.extend_from_slice(format!("time: {written}Z\n").as_bytes());
        }
    }
}

impl<W: Write> Sink for Writer<W> {
    type Error = io::Error;

    fn event(&mut self, event: EventRef<'_>) -> io::Result<()> {
        if let (None, Some(file)) = (event.id(), event.file()) {
            return self.output(file.bytes);
        }
        match self.records.event(event) {
            Some(record) => self.add(&record),
            None => Ok(()),
        }
    }

    /// Writes the tests that never ended, as errors, and flushes.
    fn finish(&mut self) -> io::Result<()> {
        let rest = std::mem::take(&mut self.records).finish();
        rest.unfinished.iter().try_for_each(|record| self.add(record))?;
        self.end_output()?;
        self.out.flush()
    }
}

/// As many lines as it takes to keep each short.
fn put_tags(record: &Record, text: &mut Vec<u8>) {
    let mut room = 0;
    for tag in record.tags.iter().map(|one| tag(one)).filter(|tag| !tag.is_empty()) {
        let start = if room > 0 { " " } else { "tags: " };
        text.extend_from_slice(format!("{start}{tag}").as_bytes());
        room = if room > 0 { room } else { TAGS_LINE }.saturating_sub(tag.len());
        if room == 0 {
            text.push(b'\n');
        }
    }
    if room > 0 {
        text.push(b'\n');
    }
}

fn put_part(name: &str, mime: Option<&str>, bytes: &[u8], text: &mut Vec<u8>) {
    // python-subunit takes exactly one slash.
    let mime = mime.filter(|mime| mime.matches('/').count() == 1).unwrap_or("application/octet-stream");
    text.extend_from_slice(format!("Content-Type: {}\n{}\n", one_line(mime), one_line(name)).as_bytes());
    if !bytes.is_empty() {
        text.extend_from_slice(format!("{:X}\r\n", bytes.len()).as_bytes());
        text.extend_from_slice(bytes);
    }
    text.extend_from_slice(b"0\r\n");
}

fn id(id: &str) -> Cow<'_, str> {
    if id.bytes().all(line::is_blank) { Cow::Borrowed("-") } else { one_line(id) }
}

fn tag(tag: &str) -> String {
    let tag = tag.replace(char::is_whitespace, "_");
    let tag = name(&tag);
    match tag.strip_prefix('-') {
        Some(rest) => format!("_{rest}"),
        None => tag.into_owned(),
    }
}

fn one_line(text: &str) -> Cow<'_, str> {
    if text.contains(['\n', '\r']) {
        Cow::Owned(name(&text.replace('\n', "\\n").replace('\r', "\\r")).into_owned())
    } else {
        name(text)
    }
}
